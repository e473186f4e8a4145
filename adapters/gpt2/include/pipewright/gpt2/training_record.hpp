// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <system_error>

#include <pipewright/error.hpp>
#include <pipewright/safetensors/checkpoint.hpp>
#include <pipewright/safetensors/durable_file.hpp>
#include <pipewright/safetensors/json_reader.hpp>
#include <pipewright/safetensors/json_text.hpp>
#include <pipewright/safetensors/mapped_file.hpp>
#include <pipewright/safetensors/utf8.hpp>

namespace pipewright::inline v0::gpt2 {

// A training is saved as folders `step-<number>` of one folder. Each is a model of Hugging Face's (config.json, a shard of
// weights for each layer and their index) with two things more: training.json, and for each layer a file of what the
// optimizer keeps of it. Nothing in it knows how many ranks there were.

/// What a checkpoint of a training says besides weights and what the optimizer keeps of them: its training.json.
struct training_record {
  std::int64_t steps = 0;                         ///< done
  std::int64_t cursor = 0;                        ///< into the data: document_batches::cursor()
  std::size_t states = 0;                         ///< arrays that the optimizer keeps of each parameter
  std::map<std::string, std::string> settings{};  ///< what the training was started with, in its program's words

  friend bool operator==(training_record const&, training_record const&) = default;
};

/// The name of what says all this in the folder of a checkpoint.
inline constexpr std::string_view record_file_name = "training.json";

/// Writes a record into a folder.
inline void write_record(std::filesystem::path const& folder, training_record const& r) {
  auto text = "{\n  \"format\": 1,\n  \"steps\": " + std::to_string(r.steps) +
              ",\n  \"cursor\": " + std::to_string(r.cursor) +
              ",\n  \"optimizer_states\": " + std::to_string(r.states) + ",\n  \"settings\": {";
  auto const* separator = "\n";
  for (auto const& [key, value] : r.settings) {
    text += separator + ("    " + safetensors::in_json(key)) + ": " + safetensors::in_json(value);
    separator = ",\n";
  }
  safetensors::write_durably(folder / record_file_name, text + "\n  }\n}\n");
}

/// Reads the record of a folder. Throws error where it cannot be read or is not well formed.
[[nodiscard]] inline auto read_record(std::filesystem::path const& folder) -> training_record {
  auto const path = folder / record_file_name;
  auto const mapped = safetensors::mapped_file(path, "record of a training");
  auto in = safetensors::json_reader(mapped.text(), "record of a training " + path.string());
  training_record r;
  std::set<std::string> seen;
  auto const count = [&](char const* of, std::int64_t most) {
    auto const value = in.integer();
    if (value < 0 || value > most) in.fail(std::string("there cannot be ") + std::to_string(value) + " " + of);
    return value;
  };
  in.object([&](std::string const& key) {
    if (!seen.insert(key).second) in.fail(safetensors::shown(key) + " stands twice");
    if (key == "format") {
      if (auto const format = in.integer(); format != 1)
        in.fail("its format is " + std::to_string(format) + " and only 1 is known");
    } else if (key == "steps") {
      r.steps = count("steps", std::int64_t{1} << 53);
    } else if (key == "cursor") {
      r.cursor = count("sequences", std::int64_t{1} << 53);
    } else if (key == "optimizer_states") {
      r.states = static_cast<std::size_t>(count("optimizer states", 16));
    } else if (key == "settings") {
      in.object([&](std::string const& name) {
        if (!r.settings.emplace(name, in.string()).second) in.fail(safetensors::shown(name) + " stands twice");
      });
    } else {
      in.fail("it has an unknown field " + safetensors::shown(key));
    }
  });
  in.end();
  for (auto const* key : {"format", "steps", "cursor", "optimizer_states", "settings"}) {
    if (!seen.contains(key)) in.fail(std::string("there is no ") + key);
  }
  return r;
}

/// The folder of a checkpoint, below that of its training.
[[nodiscard]] inline auto checkpoint_name(std::int64_t steps) -> std::string { return "step-" + std::to_string(steps); }

/// The number of steps in a name that checkpoint_name() gives.
[[nodiscard]] inline auto steps_in(std::string_view name) -> std::optional<std::int64_t> {
  std::int64_t steps = 0;
  if (!name.starts_with("step-")) return {};
  auto const digits = name.substr(5);
  auto const [end, code] = std::from_chars(digits.data(), digits.data() + digits.size(), steps);
  if (code != std::errc{} || end != digits.data() + digits.size() || checkpoint_name(steps) != name) return {};
  return steps;
}

/// Steps of the newest checkpoint in the folder of a training, if it has any.
[[nodiscard]] inline auto newest_checkpoint(std::filesystem::path const& folder) -> std::optional<std::int64_t> {
  std::optional<std::int64_t> newest;
  std::error_code code;
  for (auto const& each : std::filesystem::directory_iterator(folder, code)) {
    auto const steps = steps_in(each.path().filename().string());
    if (steps && (!newest || *steps > *newest)) newest = steps;
  }
  return newest;
}

/// A checkpoint's own folder: this one, or the newest in it. Throws error where there is none.
[[nodiscard]] inline auto find_checkpoint(std::filesystem::path const& folder) -> std::filesystem::path {
  if (std::filesystem::exists(folder / record_file_name)) return folder;
  if (auto const steps = newest_checkpoint(folder)) return folder / checkpoint_name(*steps);
  throw error("folder " + folder.string() + " holds no checkpoint of a training: neither " +
              std::string(record_file_name) + " nor a folder step-<number>; check the path");
}

namespace detail {

/// The file of what an optimizer keeps of a layer: `number` from 1, of `count`.
inline auto optimizer_file_name(int number, int count) -> std::string {
  return "optimizer" + safetensors::shard_name(number, count).substr(5);
}

/// In it, the name of an array of a parameter, which is named as Hugging Face does.
inline auto state_name(std::string const& parameter, std::size_t number) -> std::string {
  return parameter + ".state_" + std::to_string(number);
}

}  // namespace detail

}  // namespace pipewright::inline v0::gpt2
