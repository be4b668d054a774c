#!/usr/bin/env python3
"""Trains the links of a nano system on word problems from tools/make_word_problems.py: inner links first, then outer links.

    tools/train_nano.py [--system systems/nano-sequential] [--out DIR] [--rows N] [--inner_steps N] [--outer_steps N]

DIR (default build/nano-trained) becomes a system folder: rmas run --system DIR. Everything has a seed; the logs stay in DIR, and a run that was
interrupted goes on where it stopped. All of it takes about 8 minutes of one core. docs/STUDY.md says what came out.
"""
import argparse
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--rmas", type=Path, default=ROOT / "build" / "rmas")
    p.add_argument("--system", type=Path, default=ROOT / "systems" / "nano-sequential")
    p.add_argument("--out", type=Path, default=ROOT / "build" / "nano-trained")
    p.add_argument("--rows", type=int, default=200)
    p.add_argument("--inner_steps", type=int, default=15)
    p.add_argument("--outer_steps", type=int, default=30)
    p.add_argument("--latent_length", type=int, default=8)
    p.add_argument("--rounds", type=int, default=2)
    p.add_argument("--threads", type=int, default=0)
    a = p.parse_args()
    a.out.mkdir(parents=True, exist_ok=True)
    rows = a.out / "rows.jsonl"
    rows.write_bytes(subprocess.run([sys.executable, ROOT / "tools" / "make_word_problems.py", "--n", str(a.rows), "--seed", "1"], check=True, stdout=subprocess.PIPE).stdout)
    manifest = json.loads((a.system / "system.json").read_text())
    manifest["name"] += ", trained"
    manifest["defaults"].update(latent_length=a.latent_length, num_recursive_rounds=a.rounds)

    def train(kind, save, *more):
        done = (save / "last").is_dir() and not list(save.glob("checkpoint-*"))
        if done:
            print(f"{save}: trained already")
            return
        resume = ["--resume"] if (save / "train_args.json").is_file() else []
        cmd = [a.rmas, "train", kind, "--data", rows, "--held_out", "8", "--batch_size", "4", "--log_every", "5", "--threads", str(a.threads), "--save_dir", save, *more, *resume]
        print("$", " ".join(map(str, cmd)), flush=True)
        subprocess.run(cmd, check=True)

    for role, agent in manifest["agents"].items():
        save = a.out / "inner" / role
        train("inner", save, "--system", a.system, "--role", role, "--max_steps", str(a.inner_steps), "--warmup_steps", "5", "--eval_every", "10")
        agent["inner_link"] = f"inner/{role}/adapter.safetensors"
    (a.out / "system.json").write_text(json.dumps(manifest, indent=2) + "\n")
    outer = a.out / "outer"
    train("outer", outer, "--system", a.out, "--latent_length", str(a.latent_length), "--num_recursive_rounds", str(a.rounds), "--max_steps", str(a.outer_steps),
          "--warmup_steps", "5", "--eval_every", "10")
    manifest["outer_links"] = "outer"
    (a.out / "system.json").write_text(json.dumps(manifest, indent=2) + "\n")
    print(f"{a.out}: links trained; try: {a.rmas} run --system {a.out} --dataset gsm8k --dataset_path {ROOT}/systems/demo/questions.jsonl")


if __name__ == "__main__":
    main()
