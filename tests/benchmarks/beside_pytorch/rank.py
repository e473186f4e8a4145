# SPDX-License-Identifier: Apache-2.0
"""What PyTorch's side shares: the process group, the schedules by pipewright's names, and a line of JSON for what a rank has measured."""
import json
import re

import torch
import torch.distributed
from torch.distributed import pipelining

SCHEDULES = {"gpipe": pipelining.ScheduleGPipe, "flush": pipelining.Schedule1F1B, "interleaved": pipelining.ScheduleInterleaved1F1B}


def join():
    """This rank, and how many there are, once all have come together over Gloo."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    return torch.distributed.get_rank(), torch.distributed.get_world_size()


def schedule(name, ranks, rank, micro_batches, loss, stage):
    """`stage(index, of)` is the module of a stage; a rank has two of them if interleaved, else one."""
    chunks = 2 if name == "interleaved" else 1
    here = [pipelining.PipelineStage(stage(chunk * ranks + rank, chunks * ranks), chunk * ranks + rank, chunks * ranks,
                                     torch.device("cpu")) for chunk in range(chunks)]
    return SCHEDULES[name](here if chunks > 1 else here[0], micro_batches, loss_fn=loss)


def kib(what):
    """A line of /proc/self/status: VmHWM is the most memory that the process has had, VmRSS what it has now."""
    with open("/proc/self/status") as status:
        return int(re.search(rf"^{what}:\s*(\d+) kB", status.read(), re.M)[1])


def tell(**what):
    print(json.dumps(what), flush=True)
