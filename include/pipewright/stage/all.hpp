// SPDX-License-Identifier: Apache-2.0
#pragma once
// Stages: the concepts, chains, cuts, recomputation.

#include <pipewright/stage/any_stage.hpp>
#include <pipewright/stage/any_value.hpp>
#include <pipewright/stage/balance.hpp>
#include <pipewright/stage/chain.hpp>
#include <pipewright/stage/context.hpp>
#include <pipewright/stage/entry.hpp>
#include <pipewright/stage/explain.hpp>
#include <pipewright/stage/explain_needs.hpp>
#include <pipewright/stage/fit.hpp>
#include <pipewright/stage/layer_list.hpp>
#include <pipewright/stage/layers.hpp>
#include <pipewright/stage/parameters.hpp>
#include <pipewright/stage/random.hpp>
#include <pipewright/stage/recompute.hpp>
#include <pipewright/stage/remote_parameter.hpp>
#include <pipewright/stage/repeated_layers.hpp>
#include <pipewright/stage/stage.hpp>
#include <pipewright/stage/stage_set.hpp>
