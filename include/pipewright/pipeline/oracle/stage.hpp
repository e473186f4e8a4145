// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <pipewright/error.hpp>
#include <pipewright/pipeline/optimizer.hpp>
#include <pipewright/stage/parameters.hpp>
#include <pipewright/stage/remote_parameter.hpp>

namespace pipewright::inline v0::detail {

/// What an update must know about a stage's gradient.
struct gradient_facts {
  std::vector<double> squares;  ///< by parameter, in the order of visiting: the sum of its gradient's squares
  bool finite = true;
};

/// One stage of a serial_oracle, its type forgotten: the weight versions that may still be read, and room for the one
/// micro-batch that is on its way.
template<class Optimizer> class oracle_stage {
 public:
  virtual ~oracle_stage() = default;

  /// Takes its input from the stage before and its output gradient from the stage after; null where there is none.
  virtual void join(oracle_stage const* before, oracle_stage const* after) = 0;
  /// Where a batch writes: the first stage's input, the loss stage's target.
  virtual void* first_input() = 0;
  virtual void* target() = 0;
  virtual void const* output() const = 0;
  virtual void const* input_gradient() const = 0;

  /// A loss where the stage gives one.
  virtual loss forward(stage_context context, std::int64_t version) = 0;
  virtual void backward(stage_context context, std::int64_t version) = 0;

  /// Adds another stage's gradient of a parameter to its own one of that name; both get the sum.
  virtual void tie(std::string_view name, oracle_stage& other, std::string_view name_there) = 0;
  virtual std::span<std::byte> gradient(std::string_view name) = 0;
  /// A parameter named `counted_elsewhere` is passed over.
  virtual gradient_facts facts(std::string_view counted_elsewhere) = 0;

  /// Makes the next weight version from the newest and the gradients added up since the last update, which are then zero.
  virtual void update(Optimizer const& optimizer, double gradient_scale) = 0;
  /// The same, but the next version equals the newest, and this counts for no update.
  virtual void keep_weights() = 0;
  virtual std::int64_t updates() const = 0;
};

/// Where a stage's output goes, or its target comes from.
template<class Stage> struct oracle_end {
  typename Stage::output output{};
};
template<loss_stage Stage> struct oracle_end<Stage> {
  typename Stage::target target{};
};

template<class Stage, class Optimizer> class oracle_stage_of final : public oracle_stage<Optimizer> {
  using base = oracle_stage<Optimizer>;
  using weights = typename Stage::weights;
  using gradients = typename Stage::gradients;

 public:
  /// Keeps the newest `versions` weight versions. `context` is the one for initialize() but for the layer.
  oracle_stage_of(Stage stage, stage_context context, std::size_t versions)
      : stage_(std::move(stage)),
        first_layer_{layer_of(stage_, context.stage)},
        kept_{versions},
        sum_(make_gradients<Stage>(first_version(context))) {
    for (std::size_t s = 0; s != Optimizer::states; ++s) states_.push_back(make_gradients<Stage>(newest()));
  }

  weights& newest() { return versions_.back(); }

  void join(base const* before, base const* after) override {
    input_ = before == nullptr ? &first_input_ : before->output();
    output_gradient_ = after == nullptr ? nullptr : after->input_gradient();
  }
  void* first_input() override { return &first_input_; }
  void* target() override {
    if constexpr (loss_stage<Stage>) return &end_.target;
    else return nullptr;
  }
  void const* output() const override {
    if constexpr (loss_stage<Stage>) return nullptr;
    else return &end_.output;
  }
  void const* input_gradient() const override { return &input_gradient_; }

  loss forward(stage_context context, std::int64_t version) override {
    context.layer = first_layer_;
    auto const& input = *static_cast<typename Stage::input const*>(input_);
    if constexpr (loss_stage<Stage>) {
      return stage_.forward(context, read(version), input, std::as_const(end_.target), saved_);
    } else {
      stage_.forward(context, read(version), input, end_.output, saved_);
      return {};
    }
  }
  void backward(stage_context context, std::int64_t version) override {
    context.layer = first_layer_;
    if constexpr (loss_stage<Stage>) {
      stage_.backward(context, read(version), saved_, input_gradient_, sum_);
    } else {
      auto const& output_gradient = *static_cast<output_gradient_t<Stage> const*>(output_gradient_);
      stage_.backward(context, read(version), saved_, output_gradient, input_gradient_, sum_);
    }
  }

  void tie(std::string_view name, base& other, std::string_view name_there) override {
    auto const there = other.gradient(name_there);
    bool found = false;
    sum_.for_each_parameter([&]<class T>(std::string_view each, std::span<T> values, parameter_options) {
      if (each != name || std::as_bytes(values).size() != there.size()) return;
      found = true;
      auto* const theirs = reinterpret_cast<T*>(there.data());
      for (std::size_t i = 0; i < values.size(); ++i) theirs[i] = values[i] = values[i] + theirs[i];
    });
    if (!found)
      throw error("pipewright: the tied parameters " + std::string(name) + " and " + std::string(name_there) +
                  " are not two parameters of one size in the two stages; check pipeline_options::tied");
  }
  std::span<std::byte> gradient(std::string_view name) override {
    std::span<std::byte> found;
    sum_.for_each_parameter(keeping{[&]<class T>(std::string_view each, std::span<T> values, parameter_options) {
      if (each == name) found = std::as_writable_bytes(values);
    }});
    return found;
  }

  gradient_facts facts(std::string_view counted_elsewhere) override {
    gradient_facts result;
    sum_.for_each_parameter([&](std::string_view name, auto values, parameter_options) {
      if (!counted_elsewhere.empty() && name == counted_elsewhere) return;
      double squares = 0;
      for (auto const value : values) {
        squares += static_cast<double>(value) * static_cast<double>(value);
        result.finite = result.finite && std::isfinite(value);
      }
      result.squares.push_back(squares);
    });
    return result;
  }

  void update(Optimizer const& optimizer, double gradient_scale) override {
    optimizer_step const step{.number = ++updates_, .gradient_scale = gradient_scale};
    auto const from = places_of(versions_.back()), gradient = places_of(sum_);
    std::array<std::vector<place>, Optimizer::states> states;
    for (std::size_t s = 0; s != states.size(); ++s) states[s] = places_of(states_[s]);
    next_version();
    std::size_t at = 0;
    versions_.back().for_each_parameter(
        [&]<class T>(std::string_view name, std::span<T> fresh, parameter_options options) {
          auto values = [&](std::vector<place> const& places) {
            if (at >= places.size() || places[at].size != fresh.size() || places[at].element != sizeof(T))
              throw error(
                  "pipewright: the weights and the gradients of a stage visit different parameters, beginning with " +
                  std::string(name) + "; let both visit the same tensors in the same order");
            return std::span<T>(static_cast<T*>(places[at].data), fresh.size());
          };
          std::array<std::span<T>, Optimizer::states> state;
          for (std::size_t s = 0; s != states.size(); ++s) state[s] = values(states[s]);
          optimizer.update(step, options, std::span<T const>(values(from)), std::span<T const>(values(gradient)), fresh,
                           state);
          ++at;
        });
    clear();
  }
  void keep_weights() override {
    next_version();
    clear();
  }
  std::int64_t updates() const override { return updates_; }

 private:
  static int layer_of(Stage const& stage, int index) {
    if constexpr (requires { stage.first_layer; }) return stage.first_layer;
    else return index;  // stages that do not know are one layer each
  }

  struct place {
    void* data;
    std::size_t size, element;
  };
  static std::vector<place> places_of(auto& parameters) {
    std::vector<place> result;
    parameters.for_each_parameter(keeping{[&]<class T>(std::string_view, std::span<T> values, parameter_options) {
      result.push_back({values.data(), values.size(), sizeof(T)});
    }});
    return result;
  }

  weights& first_version(stage_context context) {
    context.layer = first_layer_;
    initialize(stage_, context, versions_.emplace_back());
    return newest();
  }
  weights const& read(std::int64_t version) const { return versions_.at(static_cast<std::size_t>(version - oldest_)); }
  void next_version() {
    versions_.push_back(weights(versions_.back()));
    if (versions_.size() > kept_ + 1) {  // one more, for update() reads the one before the newest
      versions_.pop_front();
      ++oldest_;
    }
  }
  void clear() {
    sum_.for_each_parameter([](std::string_view, auto values, parameter_options) {
      for (auto& value : values) value = {};
    });
  }

  Stage stage_;
  int first_layer_;
  std::size_t kept_;
  std::deque<weights> versions_;
  std::int64_t oldest_ = 0;  // version that stands in front
  gradients sum_;
  std::vector<gradients> states_;  // of the optimizer
  std::int64_t updates_ = 0;

  void const* input_ = nullptr;
  void const* output_gradient_ = nullptr;
  typename Stage::input first_input_{};  // of the first stage only; all others read where the stage before writes
  oracle_end<Stage> end_{};
  typename Stage::saved saved_{};
  input_gradient_t<Stage> input_gradient_{};
};

}  // namespace pipewright::inline v0::detail
