// SPDX-License-Identifier: Apache-2.0
#include "cuda_half.hpp"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include <pipewright/cuda/loopback.hpp>
#include <pipewright/cuda/products.hpp>
#include <pipewright/cuda/recorder.hpp>
#include <pipewright/cuda/step_graph.hpp>
#include <pipewright/gpt2_cuda/backend.hpp>

#ifdef TRAINER_HAS_NCCL
#include <pipewright/nccl/nccl.hpp>
#endif

namespace trainer {

namespace {

class cuda_watch final : public device_watch {
 public:
  explicit cuda_watch(pw::cuda::context& where) : seen_{where} {}
  void before(pw::event const& e) override { seen_.before(e); }
  void after(pw::event const& e) override { seen_.after(e); }
  std::vector<pw::timed_action> take() override { return seen_.take(); }

 private:
  pw::cuda::recorder seen_;
};

/// A rank's end over one transport of a device, beneath which another carries what the hosts say.
template<class T> class device_endpoint final : public endpoint_of<T> {
 public:
  device_endpoint(T& here, endpoint& beneath, pw::cuda::context& where, request const& r)
      : endpoint_of<T>(here), beneath_{beneath}, watch_{where}, graph_{where}, has_graphs_{r.graphs && r.ranks == 1} {}
  /// Says why steps were not run as graphs, where they should have been.
  ~device_endpoint() override {
    if (!graph_.why_not().empty())
      fmt::print(stderr, "train_gpt2: steps were not run as CUDA graphs: {}\n", graph_.why_not());
  }
  bool is_told_to_end() const override { return beneath_.is_told_to_end(); }
  device_watch* watch() const override { return &watch_; }
  void run_step(std::function<void()> const& step, bool is_watched) override {
    if (has_graphs_ && !is_watched) graph_(step);
    else step();
  }

 private:
  endpoint& beneath_;
  mutable cuda_watch watch_;
  pw::cuda::step_graph graph_;
  bool has_graphs_;
};

/// The number of a device's name; where it has none that of the local rank, round and round.
int device_of(std::string const& name, int local_rank) {
  if (name == "cuda") {
    int count = 0;
    if (cudaGetDeviceCount(&count) != cudaSuccess) count = 0;
    return count > 0 ? local_rank % count : 0;  // a context says what is wrong
  }
  int number = 0;
  auto const* const end = name.data() + name.size();
  auto const [stop, code] = std::from_chars(name.data() + std::min<std::size_t>(name.size(), 5), end, number);
  if (!name.starts_with("cuda:") || code != std::errc{} || stop != end)
    throw pw::error(fmt::format("there is no device '{}'; choose cuda, or cuda:1 for the second one", name));
  return number;
}

/// The same ranks, each with a place on a device.
class on_devices final : public processes {
 public:
  explicit on_devices(processes const& hosts) : hosts_{hosts} {}
  int rank() const override { return hosts_.rank(); }
  std::vector<int> ranks_here(int all) const override { return hosts_.ranks_here(all); }
  std::vector<share> run(request const& r, pw::plan_view plan, part const& part_of) const override {
    auto const here = ranks_here(r.ranks);
    return hosts_.run(r, plan, [&](endpoint& beneath) {
      bool const shares_device = r.transport != "nccl";
      auto const place = std::ranges::find(here, beneath.rank()) - here.begin();
      pw::cuda::context where(device_of(r.device, shares_device ? 0 : static_cast<int>(place)), beneath.rank());
      bool const has_one_shape = !r.has_documents() || r.pad_to > 0;
      if (!r.deterministic && has_one_shape) where.kept<pw::cuda::products>().choose(pw::cuda::choice::by_timing);
      if (shares_device) return run_over<pw::cuda::loopback::endpoint<endpoint>>(part_of, beneath, where, r);
#ifdef TRAINER_HAS_NCCL
      pw::nccl::options how;
      how.deadline = r.deadline;
      if (has_one_shape) how.shapes = pw::nccl::fixed;
      return run_over<pw::nccl::endpoint<endpoint>>(part_of, beneath, where, r, how);
#else
      throw pw::error("this train_gpt2 was built without NCCL; install it, configure and build again");
#endif
    });
  }

 private:
  template<class T> static share run_over(part const& part_of, endpoint& beneath, pw::cuda::context& where,
                                          request const& r, auto const&... how) {
    T over(beneath, where, how...);
    device_endpoint<T> end(over, beneath, where, r);
    share made = part_of(end);
    where.wait();
    return made;
  }

  processes const& hosts_;
};

class half final : public cuda_half {
 public:
  outcome train(processes const& on, request const& r, prospect const& p, data_set const& data, progress_line report,
                origin const& from) const override {
    // A kernel that is loaded when it is first used would wait for receives that are queued ahead.
    if (r.transport == "nccl") setenv("CUDA_MODULE_LOADING", "EAGER", 0);
    on_devices const all(on);
    if (r.precision == "fp32")
      return train_layers(pw::gpt2::cuda::model<float>(r.model, loss_of(r)), all, r, p, data, std::move(report), from);
    return train_layers(pw::gpt2::cuda::model<pw::gpt2::cuda::bf16>(r.model, loss_of(r)), all, r, p, data,
                        std::move(report), from);
  }
};

}  // namespace

}  // namespace trainer

extern "C" trainer::cuda_half const* train_gpt2_cuda_half() {
  static trainer::half const one;
  return &one;
}
