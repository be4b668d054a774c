#!/usr/bin/env bash
# Speed of rmas beside llama.cpp: same machine, same GGUF files, same run, taken in turns; prints a table of ratios.
#
#   bench/run.sh [MODEL.gguf...]        ROUNDS=3 measured turns, THREADS=2, PROMPT=256, GEN=64, CONTEXT=64
#
# Without models: those that tools/fetch_models.py has fetched (RMAS_MODELS, else ~/.cache/rmas/models).
#
# llama.cpp comes from the source package of llama-cpp-python (the whole tree is inside) and is built once, outside this tree,
# for this machine's processor: LLAMA_DIR (default: ~/.cache/rmas/llama.cpp). RMAS names the program (default: build/rmas).
# What a processor without AVX-512 would do: another LLAMA_DIR with LLAMA_CMAKE=-DGGML_NATIVE=OFF (and -DGGML_AVX_VNNI=ON), and RMAS_ISA=avx2 (or avx-vnni).
# Without -fno-dse gcc 12 drops the stores of its AMX tile configuration, and it stops with an illegal instruction.
set -eu
cd "$(dirname "$0")/.."
: "${LLAMA_DIR:=${XDG_CACHE_HOME:-$HOME/.cache}/rmas/llama.cpp}" "${RMAS:=build/rmas}" "${ROUNDS:=3}" "${THREADS:=2}"
: "${PROMPT:=256}" "${GEN:=64}" "${CONTEXT:=64}"
[ $# -gt 0 ] || set -- "${RMAS_MODELS:-${XDG_CACHE_HOME:-$HOME/.cache}/rmas/models}"/*.gguf

if [ ! -x "$LLAMA_DIR/build/bin/llama-batched-bench" ]; then
    mkdir -p "$LLAMA_DIR"
    ls "$LLAMA_DIR"/llama_cpp_python-*.tar.gz >/dev/null 2>&1 ||
        python3 -m pip download -q --no-binary llama-cpp-python --no-deps -d "$LLAMA_DIR" llama-cpp-python
    tar xf "$(ls "$LLAMA_DIR"/llama_cpp_python-*.tar.gz | tail -n 1)" -C "$LLAMA_DIR"
    src=$(ls -d "$LLAMA_DIR"/llama_cpp_python-*/vendor/llama.cpp | tail -n 1)
    cmake -S "$src" -B "$LLAMA_DIR/build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DBUILD_SHARED_LIBS=OFF -DLLAMA_CURL=OFF \
        -DCMAKE_CXX_FLAGS="-fno-tree-dse -fno-dse" -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_SERVER=OFF ${LLAMA_CMAKE:-} >"$LLAMA_DIR/cmake.log"
    nice ninja -C "$LLAMA_DIR/build" -j2 llama-bench llama-batched-bench >"$LLAMA_DIR/build.log"
fi
bin=$LLAMA_DIR/build/bin
out=$(mktemp -d)
trap 'rm -r "$out"' EXIT

for model in "$@"; do
    for round in $(seq "$ROUNDS"); do
        echo "$(basename "$model"): turn $round of $ROUNDS" >&2
        "$bin/llama-bench" -m "$model" -t "$THREADS" -p "$PROMPT" -n "$GEN" -r 2 -o jsonl >>"$out/llama.jsonl" 2>/dev/null
        "$bin/llama-batched-bench" -m "$model" -t "$THREADS" -c 8192 -npp "$CONTEXT" -ntg 32 -npl 4,16 --output-format jsonl 2>/dev/null |
            grep '^{' | sed "s|^{|{\"file\": \"$(basename "$model")\", |" >>"$out/batched.jsonl"
        "$RMAS" bench "$model" --threads "$THREADS" --prompt "$PROMPT" --gen "$GEN" --context "$CONTEXT" --batch 1,4,16 --steps 32 --repeat 3 --jsonl \
            >>"$out/rmas.jsonl"
    done
done

python3 - "$out" <<'PY'
import collections, json, os, sys

runs = collections.defaultdict(lambda: collections.defaultdict(list))  # (model, test) -> program -> rates
def lines(name):
    with open(os.path.join(sys.argv[1], name)) as f:
        return [json.loads(x) for x in f if x.startswith("{")]
for r in lines("llama.jsonl"):
    test = "prefill" if r["n_gen"] == 0 else "decode 1"
    runs[os.path.basename(r["model_filename"]), test]["llama.cpp"] += r["samples_ts"]
for r in lines("batched.jsonl"):
    for test in ("decode", "rollout"):
        runs[r["file"], f"{test} {r['pl']}"]["llama.cpp"].append(r["speed_tg"])
for r in lines("rmas.jsonl"):
    test = r["test"] + ("" if r["test"] == "prefill" else f" {r['batch']}")
    runs[r["model"], test]["rmas"] += [r["tok_s_min"], r["tok_s"], r["tok_s_max"]]
for (model, test) in list(runs):  # latent steps have no counterpart there: beside plain decoding
    if test == "rollout 1":
        runs[model, test]["llama.cpp"] = runs[model, "decode 1"]["llama.cpp"]

def middle(v):
    v = sorted(v)
    return v[len(v) // 2]
print("| model | test | rmas tok/s (range) | llama.cpp tok/s (range) | ratio of medians | of best |")
print("|---|---|---|---|---|---|")
for (model, test), by in runs.items():
    a, b = by["rmas"], by["llama.cpp"]
    if a and b:
        print(f"| {model} | {test} | {middle(a):.0f} ({min(a):.0f} to {max(a):.0f}) | {middle(b):.0f} ({min(b):.0f} to {max(b):.0f})"
              f" | {middle(a) / middle(b):.2f} | {max(a) / max(b):.2f} |")
PY
