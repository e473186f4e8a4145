// SPDX-License-Identifier: Apache-2.0
// What must a ReLU and a max-pooling stage save for their backward, in bytes?
//
// A stage's `saved` type is what stays in memory between the forward and the backward of a micro-batch, once for every
// micro-batch in flight. Frameworks keep a whole tensor; the gradient needs one bit (ReLU) or two (2 x 2 pooling) an
// element. All stages below give the same gradients, bit for bit; the program checks that and prints what each one holds.
#include <array>
#include <cstddef>
#include <cstdint>
#include <iostream>
#include <string>
#include <vector>

#include <pipewright/stage/random.hpp>
#include <pipewright/stage/stage.hpp>
#include <pipewright/transport/parts.hpp>

namespace pw = pipewright;
using tensor = std::vector<float>;

// `bits` a value, packed.
template<int Bits> class packed {
 public:
  void resize(std::size_t values) { words_.assign((values * Bits + 63) / 64, 0); }
  void set(std::size_t i, std::uint64_t value) { words_[i * Bits / 64] |= value << (i * Bits % 64); }
  std::uint64_t operator[](std::size_t i) const {
    return words_[i * Bits / 64] >> (i * Bits % 64) & ((1u << Bits) - 1);
  }
  void for_each_part(auto&& visit) { visit(words_); }  // what bytes_of counts, and what a wire would carry

 private:
  std::vector<std::uint64_t> words_;
};

struct without_weights {
  using input = tensor;
  using output = tensor;
  using weights = pw::nothing;
  using gradients = pw::nothing;
};

// max(x, 0); the gradient passes where x was positive.
struct relu_keeps_floats : without_weights {
  using saved = tensor;
  void forward(auto&, weights const&, tensor const& x, tensor& y, saved& s) const {
    s = x;
    y.resize(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) y[i] = x[i] > 0 ? x[i] : 0;
  }
  void backward(auto&, weights const&, saved& s, tensor const& dy, tensor& dx, gradients&) const {
    dx.resize(dy.size());
    for (std::size_t i = 0; i < dy.size(); ++i) dx[i] = s[i] > 0 ? dy[i] : 0;
  }
};
struct relu_keeps_bytes : without_weights {
  using saved = std::vector<std::uint8_t>;
  void forward(auto&, weights const&, tensor const& x, tensor& y, saved& s) const {
    s.resize(x.size());
    y.resize(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) y[i] = (s[i] = x[i] > 0) ? x[i] : 0;
  }
  void backward(auto&, weights const&, saved& s, tensor const& dy, tensor& dx, gradients&) const {
    dx.resize(dy.size());
    for (std::size_t i = 0; i < dy.size(); ++i) dx[i] = s[i] ? dy[i] : 0;
  }
};
struct relu_keeps_bits : without_weights {
  using saved = packed<1>;
  void forward(auto&, weights const&, tensor const& x, tensor& y, saved& s) const {
    s.resize(x.size());
    y.resize(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) {
      s.set(i, x[i] > 0);
      y[i] = x[i] > 0 ? x[i] : 0;
    }
  }
  void backward(auto&, weights const&, saved& s, tensor const& dy, tensor& dx, gradients&) const {
    dx.resize(dy.size());
    for (std::size_t i = 0; i < dy.size(); ++i) dx[i] = s[i] ? dy[i] : 0;
  }
};

// The largest of each 2 x 2 window of planes of `side` x `side`; the gradient goes to where it stood (the first, of equals).
struct pooling : without_weights {
  std::size_t side = 0;

  // Calls visit(output index, input index of the window's corner).
  void each_window(std::size_t inputs, auto visit) const {
    std::size_t out = 0;
    for (std::size_t plane = 0; plane < inputs; plane += side * side)
      for (std::size_t row = 0; row < side; row += 2)
        for (std::size_t column = 0; column < side; column += 2) visit(out++, plane + row * side + column);
  }
  std::size_t at(std::size_t corner, std::uint64_t place) const { return corner + (place / 2) * side + place % 2; }
  std::uint64_t place_of_largest(tensor const& x, std::size_t corner) const {
    std::uint64_t best = 0;
    for (std::uint64_t place = 1; place < 4; ++place)
      if (x[at(corner, place)] > x[at(corner, best)]) best = place;
    return best;
  }
};
struct pooling_keeps_floats : pooling {  // and looks for the largest again
  using saved = tensor;
  void forward(auto&, weights const&, tensor const& x, tensor& y, saved& s) const {
    s = x;
    y.resize(x.size() / 4);
    each_window(x.size(),
                [&](std::size_t out, std::size_t corner) { y[out] = x[at(corner, place_of_largest(x, corner))]; });
  }
  void backward(auto&, weights const&, saved& s, tensor const& dy, tensor& dx, gradients&) const {
    dx.assign(s.size(), 0);
    each_window(s.size(),
                [&](std::size_t out, std::size_t corner) { dx[at(corner, place_of_largest(s, corner))] = dy[out]; });
  }
};
template<class Index> struct pooling_keeps_indices : pooling {  // of the largest in the whole tensor
  using saved = std::vector<Index>;
  void forward(auto&, weights const&, tensor const& x, tensor& y, saved& s) const {
    s.resize(x.size() / 4);
    y.resize(x.size() / 4);
    each_window(x.size(), [&](std::size_t out, std::size_t corner) {
      std::size_t const found = at(corner, place_of_largest(x, corner));
      s[out] = static_cast<Index>(found);
      y[out] = x[found];
    });
  }
  void backward(auto&, weights const&, saved& s, tensor const& dy, tensor& dx, gradients&) const {
    dx.assign(dy.size() * 4, 0);
    for (std::size_t out = 0; out < dy.size(); ++out) dx[static_cast<std::size_t>(s[out])] = dy[out];
  }
};
struct pooling_keeps_bits : pooling {  // of the place in the window
  using saved = packed<2>;
  void forward(auto&, weights const&, tensor const& x, tensor& y, saved& s) const {
    s.resize(x.size() / 4);
    y.resize(x.size() / 4);
    each_window(x.size(), [&](std::size_t out, std::size_t corner) {
      std::uint64_t const place = place_of_largest(x, corner);
      s.set(out, place);
      y[out] = x[at(corner, place)];
    });
  }
  void backward(auto&, weights const&, saved& s, tensor const& dy, tensor& dx, gradients&) const {
    dx.assign(dy.size() * 4, 0);
    each_window(dx.size(), [&](std::size_t out, std::size_t corner) { dx[at(corner, s[out])] = dy[out]; });
  }
};

static_assert(pw::stage<relu_keeps_floats> && pw::stage<relu_keeps_bytes> && pw::stage<relu_keeps_bits>);
static_assert(pw::stage<pooling_keeps_floats> && pw::stage<pooling_keeps_indices<std::int64_t>> &&
              pw::stage<pooling_keeps_bits>);

struct result {
  std::string what;
  std::size_t bytes;
  tensor gradient;
};

// One micro-batch through a stage and back.
template<class Stage> result measure(std::string what, Stage stage, tensor const& x) {
  pw::stage_context context;
  pw::nothing none;
  tensor y, dx;
  typename Stage::saved saved;
  stage.forward(context, none, x, y, saved);
  tensor dy = y;
  for (std::size_t i = 0; i < dy.size(); ++i) dy[i] = static_cast<float>(i % 7) - 3;
  stage.backward(context, none, saved, dy, dx, none);
  return {std::move(what), pw::bytes_of(saved), std::move(dx)};
}

int main() {
  constexpr std::size_t side = 56, channels = 64;  // an image of a small residual network, one micro-batch
  tensor x(side * side * channels);
  pw::random_stream const random = pw::keyed_random{.seed = 1}.at(0);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = random.uniform(i) - 0.5f;

  std::array const relu{measure("ReLU        keeps its input (fp32)", relu_keeps_floats{}, x),
                        measure("ReLU        keeps one byte an element", relu_keeps_bytes{}, x),
                        measure("ReLU        keeps one bit an element", relu_keeps_bits{}, x)};
  auto at = [&]<class S>(S stage) { return stage.side = side, stage; };
  std::array const pool{measure("max pooling keeps its input (fp32)", at(pooling_keeps_floats{}), x),
                        measure("max pooling keeps 64-bit indices", at(pooling_keeps_indices<std::int64_t>{}), x),
                        measure("max pooling keeps 32-bit indices", at(pooling_keeps_indices<std::int32_t>{}), x),
                        measure("max pooling keeps 2 bits a window", at(pooling_keeps_bits{}), x)};

  std::cout << channels << " channels of " << side << " x " << side << ": input " << x.size() * sizeof(float)
            << " bytes\n";
  bool right = true;
  auto show = [&](auto const& results) {
    for (result const& each : results) {
      right = right && each.gradient == results[0].gradient;
      std::cout << each.what << std::string(40 - each.what.size(), ' ') << each.bytes << " bytes"
                << (&each == &results[0] ? ""
                                         : ", 1/" + std::to_string(results[0].bytes / each.bytes) + " of the first")
                << "\n";
    }
  };
  show(relu);
  show(pool);

  std::size_t const n = x.size();
  right = right && relu[0].bytes == 4 * n && relu[1].bytes == n && relu[2].bytes == n / 8;
  right = right && pool[0].bytes == 4 * n && pool[1].bytes == 2 * n && pool[2].bytes == n && pool[3].bytes == n / 16;
  std::cout << (right ? "gradients agree bit for bit\n" : "gradients or bytes are not what this program claims\n");
  return right ? 0 : 1;
}
