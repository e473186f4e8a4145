// SPDX-License-Identifier: Apache-2.0
// Stages on a device (far_device.hpp): everything stays there, and trains as on the host. With PIPEWRIGHT_DEVICE=cuda models
// train on a GPU instead.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <support/doctest_with_torch.hpp>
#include <support/train.hpp>
#include <torch/torch.h>

#include <pipewright/gpt2_libtorch/model.hpp>
#include <pipewright/libtorch/libtorch.hpp>
#include <pipewright/stage/balance.hpp>

#include "far_device.hpp"
#include "modules.hpp"

using namespace test;
using lt::tensor;

namespace {

at::Device const far{far_device::type, 0};

at::Device trained_on() {
  char const* const asked = std::getenv("PIPEWRIGHT_DEVICE");
  return lt::device(asked == nullptr ? "far" : asked);
}

constexpr int width = 4;

struct batch {
  int number;
  void input(int micro_batch, tensor& to) const { to = numbers({3, width}, number + 0.7 * micro_batch); }
  void target(int micro_batch, tensor& to) const { to = numbers({3, width}, 2 * number - 0.4 * micro_batch); }
};

auto model(at::Device on, double dropout = 0.2) {
  auto const there = [on](auto module) {
    module->to(on);
    return module;
  };
  return pw::layers([=] { return lt::stage<>(there(set(std::make_shared<mixer>(width, dropout)))); },
                    [=] { return lt::stage<>(there(set(std::make_shared<mixer>(width, dropout)))); },
                    [=] { return lt::stage<>(there(set(std::make_shared<mixer>(width)))); },
                    [=] {
                      return lt::loss_stage<>(there(set(torch::nn::Linear(width, width))).ptr(),
                                              [](torch::nn::LinearImpl& m, at::Tensor const& x, at::Tensor const& t) {
                                                return (m.forward(x) - t).square().mean();
                                              });
                    });
}

bool is_near(support::outcome const& a, support::outcome const& b, double tolerance = 1e-10) {
  auto const near = [&](std::vector<double> const& x, std::vector<double> const& y) {
    return std::ranges::equal(x, y,
                              [&](double p, double q) { return std::abs(p - q) <= tolerance * (1 + std::abs(p)); });
  };
  return near(a.losses, b.losses) && near(a.evaluations, b.evaluations) && near(a.norms, b.norms) &&
         std::ranges::equal(a.weights, b.weights,
                            [&](auto const& p, auto const& q) { return near(p.second, q.second); });
}

}  // namespace

TEST_CASE("a model on a device trains as on the host, under every schedule") {
  auto const batches = [](int number) { return batch{number}; };
  for (std::string const schedule : {"gpipe", "flush", "interleaved", "1f1b", "1f1b-vsync", "2bw"})
    for (int const ranks : {1, 2, 4}) {
      if (schedule == "interleaved" && ranks == 4) continue;
      CAPTURE(schedule);
      CAPTURE(ranks);
      int const chunks = schedule == "interleaved" ? 2 : 1, stages = ranks * chunks;
      bool const has_facts = ranks > 1 && (schedule == "gpipe" || schedule == "flush");
      pw::pipeline_options options{.seed = 3};
      if (has_facts) options.clip = 0.4;
      auto const plan =
          pw::make_plan(schedule, {.ranks = ranks, .micro_batches = 4, .chunks = chunks}, {.step_facts = has_facts});
      support::run_of const run{.calls = "ssesds", .options = options};
      auto const train = [&](at::Device on, auto const& by) {
        return support::train_in_pipeline<double>(
            plan.view(), pw::balance(model(on), std::vector(static_cast<std::size_t>(stages), 4 / stages)), batches, by,
            run);
      };
      auto const same_on_both = [&](auto const& by) {
        auto const here = train(at::kCPU, by), there = train(trained_on(), by);
        CHECK(here.losses.size() == 4);
        CHECK(is_near(here, there));
      };
      same_on_both(pw::adamw(0.01, 0.1));
      same_on_both(pw::sgd{.rate = 0.05, .momentum = 0.9, .weight_decay = 0.1});
      if (ranks == 2)  // it knows nothing of devices
        same_on_both(lt::torch_optimizer([](std::vector<at::Tensor> const& p, pw::parameter_options) {
          return std::make_unique<torch::optim::RMSprop>(p, torch::optim::RMSpropOptions(0.01));
        }));
    }
}

TEST_CASE(
    "a boundary tensor stays on its device within a process, and travels through the host's memory between processes") {
  auto const made = numbers({2, 3});
  tensor there(made->to(far));
  CHECK(there->device() == far);
  CHECK(pw::bytes_of(there) == 6 * sizeof(double));
  CHECK(there->device() == far);  // counting moved nothing
  tensor const copy = there;
  CHECK(copy->device() == far);
  tensor moved;
  auto const slot = pw::message_of(there);
  slot.type->exchange(&moved, &there);
  CHECK(moved->device() == far);
  std::size_t parts = 0;
  pw::for_each_part(moved, [&](pw::part p) {
    ++parts;
    CHECK(std::equal(made->const_data_ptr<double>(), made->const_data_ptr<double>() + 6, static_cast<double*>(p.data)));
  });
  CHECK(parts == 1);
  CHECK(moved->is_cpu());
  auto const numbers_of_shape = copy.shape();
  tensor arrived = copy;
  arrived.reshape(numbers_of_shape);
  CHECK(arrived->is_cpu());
  CHECK(arrived->sizes() == made->sizes());
}

TEST_CASE("who uses a tensor on another stream waits for the one that made it") {
  far_device::guard const device;
  int const records = far_device::records, blocks = far_device::blocks_of_another_stream;
  tensor const there(torch::ones({2}).to(far));
  CHECK(far_device::records == records + 1);
  there.on(far);
  CHECK(far_device::blocks_of_another_stream == blocks);
  auto const before = device.exchangeStream(c10::Stream(c10::Stream::UNSAFE, far, 7));
  there.on(far);
  CHECK(far_device::blocks_of_another_stream == blocks + 1);
  // A stage between two: its input waits for stream 0, its output for stream 7.
  auto module = set(torch::nn::Linear(2, 2), at::kFloat);
  module->to(far);
  lt::stage<> stage{module};
  lt::parameter_values weights;
  pw::stage_context context{};
  stage.initialize(context, weights);
  lt::stage<>::saved kept;
  tensor out;
  stage.forward(context, weights, there, out, kept);
  CHECK(far_device::blocks_of_another_stream == blocks + 2);
  device.exchangeStream(before);
  lt::parameter_values sum = weights;
  tensor dx;
  stage.backward(context, weights, kept, out, dx, sum);
  CHECK(far_device::blocks_of_another_stream > blocks + 2);  // torch's own backward waits too
  CHECK(dx->device() == far);
}

TEST_CASE("parameters of one stage on two devices are refused") {
  auto module = std::make_shared<mixer>(width);
  module->wide->to(far);
  CHECK_THROWS_WITH_AS(lt::stage<>{module}, doctest::Contains("a stage has one device"), pw::error);
  module->to(far);
  CHECK_THROWS_WITH_AS((lt::stage<>{module, {.device = at::kCPU}}),
                       doctest::Contains("is on far:0, but module_options::device is cpu"), pw::error);
  lt::stage<> const any_of_that_kind{module, {.device = at::Device(far_device::type)}};
}

TEST_CASE("torch's own dropout on a device is drawn by step and micro-batch") {
  auto const noisy = [] {
    auto module = std::make_shared<mixer>(width);
    module->register_module("drop", torch::nn::Dropout(0.5));
    module->to(far);
    return lt::stage<>(module, [](mixer& m, at::Tensor const& x) { return torch::dropout(m.forward(x), 0.5, true); });
  };
  auto const out_of = [&](int micro_batch) {
    auto stage = noisy();
    lt::parameter_values weights;
    pw::stage_context context{.micro_batch = micro_batch};
    context.training = true;
    stage.initialize(context, weights);
    weights = lt::parameter_values(weights);
    lt::stage<>::saved kept;
    tensor out;
    stage.forward(context, weights, tensor(torch::ones({8, width})), out, kept);
    return (*out == 0).to(at::kCPU);
  };
  CHECK(torch::equal(out_of(1), out_of(1)));
  CHECK_FALSE(torch::equal(out_of(1), out_of(2)));
}

TEST_CASE("devices have names, and one that is not there is a sentence") {
  CHECK(lt::device("cpu") == at::Device(at::kCPU));
  CHECK(lt::device("far") == far);
  CHECK(lt::device("far", 5) == far);  // one of one
  CHECK(lt::device("far:0", 5) == far);
  CHECK_THROWS_WITH_AS(lt::device("far:1"), doctest::Contains("the last one has the number 0"), pw::error);
  CHECK_THROWS_WITH_AS(lt::device("near"), doctest::Contains("there is no device 'near'; choose cpu"), pw::error);
  std::string said;
  try {
    said = lt::device("cuda").str();  // on a machine that has one
  } catch (pw::error const& e) {
    said = e.what();
  }
  CHECK_MESSAGE((said == "cuda:0" || said.starts_with("there is no device 'cuda' here")), said);
}

TEST_CASE("GPT-2 on a device trains as on the host") {
  namespace gpt2 = pw::gpt2;
  struct tokens {
    int step;
    void input(int micro_batch, gpt2::token_batch& to) const {
      to.batch = {2, 5};
      to.ids.clear();
      for (int i = 0; i < 10; ++i) to.ids.push_back((i * 7 + micro_batch * 3 + step) % 13);
    }
    void target(int micro_batch, gpt2::token_batch& to) const {
      input(micro_batch + 1, to);
      to.ids[3] = -1;
    }
  };
  for (float const dropout : {0.F, 0.1F}) {
    auto const train = [&](at::Device on) {
      gpt2::configuration const c{.vocabulary = 13,
                                  .positions = 5,
                                  .width = 8,
                                  .heads = 2,
                                  .layers = 2,
                                  .embedding_dropout = dropout,
                                  .attention_dropout = dropout,
                                  .residual_dropout = dropout};
      auto const plan = pw::make_plan("flush", {.ranks = 2, .micro_batches = 4});
      return support::train_in_pipeline<float>(
          plan.view(),
          pw::balance(pw::gpt2_libtorch::model(c, gpt2::token_loss::mean, at::kFloat, {}, on), std::vector{2, 2}),
          [](int step) { return tokens{step}; }, pw::adamw(0.01), {.calls = "sses"});
    };
    auto const here = train(at::kCPU), there = train(trained_on());
    CHECK(here.losses.size() == 3);
    CHECK(is_near(here, there, 1e-4));
  }
}
