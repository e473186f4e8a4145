// SPDX-License-Identifier: Apache-2.0
#pragma once
// Enough of CUDA's runtime to run programs of it without a device: memory is the host's, poisoned when it is new. A
// stream does nothing before it must: what was queued runs when a host waits for it, or another stream that waits for
// an event of it does. So an order that nobody asked for does not come about, and what an asynchronous copy reads too
// late it reads wrong. The default stream has done its work when the call returns. Work may wait for what another
// thread has yet to queue, or for ever, where streams wait for each other in a circle: then nothing of it is done, and
// who looks is told so each time.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorNoDevice = 100,
  cudaErrorInvalidDevice = 101,
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

struct stream {
  std::deque<work> queue;
  std::uint64_t queued = 0, done = 0;
  std::shared_ptr<graph> captures;
  bool begins_capture = false;
  std::vector<std::size_t> after;  // works of the capture that the next one comes after
  bool is_running = false;
};
struct event {
  stream* on = nullptr;
  std::uint64_t mark = 0;
  std::shared_ptr<graph> captured_in;
  std::vector<std::size_t> after;  // works of that
};

inline std::recursive_mutex mutex;
inline std::vector<std::unique_ptr<stream>> streams;  // none is ever freed, so that an event may name any
inline int devices = 1;
inline thread_local int device = 0;
inline std::size_t total_bytes = std::size_t{1} << 34, held_bytes = 0;
inline std::map<void*, std::size_t> held;                          // of the device
inline std::size_t allocations = 0, waits = 0;                     // so far: of the device, and of the host for it
inline std::map<std::string, std::pair<int, cudaError_t>> faults;  // calls until one fails, and how
inline thread_local cudaError_t last_error = cudaSuccess;

/// From now on the n-th call (from 0) of this function fails.
inline void fail(std::string call, int n, cudaError_t how) { faults[std::move(call)] = {n, how}; }

inline cudaError_t fault_of(char const* call) {
  auto const found = faults.find(call);
  if (found == faults.end() || found->second.first-- > 0) return cudaSuccess;
  auto const code = found->second.second;
  faults.erase(found);
  return last_error = code;
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

inline cudaError_t cudaMalloc(void** to, std::size_t bytes) {
  PIPEWRIGHT_ON_HOST(cudaMalloc);
  if (cuda_on_host::held_bytes + bytes > cuda_on_host::total_bytes)
    return cuda_on_host::last_error = cudaErrorMemoryAllocation;
  *to = ::operator new(bytes + 256, std::align_val_t{256});
  std::memset(*to, 0xff, bytes);  // NaN
  cuda_on_host::held[*to] = bytes;
  cuda_on_host::held_bytes += bytes;
  ++cuda_on_host::allocations;
  return cudaSuccess;
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
  cuda_on_host::held_bytes -= cuda_on_host::held.at(at);
  cuda_on_host::held.erase(at);
  ::operator delete(at, std::align_val_t{256});
  return cudaSuccess;
}
/// In the order of the stream, as real ones: who still uses memory that another stream has freed is seen by the address sanitizer.
inline cudaError_t cudaMallocAsync(void** to, std::size_t bytes, cudaStream_t) {
  PIPEWRIGHT_ON_HOST(cudaMallocAsync);
  return cudaMalloc(to, bytes);
}
inline cudaError_t cudaFreeAsync(void* at, cudaStream_t on) {
  PIPEWRIGHT_ON_HOST(cudaFreeAsync);
  cuda_on_host::held_bytes -= cuda_on_host::held.at(at);
  cuda_on_host::held.erase(at);
  cuda_on_host::enqueue(on, [at] { ::operator delete(at, std::align_val_t{256}); });
  return cudaSuccess;
}
inline cudaError_t cudaMallocHost(void** to, std::size_t bytes) {
  PIPEWRIGHT_ON_HOST(cudaMallocHost);
  *to = std::malloc(bytes + 1);
  return cudaSuccess;
}
template<class T> cudaError_t cudaMallocHost(T** to, std::size_t bytes) {
  void* made = nullptr;
  auto const code = cudaMallocHost(&made, bytes);
  *to = static_cast<T*>(made);
  return code;
}
inline cudaError_t cudaFreeHost(void* at) {
  std::lock_guard lock(cuda_on_host::mutex);
  cuda_on_host::run_all();
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
  auto const after = cuda_on_host::held.upper_bound(const_cast<void*>(at));
  auto const* const byte = static_cast<std::byte const*>(at);
  bool const is_held = after != cuda_on_host::held.begin() &&
                       byte < static_cast<std::byte const*>(std::prev(after)->first) + std::prev(after)->second;
  auto* const there = const_cast<void*>(at);
  if (is_held) *of = {cudaMemoryTypeDevice, 0, there, nullptr};
  else *of = {cudaMemoryTypeUnregistered, -1, nullptr, there};  // pinned memory, too, which nobody asks about
  return cudaSuccess;
}
inline cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  *total = cuda_on_host::total_bytes;
  *free = cuda_on_host::total_bytes - cuda_on_host::held_bytes;
  return cudaSuccess;
}
inline cudaError_t cudaMemcpyAsync(void* to, void const* from, std::size_t bytes, cudaMemcpyKind, cudaStream_t on) {
  PIPEWRIGHT_ON_HOST(cudaMemcpyAsync);
  cuda_on_host::enqueue(on, [=] { std::memcpy(to, from, bytes); });
  return cudaSuccess;
}
inline cudaError_t cudaMemcpy2DAsync(void* to, std::size_t to_pitch, void const* from, std::size_t from_pitch,
                                     std::size_t width, std::size_t height, cudaMemcpyKind, cudaStream_t on) {
  PIPEWRIGHT_ON_HOST(cudaMemcpy2DAsync);
  cuda_on_host::enqueue(on, [=] {
    for (std::size_t row = 0; row < height; ++row)
      std::memcpy(static_cast<std::byte*>(to) + row * to_pitch, static_cast<std::byte const*>(from) + row * from_pitch,
                  width);
  });
  return cudaSuccess;
}
inline cudaError_t cudaMemsetAsync(void* to, int value, std::size_t bytes, cudaStream_t on) {
  PIPEWRIGHT_ON_HOST(cudaMemsetAsync);
  cuda_on_host::enqueue(on, [=] { std::memset(to, value, bytes); });
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
  cuda_on_host::run_all();
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
  if (on == nullptr) *to = {};
  else *to = {on, on->queued, on->captures, on->after};
  return cudaSuccess;
}
inline cudaError_t cudaStreamWaitEvent(cudaStream_t on, cudaEvent_t of, unsigned = 0) {
  PIPEWRIGHT_ON_HOST(cudaStreamWaitEvent);
  if (of->on == nullptr || on == nullptr) return cudaSuccess;
  if (on->captures && on->captures != of->captured_in) return cudaErrorStreamCaptureIsolation;
  if (of->captured_in) {  // joins the capture
    on->captures = of->captured_in;
    on->after.insert(on->after.end(), of->after.begin(), of->after.end());
  } else cuda_on_host::enqueue(on, [from = of->on, mark = of->mark] { return cuda_on_host::run(*from, mark); });
  return cudaSuccess;
}
/// The first answer is always no.
inline cudaError_t cudaEventQuery(cudaEvent_t of) {
  PIPEWRIGHT_ON_HOST(cudaEventQuery);
  if (of->on == nullptr || of->on->done >= of->mark) return cudaSuccess;
  ++cuda_on_host::waits;
  cuda_on_host::run(*of->on, of->mark);
  return cudaErrorNotReady;
}
inline cudaError_t cudaEventSynchronize(cudaEvent_t of) {
  {
    PIPEWRIGHT_ON_HOST(cudaEventSynchronize);
    if (of->on == nullptr) return cudaSuccess;
    if (of->captured_in) return cudaErrorStreamCaptureUnsupported;
    if (of->on->done < of->mark) ++cuda_on_host::waits;
  }
  cuda_on_host::wait_for(*of->on, of->mark);
  return cudaSuccess;
}
inline cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t, cudaEvent_t) {
  *milliseconds = 1.f;
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
  cuda_on_host::enqueue(on, [of = *what, done = std::vector<bool>((*what)->nodes.size())]() mutable {
    return of->run(done);
  });
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
