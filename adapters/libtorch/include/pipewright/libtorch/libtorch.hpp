// SPDX-License-Identifier: Apache-2.0
#pragma once
// All of the LibTorch adapter.

#include <pipewright/libtorch/boundary.hpp>
#include <pipewright/libtorch/device.hpp>
#include <pipewright/libtorch/device_parameter.hpp>
#include <pipewright/libtorch/layer_summary.hpp>
#include <pipewright/libtorch/loss_scaler.hpp>
#include <pipewright/libtorch/memory_meter.hpp>
#include <pipewright/libtorch/parameters.hpp>
#include <pipewright/libtorch/random.hpp>
#include <pipewright/libtorch/stage.hpp>
#include <pipewright/libtorch/summing.hpp>
#include <pipewright/libtorch/tensor.hpp>
#include <pipewright/libtorch/torch_optimizer.hpp>
