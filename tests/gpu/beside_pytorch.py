# SPDX-License-Identifier: Apache-2.0
"""Trains the GPT-2 that gpt2_speed trains, with PyTorch at its best, and prints how many tokens it does in a second: the same
sizes, padded vocabulary and tokens a step; torch.compile, bf16 autocast over fp32 weights, fused AdamW, whichever of the fused
attentions is faster here, random tokens. One JSON object on the last line. Exit code 77 where PyTorch or a GPU is missing.

  beside_pytorch.py [--batch 32] [--tokens 262144] [--warm-up 5] [--steps 20] [--max-autotune] [sizes]
"""
import argparse
import json
import statistics
import sys
import time

try:
    import torch
    import torch.nn.functional as F
    from torch.nn.attention import SDPBackend, sdpa_kernel
except ImportError as error:
    print(f"PyTorch is not here: {error}")
    sys.exit(77)


class Block(torch.nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = torch.nn.LayerNorm(width), torch.nn.LayerNorm(width)
        self.attn, self.attn_proj = torch.nn.Linear(width, 3 * width), torch.nn.Linear(width, width)
        self.fc, self.proj = torch.nn.Linear(width, 4 * width), torch.nn.Linear(4 * width, width)

    def forward(self, x):
        rows, length, width = x.shape
        q, k, v = self.attn(self.ln_1(x)).view(rows, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind()
        x = x + self.attn_proj(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(x.shape))
        return x + self.proj(F.gelu(self.fc(self.ln_2(x)), approximate="tanh"))


class GPT2(torch.nn.Module):
    def __init__(self, sizes):
        super().__init__()
        self.wte = torch.nn.Embedding(sizes.vocabulary, sizes.width)
        self.wpe = torch.nn.Embedding(sizes.length, sizes.width)
        self.blocks = torch.nn.ModuleList(Block(sizes.width, sizes.heads) for _ in range(sizes.layers))
        self.ln_f = torch.nn.LayerNorm(sizes.width)
        self.head = torch.nn.Linear(sizes.width, sizes.vocabulary, bias=False)
        for each in self.modules():
            if isinstance(each, (torch.nn.Linear, torch.nn.Embedding)):
                torch.nn.init.normal_(each.weight, 0.0, 0.02)
        self.head.weight = self.wte.weight

    def forward(self, ids, targets):
        x = self.wte(ids) + self.wpe(torch.arange(ids.size(1), device=ids.device))
        for block in self.blocks:
            x = block(x)
        logits = self.head(self.ln_f(x))
        return F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1))


def milliseconds(work, rounds=10):
    for _ in range(3):
        work()
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    for _ in range(rounds):
        work()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / rounds


def fastest_attention(sizes):
    """By a forward and a backward at the sizes of the training."""
    shape = (sizes.batch, sizes.heads, sizes.length, sizes.width // sizes.heads)
    q, k, v = (torch.randn(shape, device="cuda", dtype=torch.bfloat16, requires_grad=True) for _ in range(3))
    gradient = torch.randn(shape, device="cuda", dtype=torch.bfloat16)
    took = {}
    for backend in SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION:
        try:
            with sdpa_kernel(backend):
                took[backend] = milliseconds(
                    lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True).backward(gradient))
        except RuntimeError as error:
            print(f"{backend.name}: {error}")
    print("attention, forward and backward:", ", ".join(f"{backend.name} {ms:.3f} ms" for backend, ms in took.items()))
    return min(took, key=took.get)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    defaults = dict(batch=32, tokens=262144, steps=20, vocabulary=50304, length=1024, width=768, heads=12, layers=12)
    for name, value in defaults.items():
        parser.add_argument("--" + name, type=int, default=value)
    parser.add_argument("--warm-up", type=int, default=5)
    parser.add_argument("--max-autotune", action="store_true", help="has torch.compile try more kernels: minutes")
    sizes = parser.parse_args()
    if not torch.cuda.is_available():
        print(f"PyTorch {torch.__version__} finds no GPU")
        return 77
    torch.manual_seed(1)
    torch.set_float32_matmul_precision("high")
    attention = fastest_attention(sizes)
    micro_batches = max(1, sizes.tokens // (sizes.batch * sizes.length))
    ids = torch.randint(sizes.vocabulary, (micro_batches, sizes.batch, sizes.length + 1), device="cuda")
    model = GPT2(sizes).cuda()
    decayed = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() == 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}], lr=6e-4, fused=True)
    compiled = torch.compile(model, mode="max-autotune-no-cudagraphs" if sizes.max_autotune else None)

    def step():
        total = 0.0
        for one in ids:
            with torch.autocast("cuda", dtype=torch.bfloat16):
                loss = compiled(one[:, :-1], one[:, 1:].contiguous()) / micro_batches
            loss.backward()
            total = total + loss.detach()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return total.item()  # waits, as a trainer that shows its loss does

    seconds, losses = [], []
    with sdpa_kernel(attention):
        for _ in range(sizes.warm_up + sizes.steps):
            begin = time.perf_counter()
            losses.append(step())
            seconds.append(time.perf_counter() - begin)
    median = statistics.median(seconds[sizes.warm_up:])
    print(json.dumps({
        "tokens_per_s": micro_batches * sizes.batch * sizes.length / median, "step_ms": 1e3 * median,
        "sequences": sizes.batch, "micro_batches": micro_batches, "torch": torch.__version__,
        "attention": attention.name, "max_autotune": sizes.max_autotune,
        "parameters": sum(p.numel() for p in model.parameters()),
        "peak_MiB": torch.cuda.max_memory_allocated() / 2**20,
        "first_loss": losses[0], "last_loss": losses[-1]}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
