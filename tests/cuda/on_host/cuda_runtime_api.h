// SPDX-License-Identifier: Apache-2.0
#pragma once
// Enough of CUDA's runtime to run programs of it without a device: memory is the host's, poisoned when it is new. A
// stream does nothing before it must: what was queued runs when a host waits for it, or another stream that waits for
// an event of it does. So an order that nobody asked for does not come about, and what an asynchronous copy reads too
// late it reads wrong. The default stream has done its work when the call returns. Work may wait for what another
// thread has yet to queue, or for ever, where streams wait for each other in a circle: then nothing of it is done, and
// who looks is told so each time.
//
// There may be several devices. Memory, streams and events are each of one: that of the stream, or where none is named the
// thread's. What a stream of one device is given of another's is refused, even where a device might let it pass, but by
// cudaMemcpyPeerAsync with the right numbers.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <initializer_list>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <set>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#define CUDART_VERSION 13000

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorNoDevice = 100,
  cudaErrorInvalidDevice = 101,
  cudaErrorInvalidResourceHandle = 400,
  cudaErrorNotReady = 600,
  cudaErrorIllegalAddress = 700,
  cudaErrorStreamCaptureUnsupported = 900,
  cudaErrorStreamCaptureUnjoined = 904,
  cudaErrorStreamCaptureIsolation = 905
};
inline char const* cudaGetErrorName(cudaError_t code) {
  switch (code) {
    case cudaSuccess: return "cudaSuccess";
    case cudaErrorInvalidValue: return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation: return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidConfiguration: return "cudaErrorInvalidConfiguration";
    case cudaErrorNoDevice: return "cudaErrorNoDevice";
    case cudaErrorInvalidDevice: return "cudaErrorInvalidDevice";
    case cudaErrorInvalidResourceHandle: return "cudaErrorInvalidResourceHandle";
    case cudaErrorNotReady: return "cudaErrorNotReady";
    case cudaErrorIllegalAddress: return "cudaErrorIllegalAddress";
    case cudaErrorStreamCaptureUnsupported: return "cudaErrorStreamCaptureUnsupported";
    case cudaErrorStreamCaptureUnjoined: return "cudaErrorStreamCaptureUnjoined";
    case cudaErrorStreamCaptureIsolation: return "cudaErrorStreamCaptureIsolation";
  }
  return "?";
}
inline char const* cudaGetErrorString(cudaError_t code) {
  switch (code) {
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorInvalidConfiguration: return "invalid configuration argument";
    case cudaErrorNoDevice: return "no CUDA-capable device is detected";
    case cudaErrorInvalidValue: return "invalid argument";
    case cudaErrorInvalidResourceHandle: return "invalid resource handle";
    case cudaErrorIllegalAddress: return "an illegal memory access was encountered";
    default: return cudaGetErrorName(code);
  }
}

namespace cuda_on_host {

struct stream;
using work = std::function<bool()>;  // says whether it is done; else it is asked again
/// What was captured, and what each work comes after.
struct graph {
  struct node {
    work what;
    std::vector<std::size_t> after;
  };
  std::vector<node> nodes;
  std::vector<std::size_t> order;  // in which they are tried

  /// Orders them: no work comes before it must for these ends, and the last that was named comes first, so that an order which
  /// nobody asked for does not come about. Says whether all are needed.
  bool put_in_order(std::vector<std::size_t> const& ends) {
    enum : char { is_new, is_open, is_placed };
    std::vector<char> states(nodes.size(), is_new);
    std::vector<std::size_t> open = ends;
    while (!open.empty()) {
      auto const at = open.back();
      if (states[at] == is_new) {
        states[at] = is_open;
        for (auto const each : nodes[at].after)
          if (states[each] == is_new) open.push_back(each);
        continue;
      }
      open.pop_back();
      if (states[at] == is_open) order.push_back(at);
      states[at] = is_placed;
    }
    return order.size() == nodes.size();
  }
  /// Does what can be done, and says whether all is.
  bool run(std::vector<bool>& done) const {
    bool all = true;
    for (auto const at : order) {
      if (done[at]) continue;
      bool const can = std::ranges::all_of(nodes[at].after, [&](auto each) { return done[each]; });
      if (can && nodes[at].what()) done[at] = true;
      else all = false;
    }
    return all;
  }
};

inline int devices = 1;
inline thread_local int device = 0;

struct stream {
  int of = device;
  std::deque<work> queue;
  std::uint64_t queued = 0, done = 0;
  std::shared_ptr<graph> captures;
  bool begins_capture = false;
  std::vector<std::size_t> after;  // works of the capture that the next one comes after
  bool is_running = false;
  std::thread::id maker = std::this_thread::get_id();
};
struct event {
  int of = device;
  stream* on = nullptr;
  std::uint64_t mark = 0;
  std::weak_ptr<graph> captured_in;
  std::vector<std::size_t> after;  // works of that
};

inline std::recursive_mutex mutex;
inline std::vector<std::unique_ptr<stream>> streams;              // none is ever freed, so that an event may name any
inline constexpr std::size_t total_bytes = std::size_t{1} << 34;  // of each device
struct run_of_bytes {
  std::size_t bytes;
  int of;
};
inline std::map<void const*, run_of_bytes> held;  // of devices
inline std::map<int, std::size_t> held_bytes;
struct pool {
  std::set<int> reached_by = {};  // other devices
};
inline std::map<int, pool> pools;
inline bool devices_reach_each_other = true;
inline std::size_t peer_copies = 0, peer_copies_by_host = 0;  // so far: all, and those for want of access to a pool
inline std::size_t allocations = 0, waits = 0;                // so far: of devices, and of the host for them
inline std::atomic<std::size_t> pinned_allocations = 0;       // so far
inline std::map<std::string, std::pair<int, cudaError_t>> faults;  // calls until one fails, and how
inline thread_local cudaError_t last_error = cudaSuccess;
inline std::deque<float> times;  // that the next times between two events are; else 1 ms

/// From now on the n-th call (from 0) of this function fails.
inline void fail(std::string call, int n, cudaError_t how) { faults[std::move(call)] = {n, how}; }

inline cudaError_t fault_of(char const* call) {
  auto const found = faults.find(call);
  if (found == faults.end() || found->second.first-- > 0) return cudaSuccess;
  auto const code = found->second.second;
  faults.erase(found);
  return last_error = code;
}

/// The device of memory; -1: it is the host's.
inline int device_of(void const* at) {
  auto const after = held.upper_bound(at);
  if (after == held.begin()) return -1;
  auto const& [from, run] = *std::prev(after);
  return static_cast<std::byte const*>(at) < static_cast<std::byte const*>(from) + run.bytes ? run.of : -1;
}
inline int device_of(stream const* on) { return on == nullptr ? device : on->of; }
/// Whether this thread may queue something there that uses these.
inline cudaError_t use(stream const* on, std::initializer_list<void const*> memory) {
  if (device_of(on) != device) return last_error = cudaErrorInvalidResourceHandle;
  for (auto const* const each : memory)
    if (int const of = device_of(each); of >= 0 && of != device) return last_error = cudaErrorInvalidValue;
  return cudaSuccess;
}

/// Does what can be done of the first `to` works, and says whether all are.
inline bool run(stream& s, std::uint64_t to) {
  if (s.is_running) return s.done >= to;  // where not, it waits for itself
  s.is_running = true;
  while (s.done < to && s.queue.front()()) {
    s.queue.pop_front();
    ++s.done;
  }
  s.is_running = false;
  return s.done >= to;
}
inline void run_all() {
  for (auto const& each : streams) run(*each, each->queued);
}
/// The host waits; other threads go on.
inline void wait_for(stream& s, std::uint64_t to) {
  for (;; std::this_thread::yield()) {
    std::lock_guard lock(mutex);
    if (run(s, to)) return;
  }
}
/// The host waits for all that its thread has queued: what CUDA may do where it is asked for pinned memory. For what comes to no end,
/// since another rank waits for this host, the program is ended.
inline void wait_for_all_of_this_thread(char const* call) {
  auto const limit = std::chrono::steady_clock::now() + std::chrono::seconds(5);
  for (;; std::this_thread::yield()) {
    std::lock_guard lock(mutex);
    bool are_done = true;
    for (auto const& each : streams)
      if (each->maker == std::this_thread::get_id() && !each->captures) are_done = run(*each, each->queued) && are_done;
    if (are_done) return;
    if (std::chrono::steady_clock::now() < limit) continue;
    std::fprintf(stderr, "CUDA is misused: %s waits for a device that waits for another rank\n", call);
    std::abort();
  }
}
inline void enqueue(stream* on, auto what) {
  work made;
  if constexpr (std::is_void_v<decltype(what())>) made = [what = std::move(what)] { return what(), true; };
  else made = std::move(what);
  std::lock_guard lock(mutex);
  if (on == nullptr) return static_cast<void>(made());
  if (on->captures) {
    on->captures->nodes.push_back({std::move(made), std::exchange(on->after, {on->captures->nodes.size()})});
    return;
  }
  on->queue.push_back(std::move(made));
  ++on->queued;
}

}  // namespace cuda_on_host

using cudaStream_t = cuda_on_host::stream*;
using cudaEvent_t = cuda_on_host::event*;
using cudaGraph_t = std::shared_ptr<cuda_on_host::graph>*;
using cudaGraphExec_t = std::shared_ptr<cuda_on_host::graph>*;
enum cudaMemcpyKind {
  cudaMemcpyHostToHost,
  cudaMemcpyHostToDevice,
  cudaMemcpyDeviceToHost,
  cudaMemcpyDeviceToDevice,
  cudaMemcpyDefault
};
inline constexpr unsigned cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2, cudaEventDefault = 0;
enum cudaStreamCaptureMode {
  cudaStreamCaptureModeGlobal,
  cudaStreamCaptureModeThreadLocal,
  cudaStreamCaptureModeRelaxed
};

#define PIPEWRIGHT_ON_HOST(call)             \
  std::lock_guard lock(cuda_on_host::mutex); \
  if (auto const code = cuda_on_host::fault_of(#call); code != cudaSuccess) return code

inline cudaError_t cudaGetLastError() { return std::exchange(cuda_on_host::last_error, cudaSuccess); }
inline cudaError_t cudaGetDeviceCount(int* count) {
  PIPEWRIGHT_ON_HOST(cudaGetDeviceCount);
  *count = cuda_on_host::devices;
  return cuda_on_host::devices == 0 ? cudaErrorNoDevice : cudaSuccess;
}
inline cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= cuda_on_host::devices) return cudaErrorInvalidDevice;
  cuda_on_host::device = device;
  return cudaSuccess;
}
inline cudaError_t cudaGetDevice(int* device) {
  *device = cuda_on_host::device;
  return cudaSuccess;
}

namespace cuda_on_host {

inline cudaError_t allocate(void** to, std::size_t bytes, int of) {
  if (held_bytes[of] + bytes > total_bytes) return last_error = cudaErrorMemoryAllocation;
  *to = ::operator new(bytes + 256, std::align_val_t{256});
  std::memset(*to, 0xff, bytes);  // NaN
  held[*to] = {bytes, of};
  held_bytes[of] += bytes;
  ++allocations;
  return cudaSuccess;
}
inline void forget(void* at) {
  auto const found = held.find(at);
  held_bytes[found->second.of] -= found->second.bytes;
  held.erase(found);
}

}  // namespace cuda_on_host

inline cudaError_t cudaMalloc(void** to, std::size_t bytes) {
  PIPEWRIGHT_ON_HOST(cudaMalloc);
  return cuda_on_host::allocate(to, bytes, cuda_on_host::device);
}
template<class T> cudaError_t cudaMalloc(T** to, std::size_t bytes) {
  void* made = nullptr;
  auto const code = cudaMalloc(&made, bytes);
  *to = static_cast<T*>(made);
  return code;
}
inline cudaError_t cudaFree(void* at) {
  std::lock_guard lock(cuda_on_host::mutex);
  if (at == nullptr) return cudaSuccess;
  cuda_on_host::run_all();
  cuda_on_host::forget(at);
  ::operator delete(at, std::align_val_t{256});
  return cudaSuccess;
}
/// In the order of the stream, as real ones: who still uses memory that another stream has freed is seen by the address sanitizer.
inline cudaError_t cudaMallocAsync(void** to, std::size_t bytes, cudaStream_t on) {
  PIPEWRIGHT_ON_HOST(cudaMallocAsync);
  return cuda_on_host::allocate(to, bytes, cuda_on_host::device_of(on));
}
inline cudaError_t cudaFreeAsync(void* at, cudaStream_t on) {
  PIPEWRIGHT_ON_HOST(cudaFreeAsync);
  if (cuda_on_host::held.at(at).of != cuda_on_host::device_of(on))
    return cuda_on_host::last_error = cudaErrorInvalidValue;
  cuda_on_host::forget(at);
  cuda_on_host::enqueue(on, [at] { ::operator delete(at, std::align_val_t{256}); });
  return cudaSuccess;
}
inline cudaError_t cudaMallocHost(void** to, std::size_t bytes) {
  {
    PIPEWRIGHT_ON_HOST(cudaMallocHost);
    ++cuda_on_host::pinned_allocations;
    ++cuda_on_host::waits;
  }
  cuda_on_host::wait_for_all_of_this_thread("cudaMallocHost");
  *to = std::aligned_alloc(256, (bytes + 256) / 256 * 256);
  return cudaSuccess;
}
template<class T> cudaError_t cudaMallocHost(T** to, std::size_t bytes) {
  void* made = nullptr;
  auto const code = cudaMallocHost(&made, bytes);
  *to = static_cast<T*>(made);
  return code;
}
inline cudaError_t cudaFreeHost(void* at) {
  cuda_on_host::wait_for_all_of_this_thread("cudaFreeHost");
  std::free(at);
  return cudaSuccess;
}
enum cudaMemoryType { cudaMemoryTypeUnregistered, cudaMemoryTypeHost, cudaMemoryTypeDevice, cudaMemoryTypeManaged };
struct cudaPointerAttributes {
  cudaMemoryType type;
  int device;
  void *devicePointer, *hostPointer;
};
inline cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* of, void const* at) {
  PIPEWRIGHT_ON_HOST(cudaPointerGetAttributes);
  int const device = cuda_on_host::device_of(at);
  auto* const there = const_cast<void*>(at);
  if (device >= 0) *of = {cudaMemoryTypeDevice, device, there, nullptr};
  else *of = {cudaMemoryTypeUnregistered, -1, nullptr, there};  // pinned memory, too, which nobody asks about
  return cudaSuccess;
}
inline cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  *total = cuda_on_host::total_bytes;
  std::lock_guard lock(cuda_on_host::mutex);
  *free = cuda_on_host::total_bytes - cuda_on_host::held_bytes[cuda_on_host::device];
  return cudaSuccess;
}
inline cudaError_t cudaMemcpyAsync(void* to, void const* from, std::size_t bytes, cudaMemcpyKind, cudaStream_t on) {
  PIPEWRIGHT_ON_HOST(cudaMemcpyAsync);
  if (auto const wrong = cuda_on_host::use(on, {to, from}); wrong != cudaSuccess) return wrong;
  cuda_on_host::enqueue(on, [=] { std::memcpy(to, from, bytes); });
  return cudaSuccess;
}
inline cudaError_t cudaMemcpy2DAsync(void* to, std::size_t to_pitch, void const* from, std::size_t from_pitch,
                                     std::size_t width, std::size_t height, cudaMemcpyKind, cudaStream_t on) {
  PIPEWRIGHT_ON_HOST(cudaMemcpy2DAsync);
  if (auto const wrong = cuda_on_host::use(on, {to, from}); wrong != cudaSuccess) return wrong;
  cuda_on_host::enqueue(on, [=] {
    for (std::size_t row = 0; row < height; ++row)
      std::memcpy(static_cast<std::byte*>(to) + row * to_pitch, static_cast<std::byte const*>(from) + row * from_pitch,
                  width);
  });
  return cudaSuccess;
}
inline cudaError_t cudaMemsetAsync(void* to, int value, std::size_t bytes, cudaStream_t on) {
  PIPEWRIGHT_ON_HOST(cudaMemsetAsync);
  if (auto const wrong = cuda_on_host::use(on, {to}); wrong != cudaSuccess) return wrong;
  cuda_on_host::enqueue(on, [=] { std::memset(to, value, bytes); });
  return cudaSuccess;
}

/// Ordered by its stream, which is of one of the two devices, whatever this thread's is.
inline cudaError_t cudaMemcpyPeerAsync(void* to, int to_device, void const* from, int from_device, std::size_t bytes,
                                       cudaStream_t on) {
  using namespace cuda_on_host;
  PIPEWRIGHT_ON_HOST(cudaMemcpyPeerAsync);
  int const by = device_of(on), other = by == to_device ? from_device : to_device;
  if (device_of(to) != to_device || device_of(from) != from_device || (by != to_device && by != from_device))
    return last_error = cudaErrorInvalidValue;
  ++peer_copies;
  if (other != by && !pools[other].reached_by.contains(by)) ++peer_copies_by_host;
  enqueue(on, [=] { std::memcpy(to, from, bytes); });
  return cudaSuccess;
}
inline cudaError_t cudaDeviceCanAccessPeer(int* can, int by, int other) {
  PIPEWRIGHT_ON_HOST(cudaDeviceCanAccessPeer);
  if (std::min(by, other) < 0 || std::max(by, other) >= cuda_on_host::devices)
    return cuda_on_host::last_error = cudaErrorInvalidDevice;
  *can = cuda_on_host::devices_reach_each_other && by != other;
  return cudaSuccess;
}

using cudaMemPool_t = cuda_on_host::pool*;
enum cudaMemLocationType { cudaMemLocationTypeInvalid, cudaMemLocationTypeDevice };
enum cudaMemAccessFlags {
  cudaMemAccessFlagsProtNone,
  cudaMemAccessFlagsProtRead = 1,
  cudaMemAccessFlagsProtReadWrite = 3
};
struct cudaMemLocation {
  cudaMemLocationType type;
  int id;
};
struct cudaMemAccessDesc {
  cudaMemLocation location;
  cudaMemAccessFlags flags;
};
inline cudaError_t cudaDeviceGetMemPool(cudaMemPool_t* of, int device) {
  PIPEWRIGHT_ON_HOST(cudaDeviceGetMemPool);
  if (device < 0 || device >= cuda_on_host::devices) return cuda_on_host::last_error = cudaErrorInvalidDevice;
  *of = &cuda_on_host::pools[device];
  return cudaSuccess;
}
inline cudaError_t cudaMemPoolSetAccess(cudaMemPool_t of, cudaMemAccessDesc const* what, std::size_t count) {
  using namespace cuda_on_host;
  PIPEWRIGHT_ON_HOST(cudaMemPoolSetAccess);
  for (std::size_t i = 0; i < count; ++i) {
    int const by = what[i].location.id;
    bool const is_other = by >= 0 && by < devices && &pools[by] != of;
    if (!is_other || !devices_reach_each_other || what[i].location.type != cudaMemLocationTypeDevice ||
        what[i].flags != cudaMemAccessFlagsProtReadWrite)
      return last_error = cudaErrorInvalidValue;
    of->reached_by.insert(by);
  }
  return cudaSuccess;
}

inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t* made, unsigned) {
  PIPEWRIGHT_ON_HOST(cudaStreamCreateWithFlags);
  *made = cuda_on_host::streams.emplace_back(std::make_unique<cuda_on_host::stream>()).get();
  return cudaSuccess;
}
inline cudaError_t cudaStreamSynchronize(cudaStream_t on) {
  {
    PIPEWRIGHT_ON_HOST(cudaStreamSynchronize);
    if (on == nullptr) return cudaSuccess;
    if (on->captures) return cudaErrorStreamCaptureUnsupported;
    ++cuda_on_host::waits;
  }
  cuda_on_host::wait_for(*on, on->queued);
  return cudaSuccess;
}
inline cudaError_t cudaStreamDestroy(cudaStream_t on) {
  std::lock_guard lock(cuda_on_host::mutex);
  if (on != nullptr) cuda_on_host::run(*on, on->queued);
  return cudaSuccess;
}
inline cudaError_t cudaDeviceSynchronize() {
  PIPEWRIGHT_ON_HOST(cudaDeviceSynchronize);
  ++cuda_on_host::waits;
  for (auto const& each : cuda_on_host::streams)
    if (each->of == cuda_on_host::device) cuda_on_host::run(*each, each->queued);
  return cudaSuccess;
}

inline cudaError_t cudaEventCreateWithFlags(cudaEvent_t* made, unsigned) {
  PIPEWRIGHT_ON_HOST(cudaEventCreateWithFlags);
  *made = new cuda_on_host::event;
  return cudaSuccess;
}
inline cudaError_t cudaEventDestroy(cudaEvent_t of) {
  std::lock_guard lock(cuda_on_host::mutex);
  delete of;
  return cudaSuccess;
}
inline cudaError_t cudaEventRecord(cudaEvent_t to, cudaStream_t on) {
  PIPEWRIGHT_ON_HOST(cudaEventRecord);
  if (cuda_on_host::device_of(on) != to->of) return cuda_on_host::last_error = cudaErrorInvalidResourceHandle;
  *to = on == nullptr ? cuda_on_host::event{to->of, nullptr, 0, {}, {}}
                      : cuda_on_host::event{to->of, on, on->queued, on->captures, on->after};
  return cudaSuccess;
}
inline cudaError_t cudaStreamWaitEvent(cudaStream_t on, cudaEvent_t of, unsigned = 0) {
  PIPEWRIGHT_ON_HOST(cudaStreamWaitEvent);
  if (of->on == nullptr || on == nullptr) return cudaSuccess;
  auto const captured_in = of->captured_in.lock();
  if (on->captures && on->captures != captured_in) return cudaErrorStreamCaptureIsolation;
  if (captured_in) {  // joins the capture
    on->captures = captured_in;
    on->after.insert(on->after.end(), of->after.begin(), of->after.end());
  } else cuda_on_host::enqueue(on, [from = of->on, mark = of->mark] { return cuda_on_host::run(*from, mark); });
  return cudaSuccess;
}
/// The first answer is always no.
inline cudaError_t cudaEventQuery(cudaEvent_t of) {
  PIPEWRIGHT_ON_HOST(cudaEventQuery);
  if (!of->captured_in.expired()) return cudaErrorStreamCaptureUnsupported;
  if (of->on == nullptr || of->on->done >= of->mark) return cudaSuccess;
  ++cuda_on_host::waits;
  cuda_on_host::run(*of->on, of->mark);
  return cudaErrorNotReady;
}
inline cudaError_t cudaEventSynchronize(cudaEvent_t of) {
  {
    PIPEWRIGHT_ON_HOST(cudaEventSynchronize);
    if (of->on == nullptr) return cudaSuccess;
    if (!of->captured_in.expired()) return cudaErrorStreamCaptureUnsupported;
    if (of->on->done < of->mark) ++cuda_on_host::waits;
  }
  cuda_on_host::wait_for(*of->on, of->mark);
  return cudaSuccess;
}
/// On one stream each work takes a millisecond, unless it was said what the next times are.
inline cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t from, cudaEvent_t to) {
  std::lock_guard lock(cuda_on_host::mutex);
  if (from->of != to->of) return cuda_on_host::last_error = cudaErrorInvalidResourceHandle;
  *milliseconds = from->on == to->on && to->mark > from->mark ? static_cast<float>(to->mark - from->mark) : 1.f;
  if (cuda_on_host::times.empty()) return cudaSuccess;
  *milliseconds = cuda_on_host::times.front();
  cuda_on_host::times.pop_front();
  return cudaSuccess;
}

inline cudaError_t cudaStreamBeginCapture(cudaStream_t on, cudaStreamCaptureMode) {
  PIPEWRIGHT_ON_HOST(cudaStreamBeginCapture);
  if (on->captures) return cudaErrorStreamCaptureUnsupported;
  on->captures = std::make_shared<cuda_on_host::graph>();
  on->begins_capture = true;
  on->after.clear();
  return cudaSuccess;
}
inline cudaError_t cudaStreamEndCapture(cudaStream_t on, cudaGraph_t* made) {
  PIPEWRIGHT_ON_HOST(cudaStreamEndCapture);
  if (!on->captures || !on->begins_capture) return cudaErrorStreamCaptureUnsupported;
  auto const of = on->captures;
  bool const is_whole = of->put_in_order(on->after);
  for (auto const& each : cuda_on_host::streams)
    if (each->captures == of) {
      each->captures.reset();
      each->begins_capture = false;
      each->after.clear();
    }
  if (!is_whole) return cudaErrorStreamCaptureUnjoined;
  *made = new std::shared_ptr<cuda_on_host::graph>(of);
  return cudaSuccess;
}
inline cudaError_t cudaGraphInstantiate(cudaGraphExec_t* made, cudaGraph_t of, unsigned long long = 0) {
  PIPEWRIGHT_ON_HOST(cudaGraphInstantiate);
  *made = new std::shared_ptr<cuda_on_host::graph>(*of);
  return cudaSuccess;
}
inline cudaError_t cudaGraphLaunch(cudaGraphExec_t what, cudaStream_t on) {
  PIPEWRIGHT_ON_HOST(cudaGraphLaunch);
  cuda_on_host::enqueue(
      on, [of = *what, done = std::vector<bool>((*what)->nodes.size())]() mutable { return of->run(done); });
  return cudaSuccess;
}
inline cudaError_t cudaGraphDestroy(cudaGraph_t of) {
  delete of;
  return cudaSuccess;
}
inline cudaError_t cudaGraphExecDestroy(cudaGraphExec_t of) {
  delete of;
  return cudaSuccess;
}
