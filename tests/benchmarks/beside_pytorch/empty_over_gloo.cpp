// SPDX-License-Identifier: Apache-2.0
// Empty stages over Gloo: of nothing, or (as empty.py has to have them) of a torch module that multiplies by one number.
//   pipewright-run -n 2 empty_over_gloo --stages nothing|torch --schedule gpipe|flush|interleaved --micro-batches M --steps N
#include <ATen/Parallel.h>

#include <pipewright/gloo/link.hpp>
#include <pipewright/launch/launch.hpp>
#include <pipewright/libtorch/stage.hpp>

#include "empty_stages.hpp"

namespace {

namespace pw = pipewright;

struct scale : torch::nn::Module {
  at::Tensor factor{register_parameter("factor", torch::ones({1}))};
  at::Tensor forward(at::Tensor const& x) { return x * factor; }
};

struct modules {
  int number;
  using input = pw::libtorch::tensor;
  using last = pw::libtorch::loss_stage<>;
  int size() const { return number; }
  void visit(int index, auto&& use) const {
    auto const module = std::make_shared<scale>();
    if (index + 1 < number) use(pw::libtorch::stage<>(module));
    else use(last(module, [](scale& m, at::Tensor const& x, at::Tensor const&) { return m.forward(x).sum(); }));
  }
};

struct batch_of_one {
  void input(int, pw::libtorch::tensor& to) const { to = torch::ones({1}); }
  void target(int, pw::libtorch::tensor& to) const { to = torch::ones({1}); }
};

}  // namespace

int main(int argc, char** argv) {
  at::set_num_threads(1);
  try {
    benchmarks::command_line const given(argc, argv);
    auto const place = pw::launch::find_place();
    pw::gloo::link over(pw::gloo::store_of(place), place.rank, place.size, place.address);
    pw::gloo::endpoint here(over);
    if (given.text("stages") == "torch")
      benchmarks::time_steps(here, given, [](int stages) { return modules{stages}; }, batch_of_one{});
    else
      benchmarks::time_steps(
          here, given, [](int stages) { return benchmarks::stages_of<benchmarks::nothing_to_do>{stages}; },
          benchmarks::empty_batch{});
  } catch (std::exception const& fault) {
    std::fprintf(stderr, "empty_over_gloo: %s\n", fault.what());
    return 1;
  }
  return 0;
}
