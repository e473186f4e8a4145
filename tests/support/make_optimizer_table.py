#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prints optimizer_table.hpp: what PyTorch's optimizers make of a few weights, in double precision.

    python3 make_optimizer_table.py > optimizer_table.hpp      # needs torch; the table was made with 2.15
"""
import math
import torch

STEPS, WARM_UP, LAST, FLOOR = 6, 2, 5, 0.25  # FLOOR as a part of the peak


def gradient(step):
    return [0.5 - 0.75 * step, 1e-3 * (step + 1), -2.0 + 0.125 * step * step]


def factor(shape, number):
    """Of the number-th update, from 1: linear warm-up, then constant, a line or half a cosine down to FLOOR."""
    if number <= WARM_UP:
        return number / WARM_UP
    if shape == "constant":
        return 1.0
    part = min(1.0, (number - WARM_UP) / (LAST - WARM_UP))
    kept = 1 - part if shape == "linear" else 0.5 * (1 + math.cos(math.pi * part))
    return FLOOR + (1 - FLOOR) * kept


CASES = [
    # name, C++ optimizer, torch optimizer, rate shape or None
    ("sgd", "pw::sgd{.rate = 0.1}", lambda p: torch.optim.SGD(p, lr=0.1), None),
    ("sgd, momentum and decay", "pw::sgd{.rate = 0.1, .momentum = 0.9, .weight_decay = 0.05}",
     lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.05), None),
    ("sgd, linear rate", "pw::sgd{.rate = {0.1, pw::rate_shape::linear, 2, 5, 0.025}, .momentum = 0.5}",
     lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.5), "linear"),
    ("adam", "pw::adam{.rate = 0.01}", lambda p: torch.optim.Adam(p, lr=0.01), None),
    ("adam, L2 decay", "pw::adam{.rate = 0.01, .beta1 = 0.8, .beta2 = 0.95, .epsilon = 1e-4, .weight_decay = 0.1}",
     lambda p: torch.optim.Adam(p, lr=0.01, betas=(0.8, 0.95), eps=1e-4, weight_decay=0.1), None),
    ("adamw", "pw::adamw(0.01, 0.1)", lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1), None),
    ("adamw, cosine rate", "pw::adamw({0.01, pw::rate_shape::cosine, 2, 5, 0.0025}, 0.1)",
     lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1), "cosine"),
    ("adamw, constant rate after warm-up", "pw::adamw({0.01, pw::rate_shape::constant, 2, 5}, 0.1)",
     lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1), "constant"),
]


def row(values):
    return "{" + ", ".join(repr(v) for v in values) + "}"


def run(make, shape):
    weights = torch.tensor([1.0, -0.5, 0.25], dtype=torch.float64, requires_grad=True)
    optimizer = make([weights])
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda done: factor(shape, done + 1)) if shape else None
    rows = []
    for step in range(STEPS):
        weights.grad = torch.tensor(gradient(step), dtype=torch.float64)
        optimizer.step()
        if rate:
            rate.step()
        rows.append(row(weights.tolist()))
    return rows


print("""// SPDX-License-Identifier: Apache-2.0
#pragma once
// Made by make_optimizer_table.py: weights after each of six updates by PyTorch's optimizers, in double precision.

#include <string_view>
#include <variant>
#include <vector>

#include <pipewright/pipeline/optimizer.hpp>

namespace support {

struct optimizer_case {
  std::string_view name;
  std::variant<pipewright::sgd, pipewright::adam> optimizer;
  std::vector<std::vector<double>> weights;  ///< after each update
};

inline std::vector<double> const optimizer_start{1.0, -0.5, 0.25};
inline std::vector<std::vector<double>> const optimizer_gradients{""" + ",\n    ".join(row(gradient(s)) for s in range(STEPS)) + """};

inline std::vector<optimizer_case> optimizer_cases() {
  namespace pw = pipewright;
  return {""")
for name, cpp, make, shape in CASES:
    print(f'      {{"{name}", {cpp},\n       {{' + ",\n        ".join(run(make, shape)) + "}},")
print("""  };
}

}  // namespace support""")
