// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

#include <pipewright/nccl/check.hpp>

namespace pipewright::inline v0::nccl {

/// How a receiver learns the shape of a value. `varying`: the sender's host tells it each time, and a receive is queued
/// once that has come. `fixed`: all values of a channel are like its first, so that receives are queued when they are
/// posted; a value that differs from the first in its shape, or in a part that lies on the host, is an error.
enum class shape_mode { varying, fixed };
using enum shape_mode;

/// How the ranks of an endpoint are joined.
struct options {
  shape_mode shapes = varying;
  double deadline = 60;  ///< seconds that a wait lasts at most, of the host or for its device; 0 or less: for ever
  /// Bytes of pinned memory that the rank's context sets aside before ranks connect. Where stages need more, CUDA is asked for it, which
  /// may wait, for ever, for receives that are queued ahead: so this is to hold what stages keep there for all micro-batches
  /// in flight (GPT-2's: 24 bytes a token).
  std::size_t pinned_bytes = std::size_t{32} << 20;
  int most_blocks = 4;  ///< thread blocks of a transfer's kernel at most, which it takes from the stages' kernels
  /// One communicator of all ranks instead of one a channel: less memory and quicker to connect, for transfers that
  /// overlap less. A send leaves with the next receive that its rank waits for, in one group, and the rank then waits
  /// for both; nothing is received ahead. So a rank that is to wait for another by other means, a lock or a barrier,
  /// calls the endpoint's progress() before, which lets leave what was kept back. It needs fixed shapes, so that a rank knows what it will receive (the first
  /// value of a channel goes by way of the hosts). Refused where two ranks send each other two kinds of traffic one
  /// way, or activations go round in a ring (interleaved schedules): there groups may wait for each other.
  bool one_communicator = false;
  /// One's own communicator of all ranks, with the same ranks; implies one_communicator. It is neither destroyed nor
  /// aborted here, but revoked when a rank fails. Needs NCCL 2.28.7.
  ncclComm_t communicator = nullptr;
};

}  // namespace pipewright::inline v0::nccl
