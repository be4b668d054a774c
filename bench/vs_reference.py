#!/usr/bin/env python3
"""The latent phase and a whole run, rmas beside the reference's way of computing them with transformers: same processor, models, prompts.

    bench/vs_reference.py --python PYTHON --hf planner=DIR --hf critic=DIR --hf solver=DIR \\
        --system systems/nano-sequential --dataset_path gsm8k_test.jsonl [--batch 16 --latent 32 --rounds 3 --max_new_tokens 256] [--threads 1]

PYTHON has torch and transformers; DIRs are Hugging Face folders in bf16 (ref/hf_from_gguf.py makes them from GGUF files). The published
code, as protocols of its runs describe it, per stage: loads the agent's model anew; pads the batch on the left; computes each of the m
latent steps as a full forward pass over the whole sequence (no KV cache); applies the inner link at each step and once more to all states;
then the outer link. The last text comes from generate() (with KV cache). "friendlier" is the same with every model loaded once and a KV
cache between latent steps.

One thread and processor time by default: a busy machine then changes little. The reference's steps are measured at --steps lengths between
the prompt's and the last (1: the middle one, as the cost grows evenly) and multiplied; stages of one agent whose prompts have equal lengths are measured once; a step of generate() is the
difference between 3 and 11 tokens, times the tokens of the longest answer that rmas wrote (a batch runs until its last row ends).
Every part that was measured is kept in --work and not measured again; --only NAME measures one part: prompts, a stage, gguf-load, gguf-latent, gguf-whole,
bf16-load ...
"""
import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


# ---- one stage of the reference, in the other Python ---------------------------------------------------------------------------


def worker(spec):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    torch.set_num_threads(spec["threads"])
    torch.manual_seed(1)
    clock = time.process_time if spec["threads"] == 1 else time.perf_counter
    m = spec["latent"]

    def link(i, h, o, outer):
        lin = lambda a, b: torch.nn.Linear(a, b, dtype=torch.bfloat16)
        parts = [torch.nn.LayerNorm(i, dtype=torch.bfloat16), lin(i, h), torch.nn.GELU(), lin(h, o), lin(i, o) if outer else torch.nn.Identity(),
                 torch.nn.LayerNorm(o, dtype=torch.bfloat16)]
        return lambda x: parts[5](parts[3](parts[2](parts[1](parts[0](x)))) + parts[4](x))

    with torch.inference_mode():
        t = clock()
        model = AutoModelForCausalLM.from_pretrained(spec["dir"], dtype=torch.bfloat16).eval()
        AutoTokenizer.from_pretrained(spec["dir"])
        emb = model.get_input_embeddings()
        d = emb.weight.shape[1]
        for p in model.parameters():  # so that the pages of the file are read here
            p.sum()
        out = {"load": clock() - t}
        inner, outer = link(d, d, d, False), link(d, 2 * d, d, True)
        rows = []
        for pieces, n_row in spec["prompts"]:
            ids = [emb(torch.tensor(p, dtype=torch.long)) for p in pieces]
            rows.append(torch.cat([y for k, x in enumerate(ids) for y in ((x,) if k == len(ids) - 1 else (x, torch.randn(n_row, d).bfloat16()))]))
        n = max(len(r) for r in rows)
        x, mask = torch.zeros(len(rows), n, d, dtype=torch.bfloat16), torch.zeros(len(rows), n, dtype=torch.long)
        for i, r in enumerate(rows):
            x[i, n - len(r):], mask[i, n - len(r):] = r, 1
        model(inputs_embeds=x[:1, -8:], attention_mask=mask[:1, -8:], use_cache=False, logits_to_keep=1)  # warming up
        out["positions"] = n

        if spec["kind"] == "text":
            took = {}
            for k in (3, 11):
                t = clock()
                model.generate(inputs_embeds=x, attention_mask=mask, max_new_tokens=k, min_new_tokens=k, do_sample=True, temperature=0.6, top_p=0.95,
                               pad_token_id=0)
                took[k] = clock() - t
            out["token"] = (took[11] - took[3]) / 8
            out["first"] = took[3] - 3 * out["token"]
            return out

        def step(seq, seen, cache=None):
            t = clock()
            r = model(inputs_embeds=seq, attention_mask=seen, use_cache=cache is not None, past_key_values=cache, logits_to_keep=1,
                      output_hidden_states=True)
            inner(r.hidden_states[-1][:, -1])
            return clock() - t
        k, cost = spec["steps"], []
        for i in range(k):  # the passes grow evenly: the mean of evenly spaced ones
            more = round((m - 1) * (i / (k - 1) if k > 1 else 0.5))
            seq = torch.cat([x, torch.randn(len(rows), more, d).bfloat16()], 1)
            cost.append(step(seq, torch.cat([mask, torch.ones(len(rows), more, dtype=torch.long)], 1)))
        out["step"] = sum(cost) / k
        from transformers import DynamicCache
        cache, seen = DynamicCache(), mask
        out["prefill"] = step(x, seen, cache)
        cost = []
        for _ in range(8):
            seen = torch.cat([seen, torch.ones(len(rows), 1, dtype=torch.long)], 1)
            cost.append(step(torch.randn(len(rows), 1, d).bfloat16(), seen, cache))
        out["cached_step"] = sum(cost) / len(cost)
        t = clock()
        for _ in rows:
            outer(inner(torch.randn(m, d).bfloat16()))
        out["send"] = clock() - t
        return out


# ---- the comparison ------------------------------------------------------------------------------------------------------------


class Bench:
    def __init__(self, a):
        self.a = a
        self.hf = dict(x.split("=", 1) for x in a.hf)
        a.work.mkdir(parents=True, exist_ok=True)

    def kept(self, name, make):
        path = self.a.work / f"{name}.json"
        if not path.exists() and self.a.only in (None, name):
            print(f"measuring {name}", file=sys.stderr)
            path.write_text(json.dumps(make()))
        return json.loads(path.read_text()) if path.exists() else None

    def rmas(self, *flags, n=None, latent=None, rounds=None, tokens=1):
        a = self.a
        start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([a.rmas, "run", a.system, "--dataset", "gsm8k", "--dataset_path", a.dataset_path, "--num_samples", str(n or a.batch),
                        "--batch_size", str(a.batch), "--latent_length", str(a.latent if latent is None else latent), "--num_recursive_rounds",
                        str(rounds or a.rounds), "--max_new_tokens", str(tokens), "--ans", "0", "--threads", str(a.threads), "--quiet", *flags],
                       check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return cpu if a.threads == 1 else time.monotonic() - start

    def prompts(self):
        self.rmas("--record", self.a.work / "record")
        stages = {}
        for f in sorted((self.a.work / "record").glob("*.json")):
            for i, s in enumerate(json.loads(f.read_text())["stages"]):
                rows = s["slots"][0]["rows"] if s["slots"] else 0
                stages.setdefault(i, {"role": s["role"], "kind": s["kind"], "round": s["round"], "prompts": []})["prompts"].append((s["ids"], rows))
        return list(stages.values())

    def ours(self, name, *flags):
        def whole():
            results = self.a.work / "answers.jsonl"
            results.unlink(missing_ok=True)
            took = self.rmas(*flags, "--result_jsonl", results, tokens=self.a.max_new_tokens)
            rows = [json.loads(line) for line in results.read_text().splitlines()]
            return {"took": took, "tokens": [r["n_tokens"] for r in rows if "sample_idx" in r]}
        parts = (self.kept(f"{name}-load", lambda: self.rmas(*flags, n=1, latent=1, rounds=1)), self.kept(f"{name}-latent", lambda: self.rmas(*flags)),
                 self.kept(f"{name}-whole", whole))
        return dict(zip(("load", "latent", "whole", "tokens"), (*parts[:2], parts[2]["took"], parts[2]["tokens"]))) if all(parts) else None

    def stage(self, s):
        spec = dict(s, dir=self.hf[s["role"]], threads=self.a.threads, latent=self.a.latent, steps=self.a.steps)
        r = subprocess.run([self.a.python, __file__, "--worker"], input=json.dumps(spec), text=True, stdout=subprocess.PIPE, check=True,
                           stderr=subprocess.DEVNULL, env=dict(os.environ, OMP_NUM_THREADS=str(self.a.threads), TOKENIZERS_PARALLELISM="false"))
        return json.loads(r.stdout.splitlines()[-1])

    def run(self):
        stages = self.kept("prompts", self.prompts)
        ref = []
        for s in stages or []:
            lengths = sum(len(p) for pieces, _ in s["prompts"] for p in pieces)
            ref.append(self.kept(f"{s['role']}-{s['kind']}-{lengths}", lambda s=s: self.stage(s)))
        gguf = self.ours("gguf")
        over = [f for role in self.hf for f in ("--ckpt_override", f"{role}={self.hf[role]}")]
        bf16 = self.ours("bf16", *over)
        if self.a.only is None:
            self.report(stages, ref, gguf, bf16)

    def report(self, stages, ref, gguf, bf16):
        m, latent, text = self.a.latent, [r for r in ref if "step" in r], [r for r in ref if "token" in r][-1]
        n_token = max(gguf["tokens"])
        steps = sum(m * r["step"] + r["send"] for r in latent)
        loads = sum(r["load"] for r in latent)
        once = sum({self.hf[s["role"]]: r["load"] for s, r in zip(stages, ref)}.values())
        friendly = sum(r["prefill"] + (m - 1) * r["cached_step"] + r["send"] for r in latent)
        write = text["first"] + n_token * text["token"]
        unit = "s of processor time, 1 thread" if self.a.threads == 1 else f"s, {self.a.threads} threads"
        print(f"{self.a.batch} questions, {self.a.rounds} rounds, {m} latent steps, texts of up to {n_token} tokens ({sum(gguf['tokens'])} in all); {unit}\n")
        table = [("reference, loading at every stage", steps + loads, steps + loads + text["load"] + write),
                 ("reference, loading not counted", steps, steps + write),
                 ("friendlier: KV cache, loaded once", friendly + once, friendly + once + write),
                 ("friendlier, loading not counted", friendly, friendly + write)]
        for name, o in (("rmas, the same bf16 folders", bf16), ("rmas, GGUF", gguf)):
            table += [(name, o["latent"], o["whole"]), (f"{name}, loading not counted", o["latent"] - o["load"], o["whole"] - o["load"])]
        print("| | latent phase | whole run |\n|---|---|---|")
        for name, a, b in table:
            print(f"| {name} | {a:.1f} | {b:.1f} |")
        print("\n| ratio | latent phase | whole run |\n|---|---|---|")
        for name, k, base in (("bf16, as each is run", 4, 0), ("bf16, loading not counted", 5, 1), ("bf16 beside the friendlier one", 4, 2),
                              ("GGUF, as each is run", 6, 0), ("GGUF, loading not counted", 7, 1), ("GGUF beside the friendlier one", 6, 2)):
            print(f"| {name} | {table[base][1] / table[k][1]:.1f} | {table[base][2] / table[k][2]:.1f} |")
        print(f"\nrmas wrote {sum(bf16['tokens'])} tokens with bf16 weights (longest {max(bf16['tokens'])}), {sum(gguf['tokens'])} with GGUF (longest "
              f"{n_token}); the latent phase of rmas includes prefilling the last prompt and one token")


def main():
    if "--worker" in sys.argv:
        print(json.dumps(worker(json.load(sys.stdin))))
        return
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rmas", type=Path, default=ROOT / "build" / "rmas")
    p.add_argument("--python", required=True)
    p.add_argument("--hf", action="append", required=True, metavar="ROLE=DIR")
    p.add_argument("--system", default=ROOT / "systems" / "nano-sequential")
    p.add_argument("--dataset_path", required=True)
    for name, value in (("batch", 16), ("latent", 32), ("rounds", 3), ("max_new_tokens", 256), ("threads", 1), ("steps", 1)):
        p.add_argument(f"--{name}", type=int, default=value)
    p.add_argument("--work", type=Path, default=Path("vs_reference"))
    p.add_argument("--only")
    Bench(p.parse_args()).run()


if __name__ == "__main__":
    main()
