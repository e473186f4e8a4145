# SPDX-License-Identifier: Apache-2.0
"""Trains with torch.distributed.pipelining the GPT-2 that gpt2_over_gloo trains: the same operators, weights and tokens.

  pipewright-run -n 2 python3 gpt2.py --from FOLDER --schedule gpipe|flush|interleaved SIZES --steps N   (see gpt2_over_gloo.cpp)
"""
import argparse
import json
import pathlib
import time

import numpy
import torch
import torch.nn.functional as F

import rank


class Affine(torch.nn.Module):
    """A weight and, where it has one, a bias, by Hugging Face's names."""

    def __init__(self, *shape, bias=0):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.empty(shape))
        if bias:
            self.bias = torch.nn.Parameter(torch.empty(bias))


class Norm(Affine):
    def __init__(self, width):
        super().__init__(width, bias=width)

    def forward(self, x):
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, 1e-5)


class Conv1D(Affine):
    def __init__(self, inputs, outputs):
        super().__init__(inputs, outputs, bias=outputs)

    def forward(self, x):
        return torch.addmm(self.bias, x.reshape(-1, x.size(-1)), self.weight).view(*x.shape[:-1], -1)


class Attention(torch.nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.c_attn = Conv1D(width, 3 * width)
        self.c_proj = Conv1D(width, width)

    def forward(self, x):
        q, k, v = self.c_attn(x).view(*x.shape[:2], 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind()
        return self.c_proj(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(x.shape))


class MLP(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.c_fc = Conv1D(width, 4 * width)
        self.c_proj = Conv1D(4 * width, width)

    def forward(self, x):
        return self.c_proj(F.gelu(self.c_fc(x), approximate="tanh"))


class Block(torch.nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.ln_1, self.attn, self.ln_2, self.mlp = Norm(width), Attention(width, heads), Norm(width), MLP(width)

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class Stage(torch.nn.Module):
    """Some blocks; the embedding before them on the first stage, the head after them on the last."""

    def __init__(self, sizes, index, of):
        super().__init__()
        each = sizes.layers // of
        self.transformer = torch.nn.ModuleDict()
        if index == 0:
            self.transformer["wte"] = Affine(sizes.vocabulary, sizes.width)
            self.transformer["wpe"] = Affine(sizes.length, sizes.width)
        self.transformer["h"] = torch.nn.ModuleDict({str(i): Block(sizes.width, sizes.heads) for i in range(index * each, (index + 1) * each)})
        if index + 1 == of:
            self.transformer["ln_f"] = Norm(sizes.width)
            self.lm_head = Affine(sizes.vocabulary, sizes.width)

    def forward(self, x):
        if "wte" in self.transformer:
            x = F.embedding(x, self.transformer["wte"].weight) + self.transformer["wpe"].weight[:x.size(1)]
        for block in self.transformer["h"].values():
            x = block(x)
        if "ln_f" in self.transformer:
            x = F.linear(self.transformer["ln_f"](x), self.lm_head.weight)
        return x


def load(module, path):
    """A module's parameters from a safetensors file."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        for name, to in module.named_parameters():
            about = header[name]
            begin, end = about["data_offsets"]
            file.seek(8 + length + begin)
            with torch.no_grad():
                to.copy_(torch.from_numpy(numpy.fromfile(file, numpy.float32, (end - begin) // 4).reshape(about["shape"])))
    return module


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--from", dest="folder", type=pathlib.Path, required=True)
    parser.add_argument("--schedule", choices=rank.SCHEDULES, required=True)
    for name in "layers", "width", "heads", "length", "vocabulary", "micro-batches", "sequences", "steps":
        parser.add_argument("--" + name, type=int, required=True)
    sizes = parser.parse_args()

    here, ranks = rank.join()
    empty = rank.kib("VmRSS")
    tokens = torch.from_numpy(numpy.fromfile(sizes.folder / "tokens", numpy.int32).astype(numpy.int64))
    tokens = tokens.view(sizes.steps, sizes.micro_batches * sizes.sequences, sizes.length + 1)

    modules = []

    def stage(index, of):
        modules.append(load(Stage(sizes, index, of), sizes.folder / "model.safetensors"))
        return modules[-1]

    def loss(logits, targets):
        return F.cross_entropy(logits.view(-1, sizes.vocabulary), targets.reshape(-1))

    schedule = rank.schedule(sizes.schedule, ranks, here, sizes.micro_batches, loss, stage)
    optimizer = torch.optim.Adam([p for module in modules for p in module.parameters()], lr=1e-3, fused=True)
    seconds, losses = [], []
    for batch in tokens:
        start = time.perf_counter()
        told = []
        schedule.step(*([batch[:, :-1]] if here == 0 else []), target=batch[:, 1:] if here + 1 == ranks else None, losses=told,
                      return_outputs=False)
        optimizer.step()
        optimizer.zero_grad()
        if told:
            losses.append(torch.stack(told).mean().item())
        seconds.append(time.perf_counter() - start)
    rank.tell(rank=here, seconds=seconds, losses=losses, peak_kib=rank.kib("VmHWM"), empty_kib=empty)
    torch.distributed.destroy_process_group()


main()
