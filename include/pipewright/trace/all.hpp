// SPDX-License-Identifier: Apache-2.0
#pragma once
// Grids, pictures and trace files of plans and of what was run.

#include <pipewright/trace/chart.hpp>
#include <pipewright/trace/grid.hpp>
#include <pipewright/trace/perfetto.hpp>
#include <pipewright/trace/recorder.hpp>
#include <pipewright/trace/svg.hpp>
#include <pipewright/trace/text.hpp>
#include <pipewright/trace/timeline.hpp>
#include <pipewright/trace/write_file.hpp>
