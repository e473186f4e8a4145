// SPDX-License-Identifier: Apache-2.0
// A GPT-2 of 12 blocks, trained on this very text by a pipeline of four ranks.
#include <iostream>

#include <pipewright/gpt2/gpt2.hpp>
#include <pipewright/pipewright.hpp>

namespace pw = pipewright;

int main() {
  constexpr auto plan = pw::plan<pw::flush, pw::shape{.ranks = 4, .micro_batches = 8}>;  // proven here, by the compiler
  std::cout << pw::grid(plan);

  auto const model = pw::gpt2::model({.positions = 32, .width = 32, .layers = 12});
  pw::gpt2::text_data const text(pw::gpt2::byte_tokenizer::encode(pw::gpt2::read_text(__FILE__)), 32);
  double loss[20]{};
  pw::in_process::run(plan, [&](auto& here) {  // one thread a rank
    auto training = pw::pipeline(plan, pw::balance<4, 3, 3, 4>(model), here, pw::adam{.rate = 3e-3});
    for (int step = 0; step < 20; ++step)
      if (auto told = training.step(pw::gpt2::text_batch{&text, 4, 8, step}); told.has_loss) loss[step] = told.loss;
  });
  std::cout << "loss " << loss[0] << " -> " << loss[19] << '\n';
  return loss[19] < loss[0] ? 0 : 1;
}
