// SPDX-License-Identifier: Apache-2.0
#pragma once
// Schedules: actions, shapes, policies, text and CSV.

#include <pipewright/schedule/action.hpp>
#include <pipewright/schedule/csv.hpp>
#include <pipewright/schedule/explain.hpp>
#include <pipewright/schedule/flush.hpp>
#include <pipewright/schedule/forward_only.hpp>
#include <pipewright/schedule/gpipe.hpp>
#include <pipewright/schedule/interleaved.hpp>
#include <pipewright/schedule/named.hpp>
#include <pipewright/schedule/notation.hpp>
#include <pipewright/schedule/one_f_one_b.hpp>
#include <pipewright/schedule/policy.hpp>
#include <pipewright/schedule/recompute_mode.hpp>
#include <pipewright/schedule/rows.hpp>
#include <pipewright/schedule/sequential.hpp>
#include <pipewright/schedule/shape.hpp>
#include <pipewright/schedule/two_buffered.hpp>
