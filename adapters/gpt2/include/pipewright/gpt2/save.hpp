// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <pipewright/error.hpp>
#include <pipewright/gpt2/hugging_face.hpp>
#include <pipewright/gpt2/load.hpp>
#include <pipewright/gpt2/parameters.hpp>
#include <pipewright/gpt2/tensors.hpp>
#include <pipewright/safetensors/checkpoint.hpp>
#include <pipewright/safetensors/write.hpp>

namespace pipewright::inline v0::gpt2 {

/// Hugging Face's name of a parameter in a GPT2LMHeadModel.
[[nodiscard]] inline auto hugging_face_name(std::string_view name) -> std::string {
  return (name == "lm_head.weight" ? "" : "transformer.") + std::string(name);
}

/// A model's values by name, wherever they stand in host memory.
using named_values = std::map<std::string, std::span<float const>, std::less<>>;

/// The tensors of a model as a file of Hugging Face's holds them, in the model's order; `lm_head.weight` only where it is not
/// tied. Throws error where one is missing, of another size, or where a tied head is not the embedding, bit for bit.
[[nodiscard]] inline auto file_tensors(hugging_face_model const& model, named_values const& values)
    -> std::vector<safetensors::tensor_view> {
  check(model.sizes);
  auto const at = [&](std::string const& name) {
    auto const found = values.find(name);
    if (found == values.end())
      throw error("GPT-2: there are no values of " + name + " to save; give all of the model's");
    return found->second;
  };
  std::vector<safetensors::tensor_view> tensors;
  for (auto const& p : all_tensors(model.sizes)) {
    if (p.name == "lm_head.weight" && model.tied) {
      auto const head = values.find(p.name);
      if (head != values.end() && !std::ranges::equal(std::as_bytes(head->second), std::as_bytes(at("wte.weight")))) {
        throw error("GPT-2: lm_head.weight is not wte.weight, and cannot be saved as tied to it; save it as its own");
      }
      continue;
    }
    auto const from = at(p.name);
    if (from.size() != p.size()) {
      throw error("GPT-2: there are " + std::to_string(from.size()) + " values of " + p.name +
                  " to save, and the model has " + std::to_string(p.size()) + "; check the model's sizes");
    }
    tensors.emplace_back(hugging_face_name(p.name), shape_of(p), from);
  }
  return tensors;
}

/// Saves a model so that transformers opens the folder: config.json, and model.safetensors or shards of at most `largest`
/// bytes with their index. Each file is whole or not there; to keep a model that stands in the folder until the new one is
/// whole, save into a new folder. Throws error as file_tensors does, and where a file cannot be written.
inline void save(std::filesystem::path const& folder, hugging_face_model const& model, named_values const& values,
                 std::uint64_t largest = UINT64_MAX) {
  safetensors::write_folder(folder, file_tensors(model, values), largest);
  write_configuration(folder, model);
}

}  // namespace pipewright::inline v0::gpt2
