// SPDX-License-Identifier: Apache-2.0
// What does not fit together is refused before anything runs, on every rank, with a sentence that says what to do.
// thread sanitizer: --full
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>
#include <support/scalar_model.hpp>
#include <support/toy_model.hpp>

#include <pipewright/pipeline/pipeline.hpp>
#include <pipewright/transport/in_process.hpp>

namespace pw = pipewright;

namespace {

toys::scalar_model scalars(int stages) { return {std::vector<double>(static_cast<std::size_t>(stages), 1)}; }

std::string refusal(pw::plan_view plan, auto const& set, pw::pipeline_options const& options = {}, int ranks = 0) {
  try {
    pw::in_process::run(ranks > 0 ? ranks : plan.facts.ranks,
                        [&](pw::in_process::endpoint& here) { pw::pipeline(plan, set, here, pw::sgd{}, options); });
  } catch (pw::error const& e) {
    return e.what();
  }
  return "nothing was refused";
}

void check_says(std::string const& text, std::initializer_list<std::string_view> parts) {
  CAPTURE(text);
  for (auto const part : parts) {
    CAPTURE(part);
    CHECK(text.find(part) != std::string::npos);
  }
}

}  // namespace

TEST_CASE("a plan for other ranks or stages than there are") {
  auto const plan = pw::make_plan("flush", {.ranks = 3, .micro_batches = 2});
  check_says(refusal(plan, scalars(3), {}, 2), {"the plan has 3 ranks, but the transport joins 2"});
  check_says(refusal(plan, scalars(4)), {"runs 3 stages, but the model is cut into 4; cut it into 3"});
  auto const chunked = pw::make_plan("interleaved", {.ranks = 3, .micro_batches = 3, .chunks = 2});
  check_says(refusal(chunked, scalars(3)), {"interleaved", "runs 6 stages", "cut into 3"});
}

TEST_CASE("options and plan that do not need the same") {
  auto const plain = pw::make_plan("flush", {.ranks = 2, .micro_batches = 2}),
             facts = pw::make_plan("flush", {.ranks = 2, .micro_batches = 2}, {.step_facts = true});
  for (pw::pipeline_options const& options :
       {pw::pipeline_options{.clip = 1}, pw::pipeline_options{.non_finite = pw::on_non_finite::stop},
        pw::pipeline_options{.scale = pw::loss_scale::per_token}}) {
    check_says(refusal(plain, scalars(2), options), {"make the plan with needs{.step_facts = true}"});
    CHECK(refusal(facts, scalars(2), options) == "nothing was refused");
  }
  check_says(refusal(facts, scalars(2)), {"no option asks for", "make it without needs::step_facts"});
  check_says(refusal(plain, scalars(2), {.accumulate = 0}), {"at least 1, not 0"});
  auto const stream = pw::make_plan("2bw", {.ranks = 2, .micro_batches = 2});
  check_says(refusal(stream, scalars(2), {.accumulate = 2}), {"does not accumulate over steps"});
  auto const unrolled = pw::make_unrolled_plan("2bw", {.ranks = 2, .micro_batches = 2, .batches = 2});
  check_says(refusal(unrolled, scalars(2)), {"this plan of an asynchronous schedule ends; make it with make_plan"});
}

TEST_CASE("weight stashing refuses what it cannot keep, and offers a clip per stage") {
  for (pw::needs const wants : {pw::needs{.step_facts = true}, pw::needs{.tied_first = 0, .tied_second = 1}})
    CHECK_THROWS_WITH_AS(pw::make_plan("1f1b", {.ranks = 2, .micro_batches = 2}, wants),
                         doctest::Contains("clip per stage"), pw::error);
}

TEST_CASE("stages marked to be recomputed want a plan that does it") {
  auto const plan = pw::make_plan("flush", {.ranks = 2, .micro_batches = 2});
  auto const other =
      pw::make_plan("flush", {.ranks = 2, .micro_batches = 2}, {.recompute = pw::recompute_mode::except_last});
  auto const set = pw::recompute_each(scalars(2));
  check_says(refusal(plan, set), {"stage ", "marked to be recomputed", "needs{.recompute = ...}"});
  check_says(refusal(other, set), {"of the same mode"});
}

TEST_CASE("ties that name nothing, or two sizes") {
  pw::needs const wants{.tied_first = 0, .tied_second = 1};
  auto const plan = pw::make_plan("flush", {.ranks = 2, .micro_batches = 2}, wants);
  check_says(refusal(plan, scalars(2)), {"ties stages 0 and 1", "name the parameters in pipeline_options::tied"});
  check_says(refusal(plan, scalars(2), {.tied = {"w", "no such"}}), {"stage 1 has no parameter named no such"});
  check_says(refusal(plan, scalars(2), {.clip = 1, .clip_over = pw::clip_scope::stage, .tied = {"w", "w"}}),
             {"tied", "let clip_over be the model"});
  CHECK(refusal(plan, scalars(2), {.tied = {"w", "w"}}) == "nothing was refused");
}

TEST_CASE("ties of two sizes") {
  auto const train = [](int ranks) {
    try {
      auto const plan = pw::make_plan("gpipe", {.ranks = ranks, .micro_batches = 2, .chunks = 1},
                                      {.tied_first = 0, .tied_second = ranks - 1});
      pw::in_process::run(plan, [&](pw::in_process::endpoint& here) {
        auto training =
            pw::pipeline(plan, toys::toy_stages<double>(ranks), here, pw::sgd{}, {.tied = {"gate", "head"}});
        training.step(toys::toy_batch{});
      });
    } catch (pw::error const& e) {
      return std::string(e.what());
    }
    return std::string("nothing was refused");
  };
  check_says(train(1), {"gate and head have different sizes"});
  check_says(train(2), {"rank ", "WAIT_T", "3", "15", "tie two of one size"});
}

TEST_CASE("ranks that mean different things say so, each what it meant") {
  auto const plan = pw::make_plan("flush", {.ranks = 3, .micro_batches = 2}),
             other = pw::make_plan("flush", {.ranks = 3, .micro_batches = 4});
  auto error_of = [&](auto const& make) {
    try {
      pw::in_process::run(3, [&](pw::in_process::endpoint& here) { make(here); });
    } catch (pw::error const& e) {
      return std::string(e.what());
    }
    return std::string("nothing was refused");
  };
  check_says(error_of([&](auto& here) { pw::pipeline(here.rank() == 1 ? other : plan, scalars(3), here, pw::sgd{}); }),
             {"do not agree", "rank 1", "ranks 0 and 2"});
  check_says(error_of([&](auto& here) {
               pw::pipeline(plan, scalars(3), here, pw::sgd{}, {.seed = here.rank() == 2 ? 2u : 1u});
             }),
             {"do not agree", "rank 2", "ranks 0 and 1"});
  check_says(error_of([&](auto& here) {
               pw::pipeline(plan, scalars(3), here, pw::sgd{},
                            {.clip = here.rank() == 0 ? 1.0 : 1.0 + 1e-9, .clip_over = pw::clip_scope::stage});
             }),
             {"do not agree", "rank 0"});
}

namespace {

struct sealed {  // says nothing of its parts
  std::unique_ptr<double> value = std::make_unique<double>(0);
};
struct sealing {
  using input = double;
  using output = sealed;
  using weights = pw::nothing;
  using gradients = pw::nothing;
  using saved = pw::nothing;
  void forward(auto&, weights const&, input const& x, output& y, saved&) const { *y.value = x; }
  void backward(auto&, weights const&, saved&, output const& dy, input& dx, gradients&) const { dx = *dy.value; }
};
struct opening {
  using input = sealed;
  using target = pw::nothing;
  using weights = pw::nothing;
  using gradients = pw::nothing;
  using saved = pw::nothing;
  pw::loss forward(auto&, weights const&, input const& x, target const&, saved&) const { return {.value = *x.value}; }
  void backward(auto&, weights const&, saved&, input& dx, gradients&) const { *dx.value = 1; }
};

}  // namespace

TEST_CASE("a boundary without parts stays on its rank, or is refused") {
  auto const set = pw::stages(sealing{}, opening{});
  auto const two = pw::make_plan("flush", {.ranks = 2, .micro_batches = 2});
  check_says(refusal(two, set),
             {"hands another rank a value of a type that does not say what it is made of", "for_each_part"});
  auto const one = pw::make_plan("interleaved", {.ranks = 1, .micro_batches = 2, .chunks = 2});
  double loss = 0;
  pw::in_process::run(1, [&](pw::in_process::endpoint& here) {
    auto training = pw::pipeline(one, set, here, pw::sgd{});
    loss = training.step(toys::scalar_batch{{1, 2}}).loss;
  });
  CHECK(loss == 1.5);
}
