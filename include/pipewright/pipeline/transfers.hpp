// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <vector>

#include <pipewright/pipeline/cell.hpp>
#include <pipewright/pipeline/exchange.hpp>
#include <pipewright/plan/channels.hpp>
#include <pipewright/transport/transport.hpp>

namespace pipewright::inline v0::detail {

/// A rank's transfers: which slot and which channel each of them uses, and which are under way.
template<transport Transport> class rank_transfers {
 public:
  /// Opens the rank's channels. Cells (by stage, null where a stage stands elsewhere) and exchange outlive this.
  rank_transfers(plan_view const& plan, Transport& here, std::vector<cell_base*> const& cell_of_stage,
                 step_exchange& exchange)
      : here_{here}, cell_of_stage_{cell_of_stage}, exchange_{exchange}, channels_{channels_of(plan)} {
    handles_.assign(static_cast<std::size_t>(channels_.count()), -1);
    for (int c = 0; c < channels_.count(); ++c)
      if (channels_.key(c).source == here.rank() || channels_.key(c).destination == here.rank())
        handles_[static_cast<std::size_t>(c)] = here.open(channels_.key(c));
  }

  /// The transfer that must be complete before an action may run, and is not; or null.
  ticket const* blocking(action a) {
    slot_ring::slot* const slot = needed(a);
    if (slot == nullptr || !slot->pending) return nullptr;
    if (!here_.poll(slot->transfer)) return &slot->transfer;
    slot->pending = false;
    return nullptr;
  }
  void post(action a) {
    slot_ring::slot& slot = slot_of(a);
    slot.transfer = here_.post(handle(a), slot.value);
    slot.pending = true;
  }
  void send(action a) {
    slot_ring::slot& slot = slot_of(a);
    sent_ += slot.value.type->bytes(slot.value.object);
    slot.transfer = here_.send(handle(a), slot.value);
    slot.pending = true;
  }
  /// Bytes since the start.
  std::size_t sent() const { return sent_; }

  /// Whether a receive is posted into a slot and not there yet.
  bool awaits_anything() {
    bool result = false;
    auto const look = [&](slot_ring& ring) {
      for (auto& slot : ring.slots) result = result || (slot.pending && !here_.poll(slot.transfer));
    };
    for_each_cell([&](cell_base& c) {
      look(c.input);
      look(c.output_gradient);
    });
    exchange_.for_each_receive(look);
    return result;
  }
  /// Waits until all that was sent has left its slots.
  void settle_sends() {
    auto const settle = [&](slot_ring& ring) {
      for (auto& slot : ring.slots) {
        if (slot.pending) here_.wait(slot.transfer);
        slot.pending = false;
      }
    };
    for_each_cell([&](cell_base& c) {
      settle(c.output);
      settle(c.input_gradient);
    });
    exchange_.for_each_send(settle);
  }

 private:
  void for_each_cell(auto&& visit) {
    for (cell_base* const c : cell_of_stage_)
      if (c != nullptr) visit(*c);
  }
  cell_base& cell_at(int stage) { return *cell_of_stage_[static_cast<std::size_t>(stage)]; }
  int handle(action a) const { return handles_[static_cast<std::size_t>(channels_.of(a))]; }

  slot_ring::slot& slot_of(action a) {
    if (traffic_of(a.what) >= traffic::tied_gradient) return exchange_.slot(a);
    cell_base& c = cell_at(a.stage);
    if (traffic_of(a.what) == traffic::activation) return (is_send(a.what) ? c.output : c.input).of(a.micro_batch);
    return (is_send(a.what) ? c.input_gradient : c.output_gradient).of(a.micro_batch);
  }
  /// What a transfer uses; what a forward or backward writes for another rank.
  slot_ring::slot* needed(action a) {
    if (is_transfer(a.what)) return &slot_of(a);
    if (a.what == kind::forward) return written(cell_at(a.stage).output, a.micro_batch);
    if (gives_input_gradient(a.what)) return written(cell_at(a.stage).input_gradient, a.micro_batch);
    return nullptr;
  }
  static slot_ring::slot* written(slot_ring& ring, int micro_batch) {
    return ring.slots.empty() ? nullptr : &ring.of(micro_batch);
  }

  Transport& here_;
  std::vector<cell_base*> const& cell_of_stage_;
  step_exchange& exchange_;
  channel_table channels_;
  std::vector<int> handles_;  // by channel of the plan
  std::size_t sent_ = 0;
};

}  // namespace pipewright::inline v0::detail
