// SPDX-License-Identifier: Apache-2.0
#pragma once
// All of the GPT-2 adapter.
#include <pipewright/gpt2/data.hpp>
#include <pipewright/gpt2/document_batches.hpp>
#include <pipewright/gpt2/load.hpp>
#include <pipewright/gpt2/model.hpp>
#include <pipewright/gpt2/save.hpp>
#include <pipewright/gpt2/save_training.hpp>
#include <pipewright/gpt2/saved_training.hpp>
#include <pipewright/gpt2/sequences.hpp>
