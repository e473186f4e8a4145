// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <charconv>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include <pipewright/error.hpp>
#include <pipewright/gpt2/configuration.hpp>
#include <pipewright/safetensors/durable_file.hpp>
#include <pipewright/safetensors/json_reader.hpp>
#include <pipewright/safetensors/mapped_file.hpp>
#include <pipewright/safetensors/utf8.hpp>

namespace pipewright::inline v0::gpt2 {

/// What Hugging Face's config.json says of a GPT-2.
struct hugging_face_model {
  configuration sizes{};
  bool tied = true;                           ///< embedding and head are one weight
  std::optional<std::int32_t> end_of_text{};  ///< the token that ends a text, and that pads

  friend bool operator==(hugging_face_model const&, hugging_face_model const&) = default;
};

namespace detail {

/// Reads one config.json. What it does not say has Hugging Face's default.
class config_file {
 public:
  explicit config_file(std::filesystem::path const& path)
      : whose_("configuration " + path.string()), mapped_(path, "configuration"), in_(mapped_.text(), whose_) {}

  auto read() -> hugging_face_model {
    auto& c = model_.sizes;
    c = {.vocabulary = 50257,
         .positions = 1024,
         .width = 768,
         .heads = 12,
         .layers = 12,
         .embedding_dropout = 0.1f,
         .attention_dropout = 0.1f,
         .residual_dropout = 0.1f};
    model_.end_of_text = 50256;
    in_.object([&](std::string const& key) {
      if (!seen_.insert(key).second) in_.fail(safetensors::shown(key) + " stands twice");
      field(key);
    });
    in_.end();
    if (!seen_.contains("model_type")) refuse("has no model_type; this program reads GPT-2s, whose type is gpt2");
    if (feed_forward_ && *feed_forward_ != std::int64_t{4} * c.width) {
      refuse("has n_inner " + std::to_string(*feed_forward_) + ", and only 4 * n_embd is supported");
    }
    if (model_.end_of_text && *model_.end_of_text >= c.vocabulary) {
      if (seen_.contains("eos_token_id")) {
        refuse("has eos_token_id " + std::to_string(*model_.end_of_text) + " outside its vocabulary of " +
               std::to_string(c.vocabulary) + "; set one inside it, or null");
      }
      model_.end_of_text = {};
    }
    try {
      check(c);
    } catch (error const& e) {
      throw error(whose_ + ": " + e.what());
    }
    return model_;
  }

 private:
  [[noreturn]] void refuse(std::string const& what) const { throw error(whose_ + " " + what); }
  [[noreturn]] void unsupported(char const* key, std::string const& value, char const* instead) const {
    refuse(std::string("has ") + key + " " + value + ", which is not supported; only " + instead + " is");
  }

  auto size(char const* key) -> int {
    auto const value = in_.integer();
    if (value < 1 || value > std::numeric_limits<int>::max() / 4) {
      refuse(std::string("has ") + key + " " + std::to_string(value) + "; it must be at least 1 and below 2^29");
    }
    return static_cast<int>(value);
  }
  auto probability(char const* key) -> float {
    auto const value = in_.number();
    if (!(value >= 0 && value < 1)) refuse(std::string("has ") + key + " outside [0, 1)");
    return static_cast<float>(value);
  }
  void must_be(char const* key, bool expected) {
    if (in_.boolean() != expected) unsupported(key, expected ? "false" : "true", expected ? "true" : "false");
  }
  void must_say(char const* key, std::string const& expected) {
    if (auto const value = in_.string(); value != expected) {
      unsupported(key, safetensors::shown(value), expected.c_str());
    }
  }

  void field(std::string const& key) {
    auto& c = model_.sizes;
    if (key == "model_type") return must_say("model_type", "gpt2");
    if (key == "vocab_size") return static_cast<void>(c.vocabulary = size("vocab_size"));
    if (key == "n_positions") return static_cast<void>(c.positions = size("n_positions"));
    if (key == "n_embd") return static_cast<void>(c.width = size("n_embd"));
    if (key == "n_head") return static_cast<void>(c.heads = size("n_head"));
    if (key == "n_layer") return static_cast<void>(c.layers = size("n_layer"));
    if (key == "n_inner") {
      if (!in_.null()) feed_forward_ = in_.integer();
      return;
    }
    if (key == "embd_pdrop") return static_cast<void>(c.embedding_dropout = probability("embd_pdrop"));
    if (key == "attn_pdrop") return static_cast<void>(c.attention_dropout = probability("attn_pdrop"));
    if (key == "resid_pdrop") return static_cast<void>(c.residual_dropout = probability("resid_pdrop"));
    if (key == "activation_function") return must_say("activation_function", "gelu_new");
    if (key == "layer_norm_epsilon") {
      if (in_.number() != 1e-5) refuse("has a layer_norm_epsilon that is not supported; only 1e-05 is");
      return;
    }
    if (key == "scale_attn_weights") return must_be("scale_attn_weights", true);
    if (key == "scale_attn_by_inverse_layer_idx") return must_be("scale_attn_by_inverse_layer_idx", false);
    if (key == "reorder_and_upcast_attn") return must_be("reorder_and_upcast_attn", false);
    if (key == "add_cross_attention") return must_be("add_cross_attention", false);
    if (key == "tie_word_embeddings") return static_cast<void>(model_.tied = in_.boolean());
    if (key == "eos_token_id") return end_of_text();
    if (key == "quantization_config" && !in_.null()) refuse("is of a quantized model, which is not supported");
    if (key != "quantization_config") in_.skip();  // what does not change the mathematics
  }

  void end_of_text() {
    model_.end_of_text.reset();
    if (in_.null()) return;
    auto const value = in_.integer();
    if (value < 0 || value > std::numeric_limits<std::int32_t>::max()) {
      refuse("has eos_token_id " + std::to_string(value) + "; it must be a token of the vocabulary, or null");
    }
    model_.end_of_text = static_cast<std::int32_t>(value);
  }

  std::string whose_;
  safetensors::mapped_file mapped_;
  safetensors::json_reader in_;
  hugging_face_model model_{};
  std::optional<std::int64_t> feed_forward_;
  std::set<std::string> seen_;
};

/// The shortest text that reads back as the same float.
inline auto shortest(float value) -> std::string {
  char text[32];
  return {text, std::to_chars(text, text + sizeof text, value).ptr};
}

}  // namespace detail

/// Reads a config.json, or that of a folder. Throws error where it cannot be read, is no GPT-2's, or asks for what this GPT-2
/// does not compute (another activation, epsilon, width of the feed-forward layer or scale of the attention).
[[nodiscard]] inline auto read_configuration(std::filesystem::path const& path) -> hugging_face_model {
  return detail::config_file(std::filesystem::is_directory(path) ? path / "config.json" : path).read();
}

/// Writes config.json into a folder, so that transformers opens it as a GPT2LMHeadModel.
inline void write_configuration(std::filesystem::path const& folder, hugging_face_model const& m) {
  check(m.sizes);
  auto const& c = m.sizes;
  std::string text = "{";
  auto const* separator = "\n";
  auto const say = [&](char const* key, std::string const& value) {
    text += std::string(separator) + "  \"" + key + "\": " + value;
    separator = ",\n";
  };
  auto const end = m.end_of_text ? std::to_string(*m.end_of_text) : "null";
  say("activation_function", "\"gelu_new\"");
  say("architectures", "[\"GPT2LMHeadModel\"]");
  say("attn_pdrop", detail::shortest(c.attention_dropout));
  say("bos_token_id", end);
  say("embd_pdrop", detail::shortest(c.embedding_dropout));
  say("eos_token_id", end);
  say("layer_norm_epsilon", "1e-05");
  say("model_type", "\"gpt2\"");
  say("n_embd", std::to_string(c.width));
  say("n_head", std::to_string(c.heads));
  say("n_inner", "null");
  say("n_layer", std::to_string(c.layers));
  say("n_positions", std::to_string(c.positions));
  say("resid_pdrop", detail::shortest(c.residual_dropout));
  say("scale_attn_weights", "true");
  say("tie_word_embeddings", m.tied ? "true" : "false");
  say("vocab_size", std::to_string(c.vocabulary));
  safetensors::write_durably(folder / "config.json", text + "\n}\n");
}

}  // namespace pipewright::inline v0::gpt2
