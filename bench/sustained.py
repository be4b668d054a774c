#!/usr/bin/env python3
"""A long run: does it stay as fast and as small as it began?

    bench/sustained.py SECONDS [--rmas build/rmas] -- FLAGS OF rmas run
    bench/sustained.py 3600 -- systems/nano-sequential --dataset gsm8k --dataset_path gsm8k_test.jsonl --max_new_tokens 256

Runs `rmas run` (again with the next seed when the questions are through; an interrupt ends it), watches its memory once a second, and
compares the first and the last tenth of the time: tokens per second of wall and of processor time, seconds per question, resident memory.
Loading the models is not part of the first tenth. Exit status 1 if memory grew by more than a tenth, or processor time per token did.
"""
import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")


def state(pid):
    """Processor seconds and resident bytes of a process."""
    with open(f"/proc/{pid}/stat") as f:
        field = f.read().rpartition(")")[2].split()
    with open(f"/proc/{pid}/status") as f:
        kib = {k: int(v.split()[0]) for k, _, v in (line.partition(":") for line in f) if k in ("RssAnon", "VmRSS")}
    return (int(field[11]) + int(field[12])) / TICK, 1024 * kib["RssAnon"], 1024 * kib["VmRSS"]


def finished(path):
    """Answers in a results file, and their tokens."""
    n, tokens = 0, 0
    if path.exists():
        for line in path.read_text().splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:  # being written
                continue
            if "sample_idx" in row:
                n, tokens = n + 1, tokens + sum(x["n_tokens"] for x in row.get("rollouts", [row]))
    return n, tokens


def main():
    if "--" not in sys.argv:
        raise SystemExit(__doc__)
    cut = sys.argv.index("--")
    p = argparse.ArgumentParser()
    p.add_argument("seconds", type=float)
    p.add_argument("--rmas", type=Path, default=Path(__file__).resolve().parent.parent / "build" / "rmas")
    p.add_argument("--samples", type=Path, help="write what was seen here (JSON lines)")
    a, flags = p.parse_args(sys.argv[1:cut]), sys.argv[cut + 1:]
    seen, base, cpu_base, seed, used = [], (0, 0), 0.0, 42, 0.0  # (running seconds, processor seconds, anonymous bytes, resident, questions, tokens)
    with tempfile.TemporaryDirectory() as work:
        while used < a.seconds:
            file = Path(work) / f"{seed}.jsonl"
            run = subprocess.Popen([a.rmas, "run", *flags, "--seed", str(seed), "--result_jsonl", file, "--quiet"], stdout=subprocess.DEVNULL)
            began = loaded = None
            while run.poll() is None:
                time.sleep(1)
                try:
                    cpu, anon, rss = state(run.pid)
                except (OSError, KeyError):  # it has just ended
                    continue
                if began is None and file.exists():  # the results file is made when the models are there
                    began, loaded = time.monotonic(), cpu
                if began is None:
                    continue
                n, tokens = finished(file)
                spent = time.monotonic() - began
                seen.append((used + spent, cpu_base + cpu - loaded, anon, rss, base[0] + n, base[1] + tokens))
                if used + spent >= a.seconds:
                    run.send_signal(signal.SIGINT)
                    run.wait()
            if run.returncode not in (0, 130):
                raise SystemExit(f"rmas run: status {run.returncode}")
            if began is None:
                raise SystemExit("rmas run ended before it began")
            base, seed, used, cpu_base = seen[-1][4:6], seed + 1, seen[-1][0], seen[-1][1]
    if a.samples:
        a.samples.write_text("".join(json.dumps(s) + "\n" for s in seen))
    end, bad = seen[-1][0], False
    print(f"{end:.0f} s, {seen[-1][4]} questions, {seen[-1][5]} tokens of answers\n")
    print(f"| | tok/s | tok/s of processor time | s per question | memory of its own, MB | resident, MB |\n|{'---|' * 6}")
    part = {}
    for name, lo, hi in (("first tenth", 0, end / 10), ("last tenth", end * 9 / 10, end + 1)):
        rows = [s for s in seen if lo <= s[0] <= hi]
        first, last = rows[0] if lo else (0, 0, 0, 0, 0, 0), rows[-1]
        t, c, n, tok = (last[i] - first[i] for i in (0, 1, 4, 5))
        part[name] = (c / tok if tok else 0, max(r[2] for r in rows))
        print(f"| {name} | {tok / t:.1f} | {tok / c:.1f} | {t / n if n else float('nan'):.2f} | {max(r[2] for r in rows) / 1e6:.0f} | {max(r[3] for r in rows) / 1e6:.0f} |")
    peak = [max(r[2] for r in seen if end * k / 10 <= r[0] <= end * (k + 1) / 10 + 1) / 1e6 for k in range(10)]
    print("\nmemory of its own in each tenth, at most, MB: " + ", ".join(f"{x:.0f}" for x in peak))
    # batches differ: what a run holds at most settles within the first half
    bad = max(peak[5:]) > 1.1 * max(peak[:5]) or part["last tenth"][0] > 1.1 * part["first tenth"][0] > 0
    print("memory grew or it became slower" if bad else "steady")
    return bad


if __name__ == "__main__":
    sys.exit(main())
