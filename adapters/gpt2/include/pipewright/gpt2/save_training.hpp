// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <filesystem>
#include <map>
#include <optional>
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
#include <pipewright/safetensors/durable_file.hpp>
#include <pipewright/safetensors/write.hpp>
#include <pipewright/transport/transport.hpp>

namespace pipewright::inline v0::gpt2 {

namespace detail {

/// The two files of one layer. Holds copies: what a pipeline shows of weights on a device is there only while it is shown.
class layer_files {
 public:
  layer_files(int layer, std::int64_t updates) : layer_{layer}, updates_{updates} {}
  [[nodiscard]] auto layer() const noexcept -> int { return layer_; }

  void add_weights(std::string name, parameter const& p, std::span<float const> values) {
    weights_.emplace_back(std::move(name), shape_of(p), copy_of(values));
  }
  void add_state(std::string name, parameter const& p, std::span<float const> values) {
    states_.emplace_back(std::move(name), shape_of(p), copy_of(values));
  }
  /// `layers`: of the model.
  void write(std::filesystem::path const& folder, int layers) {
    safetensors::write(folder / safetensors::shard_name(layer_, layers), std::move(weights_));
    safetensors::write(folder / optimizer_file_name(layer_, layers), std::move(states_),
                       {{"updates", std::to_string(updates_)}});
  }

 private:
  auto copy_of(std::span<float const> values) -> std::span<float const> {
    return copies_.emplace_back(values.begin(), values.end());
  }

  int layer_;
  std::int64_t updates_;
  std::vector<safetensors::tensor_view> weights_, states_;
  std::deque<std::vector<float>> copies_;
};

/// Writes the layers that a rank's pipeline has: two files each. Returns how many arrays its optimizer keeps.
auto write_layers(std::filesystem::path const& folder, hugging_face_model const& model, auto& pipeline) -> std::size_t {
  std::map<std::string, std::pair<int, parameter>, std::less<>> place;
  auto number = 0;
  for (auto& layer : tensors_by_layer(model.sizes)) {
    ++number;
    for (auto& p : layer) place.emplace(p.name, std::pair(number, p));
  }
  std::optional<layer_files> files;  // a layer's tensors come one after another
  std::size_t kept = 0;
  pipeline.for_each_state([&](int stage, std::string_view name, std::span<float> values, parameter_options,
                              auto const& states) {
    auto const found = place.find(name);
    if (found == place.end() || found->second.second.size() != values.size())
      throw error("GPT-2: " + std::string(name) + " is not the parameter of a GPT-2 of these sizes; save with its own");
    auto const& [layer, p] = found->second;
    if (files && files->layer() != layer) files->write(folder, number);
    if (!files || files->layer() != layer) files.emplace(layer, pipeline.updates(stage));
    auto const theirs = hugging_face_name(name);
    if (!(model.tied && name == "lm_head.weight")) files->add_weights(theirs, p, values);
    for (std::size_t i = 0; i < states.size(); ++i) files->add_state(state_name(theirs, i), p, states[i]);
    kept = states.size();
  });
  if (files) files->write(folder, number);
  return kept;
}

/// Writes what makes a checkpoint of the layers.
inline void write_whole(std::filesystem::path const& folder, hugging_face_model const& model,
                        training_record const& record) {
  std::map<std::string, std::string> shard_of;
  std::uint64_t bytes = 0;
  auto const layers = tensors_by_layer(model.sizes);
  auto const count = static_cast<int>(layers.size());
  for (int i = 0; i < count; ++i) {
    for (auto const& p : layers[static_cast<std::size_t>(i)]) {
      if (model.tied && p.name == "lm_head.weight") continue;
      shard_of.emplace(hugging_face_name(p.name), safetensors::shard_name(i + 1, count));
      bytes += p.size() * sizeof(float);
    }
  }
  safetensors::write_index(folder, shard_of, bytes);
  write_configuration(folder, model);
  write_record(folder, record);
}

/// Removes all checkpoints of a training but the newest `keep`, and what a killed program has left of others. What cannot be
/// removed stays.
inline void remove_old(std::filesystem::path const& folder, int keep) noexcept {
  namespace fs = std::filesystem;
  try {
    std::map<std::int64_t, fs::path> whole;
    std::vector<fs::path> parts;
    for (auto const& each : fs::directory_iterator(folder)) {
      auto const name = each.path().filename().string();
      if (auto const steps = steps_in(name)) whole.emplace(*steps, each.path());
      auto const is_part = name.starts_with(".") && (name.ends_with(".part") || name.ends_with(".old"));
      if (is_part && steps_in(std::string_view(name).substr(1, name.rfind('.') - 1))) parts.push_back(each.path());
    }
    for (; static_cast<int>(whole.size()) > keep; whole.erase(whole.begin())) {
      auto const old = folder / ("." + whole.begin()->second.filename().string() + ".old");
      fs::rename(whole.begin()->second, old);  // so that it is whole, or not there
      parts.push_back(old);
    }
    for (auto const& each : parts) fs::remove_all(each);
  } catch (std::exception const&) {}
}

}  // namespace detail

/// Saves a training as `folder`/step-<steps>, which comes to be there all at once: a program that is killed at any moment
/// leaves the checkpoints from before. Drains the pipeline first. All ranks call it together, between two updates, with
/// equal arguments and a folder that all of them see; each writes its own layers. Of the record, steps and states are
/// filled in here. The newest `keep` checkpoints stay, older ones are removed. Throws error where something cannot be
/// written, on all ranks.
void save_training(std::filesystem::path const& folder, hugging_face_model const& model, training_record record,
                   auto& pipeline, transport auto& here, int keep = 1) {
  namespace fs = std::filesystem;
  pipeline.drain();
  record.steps = pipeline.steps();
  auto const name = checkpoint_name(record.steps);
  auto const partial = folder / ("." + name + ".part");
  auto const leads = here.rank() == 0;
  auto const checked = [&](char const* what, std::error_code const& code) {
    if (code)
      throw error(std::string("cannot ") + what + " " + (folder / name).string() + ": " + code.message() +
                  "; choose another folder");
  };
  auto code = std::error_code{};
  try {
    if (leads) {
      fs::remove_all(partial, code);
      checked("write", code);
      fs::create_directories(partial, code);
      checked("write", code);
    }
    here.agree("save " + (folder / name).string());
    record.states = detail::write_layers(partial, model, pipeline);
    here.agree("saved all layers of " + (folder / name).string());
    if (leads) {
      detail::write_whole(partial, model, record);
      fs::rename(partial, folder / name, code);
      checked("finish", code);
      safetensors::sync_folder(folder);
      detail::remove_old(folder, keep);
    }
  } catch (std::exception const& e) {
    auto why = std::current_exception();
    try {
      here.progress();  // a rank that was stopped takes the folder from those that still write: then that is what is said
    } catch (error const&) {
      why = std::current_exception();
    }
    here.abort(e.what());
    fs::remove_all(partial, code);
    std::rethrow_exception(why);
  }
}

}  // namespace pipewright::inline v0::gpt2
