// SPDX-License-Identifier: Apache-2.0
#include "cuda_half.hpp"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <numeric>
#include <optional>
#include <utility>
#include <vector>

#include <pipewright/cuda/loopback.hpp>
#include <pipewright/cuda/peers.hpp>
#include <pipewright/cuda/products.hpp>
#include <pipewright/cuda/recorder.hpp>
#include <pipewright/cuda/shared_steps.hpp>
#include <pipewright/cuda/step_graph.hpp>
#include <pipewright/gpt2_cuda/attentions.hpp>
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
  /// `all`: the steps of the ranks that share the device; null: it is this rank's alone.
  device_endpoint(T& here, endpoint& beneath, pw::cuda::context& where, bool has_graphs, pw::cuda::shared_steps* all)
      : endpoint_of<T>(here), beneath_{beneath}, watch_{where}, tells_{all == nullptr || here.rank() == 0} {
    if (has_graphs && all != nullptr) graph_.emplace(where, *all);
    else if (has_graphs) graph_.emplace(where);
  }
  /// Says why steps were not run as graphs, where they should have been.
  ~device_endpoint() override {
    if (graph_ && tells_ && !graph_->why_not().empty())
      fmt::print(stderr, "train_gpt2: steps were not run as CUDA graphs: {}\n", graph_->why_not());
  }
  bool is_told_to_end() const override { return beneath_.is_told_to_end(); }
  device_watch* watch() const override { return &watch_; }
  void run_step(std::function<void()> const& step, bool is_watched) override {
    if (graph_ && !is_watched) (*graph_)(step);
    else step();
  }

 private:
  endpoint& beneath_;
  mutable cuda_watch watch_;
  bool tells_;
  std::optional<pw::cuda::step_graph> graph_;
};

int devices_in_sight() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;  // a context says what is wrong
}
/// The number of a device's name; where it has none that of the local rank, round and round.
int device_of(std::string const& name, int local_rank) {
  if (name == "cuda") {
    int const count = devices_in_sight();
    return count > 0 ? local_rank % count : 0;
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
    bool const is_one_process = r.transport != "nccl";
    if (is_one_process && r.device == "cuda") {
      std::vector<int> all(static_cast<std::size_t>(std::min(devices_in_sight(), r.ranks)));
      std::iota(all.begin(), all.end(), 0);
      pw::cuda::share_pools(all);
    }
    bool const has_one_shape = !r.has_documents() || r.pad_to > 0,
               is_one_device = r.device != "cuda" || r.ranks == 1 || devices_in_sight() == 1,
               has_graphs = has_one_shape &&
                            (is_one_process ? r.graphs.value_or(true) && is_one_device : r.graphs.value_or(false));
    pw::cuda::shared_steps all(r.ranks, r.deadline);
    return hosts_.run(r, plan, [&](endpoint& beneath) {
      auto const place = std::ranges::find(here, beneath.rank()) - here.begin();
      pw::cuda::context where(device_of(r.device, static_cast<int>(place)), beneath.rank());
      if (!r.deterministic && has_one_shape) {
        where.kept<pw::cuda::products>().choose(pw::cuda::choice::by_timing);
        where.kept<pw::gpt2::cuda::attentions>().choose(pw::cuda::choice::by_timing);
      }
      if (is_one_process) {
        pw::cuda::loopback::endpoint<endpoint> over(beneath, where);
        return run_over(part_of, over, beneath, where, has_graphs, &all);
      }
#ifdef TRAINER_HAS_NCCL
      pw::nccl::options how;
      how.deadline = r.deadline;
      if (has_one_shape) how.shapes = pw::nccl::fixed;
      pw::nccl::endpoint<endpoint> over(beneath, where, how);
      return run_over(part_of, over, beneath, where, has_graphs, nullptr);
#else
      throw pw::error("this train_gpt2 was built without NCCL; install it, configure and build again");
#endif
    });
  }

 private:
  template<class T> static share run_over(part const& part_of, T& over, endpoint& beneath, pw::cuda::context& where,
                                          bool has_graphs, pw::cuda::shared_steps* all) {
    device_endpoint<T> end(over, beneath, where, has_graphs, all);
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
    if (r.transport == "nccl") {
      // A kernel that is loaded when it is first used would wait for receives that are queued ahead.
      setenv("CUDA_MODULE_LOADING", "EAGER", 0);
      // Buffers that NCCL registers for graphs must be in graphs at both ends; a rank may have none.
      setenv("NCCL_GRAPH_REGISTER", "0", 0);
    }
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
