#!/usr/bin/env python3
"""A model folder with random weights in bf16, in the shape of a config: to measure speed where the weights themselves are not at hand.

    bench/random_model.py CONFIG.json TOKENIZER_DIR OUT_DIR [--layers N] [--vocab N]      needs torch, transformers (ref/requirements.txt)

Weights are divided by the square root of their number of inputs and norms are about 1, so that activations neither vanish nor overflow.
"""
import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM


def value(name, shape):
    leaf = name.split(".")[-2] if name.endswith((".weight", ".bias")) else name.split(".")[-1]
    if leaf == "A_log":
        return torch.log(torch.empty(shape).uniform_(0.1, 3))
    if leaf == "dt_bias":
        return torch.randn(shape) - 1.2
    if leaf.endswith("norm"):
        return 1 + 0.1 * torch.randn(shape)
    if name.endswith(".bias"):
        return 0.3 * torch.randn(shape)
    if leaf == "conv1d":
        return 0.45 * torch.randn(shape)
    return torch.randn(shape) / shape[-1] ** 0.5


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("config", type=Path)
    p.add_argument("tokenizer", type=Path)
    p.add_argument("out", type=Path)
    p.add_argument("--layers", type=int)
    p.add_argument("--vocab", type=int)
    a = p.parse_args()
    raw = json.loads(a.config.read_text())
    if a.layers:
        raw["num_hidden_layers"] = a.layers
        if raw.get("layer_types"):
            raw["layer_types"] = raw["layer_types"][: a.layers]
    if a.vocab:
        raw["vocab_size"] = a.vocab
    a.out.mkdir(parents=True, exist_ok=True)
    (a.out / "config.json").write_text(json.dumps(raw, indent=1))
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(a.out))
    torch.manual_seed(1)
    one_plus = raw["model_type"].startswith(("gemma3", "qwen3_5"))
    state = {}
    for name, w in model.named_parameters():
        v = value(name, tuple(w.shape))
        if one_plus and name.endswith("norm.weight") and "linear_attn" not in name:
            v -= 1
        state[name] = v.to(torch.bfloat16)
    save_file(state, a.out / "model.safetensors", metadata={"format": "pt"})
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        if (a.tokenizer / name).exists():
            shutil.copy(a.tokenizer / name, a.out / name)
    print(a.out, sum(v.numel() for v in state.values()) // 1000000, "M parameters")


if __name__ == "__main__":
    main()
