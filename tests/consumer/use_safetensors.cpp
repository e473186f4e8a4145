// SPDX-License-Identifier: Apache-2.0
#include <pipewright/safetensors/safetensors.hpp>

int main() { return pipewright::safetensors::value_type_named("F32").has_value() ? 0 : 1; }
