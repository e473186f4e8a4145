// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <pipewright/cuda/context.hpp>
#include <pipewright/cuda/memory.hpp>
#include <pipewright/nccl/channel.hpp>
#include <pipewright/nccl/communicators.hpp>
#include <pipewright/nccl/guard.hpp>
#include <pipewright/nccl/lane.hpp>
#include <pipewright/nccl/options.hpp>
#include <pipewright/nccl/roll.hpp>

namespace pipewright::inline v0::nccl::detail {

/// Gives channels that were opened at both ends their lanes: ranks tell each other what they have opened, check that it fits together,
/// make communicators in one order, and try each channel out.
template<transport Control> class connections {
 public:
  connections(Control& control, cuda::context& where, options const& how, communicators& of, guard<Control>& guarded)
      : control_{control}, where_{where}, how_{how}, communicators_{of}, guard_{guarded} {}
  connections(connections const&) = delete;
  connections& operator=(connections const&) = delete;

  /// Connects what was opened since the last time; on all ranks.
  void connect(channels& mine) {
    auto const all = call_roll(mine);
    if (how_.one_communicator) check_no_ring(all);
    if (how_.one_communicator && shared_ == nullptr) shared_ = &connect_all(all[0].of_all);
    std::vector<channel*> due;
    mine.for_each([&](channel& c) {
      if (c.over == nullptr && all[static_cast<std::size_t>(c.peer())].id_of(c.key) != nullptr) due.push_back(&c);
    });
    std::ranges::sort(due, [](channel* a, channel* b) { return connects_before(a->key, b->key); });
    for (channel* const c : due) {
      if (shared_ != nullptr) check_alone(*c, mine);
      c->over = shared_ != nullptr ? shared_
                                   : &connect(2, *all[static_cast<std::size_t>(c->key.source)].id_of(c->key),
                                              c->sends ? 0 : 1, spelled(*c));
      try_out(*c);
    }
  }
  /// The lane of all channels, or null where each has its own.
  lane* shared() { return shared_; }
  /// Throws where a communicator has failed.
  void look() {
    for (auto const& each : lanes_) guard_.is_busy(each->over(), each->what());
  }

 private:
  static std::string spelled(channel const& c) { return pipewright::detail::spelled(c.key); }

  /// What all ranks have opened, and how they are set up, which is alike.
  std::vector<roll_entry> call_roll(channels& opened) {
    roll_entry mine;
    int version = 0;
    check(ncclGetVersion(&version), "ncclGetVersion");
    mine.set_up = {version, static_cast<std::int32_t>(how_.shapes), how_.one_communicator};
    if (control_.rank() == 0 && how_.one_communicator && how_.communicator == nullptr && shared_ == nullptr)
      check(ncclGetUniqueId(&mine.of_all), "ncclGetUniqueId");
    opened.for_each([&](channel& c) {
      if (c.over != nullptr) return;
      if (c.sends && !c.id && !how_.one_communicator) check(ncclGetUniqueId(&c.id.emplace()), "ncclGetUniqueId");
      mine.opened.push_back({c.key, c.id.value_or(ncclUniqueId{})});
    });
    ticket last;
    auto all = detail::call_roll(control_, std::move(mine), last);
    guard_.ask_by(last);
    for (int each = 0; each < control_.size(); ++each)
      if (auto const& theirs = all[static_cast<std::size_t>(each)]; theirs.set_up != all[0].set_up)
        guard_.fail(pipewright::detail::spelled_rank(each) + " has " + theirs.spelled_set_up() + ", but rank 0 has " +
                    all[0].spelled_set_up() + "; start every rank with one library and the same nccl::options");
    return all;
  }

  lane& connect(int ranks, ncclUniqueId const& id, int number, std::string const& what) {
    ncclComm_t made = nullptr;
    try {
      made = communicators_.begin(ranks, id, number, how_.most_blocks);
    } catch (error const& e) {
      guard_.fail(guard_.located() + " cannot connect " + what + ": " + e.what());
    }
    guard_.wait_until([&] { return !guard_.is_busy(made, what); }, [&] { return "the other end to connect " + what; },
                      [&] { guard_.hear(); });
    return *lanes_.emplace_back(std::make_unique<lane>(made, what, how_.one_communicator));
  }
  lane& connect_all(ncclUniqueId const& id) {
    if (how_.communicator == nullptr) return connect(control_.size(), id, control_.rank(), all_ranks);
    int ranks = 0, number = 0;
    check(ncclCommCount(how_.communicator, &ranks), "ncclCommCount", how_.communicator);
    check(ncclCommUserRank(how_.communicator, &number), "ncclCommUserRank", how_.communicator);
    if (ranks != control_.size() || number != control_.rank())
      guard_.fail(guard_.located() + " of " + std::to_string(control_.size()) + " is rank " + std::to_string(number) +
                  " of " + std::to_string(ranks) +
                  " in nccl::options::communicator; give one that has the control transport's ranks");
    return *lanes_.emplace_back(std::make_unique<lane>(communicators_.borrow(how_.communicator), all_ranks, true));
  }

  void check_no_ring(std::vector<roll_entry> const& all) {
    for (auto const& entry : all)
      for (auto const& [key, id] : entry.opened)
        if (key.carries == traffic::activation) activations_.push_back(key);
    if (has_ring(activations_))
      guard_.fail(
          "activations go round in a ring of ranks, as in an interleaved schedule, whose transfers may wait for each "
          "other within one communicator; leave each channel a communicator of its own");
  }
  /// Within one communicator two ranks' transfers match by their order alone.
  void check_alone(channel& c, channels& mine) {
    mine.for_each([&](channel& other) {
      if (&other != &c && other.key.source == c.key.source && other.key.destination == c.key.destination)
        guard_.fail(
            guard_.located() + " cannot tell " + spelled(c) + " from " + spelled(other) +
            " within one communicator; leave each channel a communicator of its own, or take another number of ranks");
    });
  }
  /// NCCL connects two ranks with their first transfer; here one of no consequence.
  void try_out(channel& c) {
    scratch_.resize(1);
    where_.wait();  // it is there for other streams too
    group one(c.over->over());
    one.add(c.sends, c.peer_in_lane(), scratch_.data(), 1);
    c.over->move(guard_, one);
    cuda::event passed;
    passed.record(c.over->stream());
    guard_.wait_until([&] { return passed.is_reached(); },
                      [&] { return pipewright::detail::spelled_rank(c.peer()) + " to try out " + spelled(c); },
                      [&] { guard_.hear(); });
  }

  static constexpr char const* all_ranks = "the communicator of all ranks";

  Control& control_;
  cuda::context& where_;
  options const& how_;
  communicators& communicators_;
  guard<Control>& guard_;
  cuda::buffer<char> scratch_;
  std::vector<std::unique_ptr<lane>> lanes_;
  lane* shared_ = nullptr;
  std::vector<channel_key> activations_;  // channels of all ranks, where that matters
};

}  // namespace pipewright::inline v0::nccl::detail
