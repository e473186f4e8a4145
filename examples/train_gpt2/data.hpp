// SPDX-License-Identifier: Apache-2.0
// The text to train on.
#pragma once

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include <pipewright/error.hpp>
#include <pipewright/gpt2/data.hpp>

#include "request.hpp"

namespace trainer {

/// The library's own headers, one after another: what is at hand in every checkout. `here` is a file of examples/train_gpt2.
inline std::string own_source(std::filesystem::path const& here) {
  namespace fs = std::filesystem;
  auto const folder = here.parent_path().parent_path().parent_path() / "include" / "pipewright";
  std::error_code code;
  std::vector<fs::path> files;
  for (auto const& each : fs::recursive_directory_iterator(folder, code))
    if (each.path().extension() == ".hpp") files.push_back(each.path());
  if (files.empty())
    throw pw::error(
        "the checkout that this program was built in is gone, and with it the text to train on; give one with --data "
        "FILE");
  std::sort(files.begin(), files.end());
  std::string text;
  for (auto const& file : files) text += gpt2::read_text(file);
  return text;
}

inline gpt2::text_data load_data(request const& r) {
  auto const text = r.data.empty() ? own_source(__FILE__) : gpt2::read_text(r.data);
  return gpt2::text_data(gpt2::byte_tokenizer::encode(text), r.sequence_length());
}

}  // namespace trainer
