// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <pipewright/error.hpp>
#include <pipewright/gpt2/hugging_face.hpp>
#include <pipewright/gpt2/parameters.hpp>
#include <pipewright/gpt2/tensors.hpp>
#include <pipewright/safetensors/checkpoint.hpp>
#include <pipewright/safetensors/file.hpp>

namespace pipewright::inline v0::gpt2 {

/// Tensors by name: a safetensors::file, or a safetensors::checkpoint of several.
template<class T>
concept tensor_source = requires(T const& from, std::string const& name, std::span<float> to) {
  { from.name() } -> std::convertible_to<std::string>;
  { from.contains(name) } -> std::same_as<bool>;
  { from.at(name) } -> std::same_as<safetensors::tensor const&>;
  { from.bytes(name) } -> std::same_as<std::span<std::byte const>>;
  from.read(name, to);
};

/// The name under which a file holds a parameter: its own, with or without Hugging Face's `transformer.` in front. A file
/// without `lm_head.weight` (a tied model's) holds it as `wte.weight`. Throws error where there is none.
[[nodiscard]] auto name_in(tensor_source auto const& from, std::string const& name) -> std::string {
  for (auto const& candidate : {name, "transformer." + name}) {
    if (from.contains(candidate)) return candidate;
  }
  if (name == "lm_head.weight") return name_in(from, "wte.weight");
  static_cast<void>(from.at(name));  // throws
  return name;
}

/// The shape of a parameter in a file.
[[nodiscard]] inline auto shape_of(parameter const& p) -> std::vector<std::uint64_t> {
  auto const columns = static_cast<std::uint64_t>(p.columns);
  auto const is_vector = p.name.ends_with(".bias") || p.name.find("ln_") != std::string::npos;
  if (is_vector) return {columns};
  return {static_cast<std::uint64_t>(p.rows), columns};
}

namespace detail {

/// A shape for sentences: 54 x 32.
inline auto spelled(std::vector<std::uint64_t> const& shape) -> std::string {
  if (shape.empty()) return "of a single value";
  if (shape.size() > 8) return "of " + std::to_string(shape.size()) + " extents";
  std::string text;
  for (auto const extent : shape) text += (text.empty() ? "" : " x ") + std::to_string(extent);
  return text;
}

/// The name in a file of a parameter that has its shape there.
auto fitting_name_in(tensor_source auto const& from, parameter const& p) -> std::string {
  auto name = name_in(from, p.name);
  if (auto const& found = from.at(name).shape; found != shape_of(p)) {
    throw error("GPT-2: " + name + " of " + from.name() + " has the shape " + spelled(found) + " instead of " +
                spelled(shape_of(p)) + " that the model needs; check the model's sizes");
  }
  return name;
}

/// Older files keep the attention's causal mask, which is no weight: `h.<i>.attn.bias` and `.attn.masked_bias`.
inline auto is_causal_mask(std::string_view name) -> bool {
  return name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias");
}

}  // namespace detail

/// The names in a file of all of a model's tensors. Throws error where one is missing or of another shape.
[[nodiscard]] auto names_in(tensor_source auto const& from, configuration const& sizes) -> std::set<std::string> {
  std::set<std::string> names;
  auto const find = [&](std::vector<parameter> const& tensors) {
    for (auto const& p : tensors) names.insert(detail::fitting_name_in(from, p));
  };
  find(embedding_tensors(sizes));
  for (int i = 0; i < sizes.layers; ++i) find(block_tensors(sizes, i));  // the first that is missing throws
  find(head_tensors(sizes));
  return names;
}

/// Throws error unless a checkpoint holds this model and nothing else: each tensor once, in its shape, as floats; where
/// embedding and head are one weight, not two different ones. Reads no values but those of such a head.
inline void check(safetensors::checkpoint const& from, hugging_face_model const& model) {
  check(model.sizes);
  auto const known = names_in(from, model.sizes);
  for (auto const& name : from.names()) {
    if (known.contains(name) || detail::is_causal_mask(name)) continue;
    throw error("GPT-2: checkpoint " + from.name() + " holds " + safetensors::shown(name) +
                ", which is no tensor of a GPT-2 of " + std::to_string(model.sizes.layers) +
                " layers, or holds it twice; check that config.json belongs to it");
  }
  auto const head = name_in(from, "lm_head.weight"), table = name_in(from, "wte.weight");
  if (model.tied && head != table && !std::ranges::equal(from.bytes(head), from.bytes(table))) {
    throw error("GPT-2: checkpoint " + from.name() + " has a " + head + " that is not its " + table +
                ", though config.json says that they are one; set tie_word_embeddings to false");
  }
}

/// Gives a layer the values that a file has under its tensors' names. Throws error where a tensor is missing or of another
/// shape.
template<class Memory>
void load(tensor_source auto const& from, parameter_set<Memory>& layer) {
  auto index = 0;
  std::vector<float> values;
  for (auto const& p : layer.parameters()) {
    auto const name = detail::fitting_name_in(from, p);
    values.resize(p.size());
    from.read(name, values);
    layer.write(index++, values);
  }
}

}  // namespace pipewright::inline v0::gpt2
