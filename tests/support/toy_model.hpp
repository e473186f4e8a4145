// SPDX-License-Identifier: Apache-2.0
#pragma once
// A small model of unlike layers: token ids in, a tuple with an optional and a plain number between two layers, a struct
// elsewhere, layers without weights, dropout, micro-batches of unequal length, and a loss that ignores some targets and whose
// weight may be tied to the embedding. Every layer's backward also comes in halves.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include <pipewright/stage/balance.hpp>

namespace toys {

namespace pw = pipewright;

inline constexpr int vocabulary = 5, width = 3;

template<class T> struct named_values {
  std::string name;
  std::vector<T> values;
  pw::parameter_options options{};
  void for_each_parameter(auto&& visit) { visit(std::string_view{name}, std::span{values}, options); }
};

/// Uniform in [-1/2, 1/2), by layer.
template<class T> void fill(named_values<T>& w, std::string name, std::size_t size, std::uint64_t seed, int layer) {
  w.name = std::move(name);
  w.values.resize(size);
  auto const random = pw::keyed_random{.seed = seed, .layer = layer}.at(7);
  for (std::size_t i = 0; i < size; ++i) w.values[i] = static_cast<T>(random.uniform(i)) - T(0.5);
}

/// Keeps three of four numbers in training.
template<class T> T dropout(auto const& context, bool on, std::size_t i) {
  if (!on || !context.training) return 1;
  return context.random().uniform(1, i) < 0.25f ? T(0) : T(4) / T(3);
}

using tokens = std::vector<int>;
template<class T> using split_values = std::tuple<std::vector<T>, std::optional<std::vector<T>>, int>;
template<class T> struct rows {
  std::vector<T> values;
  int count = 0;
  void for_each_part(auto&& visit) {
    visit(values);
    visit(count);
  }
};

template<class T> void for_each_number(rows<T>& r, auto&& visit) {
  for (T& each : r.values) visit(each);
}

/// Both halves of backward, one after the other.
struct whole_backward {
  template<class Self> static void both(Self& self, auto& c, auto const& w, auto& s, auto const& dy, auto& dx,
                                        auto& g) {
    self.backward_input(c, w, s, dy, dx);
    self.backward_weight(c, w, s, dy, g);
  }
};

template<class T> struct embedding : whole_backward {
  using input = tokens;
  using input_gradient = pw::nothing;
  using output = std::vector<T>;
  using weights = named_values<T>;
  using gradients = named_values<T>;
  using saved = tokens;

  void initialize(pw::stage_context const& c, weights& w) const { fill(w, "table", vocabulary * width, c.seed, 1000); }
  void forward(auto&, weights const& w, tokens const& x, output& y, saved& s) const {
    s = x;
    y.clear();
    for (int const id : x)
      for (int i = 0; i < width; ++i) y.push_back(w.values[static_cast<std::size_t>(id * width + i)]);
  }
  void backward(auto& c, weights const& w, saved& s, output const& dy, input_gradient& dx, gradients& g) const {
    both(*this, c, w, s, dy, dx, g);
  }
  void backward_input(auto&, weights const&, saved&, output const&, input_gradient&) const {}
  void backward_weight(auto&, weights const&, saved& s, output const& dy, gradients& g) const {
    for (std::size_t t = 0; t < s.size(); ++t)
      for (std::size_t i = 0; i < width; ++i) g.values[static_cast<std::size_t>(s[t]) * width + i] += dy[t * width + i];
  }
};

/// x to (x, x^2 if the tokens are of even number, that number).
template<class T> struct split : whole_backward {
  using input = std::vector<T>;
  using output = split_values<T>;
  using weights = pw::nothing;
  using gradients = pw::nothing;
  using saved = std::vector<T>;

  void forward(auto&, weights const&, input const& x, output& y, saved& s) const {
    s = x;
    auto& [same, square, count] = y;
    same = x;
    count = static_cast<int>(x.size()) / width;
    square.reset();
    if (count % 2 != 0) return;
    square = x;
    for (T& each : *square) each *= each;
  }
  void backward(auto& c, weights const& w, saved& s, output const& dy, input& dx, gradients& g) const {
    both(*this, c, w, s, dy, dx, g);
  }
  void backward_input(auto&, weights const&, saved& s, output const& dy, input& dx) const {
    auto const& [same, square, count] = dy;
    dx = same;
    if (square)
      for (std::size_t i = 0; i < s.size(); ++i) dx[i] += 2 * s[i] * (*square)[i];
  }
  void backward_weight(auto&, weights const&, saved&, output const&, gradients&) const {}
};

template<class T> struct drop : whole_backward {
  using input = split_values<T>;
  using output = split_values<T>;
  using weights = pw::nothing;
  using gradients = pw::nothing;
  using saved = pw::nothing;

  bool on = true;

  void forward(auto& c, weights const&, input const& x, output& y, saved&) const {
    y = x;
    apply(c, y);
  }
  void backward(auto& c, weights const& w, saved& s, output const& dy, input& dx, gradients& g) const {
    both(*this, c, w, s, dy, dx, g);
  }
  void backward_input(auto& c, weights const&, saved&, output const& dy, input& dx) const {
    dx = dy;
    apply(c, dx);
  }
  void backward_weight(auto&, weights const&, saved&, output const&, gradients&) const {}

 private:
  void apply(auto& c, output& y) const {
    auto& values = std::get<0>(y);
    for (std::size_t i = 0; i < values.size(); ++i) values[i] *= dropout<T>(c, on, i);
  }
};

/// (a, b, n) to rows of g0 a + g1 b + g2 / n; never decayed.
template<class T> struct merge : whole_backward {
  using input = split_values<T>;
  using output = rows<T>;
  using weights = named_values<T>;
  using gradients = named_values<T>;
  using saved = input;

  void initialize(pw::stage_context const& c, weights& w) const {
    fill(w, "gate", 3, c.seed, c.layer);
    w.options.decay = false;
  }
  void forward(auto&, weights const& w, input const& x, output& y, saved& s) const {
    s = x;
    auto const& [a, b, n] = x;
    y.count = n;
    y.values.resize(a.size());
    for (std::size_t i = 0; i < a.size(); ++i)
      y.values[i] = w.values[0] * a[i] + (b ? w.values[1] * (*b)[i] : T(0)) + w.values[2] / T(n);
  }
  void backward(auto& c, weights const& w, saved& s, output const& dy, input& dx, gradients& g) const {
    both(*this, c, w, s, dy, dx, g);
  }
  void backward_input(auto&, weights const& w, saved& s, output const& dy, input& dx) const {
    auto& [da, db, n] = dx;
    n = std::get<2>(s);
    da = dy.values;
    for (T& each : da) each *= w.values[0];
    db.reset();
    if (!std::get<1>(s)) return;
    db = dy.values;
    for (T& each : *db) each *= w.values[1];
  }
  void backward_weight(auto&, weights const&, saved& s, output const& dy, gradients& g) const {
    auto const& [a, b, n] = s;
    for (std::size_t i = 0; i < a.size(); ++i) {
      g.values[0] += dy.values[i] * a[i];
      if (b) g.values[1] += dy.values[i] * (*b)[i];
      g.values[2] += dy.values[i] / T(n);
    }
  }
};

/// Row by row x + dropout(tanh(W x)); its saved values point into its input.
template<class T> struct block : whole_backward {
  using input = rows<T>;
  using output = rows<T>;
  using weights = named_values<T>;
  using gradients = named_values<T>;
  struct saved {
    rows<T> const* x = nullptr;
    std::vector<T> branch, gradient;  ///< tanh(W x), and the gradient before it (from the first half of backward)
    void for_each_part(auto&& visit) {
      visit(branch);
      visit(gradient);
    }
  };
  static constexpr bool keeps_input = true;

  bool drops = true;

  void initialize(pw::stage_context const& c, weights& w) const {
    fill(w, "block." + std::to_string(c.layer) + ".weight", width * width, c.seed, c.layer);
  }
  void forward(auto& c, weights const& w, input const& x, output& y, saved& s) const {
    s.x = &x;
    y = x;
    s.branch.assign(x.values.size(), 0);
    for (std::size_t r = 0; r < x.values.size(); r += width)
      for (std::size_t o = 0; o < width; ++o) {
        T sum = 0;
        for (std::size_t i = 0; i < width; ++i) sum += w.values[o * width + i] * x.values[r + i];
        s.branch[r + o] = std::tanh(sum);
        y.values[r + o] += dropout<T>(c, drops, r + o) * s.branch[r + o];
      }
  }
  void backward(auto& c, weights const& w, saved& s, output const& dy, input& dx, gradients& g) const {
    both(*this, c, w, s, dy, dx, g);
  }
  void backward_input(auto& c, weights const& w, saved& s, output const& dy, input& dx) const {
    dx = dy;
    s.gradient.resize(dy.values.size());
    for (std::size_t r = 0; r < dy.values.size(); r += width)
      for (std::size_t o = 0; o < width; ++o) {
        T const d = s.gradient[r + o] =
            dy.values[r + o] * dropout<T>(c, drops, r + o) * (1 - s.branch[r + o] * s.branch[r + o]);
        for (std::size_t i = 0; i < width; ++i) dx.values[r + i] += w.values[o * width + i] * d;
      }
  }
  void backward_weight(auto&, weights const&, saved& s, output const&, gradients& g) const {
    for (std::size_t r = 0; r < s.gradient.size(); r += width)
      for (std::size_t o = 0; o < width; ++o)
        for (std::size_t i = 0; i < width; ++i) g.values[o * width + i] += s.gradient[r + o] * s.x->values[r + i];
  }
};

/// Sum over rows and vocabulary of half the squared distance between W x and the target's unit vector; targets below 0 are
/// ignored. Weighs as many as are not.
template<class T> struct head {
  using input = rows<T>;
  using target = tokens;
  using weights = named_values<T>;
  using gradients = named_values<T>;
  struct saved {
    std::vector<T> x, difference;
  };

  void initialize(pw::stage_context const& c, weights& w) const { fill(w, "head", vocabulary * width, c.seed, 1000); }
  pw::loss forward(auto&, weights const& w, input const& x, target const& t, saved& s) const {
    s.x = x.values;
    s.difference.assign(t.size() * vocabulary, 0);
    pw::loss result{0, 0};
    for (std::size_t r = 0; r < t.size(); ++r) {
      if (t[r] < 0) continue;
      ++result.weight;
      for (std::size_t o = 0; o < vocabulary; ++o) {
        T d = o == static_cast<std::size_t>(t[r]) ? T(-1) : T(0);
        for (std::size_t i = 0; i < width; ++i) d += w.values[o * width + i] * s.x[r * width + i];
        s.difference[r * vocabulary + o] = d;
        result.value += static_cast<double>(d * d / 2);
      }
    }
    return result;
  }
  void backward(auto& c, weights const& w, saved& s, input& dx, gradients& g) const {
    backward_input(c, w, s, dx);
    backward_weight(c, w, s, g);
  }
  void backward_input(auto&, weights const& w, saved& s, input& dx) const {
    dx.count = static_cast<int>(s.x.size()) / width;
    dx.values.assign(s.x.size(), 0);
    for (std::size_t r = 0; r * width < s.x.size(); ++r)
      for (std::size_t o = 0; o < vocabulary; ++o)
        for (std::size_t i = 0; i < width; ++i)
          dx.values[r * width + i] += w.values[o * width + i] * s.difference[r * vocabulary + o];
  }
  void backward_weight(auto&, weights const&, saved& s, gradients& g) const {
    for (std::size_t r = 0; r * width < s.x.size(); ++r)
      for (std::size_t o = 0; o < vocabulary; ++o)
        for (std::size_t i = 0; i < width; ++i)
          g.values[o * width + i] += s.difference[r * vocabulary + o] * s.x[r * width + i];
  }
};

inline constexpr int toy_layers = 9;  ///< embedding, split, dropout, merge, four blocks, head

/// The model cut into 1, 2, 3, 4, 6 or 8 stages; one type whatever the cut, and fewer stage types than balance() has.
template<class T> class toy_stages {
  using front = pw::chain<embedding<T>, split<T>>;
  using middle = pw::chain<drop<T>, merge<T>>;
  using blocks = pw::repeated_layers<block<T>>;
  static constexpr int first_block = 4, first_head = toy_layers - 1;

 public:
  using input = tokens;
  using last = pw::placed<pw::chain<front, middle, blocks, head<T>>>;

  explicit toy_stages(int stages, bool with_dropout = true) : stages_{stages}, drops_{with_dropout} {}

  int size() const { return stages_; }
  void visit(int index, auto&& f) const {
    std::vector<int> const sizes = stages_ == 1   ? std::vector{9}
                                   : stages_ == 2 ? std::vector{4, 5}
                                   : stages_ == 3 ? std::vector{4, 3, 2}
                                   : stages_ == 4 ? std::vector{2, 2, 3, 2}
                                   : stages_ == 6 ? std::vector{2, 2, 1, 1, 2, 1}
                                   : stages_ == 8 ? std::vector{2, 1, 1, 1, 1, 1, 1, 1}
                                                  : std::vector<int>{};
    if (sizes.empty()) throw pw::error("the toy model has no cut into " + std::to_string(stages_) + " stages");
    int first = 0;
    for (int before = 0; before < index; ++before) first += sizes[static_cast<std::size_t>(before)];
    int const size = sizes[static_cast<std::size_t>(index)], end = first + size;
    auto give = [&]<class Stage>(Stage stage) { f(pw::placed<Stage>{{std::move(stage)}, first}); };
    if (size == toy_layers) give(pw::chain{make_front(), make_middle(), make_blocks(4), head<T>{}});
    else if (end == first_block)
      first == 0 ? give(pw::chain{make_front(), make_middle()}) : size == 2 ? give(make_middle()) : give(merge<T>{});
    else if (first == 0) give(make_front());
    else if (first < first_block) give(drop<T>{{}, drops_});
    else if (end <= first_head) give(make_blocks(size));
    else if (size == 1) give(head<T>{});
    else give(pw::chain{make_blocks(size - 1), head<T>{}});
  }

 private:
  front make_front() const { return front{embedding<T>{}, split<T>{}}; }
  middle make_middle() const { return middle{drop<T>{{}, drops_}, merge<T>{}}; }
  blocks make_blocks(int n) const {
    return blocks{std::vector<block<T>>(static_cast<std::size_t>(n), block<T>{{}, drops_})};
  }

  int stages_;
  bool drops_;
};

/// All of it as one stage.
template<class T> auto toy_whole(bool with_dropout = true) {
  pw::repeated_layers<block<T>> blocks{std::vector<block<T>>(4, block<T>{{}, with_dropout})};
  return pw::stages(
      pw::chain{embedding<T>{}, split<T>{}, drop<T>{{}, with_dropout}, merge<T>{}, std::move(blocks), head<T>{}});
}

/// 1 to 4 tokens a micro-batch, other ones in every step; one target in four is ignored, but never the first.
struct toy_batch {
  int step = 0;

  void input(int micro_batch, tokens& x) const {
    x.resize(length(micro_batch));
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<int>(bits(micro_batch, 10 + i) % vocabulary);
  }
  void target(int micro_batch, tokens& t) const {
    t.resize(length(micro_batch));
    for (std::size_t i = 0; i < t.size(); ++i)
      t[i] =
          i > 0 && bits(micro_batch, 30 + i) % 4 == 0 ? -1 : static_cast<int>(bits(micro_batch, 20 + i) % vocabulary);
  }

 private:
  std::uint32_t bits(int micro_batch, std::size_t i) const {
    return pw::keyed_random{.seed = 99, .step = step, .micro_batch = micro_batch}.bits(0, i);
  }
  std::size_t length(int micro_batch) const { return 1 + bits(micro_batch, 0) % 4; }
};

}  // namespace toys
