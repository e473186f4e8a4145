// SPDX-License-Identifier: Apache-2.0
// How do I write a stage of my own?
//
// A stage is a struct: five types and two functions, forward and backward. Weights come in as an argument (which version of
// them is the schedule's business), results go into slots that the engine owns, and what backward needs goes into `saved`.
// This file holds a layer, a loss and data; it trains them on two ranks under three schedules and prints how the loss falls.
#include <cmath>
#include <iostream>
#include <string>
#include <vector>

#include <pipewright/pipeline/pipeline.hpp>
#include <pipewright/stage/balance.hpp>
#include <pipewright/transport/in_process.hpp>

namespace pw = pipewright;
using rows = std::vector<float>;  // any number of rows, one after another

struct matrix {
  std::string name;
  std::vector<float> values;
  // The optimizer, checkpoints and norms see weights and gradients through this.
  void for_each_parameter(auto&& visit) { visit(std::string_view{name}, std::span{values}, pw::parameter_options{}); }
};

// y = tanh(x W), a stage.
struct tanh_layer {
  using input = rows;
  using output = rows;
  using weights = matrix;
  using gradients = matrix;
  struct saved {
    rows const* x = nullptr;  // the input, which stays in its slot until backward has run, because of keeps_input
    rows y;
  };
  static constexpr bool keeps_input = true;

  int in, out;

  // Called once, with the stage's own place in the model: equal weights however the model is cut.
  void initialize(auto const& context, matrix& w) const {
    w.name = "layer." + std::to_string(context.layer);
    w.values.resize(static_cast<std::size_t>(in * out));
    auto const random = context.random().at(0);
    for (std::size_t i = 0; i < w.values.size(); ++i)
      w.values[i] = (2 * random.uniform(i) - 1) / std::sqrt(static_cast<float>(in));
  }

  void forward(auto&, matrix const& w, rows const& x, rows& y, saved& keep) const {
    std::size_t const n = x.size() / static_cast<std::size_t>(in);
    y.resize(n * static_cast<std::size_t>(out));
    for (std::size_t r = 0; r < n; ++r)
      for (int o = 0; o < out; ++o) {
        float sum = 0;
        for (int i = 0; i < in; ++i) sum += x[r * in + i] * w.values[i * out + o];
        y[r * out + o] = std::tanh(sum);
      }
    keep.x = &x;
    keep.y = y;
  }

  void backward(auto&, matrix const& w, saved& keep, rows const& dy, rows& dx, matrix& g) const {
    rows const& x = *keep.x;
    std::size_t const n = x.size() / static_cast<std::size_t>(in);
    dx.assign(x.size(), 0);
    for (std::size_t r = 0; r < n; ++r)
      for (int o = 0; o < out; ++o) {
        float const y = keep.y[r * out + o], d = dy[r * out + o] * (1 - y * y);
        for (int i = 0; i < in; ++i) {
          dx[r * in + i] += d * w.values[i * out + o];
          g.values[i * out + o] += d * x[r * in + i];  // gradients are added to
        }
      }
  }
};
static_assert(pw::stage<tanh_layer>);

// The mean squared distance to the target, a loss stage: the end of every training pipeline.
struct squared_distance {
  using input = rows;
  using target = rows;
  using weights = pw::nothing;
  using gradients = pw::nothing;
  using saved = rows;

  pw::loss forward(auto&, weights const&, rows const& x, rows const& t, rows& difference) const {
    difference.resize(x.size());
    double sum = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      difference[i] = x[i] - t[i];
      sum += static_cast<double>(difference[i]) * static_cast<double>(difference[i]);
    }
    return {.value = sum / static_cast<double>(x.size()), .weight = static_cast<double>(x.size())};
  }
  void backward(auto&, weights const&, rows& difference, rows& dx, gradients&) const {
    dx.resize(difference.size());
    for (std::size_t i = 0; i < dx.size(); ++i) dx[i] = 2 * difference[i] / static_cast<float>(difference.size());
  }
};
static_assert(pw::loss_stage<squared_distance>);

// Points of the plane and the product of their coordinates; the first rank asks for inputs, the last for targets.
struct data {
  static constexpr std::size_t rows_a_micro_batch = 16;
  int step;

  float coordinate(int micro_batch, std::size_t row, std::uint32_t axis) const {
    return 2 * pw::keyed_random{.seed = 7, .step = step, .micro_batch = micro_batch}.uniform(axis, row) - 1;
  }
  void input(int micro_batch, rows& x) const {
    x.clear();
    for (std::size_t r = 0; r < rows_a_micro_batch; ++r)
      x.insert(x.end(), {coordinate(micro_batch, r, 0), coordinate(micro_batch, r, 1), 1});
  }
  void target(int micro_batch, rows& t) const {
    t.clear();
    for (std::size_t r = 0; r < rows_a_micro_batch; ++r)
      t.push_back(coordinate(micro_batch, r, 0) * coordinate(micro_batch, r, 1));
  }
};

std::vector<double> train(pw::plan_view plan) {
  auto const model = pw::layers(tanh_layer{3, 16}, tanh_layer{16, 16}, tanh_layer{16, 1}, squared_distance{});
  std::vector<double> losses;
  pw::in_process::run(plan, [&](auto& here) {
    auto training = pw::pipeline(plan, pw::balance<2, 2>(model), here, pw::adam{.rate = 0.01});
    for (int step = 0; step < 200; ++step)
      if (auto const told = training.step(data{step}); told.has_loss)
        losses.push_back(told.loss);  // one rank has the loss
    training.drain();  // an asynchronous schedule still has micro-batches in flight; for the others this does nothing
  });
  return losses;
}

int main() {
  pw::shape const shape{.ranks = 2, .micro_batches = 4};
  auto const gpipe = train(pw::make_plan<pw::gpipe>(shape)), flush = train(pw::make_plan<pw::flush>(shape)),
             stale = train(pw::make_plan<pw::two_buffered>(shape));
  std::cout << "step   gpipe      flush      2bw\n";
  for (std::size_t step : {0, 1, 2, 20, 50, 100, 199})
    std::cout << step << "\t" << gpipe[step] << "\t" << flush[step] << "\t" << stale[step] << '\n';
  bool const same = gpipe == flush;
  bool const learned = flush.back() < flush.front() / 5 && stale.back() < stale.front() / 5;
  std::cout << (same ? "gpipe and flush agree bit for bit" : "gpipe and flush differ, which they must not") << ", "
            << (learned ? "all of them learn" : "but not all of them learn") << '\n';
  return same && learned ? 0 : 1;
}
