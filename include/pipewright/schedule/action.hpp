// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace pipewright::inline v0 {

/// What a rank does in one action. The names in text are PyTorch's where PyTorch has one (`F`, `B`, `I`, `W`,
/// `SEND_F`, `RECV_F`, ...).
enum class kind : std::uint8_t {
  forward,           ///< F
  backward,          ///< B, input and weight gradient at once
  backward_input,    ///< I, the input-gradient half
  backward_weight,   ///< W, the weight-gradient half
  recompute,         ///< R, the forward again, to have back what backward needs
  send_forward,      ///< SEND_F, an output to the next stage
  receive_forward,   ///< RECV_F, post and wait at once: a blocking receive
  post_forward,      ///< POST_F, from here on the input may land in its slot
  wait_forward,      ///< WAIT_F, the input has landed
  send_backward,     ///< SEND_B, an input gradient to the stage before
  receive_backward,  ///< RECV_B
  post_backward,     ///< POST_B
  wait_backward,     ///< WAIT_B
  send_tied,         ///< SEND_T, a tied weight's gradient, to the other stage of the tie
  post_tied,         ///< POST_T
  wait_tied,         ///< WAIT_T
  send_facts,    ///< SEND_S, a rank's share of a step's facts (norms, non-finite values), to the rank of stage 0; the
                 ///< stage is the sender's first
  post_facts,    ///< POST_S, at the rank of stage 0
  wait_facts,    ///< WAIT_S
  send_verdict,  ///< SEND_V, what follows from all facts, back; the stage is the receiver's first
  post_verdict,  ///< POST_V
  wait_verdict,  ///< WAIT_V
  update,        ///< UPDATE, the optimizer writes the stage's next weight version
  unshard,       ///< UNSHARD, known to the notation only (sharded parameters)
  reshard,       ///< RESHARD, known to the notation only
  reduce_gradient,  ///< REDUCE_GRAD, known to the notation only
};

/// One thing a rank does: its kind, the global index of the stage it concerns and the micro-batch. For SEND and RECV
/// the stage is the sender's or receiver's own. `overlapped` says that this action and the next one of the same rank
/// may run at once (a fused F and B, PyTorch's OVERLAP_F_B).
struct action {
  kind what;
  bool overlapped;
  std::uint16_t stage;
  std::int32_t micro_batch;

  friend constexpr bool operator==(action const&, action const&) = default;
};
static_assert(sizeof(action) == 8);

constexpr action make_action(kind what, int stage, int micro_batch) {
  return {what, false, static_cast<std::uint16_t>(stage), micro_batch};
}
constexpr action forward(int stage, int micro_batch) { return make_action(kind::forward, stage, micro_batch); }
constexpr action backward(int stage, int micro_batch) { return make_action(kind::backward, stage, micro_batch); }
constexpr action backward_input(int stage, int micro_batch) {
  return make_action(kind::backward_input, stage, micro_batch);
}
constexpr action backward_weight(int stage, int micro_batch) {
  return make_action(kind::backward_weight, stage, micro_batch);
}

/// F, B, I, W or R: what takes a stage's time.
constexpr bool is_compute(kind k) { return k <= kind::recompute; }
constexpr bool is_send(kind k) {
  return k == kind::send_forward || k == kind::send_backward || k == kind::send_tied || k == kind::send_facts ||
         k == kind::send_verdict;
}
constexpr bool is_receive(kind k) { return k == kind::receive_forward || k == kind::receive_backward; }
constexpr bool is_post(kind k) {
  return k == kind::post_forward || k == kind::post_backward || k == kind::post_tied || k == kind::post_facts ||
         k == kind::post_verdict;
}
constexpr bool is_wait(kind k) {
  return k == kind::wait_forward || k == kind::wait_backward || k == kind::wait_tied || k == kind::wait_facts ||
         k == kind::wait_verdict;
}
constexpr bool is_transfer(kind k) { return k >= kind::send_forward && k <= kind::wait_verdict; }
/// B or I: what produces the input gradient.
constexpr bool gives_input_gradient(kind k) { return k == kind::backward || k == kind::backward_input; }
/// B or W: what finishes a micro-batch on a stage.
constexpr bool gives_weight_gradient(kind k) { return k == kind::backward || k == kind::backward_weight; }

/// What travels on a channel.
enum class traffic : std::uint8_t { activation, gradient, tied_gradient, step };
constexpr traffic traffic_of(kind k) {
  return k >= kind::send_facts      ? traffic::step
         : k >= kind::send_tied     ? traffic::tied_gradient
         : k >= kind::send_backward ? traffic::gradient
                                    : traffic::activation;
}

/// A directed first-in-first-out channel between two ranks for one kind of traffic.
struct channel_key {
  int source = 0;
  int destination = 0;
  traffic carries = traffic::activation;
  friend constexpr bool operator==(channel_key const&, channel_key const&) = default;
};

/// An action of a program together with the weight version it reads (F, B, I, W, R) or writes (UPDATE), counted from
/// the start of the plan; 0 for transfers.
struct instruction {
  action what;
  std::int32_t version;

  friend constexpr bool operator==(instruction const&, instruction const&) = default;
};

}  // namespace pipewright::inline v0
