// SPDX-License-Identifier: Apache-2.0
#pragma once
// Everything of the NCCL adapter.

#include <pipewright/nccl/check.hpp>
#include <pipewright/nccl/communicators.hpp>
#include <pipewright/nccl/endpoint.hpp>
#include <pipewright/nccl/options.hpp>
