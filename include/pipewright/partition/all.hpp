// SPDX-License-Identifier: Apache-2.0
#pragma once
// Where to cut a chain of layers into stages, and which schedule, micro-batch and recomputation are the fastest on a cluster.

#include <pipewright/partition/balanced_sizes.hpp>
#include <pipewright/partition/cheapest_cut.hpp>
#include <pipewright/partition/cluster.hpp>
#include <pipewright/partition/cost_chain.hpp>
#include <pipewright/partition/cut_by_rank.hpp>
#include <pipewright/partition/cut_plan.hpp>
#include <pipewright/partition/cut_with_replicas.hpp>
#include <pipewright/partition/model_profile.hpp>
#include <pipewright/partition/named_cut.hpp>
#include <pipewright/partition/planner.hpp>
#include <pipewright/partition/rank_memory.hpp>
#include <pipewright/partition/step_time.hpp>
