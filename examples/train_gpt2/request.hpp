// SPDX-License-Identifier: Apache-2.0
// What to train, and how: the command line's words as one value.
#pragma once

#include <cerrno>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <unistd.h>

#include <pipewright/error.hpp>
#include <pipewright/gpt2/configuration.hpp>
#include <pipewright/schedule/recompute_mode.hpp>

namespace trainer {

namespace pw = pipewright;
namespace gpt2 = pipewright::gpt2;

struct request {
  std::string schedule = "flush";
  int ranks = 4, micro_batches = 8, chunks = 0, group = 0;
  std::string cut = "cost";  ///< how layers become stages, where balance does not say it
  std::vector<int> balance;  ///< layers of each stage
  gpt2::configuration model{.vocabulary = 256, .positions = 64, .width = 64, .heads = 4, .layers = 8};
  bool tied = false;
  std::string data;              ///< a file, or empty: the library's own source
  std::string tokenizer;         ///< a folder with a tokenizer's files, or empty: a token a byte
  std::string loss_on = "all";   ///< of documents: padding too, or real tokens only
  std::string order;             ///< of documents; empty: shuffled
  int pad_to = 0;                ///< tokens of every sequence of documents; 0: as the longest of its batch
  std::string weights;           ///< a safetensors file or a folder to start from, or empty
  std::string resume;            ///< a checkpoint to go on from, or empty
  std::string save;              ///< the folder for checkpoints, or empty
  int save_every = 0, keep = 1;  ///< steps (0: at the end only); checkpoints that stay
  std::map<std::string, std::string> settings;  ///< that a checkpoint keeps: options and their words
  int sequences = 2;                            ///< of a micro-batch
  int length = 0;                               ///< tokens of a sequence; 0: as many as the model has positions
  int steps = 50;
  std::string optimizer = "adamw";
  double learning_rate = 3e-3, weight_decay = 0.01, momentum = 0.9;
  std::string rate_shape = "cosine";
  int warm_up = 5;     ///< steps
  int accumulate = 1;  ///< steps between two updates
  double clip = 0;
  bool clip_per_stage = false;
  std::uint64_t seed = 1;
  pw::recompute_mode recompute = pw::recompute_mode::never;
  int evaluate_every = 0;  ///< steps; 0: at the end only
  int sample = 120;        ///< tokens of text at the end
  double pace = 1;
  double deadline = 60;  ///< seconds a rank waits for another
  std::string transport = "in-process", backend = "host", device = "cpu";
  std::string precision = "bf16";  ///< of the cuda backend's values
  bool deterministic = false;      ///< no choice of the cuda backend is made by timing
  std::optional<bool> graphs;      ///< whether the cuda backend runs steps as CUDA graphs; by default but over NCCL
  std::optional<int> rank{};       ///< that this process is; else a launcher's environment says it
  std::string rendezvous{};        ///< host:port, where ranks meet; else a launcher's environment says it
  std::string trace, json;
  bool dry_run = false;
  bool quiet = false;

  /// Tokens that are kept of a document, and of every sequence with its padding, at most.
  int context() const { return length > 0 ? length : pad_to > 0 ? pad_to : model.positions; }
  int sequence_length() const { return pad_to > 0 ? pad_to : context(); }
  bool counts_tokens() const { return loss_on == "real"; }
  /// Bytes of a value that stages hand to one another and save, and of a weight.
  int value_bytes() const { return backend == "cuda" && precision == "bf16" ? 2 : 4; }
  int weight_bytes() const { return value_bytes() == 2 ? 6 : 4; }
  /// Sequences of their own, instead of places in one text.
  bool has_documents() const { return data.ends_with(".json") || data.ends_with(".bin"); }
  int tokens_of_micro_batch() const { return sequences * sequence_length(); }
};

/// The sizes that have a name.
inline gpt2::configuration model_named(std::string_view name) {
  if (name == "tiny") return {.vocabulary = 256, .positions = 32, .width = 32, .heads = 2, .layers = 4};
  if (name == "small") return {.vocabulary = 256, .positions = 64, .width = 64, .heads = 4, .layers = 8};
  if (name == "medium") return {.vocabulary = 256, .positions = 128, .width = 128, .heads = 4, .layers = 8};
  if (name == "gpt2") return {.vocabulary = 50257, .positions = 1024, .width = 768, .heads = 12, .layers = 12};
  throw pw::error(
      fmt::format("there is no model '{}'; choose tiny, small, medium or gpt2, or give sizes as "
                  "layers=8,width=64,heads=4,positions=64,vocabulary=256",
                  name));
}

/// A name, or sizes as layers=8,width=64,...; what is not said is as in `small`.
inline gpt2::configuration parse_model(std::string_view text) {
  if (text.find('=') == text.npos) return model_named(text);
  auto c = model_named("small");
  while (!text.empty()) {
    auto const word = text.substr(0, text.find(','));
    text.remove_prefix(std::min(text.size(), word.size() + 1));
    auto const key = word.substr(0, word.find('='));
    auto const digits = key.size() < word.size() ? word.substr(key.size() + 1) : std::string_view();
    int* const to = key == "layers"       ? &c.layers
                    : key == "width"      ? &c.width
                    : key == "heads"      ? &c.heads
                    : key == "positions"  ? &c.positions
                    : key == "vocabulary" ? &c.vocabulary
                                          : nullptr;
    if (to == nullptr)
      throw pw::error(
          fmt::format("a model has no size '{}'; the sizes are layers, width, heads, positions and vocabulary", key));
    int const most = to == &c.layers ? 1024 : to == &c.positions || to == &c.vocabulary ? 1 << 20 : 1 << 16;
    auto const [end, code] = std::from_chars(digits.data(), digits.data() + digits.size(), *to);
    if (code != std::errc{} || end != digits.data() + digits.size() || *to < 1 || *to > most)
      throw pw::error(fmt::format("the model's {} cannot be '{}'; it is a number from 1 to {}", key, digits, most));
  }
  return c;
}

/// Takes the layers of each stage from a cut that gives them as numbers: 4,3,3,4.
inline void parse_balance(request& r) {
  if (r.cut.find_first_not_of("0123456789,") != r.cut.npos || r.cut.empty()) return;
  for (std::string_view rest = r.cut; !rest.empty();) {
    auto const word = rest.substr(0, rest.find(','));
    rest.remove_prefix(std::min(rest.size(), word.size() + 1));
    int layers = 0;
    auto const [end, code] = std::from_chars(word.data(), word.data() + word.size(), layers);
    if (code != std::errc{} || end != word.data() + word.size() || layers > 1 << 20)
      throw pw::error(fmt::format("--balance {} has '{}' where the layers of a stage should be", r.cut, word));
    r.balance.push_back(layers);
  }
}

/// Throws where a model is none, or does not take a micro-batch of so many sequences of so many tokens.
inline void check_micro_batch(gpt2::configuration const& model, int sequences, int length) {
  gpt2::check(model);
  if (length > model.positions)
    throw pw::error(fmt::format(
        "sequences of {} tokens do not fit the model's {} positions; choose a shorter --length or more positions",
        length, model.positions));
  if (static_cast<std::int64_t>(sequences) * length > 1 << 24)
    throw pw::error(
        fmt::format("a micro-batch of {} x {} tokens is more than the 16777216 that are held at once; choose fewer "
                    "--sequences or a shorter --length",
                    sequences, length));
}

/// Throws before anything has run where a file could not be written at the end.
inline void check_writable(std::string const& file) {
  namespace fs = std::filesystem;
  if (file.empty() || file == "-") return;
  auto const path = fs::path(file);
  auto const folder = path.has_parent_path() ? path.parent_path() : fs::path(".");
  std::error_code code;
  auto const fail = [&](std::string_view why) {
    throw pw::error(fmt::format("cannot write {}: {}; choose another file", file, why));
  };
  if (fs::is_directory(path, code)) fail("it is a directory");
  if (!fs::is_directory(folder, code)) fail(fmt::format("there is no directory {}", folder.string()));
  auto const exists = fs::exists(path, code);
  if (::access((exists ? path : folder).c_str(), W_OK) != 0) fail(std::strerror(errno));
}

/// Throws where what is asked of documents and texts does not fit.
inline void check_documents(request const& r) {
  if (r.has_documents()) {
    if (r.evaluate_every > 0)
      throw pw::error("--eval-every looks at the held-out end of a text, and documents have none; leave it out");
    if (r.context() > r.sequence_length())
      throw pw::error(
          fmt::format("--pad-to {} is less than --length {}; pad to at least the length", r.pad_to, r.length));
  } else if (r.pad_to > 0 || !r.order.empty()) {
    throw pw::error(
        "--pad-to and --order are for documents: a SQuAD file (.json) or a token file (.bin); a text is cut anywhere");
  }
}

/// Throws where checkpoints cannot be saved as asked.
inline void check_saving(request const& r) {
  if (!r.resume.empty() && !r.weights.empty())
    throw pw::error(
        "--resume takes the weights of its checkpoint; leave out --weights, or start anew without --resume");
  if (r.save.empty()) {
    if (r.save_every > 0) throw pw::error("--save-every says when, but not where; add --save DIR");
    return;
  }
  if (r.save_every % r.accumulate != 0 || r.steps % r.accumulate != 0)
    throw pw::error(
        fmt::format("a training is saved after an update, which is every {} steps; choose --steps and "
                    "--save-every to be multiples of --accumulate {}",
                    r.accumulate, r.accumulate));
  namespace fs = std::filesystem;
  std::error_code code;
  if (!fs::is_directory(r.save, code)) check_writable(r.save);
  else if (::access(r.save.c_str(), W_OK | X_OK) != 0)
    throw pw::error(fmt::format("cannot write into {}: {}; choose another folder", r.save, std::strerror(errno)));
  if (fs::exists(r.save, code) && !fs::is_directory(r.save, code))
    throw pw::error(fmt::format("--save {} is a file; choose a folder", r.save));
}

/// Throws where numbers make no training. Shapes of schedules and cuts are judged by the plan and the cut.
inline void check(request const& r) {
  check_micro_batch(r.model, r.sequences, r.sequence_length());
  if (r.model.vocabulary < 256 && r.tokenizer.empty() && !r.data.ends_with(".bin"))
    throw pw::error(fmt::format("a byte-level model needs a vocabulary of at least 256, not {}", r.model.vocabulary));
  if (r.device != "cpu" && r.backend == "host")
    throw pw::error(fmt::format("--device {} is not for the host's BLAS; add --backend cuda or libtorch", r.device));
  bool const on_gpus = r.transport == "cuda-loopback" || r.transport == "nccl";
  if (on_gpus && r.backend != "cuda")
    throw pw::error(fmt::format("--transport {} moves what lies on GPUs; add --backend cuda", r.transport));
  if (!on_gpus && r.backend == "cuda")
    throw pw::error(
        fmt::format("--backend cuda keeps values on GPUs, between which --transport {} does not move them; choose "
                    "cuda-loopback (ranks are threads of one process) or nccl (processes)",
                    r.transport));
  if (r.backend == "cuda" && r.device == "cpu")
    throw pw::error("--backend cuda computes on no cpu; choose --device cuda, or leave it out");
  if (r.backend == "cuda" && r.pace > 1)
    throw pw::error("--pace slows down the host's cores, and --backend cuda computes on a GPU; leave it out");
  check_documents(r);
  check_saving(r);
  check_writable(r.trace);
  check_writable(r.json);
}

}  // namespace trainer
