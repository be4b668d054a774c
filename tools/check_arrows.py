#!/usr/bin/env python3
"""Checks that includes point downward: a module may include only itself, util and the modules listed for it."""
import re
import sys
from pathlib import Path

MAY = {  # module: what it may include beside itself, util and include/rmas.h
    "util": [],
    "kern": [],
    "tensor": ["kern"],
    "weights": ["tensor"],
    "tok": ["weights"],
    "tmpl": [],
    "sample": ["kern"],
    "model": ["weights", "tensor", "kern"],
    "convert": ["model", "weights", "tensor"],
    "link": ["weights", "tensor", "kern"],
    "session": ["model", "tensor", "kern"],
    "prompt": ["tok", "tmpl"],
    "toolbox": [],
    "eval": ["toolbox"],
    "hub": [],
    "system": ["session", "model", "link", "tensor", "weights", "tok", "tmpl", "sample", "prompt", "toolbox", "eval", "hub"],
    "train": ["system", "hub", "session", "model", "link", "tensor", "weights", "tok", "tmpl", "sample", "prompt", "eval", "kern"],
}
MAY["api"] = [m for m in MAY]
root = Path(__file__).resolve().parent.parent
bad = 0
for path in sorted(root.glob("src/*/**/*.[ch]")) + sorted(root.glob("src/*/*.[ch]")):
    module = path.relative_to(root / "src").parts[0]
    for n, line in enumerate(path.read_text().splitlines(), 1):
        m = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
        if not m or m[1] == "rmas.h":
            continue
        target = m[1].split("/")[0] if "/" in m[1] else module
        if target not in (module, "util") and target not in MAY.get(module, []):
            print(f"{path.relative_to(root)}:{n}: {module} may not include {m[1]}")
            bad += 1
print("include arrows:", "ok" if not bad else f"{bad} against the arrows")
sys.exit(bool(bad))
