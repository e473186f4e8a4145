// SPDX-License-Identifier: Apache-2.0
// What all ranks of a training must have alike, besides what the engine compares (plan, seed, clipping, tied weights).
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <variant>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <pipewright/gpt2/tensors.hpp>

#include "data.hpp"
#include "origin.hpp"
#include "request.hpp"

namespace trainer {

namespace detail {

/// A number that hardly ever is the same for other values (FNV-1a).
class fingerprint {
 public:
  void add(std::uint64_t value) { hash_ = (hash_ ^ value) * 1099511628211u; }
  void add(std::string_view text) {
    for (unsigned char const c : text) add(std::uint64_t{c});
    add(text.size());
  }
  void add(std::span<std::int32_t const> values) {
    for (auto const each : values) add(static_cast<std::uint32_t>(each));
    add(values.size());
  }
  std::uint64_t value() const { return hash_; }

 private:
  std::uint64_t hash_ = 14695981039346656037u;
};

/// Of the tokens, whichever tokenizer made them of whichever file. Of very many sequences some are looked at.
inline std::uint64_t fingerprint_of(data_set const& data) {
  fingerprint all;
  if (auto const* const text = std::get_if<gpt2::text_data>(&data.of)) {
    all.add(text->part(gpt2::part_of_text::training));
    all.add(text->part(gpt2::part_of_text::held_out));
    return all.value();
  }
  auto const& documents = std::get<gpt2::sequences>(data.of);
  all.add(documents.size());
  std::vector<std::int32_t> ids;
  for (std::size_t i = 0, apart = documents.size() / 32768 + 1; i < documents.size(); i += apart) {
    ids.resize(documents.length(i));
    documents.copy(i, 0, ids.size(), ids.data());
    all.add(ids);
  }
  return all.value();
}

/// Of the weights that the model needs: their types, shapes and first values. Of two trainings no such values are alike.
inline std::uint64_t fingerprint_of(pw::safetensors::checkpoint const& from, gpt2::configuration const& sizes) {
  fingerprint all;
  for (auto const& p : gpt2::all_tensors(sizes)) {
    auto const name = gpt2::name_in(from, p.name);
    auto const& t = from.at(name);
    all.add(pw::safetensors::name_of(t.type));
    for (auto const extent : t.shape) all.add(extent);
    auto const bytes = from.bytes(name);
    all.add(std::string_view(reinterpret_cast<char const*>(bytes.data()), std::min<std::size_t>(bytes.size(), 64)));
  }
  return all.value();
}

inline std::string words_of(origin const& from, gpt2::configuration const& sizes) {
  if (from.saved) {
    std::vector<std::int64_t> updates;
    for (int layer = 0; layer < gpt2::layer_count(sizes); ++layer) updates.push_back(from.saved->updates(layer));
    return fmt::format("goes on from step {}, sequence {}, after {} updates of each layer, with weights {:016x}",
                       from.saved->record().steps, from.saved->record().cursor, fmt::join(updates, " "),
                       fingerprint_of(pw::safetensors::checkpoint(from.saved->folder()), sizes));
  }
  if (from.file) return fmt::format("starts from weights {:016x}", fingerprint_of(*from.file, sizes));
  return "starts from drawn weights";
}

}  // namespace detail

/// In texts that ranks compare one after the other, so that the sentence of ranks that differ shows what in. Exact.
inline std::vector<std::string> what_is_alike(request const& r, std::vector<int> const& sizes, data_set const& data,
                                              origin const& from) {
  auto const& m = r.model;
  return {
      fmt::format("--backend {}, a GPT-2 of {} layers, width {}, {} heads, {} positions, vocabulary {}, dropout {} {} "
                  "{}, cut {}",
                  r.backend, m.layers, m.width, m.heads, m.positions, m.vocabulary, m.embedding_dropout,
                  m.attention_dropout, m.residual_dropout, fmt::join(sizes, ",")),
      fmt::format("--steps {} --optimizer {} --learning-rate {} --rate-shape {} --warm-up {} --weight-decay {} "
                  "--momentum {}",
                  r.steps, r.optimizer, r.learning_rate, r.rate_shape, r.warm_up, r.weight_decay, r.momentum),
      fmt::format("{} --eval-every {} --save-every {} --sample {}", r.save.empty() ? "no --save" : "--save",
                  r.evaluate_every, r.save_every, r.sample),
      fmt::format("--sequences {} --length {} --pad-to {} --order {} --loss-on {}, padding {}, tokens {:016x}",
                  r.sequences, r.context(), r.pad_to, r.order.empty() ? "shuffled" : r.order, r.loss_on,
                  data.code.end_of_text.value_or(0), detail::fingerprint_of(data)),
      detail::words_of(from, m)};
}

}  // namespace trainer
