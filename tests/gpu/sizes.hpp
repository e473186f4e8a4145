// SPDX-License-Identifier: Apache-2.0
#pragma once
// The model that is measured, and what there is to reach.
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <string_view>

#include <pipewright/gpt2/configuration.hpp>

namespace gpu {

/// GPT-2 124M, its vocabulary padded.
inline pipewright::gpt2::configuration gpt2_124m() {
  return {.vocabulary = 50304, .positions = 1024, .width = 768, .heads = 12, .layers = 12};
}

inline constexpr double datasheet_flops = 990e12;  ///< an H200's, bf16
inline constexpr double measured_flops = 788e12;   ///< of a product of 8192 x 8192 x 8192 on random numbers
inline constexpr double measured_bytes = 4.3e12;   ///< a second, read and written, of a copy

/// Parameters, where embedding and head are one.
inline double parameters_of(pipewright::gpt2::configuration const& c) {
  double const w = c.width;
  return (c.vocabulary + c.positions) * w + c.layers * (12 * w * w + 13 * w) + 2 * w;
}
/// As llm.c counts: six a parameter, and attention's products, their causal half.
inline double flops_of_token(pipewright::gpt2::configuration const& c) {
  return 6 * parameters_of(c) + 6. * c.layers * c.width * c.positions;
}

/// `--name number` pairs, over what they are else.
inline std::map<std::string, int, std::less<>> read_options(int count, char** given,
                                                            std::map<std::string, int, std::less<>> options) {
  auto const refuse = [&](char const* what) {
    std::fprintf(stderr, "%s: '%s' is no option with a number; there are", given[0], what);
    for (auto const& [name, value] : options) std::fprintf(stderr, " --%s %d", name.c_str(), value);
    std::fprintf(stderr, "\n");
    std::exit(2);
  };
  for (int i = 1; i < count; i += 2) {
    auto const found = std::strncmp(given[i], "--", 2) == 0 ? options.find(given[i] + 2) : options.end();
    if (found == options.end() || i + 1 == count) refuse(given[i]);
    auto const* const end = given[i + 1] + std::strlen(given[i + 1]);
    if (auto const [stop, code] = std::from_chars(given[i + 1], end, found->second); code != std::errc{} || stop != end)
      refuse(given[i]);
  }
  return options;
}
/// The model of options vocabulary, length, width, heads, layers.
inline std::map<std::string, int, std::less<>> size_options() {
  auto const c = gpt2_124m();
  return {{"vocabulary", c.vocabulary},
          {"length", c.positions},
          {"width", c.width},
          {"heads", c.heads},
          {"layers", c.layers}};
}
inline pipewright::gpt2::configuration model_of(std::map<std::string, int, std::less<>> const& options) {
  return {.vocabulary = options.at("vocabulary"),
          .positions = options.at("length"),
          .width = options.at("width"),
          .heads = options.at("heads"),
          .layers = options.at("layers")};
}

}  // namespace gpu
