// SPDX-License-Identifier: Apache-2.0
#pragma once
// Enough of NCCL to run programs of it without a device, over ../../cuda/on_host: as strict as NCCL may be. A send is
// done when both it and its receive have come to the head of their streams, whatever its size. A call on a communicator
// that does not block is in progress when it returns, and nothing is queued until it was asked about; the first
// transfer between two ranks stays in progress until the other has begun it, too. An abort does not return while a
// kernel of another communicator of its rank is stuck. Wrong use ends the program.
#include <climits>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <cuda_runtime_api.h>

#define NCCL_VERSION(X, Y, Z) ((X) * 10000 + (Y) * 100 + (Z))
#ifndef NCCL_VERSION_CODE
#define NCCL_VERSION_CODE NCCL_VERSION(2, 28, 9)
#endif
#define NCCL_UNIQUE_ID_BYTES 128
#define NCCL_CONFIG_UNDEF_INT INT_MIN

enum ncclResult_t {
  ncclSuccess = 0,
  ncclUnhandledCudaError = 1,
  ncclSystemError = 2,
  ncclInternalError = 3,
  ncclInvalidArgument = 4,
  ncclInvalidUsage = 5,
  ncclRemoteError = 6,
  ncclInProgress = 7
};
enum ncclDataType_t { ncclInt8 = 0, ncclUint8 = 1 };
struct ncclUniqueId {
  char internal[NCCL_UNIQUE_ID_BYTES];
};
struct ncclConfig_t {
  unsigned magic;
  int blocking, minCTAs, maxCTAs;
};
#define NCCL_CONFIG_INITIALIZER {0xcafebeef, NCCL_CONFIG_UNDEF_INT, NCCL_CONFIG_UNDEF_INT, NCCL_CONFIG_UNDEF_INT}

namespace nccl_on_host {

using cuda_on_host::mutex;  // of all here

struct communicator;

/// One send or receive.
struct part {
  bool sends;
  int peer;
  void* data;
  std::size_t bytes;
  bool is_done = false;
};
/// What one kernel does.
struct group {
  communicator* of;
  cudaStream_t on;
  std::deque<part> parts;
  bool is_reached = false;
};
/// The ranks that share an id.
struct clique {
  std::vector<communicator*> members;
  std::size_t joined = 0;
  std::map<std::pair<int, int>, std::deque<part*>> sends, receives;  // by source and destination, reached and not met
  std::set<std::pair<int, int>> sent, received;                      // ends that have begun to connect
};
struct communicator {
  clique* all;
  int rank;
  bool blocks;
  std::thread::id device = std::this_thread::get_id();  // each rank's thread has its own
  ncclResult_t fault = ncclSuccess;
  int looks = 1;  // more, until it says that a call is done
  bool is_stopped = false, is_final = false, is_gone = false;
  std::shared_ptr<group> begun = {};                               // not queued yet
  std::deque<std::pair<cudaStream_t, std::uint64_t>> queued = {};  // ends of its groups on their streams
  std::deque<std::shared_ptr<group>> groups = {};
  std::vector<std::shared_ptr<group>> launched = {};  // by graphs, and not done
  int kept_by_graphs = 0;
};
inline std::vector<std::unique_ptr<communicator>> communicators;
inline std::map<std::string, clique> cliques;
inline std::map<std::string, std::pair<int, ncclResult_t>> faults;
inline std::size_t connections = 0, transfers = 0;  // so far
inline int ids = 0;
inline thread_local int depth = 0;
inline thread_local std::vector<std::shared_ptr<group>> grouped;

/// From now on the n-th call (from 0) of this function fails; of ncclCommGetAsyncError: finds that the communicator has
/// failed.
inline void fail(std::string call, int n, ncclResult_t how) {
  std::lock_guard lock(mutex);
  faults[std::move(call)] = {n, how};
}
inline ncclResult_t fault_of(char const* call) {
  auto const found = faults.find(call);
  if (found == faults.end() || found->second.first-- > 0) return ncclSuccess;
  auto const code = found->second.second;
  faults.erase(found);
  return code;
}
/// Communicators that nobody has destroyed or aborted.
inline int alive() {
  std::lock_guard lock(mutex);
  int count = 0;
  for (auto const& each : communicators) count += !each->is_gone;
  return count;
}
[[noreturn]] inline void misused(char const* why) {
  std::fprintf(stderr, "NCCL is misused: %s\n", why);
  std::abort();
}
inline communicator& checked(communicator* of) {
  if (of == nullptr || of->is_gone) misused("a communicator that is none any more");
  return *of;
}

inline std::pair<int, int> edge_of(communicator const& c, part const& p) {
  return p.sends ? std::pair(c.rank, p.peer) : std::pair(p.peer, c.rank);
}
inline void meet(clique& all, std::pair<int, int> edge) {
  auto &sends = all.sends[edge], &receives = all.receives[edge];
  while (!sends.empty() && !receives.empty()) {
    part &from = *sends.front(), &to = *receives.front();
    sends.pop_front();
    receives.pop_front();
    if (from.bytes != to.bytes) misused("a send and its receive differ in size");
    std::memcpy(to.data, from.data, to.bytes);
    from.is_done = to.is_done = true;
    ++transfers;
  }
}
/// Its kernels end, and meet nothing any more.
inline void stop(communicator& c) {
  c.is_stopped = true;
  for (auto& each : c.groups)
    for (part& p : each->parts) std::erase((p.sends ? c.all->sends : c.all->receives)[edge_of(c, p)], &p);
  for (auto& each : c.launched)
    for (part& p : each->parts) std::erase((p.sends ? c.all->sends : c.all->receives)[edge_of(c, p)], &p);
}
/// Lets the peer's stream come to its next group.
inline bool poke(communicator& c) {
  while (!c.queued.empty() && c.queued.front().first->done >= c.queued.front().second) {
    c.queued.pop_front();
    c.groups.pop_front();
  }
  return !c.queued.empty() && cuda_on_host::run(*c.queued.front().first, c.queued.front().second);
}
inline bool run(group& g) {
  communicator& c = *g.of;
  if (c.is_stopped) return true;
  clique& all = *c.all;
  if (!std::exchange(g.is_reached, true))
    for (part& p : g.parts) {
      (p.sends ? all.sends : all.receives)[edge_of(c, p)].push_back(&p);
      meet(all, edge_of(c, p));
    }
  bool are_all = true;
  for (part const& p : g.parts) {
    while (!p.is_done && poke(*all.members[static_cast<std::size_t>(p.peer)])) {}
    are_all = are_all && p.is_done;
  }
  return are_all;
}
/// A group in a graph, which keeps its communicator until it is freed. Each launch does it anew.
struct captured_group {
  std::shared_ptr<group> prototype, now = {};

  explicit captured_group(std::shared_ptr<group> of) : prototype{std::move(of)} { ++prototype->of->kept_by_graphs; }
  captured_group(captured_group const&) = delete;
  captured_group& operator=(captured_group const&) = delete;
  ~captured_group() { --prototype->of->kept_by_graphs; }

  bool run() {
    if (now == nullptr) {
      now = std::make_shared<group>(*prototype);
      prototype->of->launched.push_back(now);
    }
    if (!nccl_on_host::run(*now)) return false;
    std::erase(prototype->of->launched, now);
    now = nullptr;
    return true;
  }
};
inline void queue(communicator& c, std::shared_ptr<group> g) {
  if (g->on->captures) {
    auto const on = g->on;
    return cuda_on_host::enqueue(on, [g = std::make_shared<captured_group>(std::move(g))] { return g->run(); });
  }
  cuda_on_host::enqueue(g->on, [g] { return run(*g); });
  c.queued.emplace_back(g->on, g->on->queued);
  c.groups.push_back(std::move(g));
}
/// Queues what was begun, if the ranks are connected for it.
inline bool go_on(communicator& c) {
  if (c.all->joined < c.all->members.size()) return false;
  if (c.looks > 0) return --c.looks, false;
  if (c.begun == nullptr) return true;
  bool is_connected = true;
  for (part const& p : c.begun->parts) {
    auto const edge = edge_of(c, p);
    auto &mine = p.sends ? c.all->sent : c.all->received, &theirs = p.sends ? c.all->received : c.all->sent;
    bool const is_new = mine.insert(edge).second;
    if (is_new && theirs.contains(edge)) ++connections;
    is_connected = is_connected && theirs.contains(edge);
  }
  if (is_connected) queue(c, std::exchange(c.begun, nullptr));
  return is_connected;
}
inline bool is_busy(communicator const& c) { return c.all->joined < c.all->members.size() || c.begun || c.looks > 0; }
inline void wait_until(auto done) {
  for (;; std::this_thread::yield()) {
    std::lock_guard lock(mutex);
    if (done()) return;
  }
}

inline ncclResult_t add(bool sends, void* data, std::size_t count, int peer, communicator* to, cudaStream_t on) {
  std::lock_guard lock(mutex);
  communicator& c = checked(to);
  if (c.device != std::this_thread::get_id()) misused("a communicator of another thread");
  if (is_busy(c)) misused("a communicator that is in progress");
  if (depth == 0) misused("a transfer outside of a group");
  if (on == nullptr) misused("a transfer on the default stream");
  auto& g = grouped.empty() || grouped.back()->of != &c || grouped.back()->on != on
                ? grouped.emplace_back(std::make_shared<group>(group{&c, on, {}}))
                : grouped.back();
  g->parts.push_back({sends, peer, data, count});
  return fault_of(sends ? "ncclSend" : "ncclRecv");
}

}  // namespace nccl_on_host

using ncclComm_t = nccl_on_host::communicator*;

inline char const* ncclGetErrorString(ncclResult_t code) {
  switch (code) {
    case ncclSuccess: return "no error";
    case ncclUnhandledCudaError: return "unhandled cuda error (run with NCCL_DEBUG=INFO for details)";
    case ncclSystemError: return "unhandled system error (run with NCCL_DEBUG=INFO for details)";
    case ncclRemoteError: return "remote process exited or there was a network error";
    case ncclInProgress: return "NCCL operation in progress";
    default: return "internal error";
  }
}
inline char const* ncclGetLastError(ncclComm_t) { return "its last words"; }
inline ncclResult_t ncclGetVersion(int* version) {
  *version = NCCL_VERSION_CODE;
  return ncclSuccess;
}
inline ncclResult_t ncclGetUniqueId(ncclUniqueId* made) {
  std::lock_guard lock(nccl_on_host::mutex);
  std::memset(made->internal, 0, sizeof made->internal);
  std::snprintf(made->internal, sizeof made->internal, "id %d", nccl_on_host::ids++);
  return nccl_on_host::fault_of("ncclGetUniqueId");
}
inline ncclResult_t ncclCommInitRankConfig(ncclComm_t* made, int size, ncclUniqueId id, int rank, ncclConfig_t* how) {
  using namespace nccl_on_host;
  std::unique_lock lock(mutex);
  *made = nullptr;
  if (cuda_on_host::devices == 0) return ncclUnhandledCudaError;
  if (auto const code = fault_of("ncclCommInitRankConfig"); code != ncclSuccess) return code;
  if (how->magic != 0xcafebeef) return ncclInvalidArgument;
  clique& all = cliques[id.internal];
  all.members.resize(static_cast<std::size_t>(size));
  auto& mine = all.members[static_cast<std::size_t>(rank)];
  if (mine != nullptr) misused("two communicators of one id and rank");
  communicators.push_back(std::make_unique<communicator>(communicator{&all, rank, how->blocking != 0}));
  *made = mine = communicators.back().get();
  ++all.joined;
  if (!mine->blocks) return ncclInProgress;
  mine->looks = 0;
  lock.unlock();
  wait_until([&] { return all.joined == all.members.size(); });
  return ncclSuccess;
}
inline ncclResult_t ncclCommGetAsyncError(ncclComm_t of, ncclResult_t* state) {
  using namespace nccl_on_host;
  std::lock_guard lock(mutex);
  communicator& c = checked(of);
  if (auto const code = fault_of("ncclCommGetAsyncError"); code != ncclSuccess) c.fault = code;
  *state = c.fault != ncclSuccess ? c.fault : c.is_stopped || go_on(c) ? ncclSuccess : ncclInProgress;
  return ncclSuccess;
}
inline ncclResult_t ncclCommCount(ncclComm_t of, int* size) {
  *size = static_cast<int>(nccl_on_host::checked(of).all->members.size());
  return ncclSuccess;
}
inline ncclResult_t ncclCommUserRank(ncclComm_t of, int* rank) {
  *rank = nccl_on_host::checked(of).rank;
  return ncclSuccess;
}
inline ncclResult_t ncclSend(void const* data, std::size_t count, ncclDataType_t, int peer, ncclComm_t of,
                             cudaStream_t on) {
  return nccl_on_host::add(true, const_cast<void*>(data), count, peer, of, on);
}
inline ncclResult_t ncclRecv(void* data, std::size_t count, ncclDataType_t, int peer, ncclComm_t of, cudaStream_t on) {
  return nccl_on_host::add(false, data, count, peer, of, on);
}
inline ncclResult_t ncclGroupStart() {
  ++nccl_on_host::depth;
  return ncclSuccess;
}
inline ncclResult_t ncclGroupEnd() {
  using namespace nccl_on_host;
  if (--depth > 0) return ncclSuccess;
  auto const all = std::exchange(grouped, {});
  {
    std::lock_guard lock(mutex);
    if (auto const code = fault_of("ncclGroupEnd"); code != ncclSuccess) return code;
    if (all.size() > 1) misused("several communicators or streams in one group");
    if (all.empty()) return ncclSuccess;
    all[0]->of->begun = all[0];
    all[0]->of->looks = all[0]->of->blocks ? 0 : 1;
    if (!all[0]->of->blocks) return ncclInProgress;
  }
  wait_until([&] { return go_on(*all[0]->of); });
  return ncclSuccess;
}
inline ncclResult_t ncclCommFinalize(ncclComm_t of) {
  using namespace nccl_on_host;
  std::lock_guard lock(mutex);
  if (checked(of).is_stopped) return ncclInvalidUsage;
  for (auto const& each : of->queued)
    if (!cuda_on_host::run(*each.first, each.second)) misused("what is not done is made final");
  of->is_final = true;
  of->looks = 1;
  return ncclInProgress;
}
inline ncclResult_t ncclCommDestroy(ncclComm_t of) {
  using namespace nccl_on_host;
  std::lock_guard lock(mutex);
  if (!checked(of).is_final && !of->is_stopped) misused("a communicator is destroyed that is not final");
  of->is_gone = true;
  return ncclSuccess;
}
inline ncclResult_t ncclCommAbort(ncclComm_t of) {
  using namespace nccl_on_host;
  {
    std::lock_guard lock(mutex);
    stop(checked(of));
  }
  auto const is_stuck = [&](communicator& c) {
    if (c.device != of->device || c.is_stopped) return false;
    poke(c);
    for (auto const& each : c.groups)
      for (part const& p : each->parts)
        if (each->is_reached && !p.is_done) return true;
    return false;
  };
  wait_until([&] {
    for (auto const& each : communicators)
      if (is_stuck(*each)) return false;
    cuda_on_host::run_all();
    return of->kept_by_graphs == 0;  // those that ran are freed when they have ended
  });
  std::lock_guard lock(mutex);
  of->is_gone = true;
  return ncclSuccess;
}
#if NCCL_VERSION_CODE >= NCCL_VERSION(2, 28, 7)
#define NCCL_REVOKE_DEFAULT 0
inline ncclResult_t ncclCommRevoke(ncclComm_t of, int) {
  std::lock_guard lock(nccl_on_host::mutex);
  nccl_on_host::stop(nccl_on_host::checked(of));
  return ncclSuccess;
}
#endif
