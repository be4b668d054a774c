#!/usr/bin/env python3
"""One step of `rmas train outer` beside PyTorch autograd on the same rows: time, peak memory, losses.

    bench/train_vs_torch.py --system systems/nano-sequential --data rows.jsonl [--recipe reference] [--rounds 2] [--batch 4] [--steps 2] [--threads 2] [--dtypes bf16 f32]

Needs torch, transformers, accelerate, gguf, safetensors, and the system's models (GGUF files or folders) in RMAS_MODELS or where the system names them. Rows:
tools/make_word_problems.py, or anything docs/TRAINING.md describes. The PyTorch side computes on transformers models with the dequantised weights of the
same files: with `--recipe reference` the reference's step (teacher-forced stages with gold states, all rounds in one graph, one sample at a time), with
`--recipe rmas` (messages that are rolled out, losses of all rounds) a KV cache that carries gradients, and the rollouts of all samples of a step together.
It is given what costs it least: links on the rows that are sent only, logits of the labelled rows only. Inner links are random, the same on both
sides, outer links too.
Each side runs in processes of its own, in turns; a step's time is that of the later steps (loading and the first step do not count), the memory is
the peak of the whole process. "cpu" is processor time, of use on a busy machine.
"""
import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
from fetch_models import model_dir  # noqa: E402

EDGES = {"sequential": {"outer_12": (0, 1), "outer_23": (1, 2), "outer_31": (2, 0)}, "distillation": {"outer_el": (0, 1), "outer_le": (1, 0)}}
MAX_LATENT = 80
NON_LAST_WEIGHT = 0.1


# ---------------------------------------------------------------------------------------------- the PyTorch side


def model_width(path):
    if path.is_dir():
        return json.loads((path / "config.json").read_text())["hidden_size"]
    from gguf import GGUFReader
    return next(int(f.parts[-1][0]) for k, f in GGUFReader(path).fields.items() if k.endswith(".embedding_length"))


def make_modules():
    import torch
    from torch import nn
    from torch.nn.functional import gelu

    class Inner(nn.Module):
        def __init__(self, d):
            super().__init__()
            self.pre_ln, self.post_ln, self.proj1, self.proj2 = nn.LayerNorm(d), nn.LayerNorm(d), nn.Linear(d, d), nn.Linear(d, d)

        def forward(self, x):
            return self.post_ln(x + self.proj2(gelu(self.proj1(self.pre_ln(x)))))

    class Outer(nn.Module):
        def __init__(self, i, o):
            super().__init__()
            self.ln_source, self.ln_target = nn.LayerNorm(i), nn.LayerNorm(o)
            self.proj1, self.proj2, self.residual_proj = nn.Linear(i, 2 * o), nn.Linear(2 * o, o), nn.Linear(i, o)

        def forward(self, x):
            return self.ln_target(self.proj2(gelu(self.proj1(self.ln_source(x)))) + self.residual_proj(x))

    return torch, Inner, Outer


class Team:
    """The reference's outer training step."""

    def __init__(self, job):
        torch, Inner, Outer = make_modules()
        from safetensors.torch import load_file
        from transformers import AutoModelForCausalLM
        self.torch, self.job = torch, job
        torch.set_num_threads(job["threads"])
        torch.manual_seed(0)
        self.dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[job["dtype"]]
        models = {}
        for path in job["models"]:
            if path not in models:
                p = Path(path)
                where = {"pretrained_model_name_or_path": p} if p.is_dir() else {"pretrained_model_name_or_path": p.parent, "gguf_file": p.name}
                m = AutoModelForCausalLM.from_pretrained(**where, dtype=self.dtype).eval().requires_grad_(False)
                if job["checkpointing"]:
                    m.gradient_checkpointing_enable({"use_reentrant": False})
                    m.train()  # transformers checkpoints in training mode only; these models have no dropout
                models[path] = m
        self.models = [models[p] for p in job["models"]]
        self.width = [m.config.hidden_size for m in self.models]
        self.inner = [Inner(d).to(self.dtype).requires_grad_(False) for d in self.width]
        for link, file in zip(self.inner, job["inner"]):
            link.load_state_dict(load_file(file))
        init, self.outer = load_file(job["init"]), {}
        for key, (a, b) in job["edges"].items():
            self.outer[key] = Outer(self.width[a], self.width[b])
            self.outer[key].load_state_dict({n: init[f"param.{key}.{n}"] for n in self.outer[key].state_dict()})
            self.outer[key].to(self.dtype)
        self.params = [p for l in self.outer.values() for p in l.parameters()]
        self.optimiser = torch.optim.AdamW(self.params, lr=5e-4, betas=(0.9, 0.95), weight_decay=0.0)

    def rows(self, role, pieces, messages):
        """Embeddings of the pieces with the messages between them, and the ids (-100 in slots)."""
        embed, rows, ids = self.models[role].get_input_embeddings(), [], []
        for k, piece in enumerate(pieces):
            rows.append(embed(self.torch.tensor(piece, dtype=self.torch.long)))
            ids += piece
            if k < len(messages):
                rows.append(messages[k])
                ids += [-100] * len(messages[k])
        return self.torch.cat(rows), ids

    def text(self, role, stage, messages):
        """A teacher-forced pass: states, the length of the prompt, ids."""
        rows, ids = self.rows(role, stage["pieces"], messages)
        prompt = sum(map(len, stage["prompt_pieces"])) + sum(map(len, messages))
        with self.torch.set_grad_enabled(bool(messages)):
            return self.models[role].model(inputs_embeds=rows[None], use_cache=False).last_hidden_state[0], prompt, ids

    def cross_entropy(self, role, hidden, prompt, ids):
        logits = self.models[role].lm_head(hidden[prompt - 1:len(ids) - 1])
        return self.torch.nn.functional.cross_entropy(logits.float(), self.torch.tensor(ids[prompt:]))

    def rollouts(self, role, stages, messages):
        """States [sample, latent_length, width] after the prompts of all samples, which end together."""
        torch, model, grad = self.torch, self.models[role].model, bool(messages[0])
        prompts = [self.rows(role, s["prompt_pieces"], m)[0] for s, m in zip(stages, messages)]
        longest = max(map(len, prompts))
        pad = torch.nn.functional.pad
        mask = torch.stack([pad(torch.ones(len(p), dtype=torch.long), (longest - len(p), 0)) for p in prompts])
        rows, position = torch.stack([pad(p, (0, 0, longest - len(p), 0)) for p in prompts]), (mask.cumsum(1) - 1).clamp(min=0)
        cache, states = None, []
        with torch.set_grad_enabled(grad):
            for t in range(1, self.job["latent_length"] + 1):
                out = model(inputs_embeds=rows, attention_mask=mask, position_ids=position, past_key_values=cache, use_cache=True)
                cache, h = out.past_key_values, out.last_hidden_state[:, -1]
                states.append(h)
                rows = self.inner[role](h)[:, None]
                if self.job["truncate"] and t % self.job["truncate"] == 0:
                    rows = rows.detach()
                mask, position = pad(mask, (0, 1), value=1), position[:, -1:] + 1
            return torch.stack(states, 1)

    def stage(self, sample, role, round_):
        name = self.job["roles"][role]
        return sample["stages"].get(f"{name}/feedback" if round_ > 0 else name) or sample["stages"][name]

    def received(self, sent, role, stage):
        return [sent[self.job["roles"].index(s), role] for s in stage["slots"]]

    def send(self, sent, role, hidden):
        inner = self.inner[role](hidden)
        for key, (a, b) in self.job["edges"].items():
            if a == role:
                sent[a, b] = self.outer[key](inner).to(self.dtype)

    def gold_step(self, samples):
        out, last = [], len(self.job["roles"]) - 1
        for sample in samples:
            sent, ce = {}, []
            for round_ in range(self.job["rounds"]):
                for role in range(last + 1):
                    stage = self.stage(sample, role, round_)
                    hidden, prompt, ids = self.text(role, stage, self.received(sent, role, stage))
                    if role == last:
                        ce.append(self.cross_entropy(role, hidden, prompt, ids))
                    if role < last or round_ < self.job["rounds"] - 1:
                        self.send(sent, role, hidden[prompt:][:MAX_LATENT])
            (ce[-1] / len(samples)).backward()
            out.append([float(c.detach()) for c in ce])
        return out

    def rollout_step(self, samples):
        rounds, last, loss = self.job["rounds"], len(self.job["roles"]) - 1, 0
        sent, ce = [{} for _ in samples], [[] for _ in samples]
        for round_ in range(rounds):
            for role in range(last + 1):
                stages = [self.stage(s, role, round_) for s in samples]
                messages = [self.received(s, role, stage) for s, stage in zip(sent, stages)]
                if role == last:
                    for c, stage, message in zip(ce, stages, messages):
                        c.append(self.cross_entropy(role, *self.text(role, stage, message)))
                        loss = loss + c[-1] * (1 if round_ == rounds - 1 else NON_LAST_WEIGHT / (rounds - 1))
                if role < last or round_ < rounds - 1:
                    for s, hidden in zip(sent, self.rollouts(role, stages, messages)):
                        self.send(s, role, hidden)
        (loss / len(samples)).backward()
        return [[float(c.detach()) for c in row] for row in ce]

    def step(self, samples):
        self.optimiser.zero_grad()
        out = self.rollout_step(samples) if self.job["recipe"] == "rmas" else self.gold_step(samples)
        self.torch.nn.utils.clip_grad_norm_(self.params, 1.0)
        self.optimiser.step()
        return out


def make_inner(files):
    """Random inner links [(width, file)], in a process of its own: a child's peak memory counts that of its parent at the fork."""
    torch, Inner, _ = make_modules()
    from safetensors.torch import save_file
    torch.manual_seed(1)
    for width, file in files:
        save_file(Inner(width).state_dict(), file)


def worker(job):
    if isinstance(job, list):
        return make_inner(job)
    team = Team(job)
    losses, wall, cpu = [], [], []
    for i, rows in enumerate(job["batches"]):
        for g in team.optimiser.param_groups:
            g["lr"] = 5e-4 * min(1, i / 10)  # the warm-up of both sides
        t, c = time.monotonic(), time.process_time()
        losses.append(team.step(rows))
        wall.append(time.monotonic() - t)
        cpu.append(time.process_time() - c)
    print(json.dumps({"wall": statistics.mean(wall[1:]), "cpu": statistics.mean(cpu[1:]), "ce": losses, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


# ---------------------------------------------------------------------------------------------- both


def spent(cmd):
    """Wall time, processor time and peak memory (MiB) of a command."""
    t = time.monotonic()
    child = subprocess.Popen([str(c) for c in cmd], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    text = child.stderr.read().decode()
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(map(str, cmd))}\n{text}")
    return time.monotonic() - t, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def find_model(system, name):
    places = [system / name, model_dir() / name]
    for file in places:
        if file.exists():
            return str(file)
    sys.exit(f"{name}: in none of {', '.join(map(str, places))}; tools/fetch_models.py gets the models of the nano systems")


def main():
    if sys.argv[1:2] == ["--worker"]:
        return worker(json.loads(Path(sys.argv[2]).read_text()))
    p = argparse.ArgumentParser()
    p.add_argument("--rmas", type=Path, default=ROOT / "build" / "rmas")
    p.add_argument("--system", type=Path, default=ROOT / "systems" / "nano-sequential")
    p.add_argument("--data", type=Path, required=True)
    p.add_argument("--recipe", choices=["reference", "rmas"], default="reference")
    p.add_argument("--latent_length", type=int, default=32, help="of rollouts")
    p.add_argument("--truncate", type=int, default=4, help="rollouts: their gradient is cut every so many steps, 0: never")
    p.add_argument("--rounds", type=int, default=2)
    p.add_argument("--batch", type=int, default=4)
    p.add_argument("--steps", type=int, default=2)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--dtypes", nargs="*", default=["bf16", "f32"])
    p.add_argument("--checkpointing", nargs="+", type=int, default=[0, 1])
    p.add_argument("--rmas_dtypes", nargs="*", default=["native", "f32"])
    a = p.parse_args()
    manifest = json.loads((a.system / "system.json").read_text())
    roles = list(manifest["agents"])
    models = [find_model(a.system, manifest["agents"][r]["model"]) for r in roles]
    edges = EDGES[manifest["style"].split("_")[0]]
    work = Path(tempfile.mkdtemp())
    flags = ["train", "outer", "--system", a.system, "--data", a.data, "--recipe", a.recipe, "--init", "random", "--shuffle", "0", "--batch_size", a.batch, "--num_recursive_rounds", a.rounds,
             "--threads", a.threads]
    if a.recipe == "rmas":
        flags += ["--latent_length", a.latent_length, "--truncate", a.truncate, "--non_last_loss_weight", NON_LAST_WEIGHT, "--max_message_grad", 0]
    sent = a.latent_length if a.recipe == "rmas" else MAX_LATENT
    spent([a.rmas, *flags, "--probe", work / "probe", "--max_steps", "0"])
    samples = [json.loads(line) for line in (work / "probe" / "samples.jsonl").read_text().splitlines()]
    inner = []
    for r, m in zip(roles, models):
        inner.append((model_width(Path(m)), str(work / f"{r}.safetensors")))
        flags += ["--ckpt_override", f"{r}/inner={inner[-1][1]}"]
    (work / "inner.json").write_text(json.dumps(inner))
    subprocess.run([sys.executable, __file__, "--worker", work / "inner.json"], check=True)
    first = samples[:a.batch]
    rows = [sum(len(x) for x in s["stages"][r]["pieces"]) + sent * len(s["stages"][r]["slots"]) for s in first for r in roles]
    print(f"{a.system.name}, recipe {a.recipe}, {a.rounds} rounds, {a.batch} rows a step, up to {min(rows)} to {max(rows)} positions a stage, {a.threads} threads\n", flush=True)
    print(f"| | s per step | cpu s | peak MiB | losses of the last round, steps 1 to {a.steps + 1} |\n|---|---|---|---|---|", flush=True)

    def show(name, wall, cpu, peak, ce):
        means = [statistics.mean(row[-1] for row in step) for step in ce]
        print(f"| {name} | {wall:.2f} | {cpu:.2f} | {peak:.0f} | {' '.join(f'{m:.4f}' for m in means)} |", flush=True)
        return wall, cpu, peak

    ours, theirs = {}, {}
    for dtype in a.rmas_dtypes:
        run = {}
        for steps in (1, 1 + a.steps):
            save = work / f"{dtype}{steps}"
            run[steps] = spent([a.rmas, *flags, "--dtype", dtype, "--save_dir", save, "--max_steps", steps])
        log = [json.loads(line) for line in (save / "log.jsonl").read_text().splitlines()]
        one, all_ = run[1], run[1 + a.steps]
        ours[dtype] = show(f"rmas {dtype}", (all_[0] - one[0]) / a.steps, (all_[1] - one[1]) / a.steps, all_[2], [l["ce"] for l in log])
    for dtype in a.dtypes:
        for checkpointing in a.checkpointing:
            job = {"recipe": a.recipe, "latent_length": a.latent_length, "truncate": a.truncate, "threads": a.threads, "dtype": dtype, "checkpointing": checkpointing, "models": models, "roles": roles, "edges": edges, "rounds": a.rounds,
                   "inner": [f for _, f in inner], "init": str(work / "probe" / "init.safetensors"),
                   "batches": [samples[i * a.batch:(i + 1) * a.batch] for i in range(1 + a.steps)]}
            (work / "job.json").write_text(json.dumps(job))
            out = subprocess.run([sys.executable, __file__, "--worker", work / "job.json"], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
            r = json.loads(out.splitlines()[-1])
            name = f"torch {dtype}, checkpointing {'on' if checkpointing else 'off'}"
            theirs[name] = show(name, r["wall"], r["cpu"], r["peak"], r["ce"])
    print("\n| | times as fast as | by cpu time | share of its peak memory |\n|---|---|---|---|")
    for dtype, (wall, cpu, peak) in ours.items():
        for name, (w, c, m) in theirs.items():
            print(f"| rmas {dtype} : {name} | {w / wall:.1f} | {c / cpu:.1f} | {peak / m:.2f} |")


if __name__ == "__main__":
    main()
