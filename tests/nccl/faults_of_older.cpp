// SPDX-License-Identifier: Apache-2.0
// The same with the oldest NCCL that is supported, which cannot revoke a communicator.
#define NCCL_VERSION_CODE 21903
#include "faults.cpp"
