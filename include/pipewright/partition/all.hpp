// SPDX-License-Identifier: Apache-2.0
#pragma once
// Where to cut a chain of layers into stages.

#include <pipewright/partition/balanced_sizes.hpp>
#include <pipewright/partition/cheapest_cut.hpp>
#include <pipewright/partition/cost_chain.hpp>
#include <pipewright/partition/cut_by_rank.hpp>
#include <pipewright/partition/cut_with_replicas.hpp>
