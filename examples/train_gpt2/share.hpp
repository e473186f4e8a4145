// SPDX-License-Identifier: Apache-2.0
// What one rank brings to an outcome, and how it comes to the rank that tells of it.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <pipewright/trace/recorder.hpp>

#include "endpoint.hpp"
#include "meter.hpp"
#include "sample.hpp"

namespace trainer {

struct held_out_loss {
  int step;
  double loss;
  double perplexity() const { return std::exp(loss); }
};

struct share {
  std::vector<double> losses;  ///< where the rank runs the loss stage
  std::vector<held_out_loss> held_out;
  double step_seconds = 0, tokens_per_second = 0;
  std::size_t activation_bytes = 0, weight_bytes = 0, sent_bytes = 0;
  std::vector<pw::timed_action> actions;
  std::vector<stretch> stretches;
  named_weights weights;
};

namespace detail {

template<class T> nlohmann::json bytes_of(std::vector<T> const& values) {
  auto const* const from = reinterpret_cast<std::uint8_t const*>(values.data());
  return nlohmann::json::binary({from, from + values.size() * sizeof(T)});
}
template<class T> std::vector<T> values_of(nlohmann::json const& bytes) {
  auto const& from = bytes.get_binary();
  std::vector<T> values(from.size() / sizeof(T));
  if (!from.empty()) std::memcpy(values.data(), from.data(), from.size());
  return values;
}

/// A share as bytes, for processes of one program on machines of one kind.
inline std::vector<std::uint8_t> packed(share const& s) {
  nlohmann::json j{{"losses", bytes_of(s.losses)},
                   {"held_out", bytes_of(s.held_out)},
                   {"step_seconds", s.step_seconds},
                   {"tokens_per_second", s.tokens_per_second},
                   {"activation_bytes", s.activation_bytes},
                   {"weight_bytes", s.weight_bytes},
                   {"sent_bytes", s.sent_bytes},
                   {"actions", bytes_of(s.actions)},
                   {"stretches", bytes_of(s.stretches)},
                   {"weights", nlohmann::json::object()}};
  for (auto const& [name, values] : s.weights) j["weights"][name] = bytes_of(values);
  return nlohmann::json::to_cbor(j);
}
inline share unpacked(std::vector<std::uint8_t> const& bytes) {
  auto const j = nlohmann::json::from_cbor(bytes);
  share s{.losses = values_of<double>(j["losses"]),
          .held_out = values_of<held_out_loss>(j["held_out"]),
          .step_seconds = j["step_seconds"],
          .tokens_per_second = j["tokens_per_second"],
          .activation_bytes = j["activation_bytes"],
          .weight_bytes = j["weight_bytes"],
          .sent_bytes = j["sent_bytes"],
          .actions = values_of<pw::timed_action>(j["actions"]),
          .stretches = values_of<stretch>(j["stretches"]),
          .weights = {}};
  for (auto const& [name, values] : j["weights"].items()) s.weights[name] = values_of<float>(values);
  return s;
}

}  // namespace detail

/// The shares of all ranks on rank 0, none on others. All call it together, once their pipelines are at rest: channels are
/// first-in, first-out, and every send and post on one that a pipeline shared is then through. A rank that failed does not
/// come here; its endpoint's end stops those that do. Weights travel as any value does, in pieces where they are many.
inline std::vector<share> gathered(endpoint& here, share mine) {
  auto const channel = [&](int from) {
    return here.open({.source = from, .destination = 0, .carries = pw::traffic::activation});
  };
  if (here.rank() != 0) {
    auto bytes = detail::packed(mine);
    here.wait(here.send(channel(here.rank()), pw::message_of(bytes)));
    return {};
  }
  std::vector<std::vector<std::uint8_t>> others(static_cast<std::size_t>(here.size() - 1));
  std::vector<pw::ticket> tickets;
  for (auto& each : others)
    tickets.push_back(here.post(channel(static_cast<int>(tickets.size()) + 1), pw::message_of(each)));
  for (auto const each : tickets) here.wait(each);
  std::vector<share> all;
  all.push_back(std::move(mine));
  for (auto const& each : others) all.push_back(detail::unpacked(each));
  return all;
}

}  // namespace trainer
