// SPDX-License-Identifier: Apache-2.0
#include <cstring>

#include <pipewright/tokenizer/byte_pair.hpp>

int main() {
  try {
    return pipewright::tokenizer::byte_pair("nowhere").vocabulary();
  } catch (pipewright::error const& fault) {
    return std::strstr(fault.what(), "tokenizer file nowhere is not there") == nullptr;
  }
}
