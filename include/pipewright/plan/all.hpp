// SPDX-License-Identifier: Apache-2.0
#pragma once
// Plans: lowering, proof, slots, simulation.

#include <pipewright/plan/channels.hpp>
#include <pipewright/plan/check_table.hpp>
#include <pipewright/plan/constant_plan.hpp>
#include <pipewright/plan/evaluation.hpp>
#include <pipewright/plan/fault_report.hpp>
#include <pipewright/plan/lower.hpp>
#include <pipewright/plan/memory.hpp>
#include <pipewright/plan/orders.hpp>
#include <pipewright/plan/plan.hpp>
#include <pipewright/plan/plan_view.hpp>
#include <pipewright/plan/rational.hpp>
#include <pipewright/plan/rendezvous.hpp>
#include <pipewright/plan/simulate.hpp>
#include <pipewright/plan/steady.hpp>
#include <pipewright/plan/stream.hpp>
#include <pipewright/plan/table_plan.hpp>
#include <pipewright/plan/verdict.hpp>
#include <pipewright/plan/verify.hpp>
