// SPDX-License-Identifier: Apache-2.0
#pragma once
// Reads and writes safetensors files, and models in several of them.
#include <pipewright/safetensors/checkpoint.hpp>
#include <pipewright/safetensors/file.hpp>
#include <pipewright/safetensors/write.hpp>
