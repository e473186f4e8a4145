// SPDX-License-Identifier: Apache-2.0
#pragma once
// The engine, its optimizers and observers, the serial oracle.

#include <pipewright/pipeline/learning_rate.hpp>
#include <pipewright/pipeline/observer.hpp>
#include <pipewright/pipeline/optimizer.hpp>
#include <pipewright/pipeline/options.hpp>
#include <pipewright/pipeline/oracle.hpp>
#include <pipewright/pipeline/pipeline.hpp>
