// SPDX-License-Identifier: Apache-2.0
// Attention by cuDNN through its frontend, headers that take long to compile: once, here. With PIPEWRIGHT_WITH_CUDNN; without it,
// what says that it is not there.
#include <pipewright/error.hpp>
#include <pipewright/gpt2_cuda/cudnn_attention.hpp>

#ifdef PIPEWRIGHT_WITH_CUDNN

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include <cudnn_frontend.h>
#include <dlfcn.h>

#include <pipewright/cuda/memory.hpp>
#include <pipewright/cuda/queue.hpp>

/// The frontend's, for the program to define: the library as it was loaded. Weak, since another part of the program may do so.
namespace cudnn_frontend {
[[gnu::weak]] void* cudnn_dlhandle = nullptr;
}

namespace pipewright::inline v0::gpt2::cuda {

namespace {

namespace fe = cudnn_frontend;

/// By which a graph knows its tensors.
enum tensor : std::int64_t { queries = 1, keys, values, output, sums, d_output, d_queries, d_keys, d_values };

/// Loads cuDNN for the process, once. Throws error where there is none.
void load() {
  static std::mutex one_at_a_time;
  std::lock_guard const lock(one_at_a_time);
  if (fe::cudnn_dlhandle != nullptr) return;
  // Else the frontend looks for CUDA runtimes by itself, and takes an older one where it finds several.
  setenv("CUDNN_FRONTEND_CUDART_LIB_NAME", ("libcudart.so." + std::to_string(CUDART_VERSION / 1000)).c_str(), 0);
  fe::cudnn_dlhandle = dlopen("libcudnn.so.9", RTLD_NOW | RTLD_LOCAL);
  if (fe::cudnn_dlhandle == nullptr)
    throw error(std::string("cuDNN cannot be loaded: ") + dlerror() + "; put its folder on LD_LIBRARY_PATH");
}

void check(fe::error_t const& of, char const* what) {
  if (of.is_good()) return;
  std::string said = of.err_msg.substr(0, 600);
  std::ranges::replace(said, '\n', ' ');
  throw error(std::string("pipewright: cuDNN's attention failed to ") + what + ": " + said);
}
void check(cudnnStatus_t of, char const* what) {
  if (of != CUDNN_STATUS_SUCCESS)
    throw error(std::string("pipewright: cuDNN's attention failed to ") + what + ": " +
                fe::detail::get_error_string(of));
}

using tensor_of = std::shared_ptr<fe::graph::Tensor_attributes>;

/// Heads that lie side by side in rows of `row` numbers.
fe::graph::Tensor_attributes heads_in_rows(tensor id, attention_shape s, std::int64_t row) {
  return fe::graph::Tensor_attributes()
      .set_uid(id)
      .set_dim({s.sequences, s.heads, s.length, s.head_size()})
      .set_stride({s.length * row, s.head_size(), row, 1})
      .set_data_type(fe::DataType_t::BFLOAT16);
}
/// The log-sum-exp of each query, head by head. cuDNN's is the same: natural, of the scaled scores.
fe::graph::Tensor_attributes sums_of_queries(attention_shape s) {
  std::int64_t const heads = s.heads, length = s.length;
  return fe::graph::Tensor_attributes()
      .set_uid(sums)
      .set_dim({s.sequences, heads, length, 1})
      .set_stride({heads * length, length, 1, 1})
      .set_data_type(fe::DataType_t::FLOAT);
}
void is_output(tensor_of const& made, fe::graph::Tensor_attributes const& as) {
  made->set_output(true)
      .set_uid(as.get_uid())
      .set_dim(as.get_dim())
      .set_stride(as.get_stride())
      .set_data_type(as.get_data_type());
}

void describe(fe::graph::Graph& graph, pass which, attention_shape s) {
  std::int64_t const width = s.width;
  float const scale = 1.f / std::sqrt(static_cast<float>(s.head_size()));
  graph.set_io_data_type(fe::DataType_t::BFLOAT16)
      .set_intermediate_data_type(fe::DataType_t::FLOAT)
      .set_compute_data_type(fe::DataType_t::FLOAT);
  auto const q = graph.tensor(heads_in_rows(queries, s, 3 * width)),
             k = graph.tensor(heads_in_rows(keys, s, 3 * width)), v = graph.tensor(heads_in_rows(values, s, 3 * width));
  if (which == pass::forward) {
    auto const [out, of_sums] = graph.sdpa(q, k, v,
                                           fe::graph::SDPA_attributes()
                                               .set_name("attention")
                                               .set_generate_stats(true)
                                               .set_causal_mask(true)
                                               .set_attn_scale(scale));
    is_output(out, heads_in_rows(output, s, width));
    is_output(of_sums, sums_of_queries(s));
    return;
  }
  auto const out = graph.tensor(heads_in_rows(output, s, width)),
             d_out = graph.tensor(heads_in_rows(d_output, s, width)), of_sums = graph.tensor(sums_of_queries(s));
  auto const [dq, dk, dv] = graph.sdpa_backward(q, k, v, out, d_out, of_sums,
                                                fe::graph::SDPA_backward_attributes()
                                                    .set_name("attention, backward")
                                                    .set_causal_mask(true)
                                                    .set_attn_scale(scale)
                                                    .set_deterministic_algorithm(true));
  is_output(dq, heads_in_rows(d_queries, s, 3 * width));
  is_output(dk, heads_in_rows(d_keys, s, 3 * width));
  is_output(dv, heads_in_rows(d_values, s, 3 * width));
}

/// Finds who computes it: on the handle's device, or without a handle on the one that the graph was given.
void find_engines(fe::graph::Graph& graph, cudnnHandle_t handle) {
  check(graph.validate(), "be described");
  check(graph.build_operation_graph(handle), "be described");
  check(graph.create_execution_plans({fe::HeurMode_t::A}), "be planned");
  check(graph.check_support(), "be planned");
}

/// Throws error with what the kernels' layout and cuDNN's releases ask for.
void check_shape(pass which, attention_shape s) {
  if (s.head_size() * s.heads != s.width || s.head_size() % 8 != 0 || s.head_size() > 128)
    throw error("cuDNN's attention has heads of multiples of 8 up to 128 numbers, not " +
                std::to_string(s.head_size()));
  // Before 9.16 the frontend has the lengths of short last tiles copied from the host in each run.
  if (which == pass::backward && s.length % 128 != 0 && fe::detail::get_backend_version() < 91600)
    throw error("the backward of cuDNN before 9.16 is for lengths that are multiples of 128, not " +
                std::to_string(s.length));
}

std::size_t numbers_of_qkv(attention_shape s) {
  return 3 * static_cast<std::size_t>(s.rows()) * static_cast<std::size_t>(s.width);
}

}  // namespace

class cudnn_attention::plans {
 public:
  explicit plans(pipewright::cuda::context& where) : where_{where} {}
  plans(plans const&) = delete;
  plans& operator=(plans const&) = delete;
  ~plans() {
    made_.clear();
    if (handle_ != nullptr) fe::detail::destroy_handle(handle_);
  }

  /// What a half on a shape needs.
  struct plan {
    pass which;
    attention_shape shape;
    std::unique_ptr<fe::graph::Graph> graph;  // null where cuDNN does not compute it
    std::size_t workspace = 0;                // bytes
  };

  plan* find(pass which, attention_shape s) {
    auto const found = std::ranges::find_if(made_, [&](plan const& p) { return p.which == which && p.shape == s; });
    plan& of = found != made_.end() ? *found : made_.emplace_back(make(which, s));
    return of.graph == nullptr ? nullptr : &of;
  }
  std::string const& why_not() const { return why_not_; }

  /// Where the tensors of a half lie.
  struct memory {
    bf16 const *qkv, *out;
    float const* log_sum_exp;
    bf16 const* d_out;
    bf16* d_qkv;
  };
  void run(pass which, attention_shape s, memory at) {
    plan* const of = find(which, s);
    if (of == nullptr) throw error("pipewright: cuDNN does not compute this attention: " + why_not_);
    bf16* const to = at.d_qkv;
    bool const in_place = which == pass::backward && to == at.qkv;
    // cuDNN's blocks read what others have written.
    if (in_place) at.d_qkv = reinterpret_cast<bf16*>(workspace_.data() + of->workspace);
    pipewright::cuda::queue("cuDNN's attention", where_.stream(), &plans::execute, handle_, of, at,
                            static_cast<void*>(workspace_.data()));
    if (in_place) pipewright::cuda::queue_copy(where_.stream(), at.d_qkv, numbers_of_qkv(s), to);
  }

 private:
  static constexpr std::size_t most_room = std::size_t{256} << 20;  // bytes, which no plan of memory knows of

  plan make(pass which, attention_shape s) {
    plan made{which, s, nullptr};
    try {
      load();
      check_shape(which, s);
      if (handle_ == nullptr) check(fe::detail::create_handle(&handle_), "begin");
      auto graph = std::make_unique<fe::graph::Graph>();
      describe(*graph, which, s);
      find_engines(*graph, handle_);
      check(graph->build_plans(), "be compiled");
      std::int64_t bytes = 0;
      check(graph->get_workspace_size(bytes), "be measured");
      made.workspace = (static_cast<std::size_t>(bytes) + 255) / 256 * 256;
      std::size_t const room =
          made.workspace + (which == pass::backward ? numbers_of_qkv(s) * sizeof(bf16) : std::size_t{0});
      // A deterministic backward may keep all gradients of scores.
      if (room > most_room)
        throw error("cuDNN's attention wants " + std::to_string(room >> 20) + " MiB of room, more than " +
                    std::to_string(most_room >> 20));
      workspace_.resize(std::max<std::size_t>({room, workspace_.size(), 256}));
      made.graph = std::move(graph);
    } catch (std::exception const& e) {
      why_not_ = e.what();
    }
    return made;
  }

  static cudaError_t execute(cudaStream_t on, cudnnHandle_t handle, plan* of, memory at, void* workspace) {
    auto const pointer = [](void const* to) { return const_cast<void*>(to); };
    auto const width = static_cast<std::size_t>(of->shape.width);
    std::unordered_map<std::int64_t, void*> pack{{queries, pointer(at.qkv)},
                                                 {keys, pointer(at.qkv + width)},
                                                 {values, pointer(at.qkv + 2 * width)},
                                                 {output, pointer(at.out)},
                                                 {sums, pointer(at.log_sum_exp)}};
    if (of->which == pass::backward)
      pack.insert({{d_output, pointer(at.d_out)},
                   {d_queries, at.d_qkv},
                   {d_keys, at.d_qkv + width},
                   {d_values, at.d_qkv + 2 * width}});
    check(fe::detail::set_stream(handle, on), "take a stream");
    check(of->graph->execute(handle, pack, workspace), "run");
    return cudaSuccess;
  }

  pipewright::cuda::context& where_;
  cudnnHandle_t handle_ = nullptr;
  std::deque<plan> made_;  // they stay where they are
  std::string why_not_;
  pipewright::cuda::detail::run<std::byte, pipewright::cuda::detail::of_device> workspace_;  // and gradients in place
};

bool cudnn_attention::serves(pass which, attention_shape s) { return plans_->find(which, s) != nullptr; }
std::string const& cudnn_attention::why_not() const noexcept { return plans_->why_not(); }

void cudnn_attention::forward(bf16 const* qkv, attention_shape s, bf16* out, float* log_sum_exp) {
  plans_->run(pass::forward, s, {qkv, out, log_sum_exp, nullptr, nullptr});
}
void cudnn_attention::backward(bf16 const* qkv, bf16 const* out, float const* log_sum_exp, bf16 const* d_out,
                               attention_shape s, bf16* d_qkv) {
  plans_->run(pass::backward, s, {qkv, out, log_sum_exp, d_out, d_qkv});
}

std::string cudnn_attention::lacks(pass which, attention_shape s, std::string const& device, int architecture) try {
  load();
  check_shape(which, s);
  auto properties = std::make_shared<fe::DeviceProperties>();
  check(properties->deserialize({device.begin(), device.end()}), "take a device's description");
  fe::graph::Graph graph;
  graph.set_device_properties(properties);
  graph.set_sm_version(architecture);
  describe(graph, which, s);
  find_engines(graph, nullptr);
  return {};
} catch (std::exception const& e) {
  return e.what();
}

#else

namespace pipewright::inline v0::gpt2::cuda {

class cudnn_attention::plans {
 public:
  explicit plans(pipewright::cuda::context&) {}
  static std::string const& why_not() {
    static std::string const said =
        "this program was built without cuDNN; install its headers and its frontend's, configure and build again";
    return said;
  }
};

bool cudnn_attention::serves(pass, attention_shape) { return false; }
std::string const& cudnn_attention::why_not() const noexcept { return plans::why_not(); }
void cudnn_attention::forward(bf16 const*, attention_shape, bf16*, float*) {
  throw error("pipewright: " + plans::why_not());
}
void cudnn_attention::backward(bf16 const*, bf16 const*, float const*, bf16 const*, attention_shape, bf16*) {
  throw error("pipewright: " + plans::why_not());
}
std::string cudnn_attention::lacks(pass, attention_shape, std::string const&, int) { return plans::why_not(); }

#endif

cudnn_attention::cudnn_attention(pipewright::cuda::context& where) : plans_{std::make_unique<plans>(where)} {}
cudnn_attention::~cudnn_attention() = default;

}  // namespace pipewright::inline v0::gpt2::cuda
