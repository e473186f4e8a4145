// SPDX-License-Identifier: Apache-2.0
// Trains the GPT-2 of torch's modules over Gloo, a process a rank; gpt2.py does the same with torch.distributed.pipelining.
//   pipewright-run -n 2 gpt2_over_gloo --schedule gpipe|flush|interleaved SIZES --steps N
//   gpt2_over_gloo --write FOLDER SIZES --steps N     writes what gpt2.py starts from: the model, and the tokens of all steps
// SIZES: --layers --width --heads --length --vocabulary --micro-batches --sequences (of a micro-batch).
// A rank prints {"rank", "seconds" of each step, "losses" on the last rank, "peak_kib", "empty_kib" before it has a model}.
#include <filesystem>
#include <vector>

#include <ATen/Parallel.h>

#include <pipewright/gloo/link.hpp>
#include <pipewright/gpt2/save.hpp>
#include <pipewright/gpt2_libtorch/model.hpp>
#include <pipewright/launch/launch.hpp>
#include <pipewright/pipewright.hpp>

#include "command_line.hpp"

namespace {

namespace pw = pipewright;

struct sizes {
  pw::gpt2::configuration model;
  int micro_batches, sequences, steps;

  explicit sizes(benchmarks::command_line const& given)
      : model{.vocabulary = given.number("vocabulary"),
              .positions = given.number("length"),
              .width = given.number("width"),
              .heads = given.number("heads"),
              .layers = given.number("layers")},
        micro_batches{given.number("micro-batches")},
        sequences{given.number("sequences")},
        steps{given.number("steps")} {}
};

/// The tokens of all steps, drawn once: step, micro-batch, sequence; a token more than the length each.
class token_table {
 public:
  explicit token_table(sizes const& of) : of_{of} {
    auto const count = static_cast<std::size_t>(of.steps * of.micro_batches * of.sequences * (of.model.positions + 1));
    auto const stream = pw::keyed_random{.seed = 1}.at(0);
    for (std::size_t i = 0; i < count;
         ++i)  // low numbers more often than high ones, so that there is something to learn
      ids_.push_back(static_cast<std::int32_t>(stream.four(i)[0] % static_cast<unsigned>(of.model.vocabulary) &
                                               stream.four(i)[1]));
  }
  std::span<std::int32_t const> ids() const { return ids_; }
  /// A micro-batch's tokens, `ahead` places later.
  void fill(int step, int micro_batch, int ahead, pw::gpt2::token_batch& to) const {
    int const length = of_.model.positions;
    to.batch = {of_.sequences, length};
    to.ids.clear();
    auto from = ids_.begin() + (step * of_.micro_batches + micro_batch) * of_.sequences * (length + 1) + ahead;
    for (int s = 0; s < of_.sequences; ++s, from += length + 1) to.ids.insert(to.ids.end(), from, from + length);
  }

 private:
  sizes of_;
  std::vector<std::int32_t> ids_;
};

struct batch {
  token_table const& from;
  int step;
  void input(int micro_batch, pw::gpt2::token_batch& to) const { from.fill(step, micro_batch, 0, to); }
  void target(int micro_batch, pw::gpt2::token_batch& to) const { from.fill(step, micro_batch, 1, to); }
};

void write(std::filesystem::path const& folder, sizes const& of) {
  std::vector<std::pair<std::string, std::vector<float>>> drawn;
  for (auto const& p : pw::gpt2::all_tensors(of.model)) {
    drawn.emplace_back(p.name, std::vector<float>(p.size()));
    pw::gpt2::draw(p, 0, drawn.back().second);
  }
  pw::gpt2::named_values values;
  for (auto const& [name, numbers] : drawn) values[name] = numbers;
  std::filesystem::create_directories(folder);
  pw::gpt2::save(folder, {.sizes = of.model, .tied = false}, values);
  auto const tokens = token_table(of);
  auto const bytes = std::as_bytes(tokens.ids());
  std::ofstream(folder / "tokens", std::ios::binary)
      .write(reinterpret_cast<char const*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
}

void train(std::string const& schedule, sizes const& of) {
  auto const place = pw::launch::find_place();
  pw::gloo::link over(pw::gloo::store_of(place), place.rank, place.size, place.address);
  pw::gloo::endpoint here(over);
  long const empty = benchmarks::kib_of("VmRSS");
  auto const tokens = token_table(of);
  pw::shape const shape{
      .ranks = place.size, .micro_batches = of.micro_batches, .chunks = schedule == "interleaved" ? 2 : 1};
  auto const plan = pw::make_plan(schedule, shape);
  std::vector<int> cut(static_cast<std::size_t>(shape.stages()), of.model.layers / shape.stages());
  ++cut.front();  // the embedding
  ++cut.back();   // the head
  auto training =
      pw::pipeline(plan, pw::balance(pw::gpt2_libtorch::model(of.model), cut), here, pw::adam{.rate = 1e-3});
  std::vector<double> seconds, losses;
  for (int step = 0; step < of.steps; ++step) {
    double const start = benchmarks::seconds();
    auto const told = training.step(batch{tokens, step});
    seconds.push_back(benchmarks::seconds() - start);
    if (told.has_loss) losses.push_back(told.loss);
  }
  std::printf(R"({"rank": %d, "seconds": %s, "losses": %s, "peak_kib": %ld, "empty_kib": %ld})"
              "\n",
              place.rank, benchmarks::json(seconds).c_str(), benchmarks::json(losses).c_str(),
              benchmarks::kib_of("VmHWM"), empty);
}

}  // namespace

int main(int argc, char** argv) {
  at::set_num_threads(1);
  try {
    benchmarks::command_line const given(argc, argv);
    if (given.has("write")) write(given.text("write"), sizes(given));
    else train(given.text("schedule"), sizes(given));
  } catch (std::exception const& fault) {
    std::fprintf(stderr, "gpt2_over_gloo: %s\n", fault.what());
    return 1;
  }
  return 0;
}
