# SPDX-License-Identifier: Apache-2.0
"""What an action of torch.distributed.pipelining costs where stages do next to nothing: a module that multiplies by one number.

  pipewright-run -n 2 python3 empty.py --schedule gpipe|flush|interleaved --micro-batches M --steps N
"""
import argparse
import time

import torch

import rank


class Scale(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.factor = torch.nn.Parameter(torch.ones(1))

    def forward(self, x):
        return x * self.factor


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--schedule", choices=rank.SCHEDULES, required=True)
    parser.add_argument("--micro-batches", type=int, required=True)
    parser.add_argument("--steps", type=int, required=True)
    given = parser.parse_args()
    here, ranks = rank.join()
    schedule = rank.schedule(given.schedule, ranks, here, given.micro_batches, lambda y, _: y.sum(), lambda index, of: Scale())
    batch = torch.ones(given.micro_batches, 1)
    seconds = []
    for _ in range(given.steps):
        start = time.perf_counter()
        schedule.step(*([batch] if here == 0 else []), target=batch if here + 1 == ranks else None, return_outputs=False)
        seconds.append(time.perf_counter() - start)
    rank.tell(rank=here, seconds=seconds, actions=2 * given.micro_batches * (2 if given.schedule == "interleaved" else 1))
    torch.distributed.destroy_process_group()


main()
