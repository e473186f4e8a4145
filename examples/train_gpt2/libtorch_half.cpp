// SPDX-License-Identifier: Apache-2.0
#include "libtorch_half.hpp"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include <ATen/Parallel.h>

#include <pipewright/gpt2_libtorch/model.hpp>
#include <pipewright/libtorch/device.hpp>
#include <pipewright/libtorch/memory_meter.hpp>

#ifdef TRAINER_HAS_GLOO
#include "over_gloo.hpp"
#endif

namespace trainer {

namespace {

class half final : public libtorch_half {
 public:
  std::unique_ptr<processes> over_gloo([[maybe_unused]] pw::launch::place here) const override {
#ifdef TRAINER_HAS_GLOO
    return std::make_unique<gloo_processes>(std::move(here));
#else
    throw pw::error("this train_gpt2 was built without Gloo; configure with PIPEWRIGHT_GLOO=ON and build again");
#endif
  }

  layer_costs measured_costs(request const& r) const override {
    at::set_num_threads(1);  // as when it trains
    return measured_costs_of(r, pw::gpt2_libtorch::model(with_one_block(r.model)));
  }

  pw::measured_profile profile(profile_request const& r) const override {
    at::set_num_threads(1);
    return profile_of<pw::libtorch::memory_meter>(pw::gpt2_libtorch::model(r.model), r);
  }

  outcome train(processes const& on, request const& r, prospect const& p, data_set const& data, progress_line report,
                origin const& from) const override {
    at::set_num_threads(1);  // of each rank: results then depend on nothing but the arguments
    auto const here = on.ranks_here(r.ranks);
    auto const local_rank = static_cast<int>(std::ranges::find(here, on.rank()) - here.begin());
    auto const device = pw::libtorch::device(r.device, local_rank);
    return train_layers(pw::gpt2_libtorch::model(r.model, loss_of(r), at::kFloat, {}, device), on, r, p, data,
                        std::move(report), from);
  }
};

}  // namespace

}  // namespace trainer

extern "C" trainer::libtorch_half const* train_gpt2_libtorch_half() {
  static trainer::half const one;
  return &one;
}
