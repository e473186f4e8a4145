// SPDX-License-Identifier: Apache-2.0
#pragma once
// Several ranks on the devices of one process: threads, each with a stream of its own.

#include <atomic>
#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <pipewright/cuda/context.hpp>
#include <pipewright/cuda/event.hpp>
#include <pipewright/cuda/peers.hpp>
#include <pipewright/transport/in_process.hpp>

namespace pipewright::inline v0::cuda::loopback {

namespace detail {

/// A slot on its way, where it is, and when its memory may be touched by another stream: after all that its rank had queued when it
/// gave it away.
struct hand_over {
  message value;
  int device = 0;
  event last_use;
  cudaStream_t copies = nullptr;     // where a slot that must stay where it is receives from its own device
  std::optional<event> copied = {};  // out of this slot, to the device of which the event is
  bool was_copied = false;
  std::atomic<bool> has_met = false;

  /// For the rank whose slot it was, once it has met the other: the stream may use what now is in the slot.
  void hold(cudaStream_t waiting) const { (was_copied ? *copied : last_use).hold(waiting); }
};

/// What becomes of two that meet, in the thread of the rank that comes second.
inline void exchange(hand_over& received, hand_over& sent) {
  if (received.device != sent.device && cuda::detail::notebook_here != nullptr)
    throw error(
        "pipewright: a step that is written down is of one device, but the ranks of a transfer have two; run steps on "
        "several devices without a step_graph");
  if (received.device == sent.device && received.copies == nullptr) {
    sent.value.type->exchange(received.value.object, sent.value.object);
    std::swap(received.last_use, sent.last_use);
  } else {
    auto& move = context::here().kept<cuda::detail::mover>();
    if (received.copies != nullptr && !move.has_shape_of(sent.value, received.value))
      context::here().wait(received.last_use);  // what is freed then is so at once
    move(
        sent.value, sent.device, received.value, received.device, received.copies,
        [&](cudaStream_t by) {
          sent.last_use.hold(by);
          received.last_use.hold(by);
        },
        [&](cudaStream_t by) {
          if (!sent.copied) sent.copied.emplace();
          sent.copied->record(by);
          sent.was_copied = true;
          received.last_use.record(by);
        });
  }
  sent.has_met = received.has_met = true;
}

/// The type of a hand-over of values of a type.
inline message_type const* type_of_hand_over(message_type const* of) {
  static std::mutex mutex;
  static std::map<message_type const*, message_type> made;
  std::lock_guard const lock(mutex);
  auto const [place, is_new] = made.try_emplace(of);
  message_type& found = place->second;
  if (!is_new) return &found;
  found.name = of->name;
  found.exchange = [](void* into, void* from) {
    exchange(*static_cast<hand_over*>(into), *static_cast<hand_over*>(from));
  };
  found.bytes = [](void const* given) {
    auto const& value = static_cast<hand_over const*>(given)->value;
    return value.type->bytes(value.object);
  };
  return &found;
}

}  // namespace detail

/// A rank's end of everything, where ranks are streams of a process's devices. As soon as both hosts have come to a transfer it is
/// complete, as under `in_process`; what the device is to do for it, and what then is done on the two slots, waits on the device.
/// Between ranks on one device values are swapped between slots; while a step is written down (see step_graph) they are copied, on a
/// stream of the channel, so that each step has the same slots. From one device to another they are copied: whoever comes second
/// gives the receiver's slot the shape, copies what lies on the host, and queues on a stream of the receiver's device a copy of what
/// lies on the sender's, after both slots' last uses; both ranks' streams wait for that copy. share_pools makes it a direct one.
///
/// The host waits for no kernel. A steady state allocates nothing on a device. `Threads` is in_process::endpoint, or one that passes
/// all on to it.
template<transport Threads> class endpoint {
 public:
  /// Both outlive it. Stages of this rank work in `where`.
  endpoint(Threads& here, context& where) : here_{here}, where_{where} {}
  endpoint(endpoint const&) = delete;
  endpoint& operator=(endpoint const&) = delete;
  /// What is under way is left to the rank that may still come to it: it is lost with a training that failed, and only then.
  ~endpoint() {
    for (auto& c : channels_)
      for (auto& each : c.under_way) static_cast<void>(each.release());
  }

  int rank() const { return here_.rank(); }
  int size() const { return here_.size(); }
  int open(channel_key key) {
    int const opened = here_.open(key);
    if (channels_.size() <= static_cast<std::size_t>(opened)) channels_.resize(static_cast<std::size_t>(opened) + 1);
    return opened;
  }
  ticket post(int channel, message slot) {
    auto const made = guarded([&] { return here_.post(channel, given(channel, slot)); });
    where_.tell_others();
    return made;
  }
  ticket send(int channel, message value) {
    auto const made = guarded([&] { return here_.send(channel, given(channel, value)); });
    where_.tell_others();
    return made;
  }
  bool poll(ticket of) {
    if (!guarded([&] { return here_.poll(of); })) return false;
    take(of);
    return true;
  }
  void wait(ticket of) {
    guarded([&] { where_.wait_for_others([&] { return here_.poll(of); }, [&] { here_.wait(of); }); });
    take(of);
  }
  void progress() { here_.progress(); }
  void locate(std::function<std::string()> where) { here_.locate(std::move(where)); }
  void agree(std::string_view digest) {
    guarded([&] { here_.agree(digest); });
  }
  void abort(std::string_view why) noexcept {
    here_.abort(why);
    hold_all();
  }

 private:
  struct channel {
    std::uint64_t first = 0;                                           // number of the oldest that is under way
    std::vector<std::unique_ptr<detail::hand_over>> under_way, spare;  // the former by number, null where it is taken
    message_type const* of = nullptr;                                  // the last value's
    message_type const* type = nullptr;
    cuda::detail::handle<cudaStream_t> stream;  // made where it is needed

    cudaStream_t copies() {
      if (stream == nullptr) stream = cuda::detail::make_stream();
      return stream.get();
    }
  };

  message given(int which, message value) {
    auto& c = channels_[static_cast<std::size_t>(which)];
    if (c.spare.empty()) c.spare.push_back(std::make_unique<detail::hand_over>());
    auto& given = c.under_way.emplace_back(std::move(c.spare.back()));
    c.spare.pop_back();
    given->value = value;
    given->device = where_.device();
    given->copies = where_.writes_down() ? c.copies() : nullptr;
    given->was_copied = given->has_met = false;
    given->last_use.record(where_.stream());
    if (c.of != value.type) {
      c.of = value.type;
      c.type = detail::type_of_hand_over(value.type);
    }
    return {given.get(), c.type};
  }
  /// Once for each transfer, when it is complete: from now on this rank's stream may touch what came.
  void take(ticket of) {
    auto& c = channels_[static_cast<std::size_t>(of.channel)];
    if (of.number < c.first) return;
    auto& mine = c.under_way[static_cast<std::size_t>(of.number - c.first)];
    if (mine == nullptr) return;
    mine->hold(where_.stream());
    c.spare.push_back(std::move(mine));
    std::size_t gone = 0;
    while (gone < c.under_way.size() && c.under_way[gone] == nullptr) ++gone;
    c.under_way.erase(c.under_way.begin(), c.under_way.begin() + static_cast<std::ptrdiff_t>(gone));
    c.first += gone;
  }

  auto guarded(auto&& work) {
    try {
      return work();
    } catch (...) {
      hold_all();
      throw;
    }
  }
  /// After a failure slots are freed, in the order of this rank's stream: not before others' streams are done with them.
  void hold_all() noexcept {
    for (auto const& c : channels_)
      for (auto const& each : c.under_way) try {
          if (each != nullptr && each->has_met) each->hold(where_.stream());
        } catch (std::exception const&) {  // the failure that was before it is the one to be told
        }
  }

  Threads& here_;
  context& where_;
  std::vector<channel> channels_;
};
static_assert(transport<endpoint<in_process::endpoint>>);

/// Runs f(endpoint&) on one thread for each rank of a plan (or as many ranks as a number says), as in_process::run does; rank r on
/// the (r mod n)-th of n devices. Each thread has a context of its own, in which f makes its pipeline.
template<class PlanOrRanks, class F>
void run(PlanOrRanks const& of, F&& f, std::vector<int> const& devices, in_process::options how = {}) {
  if (devices.empty()) throw error("pipewright: ranks need a device; name at least one");
  share_pools(devices);
  in_process::run(
      of,
      [&](in_process::endpoint& thread) {
        context where(devices[static_cast<std::size_t>(thread.rank()) % devices.size()], thread.rank());
        endpoint<in_process::endpoint> here(thread, where);
        f(here);
        where.wait();  // what went wrong on the device is this rank's fault
      },
      std::move(how));
}
/// The same with all ranks on one device.
template<class PlanOrRanks, class F> void run(PlanOrRanks const& of, F&& f, int device = 0,
                                              in_process::options how = {}) {
  run(of, f, std::vector{device}, std::move(how));
}

}  // namespace pipewright::inline v0::cuda::loopback
