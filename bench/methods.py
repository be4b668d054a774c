#!/usr/bin/env python3
"""Latent exchange beside the baselines, same questions, same budget of tokens: one table.

    bench/methods.py [--rmas build/rmas] [--methods latent text single ...] [--keep DIR] -- --system systems/nano-sequential --dataset gsm8k --dataset_path FILE ...

What stands behind -- goes to every `rmas run`. Columns: accuracy by the reference scorer and by the strict one (with its 95 % Wilson
interval); per question: tokens of the answering agent, tokens that the agents before it wrote, latent steps of all agents, seconds in all
(loading included). Every agent may write as many tokens as the answering one (--max_new_tokens). With --keep the results files stay in DIR,
and what was interrupted goes on there (without seconds).
"""
import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def wilson(right, n, z=1.96):
    if not n:
        return 0.0, 1.0
    p, z2 = right / n, z * z
    mid, half = p + z2 / (2 * n), z * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return (mid - half) / (1 + z2 / n), (mid + half) / (1 + z2 / n)


def total_questions(file):
    return sum("sample_idx" in json.loads(line) for line in file.read_text().splitlines())


def main():
    if "--" not in sys.argv:
        raise SystemExit(__doc__)
    cut = sys.argv.index("--")
    p = argparse.ArgumentParser()
    p.add_argument("--rmas", type=Path, default=Path(__file__).resolve().parent.parent / "build" / "rmas")
    p.add_argument("--methods", nargs="+", default=["latent", "text", "single", "single_tools"])
    p.add_argument("--keep", type=Path)
    a, flags = p.parse_args(sys.argv[1:cut]), sys.argv[cut + 1:]
    print(f"| method | n | reference | strict | 95 % of strict | answer tokens | others' tokens | latent steps | s per question |\n|{'---|' * 9}", flush=True)
    for method in a.methods:
        with tempfile.TemporaryDirectory() as work:
            if a.keep:
                a.keep.mkdir(parents=True, exist_ok=True)
            file, start = (a.keep or Path(work)) / f"{method}.jsonl", time.monotonic()
            old = file.exists()
            subprocess.run([a.rmas, "run", *flags, "--method", method, "--result_jsonl", file, "--resume", "--quiet"], check=True,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            seconds = "" if old else f"{(time.monotonic() - start) / total_questions(file):.2f}"
            rows = [json.loads(line) for line in file.read_text().splitlines()]
        total = next(r for r in rows if r.get("type") == "summary")
        rows = [r for r in rows if "sample_idx" in r]
        n = len(rows)
        low, high = wilson(total["strict_num_correct"], n)
        tokens = [sum(r[k] for r in rows) / n for k in ("n_tokens", "n_tokens_others", "n_latent_steps")]
        print(f"| {method} | {n} | {100 * total['num_correct'] / n:.1f} % | {100 * total['strict_num_correct'] / n:.1f} % | {100 * low:.1f} to {100 * high:.1f} | "
              f"{tokens[0]:.0f} | {tokens[1]:.0f} | {tokens[2]:.0f} | {seconds} |", flush=True)


if __name__ == "__main__":
    main()
