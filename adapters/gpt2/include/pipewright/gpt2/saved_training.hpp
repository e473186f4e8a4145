// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <pipewright/error.hpp>
#include <pipewright/gpt2/hugging_face.hpp>
#include <pipewright/gpt2/load.hpp>
#include <pipewright/gpt2/save.hpp>
#include <pipewright/gpt2/tensors.hpp>
#include <pipewright/gpt2/training_record.hpp>
#include <pipewright/safetensors/checkpoint.hpp>
#include <pipewright/safetensors/file.hpp>

namespace pipewright::inline v0::gpt2 {

/// A checkpoint of a training, as save_training() writes it: opened and checked as a whole, read by each rank as far as its
/// layers go.
class saved_training {
 public:
  /// The checkpoint in a folder, or the newest of a training's folder. Throws error where there is none, or where it is not
  /// whole and of one piece.
  explicit saved_training(std::filesystem::path const& folder)
      : folder_(find_checkpoint(folder)),
        record_(read_record(folder_)),
        model_(read_configuration(folder_)),
        weights_(folder_) {
    check(weights_, model_);
    auto const layers = tensors_by_layer(model_.sizes);
    auto const count = static_cast<int>(layers.size());
    for (int i = 0; i < count; ++i) {
      auto const& layer = layers[static_cast<std::size_t>(i)];
      auto const& states = states_.emplace_back(folder_ / detail::optimizer_file_name(i + 1, count));
      for (auto const& p : layer) {
        layer_of_.emplace(p.name, i);
        check_states(states, p);
      }
      if (states.tensors().size() != layer.size() * record_.states)
        fail(states, "holds other tensors than those of its layer's " + std::to_string(layer.size()) + " parameters");
      updates_.push_back(updates_in(states));
    }
  }

  /// The checkpoint's own folder.
  [[nodiscard]] auto folder() const noexcept -> std::filesystem::path const& { return folder_; }
  [[nodiscard]] auto record() const noexcept -> training_record const& { return record_; }
  [[nodiscard]] auto model() const noexcept -> hugging_face_model const& { return model_; }
  /// Updates that have changed a layer: 0 the embedding, then the blocks, then the head.
  [[nodiscard]] auto updates(int layer) const -> std::int64_t { return updates_[static_cast<std::size_t>(layer)]; }

  /// Puts a rank's pipeline where the training was; the cut may be another than the one it was saved with. Where embedding
  /// and head are one weight in the file, both get it. Throws error where they do not fit.
  void load(auto& pipeline) const {
    std::map<int, std::int64_t> updates;
    pipeline.for_each_state(
        [&](int stage, std::string_view name, std::span<float> values, parameter_options, auto const& states) {
          auto const found = layer_of_.find(name);
          if (found == layer_of_.end() || states.size() != record_.states)
            throw error("checkpoint " + folder_.string() + " has no " + std::string(name) + " with " +
                        std::to_string(states.size()) +
                        " arrays of an optimizer; resume with the model and optimizer of it");
          weights_.read(name_in(weights_, std::string(name)), values);
          auto const layer = static_cast<std::size_t>(found->second);
          for (std::size_t i = 0; i < states.size(); ++i)
            states_[layer].read(detail::state_name(hugging_face_name(name), i), states[i]);
          if (updates.emplace(stage, updates_[layer]).first->second != updates_[layer])
            throw error("checkpoint " + folder_.string() + " has layers of stage " + std::to_string(stage) +
                        " that have seen different numbers of updates; resume with the cut that it was saved with");
        });
    pipeline.resume(record_.steps, [&](int stage) { return updates.at(stage); });
  }

 private:
  [[noreturn]] static void fail(safetensors::file const& of, std::string const& what) {
    throw error("optimizer file " + of.name() + " " + what + "; take a checkpoint that is whole");
  }

  void check_states(safetensors::file const& from, parameter const& p) const {
    for (std::size_t i = 0; i < record_.states; ++i) {
      auto const name = detail::state_name(hugging_face_name(p.name), i);
      if (!from.contains(name)) fail(from, "has no tensor " + name);
      auto const& t = from.at(name);
      if (t.type != safetensors::value_type::f32 || t.shape != shape_of(p))
        fail(from, "has a tensor " + name + " that is not of its parameter's shape, in F32");
    }
  }

  static auto updates_in(safetensors::file const& from) -> std::int64_t {
    auto const found = from.metadata().find("updates");
    std::int64_t updates = -1;
    if (found != from.metadata().end()) {
      auto const& text = found->second;
      auto const code = std::from_chars(text.data(), text.data() + text.size(), updates).ec;
      if (code != std::errc{} || std::to_string(updates) != text) updates = -1;
    }
    if (updates < 0 || updates > std::int64_t{1} << 53) fail(from, "does not say how many updates there were");
    return updates;
  }

  std::filesystem::path folder_;
  training_record record_;
  hugging_face_model model_;
  safetensors::checkpoint weights_;
  std::vector<safetensors::file> states_;  ///< by layer
  std::vector<std::int64_t> updates_;      ///< by layer
  std::map<std::string, int, std::less<>> layer_of_;
};

}  // namespace pipewright::inline v0::gpt2
