// SPDX-License-Identifier: Apache-2.0
// What does the compiler check before the program ever runs?
//
// Every static_assert below is a fact about a training run that other libraries find out at start-up, or by hanging.
// Change a number and see: the file stops compiling, with a sentence.
#include <algorithm>
#include <array>
#include <iostream>

#include <pipewright/plan/constant_plan.hpp>
#include <pipewright/plan/simulate.hpp>
#include <pipewright/stage/balance.hpp>
#include <pipewright/stage/explain_needs.hpp>
#include <pipewright/trace/grid.hpp>

namespace pw = pipewright;

// 1. The plan is complete, free of deadlock with no buffering at all, within its slots, right in its weights.
constexpr pw::shape where{.ranks = 4, .micro_batches = 8};
constexpr auto& flush = pw::plan<pw::flush, where>;
constexpr auto& gpipe = pw::plan<pw::gpipe, where>;
constexpr auto& interleaved = pw::plan<pw::interleaved<2>, where>;
constexpr auto& pipedream = pw::plan<pw::one_f_one_b, where>;

// 2. Its bubble, as an exact fraction: forward 1, backward 2.
constexpr pw::rational bubble(pw::plan_view const& p) {
  return pw::simulate(p, pw::costs<pw::rational>{.forward = 1, .backward_input = 1, .backward_weight = 1})
      .bubble_of_makespan();
}
static_assert(bubble(gpipe) == pw::rational(3, 11));  // (P-1) / (M+P-1)
static_assert(bubble(flush) == bubble(gpipe));
static_assert(bubble(interleaved) == pw::rational(3, 19));  // (P-1) / (VM+P-1)

// 3. How many slots for saved values a rank needs, and how many versions of its weights.
constexpr int slots_of(pw::plan_view const& p, int rank) {
  int slots = 0;
  for (int s = 0; s < p.stages(); ++s) slots += p.rank_of_stage[s] == rank ? p.slots[s].saved : 0;
  return slots;
}
static_assert(slots_of(gpipe, 0) == 8 && slots_of(flush, 0) == 4 && slots_of(flush, 3) == 1);
static_assert(flush.view().weight_buffers[0] == 1 && pipedream.view().weight_buffers[0] == 4);

// 4. So a memory budget is a line of code, and a schedule may be chosen by it: the smallest bubble that fits.
constexpr long long saved_bytes_of_a_rank = 600'000'000;  // of one micro-batch, all its chunks together
constexpr long long budget = 3'000'000'000;
constexpr bool fits(pw::plan_view const& p) {
  for (int r = 0; r < p.facts.ranks; ++r)
    if (slots_of(p, r) * (saved_bytes_of_a_rank / p.facts.chunks) > budget) return false;
  return true;
}
constexpr std::array choices{gpipe.view(), flush.view(), interleaved.view()};
constexpr pw::plan_view chosen = [] {
  pw::plan_view best{};
  for (pw::plan_view const& p : choices)
    if (fits(p) && (best.schedule.empty() || bubble(p) < bubble(best))) best = p;
  return best;
}();
static_assert(!fits(gpipe) && fits(flush) && !fits(interleaved));
static_assert(chosen.schedule == "flush");

// 5. Stages fit one another, the cut adds up, and each stage can do what the schedule asks of it.
template<class In, class Out> struct layer {
  using input = In;
  using output = Out;
  using weights = pw::nothing;
  using gradients = pw::nothing;
  using saved = pw::nothing;
  void forward(auto&, weights const&, input const&, output&, saved&) {}
  void backward(auto&, weights const&, saved&, output const&, input&, gradients&) {}
};
struct loss_layer {
  using input = double;
  using target = int;
  using weights = pw::nothing;
  using gradients = pw::nothing;
  using saved = pw::nothing;
  pw::loss forward(auto&, weights const&, input const&, target const&, saved&) { return {}; }
  void backward(auto&, weights const&, saved&, input&, gradients&) {}
};
using cut = decltype(pw::balance<4, 3, 3, 4>(
    pw::layers(layer<int, double>{}, pw::repeated<12>([] { return layer<double, double>{}; }), loss_layer{})));
static_assert(cut::size() == where.ranks);
static_assert(pw::explain_training<cut>() && pw::explain_needs<pw::flush, cut::last>());
static_assert(
    !pw::fits_before<layer<int, double>, layer<int, double>>);  // double is not int: such neighbours do not compile

int main() {
  std::cout << "chosen by the compiler within " << budget << " bytes a rank: " << chosen.schedule << '\n'
            << pw::grid(chosen);
  bool right = true;
  for (pw::plan_view const& p : choices) {
    // The same function, at run time: the same numbers.
    pw::rational const now = bubble(p);
    std::cout << p.schedule << ": bubble " << now.numerator() << '/' << now.denominator() << ", rank 0 needs "
              << slots_of(p, 0) << " slots of " << saved_bytes_of_a_rank / p.facts.chunks << " bytes"
              << (fits(p) ? ", which fit\n" : ", too much\n");
    right = right && now == (p.schedule == "interleaved" ? pw::rational(3, 19) : pw::rational(3, 11));
  }
  return right && chosen.schedule == "flush" ? 0 : 1;
}
