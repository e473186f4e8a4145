// SPDX-License-Identifier: Apache-2.0
// The orders of the literature, in the field's text form.
#include <array>

#include <support/more_schedules.hpp>
#include <support/order_rules.hpp>
#include <support/twice.hpp>

#include <pipewright/schedule/named.hpp>

namespace pw = pipewright;
using support::order_of;
using support::read_order;

namespace {

/// How many forwards a rank runs before its first backward.
template<class Policy> constexpr int warm_up(pw::shape s, int rank) {
  int forwards = 0, before_backward = -1;
  Policy::order(pw::complete<Policy>(s), rank, [&](pw::action a) {
    if (a.what == pw::kind::forward) ++forwards;
    else if (before_backward < 0) before_backward = forwards;
  });
  return before_backward;
}

/// The place of an action in a rank's order, or -1.
template<class Policy> constexpr int place_of(pw::action wanted, pw::shape s, int rank) {
  int place = 0, found = -1;
  Policy::order(pw::complete<Policy>(s), rank, [&](pw::action a) {
    if (a == wanted) found = place;
    ++place;
  });
  return found;
}

/// Whether a rank's order is exactly a golden text of one-digit stages and micro-batches ("0F0 2B1").
template<class Policy> constexpr bool reads(std::string_view golden, pw::shape s, int rank) {
  std::size_t at = 0;
  bool same = true;
  Policy::order(pw::complete<Policy>(s), rank, [&](pw::action a) {
    if (!same) return;
    same = at + 3 <= golden.size() && golden[at] == '0' + a.stage &&
           golden[at + 1] == "FBIW"[static_cast<int>(a.what)] && golden[at + 2] == '0' + a.micro_batch &&
           (at + 3 == golden.size() || golden[at + 3] == ' ');
    at += 4;
  });
  return same && at == golden.size() + 1;
}

constexpr pw::shape p2(int micro_batches, int chunks = 0, int group = 0) {
  return {.ranks = 2, .micro_batches = micro_batches, .chunks = chunks, .group = group};
}

}  // namespace

TEST_CASE("golden texts") {
  PIPEWRIGHT_TWICE(reads<pw::sequential>("0F0 0B0 0F1 0B1 0F2 0B2", p2(3), 0));
  PIPEWRIGHT_TWICE(reads<pw::sequential>("1F0 1B0 1F1 1B1 1F2 1B2", p2(3), 1));
  PIPEWRIGHT_TWICE(reads<pw::gpipe>("0F0 0F1 0F2 0B0 0B1 0B2", p2(3), 0));
  PIPEWRIGHT_TWICE(reads<pw::gpipe>("1F0 1F1 1F2 1B0 1B1 1B2", p2(3), 1));
  PIPEWRIGHT_TWICE(reads<pw::flush>("0F0 0F1 0B0 0F2 0B1 0F3 0B2 0B3", p2(4), 0));
  PIPEWRIGHT_TWICE(reads<pw::flush>("1F0 1B0 1F1 1B1 1F2 1B2 1F3 1B3", p2(4), 1));
  PIPEWRIGHT_TWICE(reads<pw::forward_only>("0F0 0F1 2F0 2F1", p2(2, 2), 0));
  PIPEWRIGHT_TWICE(
      reads<pw::interleaved<2>>("0F0 0F1 2F0 2F1 0F2 2B0 0F3 2B1 2F2 0B0 2F3 0B1 2B2 2B3 0B2 0B3", p2(4), 0));
  PIPEWRIGHT_TWICE(
      reads<pw::interleaved<2>>("1F0 1F1 3F0 3B0 3F1 3B1 1F2 1B0 1F3 1B1 3F2 3B2 3F3 3B3 1B2 1B3", p2(4), 1));
  PIPEWRIGHT_TWICE(reads<support::zero_bubble_h1>("0F0 0F1 0I0 0W0 0F2 0I1 0W1 0F3 0I2 0W2 0I3 0W3", p2(4), 0));
  PIPEWRIGHT_TWICE(reads<support::zero_bubble_h1>("1F0 1I0 1F1 1I1 1W0 1F2 1I2 1W1 1F3 1I3 1W2 1W3", p2(4), 1));
  PIPEWRIGHT_TWICE(!reads<pw::interleaved<2>>("1F0 1F1 3F0 3B0 3F1 3B1 1F2 1B0 1F3 1B1 3F2 3B2 3F3 3B3 1B3 1B2", p2(4),
                                              1));  // this test can fail

  auto const start = order_of<pw::flush>({.ranks = 4, .micro_batches = 8, .chunks = 1}, 0);
  CHECK(support::order(start.begin(), start.begin() + 9) == read_order("F0 F1 F2 F3 B0 F4 B1 F5 B2", 0));
}

TEST_CASE("a group larger than the ranks: P2 V2 M6 G4") {
  using policy = pw::interleaved<2>;
  constexpr auto s = p2(6, 2, 4);
  support::order forwards;
  for (auto const a : order_of<policy>(s, 0))
    if (a.what == pw::kind::forward) forwards.push_back(a);
  CHECK(forwards == read_order("0F0 0F1 0F2 0F3 2F0 2F1 2F2 2F3 0F4 0F5 2F4 2F5"));
  PIPEWRIGHT_TWICE(warm_up<policy>(s, 0) == 6 + 1);  // the pairs start with a forward
  PIPEWRIGHT_TWICE(warm_up<policy>(s, 1) == 4 + 1);
  auto const start = order_of<policy>(s, 1);
  CHECK(support::order(start.begin(), start.begin() + 8) == read_order("1F0 1F1 1F2 1F3 3F0 3B0 3F1 3B1"));
}

TEST_CASE("1F1B is DeepSpeed's parity rule and Megatron's phases, with or without a flush") {
  for (int p = 1; p <= 8; ++p)
    for (int m = 1; m <= 32; ++m)
      for (int r = 0; r < p; ++r) {
        CAPTURE(p);
        CAPTURE(m);
        CAPTURE(r);
        auto const parity = support::deepspeed_one_forward_one_backward(p, m, r);
        CHECK(parity == support::megatron_one_forward_one_backward(p, m, r));
        CHECK(parity == order_of<pw::flush>({p, m, 1}, r));
        CHECK(parity == order_of<pw::one_f_one_b>({p, m, 1}, r));
        CHECK(parity == order_of<pw::one_f_one_b_vertical_sync>({p, m, 1}, r));
        CHECK(parity == order_of<pw::two_buffered>({p, m, 1}, r));
        if (m % 2 == 0) CHECK(parity == order_of<pw::two_buffered>({p, m / 2, 1, 0, 2}, r));  // a batch has no seam
      }
}

TEST_CASE("interleaved is Megatron's table for every group and PyTorch's rule wherever PyTorch takes the shape") {
  int megatron_agrees = 0, pytorch_agrees = 0;
  for (int p = 1; p <= 8; ++p)
    for (int m = 1; m <= 32; ++m)
      for (int v = 2; v <= 4; ++v) {
        auto const s = pw::complete<pw::interleaved<>>({p, m, v});
        CAPTURE(support::describe(s));
        int const pytorch = support::pytorch_group(p, m);
        if (pytorch > 0) CHECK_EQ(s.group, pytorch);
        for (int r = 0; r < p; ++r) {
          for (int g = std::min(p, m); g <= m; ++g) {
            pw::shape grouped = s;
            grouped.group = g;
            if (!pw::check_shape<pw::interleaved<>>(grouped).ok()) continue;
            ++megatron_agrees;
            CHECK(order_of<pw::interleaved<>>(grouped, r) == support::megatron_interleaved(p, m, v, g, r));
          }
          if (pytorch == 0) continue;
          ++pytorch_agrees;
          CHECK(order_of<pw::interleaved<>>(s, r) == support::pytorch_interleaved(p, m, v, pytorch, r));
        }
      }
  MESSAGE(megatron_agrees << " orders equal Megatron's table, " << pytorch_agrees << " PyTorch's rule");
  CHECK(megatron_agrees > 20'000);
  CHECK(pytorch_agrees > 2'000);
}

TEST_CASE("what PyTorch takes at P = 4") {
  for (int const m : {1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 16, 20}) CHECK(support::pytorch_group(4, m) > 0);
  for (int const m : {9, 11, 13, 14}) CHECK_EQ(support::pytorch_group(4, m), 0);
}

TEST_CASE("warm-up counts") {
  for (int p = 1; p <= 8; ++p)
    for (int m = 1; m <= 32; ++m)
      for (int r = 0; r < p; ++r) {
        pw::shape const s{p, m};
        CAPTURE(support::describe(s));
        CHECK_EQ(warm_up<pw::sequential>(s, r), 1);
        CHECK_EQ(warm_up<pw::gpipe>(s, r), m);
        CHECK_EQ(warm_up<pw::flush>(s, r), std::min(m, p - r));
        CHECK_EQ(warm_up<pw::one_f_one_b>(s, r), std::min(m, p - r));
        CHECK_EQ(warm_up<pw::one_f_one_b_vertical_sync>(s, r), std::min(m, p - r));
        CHECK_EQ(warm_up<pw::two_buffered>(s, r), std::min(m, p - r));
        CHECK_EQ(warm_up<pw::forward_only>(s, r), -1);
        for (int v = 2; v <= 4; ++v) {
          auto const chunked = pw::complete<pw::interleaved<>>({p, m, v});
          int const before_pairs = std::min((v - 1) * chunked.group + 2 * (p - 1 - r), m * v);
          CHECK_EQ(warm_up<pw::interleaved<>>(chunked, r), std::min(before_pairs + 1, m * v));
        }
      }
  PIPEWRIGHT_TWICE(warm_up<pw::flush>(pw::shape{.ranks = 4, .micro_batches = 8}, 1) == 3);
  PIPEWRIGHT_TWICE(place_of<pw::flush>(pw::backward(0, 0), pw::shape{.ranks = 4, .micro_batches = 8}, 0) == 4);
}
