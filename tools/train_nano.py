#!/usr/bin/env python3
"""Trains the links of a nano system on word problems from tools/make_word_problems.py: inner links first, then outer links.

    tools/train_nano.py [--system systems/nano-sequential] [--out DIR] [--rows N] [--inner_steps N] [--outer_steps N]

DIR (default build/nano-trained) becomes a system folder: rmas run --system DIR. Everything has a seed; the logs stay in DIR, and a run that was
interrupted goes on where it stopped. The answers to be learned are the answering model's own right ones (--given: the terse ones that come with the
problems), so that links have nothing to gain from style. docs/STUDY.md says what came out.
"""
import argparse
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ANSWERS = ("answer", "distill_learner", "deliberation_toolcaller", "hie_summarizer")  # columns of the role that answers


def problems(a, form):
    return subprocess.run([sys.executable, ROOT / "tools" / "make_word_problems.py", "--n", str(a.rows), "--seed", "1", "--form", form], check=True,
                          stdout=subprocess.PIPE).stdout


def own_answers(a, rows):
    """The rows whose question the answering model solves alone, with its own words as answers."""
    questions, results = a.out / "questions.jsonl", a.out / "answers.jsonl"
    questions.write_bytes(problems(a, "gsm8k"))
    subprocess.run([a.rmas, "run", "--system", a.system, "--method", "single", "--dataset", "gsm8k", "--dataset_path", questions, "--temperature", "0", "--max_new_tokens", "256",
                    "--ans", "0", "--batch_size", "16", "--threads", str(a.threads), "--quiet", "--resume", "--result_jsonl", results], check=True, stdout=subprocess.DEVNULL)
    done = [json.loads(line) for line in results.read_text().splitlines()]
    own = {r["sample_idx"]: r["raw_output"].strip() for r in done if r.get("strict_correct")}
    print(f"{len(own)} of {len(rows)} problems are solved by the answering model", flush=True)
    return [row | {c: own[i] for c in ANSWERS} for i, row in enumerate(rows) if i in own]


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--rmas", type=Path, default=ROOT / "build" / "rmas")
    p.add_argument("--system", type=Path, default=ROOT / "systems" / "nano-sequential")
    p.add_argument("--out", type=Path, default=ROOT / "build" / "nano-trained")
    p.add_argument("--rows", type=int, default=200, help="problems")
    p.add_argument("--given", action="store_true", help="train on the answers that come with the problems")
    p.add_argument("--inner_steps", type=int, default=15)
    p.add_argument("--outer_steps", type=int, default=20)
    p.add_argument("--latent_length", type=int, default=8)
    p.add_argument("--rounds", type=int, default=2)
    p.add_argument("--threads", type=int, default=0)
    a = p.parse_args()
    a.out.mkdir(parents=True, exist_ok=True)
    rows = a.out / "rows.jsonl"
    if not rows.exists():
        made = [json.loads(line) for line in problems(a, "rows").splitlines()]
        kept = made if a.given else own_answers(a, made)
        rows.with_suffix(".part").write_text("".join(json.dumps(r) + "\n" for r in kept))
        rows.with_suffix(".part").replace(rows)
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
