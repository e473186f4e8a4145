// SPDX-License-Identifier: Apache-2.0
#pragma once
// Everything of the CUDA adapter but matrix products (products.hpp), which need cuBLASLt.

#include <pipewright/cuda/check.hpp>
#include <pipewright/cuda/constants.hpp>
#include <pipewright/cuda/context.hpp>
#include <pipewright/cuda/event.hpp>
#include <pipewright/cuda/fastest.hpp>
#include <pipewright/cuda/loopback.hpp>
#include <pipewright/cuda/memory.hpp>
#include <pipewright/cuda/peers.hpp>
#include <pipewright/cuda/pinned_memory.hpp>
#include <pipewright/cuda/queue.hpp>
#include <pipewright/cuda/recorder.hpp>
#include <pipewright/cuda/shared_steps.hpp>
#include <pipewright/cuda/step_graph.hpp>
