// SPDX-License-Identifier: Apache-2.0
// Every legal shape's plan: sound for verify and for the brute force, with the peaks, versions and bubbles of the closed
// formulas; every illegal shape refused with its sentence. Group sizes besides the default are in tests/long.
#include <support/plan_proofs.hpp>
#include <support/twice.hpp>

namespace pw = pipewright;

TEST_CASE_TEMPLATE("all P, M, V", Policy, pw::sequential, pw::gpipe, pw::one_f_one_b, pw::one_f_one_b_vertical_sync,
                   pw::two_buffered, pw::flush, pw::forward_only, pw::interleaved<>) {
  auto const seen = support::prove_all_shapes<Policy>(false);
  MESSAGE(Policy::name << ": " << seen.legal << " legal shapes proven, " << seen.illegal << " illegal ones refused");
  CHECK(seen.legal > 250);
}

// Negative controls: schedules under a false name.
namespace {

struct gpipe_named_flush : pw::gpipe {
  static constexpr std::string_view name = "flush";
};
struct flush_named_sequential : pw::flush {
  static constexpr std::string_view name = "sequential";
};

}  // namespace

TEST_CASE("the statements about a plan can be false") {
  CHECK_EQ(support::false_statement<gpipe_named_flush>({4, 8}), "in flight 8 instead of 4 on rank 0");
  CHECK_EQ(support::false_statement<flush_named_sequential>({1, 8}), "");
  CHECK_EQ(support::false_statement<flush_named_sequential>({4, 8}), "in flight 4 instead of 1 on rank 0");
  CHECK_EQ(support::false_refusal<pw::flush>({4, 8}), "it is taken for legal");
}

TEST_CASE("vertical sync and weight stashing, P8 M8: the weight versions of a stream drained after one batch") {
  auto versions = [](auto const& plan) {
    std::vector<int> result;
    for (int r = 0; r < 8; ++r) result.push_back(pw::peak_weight_versions(plan.view(), r));
    return result;
  };
  CHECK(versions(pw::make_unrolled_plan<pw::one_f_one_b>({8, 8})) == std::vector{2, 3, 4, 5, 4, 3, 2, 1});
  CHECK(versions(pw::make_unrolled_plan<pw::one_f_one_b>({8, 64})) == std::vector{8, 7, 6, 5, 4, 3, 2, 1});
  CHECK(versions(pw::make_unrolled_plan<pw::one_f_one_b_vertical_sync>({8, 64})) == std::vector(8, 8));
  CHECK(versions(pw::make_unrolled_plan<pw::two_buffered>({8, 8, 1, 0, 4})) == std::vector(8, 2));
}
