#!/usr/bin/env python3
"""Greedy text of a real GGUF model beside transformers on the dequantised weights.

    compare_gguf.py RMAS MODEL.gguf [--tokens 64]

Needs torch, transformers, accelerate, gguf, safetensors. For three prompts and both precisions: the first token that differs and the
reference's own margin (top-1 minus top-2 logit) there; a difference where that margin is clear (above 0.05 for f32, 0.5 for
native, which rounds activations to 8 bits) is a failure. Also the largest difference of the first logits.
"""
import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

PROMPTS = ["A baker puts 6 rolls in each bag. How many rolls are in 4 bags?", "Write a Python function that returns the n-th Fibonacci number.",
           "Explain briefly why the sky is blue."]
CLEAR = {"f32": 0.05, "native": 0.5}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("rmas")
    p.add_argument("model", type=Path)
    p.add_argument("--tokens", type=int, default=64)
    a = p.parse_args()
    tok = AutoTokenizer.from_pretrained(a.model.parent, gguf_file=a.model.name)
    model = AutoModelForCausalLM.from_pretrained(a.model.parent, gguf_file=a.model.name, dtype=torch.float32).eval()
    work, failed, passed = Path(tempfile.mkdtemp()), 0, 0
    for prompt in PROMPTS:
        ids = tok.apply_chat_template([{"role": "user", "content": prompt}], add_generation_prompt=True)
        ids = ids if isinstance(ids, list) else ids["input_ids"]
        x = torch.tensor([ids])
        with torch.no_grad():  # the mask is given: with pad = end token it would be guessed wrong
            out = model.generate(x, attention_mask=torch.ones_like(x), max_new_tokens=a.tokens, do_sample=False, return_dict_in_generate=True, output_logits=True)
        want = out.sequences[0, len(ids):].tolist()
        top = [torch.topk(l[0], 2).values for l in out.logits]
        margin = [float(t[0] - t[1]) for t in top]
        save_file({"tokens": np.array(ids, dtype=np.int64)}, work / "in.safetensors")
        for dtype in ("f32", "native"):
            for sub, out_name, extra in (("generate", "g", ["--max-new-tokens", str(a.tokens), "--ignore-eos"]), ("forward", "f", [])):
                subprocess.run([a.rmas, "probe", sub, a.model, "-i", work / "in.safetensors", "-o", work / out_name, "--dtype", dtype, *extra], check=True)
            got = load_file(work / "g")["tokens"].tolist()[:len(want)]
            logits = float(np.abs(load_file(work / "f")["logits"][0] - out.logits[0][0].numpy()).max())
            first = next((i for i in range(len(want)) if got[i] != want[i]), None)
            bad = first is not None and margin[first] > CLEAR[dtype]
            failed, passed = failed + bad, passed + (not bad)
            where = "all tokens agree" if first is None else f"differs at token {first}, reference margin {margin[first]:.4f}"
            print(f"{'FAIL' if bad else 'pass'} {a.model.name} {dtype}: {len(want)} tokens, {where}; first logits differ by at most {logits:.1e}")
    print(f"{passed} passed, {failed} failed")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
