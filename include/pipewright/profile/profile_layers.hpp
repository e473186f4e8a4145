// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <pipewright/error.hpp>
#include <pipewright/partition/model_profile.hpp>
#include <pipewright/pipeline/observer.hpp>
#include <pipewright/pipeline/pipeline.hpp>
#include <pipewright/plan/plan.hpp>
#include <pipewright/profile/layer_by_layer.hpp>
#include <pipewright/profile/median.hpp>
#include <pipewright/profile/memory_meter.hpp>
#include <pipewright/stage/stage_set.hpp>
#include <pipewright/transport/in_process/endpoint.hpp>

namespace pipewright::inline v0 {

/// An observer that measures how long each stage's actions take, on one rank, in the rank's thread.
class stage_clock {
 public:
  /// Whether what runs now counts. Off at first, so that a warm-up can be left out.
  bool counts = false;

  void before(event const&) { begun_ = clock::now(); }
  void after(event const& e) {
    if (counts)
      seconds_[{e.instruction.what.stage, e.instruction.what.what}].push_back(
          std::chrono::duration<double>(clock::now() - begun_).count());
  }
  /// Seconds of every such action of a stage, in order; empty where there was none.
  std::vector<double> const& seconds(int stage, kind what) const {
    static std::vector<double> const none;
    auto const found = seconds_.find({stage, what});
    return found == seconds_.end() ? none : found->second;
  }

 private:
  using clock = std::chrono::steady_clock;
  clock::time_point begun_{};
  std::map<std::pair<int, kind>, std::vector<double>> seconds_;
};
static_assert(observer<stage_clock>);

/// How layers are measured.
struct profile_options {
  int warm_up = 2;           ///< micro-batches that do not count
  int micro_batches = 10;    ///< that do
  std::uint64_t seed = 0;    ///< of weights and dropout
  bool counts_saved = true;  ///< throw where neither saved values nor a meter say their bytes; else they are 0
  std::function<void(int done, int all)> progress = {};  ///< hears of each micro-batch
};

/// What was measured.
struct measured_profile {
  model_profile profile;
  std::vector<double> spread;  ///< by layer, of its time for a micro-batch: between the quartiles, over the median
};

namespace detail {

/// Runs a plan of one rank over those stages, then calls use(pipeline).
void profile_pass(dynamic_plan const& plan, auto const& set, auto& batch, auto const& optimizer,
                  profile_options const& how, auto& hears, auto&& tell, auto&& use) {
  in_process::world world(1);
  in_process::endpoint here(world, 0);
  auto training = pipewright::pipeline(plan, set, here, optimizer, {.seed = how.seed}, hears);
  for (int i = 0; i < how.warm_up + how.micro_batches; ++i) {
    hears.counts = i >= how.warm_up;
    training.step(batch);
    tell();
  }
  use(training);
}

/// Metered bytes of a profile's layers: what they save, where the meter sees it, and their workspace.
template<memory_meter Meter> void measure_memory(model_profile& of, dynamic_plan const& plan, auto const& set,
                                                 auto& batch, auto const& optimizer, profile_options how, auto&& tell) {
  stage_memory<Meter> memory;
  how.warm_up = std::max(how.warm_up, 1);  // the first forward replaces nothing
  profile_pass(plan, set, batch, optimizer, how, memory, tell, [](auto&) {});
  for (int i = 0; i < of.count(); ++i) {
    auto& layer = of.layers[static_cast<std::size_t>(i)];
    if constexpr (sees_saved<Meter>) layer.saved = median(memory.kept(i));
    layer.workspace = memory.workspace(i);
  }
}

}  // namespace detail

/// Trains a model on one micro-batch again and again, in this thread, and measures every layer: medians of its times, and the
/// bytes that it holds. `layers` is a stage set with a layer a stage: pw::balance(model, {1, 1, 1}), say. `batch` is as for
/// pipeline_of::step, of one micro-batch with that many samples; the optimizer counts for the bytes of its states. Unless all
/// stages' backwards have halves, all have all of it as `backward_input`. Times are those of this thread: stages that
/// only queue work for a device have to wait for it. Trains on each micro-batch twice, the second time with recomputation, to
/// measure that. Saved values say their bytes (for_each_part); with a meter that sees them, what forward has allocated and not
/// freed is what it saved. With a meter, the most that an action had beside is its workspace; both are measured in a third
/// training. Stages whose saved values a meter sees free them once backward is done, and save nothing where the context's
/// `saves` is false. Throws error
/// where nothing is to be measured, and what the stages throw.
template<class Meter = no_meter> measured_profile profile_layers(auto layers, auto&& batch, int samples, auto optimizer,
                                                                 profile_options const& how = {}) {
  constexpr bool is_metered = memory_meter<Meter>;
  static_assert(
      is_metered || std::same_as<Meter, no_meter>,
      "pipewright: this type is no memory meter; give it held() and most(), which return std::int64_t, and restart()");
  if (samples < 1 || how.micro_batches < 1 || how.warm_up < 0)
    throw error("a profile needs at least one sample and one micro-batch that is measured, and a warm-up of 0 or more");
  auto const set = as_stage_set(std::move(layers));
  int const count = set.size();
  bool splits = true;
  measured_profile found;
  found.profile.samples = samples;
  found.profile.frees_saved = sees_saved<Meter>;
  found.profile.layers.resize(static_cast<std::size_t>(count));
  for (int i = 0; i < count; ++i)
    set.visit(i, [&]<class S>(S&&) {
      using stage = std::remove_cvref_t<S>;
      splits = splits && split_backward_stage<stage>;
      if (how.counts_saved && !sees_saved<Meter> && !has_parts<typename stage::saved>)
        throw error("layer " + std::to_string(i) +
                    " has saved values of a type that does not say what it is made of, so that their bytes cannot be "
                    "counted; give the type a member for_each_part(visit), or profile_layers a memory meter, or set "
                    "profile_options::counts_saved to false");
      found.profile.layers[static_cast<std::size_t>(i)].keeps_input = keeps_input<stage>();
    });
  auto const plan = [&](needs wants) {
    shape const s{.ranks = 1, .micro_batches = 1, .chunks = count};
    return splits ? make_plan<layer_by_layer<backward_form::split>>(s, wants)
                  : make_plan<layer_by_layer<backward_form::full>>(s, wants);
  };
  int done = 0;
  int const passes =
      2 * (how.warm_up + how.micro_batches) + (is_metered ? std::max(how.warm_up, 1) + how.micro_batches : 0);
  auto const tell = [&] {
    if (how.progress) how.progress(++done, passes);
  };
  stage_clock once, again;
  auto const number = [](std::size_t bytes) { return static_cast<double>(bytes); };
  detail::profile_pass(plan({}), set, batch, optimizer, how, once, tell, [&](auto& training) {
    for (int i = 0; i < count; ++i) {
      auto& layer = found.profile.layers[static_cast<std::size_t>(i)];
      pipeline_bytes const held = training.bytes(i);
      layer.saved = number(held.activations);
      layer.parameters = number(held.weights);
      layer.gradients = number(held.gradients);
      layer.optimizer = number(held.optimizer);
      (i == 0 ? found.profile.input : found.profile.layers[static_cast<std::size_t>(i) - 1].output) =
          number(held.inputs);
      if (i + 1 == count) found.profile.target = number(held.targets);
    }
  });
  detail::profile_pass(plan({.recompute = recompute_mode::always}), recompute_each(set), batch, optimizer, how, again,
                       tell, [](auto&) {});
  if constexpr (is_metered) detail::measure_memory<Meter>(found.profile, plan({}), set, batch, optimizer, how, tell);
  for (int i = 0; i < count; ++i) {
    auto& layer = found.profile.layers[static_cast<std::size_t>(i)];
    auto const time = [&](kind what) { return detail::median(once.seconds(i, what)); };
    layer.forward = time(kind::forward);
    layer.backward_input = splits ? time(kind::backward_input) : time(kind::backward);
    layer.backward_weight = time(kind::backward_weight);
    layer.update = time(kind::update);
    layer.recompute = detail::median(again.seconds(i, kind::recompute));
    std::vector<double> all = once.seconds(i, kind::forward);
    for (kind const what : {kind::backward, kind::backward_input, kind::backward_weight})
      for (std::size_t n = 0; n < once.seconds(i, what).size(); ++n) all[n] += once.seconds(i, what)[n];
    double const middle = detail::median(all);
    found.spread.push_back(middle > 0 ? (detail::quantile(all, 0.75) - detail::quantile(all, 0.25)) / middle : 0);
  }
  return found;
}

}  // namespace pipewright::inline v0
