// SPDX-License-Identifier: Apache-2.0
// A text that a trained model writes.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <pipewright/gpt2/model.hpp>
#include <pipewright/stage/random.hpp>

#include "data.hpp"
#include "request.hpp"

namespace trainer {

/// All weights of a model by name, as the ranks hand them over.
using named_weights = std::map<std::string, std::vector<float>>;

/// A GPT-2 in one piece that goes on with a text, a token at a time.
class writer {
  using backend = gpt2::host_backend;
  template<class S> struct layer {
    S stage;
    typename S::weights weights{};
    typename S::saved saved{};
  };

 public:
  writer(request const& r, coder const& code, named_weights const& all)
      : length_{r.sequence_length()},
        vocabulary_{r.model.vocabulary},
        code_{code},
        context_{.training = false, .seed = r.seed},
        first_{gpt2::embedding<backend>(r.model)},
        last_{gpt2::head<backend>(r.model)} {
    take(first_, all);
    for (int i = 0; i < r.model.layers; ++i)
      take(blocks_.emplace_back(layer<gpt2::block<backend>>{gpt2::block<backend>(r.model, i)}), all);
    take(last_, all);
  }

  /// `count` more tokens after `prompt`, drawn from the softmax at a temperature of 0.7.
  std::string go_on(std::string const& prompt, int count) {
    auto ids = code_.encode(prompt);
    auto const start = ids.size();
    auto const random = pw::keyed_random{.seed = context_.seed}.at(0x77726974);
    for (int i = 0; i < count; ++i) ids.push_back(next(ids, random.uniform(static_cast<std::uint64_t>(i))));
    return code_.decode(std::span(ids).subspan(start));
  }

 private:
  template<class L> void take(L& to, named_weights const& all) {
    to.stage.initialize(context_, to.weights);
    to.weights.for_each_parameter([&](std::string_view name, auto values, pw::parameter_options) {
      auto const& from = all.at(std::string(name));
      std::copy(from.begin(), from.end(), values.begin());
    });
  }

  std::int32_t next(std::vector<std::int32_t> const& ids, float chance) {
    auto const seen = std::min<std::size_t>(ids.size(), static_cast<std::size_t>(length_));
    gpt2::token_batch const tokens{{1, static_cast<int>(seen)},
                                   {ids.end() - static_cast<std::ptrdiff_t>(seen), ids.end()}};
    gpt2::activations<backend> x, y;
    first_.stage.forward(context_, first_.weights, tokens, x, first_.saved);
    for (auto& block : blocks_) {
      block.stage.forward(context_, block.weights, x, y, block.saved);
      std::swap(x, y);
    }
    last_.stage.project(last_.weights, x, last_.saved);
    auto const* const logits = last_.saved.d_logits.data() + (seen - 1) * static_cast<std::size_t>(vocabulary_);
    std::vector<double> share(static_cast<std::size_t>(std::min(vocabulary_, code_.vocabulary)));
    double const top = *std::max_element(logits, logits + share.size());
    double sum = 0;
    for (std::size_t i = 0; i < share.size(); ++i) sum += share[i] = std::exp((logits[i] - top) / 0.7);
    double left = chance * sum;
    for (std::size_t i = 0; i < share.size(); ++i)
      if ((left -= share[i]) < 0) return static_cast<std::int32_t>(i);
    return static_cast<std::int32_t>(share.size()) - 1;
  }

  int length_, vocabulary_;
  coder const& code_;
  pw::stage_context context_;
  layer<gpt2::embedding<backend>> first_;
  std::vector<layer<gpt2::block<backend>>> blocks_;
  layer<gpt2::head<backend>> last_;
};

}  // namespace trainer
