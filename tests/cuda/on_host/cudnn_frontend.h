// SPDX-License-Identifier: Apache-2.0
#pragma once
// What of cuDNN's frontend the library uses: it describes attention, and the host computes it, in double precision. Strict: it refuses
// tensors that cuDNN would, and others than those that are ours to describe. What it writes it poisons before it reads, and its
// workspace before and after, so that tensors that lie in one another show, and a backward that is not asked to be deterministic is not.
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>
#include <dlfcn.h>

enum cudnnStatus_t { CUDNN_STATUS_SUCCESS = 0, CUDNN_STATUS_NOT_INITIALIZED = 1001 };

namespace cuda_on_host {

struct cudnn_handle {
  cudaStream_t on = nullptr;
  bool has_stream = false;
};
inline bool cudnn_is_there = true;
inline std::size_t cudnn_version = 91900;
inline std::string cudnn_refuses;   // why it plans nothing; empty: it does
inline bool cudnn_breaks = false;   // while it runs
inline int cudnn_handles = 0;       // that there are
inline std::size_t cudnn_runs = 0;  // so far
inline std::int64_t cudnn_workspace = 1000;

inline void* open_library(char const*) {
  static char library;
  return cudnn_is_there ? &library : nullptr;
}

}  // namespace cuda_on_host

#define dlopen(name, how) cuda_on_host::open_library(name)
#define dlerror() "libcudnn.so.9: cannot open shared object file: No such file or directory"

using cudnnHandle_t = cuda_on_host::cudnn_handle*;

namespace cudnn_frontend {

extern void* cudnn_dlhandle;

enum class error_code_t { OK, ATTRIBUTE_NOT_SET, GRAPH_NOT_SUPPORTED, INVALID_VARIANT_PACK, GRAPH_EXECUTION_FAILED };
struct [[nodiscard]] error_t {
  error_code_t code = error_code_t::OK;
  std::string err_msg;
  bool is_good() const { return code == error_code_t::OK; }
  bool is_bad() const { return !is_good(); }
};
enum class DataType_t { NOT_SET, FLOAT, BFLOAT16 };
enum class HeurMode_t { A };

namespace detail {
inline cudnnStatus_t create_handle(cudnnHandle_t* made) {
  if (cudnn_dlhandle == nullptr) return CUDNN_STATUS_NOT_INITIALIZED;
  ++cuda_on_host::cudnn_handles;
  *made = new cuda_on_host::cudnn_handle;
  return CUDNN_STATUS_SUCCESS;
}
inline cudnnStatus_t destroy_handle(cudnnHandle_t of) {
  --cuda_on_host::cudnn_handles;
  delete of;
  return CUDNN_STATUS_SUCCESS;
}
inline cudnnStatus_t set_stream(cudnnHandle_t of, cudaStream_t on) {
  *of = {on, true};
  return CUDNN_STATUS_SUCCESS;
}
inline char const* get_error_string(cudnnStatus_t) { return "CUDNN_STATUS_NOT_INITIALIZED"; }
inline std::size_t get_backend_version() { return cuda_on_host::cudnn_version; }
}  // namespace detail

/// Of no use here: there is nothing that has engines for other devices.
struct DeviceProperties {
  error_t deserialize(std::vector<std::uint8_t> const&) {
    return {error_code_t::GRAPH_NOT_SUPPORTED, "the stand-in knows no devices"};
  }
};

namespace graph {

class Tensor_attributes {
 public:
  using numbers = std::vector<std::int64_t>;
  Tensor_attributes& set_uid(std::int64_t v) { return uid = v, *this; }
  Tensor_attributes& set_dim(numbers v) { return dim = std::move(v), *this; }
  Tensor_attributes& set_stride(numbers v) { return stride = std::move(v), *this; }
  Tensor_attributes& set_data_type(DataType_t v) { return type = v, *this; }
  Tensor_attributes& set_output(bool v) { return is_output = v, *this; }
  std::int64_t get_uid() const { return uid; }
  numbers const& get_dim() const { return dim; }
  numbers const& get_stride() const { return stride; }
  DataType_t get_data_type() const { return type; }

  std::int64_t uid = 0;
  numbers dim, stride;
  DataType_t type = DataType_t::NOT_SET;
  bool is_output = false;

  std::size_t at(std::int64_t b, std::int64_t h, std::int64_t t, std::int64_t i) const {
    return static_cast<std::size_t>(b * stride[0] + h * stride[1] + t * stride[2] + i * stride[3]);
  }
};

template<class Self> struct attention_attributes {
  Self& set_name(std::string) { return self(); }
  Self& set_causal_mask(bool v) { return is_causal = v, self(); }
  Self& set_attn_scale(float v) { return scale = v, self(); }
  bool is_causal = false;
  std::optional<float> scale;

 private:
  Self& self() { return static_cast<Self&>(*this); }
};
struct SDPA_attributes : attention_attributes<SDPA_attributes> {
  SDPA_attributes& set_generate_stats(bool v) { return has_stats = v, *this; }
  bool has_stats = false;
};
struct SDPA_backward_attributes : attention_attributes<SDPA_backward_attributes> {
  SDPA_backward_attributes& set_deterministic_algorithm(bool v) { return is_deterministic = v, *this; }
  bool is_deterministic = false;
};

class Graph {
  using tensor_of = std::shared_ptr<Tensor_attributes>;

 public:
  Graph& set_io_data_type(DataType_t v) { return io_ = v, *this; }
  Graph& set_intermediate_data_type(DataType_t v) { return between_ = v, *this; }
  Graph& set_compute_data_type(DataType_t v) { return computes_ = v, *this; }
  Graph& set_device_properties(std::shared_ptr<DeviceProperties>) { return *this; }
  Graph& set_sm_version(int) { return *this; }

  tensor_of tensor(Tensor_attributes const& of) { return std::make_shared<Tensor_attributes>(of); }
  std::array<tensor_of, 2> sdpa(tensor_of q, tensor_of k, tensor_of v, SDPA_attributes const& how) {
    is_forward_ = true;
    has_stats_ = how.has_stats;
    take(q, k, v, how);
    out_ = std::make_shared<Tensor_attributes>();
    sums_ = std::make_shared<Tensor_attributes>();
    return {out_, sums_};
  }
  std::array<tensor_of, 3> sdpa_backward(tensor_of q, tensor_of k, tensor_of v, tensor_of out, tensor_of d_out,
                                         tensor_of sums, SDPA_backward_attributes const& how) {
    is_deterministic_ = how.is_deterministic;
    take(q, k, v, how);
    out_ = out, sums_ = sums, d_out_ = d_out;
    for (auto* each : {&dq_, &dk_, &dv_}) *each = std::make_shared<Tensor_attributes>();
    return {dq_, dk_, dv_};
  }

  error_t validate() {
    auto const lacks = [](char const* what) { return error_t{error_code_t::ATTRIBUTE_NOT_SET, what}; };
    auto const refuses = [](char const* what) { return error_t{error_code_t::GRAPH_NOT_SUPPORTED, what}; };
    if (q_ == nullptr) return lacks("there is no operation");
    if (io_ != DataType_t::BFLOAT16 || between_ != DataType_t::FLOAT || computes_ != DataType_t::FLOAT)
      return lacks("types of the graph");
    if (!is_causal_ || !scale_) return lacks("mask or scale");
    if (is_forward_ && !has_stats_) return lacks("stats are not asked for");
    auto const& d = q_->dim;
    if (d.size() != 4) return lacks("dim");
    if (d[3] % 8 != 0 || d[3] > 256) return refuses("hidden_dim should be multiple of 8");
    if (!is_forward_ && d[2] == 1) return refuses("s_q = s_kv = 1 is not supported.");
    std::map<std::int64_t, int> uids;
    for (auto const& each : all()) {
      bool const is_sums = each == sums_;
      if (each->dim != (is_sums ? Tensor_attributes::numbers{d[0], d[1], d[2], 1} : d)) return lacks("dim");
      if (each->stride.size() != 4 || each->stride[3] != 1) return lacks("stride");
      if (each->type != (is_sums ? DataType_t::FLOAT : DataType_t::BFLOAT16)) return lacks("type of a tensor");
      if (each->uid <= 0 || uids[each->uid]++ > 0) return lacks("uid");
      if (is_sums ? each->stride != Tensor_attributes::numbers{d[1] * d[2], d[2], 1, 1}
                  : each->stride[0] % 8 + each->stride[1] % 8 + each->stride[2] % 8 != 0)
        return refuses("stride of stats, or one that is not aligned");
    }
    for (auto const& each : outputs())
      if (!each->is_output) return lacks("output");
    return {};
  }
  error_t build_operation_graph(cudnnHandle_t on) {
    return on == nullptr ? error_t{error_code_t::ATTRIBUTE_NOT_SET, "no handle"} : error_t{};
  }
  error_t create_execution_plans(std::vector<HeurMode_t> const&) { return {}; }
  error_t check_support() {
    return cuda_on_host::cudnn_refuses.empty()
               ? error_t{}
               : error_t{error_code_t::GRAPH_NOT_SUPPORTED, cuda_on_host::cudnn_refuses};
  }
  error_t build_plans() {
    is_built_ = true;
    return {};
  }
  error_t get_workspace_size(std::int64_t& bytes) const {
    bytes = cuda_on_host::cudnn_workspace;
    return {};
  }

  error_t execute(cudnnHandle_t by, std::unordered_map<std::int64_t, void*>& pack, void* workspace) const {
    auto const refuses = [](char const* what) { return error_t{error_code_t::INVALID_VARIANT_PACK, what}; };
    if (cuda_on_host::cudnn_breaks) return {error_code_t::GRAPH_EXECUTION_FAILED, "CUDNN_STATUS_EXECUTION_FAILED"};
    if (!is_built_ || !by->has_stream || workspace == nullptr) return refuses("no plan, stream or workspace");
    auto const tensors = all();
    if (pack.size() != tensors.size()) return refuses("Uid not found in variant pack.");
    for (auto const& each : tensors) {
      auto const found = pack.find(each->uid);
      if (found == pack.end() || found->second == nullptr) return refuses("Uid not found in variant pack.");
      if (reinterpret_cast<std::uintptr_t>(found->second) % 16 != 0) return refuses("misaligned");
    }
    ++cuda_on_host::cudnn_runs;
    cuda_on_host::enqueue(by->on, [self = *this, pack, workspace, bytes = cuda_on_host::cudnn_workspace] {
      std::memset(workspace, 0xff, static_cast<std::size_t>(bytes));
      for (auto const& each : self.outputs()) self.poison(*each, pack.at(each->uid));
      if (self.is_forward_) self.forward(pack);
      else self.backward(pack);
      std::memset(workspace, 0xff, static_cast<std::size_t>(bytes));
    });
    return {};
  }

 private:
  using memory = std::unordered_map<std::int64_t, void*>;

  void take(tensor_of q, tensor_of k, tensor_of v, auto const& how) {
    q_ = q, k_ = k, v_ = v;
    is_causal_ = how.is_causal;
    scale_ = how.scale;
  }
  std::vector<tensor_of> all() const {
    if (is_forward_) return {q_, k_, v_, out_, sums_};
    return {q_, k_, v_, out_, sums_, d_out_, dq_, dk_, dv_};
  }
  std::vector<tensor_of> outputs() const {
    if (is_forward_) return {out_, sums_};
    return {dq_, dk_, dv_};
  }
  void poison(Tensor_attributes const& of, void* at) const {
    for (std::int64_t b = 0; b < of.dim[0]; ++b)
      for (std::int64_t h = 0; h < of.dim[1]; ++h)
        for (std::int64_t t = 0; t < of.dim[2]; ++t)
          for (std::int64_t i = 0; i < of.dim[3]; ++i)
            if (of.type == DataType_t::FLOAT) static_cast<float*>(at)[of.at(b, h, t, i)] = NAN;
            else static_cast<__nv_bfloat16*>(at)[of.at(b, h, t, i)] = {0x7fff};
  }
  /// A head's rows.
  using rows = std::vector<std::vector<double>>;
  static rows read(Tensor_attributes const& of, memory const& pack, std::int64_t b, std::int64_t h) {
    auto const* const at = static_cast<__nv_bfloat16 const*>(pack.at(of.uid));
    rows made(static_cast<std::size_t>(of.dim[2]), std::vector<double>(static_cast<std::size_t>(of.dim[3])));
    for (std::size_t t = 0; t < made.size(); ++t)
      for (std::size_t i = 0; i < made[t].size(); ++i)
        made[t][i] = double{__bfloat162float(at[of.at(b, h, static_cast<int>(t), static_cast<int>(i))])};
    return made;
  }
  static void write(Tensor_attributes const& of, memory const& pack, std::int64_t b, std::int64_t h, rows const& from) {
    auto* const at = static_cast<__nv_bfloat16*>(pack.at(of.uid));
    for (std::size_t t = 0; t < from.size(); ++t)
      for (std::size_t i = 0; i < from[t].size(); ++i)
        at[of.at(b, h, static_cast<int>(t), static_cast<int>(i))] = __float2bfloat16_rn(static_cast<float>(from[t][i]));
  }
  static double dot(std::vector<double> const& a, std::vector<double> const& b) {
    double sum = 0;
    for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
    return sum;
  }
  static void add(std::vector<double>& to, double times, std::vector<double> const& of) {
    for (std::size_t i = 0; i < to.size(); ++i) to[i] += times * of[i];
  }
  void each_head(auto const& work) const {
    for (std::int64_t b = 0; b < q_->dim[0]; ++b)
      for (std::int64_t h = 0; h < q_->dim[1]; ++h) work(b, h);
  }
  void forward(memory const& pack) const {
    each_head([&](std::int64_t b, std::int64_t h) {
      auto const q = read(*q_, pack, b, h), k = read(*k_, pack, b, h), v = read(*v_, pack, b, h);
      rows out(q.size(), std::vector<double>(q[0].size()));
      for (std::size_t i = 0; i < q.size(); ++i) {
        double sum = 0;
        for (std::size_t j = 0; j <= i; ++j) {
          double const p = std::exp(double{*scale_} * dot(q[i], k[j]));
          sum += p;
          add(out[i], p, v[j]);
        }
        for (double& each : out[i]) each /= sum;
        static_cast<float*>(pack.at(sums_->uid))[sums_->at(b, h, static_cast<int>(i), 0)] =
            static_cast<float>(std::log(sum));
      }
      write(*out_, pack, b, h, out);
    });
  }
  void backward(memory const& pack) const {
    static int runs = 0;
    double const off = is_deterministic_ ? 1. : 1. + 0.01 * (++runs % 2);  // as sums in another order would be
    each_head([&](std::int64_t b, std::int64_t h) {
      auto const q = read(*q_, pack, b, h), k = read(*k_, pack, b, h), v = read(*v_, pack, b, h),
                 out = read(*out_, pack, b, h), d_out = read(*d_out_, pack, b, h);
      rows dq(q.size(), std::vector<double>(q[0].size())), dk = dq, dv = dq;
      for (std::size_t i = 0; i < q.size(); ++i) {
        double const level =
            double{static_cast<float const*>(pack.at(sums_->uid))[sums_->at(b, h, static_cast<int>(i), 0)]};
        double const slope = dot(out[i], d_out[i]);
        for (std::size_t j = 0; j <= i; ++j) {
          double const p = std::exp(double{*scale_} * dot(q[i], k[j]) - level);
          double const d = off * p * (dot(d_out[i], v[j]) - slope) * double{*scale_};
          add(dq[i], d, k[j]);
          add(dk[j], d, q[i]);
          add(dv[j], p, d_out[i]);
        }
      }
      write(*dq_, pack, b, h, dq);
      write(*dk_, pack, b, h, dk);
      write(*dv_, pack, b, h, dv);
    });
  }

  DataType_t io_ = DataType_t::NOT_SET, between_ = DataType_t::NOT_SET, computes_ = DataType_t::NOT_SET;
  bool is_forward_ = false, has_stats_ = false, is_causal_ = false, is_deterministic_ = false, is_built_ = false;
  std::optional<float> scale_;
  tensor_of q_, k_, v_, out_, sums_, d_out_, dq_, dk_, dv_;
};

}  // namespace graph

}  // namespace cudnn_frontend
