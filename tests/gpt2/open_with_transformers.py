#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Opens models that pipewright saved, as a user of transformers would.

Usage: open_with_transformers.py FOLDER...

Each folder must open with no tensor missing or too many. Writes into it logits.safetensors, the logits of
tokens.safetensors' tokens, and again/, the model as save_pretrained saves it.
"""
import pathlib
import sys

import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2LMHeadModel


def main():
    for name in sys.argv[1:]:
        folder = pathlib.Path(name)
        model, told = GPT2LMHeadModel.from_pretrained(folder, output_loading_info=True)
        wrong = {key: sorted(told[key]) for key in ("missing_keys", "unexpected_keys", "mismatched_keys") if told[key]}
        if wrong:
            sys.exit(f"{folder}: {wrong}")
        model.eval()
        with torch.no_grad():
            logits = model(load_file(folder / "tokens.safetensors")["tokens"].long()).logits
        save_file({"logits": logits.contiguous()}, folder / "logits.safetensors")
        model.save_pretrained(folder / "again")


if __name__ == "__main__":
    main()
