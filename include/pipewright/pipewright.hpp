// SPDX-License-Identifier: Apache-2.0
#pragma once
// All that a training needs. Pictures, trace files and the recorder stand apart: <pipewright/trace/all.hpp>.

#include <pipewright/error.hpp>
#include <pipewright/partition/balanced_sizes.hpp>
#include <pipewright/pipeline/all.hpp>
#include <pipewright/plan/all.hpp>
#include <pipewright/schedule/all.hpp>
#include <pipewright/stage/all.hpp>
#include <pipewright/trace/grid.hpp>
#include <pipewright/transport/all.hpp>
#include <pipewright/version.hpp>
