// SPDX-License-Identifier: Apache-2.0
#pragma once
// Small trainings on a device, and on the host beside: each is compiled once, in shared/trainings.cpp, for all tests.
#include <mutex>

#include <gpt2/small_training.hpp>

#include <pipewright/gpt2/model.hpp>
#include <pipewright/gpt2_cuda/backend.hpp>
#include <pipewright/pipeline/optimizer.hpp>

namespace small_training {

using layers_on_host = decltype(cut(gpt2::model(gpt2::configuration{}), 1));
template<class T> using layers_on_device = decltype(cut(gpt2::cuda::model<T>(gpt2::configuration{}), 1));

#define PIPEWRIGHT_TRAINING(keyword, ...)                                                              \
  keyword template void train_rank(setting const&, pw::plan_view, __VA_ARGS__ const&, pw::adam const&, \
                                   pw::any_transport&, way_to_step const&, outcome&, std::mutex&);     \
  keyword template void train_rank(setting const&, pw::plan_view, __VA_ARGS__ const&, pw::sgd const&,  \
                                   pw::any_transport&, way_to_step const&, outcome&, std::mutex&)
PIPEWRIGHT_TRAINING(extern, layers_on_host);
PIPEWRIGHT_TRAINING(extern, layers_on_device<float>);
PIPEWRIGHT_TRAINING(extern, layers_on_device<gpt2::cuda::bf16>);

}  // namespace small_training
