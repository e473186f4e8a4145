// SPDX-License-Identifier: Apache-2.0
#include <pipewright/launch/launch.hpp>

int main() {
  pipewright::launch::arguments given;
  given.rank = 1;
  given.size = 2;
  auto const here =
      pipewright::launch::find_place([](std::string const&) -> std::optional<std::string> { return {}; }, given);
  return here.rank == 1 && here.size == 2 ? 0 : 1;
}
