// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>

#include <pipewright/cuda/context.hpp>
#include <pipewright/gpt2/shapes.hpp>
#include <pipewright/gpt2_cuda/numbers.hpp>

namespace pipewright::inline v0::gpt2::cuda {

/// The halves of attention, which are planned and chosen apart.
enum class pass { forward, backward };

/// Causal self-attention in bf16 by NVIDIA's cuDNN, which is loaded when it is first asked for: `context.kept<cudnn_attention>()`.
/// It reads and writes what the kernels of attention and attention_backward do (operations.hpp), the log-sum-exp included, so that
/// either half may be by either; it drops nothing out. Every sum has one order: of the backward cuDNN's deterministic algorithm is
/// taken. A program that was built without cuDNN's headers, or runs where cuDNN is not, is told so by why_not().
class cudnn_attention {
 public:
  explicit cudnn_attention(pipewright::cuda::context& where);
  cudnn_attention(cudnn_attention const&) = delete;
  cudnn_attention& operator=(cudnn_attention const&) = delete;
  ~cudnn_attention();

  /// Whether cuDNN computes it here. What that needs is made when it is first asked, a second or so; the answer is kept.
  bool serves(pass which, attention_shape s);
  /// Why not, of the last that it does not serve; empty while there is none.
  std::string const& why_not() const noexcept;

  /// Queue what it serves; all pointers are multiples of 16. d_qkv may be qkv, for a copy. Throw error where cuDNN fails.
  void forward(bf16 const* qkv, attention_shape s, bf16* out, float* log_sum_exp);
  void backward(bf16 const* qkv, bf16 const* out, float const* log_sum_exp, bf16 const* d_out, attention_shape s,
                bf16* d_qkv);

  /// What cuDNN lacks to compute it on a device that is not here; empty where nothing. `device` describes it in cuDNN's JSON
  /// (CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION), `architecture` is as in sm_90. Loads libcuda.so.1, of a driver or the
  /// toolkit's stub of one.
  static std::string lacks(pass which, attention_shape s, std::string const& device, int architecture);

 private:
  class plans;
  std::unique_ptr<plans> plans_;
};

}  // namespace pipewright::inline v0::gpt2::cuda
