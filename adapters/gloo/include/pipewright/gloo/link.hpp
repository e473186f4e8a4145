// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include <ATen/ops/from_blob.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

#include <pipewright/error.hpp>
#include <pipewright/gloo/device.hpp>
#include <pipewright/gloo/network_threads.hpp>
#include <pipewright/gloo/store.hpp>
#include <pipewright/transport/wire/endpoint.hpp>

namespace pipewright::inline v0::gloo {

namespace detail {

/// Gloo's word on a fault, without its place in Gloo's source and without its advice.
inline std::string plain(std::string text) {
  if (text.starts_with('['))
    if (auto const end = text.find("] "); end != text.npos) text.erase(0, end + 2);
  if (auto const advice = text.find(". This is typically"); advice != text.npos) text.resize(advice);
  return text;
}

inline void survive_broken_pipes() noexcept {
  struct sigaction now{};
  if (sigaction(SIGPIPE, nullptr, &now) == 0 && (now.sa_flags & SA_SIGINFO) == 0 && now.sa_handler == SIG_DFL)
    std::signal(SIGPIPE, SIG_IGN);
}

/// One send or receive. Gloo's own can be waited for, but not asked: whoever waits says here what came of it. It waits for
/// longer than any deadline, which is the endpoint's.
struct transfer {
  enum class state : char { under_way, complete, broken };

  int peer;
  c10::intrusive_ptr<c10d::Work> work{};
  std::atomic<state> is = state::under_way;
  std::string fault{};  ///< once it is broken

  void wait() noexcept {
    auto come_to = state::broken;
    try {
      if (work->wait(std::chrono::hours(24 * 10))) come_to = state::complete;
      else fault = "it was given up";
    } catch (c10::Error const& e) {
      fault = plain(e.what_without_backtrace());
    } catch (std::exception const& e) {
      fault = plain(e.what());
    }
    is.store(come_to, std::memory_order_release);
    is.notify_all();
  }
};

/// How many transfers have ended.
class news {
 public:
  void tell() {
    {
      std::lock_guard const lock(mutex_);
      ++number_;
    }
    come_.notify_all();
  }
  std::uint64_t await(std::uint64_t seen, double most) {
    std::unique_lock lock(mutex_);
    come_.wait_for(lock, std::chrono::duration<double>(most), [&] { return number_ != seen; });
    return number_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable come_;
  std::uint64_t number_ = 1;
};

/// The transfers of one peer, tag and direction, which end in their order: a thread that waits for each.
class line {
 public:
  explicit line(news& to) : news_{to}, thread_([this] { wait(); }) {}
  line(line const&) = delete;
  line& operator=(line const&) = delete;
  ~line() {
    push(nullptr);
    thread_.join();
  }

  void push(std::shared_ptr<transfer> next) {
    {
      std::lock_guard const lock(mutex_);
      waiting_.push_back(std::move(next));
    }
    come_.notify_one();
  }

 private:
  void wait() {
    for (;;) {
      std::shared_ptr<transfer> next;
      {
        std::unique_lock lock(mutex_);
        come_.wait(lock, [this] { return !waiting_.empty(); });
        next = std::move(waiting_.front());
        waiting_.pop_front();
      }
      if (next == nullptr) return;
      next->wait();
      news_.tell();
    }
  }

  news& news_;
  std::mutex mutex_;
  std::condition_variable come_;
  std::deque<std::shared_ptr<transfer>> waiting_;  // nullptr: no more will come
  std::thread thread_;
};

}  // namespace detail

/// Bytes over Gloo, whose own thread moves them. Made and ended by all ranks together, with a store or a part of one that no
/// other link has. Ends when all ranks that are left have come to its end, or after `patience` seconds (one where ranks were
/// stopped): a rank that closed its connections earlier would look to the others like one that died, before they hear why.
/// From the first link on the process ignores SIGPIPE, unless it handles it: Gloo writes so that to one that died is to die.
class link {
 public:
  using request = std::shared_ptr<detail::transfer>;
  /// To copy so much takes less time than the answer to a value's frame, which asks for the value.
  static constexpr std::size_t most_in_a_frame = std::size_t{4} << 20;

  /// `meeting_at`: the address at which ranks meet (launch::place::address); empty or the loopback: all are on this machine.
  link(store with, int rank, int size, std::string const& meeting_at = {}, double patience = 60)
      : store_{std::move(with)}, rank_{rank}, size_{size}, patience_{patience} {
    detail::survive_broken_pipes();
    try {
      auto const options = c10d::ProcessGroupGloo::Options::create();
      options->devices.push_back(detail::device(meeting_at));
      options->timeout = store_->getTimeout();  // for coming together
      for (auto* const group : {&up_, &down_})
        *group = c10::make_intrusive<c10d::ProcessGroupGloo>(
            c10::make_intrusive<c10d::PrefixStore>(group == &up_ ? "up" : "down", store_), rank, size, options);
      movers_.find();
    } catch (c10::Error const& fault) {
      fail(fault.what_without_backtrace());
    } catch (std::exception const& fault) {
      fail(fault.what());
    }
  }
  link(link const&) = delete;
  link& operator=(link const&) = delete;
  ~link() {
    meet_at_the_end();
    lines_.clear();
  }

  int rank() const { return rank_; }
  int size() const { return size_; }
  bool wants_a_thread() const { return false; }

  request send(int peer, int tag, void const* from, std::size_t bytes) {
    return start(peer, tag, true, const_cast<void*>(from), bytes);
  }
  request receive(int peer, int tag, void* to, std::size_t bytes) { return start(peer, tag, false, to, bytes); }

  bool test(request& of) {
    using enum detail::transfer::state;
    switch (of->is.load(std::memory_order_acquire)) {
      case under_way: return false;
      case complete: return true;
      case broken: break;
    }
    fail_broken(of->peer, of->fault);
  }
  /// See wire::link.
  std::uint64_t await_news(std::uint64_t seen, double most) { return news_.await(seen, most); }
  void note_stop() noexcept { is_stopped_ = true; }
  void computing(bool begins) noexcept { movers_.take_the_core(begins); }

  /// Gloo lets go of the memory once nobody holds the transfer.
  bool cancel(request& of) noexcept {
    try {
      of->work->abort();
      of->is.wait(detail::transfer::state::under_way);
      of->work.reset();
    } catch (std::exception const&) {
      return false;
    }
    return true;
  }

 private:
  [[noreturn]] void fail(std::string const& why) const {
    throw error("rank " + std::to_string(rank_) + " does not come together with the others over Gloo: " + why);
  }

  [[noreturn]] static void fail_broken(int peer, std::string const& why) {
    throw error("the connection with rank " + std::to_string(peer) + " broke: " + why);
  }

  request start(int peer, int tag, bool is_send, void* at, std::size_t bytes) {
    auto made = std::make_shared<detail::transfer>(peer);
    std::vector<at::Tensor> one{at::from_blob(at, {static_cast<std::int64_t>(bytes)}, at::TensorOptions(at::kByte))};
    try {
      auto& group = is_send == (peer > rank_) ? *up_ : *down_;
      made->work = is_send ? group.send(one, peer, tag) : group.recv(one, peer, tag);
    } catch (c10::Error const& fault) {
      fail_broken(peer, detail::plain(fault.what_without_backtrace()));
    } catch (std::exception const& fault) {
      fail_broken(peer, detail::plain(fault.what()));
    }
    lines_.try_emplace({peer, tag, is_send}, news_).first->second.push(made);
    return made;
  }

  /// By messages, not through the store: that of a host which is cut off, or of a rank that is stopped, would be waited for
  /// for ever.
  void meet_at_the_end() noexcept {
    try {
      ends_.resize(2 * static_cast<std::size_t>(size_));
      std::vector<request> under_way;
      for (int peer = 0; peer < size_; ++peer) {
        if (peer == rank_) continue;
        try {
          for (bool const is_send : {true, false})
            under_way.push_back(start(peer, end_tag, is_send, &ends_[2 * static_cast<std::size_t>(peer) + is_send], 1));
        } catch (error const&) {  // it has gone
        }
      }
      auto const limit = std::chrono::steady_clock::now() + std::chrono::duration<double>(is_stopped_ ? 1 : patience_);
      auto const is_over = [](request const& each) {
        return each->is.load(std::memory_order_acquire) != detail::transfer::state::under_way;
      };
      while (!std::ranges::all_of(under_way, is_over) && std::chrono::steady_clock::now() < limit)
        std::this_thread::sleep_for(std::chrono::microseconds(200));
      for (auto& each : under_way) cancel(each);
    } catch (std::exception const&) {  // there is no memory to wait
    }
  }

  static constexpr int end_tag = 16;  // above the endpoint's

  store store_;
  int rank_, size_;
  double patience_;
  bool is_stopped_ = false;
  std::vector<char> ends_{};  // what is said and heard at the end
  /// What goes to higher ranks, and to lower ones. Gloo's thread tries a connection's lock again and again while another thread
  /// sends: so what is read is another connection than what is written.
  c10::intrusive_ptr<c10d::ProcessGroupGloo> up_, down_;
  detail::network_threads movers_;
  detail::news news_;
  std::map<std::tuple<int, int, bool>, detail::line> lines_;
};
static_assert(wire::link<link>);

/// A rank's end of everything over Gloo.
using endpoint = wire::endpoint<link>;
static_assert(transport<endpoint>);

}  // namespace pipewright::inline v0::gloo
