// SPDX-License-Identifier: Apache-2.0
#pragma once
// Transports: the concept, what travels, the ranks of one process.

#include <pipewright/transport/any_transport.hpp>
#include <pipewright/transport/explain.hpp>
#include <pipewright/transport/in_process.hpp>
#include <pipewright/transport/message.hpp>
#include <pipewright/transport/parts.hpp>
#include <pipewright/transport/transport.hpp>
