// SPDX-License-Identifier: Apache-2.0
// Tokens a second that GPT-2 trains on one GPU: bf16, AdamW and all else of a step included, random tokens. With one rank at
// several sizes of micro-batch; at one of them also as CUDA graphs, and over loopback with several ranks. Prints a table.
//
//   gpt2_speed [--batch 0] [--ranks 4] [--tokens 262144] [--warm-up 5] [--steps 20] [--by-rule 0] [sizes, as --layers 12]
//
// --batch: sequences of a micro-batch; 0: 32, 64 and 16. --tokens: of a step, as so many micro-batches. --by-rule 1: products by
// cuBLASLt's first algorithm, as a deterministic training has them, instead of the fastest.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include <pipewright/cuda/loopback.hpp>
#include <pipewright/cuda/products.hpp>
#include <pipewright/cuda/shared_steps.hpp>
#include <pipewright/cuda/step_graph.hpp>
#include <pipewright/error.hpp>
#include <pipewright/gpt2_cuda/attentions.hpp>
#include <pipewright/gpt2_cuda/backend.hpp>
#include <pipewright/partition/balanced_sizes.hpp>
#include <pipewright/pipeline/pipeline.hpp>
#include <pipewright/plan/plan.hpp>

#include "sizes.hpp"

namespace {

namespace pw = pipewright;
namespace gpt2 = pipewright::gpt2;

struct work {
  gpt2::configuration model;
  int sequences, micro_batches, warm_up, steps;
  bool by_rule;

  double tokens() const { return static_cast<double>(sequences) * model.positions * micro_batches; }
};

/// Each micro-batch's own, and the next token of each place.
class random_tokens {
 public:
  explicit random_tokens(work const& of) : shape_{of.sequences, of.model.positions} {
    std::mt19937 engine(1);
    for (int m = 0; m < of.micro_batches; ++m) {
      auto& one = ids_.emplace_back();
      for (int i = 0; i <= shape_.tokens(); ++i)
        one.push_back(static_cast<std::int32_t>(engine() % static_cast<unsigned>(of.model.vocabulary)));
    }
  }
  void input(int micro_batch, gpt2::token_batch& to) const { give(micro_batch, 0, to); }
  void target(int micro_batch, gpt2::token_batch& to) const { give(micro_batch, 1, to); }

 private:
  void give(int micro_batch, int from, gpt2::token_batch& to) const {
    auto const& all = ids_[static_cast<std::size_t>(micro_batch)];
    to.batch = shape_;
    to.ids.assign(all.begin() + from, all.end() - 1 + from);
  }

  gpt2::batch_shape shape_;
  std::vector<std::vector<std::int32_t>> ids_;
};

/// The head as so many blocks as its product is worth; what each of the ranks has, about alike.
std::vector<int> cut(gpt2::configuration const& c, int ranks) {
  std::vector<double> costs(static_cast<std::size_t>(c.layers) + 2, 1.);
  costs.front() = 0.1;
  costs.back() = 2. * c.vocabulary * c.width / (24. * c.width * c.width + 2. * c.positions * c.width);
  return pw::balanced_sizes(costs, ranks);
}

struct measured {
  double seconds = 0;  // of a step, the median
  double first_loss = 0, last_loss = 0;
  std::string no_graph;  // why its steps were not graphs, though they were to be
  std::string attention;
};

/// Whose attention a context has come to.
std::string who_attends(pw::cuda::context& where, gpt2::attention_shape s) {
  auto const& all = where.kept<gpt2::cuda::attentions>();
  auto const whose = [&](gpt2::cuda::pass which) {
    return all.is_by_cudnn(which, s) ? "cuDNN's" : "the library's own";
  };
  return std::string("forward ") + whose(gpt2::cuda::pass::forward) + ", backward " +
         whose(gpt2::cuda::pass::backward) + (all.why_not().empty() ? "" : " (" + all.why_not() + ")");
}

/// How a step's work comes to the device.
enum class issue { plain, as_graph };

/// One training, which goes on in each of those ways in turn.
std::vector<measured> train(work const& of, int ranks, std::vector<issue> const& ways) {
  auto const plan = pw::make_plan("flush", {.ranks = ranks, .micro_batches = of.micro_batches},
                                  {.tied_first = 0, .tied_second = ranks - 1});
  auto const stages = pw::balance(gpt2::cuda::model<gpt2::cuda::bf16>(of.model), cut(of.model, ranks));
  random_tokens const batch(of);
  std::vector<measured> found(ways.size());
  pw::cuda::shared_steps all(ranks, 60);
  pw::cuda::loopback::run(plan, [&](auto& here) {
    auto& where = pw::cuda::context::here();
    if (!of.by_rule) {
      where.kept<pw::cuda::products>().choose(pw::cuda::choice::by_timing);
      where.kept<gpt2::cuda::attentions>().choose(pw::cuda::choice::by_timing);
    }
    auto training =
        pw::pipeline(plan, stages, here, pw::adamw(6e-4, 0.1), {.seed = 1, .tied = {"wte.weight", "lm_head.weight"}});
    pw::cuda::step_graph graph(where, all);
    for (std::size_t way = 0; way < ways.size(); ++way) {
      std::vector<double> seconds;
      measured of_way;
      for (int step = 0; step < of.warm_up + of.steps; ++step) {
        auto const begin = std::chrono::steady_clock::now();
        pw::step_result result;
        auto const once = [&] { result = training.step(batch); };
        if (ways[way] == issue::as_graph) graph(once);
        else once();
        if (step >= of.warm_up)
          seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
        (step == 0 ? of_way.first_loss : of_way.last_loss) = result.loss;
      }
      if (here.rank() + 1 != here.size()) continue;  // the last one has the loss
      std::ranges::sort(seconds);
      of_way.seconds = seconds[seconds.size() / 2];
      if (ways[way] == issue::as_graph) of_way.no_graph = graph.why_not();
      of_way.attention = who_attends(where, {of.sequences, of.model.positions, of.model.heads, of.model.width});
      found[way] = of_way;
    }
  });
  return found;
}

}  // namespace

int main(int count, char** given) try {
  auto defaults = gpu::size_options();
  defaults.insert({{"batch", 0}, {"ranks", 4}, {"tokens", 262144}, {"warm-up", 5}, {"steps", 20}, {"by-rule", 0}});
  auto const options = gpu::read_options(count, given, std::move(defaults));
  work of{.model = gpu::model_of(options),
          .sequences = 0,
          .micro_batches = 1,
          .warm_up = options.at("warm-up"),
          .steps = options.at("steps"),
          .by_rule = options.at("by-rule") != 0};
  std::printf("GPT-2 of %.1f million parameters, %d tokens a sequence, bf16, AdamW; median of %d steps after %d.\n\n",
              gpu::parameters_of(of.model) / 1e6, of.model.positions, of.steps, of.warm_up);
  std::printf(
      "| ranks | sequences | micro-batches | step | tokens/s | TFLOP/s | of 990 | of 788 | of 1, plain | losses |\n"
      "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n");
  std::vector<int> sizes{32, 64, 16};
  if (options.at("batch") > 0) sizes = {options.at("batch")};
  double best = 0, alone = 0;
  std::string remarks;
  auto const print = [&](int ranks, std::vector<issue> const& ways) {
    try {
      auto const all = train(of, ranks, ways);
      for (std::size_t way = 0; way < ways.size(); ++way) {
        auto const& found = all[way];
        double const rate = of.tokens() / found.seconds, flops = rate * gpu::flops_of_token(of.model);
        if (ranks == 1 && way == 0) alone = rate;
        if (ranks == 1) best = std::max(best, rate);
        std::printf("| %d%s | %d | %d | %.2f ms | %.0f | %.1f | %.1f %% | %.1f %% | %.3f | %.3f %.3f |\n", ranks,
                    ways[way] == issue::plain ? "" : ", as graphs", of.sequences, of.micro_batches, 1e3 * found.seconds,
                    rate, flops / 1e12, 100 * flops / gpu::datasheet_flops, 100 * flops / gpu::measured_flops,
                    rate / alone, found.first_loss, found.last_loss);
        if (way == 0)
          remarks += "\nAttention, " + std::to_string(ranks) + " ranks, " + std::to_string(of.sequences) +
                     " sequences: " + found.attention + ".\n";
        if (!found.no_graph.empty()) remarks += "\nNot run as graphs: " + found.no_graph + "\n";
      }
      std::fflush(stdout);
    } catch (pw::error const& e) {
      if (std::string(e.what()).find("found no room") == std::string::npos) throw;
      std::printf("| %d | %d | %d | does not fit | | | | | | |\n", ranks, of.sequences, of.micro_batches);
    }
  };
  for (int const sequences : sizes) {
    of.sequences = sequences;
    of.micro_batches = std::max(1, options.at("tokens") / (sequences * of.model.positions));
    bool const is_first = sequences == sizes.front();
    print(1, is_first ? std::vector{issue::plain, issue::as_graph} : std::vector{issue::plain});
    if (is_first && options.at("ranks") > 1) print(options.at("ranks"), {issue::plain, issue::as_graph});
  }
  std::printf("%s\nbest tokens/s of one rank: %.0f\n", remarks.c_str(), best);
  return best > 0 ? 0 : 1;
} catch (std::exception const& e) {
  std::fflush(stdout);
  std::fprintf(stderr, "%s: %s\n", given[0], e.what());
  return 1;
}
