// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include <pipewright/trace/text.hpp>
#include <pipewright/trace/timeline.hpp>

namespace pipewright::inline v0 {

namespace detail {

/// A trace in the Trace Event Format: a thread a rank.
class trace_event_writer {
 public:
  explicit trace_event_writer(trace const& t) : trace_{t} {
    for (auto const& a : t.actions) begin_ = std::min(begin_, a.begin);
    if (t.actions.empty()) begin_ = 0;
  }

  void write(auto&& append) const {
    append("{\"displayTimeUnit\":\"ms\",\"otherData\":{\"title\":" + trace_text::json(trace_.title) +
           "},\"traceEvents\":[\n{\"ph\":\"M\",\"name\":\"process_name\",\"pid\":0,\"args\":{\"name\":" +
           trace_text::json(trace_.title) + "}}");
    for (int r = 0; r < trace_.ranks; ++r) {
      auto const head = ",\n{\"ph\":\"M\",\"pid\":0,\"tid\":" + std::to_string(r) + ",\"name\":";
      append(head + "\"thread_name\",\"args\":{\"name\":\"rank " + std::to_string(r) + "\"}}" + head +
             "\"thread_sort_index\",\"args\":{\"sort_index\":" + std::to_string(r) + "}}");
    }
    std::vector<int> held(static_cast<std::size_t>(trace_.ranks));
    for (auto const& a : trace_.actions) {
      event(append, a);
      auto& in_flight = held[a.rank];
      if (a.ran.what.what == kind::forward) ++in_flight;
      else if (gives_weight_gradient(a.ran.what.what)) --in_flight;
      else continue;
      append(",\n{\"ph\":\"C\",\"name\":\"in flight, rank " + std::to_string(a.rank) +
             "\",\"pid\":0,\"ts\":" + at(a.ran.what.what == kind::forward ? a.begin : a.end) +
             ",\"args\":{\"chunks\":" + std::to_string(in_flight) + "}}");
    }
    arrows(append);
    append(std::string_view("\n]}\n"));
  }

 private:
  /// Microseconds; a unit of cost is shown as a millisecond.
  double micro(double time) const { return time * (trace_.unit == time_unit::seconds ? 1e6 : 1e3); }
  std::string at(double time) const { return trace_text::number(micro(time - begin_), 3); }

  void event(auto&& append, timed_action const& a) const {
    action const what = a.ran.what;
    bool const moment = a.end <= a.begin;
    std::string line = ",\n{\"ph\":\"" + std::string(moment ? "i" : "X") + "\",\"name\":\"" +
                       std::string(action_text(what).view()) + "\",\"cat\":\"" +
                       std::string(trace_text::words(what.what)) + "\",\"pid\":0,\"tid\":" + std::to_string(a.rank) +
                       ",\"ts\":" + at(a.begin);
    line += moment ? std::string(",\"s\":\"t\"") : ",\"dur\":" + trace_text::number(micro(a.end - a.begin), 3);
    if (auto const colour = colour_of(what.what); !colour.empty()) line += ",\"cname\":\"" + std::string(colour) + "\"";
    line +=
        ",\"args\":{\"stage\":" + std::to_string(what.stage) + ",\"micro_batch\":" + std::to_string(what.micro_batch);
    if (is_compute(what.what) || what.what == kind::update) line += ",\"version\":" + std::to_string(a.ran.version);
    append(line + "}}");
  }

  /// Names from the palette of chrome://tracing; Perfetto colours by name.
  static std::string_view colour_of(kind k) {
    switch (k) {
      case kind::forward: return "thread_state_runnable";
      case kind::backward: return "thread_state_iowait";
      case kind::backward_input: return "yellow";
      case kind::backward_weight: return "thread_state_running";
      case kind::recompute: return "thread_state_sleeping";
      default: return "";
    }
  }

  /// Arrows from each action to the one on another rank that reads its result.
  void arrows(auto&& append) const {
    std::unordered_map<std::uint64_t, timed_action const*> producers;
    auto key = [](bool forward, int stage, int micro_batch) {
      return std::uint64_t{forward} << 63 | static_cast<std::uint64_t>(stage + 1) << 32 |
             static_cast<std::uint32_t>(micro_batch);
    };
    for (auto const& a : trace_.actions) {
      auto const what = a.ran.what.what;
      if (what == kind::forward || gives_input_gradient(what))
        producers[key(what == kind::forward, a.ran.what.stage, a.ran.what.micro_batch)] = &a;
    }
    std::size_t id = 0;
    for (auto const& a : trace_.actions) {
      auto const what = a.ran.what.what;
      if (what != kind::forward && !gives_input_gradient(what)) continue;
      auto const from = producers.find(
          key(what == kind::forward, a.ran.what.stage + (what == kind::forward ? -1 : 1), a.ran.what.micro_batch));
      if (from == producers.end() || from->second->rank == a.rank) continue;
      auto const& p = *from->second;
      auto const common = "\"name\":\"" + std::string(what == kind::forward ? "activation" : "gradient") +
                          "\",\"cat\":\"transfer\",\"pid\":0,\"id\":" + std::to_string(id++);
      append(",\n{\"ph\":\"s\"," + common + ",\"tid\":" + std::to_string(p.rank) +
             ",\"ts\":" + at((p.begin + p.end) / 2) + "},\n{\"ph\":\"f\",\"bp\":\"e\"," + common +
             ",\"tid\":" + std::to_string(a.rank) + ",\"ts\":" + at((a.begin + a.end) / 2) + "}");
    }
  }

  trace const& trace_;
  double begin_ = 1e300;
};

}  // namespace detail

/// A trace as JSON for Perfetto (ui.perfetto.dev) and chrome://tracing in append(std::string_view) pieces: a track a
/// rank, each action with stage, micro-batch and weight version, arrows along the transfers, counters of what is in
/// flight. A unit of cost is written as a millisecond. Linear.
void write_perfetto(trace const& t, auto&& append) { detail::trace_event_writer(t).write(append); }

/// The same as one text.
inline std::string perfetto_of(trace const& t) {
  std::string text;
  write_perfetto(t, [&](std::string_view piece) { text += piece; });
  return text;
}

}  // namespace pipewright::inline v0
