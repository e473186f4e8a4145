// SPDX-License-Identifier: Apache-2.0
#pragma once
// The ranks of a pipeline as threads of one process.

#include <pipewright/transport/in_process/endpoint.hpp>
#include <pipewright/transport/in_process/options.hpp>
#include <pipewright/transport/in_process/run.hpp>
