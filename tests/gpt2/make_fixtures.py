#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes tests/gpt2/fixtures: what Hugging Face's GPT-2 computes for small random models, and models as it saves them.

Each file *.safetensors holds the weights, the tokens and targets, the logits, the loss and the gradient of every weight, computed in
fp64 and stored in fp32 (so that the stored numbers are the true ones to fp32 rounding). The configuration stands in
the file's metadata. Each folder is one that save_pretrained made, and expected.safetensors: tokens and their logits in fp32.
trained/*.safetensors: a saved folder's weights after three steps of Adam or AdamW without dropout, in fp64, and the steps'
losses; only matrices decay. trained/batches.safetensors: these steps' sequences, whose next tokens are the targets.
types/all.safetensors has tensors of many types and shapes, in the bytes of the format's own library.

Needs torch and transformers:  pip install torch transformers safetensors
Usage: python3 make_fixtures.py [FOLDER]
"""
import pathlib
import sys

import torch
from safetensors.torch import save_file
from transformers import GPT2Config, GPT2LMHeadModel

# name: layers, width, heads, vocabulary, positions, sequences, length, tied head, targets left out, large weights
CASES = {
    "one_head": (1, 16, 1, 37, 11, 2, 7, False, 0, False),
    "two_layers": (2, 24, 2, 61, 13, 3, 13, False, 3, False),
    "tied": (2, 32, 4, 53, 9, 2, 9, True, 0, False),
    "three_layers": (3, 40, 4, 97, 19, 1, 17, False, 0, False),
    "large_weights": (2, 20, 4, 29, 16, 2, 15, True, 1, True),
}


def make(folder, name, seed):
    layers, width, heads, vocabulary, positions, sequences, length, tied, left_out, large = CASES[name]
    torch.manual_seed(seed)
    model = GPT2LMHeadModel(
        GPT2Config(
            n_layer=layers, n_embd=width, n_head=heads, vocab_size=vocabulary, n_positions=positions,
            embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0, tie_word_embeddings=tied, attn_implementation="eager",
            bos_token_id=0, eos_token_id=0,
        )
    ).double()
    with torch.no_grad():  # norms and biases too must not be trivial; fp32 values, so that the stored ones are exact
        for parameter_name, parameter in model.named_parameters():
            if parameter_name.endswith("bias"):
                parameter.normal_(0.0, 0.1)
            elif ".ln_" in parameter_name:
                parameter.normal_(1.0, 0.2)
            else:
                parameter.normal_(0.0, 0.5 if large else 0.15)
            parameter.copy_(parameter.float().double())
    tokens = torch.randint(0, vocabulary, (sequences, length))
    targets = torch.randint(0, vocabulary, (sequences, length))
    targets.view(-1)[:left_out] = -100
    logits = model(tokens).logits
    loss = torch.nn.functional.cross_entropy(logits.view(-1, vocabulary), targets.view(-1))
    loss.backward()

    tensors = {"tokens": tokens.int(), "targets": targets.int(), "logits": logits.float(), "loss": loss.float().view(1)}
    for parameter_name, parameter in model.named_parameters():
        plain = parameter_name.removeprefix("transformer.")
        tensors[plain] = parameter.float()
        tensors["gradient." + plain] = parameter.grad.float()
    metadata = dict(layers=layers, width=width, heads=heads, vocabulary=vocabulary, positions=positions, tied=int(tied))
    save_file(
        {key: value.detach().clone().contiguous() for key, value in tensors.items()},
        folder / f"{name}.safetensors",
        metadata={key: str(value) for key, value in metadata.items()},
    )


# name: tied head, with the prefix "transformer.", largest shard
SAVED = {"saved_tied_shards": (True, True, "6KB"), "saved_untied": (False, True, "1GB"), "saved_bare": (True, False, "1GB")}


def save(folder, name, seed):
    tied, prefix, shard = SAVED[name]
    torch.manual_seed(seed)
    model = GPT2LMHeadModel(
        GPT2Config(
            n_layer=2, n_embd=12, n_head=3, vocab_size=41, n_positions=10, embd_pdrop=0.0, attn_pdrop=0.25,
            resid_pdrop=0.1, tie_word_embeddings=tied, bos_token_id=40, eos_token_id=40,
        )
    ).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    tokens = torch.randint(0, 41, (2, 7))
    target = folder / name
    (model if prefix else model.transformer).save_pretrained(target, max_shard_size=shard)
    (target / "generation_config.json").unlink(missing_ok=True)
    save_file(
        {"tokens": tokens.int(), "logits": model(tokens).logits.detach().contiguous()}, target / "expected.safetensors"
    )


# name: where it starts, optimizer, decay of matrices
TRAINED = {
    "adam": ("saved_untied", torch.optim.Adam, 0.0),
    "adamw": ("saved_untied", torch.optim.AdamW, 0.1),
    "adamw_tied": ("saved_tied_shards", torch.optim.AdamW, 0.1),
}
LEARNING_RATE = 1e-3


def batches_of_steps():
    """So many tokens that what rounding makes of a gradient that is 0 (a key's bias), which shrinks with their number, is
    small beside Adam's epsilon, as it is in real training."""
    torch.manual_seed(11)
    return torch.randint(0, 41, (3, 1024, 11), dtype=torch.int32)


def train(folder, name, batches):
    start, optimizer, decay = TRAINED[name]
    model = GPT2LMHeadModel.from_pretrained(folder / start).double().eval()
    parameters = list(model.named_parameters())
    groups = [
        {"params": [p for _, p in parameters if p.dim() > 1], "weight_decay": decay},
        {"params": [p for _, p in parameters if p.dim() == 1], "weight_decay": 0.0},
    ]
    steps = optimizer(groups, lr=LEARNING_RATE, betas=(0.9, 0.999), eps=1e-8)
    losses = []
    for tokens in batches.long():
        loss = torch.nn.functional.cross_entropy(model(tokens[:, :-1]).logits.view(-1, 41), tokens[:, 1:].reshape(-1))
        losses.append(loss.item())
        steps.zero_grad()
        loss.backward()
        steps.step()
    tensors = {"losses": torch.tensor(losses, dtype=torch.float64)}
    for parameter_name, parameter in parameters:
        tensors[parameter_name.removeprefix("transformer.")] = parameter.detach().float().contiguous()
    save_file(tensors, folder / "trained" / f"{name}.safetensors")


def save_types(folder):
    folder.mkdir(exist_ok=True)
    torch.manual_seed(7)
    kinds = [torch.int8, torch.float64, torch.uint8, torch.float16, torch.int64, torch.bool, torch.bfloat16, torch.int16,
             torch.float32, torch.int32, torch.float8_e4m3fn, torch.float8_e5m2]
    tensors = {f"t{i * 5 % 12} {str(kind)[6:]}": (torch.randn(3, i + 1) * 3).to(kind) for i, kind in enumerate(kinds)}
    tensors["single"] = torch.tensor(2.5)
    tensors["none"] = torch.zeros(4, 0, 2)
    tensors["\u00e9 \"quoted\" \\ \n \u0001 \ud55c"] = torch.ones(1, 1, 1)
    save_file(tensors, folder / "all.safetensors", metadata={"format": "pt"})


def main():
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).parent / "fixtures"
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(CASES):
        make(folder, name, seed)
    for seed, name in enumerate(SAVED):
        save(folder, name, seed)
    (folder / "trained").mkdir(exist_ok=True)
    batches = batches_of_steps()
    save_file({"tokens": batches}, folder / "trained" / "batches.safetensors")
    for name in TRAINED:
        train(folder, name, batches)
    save_types(folder / "types")


if __name__ == "__main__":
    main()
