// SPDX-License-Identifier: Apache-2.0
// From a checkpoint of Hugging Face's, three steps of Adam and AdamW, tied and not, lead to the weights that PyTorch's
// optimizers reach there.
#include <doctest/doctest.h>

#include <pipewright/gpt2/model.hpp>

#include "trained.hpp"

namespace pw = pipewright;
namespace gpt2 = pipewright::gpt2;
using test::check_training;
using test::learning_rate;

TEST_CASE("Adam and AdamW reach PyTorch's weights") {
  auto const model = [](gpt2::configuration const& c) { return gpt2::model(c); };
  check_training("saved_untied", "adam", pw::adam{.rate = learning_rate}, model);
  check_training("saved_untied", "adamw", pw::adamw(learning_rate, 0.1), model);
  check_training("saved_tied_shards", "adamw_tied", pw::adamw(learning_rate, 0.1), model);
}
