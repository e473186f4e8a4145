// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>
#include <vector>

#include <pipewright/error.hpp>
#include <pipewright/gpt2/parameters.hpp>
#include <pipewright/gpt2/safetensors.hpp>

namespace pipewright::inline v0::gpt2 {

/// The name under which a file holds a parameter: its own, with or without Hugging Face's `transformer.` in front. A file
/// without `lm_head.weight` (a tied model's) holds it as `wte.weight`. Throws error where there is none.
[[nodiscard]] inline auto name_in(safetensors const& file, std::string const& name) -> std::string {
  for (auto const& candidate : {name, "transformer." + name}) {
    if (file.contains(candidate)) return candidate;
  }
  if (name == "lm_head.weight") return name_in(file, "wte.weight");
  static_cast<void>(file.at(name));  // throws
  return name;
}

/// Gives a layer the values that a file has under its tensors' names. Throws error where a tensor is missing or of another
/// shape.
template<class Backend>
void load(safetensors const& file, parameter_set<Backend>& layer) {
  auto index = 0;
  for (auto const& p : layer.parameters()) {
    auto const name = name_in(file, p.name);
    auto const rows = static_cast<std::uint64_t>(p.rows);
    auto const columns = static_cast<std::uint64_t>(p.columns);
    if (file.at(name).shape != (p.rows == 1 ? std::vector{columns} : std::vector{rows, columns})) {
      throw error("GPT-2: the file's " + name + " does not have the shape " + std::to_string(rows) + " x " +
                  std::to_string(columns) + " that the model needs; check the model's sizes");
    }
    auto const values = file.floats(name);
    Backend::upload(values.data(), values.size(), layer[index++]);
  }
}

}  // namespace pipewright::inline v0::gpt2
