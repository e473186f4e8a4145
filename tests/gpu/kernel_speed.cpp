// SPDX-License-Identifier: Apache-2.0
// The time of each kernel and product of GPT-2 on this GPU, at the sizes that training has in bf16, against its floor: the
// bytes that it must move (each input read once, each output written once) at the rate of a copy, or its arithmetic at that of
// a large product. Prints a table; and one of what goes with a product, apart and in its kernel, and which of the two was chosen.
//
//   kernel_speed [--batch 32] [--rounds 20] [sizes, as --layers 12]
//
// Buffers are as large as in training; what fits the L2 cache is read from it by the next round.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

#include <pipewright/cuda/context.hpp>
#include <pipewright/cuda/event.hpp>
#include <pipewright/cuda/memory.hpp>
#include <pipewright/cuda/products.hpp>
#include <pipewright/error.hpp>
#include <pipewright/gpt2_cuda/backend.hpp>
#include <pipewright/gpt2_cuda/cudnn_attention.hpp>

#include "sizes.hpp"

namespace {

namespace pw = pipewright;
namespace gpt2 = pipewright::gpt2;
using bf16 = gpt2::cuda::bf16;
using pw::cuda::buffer;

/// Normal numbers: zeros would be multiplied faster.
template<class T> buffer<T> drawn(std::size_t n, float spread = 1.f) {
  std::mt19937 engine(1);
  std::normal_distribution<float> draw(0.f, spread);
  std::vector<T> some(std::min<std::size_t>(n, 1 << 20));
  for (T& each : some) {
    if constexpr (std::is_same_v<T, float>) each = draw(engine);
    else each = __float2bfloat16_rn(draw(engine));
  }
  buffer<T> made;
  made.resize(n);
  for (std::size_t at = 0; at < n; at += some.size())
    pw::cuda::upload<T>({some.data(), std::min(some.size(), n - at)}, made.data() + at);
  return made;
}

class table {
 public:
  table(pw::cuda::context& where, int rounds) : where_{where}, rounds_{rounds} {
    std::printf(
        "| what | a micro-batch has | one takes | floor | over floor | GB/s | TFLOP/s |\n"
        "| --- | --- | --- | --- | --- | --- | --- |\n");
  }
  void row(std::string const& what, double times, double bytes, double flops, std::function<void()> const& work) {
    double const median = seconds_of(work);
    double const floor = std::max(bytes / gpu::measured_bytes, flops / gpu::measured_flops);
    std::printf("| %s | %.4g | %.1f us | %.1f us | %.2f | %.0f | %.1f |\n", what.c_str(), times, 1e6 * median,
                1e6 * floor, median / floor, bytes / median / 1e9, flops / median / 1e12);
    std::fflush(stdout);
    all_ += times * median;
    all_floors_ += times * floor;
  }
  /// The median of all rounds but the first few.
  double seconds_of(std::function<void()> const& work) {
    for (int i = 0; i < 3; ++i) work();
    std::vector<double> took;
    for (int i = 0; i < rounds_; ++i) {
      begin_.record(where_.stream());
      work();
      end_.record(where_.stream());
      where_.wait(end_);
      took.push_back(1e-3 * double{end_.milliseconds_since(begin_)});
    }
    std::ranges::sort(took);
    return took[took.size() / 2];
  }
  double all() const { return all_; }
  double all_floors() const { return all_floors_; }

 private:
  pw::cuda::context& where_;
  int const rounds_;
  pw::cuda::event begin_{true}, end_{true};
  double all_ = 0, all_floors_ = 0;
};

}  // namespace

int main(int count, char** given) try {
  auto defaults = gpu::size_options();
  defaults.insert({{"batch", 32}, {"rounds", 20}, {"large", 8192}});
  auto const options = gpu::read_options(count, given, std::move(defaults));
  auto const model = gpu::model_of(options);
  gpt2::batch_shape const batch{options.at("batch"), model.positions};
  int const rows = batch.tokens(), width = model.width, words = model.vocabulary;
  auto const number = [](auto n) { return static_cast<double>(n); };
  double const n = number(rows) * width, layers = model.layers;
  auto const size = [](double of) { return static_cast<std::size_t>(of); };

  pw::cuda::context where;
  auto const on = where.stream();
  auto& multiply = where.kept<pw::cuda::products>();
  multiply.choose(pw::cuda::choice::by_timing);
  std::printf(
      "Sequences %d, tokens of one %d, width %d, heads %d, layers %d, vocabulary %d; bf16, weights and their gradients "
      "in fp32.\n\n",
      batch.sequences, batch.length, width, model.heads, model.layers, words);
  table rows_of(where, options.at("rounds"));
  std::string remarks;
  {
    std::size_t const bytes = std::size_t{1} << (options.at("large") >= 4096 ? 30 : 10);
    auto const from = drawn<bf16>(bytes / 2);
    buffer<bf16> to;
    to.resize(bytes / 2);
    rows_of.row("a copy", 0, 2. * number(bytes), 0, [&] { to.copy_from(from.data()); });
    int const m = options.at("large");
    auto const a = drawn<bf16>(size(number(m) * m)), b = drawn<bf16>(size(number(m) * m));
    buffer<bf16> c;
    c.resize(size(number(m) * m));
    rows_of.row("a product of " + std::to_string(m) + " x " + std::to_string(m) + " x " + std::to_string(m), 0, 0,
                2. * m * m * number(m), [&] { multiply({m, m, m}, a.data(), b.data(), 0.f, c.data()); });
  }

  // Enough for the widest: a layer's linears' inputs and outputs, and qkv.
  auto const x = drawn<bf16>(size(4 * n)), dy = drawn<bf16>(size(4 * n));
  buffer<bf16> y(size(4 * n)), z(size(4 * n));
  auto const weight = drawn<bf16>(size(4. * width * width), 0.02f), bias = drawn<bf16>(size(4. * width), 0.02f);
  buffer<float> weight_gradient(size(4. * width * width)), small(size(4. * width)), mean(size(rows)),
      deviation(size(rows));

  {
    auto const s_table = drawn<bf16>(size(number(words) * width), 0.02f);
    buffer<float> gradient(size(number(words) * width)), positions(size(number(model.positions) * width));
    std::vector<std::int32_t> ids(size(rows));
    std::mt19937 engine(2);
    for (auto& each : ids) each = static_cast<std::int32_t>(engine() % static_cast<unsigned>(words));
    gpt2::cuda::token_ids tokens;
    tokens.place(ids, true);
    std::ranges::sort(ids);
    double const distinct = number(std::unique(ids.begin(), ids.end()) - ids.begin()),
                 of_positions = number(batch.length) * width;
    rows_of.row("embedding", 1, 2 * n + 2 * distinct * width + 2 * of_positions, 0, [&] {
      gpt2::cuda::embed(on, tokens.ids(), s_table.data(), weight.data(), batch, width, {}, y.data());
    });
    rows_of.row("embedding, backward", 1, 2 * n + 8 * distinct * width + 8 * of_positions, 0, [&] {
      gpt2::cuda::embed_backward_weights(on, tokens.rows(), tokens.begins(), tokens.tokens(), tokens.distinct(),
                                         dy.data(), batch, width, {}, gradient.data(), positions.data());
    });
  }

  gpt2::row_shape const stream{rows, width};
  rows_of.row("layer norm", layers + 1, 4 * n + 8. * rows, 0, [&] {
    gpt2::cuda::layer_norm(on, x.data(), weight.data(), bias.data(), stream, y.data(), mean.data(), deviation.data());
  });
  rows_of.row("sum and layer norm", layers, 8 * n + 8. * rows, 0, [&] {
    gpt2::cuda::add_layer_norm(on, x.data(), dy.data(), {}, weight.data(), bias.data(), stream, z.data(), y.data(),
                               mean.data(), deviation.data());
  });
  {
    buffer<float> scratch(gpt2::cuda::norm_backward_grid(stream).scratch(stream));
    rows_of.row("layer norm, backward", 2 * layers + 1, 8 * n + 8. * rows, 0, [&] {
      gpt2::cuda::layer_norm_backward(on, x.data(), mean.data(), deviation.data(), weight.data(), dy.data(), x.data(),
                                      stream, scratch.data(), y.data(), small.data(), small.data() + width);
    });
  }
  rows_of.row("sum", layers, 6 * n, 0,
              [&] { gpt2::cuda::add_dropout(on, x.data(), dy.data(), size(n), {}, y.data()); });
  rows_of.row("gelu", layers, 16 * n, 0, [&] { gpt2::cuda::gelu(on, x.data(), size(4 * n), y.data()); });
  rows_of.row("gelu, backward", layers, 24 * n, 0,
              [&] { gpt2::cuda::gelu_backward(on, dy.data(), x.data(), size(4 * n), y.data()); });

  gpt2::attention_shape const attending{batch.sequences, batch.length, model.heads, width};
  double const level_bytes = 4. * rows * model.heads, pairs = 2. * n * batch.length;  // causal: half of 4
  {
    buffer<float> level(size(number(rows) * model.heads));
    rows_of.row("attention", layers, 8 * n + level_bytes, pairs,
                [&] { gpt2::cuda::attention(on, x.data(), attending, {}, y.data(), level.data()); });
    buffer<bf16> scratch(gpt2::cuda::attention_scratch(attending));
    rows_of.row("attention, backward", layers, 16 * n + level_bytes, 2.5 * pairs, [&] {
      gpt2::cuda::attention_backward(on, x.data(), y.data(), level.data(), dy.data(), attending, {}, scratch.data(),
                                     z.data());
    });
    // Beside them, not in the sum of all rows.
    auto& by_cudnn = where.kept<gpt2::cuda::cudnn_attention>();
    auto const beside = [&](gpt2::cuda::pass which, char const* what, double bytes, double flops, auto const& work) {
      if (by_cudnn.serves(which, attending)) rows_of.row(what, 0, bytes, flops, work);
      else remarks += std::string("SKIPPED: ") + what + ": " + by_cudnn.why_not() + "\n\n";
    };
    beside(gpt2::cuda::pass::forward, "attention, cuDNN's", 8 * n + level_bytes, pairs,
           [&] { by_cudnn.forward(x.data(), attending, y.data(), level.data()); });
    beside(gpt2::cuda::pass::backward, "attention, backward, cuDNN's", 16 * n + level_bytes, 2.5 * pairs,
           [&] { by_cudnn.backward(x.data(), y.data(), level.data(), dy.data(), attending, z.data()); });
  }

  struct linear {
    char const* name;
    int in, out;
  };
  for (auto const [name, in, out] :
       {linear{"queries, keys and values", width, 3 * width}, linear{"of attention", width, width},
        linear{"widening", width, 4 * width}, linear{"narrowing", 4 * width, width}}) {
    double const r = rows, flops = 2 * r * in * out, values = 2 * (r * in + r * out + number(in) * out);
    std::string const of = std::string("linear, ") + name;
    rows_of.row(of + ": output", layers, values, flops, [&, in = in, out = out] {
      multiply({rows, out, in}, x.data(), weight.data(), 0.f, y.data(), pw::cuda::epilogue<bf16>::bias(bias.data()));
    });
    rows_of.row(of + ": input's gradient", layers, values, flops, [&, in = in, out = out] {
      multiply({.m = rows, .n = in, .k = out, .b_transposed = true}, dy.data(), weight.data(), 0.f, y.data());
    });
    rows_of.row(of + ": weight's gradient", layers, 2 * (r * in + r * out) + 8. * in * out, flops,
                [&, in = in, out = out] {
                  multiply({.m = in, .n = out, .k = rows, .a_transposed = true}, x.data(), dy.data(), 1.f,
                           weight_gradient.data());
                });
    gpt2::row_shape const s{rows, out};
    buffer<float> scratch(gpt2::cuda::column_sum_grid(s).scratch(s));
    rows_of.row(of + ": bias's gradient", layers, 2 * r * out, 0,
                [&] { gpt2::cuda::add_columns(on, dy.data(), s, scratch.data(), small.data()); });
  }

  {
    int const stride = gpt2::cuda::backend<bf16>::logits_stride(words);
    double const r = rows, flops = 2 * r * width * stride, of_logits = 2 * r * stride,
                 of_table = number(stride) * width;
    auto const s_table = drawn<bf16>(size(of_table), 0.02f);
    buffer<float> gradient(size(of_table)), losses(size(rows));
    buffer<bf16> logits(size(r * stride));
    std::vector<std::int32_t> ids(size(rows), 1);
    gpt2::cuda::token_ids targets;
    targets.place(ids, false);
    rows_of.row("logits", 1, of_logits + 2 * n + 2 * of_table, flops, [&] {
      multiply({.m = rows, .n = stride, .k = width, .b_transposed = true}, x.data(), s_table.data(), 0.f,
               logits.data());
    });
    rows_of.row("classifier", 1, 2 * of_logits + 4 * r, 0, [&] {
      gpt2::cuda::classify(on, logits.data(), targets.ids(), {rows, words}, stride, 1.f / static_cast<float>(rows),
                           losses.data());
    });
    rows_of.row("logits: input's gradient", 1, of_logits + 2 * n + 2 * of_table, flops,
                [&] { multiply({rows, width, stride}, logits.data(), s_table.data(), 0.f, y.data()); });
    rows_of.row("logits: table's gradient", 1, of_logits + 2 * n + 8 * of_table, flops, [&] {
      multiply({.m = stride, .n = width, .k = rows, .a_transposed = true}, logits.data(), x.data(), 1.f,
               gradient.data());
    });
  }
  std::printf(
      "\nThe rows of a micro-batch, as often as it has them: %.2f ms, their floors %.2f ms: %.0f tokens/s, floor "
      "%.0f.\n\n%s",
      1e3 * rows_of.all(), 1e3 * rows_of.all_floors(), rows / rows_of.all(), rows / rows_of.all_floors(),
      remarks.c_str());
  // The choice is made first, as in training.
  std::printf(
      "| with a product | a micro-batch has | apart | in its kernel, where cuBLASLt can | chosen |\n"
      "| --- | --- | --- | --- | --- |\n");
  gpt2::cuda::backend<bf16> work;
  auto& linears = where.kept<gpt2::cuda::linears>();
  double saved = 0;
  auto const compare = [&](std::string const& what, std::function<void()> const& once) {
    linears.fuse(gpt2::cuda::fusion::where_it_wins);
    once();
    bool const fused = linears.choices().back().fused;
    linears.fuse(gpt2::cuda::fusion::never);
    double const apart = rows_of.seconds_of(once);
    linears.fuse(gpt2::cuda::fusion::always);
    double const in_one = rows_of.seconds_of(once);
    std::printf("| %s | %.4g | %.1f us | %.1f us | %s |\n", what.c_str(), layers, 1e6 * apart, 1e6 * in_one,
                fused ? "in its kernel" : "apart");
    if (fused) saved += layers * (apart - in_one);
  };
  gpt2::linear_shape const widening{rows, width, 4 * width}, narrowing{rows, 4 * width, width};
  compare("widening: output and GELU",
          [&] { work.linear_gelu(x.data(), weight.data(), bias.data(), widening, y.data(), z.data()); });
  compare("narrowing: input's gradient and GELU's backward, in place",
          [&] { work.linear_gelu_backward_input(dy.data(), weight.data(), y.data(), narrowing, z.data(), y.data()); });
  struct one {
    char const* name;
    gpt2::linear_shape s;
  };
  for (auto const& [name, s] :
       {one{"queries, keys and values", {rows, width, 3 * width}}, one{"of attention", {rows, width, width}},
        one{"widening", widening}, one{"narrowing", narrowing}})
    compare(std::string(name) + ": weight's and bias's gradient",
            [&, s = s] { work.linear_backward_weights(x.data(), dy.data(), s, weight_gradient.data(), small.data()); });
  std::printf("\nWhat was chosen in products' kernels saves %.2f ms of the sum above.\n\n", 1e3 * saved);
  return 0;
} catch (std::exception const& e) {
  std::fflush(stdout);
  std::fprintf(stderr, "%s: %s\n", given[0], e.what());
  return 1;
}
