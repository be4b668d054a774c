#!/usr/bin/env python3
"""Runs what must pass and what must fail through the graders of programs, for every row of a data set, with both scorers.

    tools/check_programs.py FILE.jsonl [--rmas build/rmas] [--first N] [--num N] [--timeout S]

MBPP+ rows bring their reference solution: it must pass, and a function of the same name that returns something else must fail.
LiveCodeBench rows bring none: a program that looks the right result up in the public tests must pass, one that gives another must fail.
"""
import argparse
import json
import re
import subprocess
import sys
from pathlib import Path


def mbppplus(row):
    names = re.findall(r"assertion\(\s*([\w.]+)\s*\(", row["test"]) or re.findall(r"assert\s+([\w.]+)\s*\(", row["test"])
    wrong = f"class Other:\n    pass\ndef {names[-1]}(*a, **k):\n    return Other()\n"
    sample = {"mode": "mbppplus_script", "inputs": [], "outputs": [], "test_script": row["test"], "num_tests": max(1, len(row["test_list"])), "fn_name": names[-1]}
    return row["code"], wrong, sample


def livecodebench(row):
    tests = json.loads(row["public_test_cases"])
    name = json.loads(row["metadata"]).get("func_name")
    sample = {"mode": "functional" if name else "stdin", "fn_name": name, "inputs": [t["input"] for t in tests], "outputs": [t["output"] for t in tests]}
    table = {t["input"]: t["output"] for t in tests}
    if not name:
        right = f"import sys\nprint({table!r}[sys.stdin.read()], end='')\n"
        wrong = "print('something else')\n"
    else:
        by_args = {repr([json.loads(line) for line in k.split("\n") if line.strip()]): json.loads(v) for k, v in table.items()}
        right = f"class Solution:\n    def {name}(self, *args):\n        return {by_args!r}[repr(list(args))]\n"
        wrong = f"class Solution:\n    def {name}(self, *args):\n        return 'something else'\n"
    return right, wrong, sample


def main():
    p = argparse.ArgumentParser()
    p.add_argument("file", type=Path)
    p.add_argument("--rmas", type=Path, default=Path(__file__).resolve().parent.parent / "build" / "rmas")
    p.add_argument("--first", type=int, default=0)
    p.add_argument("--num", type=int, default=-1)
    p.add_argument("--timeout", type=float, default=10)
    a = p.parse_args()
    rows = [json.loads(line) for line in a.file.read_text().split("\n") if line]
    rows = rows[a.first:] if a.num < 0 else rows[a.first:a.first + a.num]
    kind = mbppplus if "test" in rows[0] else livecodebench
    lines, expected = [], []
    for k, row in enumerate(rows, a.first):
        right, wrong, sample = kind(row)
        for what, code in (("right", right), ("wrong", wrong)):
            lines.append(json.dumps({"code": code, "eval_sample": sample, "timeout_s": a.timeout}))
            expected.append((k, row.get("task_id") or row.get("question_id"), what))
    bad = 0
    for scorer in ("reference", "strict"):
        run = subprocess.run([a.rmas, "grade", "--dataset", kind.__name__, "--scorer", scorer, "--jsonl"], input="\n".join(lines) + "\n", text=True,
                             stdout=subprocess.PIPE)
        got = [json.loads(line) for line in run.stdout.split("\n") if line]
        if len(got) != len(expected):
            raise SystemExit(f"{len(got)} verdicts for {len(expected)} programs")
        for (k, name, what), g in zip(expected, got):
            passed = g.get("all_passed", g.get("correct"))
            if passed is not (what == "right"):
                bad += 1
                print(f"row {k} ({name}), {scorer}: the {what} program {'passes' if passed else 'fails'}: {json.dumps(g)[:600]}")
    print(f"{2 * len(expected) - bad} passed, {bad} failed ({kind.__name__}, rows {a.first} to {a.first + len(rows) - 1})")
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
