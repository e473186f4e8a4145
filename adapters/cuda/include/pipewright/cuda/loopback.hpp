// SPDX-License-Identifier: Apache-2.0
#pragma once
// Several ranks on one device: threads of one process, each with a stream of its own.

#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <pipewright/cuda/context.hpp>
#include <pipewright/cuda/event.hpp>
#include <pipewright/transport/in_process.hpp>

namespace pipewright::inline v0::cuda::loopback {

namespace detail {

/// A slot on its way, and when its memory may be touched by another stream: after all that its rank had queued when it gave it away.
struct hand_over {
  message value;
  event last_use;
};

/// The type of a hand-over of values of a type: these change places, and with them what is to be waited for.
inline message_type const* type_of_hand_over(message_type const* of) {
  static std::mutex mutex;
  static std::map<message_type const*, message_type> made;
  std::lock_guard const lock(mutex);
  auto const [place, is_new] = made.try_emplace(of);
  message_type& found = place->second;
  if (!is_new) return &found;
  found.name = of->name;
  found.exchange = [](void* into, void* from) {
    auto &a = *static_cast<hand_over*>(into), &b = *static_cast<hand_over*>(from);
    a.value.type->exchange(a.value.object, b.value.object);
    std::swap(a.last_use, b.last_use);
  };
  found.bytes = [](void const* given) {
    auto const& value = static_cast<hand_over const*>(given)->value;
    return value.type->bytes(value.object);
  };
  return &found;
}

}  // namespace detail

/// A rank's end of everything, where all ranks are streams of one device. Values are swapped between slots as `in_process` swaps
/// them, as soon as both hosts have come to it; what then is done on them waits, on the device, for the other rank's stream. The host
/// waits for no kernel. A steady state allocates nothing. `Threads` is in_process::endpoint, or one that passes all on to it.
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
    auto const made = here_.post(channel, given(channel, slot));
    where_.tell_others();
    return made;
  }
  ticket send(int channel, message value) {
    auto const made = here_.send(channel, given(channel, value));
    where_.tell_others();
    return made;
  }
  bool poll(ticket of) {
    if (!here_.poll(of)) return false;
    take(of);
    return true;
  }
  void wait(ticket of) {
    where_.wait_for_others([&] { return here_.poll(of); }, [&] { here_.wait(of); });
    take(of);
  }
  void progress() { here_.progress(); }
  void locate(std::function<std::string()> where) { here_.locate(std::move(where)); }
  void agree(std::string_view digest) { here_.agree(digest); }
  void abort(std::string_view why) noexcept { here_.abort(why); }

 private:
  struct channel {
    std::uint64_t first = 0;                                           // number of the oldest that is under way
    std::vector<std::unique_ptr<detail::hand_over>> under_way, spare;  // the former by number, null where it is taken
    message_type const* of = nullptr;                                  // the last value's
    message_type const* type = nullptr;
  };

  message given(int which, message value) {
    auto& c = channels_[static_cast<std::size_t>(which)];
    if (c.spare.empty()) c.spare.push_back(std::make_unique<detail::hand_over>());
    auto& given = c.under_way.emplace_back(std::move(c.spare.back()));
    c.spare.pop_back();
    given->value = value;
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
    mine->last_use.hold(where_.stream());
    c.spare.push_back(std::move(mine));
    std::size_t gone = 0;
    while (gone < c.under_way.size() && c.under_way[gone] == nullptr) ++gone;
    c.under_way.erase(c.under_way.begin(), c.under_way.begin() + static_cast<std::ptrdiff_t>(gone));
    c.first += gone;
  }

  Threads& here_;
  context& where_;
  std::vector<channel> channels_;
};
static_assert(transport<endpoint<in_process::endpoint>>);

/// Runs f(endpoint&) on one thread for each rank of a plan (or as many ranks as a number says), all on one device; as
/// in_process::run does. Each thread has a context of its own, in which f makes its pipeline.
template<class PlanOrRanks, class F> void run(PlanOrRanks const& of, F&& f, int device = 0,
                                              in_process::options how = {}) {
  in_process::run(
      of,
      [&](in_process::endpoint& thread) {
        context where(device, thread.rank());
        endpoint<in_process::endpoint> here(thread, where);
        f(here);
        where.wait();  // what went wrong on the device is this rank's fault
      },
      std::move(how));
}

}  // namespace pipewright::inline v0::cuda::loopback
