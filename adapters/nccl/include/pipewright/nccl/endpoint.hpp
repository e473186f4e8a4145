// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <exception>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

#include <pipewright/cuda/context.hpp>
#include <pipewright/nccl/channel.hpp>
#include <pipewright/nccl/communicators.hpp>
#include <pipewright/nccl/connections.hpp>
#include <pipewright/nccl/device_deadline.hpp>
#include <pipewright/nccl/guard.hpp>
#include <pipewright/nccl/options.hpp>
#include <pipewright/nccl/transfers.hpp>
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
/// A step may be a graph (cuda::step_graph, one for each rank), transfers and all, where shapes are fixed (else it is many) and each
/// channel has a communicator of its own. Let NCCL_GRAPH_REGISTER=0 be set then: NCCL registers what is in graphs, for which both ends
/// of a transfer must be in one, and here each rank has a graph where it can.
///
/// Where a rank has many channels, the environment should say CUDA_DEVICE_MAX_CONNECTIONS=32, so that no stream waits
/// for another one's kernels. NCCL's own variables hold as ever.
template<transport Control> class endpoint {
  using channel = detail::channel;

 public:
  /// Both outlive it. Stages of this rank work in `where`, in this thread. Throws error where the options contradict
  /// each other.
  endpoint(Control& control, cuda::context& where, options how = {})
      : control_{control},
        where_{where},
        how_{checked(how)},
        communicators_{where.device()},
        guard_{control, where, communicators_, how_.deadline},
        connections_{control, where, how_, communicators_, guard_},
        channels_{control.rank()},
        transfers_{control, where, how_, guard_, connections_} {
    where_.pinned().reserve(how_.pinned_bytes);
    where_.meanwhile([this] { progress(); });
  }
  endpoint(endpoint const&) = delete;
  endpoint& operator=(endpoint const&) = delete;
  /// Waits until what was sent has left, by the deadline. An exception on its way stops NCCL's part at once.
  ~endpoint() {
    where_.meanwhile({});
    bool is_complete = false;
    if (!guard_.has_stopped() && std::uncaught_exceptions() == exceptions_before_) try {
        guard_.run([&] { is_complete = leave(); });
      } catch (std::exception const&) {  // all ranks know
      }
    where_.drop_steps();
    if (is_complete) communicators_.finish();
    communicators_.abort();
    transfers_.forget(channels_);
  }

  int rank() const { return control_.rank(); }
  int size() const { return control_.size(); }

  /// A handle for post and send; opening a channel again gives the same one. Throws as the control transport does.
  int open(channel_key key) {
    int const opened = control_.open(key);
    channels_.add(opened, key);
    return opened;
  }

  /// From now on a value may land in the slot. Throws on a channel that this rank sends on.
  ticket post(int handle, message slot) {
    channel* const c = channels_.at(handle);
    if (c == nullptr) return guard_.run([&] { return control_.post(handle, slot); });
    if (c->sends) throw error(pipewright::detail::wrong_way(c->key, rank(), "post"));
    return guard_.run([&] {
      guard_.throw_if_stopped();
      return transfers_.post(*c, slot);
    });
  }
  /// The value leaves the slot when the device has come to it. Throws on a channel that this rank receives on.
  ticket send(int handle, message value) {
    channel* const c = channels_.at(handle);
    if (c == nullptr) return guard_.run([&] { return control_.send(handle, value); });
    if (!c->sends) throw error(pipewright::detail::wrong_way(c->key, rank(), "send"));
    return guard_.run([&] {
      guard_.throw_if_stopped();
      return transfers_.send(*c, value);
    });
  }

  /// Whether the transfer is queued on the device, if any of it goes there; the rank's stream now waits for it. Throws
  /// after an abort, and what the control transport throws.
  bool poll(ticket of) {
    return guard_.run([&] {
      channel* const c = channels_.at(of.channel);
      if (c == nullptr) {
        where_.hand_over();  // the other rank may need it first
        return control_.poll(of);
      }
      guard_.throw_if_stopped();
      return transfers_.poll(*c, of.number);
    });
  }
  /// Waits until the transfer is complete, a send until it has left its slot. Throws like poll, and by the deadline.
  void wait(ticket of) {
    guard_.run([&] {
      channel* const c = channels_.at(of.channel);
      auto const is_complete = [&] {
        if (!poll(of)) return false;
        if (c == nullptr || !c->sends || of.number < c->first) return true;
        where_.hand_over();
        return c->at(of.number).is_over();
      };
      guard_.wait_until(is_complete, [&] { return channels_.missing(of); }, [&] { look(); });
    });
  }
  /// Lets a wait or poll that fails say where its rank is, instead of its rank alone. Asked then only.
  void locate(std::function<std::string()> where) {
    guard_.locate(where);
    if constexpr (requires { control_.locate(where); }) control_.locate(std::move(where));
  }
  /// See transport.
  void computing(bool begins) noexcept requires requires(Control& c) { c.computing(begins); } {
    control_.computing(begins);
  }
  /// Moves what can be moved. Throws after an abort, and where NCCL has failed.
  void progress() {
    guard_.run([&] { look(); });
  }

  /// Throws on every rank, naming who said what, unless all ranks call it with one text; and by the deadline. Connects
  /// what was opened since the last time.
  void agree(std::string_view digest) {
    guard_.run([&] {
      guard_.throw_if_stopped();
      control_.agree(digest);
      if (size() > 1) connections_.connect(channels_);
    });
  }
  /// Stops every rank: each wait, poll, send and post throws with the reason, the first one given.
  void abort(std::string_view why) noexcept { guard_.stop(why); }

 private:
  static options checked(options how) {
    how.one_communicator = how.one_communicator || how.communicator != nullptr;
    if (how.one_communicator && how.shapes != fixed)
      throw error(
          "pipewright: one communicator of all ranks moves values of fixed shapes only, since a rank must know what it "
          "receives before it sends; set shapes to fixed, or leave each channel a communicator of its own");
    return how;
  }
  /// All that a rank does for others while it waits.
  void look() {
    guard_.hear();
    if (is_looking_) return;
    detail::raised const now(is_looking_);
    connections_.look();
    transfers_.go_on(channels_);
    device_deadline_.look(channels_, guard_);
  }
  /// Lets what was sent leave; whether nothing is under way.
  bool leave() {
    transfers_.let_leave();
    bool is_complete = true;
    channels_.for_each([&](channel& c) {
      if (c.sends && c.end() > c.first) wait({c.handle, c.end() - 1});
      for (std::uint64_t n = c.first; n < c.queued; ++n) is_complete = is_complete && c.at(n).is_over();
    });
    return is_complete;
  }

  Control& control_;
  cuda::context& where_;
  options const how_;
  int const exceptions_before_ = std::uncaught_exceptions();
  communicators communicators_;
  detail::guard<Control> guard_;
  detail::connections<Control> connections_;
  detail::channels channels_;
  detail::transfers<Control> transfers_;
  detail::device_deadline device_deadline_;
  bool is_looking_ = false;
};
static_assert(transport<endpoint<in_process::endpoint>>);

}  // namespace pipewright::inline v0::nccl
