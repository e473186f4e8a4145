// SPDX-License-Identifier: Apache-2.0
// A model's profile as a JSON file, read and written. Times are seconds for one micro-batch, sizes are bytes:
//
//   { "format": "pipewright-profile", "version": 1,
//     "model": "what was measured, for people",
//     "samples": 2,                                          of the micro-batch that was measured
//     "input_bytes": 512, "target_bytes": 512,
//     "frees_saved": true,                                   once backward is done; false where it is not said
//     "link": {"latency": 5e-06, "bandwidth": 1.2e+10},      seconds, bytes a second (no limit where it is not said); optional
//     "links": [ {"from": 0, "to": 1,                        ranks; those that differ from "link"; optional
//                 "latency": 5e-06, "bandwidth": 1.2e+10}, ... ],
//     "layers": [
//       { "name": "embedding", "forward": 0.0001, "backward_input": 0, "backward_weight": 0.0001, "recompute": 0.0001,
//         "update": 0.00005,                                 one update of its weights; optional
//         "spread": 0.02,                                    between the quartiles of the times, over the median; optional
//         "saved_bytes": 4096, "keeps_input": true,          false where it is not said
//         "output_bytes": 65536, "parameter_bytes": 81920, "gradient_bytes": 81920,
//         "optimizer_bytes": 163840,
//         "workspace_bytes": 8192 }, ... ] }                 of one action at a time, beside all that is held; 0 where it is not said
#pragma once

#include <cmath>
#include <cstddef>
#include <initializer_list>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <pipewright/error.hpp>
#include <pipewright/partition/cluster.hpp>
#include <pipewright/partition/model_profile.hpp>

#include "../tool/schedule_names.hpp"

namespace planner {

namespace pw = pipewright;
using json = nlohmann::ordered_json;

/// A profile and what its file says besides.
struct profile_file {
  std::string model;
  pw::model_profile profile;
  std::optional<pw::device_link> link{};  ///< that ranks have between them; its own ranks count for nothing
  std::vector<pw::device_link> links{};   ///< of certain ranks
  std::vector<double> spread{};           ///< by layer; empty: not said
};

namespace detail {

/// The fields of an object, each asked for once, by its place for messages.
class fields {
 public:
  fields(json const& of, std::string place, std::initializer_list<std::string_view> known)
      : of_{of}, place_{std::move(place)} {
    if (!of.is_object()) fail("is not an object");
    for (auto const& [key, value] : of.items()) {
      bool found = false;
      for (auto const name : known) found = found || name == key;
      if (!found)
        fail(fmt::format("has a field {}, which a profile has not; the fields are {}", tool::in_quotes(key),
                         fmt::join(known, ", ")));
    }
  }
  bool has(char const* name) const { return of_.contains(name); }
  double number(char const* name) const {
    auto const& value = at(name);
    if (!value.is_number()) fail(fmt::format("has no number as '{}'", name));
    auto const x = value.get<double>();
    if (!(x >= 0 && x <= 1e30))
      fail(fmt::format("has {} as '{}', which is a number from 0 to 1e30", value.dump(), name));
    return x;
  }
  int whole_number(char const* name) const {
    double const x = number(name);
    if (x != std::floor(x) || x > 1e9) fail(fmt::format("has no whole number from 0 to 1e9 as '{}'", name));
    return static_cast<int>(x);
  }
  bool truth(char const* name) const {
    auto const& value = at(name);
    if (!value.is_boolean()) fail(fmt::format("has neither true nor false as '{}'", name));
    return value.get<bool>();
  }
  std::string text(char const* name) const {
    auto const& value = at(name);
    if (!value.is_string()) fail(fmt::format("has no text as '{}'", name));
    return value.get<std::string>();
  }
  json const& at(char const* name) const {
    if (!has(name)) fail(fmt::format("lacks '{}'", name));
    return of_.at(name);
  }
  [[noreturn]] void fail(std::string const& what) const { throw pw::error(place_ + " " + what); }

 private:
  json const& of_;
  std::string place_;
};

inline pw::device_link link_of(fields const& of) {
  pw::device_link found{.from = 0, .to = 1, .latency = of.number("latency")};
  if (of.has("bandwidth")) found.bandwidth = of.number("bandwidth");
  if (found.bandwidth <= 0) of.fail("has a bandwidth of 0");
  return found;
}
inline json written(pw::device_link const& link) {
  json all{{"latency", link.latency}};
  if (std::isfinite(link.bandwidth)) all["bandwidth"] = link.bandwidth;
  return all;
}

/// JSON, or a sentence. A field that is there twice is refused: which one was meant?
inline json parse(std::string const& text, std::string const& name) {
  std::vector<std::set<std::string>> open;
  std::string twice;
  auto const watch = [&](int, json::parse_event_t event, json& seen) {
    using enum json::parse_event_t;
    if (event == object_start) open.emplace_back();
    else if (event == object_end) open.pop_back();
    else if (event == key && !open.back().insert(seen.get<std::string>()).second && twice.empty())
      twice = seen.get<std::string>();
    return true;
  };
  json found;
  try {
    found = json::parse(text, watch);
  } catch (json::exception const& fault) {
    std::string const what = fault.what();
    throw pw::error(fmt::format("{} is not JSON: {}", name, what.substr(std::min(what.find("] ") + 2, what.size()))));
  }
  if (!twice.empty())
    throw pw::error(fmt::format("{} has the field {} twice in one object", name, tool::in_quotes(twice)));
  return found;
}

}  // namespace detail

/// Throws pipewright::error, with the file's name and the place, where the text is no profile.
inline profile_file read_profile(std::string const& text, std::string const& name) {
  auto const all = detail::parse(text, name);
  detail::fields const top(all, name,
                           {"format", "version", "model", "samples", "input_bytes", "target_bytes", "frees_saved",
                            "link", "links", "layers"});
  if (top.text("format") != "pipewright-profile")
    top.fail("is not a profile: its 'format' is not 'pipewright-profile'");
  if (top.number("version") != 1)
    top.fail(fmt::format("is of version {}; this program reads version 1", top.at("version").dump()));
  profile_file read;
  read.model = top.has("model") ? top.text("model") : "";
  double const samples = top.number("samples");
  if (samples < 1 || samples > 1e9 || samples != std::floor(samples))
    top.fail("has no whole number from 1 on as 'samples'");
  read.profile.samples = static_cast<int>(samples);
  read.profile.input = top.number("input_bytes");
  read.profile.target = top.number("target_bytes");
  read.profile.frees_saved = top.has("frees_saved") && top.truth("frees_saved");
  if (top.has("link")) read.link = detail::link_of({top.at("link"), name + ": link", {"latency", "bandwidth"}});
  if (top.has("links")) {
    auto const& links = top.at("links");
    if (!links.is_array()) top.fail("has no list as 'links'");
    for (std::size_t i = 0; i < links.size(); ++i) {
      detail::fields const of(links[i], fmt::format("{}: link {}", name, i), {"from", "to", "latency", "bandwidth"});
      auto found = detail::link_of(of);
      found.from = of.whole_number("from");
      found.to = of.whole_number("to");
      if (found.from == found.to) of.fail("joins a rank with itself");
      for (auto const& other : read.links)
        if (std::minmax(other.from, other.to) == std::minmax(found.from, found.to))
          of.fail(fmt::format("is another one of ranks {} and {}", found.from, found.to));
      read.links.push_back(found);
    }
  }
  auto const& layers = top.at("layers");
  if (!layers.is_array() || layers.empty()) top.fail("has no list of at least one layer as 'layers'");
  if (layers.size() > static_cast<std::size_t>(pw::max_stages))
    top.fail(fmt::format("has {} layers, more than {}", layers.size(), pw::max_stages));
  for (std::size_t i = 0; i < layers.size(); ++i) {
    detail::fields const of(
        layers[i], fmt::format("{}: layer {}", name, i),
        {"name", "forward", "backward_input", "backward_weight", "recompute", "update", "spread", "saved_bytes",
         "keeps_input", "output_bytes", "parameter_bytes", "gradient_bytes", "optimizer_bytes", "workspace_bytes"});
    read.profile.layers.push_back({.name = of.has("name") ? of.text("name") : "",
                                   .forward = of.number("forward"),
                                   .backward_input = of.number("backward_input"),
                                   .backward_weight = of.number("backward_weight"),
                                   .recompute = of.has("recompute") ? of.number("recompute") : of.number("forward"),
                                   .update = of.has("update") ? of.number("update") : 0,
                                   .saved = of.number("saved_bytes"),
                                   .output = of.number("output_bytes"),
                                   .parameters = of.number("parameter_bytes"),
                                   .gradients = of.number("gradient_bytes"),
                                   .optimizer = of.number("optimizer_bytes"),
                                   .workspace = of.has("workspace_bytes") ? of.number("workspace_bytes") : 0,
                                   .keeps_input = of.has("keeps_input") && of.truth("keeps_input")});
    if (of.has("spread")) {
      read.spread.resize(layers.size());
      read.spread[i] = of.number("spread");
    }
  }
  try {
    pw::check(read.profile);
  } catch (pw::error const& fault) {
    throw pw::error(name + ": " + fault.what());
  }
  return read;
}

/// As a file's text, which read_profile() reads back to the last bit.
inline std::string written(profile_file const& of) {
  json all;
  all["format"] = "pipewright-profile";
  all["version"] = 1;
  all["model"] = of.model;
  all["samples"] = of.profile.samples;
  all["input_bytes"] = of.profile.input;
  all["target_bytes"] = of.profile.target;
  if (of.profile.frees_saved) all["frees_saved"] = true;
  if (of.link) all["link"] = detail::written(*of.link);
  for (auto const& each : of.links) {
    json link{{"from", each.from}, {"to", each.to}};
    link.update(detail::written(each));
    all["links"].push_back(std::move(link));
  }
  for (std::size_t i = 0; i < of.profile.layers.size(); ++i) {
    auto const& l = of.profile.layers[i];
    json layer{{"name", l.name},
               {"forward", l.forward},
               {"backward_input", l.backward_input},
               {"backward_weight", l.backward_weight},
               {"recompute", l.recompute},
               {"update", l.update}};
    if (!of.spread.empty()) layer["spread"] = of.spread[i];
    layer.update(json{{"saved_bytes", l.saved},
                      {"output_bytes", l.output},
                      {"parameter_bytes", l.parameters},
                      {"gradient_bytes", l.gradients},
                      {"optimizer_bytes", l.optimizer},
                      {"workspace_bytes", l.workspace},
                      {"keeps_input", l.keeps_input}});
    all["layers"].push_back(std::move(layer));
  }
  return all.dump(1) + "\n";
}

}  // namespace planner
