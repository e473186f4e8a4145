// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <pipewright/cuda/context.hpp>
#include <pipewright/cuda/memory.hpp>
#include <pipewright/nccl/channel.hpp>
#include <pipewright/nccl/communicators.hpp>
#include <pipewright/nccl/options.hpp>
#include <pipewright/nccl/roll.hpp>
#include <pipewright/transport/in_process/endpoint.hpp>
#include <pipewright/transport/sentences.hpp>
#include <pipewright/transport/transport.hpp>

namespace pipewright::inline v0::nccl {

/// A rank's end of everything, where each rank has a GPU. NCCL moves the activations' and gradients' parts that lie on
/// the device; all else goes over another transport between the same ranks (MPI's, Gloo's, threads'): agreement, abort,
/// a step's traffic, NCCL's unique ids, shapes, and parts on the host, which are taken when send is called.
///
/// agree() connects the channels that were opened at both ends, each by a communicator of its two ranks; so open them
/// before. Each has a stream of its own, which waits for what the rank's stream did with the slot before. A send or
/// post is complete (poll) once it is queued: from then on the rank's stream waits for it where it must, and the host
/// for nothing. wait() for a send also lets the host wait until the value has left the slot, which may then be freed.
///
/// A transfer that takes longer than the deadline, while the host waits for it or in context::wait(), a fault that NCCL
/// reports, and an abort of another rank stop all ranks: kernels end, and each rank throws an error that says why.
///
/// What waits for the whole device on the host, such as to load a kernel when it is first used, waits for receives too that are
/// queued ahead: let CUDA_MODULE_LOADING=EAGER be set before the program's first call of CUDA. Where one process has several GPUs,
/// let it call cuda::share_pools first; of processes with a GPU each nothing is needed.
///
/// Where a rank has many channels, the environment should say CUDA_DEVICE_MAX_CONNECTIONS=32, so that no stream waits
/// for another one's kernels. NCCL's own variables hold as ever.
template<transport Control> class endpoint {
  using clock = std::chrono::steady_clock;
  using channel = detail::channel;
  using transfer = detail::transfer;
  using lane = detail::lane;

 public:
  /// Both outlive it. Stages of this rank work in `where`, in this thread. Throws error where the options contradict
  /// each other.
  endpoint(Control& control, cuda::context& where, options how = {})
      : control_{control}, where_{where}, how_{checked(how)}, communicators_{where.device()} {
    where_.meanwhile([this] { guarded([this] { look(); }); });
  }
  endpoint(endpoint const&) = delete;
  endpoint& operator=(endpoint const&) = delete;
  /// Waits until what was sent has left, by the deadline. An exception on its way stops NCCL's part at once.
  ~endpoint() {
    where_.meanwhile({});
    bool is_complete = false;
    if (!stopped_ && std::uncaught_exceptions() == exceptions_before_) try {
        guarded([&] { is_complete = leave(); });
      } catch (std::exception const&) {  // all ranks know
      }
    if (is_complete) communicators_.finish();
    communicators_.abort();
    for (auto& c : channels_)
      if (c != nullptr) forget(*c);
  }

  int rank() const { return control_.rank(); }
  int size() const { return control_.size(); }

  /// A handle for post and send; opening a channel again gives the same one. Throws as the control transport does.
  int open(channel_key key) {
    int const opened = control_.open(key);
    auto const place = static_cast<std::size_t>(opened);
    if (keys_.size() <= place) {
      keys_.resize(place + 1);
      channels_.resize(place + 1);
    }
    keys_[place] = key;
    if (key.carries != traffic::activation && key.carries != traffic::gradient) return opened;
    if (channels_[place] == nullptr) {
      channels_[place] = std::make_unique<channel>();
      channels_[place]->key = key;
      channels_[place]->sends = key.source == rank();
    }
    return opened;
  }

  /// From now on a value may land in the slot. Throws on a channel that this rank sends on.
  ticket post(int handle, message slot) {
    channel* const c = at(handle);
    if (c == nullptr) return guarded([&] { return control_.post(handle, slot); });
    if (c->sends) throw error(pipewright::detail::wrong_way(c->key, rank(), "post"));
    return guarded([&] {
      throw_if_stopped();
      transfer& made = begin(*c, slot);
      if (is_told(c->end() - 1)) made.telling = control_.post(handle, message_of(made.told));
      receive(*c);
      return ticket{handle, c->end() - 1};
    });
  }
  /// The value leaves the slot when the device has come to it. Throws on a channel that this rank receives on.
  ticket send(int handle, message value) {
    channel* const c = at(handle);
    if (c == nullptr) return guarded([&] { return control_.send(handle, value); });
    if (!c->sends) throw error(pipewright::detail::wrong_way(c->key, rank(), "send"));
    return guarded([&] {
      throw_if_stopped();
      transfer& made = begin(*c, value);
      auto const number = c->end() - 1;
      describe(value, made.told, how_.shapes == fixed && number > 0 ? &*c->first_told : nullptr);
      if (how_.shapes == fixed) check_fixed(*c, number, made.told);
      if (how_.one_communicator && number == 0) make_whole(made.told, value);
      made.uses_device = made.told.uses_device();
      made.on_device = made.told.on_device;
      if (is_told(number)) made.telling = control_.send(handle, message_of(made.told));
      c->queued = c->end();
      queue_or_keep_back(*c, made);
      return ticket{handle, number};
    });
  }

  /// Whether the transfer is queued on the device, if any of it goes there; the rank's stream now waits for it. Throws
  /// after an abort, and what the control transport throws.
  bool poll(ticket of) {
    return guarded([&] {
      channel* const c = at(of.channel);
      if (c == nullptr) return control_.poll(of);
      throw_if_stopped();
      if (of.number < c->first) return true;
      transfer& t = c->at(of.number);
      if (!t.is_queued) bring_up(*c, of.number);
      if (!t.is_queued) return false;
      if (t.uses_device && t.held == 0) {
        t.end.hold(where_.stream());
        t.held = ++holds_;
      }
      return true;
    });
  }
  /// Waits until the transfer is complete, a send until it has left its slot. Throws like poll, and by the deadline.
  void wait(ticket of) {
    guarded([&] {
      channel* const c = at(of.channel);
      auto const is_complete = [&] {
        if (!poll(of)) return false;
        return c == nullptr || !c->sends || of.number < c->first || c->at(of.number).is_over();
      };
      wait_until(is_complete, [&] { return missing(of); }, [&] { look(); });
    });
  }
  /// Lets a wait or poll that fails say where its rank is, instead of its rank alone. Asked then only.
  void locate(std::function<std::string()> where) {
    place_ = where;
    if constexpr (requires { control_.locate(where); }) control_.locate(std::move(where));
  }
  /// See transport.
  void computing(bool begins) noexcept requires requires(Control& c) { c.computing(begins); } {
    control_.computing(begins);
  }
  /// Moves what can be moved. Throws after an abort, and where NCCL has failed.
  void progress() {
    guarded([&] { look(); });
  }

  /// Throws on every rank, naming who said what, unless all ranks call it with one text; and by the deadline. Connects
  /// what was opened since the last time.
  void agree(std::string_view digest) {
    guarded([&] {
      throw_if_stopped();
      control_.agree(digest);
      if (size() > 1) connect();
    });
  }
  /// Stops every rank: each wait, poll, send and post throws with the reason, the first one given.
  void abort(std::string_view why) noexcept { stop(why); }

 private:
  static options checked(options how) {
    how.one_communicator = how.one_communicator || how.communicator != nullptr;
    if (how.one_communicator && how.shapes != fixed)
      throw error(
          "pipewright: one communicator of all ranks moves values of fixed shapes only, since a rank must know what it "
          "receives before it sends; set shapes to fixed, or leave each channel a communicator of its own");
    return how;
  }

  channel* at(int handle) {
    auto const place = static_cast<std::size_t>(handle);
    return place < channels_.size() ? channels_[place].get() : nullptr;
  }
  void for_each_channel(auto&& visit) {
    for (auto& c : channels_)
      if (c != nullptr) visit(*c);
  }

  // ---- moving ------------------------------------------------------------------------------------------------------
  /// Whether the sender's host tells of a transfer.
  bool is_told(std::uint64_t number) const { return how_.shapes == varying || number == 0; }

  transfer& begin(channel& c, message value) {
    if (c.kept.size() >= most_kept) drop(c);
    transfer& made = c.append(value);
    made.last_use.record(where_.stream());
    return made;
  }
  void check_fixed(channel& c, std::uint64_t number, detail::manifest const& told) {
    if (number == 0) c.first_told = told;
    else if (told != *c.first_told)
      fail(located() + " sends " + pipewright::detail::spelled(c.key, number) +
           " with another shape, or other parts on the host, than the first; set nccl::options::shapes to varying");
  }

  /// Where a value's parts on the device lie, in one number.
  static std::uintptr_t places_of(message value) {
    std::uintptr_t all = 0;
    value.type->for_each_part(
        value.object,
        [](void* context, part p) {
          auto& to = *static_cast<std::uintptr_t*>(context);
          if (p.on_device) to = to * 31 + reinterpret_cast<std::uintptr_t>(p.data);
        },
        &all);
    return all;
  }
  /// Whether a posted slot is ready for what comes: its shape is known, and the slot has it.
  bool is_ready(channel& c, std::uint64_t number) {
    transfer& t = c.at(number);
    if (t.is_ready) return true;
    if (t.telling) {
      if (!control_.poll(*t.telling)) return false;
      t.telling.reset();
    }
    if (!is_told(number) && !c.first_told) return false;
    auto const& told = is_told(number) ? t.told : *c.first_told;
    if (told.type != t.value.type->name)
      fail(pipewright::detail::unlike_types(c.key, number, told.type, t.value.type->name));
    auto const before = places_of(t.value);
    apply(told, t.value);
    if (places_of(t.value) != before)
      t.last_use.record(where_.stream());  // memory that grew is there from here on only
    t.uses_device = told.uses_device();
    t.on_device = told.on_device;
    if (how_.shapes == fixed && number == 0) describe(t.value, c.first_told.emplace(), &t.told);
    return t.is_ready = true;
  }
  /// Queues the receives that can be, in their order. Of one communicator of all ranks only those before `needed`.
  void receive(channel& c, std::uint64_t needed = 0) {
    if (c.is_receiving) return;
    detail::raised const now(c.is_receiving);
    while (c.queued < c.end() && is_ready(c, c.queued)) {
      transfer& t = c.at(c.queued);
      if (t.uses_device && is_over_shared(c) && c.queued >= needed) return;
      ++c.queued;
      queue_or_keep_back(c, t);
    }
  }
  bool is_over_shared(channel const& c) const { return c.over != nullptr && c.over->is_shared(); }

  void queue_or_keep_back(channel& c, transfer& t) {
    if (!t.uses_device) {
      t.is_queued = true;
      return;
    }
    if (c.over == nullptr)
      fail(located() + " has a value on its device for " + pipewright::detail::spelled(c.key) +
           ", which is not connected; open it on both ranks before agree() (a pipeline does so)");
    std::pair const one(&c, &t);
    if (is_over_shared(c)) c.over->kept_back.push_back(one);
    else queue(*c.over, {&one, 1});
  }
  /// A transfer is needed: what was kept back leaves, and with it the receives up to that one come.
  void bring_up(channel& c, std::uint64_t number) {
    receive(c, number + 1);
    let_leave();
  }
  void let_leave() {
    if (shared_ == nullptr || shared_->kept_back.empty()) return;
    auto const group = std::exchange(shared_->kept_back, {});
    queue(*shared_, group);
  }
  /// Queues transfers as one group, after their slots' last uses.
  void queue(lane& over, std::span<std::pair<channel*, transfer*> const> group) {
    for (auto const& [c, t] : group) t->last_use.hold(over.stream());
    move(over, [&] {
      ncclResult_t code = ncclSuccess;
      for (auto const& [c, t] : group) {
        std::size_t i = 0;
        detail::for_each_part_of(t->value, [&, c = c, t = t](part p) {
          if (t->on_device[i++] == 0 || code != ncclSuccess) return;
          code = c->sends ? ncclSend(p.data, p.bytes, ncclInt8, c->peer_in_lane(), over.over(), over.stream())
                          : ncclRecv(p.data, p.bytes, ncclInt8, c->peer_in_lane(), over.over(), over.stream());
          if (code == ncclInProgress) code = ncclSuccess;
        });
      }
      return code;
    });
    for (auto const& [c, t] : group) {
      t->end.record(over.stream());
      t->is_queued = true;
    }
  }
  /// One group of a lane. When it returns, the group is queued on the lane's stream.
  void move(lane& over, auto&& calls) {
    check(ncclGroupStart(), "ncclGroupStart");
    ncclResult_t const called = calls(), ended = ncclGroupEnd();
    check(called, "ncclSend or ncclRecv", over.over());
    check(ended, "ncclGroupEnd", over.over());
    wait_until([&] { return !is_busy(over.over(), over.what()); }, [] { return "NCCL to queue a transfer"; },
               [&] { hear(); });
  }
  /// Drops the oldest transfers that are over.
  void drop(channel& c) {
    while (!c.kept.empty()) {
      transfer& t = *c.kept.front();
      if (c.sends && t.telling && control_.poll(*t.telling)) t.telling.reset();
      if (t.telling || !t.is_over()) return;
      c.drop_first();
    }
  }

  // ---- connecting --------------------------------------------------------------------------------------------------
  void connect() {
    detail::roll_entry mine;
    int version = 0;
    check(ncclGetVersion(&version), "ncclGetVersion");
    mine.set_up = {version, static_cast<std::int32_t>(how_.shapes), how_.one_communicator};
    if (rank() == 0 && how_.one_communicator && how_.communicator == nullptr && shared_ == nullptr)
      check(ncclGetUniqueId(&mine.of_all), "ncclGetUniqueId");
    for_each_channel([&](channel& c) {
      if (c.over != nullptr) return;
      if (c.sends && !c.id && !how_.one_communicator) check(ncclGetUniqueId(&c.id.emplace()), "ncclGetUniqueId");
      mine.opened.push_back(c.key);
      mine.ids.push_back(c.id.value_or(ncclUniqueId{}));
    });
    ticket last;
    auto const all = detail::call_roll(control_, std::move(mine), last);
    last_ = last;
    for (int each = 0; each < size(); ++each)
      if (auto const& theirs = all[static_cast<std::size_t>(each)]; theirs.set_up != all[0].set_up)
        fail(pipewright::detail::spelled_rank(each) + " has " + theirs.spelled_set_up() + ", but rank 0 has " +
             all[0].spelled_set_up() + "; start every rank with one library and the same nccl::options");

    if (how_.one_communicator) check_no_ring(all);
    if (how_.one_communicator && shared_ == nullptr) shared_ = &connect_all(all[0].of_all);
    std::vector<channel*> due;
    for_each_channel([&](channel& c) {
      if (c.over == nullptr && all[static_cast<std::size_t>(c.peer())].id_of(c.key) != nullptr) due.push_back(&c);
    });
    std::ranges::sort(due, [](channel* a, channel* b) { return detail::connects_before(a->key, b->key); });
    for (channel* const c : due) {
      if (shared_ != nullptr) check_alone(*c);
      c->over = shared_ != nullptr ? shared_
                                   : &connect(2, *all[static_cast<std::size_t>(c->key.source)].id_of(c->key),
                                              c->sends ? 0 : 1, pipewright::detail::spelled(c->key));
      try_out(*c);
    }
  }
  lane& connect(int ranks, ncclUniqueId const& id, int number, std::string const& what) {
    ncclComm_t made = nullptr;
    try {
      made = communicators_.begin(ranks, id, number, how_.most_blocks);
    } catch (error const& e) {
      fail(located() + " cannot connect " + what + ": " + e.what());
    }
    wait_until([&] { return !is_busy(made, what); }, [&] { return "the other end to connect " + what; },
               [&] { hear(); });
    return *lanes_.emplace_back(std::make_unique<lane>(made, what, how_.one_communicator));
  }
  lane& connect_all(ncclUniqueId const& id) {
    if (how_.communicator == nullptr) return connect(size(), id, rank(), all_ranks);
    int ranks = 0, number = 0;
    check(ncclCommCount(how_.communicator, &ranks), "ncclCommCount", how_.communicator);
    check(ncclCommUserRank(how_.communicator, &number), "ncclCommUserRank", how_.communicator);
    if (ranks != size() || number != rank())
      fail(located() + " of " + std::to_string(size()) + " is rank " + std::to_string(number) + " of " +
           std::to_string(ranks) + " in nccl::options::communicator; give one that has the control transport's ranks");
    return *lanes_.emplace_back(std::make_unique<lane>(communicators_.borrow(how_.communicator), all_ranks, true));
  }
  void check_no_ring(std::vector<detail::roll_entry> const& all) {
    for (auto const& entry : all)
      for (channel_key const key : entry.opened)
        if (key.carries == traffic::activation) activations_.push_back(key);
    if (detail::has_ring(activations_))
      fail(
          "activations go round in a ring of ranks, as in an interleaved schedule, whose transfers may wait for each "
          "other within one communicator; leave each channel a communicator of its own");
  }
  /// Within one communicator two ranks' transfers match by their order alone.
  void check_alone(channel& c) {
    for_each_channel([&](channel& other) {
      if (&other != &c && other.key.source == c.key.source && other.key.destination == c.key.destination)
        fail(located() + " cannot tell " + pipewright::detail::spelled(c.key) + " from " +
             pipewright::detail::spelled(other.key) +
             " within one communicator; leave each channel a communicator of its own, or take another number of ranks");
    });
  }
  /// NCCL connects two ranks with their first transfer; here one of no consequence.
  void try_out(channel& c) {
    scratch_.resize(1);
    where_.wait();  // it is there for other streams too
    move(*c.over, [&] {
      auto const peer = c.peer_in_lane();
      return c.sends ? ncclSend(scratch_.data(), 1, ncclInt8, peer, c.over->over(), c.over->stream())
                     : ncclRecv(scratch_.data(), 1, ncclInt8, peer, c.over->over(), c.over->stream());
    });
    cuda::event passed;
    passed.record(c.over->stream());
    wait_until([&] { return passed.is_reached(); },
               [&] {
                 return pipewright::detail::spelled_rank(c.peer()) + " to try out " +
                        pipewright::detail::spelled(c.key);
               },
               [&] { hear(); });
  }

  /// Whether the last call on a communicator is in progress. Throws where it has failed.
  bool is_busy(ncclComm_t of, std::string const& what) {
    auto const state = communicators::state_of(of);
    if (state != ncclSuccess && state != ncclInProgress)
      fail(located() + " has lost " + what + ": " + detail::words_for(state, of));
    return state == ncclInProgress;
  }

  // ---- waiting -----------------------------------------------------------------------------------------------------
  void wait_until(auto&& is_done, auto&& awaited, auto&& meanwhile) {
    auto const start = clock::now();
    for (int looks = 0; !is_done(); ++looks) {
      meanwhile();
      if (is_late(clock::now() - start))
        fail(located() + " waited " + pipewright::detail::spelled_seconds(how_.deadline) + " for " + awaited());
      if (looks < eager_looks) std::this_thread::yield();
      else std::this_thread::sleep_for(std::chrono::microseconds(20));
    }
  }
  bool is_late(clock::duration waited) const {
    return how_.deadline > 0 && std::chrono::duration<double>(waited).count() > how_.deadline;
  }
  /// Whether another rank has stopped all.
  void hear() {
    control_.progress();
    throw_if_stopped();
  }
  void throw_if_stopped() {
    if (last_) control_.poll(*last_);  // throws the first reason
    if (stopped_) throw error(reason_);
  }
  /// All that a rank does for others while it waits.
  void look() {
    hear();
    if (is_looking_) return;
    detail::raised const now(is_looking_);
    for (auto const& each : lanes_) is_busy(each->over(), each->what());
    for_each_channel([&](channel& c) {
      if (!c.sends) receive(c);
      drop(c);
    });
    let_leave();
    watch();
  }
  /// The oldest transfer for which the rank's stream waits has its deadline, of the time in which the host waits, too.
  void watch() {
    auto const now = clock::now();
    ticket oldest;
    std::uint64_t held = 0;
    for (std::size_t i = 0; i < channels_.size(); ++i) {
      if (channels_[i] == nullptr) continue;
      for (std::uint64_t n = channels_[i]->first; n < channels_[i]->queued; ++n) {
        transfer const& t = channels_[i]->at(n);
        if (t.held == 0 || t.is_over()) continue;
        if (held == 0 || t.held < held) oldest = {static_cast<int>(i), n}, held = t.held;
        break;
      }
    }
    if (held != watched_) watched_since_ = now;
    else if (now - looked_ > std::chrono::seconds(1)) watched_since_ += now - looked_;  // the host did something else
    watched_ = held;
    looked_ = now;
    if (held != 0 && is_late(now - watched_since_))
      fail(located() + " waited " + pipewright::detail::spelled_seconds(how_.deadline) + " on its device for " +
           missing(oldest));
  }
  /// Lets what was sent leave; whether nothing is under way.
  bool leave() {
    let_leave();
    bool is_complete = true;
    for (std::size_t i = 0; i < channels_.size(); ++i) {
      if (channels_[i] == nullptr) continue;
      channel& c = *channels_[i];
      if (c.sends && c.end() > c.first) wait({static_cast<int>(i), c.end() - 1});
      for (std::uint64_t n = c.first; n < c.queued; ++n) is_complete = is_complete && c.at(n).is_over();
    }
    return is_complete;
  }
  /// A manifest that the control transport may still touch is left to it.
  void forget(channel& c) {
    for (auto& each : c.kept) {
      if (!each->telling || stopped_) continue;
      try {
        if (!control_.poll(*each->telling)) static_cast<void>(each.release());
      } catch (std::exception const&) {  // it touches nothing any more
      }
    }
  }

  // ---- stopping ----------------------------------------------------------------------------------------------------
  void stop(std::string_view why) noexcept {
    if (std::exchange(stopped_, true)) return;
    try {
      reason_ = why;
    } catch (std::exception const&) {  // there is no memory to say why
    }
    control_.abort(why);
    communicators_.abort();
  }
  [[noreturn]] void fail(std::string const& why) {
    stop(why);
    throw error(why);
  }
  /// What goes wrong stops all ranks.
  auto guarded(auto&& work) {
    try {
      return work();
    } catch (std::exception const& e) {
      stop(e.what());
      throw;
    }
  }

  // ---- sentences ---------------------------------------------------------------------------------------------------
  std::string located() const { return place_ ? place_() + ":" : pipewright::detail::spelled_rank(rank()); }
  std::string missing(ticket of) {
    channel_key const key = keys_[static_cast<std::size_t>(of.channel)];
    bool const sends = key.source == rank();
    return pipewright::detail::spelled(key, of.number) + ", which " +
           pipewright::detail::spelled_rank(sends ? key.destination : key.source) + " has not " +
           (sends ? "received" : "sent");
  }

  static constexpr char const* all_ranks = "the communicator of all ranks";
  static constexpr int eager_looks = 1000;      // some milliseconds
  static constexpr std::size_t most_kept = 32;  // transfers of a channel, before those that are over are looked for

  Control& control_;
  cuda::context& where_;
  options const how_;
  int const exceptions_before_ = std::uncaught_exceptions();
  std::function<std::string()> place_;
  cuda::buffer<char> scratch_;
  communicators communicators_;
  std::vector<std::unique_ptr<lane>> lanes_;
  lane* shared_ = nullptr;                          // where one communicator serves all
  std::vector<channel_key> activations_;            // channels of all ranks, where that matters
  std::vector<channel_key> keys_;                   // by handle
  std::vector<std::unique_ptr<channel>> channels_;  // by handle, null where all goes over the control transport
  std::optional<ticket> last_;                      // one that is complete: to poll it says whether all are stopped
  std::uint64_t holds_ = 0;                         // of the rank's stream, for transfers
  std::uint64_t watched_ = 0;                       // the hold that the device may be at
  clock::time_point watched_since_{}, looked_{};
  bool is_looking_ = false, stopped_ = false;
  std::string reason_;
};
static_assert(transport<endpoint<in_process::endpoint>>);

}  // namespace pipewright::inline v0::nccl
