// SPDX-License-Identifier: Apache-2.0
// Must a boundary between stages be a tensor?
//
// No: any type whose parts can be named. Here three ranks hand over
//   a struct of words and perhaps a temperature   (from the batch to rank 0; of a length of its own in every micro-batch)
//   a tuple of numbers and an optional number     (rank 0 to rank 1, and its gradient back)
//   a struct of numbers and a text                (rank 1 to rank 2; back comes the numbers' gradient alone)
// and the compiler checks that neighbours agree, forwards and backwards.
#include <iostream>
#include <numeric>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include <pipewright/pipeline/pipeline.hpp>
#include <pipewright/stage/stage_set.hpp>
#include <pipewright/transport/in_process.hpp>

namespace pw = pipewright;
using numbers = std::vector<float>;

struct observation {
  std::vector<std::string> words;
  std::optional<float> temperature;
};
using features = std::tuple<numbers, std::optional<float>>;  // a number a word, and the temperature where there is one
struct summary {
  numbers values;
  std::string topic;  // no gradient flows through it
  void for_each_part(
      auto&& visit) {  // what a wire carries; tuples, optionals, vectors and strings need no such function
    visit(values);
    visit(topic);
  }
};

struct table {
  std::string name;
  numbers values;
  void for_each_parameter(auto&& visit) { visit(std::string_view{name}, std::span{values}, pw::parameter_options{}); }
};
void fill(table& w, std::string name, std::size_t size, pw::random_stream const& random) {
  w = {std::move(name), numbers(size)};
  for (std::size_t i = 0; i < size; ++i) w.values[i] = random.uniform(i) - 0.5f;
}

// A number for each word, by its first letter.
struct reader {
  using input = observation;
  using input_gradient = pw::nothing;  // words have none
  using output = features;
  using weights = table;
  using gradients = table;
  using saved = std::vector<std::size_t>;

  void initialize(auto const& context, table& w) const { fill(w, "letters", 26, context.random().at(0)); }
  void forward(auto&, table const& w, observation const& x, features& y, saved& letters) const {
    auto& [values, temperature] = y;
    letters.clear();
    values.clear();
    for (std::string const& word : x.words) {
      letters.push_back(static_cast<std::size_t>(word[0] - 'a'));
      values.push_back(w.values[letters.back()]);
    }
    temperature = x.temperature;
  }
  void backward(auto&, table const&, saved& letters, features const& dy, pw::nothing&, table& g) const {
    for (std::size_t i = 0; i < letters.size(); ++i) g.values[letters[i]] += std::get<0>(dy)[i];
  }
};

// The mean of the words' numbers, and what a temperature adds to it.
struct summing {
  using input = features;
  using output = summary;
  using output_gradient = numbers;
  using weights = table;
  using gradients = table;
  using saved = features;

  void initialize(auto const& context, table& w) const { fill(w, "temperature", 1, context.random().at(0)); }
  void forward(auto&, table const& w, features const& x, summary& y, saved& keep) const {
    auto const& [values, temperature] = keep = x;
    float sum = 0;
    for (float each : values) sum += each;
    y.values = {sum / static_cast<float>(values.size()), temperature ? w.values[0] * *temperature : 0};
    y.topic = temperature ? "weather" : "words";
  }
  void backward(auto&, table const& w, saved& keep, numbers const& dy, features& dx, table& g) const {
    auto const& [values, temperature] = keep;
    auto& [d_values, d_temperature] = dx;
    d_values.assign(values.size(), dy[0] / static_cast<float>(values.size()));
    d_temperature.reset();
    if (!temperature) return;
    d_temperature = w.values[0] * dy[1];
    g.values[0] += dy[1] * *temperature;
  }
};

// Squared distance to the target; each topic has a bias of its own.
struct judge {
  using input = summary;
  using input_gradient = numbers;
  using target = float;
  using weights = table;
  using gradients = table;
  struct saved {
    float error;
    bool weather;
  };

  void initialize(auto const& context, table& w) const { fill(w, "bias", 2, context.random().at(0)); }
  pw::loss forward(auto&, table const& w, summary const& x, float const& t, saved& keep) const {
    keep.weather = x.topic == "weather";
    keep.error = x.values[0] + x.values[1] + w.values[keep.weather] - t;
    return {.value = 0.5 * static_cast<double>(keep.error) * static_cast<double>(keep.error), .weight = 1};
  }
  void backward(auto&, table const&, saved& keep, numbers& dx, table& g) const {
    dx.assign(2, keep.error);
    g.values[keep.weather] += keep.error;
  }
};

static_assert(pw::fits_before<reader, summing> && pw::fits_before<summing, judge>);
static_assert(!pw::fits_before<reader, judge>);  // a tuple is no summary: such a list does not compile

// Words at random; to be learned: the share of words that begin with a vowel, and three times the temperature.
struct observations {
  int step;
  observation make(int micro_batch) const {
    auto const random = pw::keyed_random{.seed = 3, .step = step, .micro_batch = micro_batch}.at(0);
    observation made;
    for (std::uint64_t i = 0, n = 1 + random.bits(0) % 9; i < n; ++i)  // of a length of its own
      made.words.push_back(std::string(1, static_cast<char>('a' + random.bits(i + 1) % 26)) + "...");
    if (random.bits(99) % 2) made.temperature = random.uniform(100);
    return made;
  }
  void input(int micro_batch, observation& x) const { x = make(micro_batch); }
  void target(int micro_batch, float& t) const {
    observation const from = make(micro_batch);
    t = 0;
    for (std::string const& word : from.words) t += std::string("aeiou").find(word[0]) != std::string::npos ? 1.f : 0.f;
    t = t / static_cast<float>(from.words.size()) + 3 * from.temperature.value_or(0);
  }
};

struct outcome {
  std::vector<double> losses;
  std::size_t bytes_sent = 0;
};
outcome train(pw::plan_view plan) {
  outcome all;
  pw::in_process::run(plan, [&](auto& here) {
    auto training = pw::pipeline(plan, pw::stages(reader{}, summing{}, judge{}), here, pw::adam{.rate = 0.02});
    for (int step = 0; step < 400; ++step)
      if (auto const told = training.step(observations{step}); told.has_loss) all.losses.push_back(told.loss);
    if (here.rank() == 1) all.bytes_sent = training.bytes_sent();
  });
  return all;
}

int main() {
  pw::shape const shape{.ranks = 3, .micro_batches = 6};
  auto const flush = train(pw::make_plan<pw::flush>(shape)), sequential = train(pw::make_plan<pw::sequential>(shape));
  auto mean = [&](int from) {
    return std::accumulate(flush.losses.begin() + from, flush.losses.begin() + from + 50, 0.0) / 50;
  };
  for (int from = 0; from < 400; from += 50)
    std::cout << "steps " << from << " to " << from + 49 << ": loss " << mean(from) << '\n';
  bool const same = flush.losses == sequential.losses, learned = mean(350) < mean(0) / 5;
  std::cout << "rank 1 sent " << flush.bytes_sent << " bytes of tuples, optionals and texts in "
            << 400 * shape.micro_batches << " micro-batches; "
            << (same ? "flush and the sequential run agree bit for bit\n"
                     : "flush and the sequential run differ, which they must not\n");
  return same && learned ? 0 : 1;
}
