// SPDX-License-Identifier: Apache-2.0
// One training: a plan, a cut, a part for each rank, and what came of it.
#pragma once

#include <chrono>
#include <cmath>
#include <functional>
#include <map>
#include <numeric>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <unistd.h>

#include <pipewright/gpt2/load.hpp>
#include <pipewright/gpt2/model.hpp>
#include <pipewright/gpt2/save_training.hpp>
#include <pipewright/gpt2/saved_training.hpp>
#include <pipewright/partition/step_time.hpp>
#include <pipewright/pipeline/pipeline.hpp>
#include <pipewright/plan/memory.hpp>
#include <pipewright/plan/plan.hpp>
#include <pipewright/stage/balance.hpp>
#include <pipewright/trace/recorder.hpp>

#include "alike.hpp"
#include "cut.hpp"
#include "data.hpp"
#include "meter.hpp"
#include "optimizer.hpp"
#include "origin.hpp"
#include "processes.hpp"
#include "request.hpp"
#include "sample.hpp"
#include "share.hpp"

namespace trainer {

/// What is known of a training before it runs.
struct prospect {
  pw::dynamic_plan plan;
  std::vector<int> sizes;                                               ///< layers of each stage
  std::vector<std::size_t> parameters;                                  ///< of each rank
  std::vector<int> in_flight;                                           ///< by rank: micro-batches times chunks
  std::vector<int> weight_versions;                                     ///< by rank, in the steady state
  std::vector<std::size_t> activation_bytes, weight_bytes, sent_bytes;  ///< by rank; sent in a step
  double bubble = 0;
  pw::trace timeline;  ///< as predicted
};

/// What a training has brought.
struct outcome {
  std::vector<double> losses;  ///< of every step
  std::vector<held_out_loss> held_out;
  double step_seconds = 0;  ///< mean, without the first step
  double tokens_per_second = 0;
  double bubble_measured = 0;
  std::vector<std::size_t> activation_bytes, weight_bytes, sent_bytes;  ///< by rank; sent in a step
  pw::trace timeline;                                                   ///< as measured, of the last step or steps
  named_weights weights;
};

inline pw::pipeline_options options_of(request const& r) {
  pw::pipeline_options o{.seed = r.seed,
                         .scale = r.counts_tokens() ? pw::loss_scale::per_token : pw::loss_scale::mean,
                         .clip = r.clip,
                         .clip_over = r.clip_per_stage ? pw::clip_scope::stage : pw::clip_scope::model};
  o.accumulate = r.accumulate;
  if (r.tied) o.tied = {"wte.weight", "lm_head.weight"};
  return o;
}

inline pw::needs needs_of(request const& r, int stages) {
  return {.recompute = r.recompute,
          .step_facts = options_of(r).needs_step_facts(),
          .tied_first = r.tied ? 0 : -1,
          .tied_second = r.tied ? stages - 1 : -1};
}

/// Calls run(std::type_identity<Policy>{}, complete legal shape).
inline void with_schedule(request const& r, auto&& run) {
  if (r.schedule == "forward-only") throw pw::error("forward-only does not train; choose another schedule");
  bool const known = pw::visit_schedule(r.schedule, [&](auto policy) {
    using P = typename decltype(policy)::type;
    run(policy,
        pw::legal_shape<P>({.ranks = r.ranks, .micro_batches = r.micro_batches, .chunks = r.chunks, .group = r.group}));
  });
  if (known) return;
  std::string names;
  pw::for_each_schedule(pw::all_schedules{}, [&](auto policy) {
    using P = typename decltype(policy)::type;
    if (P::backward != pw::backward_form::none) names += (names.empty() ? "" : ", ") + std::string(P::name);
  });
  throw pw::error(fmt::format("there is no schedule named {}; choose one of {}", r.schedule, names));
}

namespace detail {

/// Bytes of what a layer keeps of a micro-batch, boundaries apart: as `saved` counts them, and as much in
/// torch's graph, which besides holds the attention's probabilities, before and after dropout, where it drops some.
inline std::size_t saved_bytes(request const& r, int layer) {
  auto const n = [](int v) { return static_cast<std::size_t>(v); };
  std::size_t const tokens = n(r.tokens_of_micro_batch()), width = n(r.model.width), value = n(r.value_bytes());
  if (layer == 0)
    return 4 * (r.backend == "cuda" ? 4 * tokens + 2 : tokens) + 8;  // on a GPU with the rows of each token
  if (layer == r.model.layers + 1) {
    auto const stride = r.backend == "cuda" ? (n(r.model.vocabulary) + 63) / 64 * 64 : n(r.model.vocabulary);
    return value * tokens * (width + stride) + 4 * (3 * tokens + 2 * width);
  }
  bool const keeps_probabilities = r.backend == "libtorch" && r.model.attention_dropout > 0;
  std::size_t const probabilities = keeps_probabilities ? 2 * n(r.model.heads) * n(r.sequence_length()) : 0;
  return value * tokens * 15 * width + 4 * (tokens * (n(r.model.heads) + 4 + probabilities) + 4 * width);
}

inline std::vector<int> steady_versions(pw::plan_view const& plan, auto policy, pw::needs wants) {
  using P = typename decltype(policy)::type;
  pw::shape s = plan.facts;
  std::vector<int> versions;
  if constexpr (pw::is_stream(P::weights)) {
    s.batches = (4 * s.ranks + s.micro_batches - 1) / s.micro_batches + 4;  // by then the versions have settled
    auto const settled = pw::make_unrolled_plan<P>(s, wants);
    for (int r = 0; r < s.ranks; ++r) versions.push_back(pw::peak_weight_versions(settled.view(), r));
  } else {
    for (int r = 0; r < s.ranks; ++r) versions.push_back(pw::peak_weight_versions(plan, r));
  }
  return versions;
}

inline void count_bytes(request const& r, prospect& p) {
  pw::plan_view const plan = p.plan;
  auto const ranks = static_cast<std::size_t>(plan.facts.ranks);
  for (auto* each : {&p.activation_bytes, &p.weight_bytes, &p.sent_bytes, &p.parameters}) each->assign(ranks, 0);
  auto const n = [](int v) { return static_cast<std::size_t>(v); };
  std::size_t const boundary =
      n(r.value_bytes()) * n(r.tokens_of_micro_batch()) * n(r.model.width) + sizeof(gpt2::batch_shape);
  std::size_t const tokens = 4 * n(r.tokens_of_micro_batch()) + sizeof(gpt2::batch_shape);
  int layer = 0;
  for (int s = 0, last = plan.stages() - 1; s <= last; ++s) {
    auto const rank = n(plan.rank_of_stage[s]);
    auto const& depth = plan.slots[s];
    std::size_t saved = 0, parameters = 0;
    for (int i = 0; i < p.sizes[n(s)]; ++i, ++layer) {
      saved +=
          saved_bytes(r, layer) + (i > 0 ? boundary : 0);  // a layer keeps its input; the first one's is the stage's
      parameters += parameters_of(r, layer);
    }
    bool const again = plan.wants.recompute != pw::recompute_mode::never;
    p.parameters[rank] += parameters;
    p.weight_bytes[rank] += n(r.weight_bytes()) * parameters * n(plan.weight_buffers[rank]);
    p.activation_bytes[rank] +=
        saved * n(std::max(again ? depth.last_saved : depth.saved, 1) + (again ? depth.recomputed : 0)) +
        ((s == 0 ? tokens : boundary) + (s == last ? tokens : 0)) * n(depth.input);  // the targets of the loss too
    if (s < last)
      p.activation_bytes[rank] +=
          boundary * n(depth.output_gradient + (plan.rank_of_stage[s + 1] != plan.rank_of_stage[s] ? depth.output : 0));
    if (s > 0 && plan.rank_of_stage[s - 1] != plan.rank_of_stage[s])
      p.activation_bytes[rank] += boundary * n(depth.input_gradient);
    for (int neighbour : {s - 1, s + 1})
      if (neighbour >= 0 && neighbour <= last && plan.rank_of_stage[neighbour] != plan.rank_of_stage[s])
        p.sent_bytes[rank] += boundary * n(plan.facts.micro_batches);
  }
}

}  // namespace detail

/// Plans a training; `layers` are the costs of the layers, in whatever unit: the unit of the timeline. Runs nothing.
inline prospect plan_training(request const& r, layer_costs const& layers) {
  prospect p;
  with_schedule(r, [&](auto policy, pw::shape s) {
    using P = typename decltype(policy)::type;
    p.sizes = cut_of(r, s.stages());
    auto const wants = needs_of(r, s.stages());
    p.plan = pw::make_plan<P>(s, wants);
    p.weight_versions = detail::steady_versions(p.plan, policy, wants);
    auto const cost = pw::costs_of(p.plan, {.layers = layers}, p.sizes, {.ranks = s.ranks});
    pw::shape all = s;
    if (pw::is_stream(P::weights)) all.batches = std::clamp(r.steps, 1, 32);
    auto const ending = pw::make_unrolled_plan<P>(all, wants);
    for (int rank = 0; rank < s.ranks; ++rank) p.in_flight.push_back(pw::peak_in_flight(ending, rank));
    auto const predicted = pw::simulate(ending.view(), cost);
    p.bubble = predicted.bubble_of_makespan();
    all.batches = pw::is_stream(P::weights) ? std::min(all.batches, 3) : 1;
    auto const shown = pw::make_unrolled_plan<P>(all, wants);
    p.timeline = pw::trace_of(shown.view(), pw::simulate(shown.view(), cost));
  });
  detail::count_bytes(r, p);
  return p;
}

/// Throws where those ranks of a training would not fit this machine's memory: weights in all versions, gradients, optimizer
/// states and activations.
inline void check_memory(prospect const& p, std::vector<int> const& ranks_here) {
  double need = 0;
  for (int const rank : ranks_here) {
    auto const r = static_cast<std::size_t>(rank);
    need += static_cast<double>(p.weight_bytes[r]) + 4. * 3 * static_cast<double>(p.parameters[r]) +
            static_cast<double>(p.activation_bytes[r]);
  }
  double const have = static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGESIZE));
  if (need > 0.9 * have)
    throw pw::error(fmt::format(
        "this training needs some {:.1f} GB of memory{} and the machine has {:.1f}; choose a smaller model, "
        "fewer sequences or micro-batches, or --recompute always",
        need / 1e9,
        ranks_here.size() == p.parameters.size()
            ? ""
            : fmt::format(" for {} of its {} ranks", ranks_here.size(), p.parameters.size()),
        have / 1e9));
}

/// Hears how a training goes on: a step, its loss and how fast it was, and at times a held-out loss. Says whether it
/// told of it, so that the next speed is that of the steps from here on.
using progress_line =
    std::function<bool(int step, double loss, double tokens_per_second, std::optional<double> held_out)>;

/// All ranks' shares together.
inline outcome joined(pw::plan_view plan, std::vector<share> shares) {
  outcome all;
  std::vector<std::vector<stretch>> stretches;
  std::vector<pw::timed_action> actions;
  for (share& each : shares) {
    if (!each.losses.empty()) all.losses = std::move(each.losses);
    if (!each.held_out.empty()) all.held_out = std::move(each.held_out);
    all.activation_bytes.push_back(each.activation_bytes);
    all.weight_bytes.push_back(each.weight_bytes);
    all.sent_bytes.push_back(each.sent_bytes);
    actions.insert(actions.end(), each.actions.begin(), each.actions.end());
    stretches.push_back(std::move(each.stretches));
    all.weights.merge(each.weights);
  }
  all.step_seconds = shares.front().step_seconds;
  all.tokens_per_second = shares.front().tokens_per_second;
  bool const skip_first = !plan.is_stream() && stretches.front().size() > 1;  // the first step makes the slots
  all.bubble_measured = measured_bubble(stretches, skip_first ? 1 : 0);
  all.timeline = pw::measured_trace(plan, std::move(actions));
  return all;
}

namespace detail {

/// One training.
template<class Set> class training {
  using clock = std::chrono::steady_clock;

 public:
  training(request const& r, prospect const& p, data_set const& data, Set set, progress_line report, origin const& from)
      : r_{r},
        p_{p},
        data_{data},
        set_{std::move(set)},
        report_{std::move(report)},
        from_{from},
        alike_{what_is_alike(r, p.sizes, data, from)} {}

  /// One rank's part, over any transport.
  share run_rank(endpoint& here) {
    for (auto const& words : alike_) here.agree(words);
    share result;
    int const updates_per_step = plan().update_interval() == 1 ? r_.micro_batches : 1;
    meter seen(r_.pace, here.watch());
    auto pipeline = pw::pipeline(plan(), set_, here, optimizer_of(r_, updates_per_step), options_of(r_), seen);
    if (from_.file) load(pipeline);
    batch_source batches(r_, data_);
    if (from_.saved) {
      from_.saved->load(pipeline);
      batches.seek(from_.saved->record().cursor);
    }
    clock::time_point begin{}, lap = clock::now();
    clock::duration aside{};  // looks at the held-out text, checkpoints
    std::size_t sent = 0;
    std::int64_t tokens = 0, tokens_of_lap = 0;
    int const first = from_.steps(), timed_from = r_.steps - first > 1 ? first + 1 : first,
              shown = plan().is_stream() ? 3 : 1;
    for (int step = first; step < r_.steps; ++step) {
      if (step == timed_from) {
        begin = clock::now();
        aside = {};
        tokens = 0;
      }
      seen.recording = step >= r_.steps - shown;
      auto const before = pipeline.bytes_sent();
      pw::step_result told;
      auto const here_tokens = batches.with_next(
          step, [&](auto const& batch) { here.run_step([&] { told = pipeline.step(batch); }, seen.recording); });
      tokens += here_tokens;
      tokens_of_lap += here_tokens;
      bool const last = step + 1 == r_.steps, evaluates = evaluates_after(step), saves = saves_after(step);
      if (evaluates || saves || last) pipeline.drain();
      sent += pipeline.bytes_sent() - before;
      if (evaluates || saves || last || !plan().is_stream()) seen.cut();
      if (last) {
        double const seconds = std::chrono::duration<double>(clock::now() - begin - aside).count();
        result.step_seconds = seconds / (r_.steps - timed_from);
        result.tokens_per_second = seconds > 0 ? static_cast<double>(tokens) / seconds : 0;
      }
      auto const paused = clock::now();
      auto const held_out = evaluates ? judge(pipeline, seen) : std::nullopt;
      if (told.has_loss) {
        if (!std::isfinite(told.loss))
          throw pw::error("the loss is no longer a number; choose a smaller --learning-rate, or --clip 1");
        result.losses.push_back(told.loss);
        if (held_out) result.held_out.push_back({step + 1, *held_out});
        double const seconds = std::chrono::duration<double>(paused - lap).count();
        if (report_(step + 1, told.loss, seconds > 0 ? static_cast<double>(tokens_of_lap) / seconds : 0, held_out)) {
          lap = clock::now();
          tokens_of_lap = 0;
        }
      }
      if (saves) save(pipeline, here, batches.cursor());
      if (here.is_told_to_end())
        throw pw::error(fmt::format("rank {} was told to end by a signal after step {}", here.rank(), step + 1));
      aside += clock::now() - paused;
      lap += clock::now() - paused;
    }
    finish(pipeline, seen, sent, result);
    return result;
  }

 private:
  pw::plan_view plan() const { return p_.plan.view(); }
  bool evaluates_after(int step) const {
    if (r_.has_documents()) return false;
    return step + 1 == r_.steps || (r_.evaluate_every > 0 && (step + 1) % r_.evaluate_every == 0);
  }
  bool saves_after(int step) const {
    if (r_.save.empty()) return false;
    return step + 1 == r_.steps || (r_.save_every > 0 && (step + 1) % r_.save_every == 0);
  }

  std::optional<double> judge(auto& pipeline, meter& seen) {
    seen.count_work(false);
    bool const recording = std::exchange(seen.recording, false);
    auto const judged = pipeline.evaluate(data_.held_out(r_));
    seen.count_work(true);
    seen.recording = recording;
    return judged.has_loss ? std::optional(judged.loss) : std::nullopt;
  }

  void load(auto& pipeline) {
    auto const& file = *from_.file;
    pipeline.for_each_parameter([&](int, std::string_view name, std::span<float> values, pw::parameter_options) {
      file.read(gpt2::name_in(file, r_.tied && name == "lm_head.weight" ? "wte.weight" : std::string(name)), values);
    });
  }

  void save(auto& pipeline, endpoint& here, std::int64_t cursor) {
    gpt2::save_training(r_.save, {.sizes = r_.model, .tied = r_.tied, .end_of_text = data_.end_of_text(r_)},
                        {.cursor = cursor, .settings = r_.settings}, pipeline, here, r_.keep);
  }

  void finish(auto& pipeline, meter& seen, std::size_t sent, share& result) {
    auto const bytes = pipeline.bytes();
    result.activation_bytes = bytes.in_flight();
    result.weight_bytes = bytes.weights;
    result.sent_bytes = sent / static_cast<std::size_t>(r_.steps - from_.steps());
    result.actions = seen.actions();
    result.stretches = std::move(seen.stretches);
    if (r_.sample == 0) return;
    pipeline.for_each_parameter([&](int, std::string_view name, std::span<float> values, pw::parameter_options) {
      result.weights[std::string(name)].assign(values.begin(), values.end());
    });
  }

  request const& r_;
  prospect const& p_;
  data_set const& data_;
  Set set_;
  progress_line report_;
  origin const& from_;
  std::vector<std::string> alike_;
};

}  // namespace detail

/// Trains as planned, on the ranks of `on`, the layers that `model` is the recipe of. The outcome, on rank 0 whole, on others
/// empty.
inline outcome train_layers(auto model, processes const& on, request const& r, prospect const& p, data_set const& data,
                            progress_line report, origin const& from) {
  check_memory(p, on.ranks_here(r.ranks));
  detail::training training(r, p, data, pw::recompute_each(pw::balance(std::move(model), p.sizes), r.recompute),
                            std::move(report), from);
  auto shares = on.run(r, p.plan.view(), [&](endpoint& here) { return training.run_rank(here); });
  return shares.empty() ? outcome{} : joined(p.plan.view(), std::move(shares));
}

inline gpt2::token_loss loss_of(request const& r) {
  return r.counts_tokens() ? gpt2::token_loss::sum : gpt2::token_loss::mean;
}

/// The same of the host's GPT-2.
inline outcome train(processes const& on, request const& r, prospect const& p, data_set const& data,
                     progress_line report, origin const& from = {}) {
  return train_layers(gpt2::model(r.model, loss_of(r)), on, r, p, data, std::move(report), from);
}

}  // namespace trainer
