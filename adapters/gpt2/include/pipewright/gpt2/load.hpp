// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <pipewright/error.hpp>
#include <pipewright/gpt2/parameters.hpp>
#include <pipewright/gpt2/safetensors.hpp>
#include <string>

namespace pipewright::inline v0::gpt2 {

/// Gives a layer the values that a file has under its tensors' names, with or without Hugging Face's `transformer.` in
/// front. A file without `lm_head.weight` (a tied model's) gives `wte.weight` for it. Throws error where a tensor is
/// missing or of another shape.
template<class Backend>
void load(safetensors const& file, parameter_set<Backend>& layer) {
  auto const named = [&](std::string const& name) {
    for (auto const& candidate : {name, "transformer." + name}) {
      if (file.contains(candidate)) return candidate;
    }
    return std::string();
  };
  auto index = 0;
  for (auto const& p : layer.parameters()) {
    auto found = named(p.name);
    if (found.empty() && !p.drawn_as.empty()) found = named(p.drawn_as);
    auto const& tensor = file.at(found.empty() ? p.name : found);
    auto const rows = static_cast<std::uint64_t>(p.rows);
    auto const columns = static_cast<std::uint64_t>(p.columns);
    if (tensor.shape != (p.rows == 1 ? std::vector{columns} : std::vector{rows, columns})) {
      throw error("GPT-2: the file's " + found + " does not have the shape " + std::to_string(rows) + " x " +
                  std::to_string(columns) + " that the model needs; check the model's sizes");
    }
    auto const values = file.floats(found);
    Backend::upload(values.data(), values.size(), layer[index++]);
  }
}

}  // namespace pipewright::inline v0::gpt2
