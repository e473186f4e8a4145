// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <chrono>
#include <exception>
#include <string>
#include <thread>

#include <mpi.h>

#include <pipewright/error.hpp>
#include <pipewright/transport/wire/endpoint.hpp>

namespace pipewright::inline v0::mpi {

namespace detail {
inline void check(int status, char const* call) {
  if (status == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = {};
  int length = 0;
  MPI_Error_string(status, text, &length);
  throw error(std::string("pipewright: ") + call + " failed: " + std::string(text, static_cast<std::size_t>(length)));
}

/// Whether ranks have been stopped, so that some may never come to MPI_Finalize.
inline std::atomic<bool> is_broken = false;
}  // namespace detail

/// Initializes MPI where nobody has, and then finalizes it at its end; where ranks were stopped by an error it ends the job
/// instead, a second later, so that every rank can say why. Outlives endpoints. Threads are asked for, not required: without
/// MPI_THREAD_MULTIPLE bytes move only while the pipeline calls.
class environment {
 public:
  /// `wanted`: MPI_THREAD_MULTIPLE, or less for a program that knows better.
  explicit environment(int wanted = MPI_THREAD_MULTIPLE) {
    int is_there = 0;
    MPI_Initialized(&is_there);
    if (is_there) return;
    int provided = 0;
    detail::check(MPI_Init_thread(nullptr, nullptr, wanted, &provided), "MPI_Init_thread");
    is_ours_ = true;
  }
  environment(environment const&) = delete;
  environment& operator=(environment const&) = delete;
  ~environment() {
    int is_over = 0;
    MPI_Finalized(&is_over);
    if (!is_ours_ || is_over) return;
    if (detail::is_broken) {
      std::this_thread::sleep_for(std::chrono::seconds(1));
      MPI_Abort(MPI_COMM_WORLD, 1);
    }
    MPI_Finalize();
  }

 private:
  bool is_ours_ = false;
};

/// Bytes over a duplicate of a communicator, so that no other message can meet ours. Made and ended by all ranks of it
/// together; one for each endpoint. MPI is initialized before and finalized after. Any MPI 3 (Open MPI, MPICH). Its end waits
/// for all other ranks', as MPI_Finalize would, unless ranks were stopped or an exception is on its way: they, or the job, end
/// at once then.
class link {
 public:
  using request = MPI_Request;

  explicit link(MPI_Comm all = MPI_COMM_WORLD) {
    detail::check(MPI_Comm_dup(all, &ours_), "MPI_Comm_dup");
    MPI_Comm_set_errhandler(ours_, MPI_ERRORS_RETURN);
    MPI_Comm_rank(ours_, &rank_);
    MPI_Comm_size(ours_, &size_);
    int level = MPI_THREAD_SINGLE;
    MPI_Query_thread(&level);
    wants_a_thread_ = level == MPI_THREAD_MULTIPLE;
  }
  link(link const&) = delete;
  link& operator=(link const&) = delete;
  /// The duplicate is not freed where a transfer was given up: its message may still come, and a later communicator with
  /// the same number inside MPI would take it for its own.
  ~link() {
    if (!is_stopped_ && std::uncaught_exceptions() == exceptions_before_) meet_at_the_end();
    if (!gave_up_some_) MPI_Comm_free(&ours_);
  }

  int rank() const { return rank_; }
  int size() const { return size_; }
  bool wants_a_thread() const { return wants_a_thread_; }

  MPI_Request send(int peer, int tag, void const* from, std::size_t bytes) {
    MPI_Request made = MPI_REQUEST_NULL;
    detail::check(MPI_Isend(from, static_cast<int>(bytes), MPI_BYTE, peer, tag, ours_, &made), "MPI_Isend");
    return made;
  }
  MPI_Request receive(int peer, int tag, void* to, std::size_t bytes) {
    MPI_Request made = MPI_REQUEST_NULL;
    detail::check(MPI_Irecv(to, static_cast<int>(bytes), MPI_BYTE, peer, tag, ours_, &made), "MPI_Irecv");
    return made;
  }
  bool test(MPI_Request& of) {
    int is_complete = 0;
    detail::check(MPI_Test(&of, &is_complete, MPI_STATUS_IGNORE), "MPI_Test");
    return is_complete != 0;
  }
  /// Told when all ranks are stopped.
  void note_stop() noexcept { detail::is_broken = is_stopped_ = true; }

  /// A receive that met nothing is cancelled for good. One that is under way, and a send, are left to MPI with their memory.
  bool cancel(MPI_Request& of) noexcept {
    int is_complete = 0;
    if (of == MPI_REQUEST_NULL || (MPI_Test(&of, &is_complete, MPI_STATUS_IGNORE) == MPI_SUCCESS && is_complete))
      return true;
    gave_up_some_ = true;
    MPI_Cancel(&of);
    for (int look = 0; look < 1000 && !is_complete; ++look) MPI_Test(&of, &is_complete, MPI_STATUS_IGNORE);
    return is_complete != 0;
  }

 private:
  /// Not in MPI_Finalize: Open MPI 4's launcher crashes or hangs where a job is aborted while ranks are in there.
  void meet_at_the_end() noexcept {
    MPI_Request all = MPI_REQUEST_NULL;
    int is_complete = MPI_Ibarrier(ours_, &all) != MPI_SUCCESS;
    while (!is_complete && MPI_Test(&all, &is_complete, MPI_STATUS_IGNORE) == MPI_SUCCESS)
      if (!is_complete) std::this_thread::sleep_for(std::chrono::microseconds(200));
  }

  MPI_Comm ours_ = MPI_COMM_NULL;
  int const exceptions_before_ = std::uncaught_exceptions();
  int rank_ = 0, size_ = 1;
  bool wants_a_thread_ = false, gave_up_some_ = false, is_stopped_ = false;
};
static_assert(wire::link<link>);

/// A rank's end of everything over MPI.
using endpoint = wire::endpoint<link>;
static_assert(transport<endpoint>);

}  // namespace pipewright::inline v0::mpi
