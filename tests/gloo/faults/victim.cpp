// SPDX-License-Identifier: Apache-2.0
// Trains for ever with a deadline of 2 s, until in step 3 one rank does what it is told: stop, die, throw or return.
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string_view>

#include <support/toy_model.hpp>
#include <support/train.hpp>

#include <pipewright/gloo/link.hpp>
#include <pipewright/launch/launch.hpp>

namespace pw = pipewright;

int main(int argc, char** argv) {
  std::string_view const what = argc > 1 ? argv[1] : "";
  int const who = argc > 2 ? std::atoi(argv[2]) : -1;
  auto const place = pw::launch::find_place();
  try {
    pw::gloo::link over(pw::gloo::store_of(place), place.rank, place.size, place.address, 5);
    pw::gloo::endpoint here(over, {.deadline = 2});
    auto const plan = pw::make_plan("flush", {.ranks = here.size(), .micro_batches = 4});
    auto training = pw::pipeline(plan, toys::toy_stages<float>(here.size()), here, pw::sgd{.rate = 0.1});
    for (int step = 0;; ++step) {
      if (step == 3 && here.rank() == who) {
        if (what == "stop") std::raise(SIGSTOP);
        if (what == "die") std::raise(SIGKILL);
        if (what == "throw") throw std::runtime_error("this rank has had enough");
        if (what == "return") break;
      }
      training.step(toys::toy_batch{step});
    }
  } catch (std::exception const& e) {
    std::fprintf(stderr, "victim: %s\n", e.what());
    return 1;
  }
  return 0;
}
