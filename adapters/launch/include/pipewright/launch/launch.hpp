// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pipewright/launch/find_place.hpp>
#include <pipewright/launch/place.hpp>
#include <pipewright/launch/slurm.hpp>
#include <pipewright/launch/torchrun_variables.hpp>
