// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <pipewright/pipeline/bytes.hpp>
#include <pipewright/pipeline/parameter_table.hpp>
#include <pipewright/plan/plan_view.hpp>
#include <pipewright/stage/layers.hpp>
#include <pipewright/stage/recompute.hpp>
#include <pipewright/transport/transport.hpp>

namespace pipewright::inline v0::detail {

/// A ring of slots of one boundary: where they are, and the transfer that each is under, if any.
struct slot_ring {
  struct slot {
    message value;
    ticket transfer{};
    bool pending = false;
  };
  std::vector<slot> slots;

  slot& of(int key) { return slots[static_cast<std::size_t>(key) % slots.size()]; }
  /// In all slots, of what has parts.
  std::size_t bytes() const {
    std::size_t all = 0;
    for (slot const& each : slots)
      if (each.value.type != nullptr) all += each.value.type->bytes(each.value.object);
    return all;
  }
};

/// What one action works on: addresses of the boundary values, by the stage's types.
struct work {
  stage_context* context;
  int micro_batch;  ///< since the start of the plan
  int weights;      ///< which physical copy
  int gradients;    ///< which accumulator
  void const* input;
  void* output;
  void const* target;
  void const* output_gradient;
  void* input_gradient;
};

/// One stage on the rank that runs it: its rings, weights, gradients, optimizer states. The engine sees this; the stage's
/// type is known to `cell` alone.
class cell_base {
 public:
  cell_base(int index, plan_view const& plan) : stage{index}, depths{plan.slots[index]} {}
  cell_base(cell_base const&) = delete;
  cell_base& operator=(cell_base const&) = delete;
  virtual ~cell_base() = default;

  virtual loss forward(work const&) = 0;
  virtual void recompute(work const&) = 0;
  virtual void backward(work const&) = 0;
  virtual void backward_input(work const&) = 0;
  virtual void backward_weight(work const&) = 0;
  virtual std::size_t saved_bytes() const = 0;      ///< that all saved slots hold now
  virtual std::size_t discarded_bytes() const = 0;  ///< of what a second forward gives, which nobody reads

  int const stage;
  slot_depths const depths;
  bool has_loss = false;
  int first_layer = 0;
  slot_ring input, output, output_gradient, input_gradient, target;
  std::vector<parameter_record> parameters;
  cell_base* next_here = nullptr;  ///< the next stage, where this rank holds it too
  cell_base* previous_here = nullptr;
  std::vector<loss> losses;  ///< by input slot, from forward to backward
  std::int64_t applied = 0;  ///< updates that changed the weights

  void clear_gradients(int slot) {
    for (parameter_record& p : parameters) p.on->clear(p.gradients[static_cast<std::size_t>(slot)], p.size);
  }
  void update(void const* optimizer, optimizer_step step, int newest, int fresh, int gradient) {
    for (parameter_record& p : parameters)
      p.on->update(optimizer, step, p.options, p.size, p.versions[static_cast<std::size_t>(newest)],
                   p.gradients[static_cast<std::size_t>(gradient)], p.versions[static_cast<std::size_t>(fresh)],
                   p.states.data());
  }
  /// Appends the sums of squares of a gradient's parameters, one by one but that `without`. A device is given all of them to do before
  /// it is waited for.
  void append_squares(int gradient, parameter_record const* without, std::vector<double>& to) {
    waited_for_.clear();
    for (parameter_record const& p : parameters) {
      if (&p == without) continue;
      void const* const at = p.gradients[static_cast<std::size_t>(gradient)];
      if (p.on->squares_later != nullptr)
        waited_for_.emplace_back(to.size(), p.on->squares_later(at, waited_for_.size()));
      to.push_back(p.on->squares_later != nullptr ? 0 : p.on->squares(at, p.size));
    }
    for (auto const& [place, late] : waited_for_) to[place] = late->get();
  }
  /// The next version without a change.
  void keep(int newest, int fresh) {
    if (newest == fresh) return;
    for (parameter_record& p : parameters)
      p.on->copy(p.versions[static_cast<std::size_t>(newest)], p.versions[static_cast<std::size_t>(fresh)], p.size);
  }
  parameter_record& find(std::string const& name) {
    for (parameter_record& p : parameters)
      if (p.name == name) return p;
    throw error("stage " + std::to_string(stage) + " has no parameter named " + name +
                " to tie; the options name one parameter of each tied stage");
  }
  pipeline_bytes bytes() const {
    pipeline_bytes b{.activations = saved_bytes()};
    for (parameter_record const& p : parameters) {
      std::size_t const one = p.size * p.on->element_bytes;
      b.weights += p.version_bytes * p.versions.size();
      b.gradients += one * p.gradients.size();
      b.optimizer += one * p.states.size();
    }
    b.inputs = input.bytes();
    b.targets = target.bytes();
    b.boundaries = output.bytes() + output_gradient.bytes() + input_gradient.bytes() + discarded_bytes();
    return b;
  }

 private:
  std::vector<std::pair<std::size_t, late_number*>> waited_for_;
};

/// A cell with its stage. Saved values live here: F .. backward, or R .. backward where the stage is recomputed.
template<class Stage, class Optimizer> class cell final : public cell_base {
  static constexpr bool is_loss = loss_stage<Stage>;
  static constexpr bool splits = split_backward_stage<Stage>;
  using input_type = typename Stage::input;
  using input_gradient_type = input_gradient_t<Stage>;

  template<class S, bool IsLoss> struct types_after {
    using output = typename S::output;
    using gradient = output_gradient_t<S>;
    using target = nothing;
  };
  template<class S> struct types_after<S, true> {
    using output = nothing;
    using gradient = nothing;
    using target = typename S::target;
  };
  using after = types_after<Stage, is_loss>;

 public:
  cell(Stage stage_made, int index, plan_view const& plan, plan_view const& evaluation, int rank, std::uint64_t seed)
      : cell_base(index, plan),
        stage_{std::move(stage_made)},
        mode_{recompute_mode_of(stage_)},
        facts_{plan.facts},
        splits_backward_{plan.backward == backward_form::split} {
    has_loss = is_loss;
    if constexpr (requires { stage_.first_layer; }) this->first_layer = stage_.first_layer;
    else this->first_layer = index;  // one layer each
    bool const trains = plan.backward != backward_form::none;
    slot_depths const tested = evaluation.slots[index];
    int const last = plan.stages() - 1;
    auto deeper = [](int a, int b) { return static_cast<std::size_t>(a > b ? a : b); };
    make(inputs_, this->input, deeper(depths.input, tested.input));
    if (index < last && plan.rank_of_stage[index + 1] != rank)
      make(outputs_, this->output, deeper(depths.output, tested.output));
    if (trains && index < last)
      make(output_gradients_, this->output_gradient, static_cast<std::size_t>(depths.output_gradient));
    if (trains && (index == 0 || plan.rank_of_stage[index - 1] != rank))
      make(input_gradients_, this->input_gradient, index == 0 ? 1 : static_cast<std::size_t>(depths.input_gradient));
    if (is_loss) make(targets_, this->target, inputs_.size());
    losses.resize(inputs_.size());
    if (mode_ == recompute_mode::never || !trains) {
      saved_.resize(deeper(depths.saved, 1));
    } else {
      saved_.resize(deeper(depths.last_saved, 1));
      recomputed_.resize(static_cast<std::size_t>(depths.recomputed + (splits_backward_ ? 1 : 0)));
    }

    typename Stage::weights initial{};
    stage_context const context{.rank = rank, .stage = index, .layer = this->first_layer, .seed = seed};
    initialize(stage_, context, initial);
    weights_.assign(static_cast<std::size_t>(plan.weight_buffers[rank]), initial);
    for (int g = 0; g < (trains ? depths.gradients : 0); ++g) gradients_.push_back(make_gradients<Stage>(initial));
    this->parameters = parameters_of<Optimizer>(weights_, gradients_);
  }

  loss forward(work const& w) override {
    bool const again = w.context->training && is_recomputed(mode_, facts_, w.micro_batch);
    auto& kept = again ? recomputed_.back()  // not kept: R makes it again
                 : !w.context->training || mode_ == recompute_mode::never
                     ? saved_[key(w.micro_batch) % saved_.size()]
                     : saved_[key(w.micro_batch / facts_.micro_batches) % saved_.size()];
    w.context->saves = !again;
    return run(w, static_cast<typename after::output*>(w.output), kept);
  }
  void recompute(work const& w) override {
    if (!is_recomputed(mode_, facts_, w.micro_batch)) return;  // this stage keeps what it saves
    w.context->recomputing = true;
    run(w, &discarded_, recomputed_slot(w.micro_batch));
    w.context->recomputing = false;
  }
  void backward(work const& w) override {
    if constexpr (is_loss) stage_.backward(*w.context, weights(w), saved(w), input_gradient_of(w), gradients(w));
    else stage_.backward(*w.context, weights(w), saved(w), output_gradient_of(w), input_gradient_of(w), gradients(w));
  }
  void backward_input(work const& w) override {
    if constexpr (splits && is_loss) stage_.backward_input(*w.context, weights(w), saved(w), input_gradient_of(w));
    else if constexpr (splits)
      stage_.backward_input(*w.context, weights(w), saved(w), output_gradient_of(w), input_gradient_of(w));
    else refuse_to_split();
  }
  void backward_weight(work const& w) override {
    if constexpr (splits && is_loss) stage_.backward_weight(*w.context, weights(w), saved(w), gradients(w));
    else if constexpr (splits)
      stage_.backward_weight(*w.context, weights(w), saved(w), output_gradient_of(w), gradients(w));
    else refuse_to_split();
  }
  std::size_t saved_bytes() const override {
    std::size_t bytes = 0;
    if constexpr (has_parts<typename Stage::saved>)
      for (auto const* slots : {&saved_, &recomputed_})
        for (auto const& s : *slots) bytes += bytes_of(s);
    return bytes;
  }

  std::size_t discarded_bytes() const override {
    if constexpr (has_parts<typename after::output>)
      if (mode_ != recompute_mode::never) return bytes_of(discarded_);
    return 0;
  }

  Stage const& stage_made() const { return stage_; }

 private:
  template<class T> static void make(std::vector<T>& values, slot_ring& ring, std::size_t depth) {
    values = std::vector<T>(depth == 0 ? 1 : depth);
    for (T& v : values) ring.slots.push_back({as_message(v)});
  }
  /// Values that stay on their rank need no parts.
  template<class T> static message as_message(T& value) {
    if constexpr (has_parts<T>) return message_of(value);
    else return {&value, nullptr};
  }
  static std::size_t key(int k) { return static_cast<std::size_t>(k); }
  auto& recomputed_slot(int micro_batch) {
    return recomputed_[key(micro_batch) % static_cast<std::size_t>(depths.recomputed)];
  }
  auto& saved(work const& w) {
    if (mode_ == recompute_mode::never) return saved_[key(w.micro_batch) % saved_.size()];
    if (is_recomputed(mode_, facts_, w.micro_batch)) return recomputed_slot(w.micro_batch);
    return saved_[key(w.micro_batch / facts_.micro_batches) % saved_.size()];
  }
  typename Stage::weights const& weights(work const& w) const { return weights_[key(w.weights)]; }
  typename Stage::gradients& gradients(work const& w) { return gradients_[key(w.gradients)]; }
  static auto& input_gradient_of(work const& w) { return *static_cast<input_gradient_type*>(w.input_gradient); }
  static auto& output_gradient_of(work const& w) {
    return *static_cast<typename after::gradient const*>(w.output_gradient);
  }
  loss run(work const& w, typename after::output* y, typename Stage::saved& kept) {
    auto const& x = *static_cast<input_type const*>(w.input);
    if constexpr (is_loss)
      return stage_.forward(*w.context, weights(w), x, *static_cast<typename after::target const*>(w.target), kept);
    else stage_.forward(*w.context, weights(w), x, *y, kept);
    return {};
  }
  [[noreturn]] void refuse_to_split() const {
    throw error("stage " + std::to_string(stage) +
                " has no backward_input and backward_weight, which this schedule runs apart; add them or choose a "
                "schedule with a full backward");
  }

  Stage stage_;
  recompute_mode mode_;
  shape facts_;
  bool splits_backward_;
  std::vector<input_type> inputs_;
  std::vector<typename after::output> outputs_;
  std::vector<typename after::gradient> output_gradients_;
  std::vector<input_gradient_type> input_gradients_;
  std::vector<typename after::target> targets_;
  std::vector<typename Stage::saved> saved_, recomputed_;
  typename after::output discarded_{};
  std::vector<typename Stage::weights> weights_;
  std::vector<typename Stage::gradients> gradients_;
};

}  // namespace pipewright::inline v0::detail
