#!/usr/bin/env python3
"""Does latent exchange help a nano team? Rows -> inner links -> outer links by two recipes -> answers on gsm8k -> one table.

    tools/study.py --out DIR --train gsm8k_train.jsonl --test gsm8k_test.jsonl --generator MODEL.gguf [--seed 42] [--cells NAME ...]

Every step is skipped if its result is there and goes on where it stopped otherwise; DIR/study.md is the table. --steps, --rows, --questions make
it smaller or larger. --under 'nice -n 10' stands in front of every program. docs/STUDY.md tells what came out once, and what the methods are.
"""
import argparse
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "bench"))
from methods import wilson  # noqa: E402


ARMS = {  # how outer links are trained
    "reference": ["--recipe", "reference"],
    "rmas": ["--recipe", "rmas"],
    "rmas-unlimited": ["--recipe", "rmas", "--max_message_grad", "0"],  # the default of the first three studies
    "rmas-aligned": ["--recipe", "rmas", "--init", "aligned"],
    "reference-aligned": ["--recipe", "reference", "--init", "aligned"],
    # one switch of the default each
    "reference-latents": ["--recipe", "reference", "--latents", "rollout", "--feedback", "gold"],
    "reference-feedback": ["--recipe", "reference", "--feedback", "rollout"],
    "reference-rounds": ["--recipe", "reference", "--supervise_final_only", "0"],
}


class Study:
    def __init__(self, a):
        self.a, self.out = a, a.out
        self.rows = a.out / "rows.jsonl"
        self.out.mkdir(parents=True, exist_ok=True)

    def call(self, *words):
        words = [str(w) for w in words]
        print("$ rmas", *words, flush=True)
        subprocess.run([*shlex.split(self.a.under), str(self.a.rmas), *words], stdout=subprocess.DEVNULL, check=True)

    # ---- rows and links ------------------------------------------------------------------------------------------------

    def make_rows(self):
        a = self.a
        keep = ["--keep", "all", "--gold_answer"] if a.gold else ["--keep", "right", "--max_answer_tokens", a.tokens]
        if not self.rows.exists():
            self.call("data", "make", "--system", a.system, "--generator", a.generator, "--data", a.train, "--shuffle", "--seed", a.seed, "--out", self.rows, "--resume",
                      "--num_samples", a.rows, "--batch_size", 16, "--max_new_tokens", 96, "--temperature", 0.3, "--threads", a.threads, *keep, "--quiet")

    def links(self, name):
        return self.out / name / "last"

    def train(self, kind, name, *more):
        save, a = self.out / name, self.a
        if (save / "last").is_dir():
            return
        self.call("train", kind, "--data", self.rows, "--held_out", a.held_out, "--seed", a.seed, "--warmup_steps", 5, "--log_every", 1,
                  "--save_steps", 4, "--threads", a.threads, "--save_dir", save, *more, *(["--resume"] if (save / "train_args.json").is_file() else []))

    def system(self, name, outer):
        """A system folder with the trained inner links and these outer ones."""
        manifest = json.loads((self.a.system / "system.json").read_text())
        manifest["name"] += f", {name}"
        for role, agent in manifest["agents"].items():
            agent["inner_link"] = str((self.out / "inner" / role / "adapter.safetensors").resolve())
        if outer:
            manifest["outer_links"] = str(outer.resolve())
        folder = self.out / "systems" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "system.json").write_text(json.dumps(manifest, indent=2) + "\n")
        return folder

    def train_inner(self):
        for role in json.loads((self.a.system / "system.json").read_text())["agents"]:
            self.train("inner", f"inner/{role}", "--system", self.a.system, "--role", role, "--max_steps", self.a.inner_steps, "--batch_size", 4, "--eval_every", 10)

    def train_outer(self, arm):
        a = self.a
        self.train("outer", f"outer-{arm}", "--system", self.system("start", None), *ARMS[arm], "--num_recursive_rounds", a.rounds,
                   "--latent_length", a.latents, "--max_steps", a.steps, "--batch_size", a.batch_size, "--eval_every", a.eval_every)

    def changed(self, name, source, change):
        """A copy of outer links whose tensors went through change(key, name, values)."""
        from safetensors.numpy import load_file, save_file
        folder = self.out / name
        if folder.exists():
            shutil.rmtree(folder)
        shutil.copytree(source, folder)
        for file in folder.glob("*.safetensors"):
            save_file({k: np.ascontiguousarray(change(file.stem, k, v)) for k, v in load_file(file).items()}, file)
        for file in folder.glob("*.pt"):
            file.unlink()
        config = json.loads((folder / "outerlink_config.json").read_text())
        for adapter in config["adapters"]:
            adapter["filename"] = adapter["legacy_key"] + ".safetensors"
        (folder / "outerlink_config.json").write_text(json.dumps(config))
        return folder

    def mean_messages(self, arm):
        """{link: its mean message} over rows of the training data."""
        from safetensors.numpy import load_file
        folder = self.out / f"record-{arm}"
        if not folder.exists():
            self.call("run", "--system", self.out / "systems" / arm, "--questions", self.rows, "--num_samples", 16, "--num_recursive_rounds", self.a.rounds, "--latent_length",
                      self.a.latents, "--max_new_tokens", 1, "--ans", 0, "--temperature", 0, "--batch_size", 16, "--record", folder, "--quiet")
        all_rows = {}
        for file in sorted(folder.glob("*.safetensors")):
            for name, x in load_file(file).items():
                all_rows.setdefault(name.split(".")[-1], []).append(x)
        return {key: np.concatenate(x).mean(axis=0) for key, x in all_rows.items() if key.startswith("outer_")}

    def controls(self):
        """zeroed: every message is nothing but zeros. shuffled: the coordinates of a message stand in another order, one per link: as loud, as
        varied from row to row and question to question, but no longer what the receiver was trained for. constant: every row of every message
        is the link's mean message, whatever the question is."""
        seed = self.a.seed

        def zero(key, name, v):
            return v * 0 if name.startswith("ln_target.") else v

        def shuffle(key, name, v):
            last = name.split(".")[0] in ("ln_target", "proj2", "residual_proj")
            return v[np.random.default_rng([seed, *key.encode()]).permutation(v.shape[0])] if last else v

        for arm in ARMS:
            if not self.links(f"outer-{arm}").is_dir():
                continue
            mean = self.mean_messages(arm)

            def constant(key, name, v):
                return v * 0 if name == "ln_target.weight" else mean[key].astype(v.dtype) if name == "ln_target.bias" else v

            for control, change in (("zeroed", zero), ("shuffled", shuffle), ("constant", constant)):
                self.system(f"{arm} {control}", self.changed(f"outer-{arm}-{control}", self.links(f"outer-{arm}"), change))

    # ---- answers -------------------------------------------------------------------------------------------------------

    def cells(self):
        """name, system, method, rounds, options. The budget of positions that are written or thought beside the answer's 256 is that of the
        latents: agents * rounds - 1 rollouts (every agent thinks in every round, but the one who answers in the last)."""
        a, systems = self.a, self.out / "systems"
        spent = a.latents * (3 * a.rounds - 1)

        def latent(links, r):
            return f"{links}, R = {r}", systems / links, "latent", r, ["--max_new_tokens", a.tokens]

        yield f"single agent, {a.tokens + spent}", a.system, "single", 1, ["--max_new_tokens", a.tokens + spent]
        for links in ("untrained", "reference", "rmas", "rmas-aligned", "reference-aligned"):
            yield latent(links, a.rounds)
        yield "text exchange", a.system, "text", 1, ["--max_new_tokens", spent // 2, "--max_answer_tokens", a.tokens]
        for links in ("reference", "rmas", "rmas-aligned"):
            yield from (latent(f"{links} {control}", a.rounds) for control in ("zeroed", "shuffled", "constant") if control != "zeroed" or links == "rmas")
            yield f"{links}, other's messages", systems / links, "latent", a.rounds, ["--max_new_tokens", a.tokens, "--messages", "other"]
        yield from (latent(links, r) for r in range(a.rounds - 1, 0, -1) for links in ("rmas", "reference"))
        yield f"single agent, {a.tokens}", a.system, "single", 1, ["--max_new_tokens", a.tokens]

    def answer(self):
        """Part by part of the questions, every method on each: whenever it is stopped, the methods stand beside one another."""
        a = self.a
        (self.out / "answers").mkdir(exist_ok=True)
        for first in range(0, a.questions, a.part):
            for name, system, method, rounds, options in self.cells():
                file = self.file(name, first)
                if not (system / "system.json").exists():
                    continue
                if (a.cells and not any(name.startswith(c) for c in a.cells)) or self.whole(file):
                    continue
                more = ["--latent_length", a.latents, "--num_recursive_rounds", rounds] if method == "latent" else []
                self.call("run", "--system", system, "--method", method, *more, *options, "--dataset", "gsm8k", "--dataset_path", a.test, "--shuffle",
                          "--seed", 42, "--first", first, "--num_samples", min(a.part, a.questions - first), "--temperature", 0, "--batch_size", 25,
                          "--threads", a.threads, "--quiet", "--resume", "--result_jsonl", file)

    def file(self, name, first):
        return self.out / "answers" / (name.replace(", ", "-").replace(" = ", "").replace(" ", "_").replace("'", "") + f".{first:03}.jsonl")

    @staticmethod
    def whole(file):
        """The lines of a run that went to its end, else none."""
        lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
        return [r for r in lines if "sample_idx" in r] if lines and lines[-1].get("type") == "summary" else []

    def answers(self, name):
        """{place in the shuffled data: result} of all parts that are done."""
        return {first + r["sample_idx"]: r for first in range(0, self.a.questions, self.a.part) for r in self.whole(self.file(name, first))}

    # ---- tables --------------------------------------------------------------------------------------------------------

    def losses(self, arm):
        log = self.out / f"outer-{arm}" / "log.jsonl"
        lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        return [r for r in lines if "held_out_rollout_ce" in r]

    def row_by_row(self):
        """Losses of the held-out rows in the last round after training, and their differences row by row with the standard error of the mean."""
        def last_round(line):
            return np.array([row[-1] if row else np.nan for row in line["held_out_rollout_ce_by_row"]])

        def against(x, base):
            x = (x - base)[~np.isnan(x - base)]
            return f"{x.mean():+.4f} ± {x.std(ddof=1) / len(x) ** 0.5:.4f}" if len(x) > 1 else ""

        logs = {arm: lines for arm in ARMS if "held_out_rollout_ce_by_row" in (lines := self.losses(arm) or [{}])[-1]}
        if not logs:
            return []
        end = {arm: last_round(lines[-1]) for arm, lines in logs.items()}
        text = ["", "| outer links | held-out loss, last round | against untrained | against `rmas` |", "|---|---|---|---|"]
        for arm, x in end.items():
            text.append(f"| {arm} | {np.nanmean(x):.4f} | {against(x, last_round(logs[arm][0]))} | {against(x, end['rmas']) if 'rmas' in end and arm != 'rmas' else ''} |")
        return text

    def table(self):
        text = ["| method | right of n (strict) | accuracy | 95 % interval | reference scorer | tokens of the answer | asked again |", "|---|---|---|---|---|---|---|"]
        base, pairs = self.answers(f"untrained, R = {self.a.rounds}"), []
        for name, *_ in self.cells():
            rows = self.answers(name)
            if not rows:
                continue
            n, right = len(rows), sum(r["strict_correct"] for r in rows.values())
            low, high = wilson(right, n)
            text.append(f"| {name} | {right} of {n} | {100 * right / n:.1f} % | {100 * low:.1f} to {100 * high:.1f} | {100 * sum(r['correct'] for r in rows.values()) / n:.1f} % | "
                        f"{sum(r['n_tokens'] for r in rows.values()) / n:.0f} | {100 * sum(r['asked_again'] for r in rows.values()) / n:.0f} % |")
            both = rows.keys() & base.keys()
            won = sum(rows[i]["strict_correct"] and not base[i]["strict_correct"] for i in both)
            lost = sum(base[i]["strict_correct"] and not rows[i]["strict_correct"] for i in both)
            if base and name != f"untrained, R = {self.a.rounds}":
                pairs.append(f"| {name} | {len(both)} | {won} | {lost} |")
        if base:
            text += ["", f"Against untrained, R = {self.a.rounds}, question by question:", "", "| method | n | right only here | right only there |", "|---|---|---|---|", *pairs]
        for arm in ARMS:
            for r in self.losses(arm):
                text += ["", f"{arm}, step {r['step']}: held-out loss with rollouts by round " + ", ".join(f"{x:.4f}" for x in r["held_out_rollout_ce"])
                         + ("; with gold states " + ", ".join(f"{x:.4f}" for x in r["held_out_gold_ce"]) if "held_out_gold_ce" in r else "")]
        text += self.row_by_row()
        (self.out / "study.md").write_text("\n".join(text) + "\n")
        print("\n".join(text))

    def run(self):
        do = self.a.do
        self.a.system, self.a.rmas = self.a.system.resolve(), self.a.rmas.resolve()
        if "rows" in do:
            self.make_rows()
        if "inner" in do:
            self.train_inner()
        for arm in ARMS:
            if arm in do:
                self.train_outer(arm)
        for arm in ARMS:
            if self.links(f"outer-{arm}").is_dir():
                self.system(arm, self.links(f"outer-{arm}"))
        folder = self.out / "systems" / "untrained"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(self.a.system / "system.json", folder)
        if "answers" in do:
            self.controls()
            self.answer()
        self.table()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--train", type=Path, help="gsm8k's training file")
    p.add_argument("--test", type=Path, help="gsm8k's test file")
    p.add_argument("--generator", help="the model that writes the rows' texts")
    p.add_argument("--system", type=Path, default=ROOT / "systems" / "nano-sequential")
    p.add_argument("--rmas", type=Path, default=ROOT / "build" / "rmas")
    p.add_argument("--do", nargs="+", default=["rows", "inner", "reference", "rmas", "answers"], help="steps; the table is always made")
    p.add_argument("--cells", nargs="+", help="answers: only methods that begin so")
    p.add_argument("--seed", type=int, default=42)
    p.add_argument("--rows", type=int, default=240, help="questions to make rows of")
    p.add_argument("--gold", action="store_true", help="rows of all questions with the data's own answers, not of those that the generator answered right")
    p.add_argument("--held_out", type=int, default=16, help="rows kept for the loss; 8 are too few to tell two ways of training apart")
    p.add_argument("--inner_steps", type=int, default=20)
    p.add_argument("--steps", type=int, default=24)
    p.add_argument("--batch_size", type=int, default=2, help="rows of a step of the outer loop")
    p.add_argument("--eval_every", type=int, default=12)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--latents", type=int, default=16)
    p.add_argument("--tokens", type=int, default=256)
    p.add_argument("--questions", type=int, default=200)
    p.add_argument("--threads", type=int, default=0)
    p.add_argument("--under", default="")
    p.add_argument("--part", type=int, default=50, help="questions of a run")
    Study(p.parse_args()).run()


if __name__ == "__main__":
    main()
