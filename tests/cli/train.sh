#!/usr/bin/env bash
# A training run that is killed again and again: with --resume its folder becomes that of an unbroken run, byte for byte. And what cannot be resumed.
. "$(dirname "$0")/lib.bash"
python3 "$here/cli/tiny.py" "$work/tiny" || exit 1

write_rows() { # PLAN
    for i in 1 2 3 4 5 6 7 8; do echo "{\"question\": \"How many are $i and $i?\", \"plan\": \"$1\", \"refined_plan\": \"$i + $i\", \"answer\": \"$((2 * i))\"}"; done
}
write_rows "Add them." >"$work/rows.jsonl"

train() { # FOLDER FLAG...
    local folder=$1
    shift
    ${exec-} "$rmas" train outer --system "$work/tiny/chain" --data "$work/rows.jsonl" --held_out 2 --eval_every 2 --save_steps 1 --max_steps 8 --latent_length 2 \
        --num_recursive_rounds 2 --threads 1 --log_every 0 --save_dir "$folder" "$@"
}

RANDOM=${SEED:-20261130}
train "$work/whole" >/dev/null 2>"$work/err" || note "the whole run: $(cat "$work/err")"
kills=0
for _ in $(seq 30); do
    exec=exec train "$work/part" --resume >/dev/null 2>&1 & # the process itself, no shell around it
    want=$(($(wc -l 2>/dev/null <"$work/part/log.jsonl" || echo 0) + RANDOM % 4))
    while [ -e "/proc/$!/cwd" ] && [ "$(wc -l 2>/dev/null <"$work/part/log.jsonl" || echo 0)" -lt "$want" ]; do sleep 0.005; done
    { kill -9 $! && wait $!; } 2>/dev/null
    [ $? = 137 ] && kills=$((kills + 1)) || break
done
echo "killed $kills times"
[ "$kills" -gt 0 ] || note "never killed: the run is too short for this test"
train "$work/part" --resume >/dev/null 2>"$work/err" || note "resuming: $(cat "$work/err")"
find "$work/part" -name '*.tmp.*' -delete
diff -r "$work/whole" "$work/part" >"$work/out" || note "resumed: $(head -3 "$work/out")"

# ended by a signal in the middle of a step, and killed where only time makes it write its state
long=(--save_steps 0 --max_steps 60)
train "$work/long" "${long[@]}" >/dev/null 2>"$work/err" || note "a long run: $(cat "$work/err")"
for way in "TERM 143" "INT 130" "KILL 137 --save_minutes 1e-9"; do
    read -r signal status more <<<"$way"
    # shellcheck disable=SC2086
    exec=exec train "$work/$signal" "${long[@]}" $more >/dev/null 2>"$work/err" &
    while [ -e "/proc/$!/cwd" ] && [ "$(wc -l 2>/dev/null <"$work/$signal/log.jsonl" || echo 0)" -lt 5 ]; do sleep 0.005; done
    { kill -$signal $! && wait $!; } 2>/dev/null
    [ $? = "$status" ] || note "$signal: another status, $(cat "$work/err")"
    [ $signal = KILL ] || grep -q "interrupted after step [0-9]* of 60; --resume goes on" "$work/err" || note "$signal: $(cat "$work/err")"
    train "$work/$signal" "${long[@]}" --resume >/dev/null 2>"$work/err" || note "after $signal: $(cat "$work/err")"
    grep -q "going on after step [1-9]" "$work/err" || note "after $signal: $(cat "$work/err")"
    find "$work/$signal" -name '*.tmp.*' -delete
    diff -r "$work/long" "$work/$signal" >"$work/out" || note "resumed after $signal: $(head -3 "$work/out")"
done

# a folder into which another process writes is left alone
python3 -c 'import fcntl, os, sys, time; f = os.open(sys.argv[1], os.O_RDONLY); fcntl.flock(f, fcntl.LOCK_EX); print("held", flush=True); time.sleep(60)' \
    "$work/whole" >"$work/held" &
until [ -s "$work/held" ]; do sleep 0.01; done
train "$work/whole" --resume >/dev/null 2>"$work/err" && note "two runs in one folder"
grep -q "another run is writing" "$work/err" || note "two runs in one folder: $(cat "$work/err")"
{ kill $! && wait $!; } 2>/dev/null

# what a run may not go on with: other prompts, rows, models, inner links; another day is fine, where prompts do not say which it is
inner() { # FLAG...
    "$rmas" train inner --system "$work/tiny/chain" --role planner --data "$work/rows.jsonl" --max_steps 2 --threads 1 --save_dir "$work/inner" "$@"
}
goes_on() { # WHAT COMMAND...
    local what=$1
    shift
    "$@" --resume >/dev/null 2>"$work/err" || note "$what: $(cat "$work/err")"
}
stops() { # WHAT PATTERN COMMAND...
    local what=$1 pattern=$2
    shift 2
    "$@" --resume >/dev/null 2>"$work/err" && note "$what is taken"
    grep -q "$pattern" "$work/err" || note "$what: $(cat "$work/err")"
}
other_bits() { # FILE.safetensors
    python3 -c 'import sys
b = bytearray(open(sys.argv[1], "rb").read())
for i in range(8 + int.from_bytes(b[:8], "little"), len(b), 4): b[i] ^= 1
open(sys.argv[1], "wb").write(b)' "$1"
}
rows="samples are not those of the run" frozen="a model or a frozen inner link is not the one of the run"
inner >/dev/null 2>"$work/err" || note "inner loop: $(cat "$work/err")"
cp -r "$work/inner" "$work/planner" # a frozen inner link that is a file
linked=(train "$work/linked" --ckpt_override "planner/inner=$work/planner")
"${linked[@]}" >/dev/null 2>"$work/err" || note "a run with an inner link: $(cat "$work/err")"
goes_on "another day" train "$work/part" --date 2001-02-03
goes_on "the same model by another name" train "$work/part" --ckpt_override "critic=$work/tiny/small"
goes_on "the same inner link" "${linked[@]}"
stops "other prompts" "$rows" train "$work/part" --solver_pre_question 1
rm "$work/planner"/*.pt
stops "another inner link, by name" "$frozen" train "$work/part" --ckpt_override "planner/inner=$work/planner"
other_bits "$work/planner/adapter.safetensors"
stops "another inner link" "$frozen" "${linked[@]}"
sed -i 's/"init_seed": 1/"init_seed": 2/' "$work/tiny/chain/system.json"
stops "other inner links from a seed" "$frozen" train "$work/part"
sed -i 's/"init_seed": 2/"init_seed": 1/' "$work/tiny/chain/system.json"
cp -r "$work/tiny" "$work/kept"
other_bits "$work/tiny/large/model.safetensors"
other_bits "$work/tiny/small/model.safetensors"
stops "another model" "$frozen" train "$work/part"
stops "another model, inner loop" "$frozen" inner
rm -r "$work/tiny" && mv "$work/kept" "$work/tiny"
goes_on "the same model" train "$work/part"
write_rows "Take the sum." >"$work/rows.jsonl"
stops "other rows" "$rows" train "$work/part"
stops "other rows, inner loop" "$rows" inner
python3 -c 'import json, sys
o = json.load(open(sys.argv[1]))
del o["samples"], o["frozen"]
json.dump(o, open(sys.argv[1], "w"))' "$work/part/train_args.json"
goes_on "a folder of a version without fingerprints" train "$work/part"

# gradients against differences of the loss, through all rounds
"$rmas" train check --system "$work/tiny/chain" --data "$work/rows.jsonl" >"$work/out" 2>&1 || note "train check: $(tail -2 "$work/out")"
[ "$(grep -c 'differences are off by [0-9.]*e-0[4-9]' "$work/out")" -ge 1 ] || note "train check: $(cat "$work/out")"

python3 -c 'import json, sys
for e in map(json.loads, open(sys.argv[1])):
    if "held_out_loss" not in e: continue
    rows, mean = e["held_out_rollout_ce_by_row"], e["held_out_rollout_ce"]
    assert len(set(e["held_out_rows"])) == len(rows) == 2 and all(len(r) == 2 for r in rows), e
    assert all(abs(sum(r[k] for r in rows) / 2 - mean[k]) < 1e-9 for k in range(2)), e' "$work/whole/log.jsonl" 2>"$work/err" || note "held-out rows: $(tail -1 "$work/err")"

# the curves of a log; PNG by a program that may be missing, here one of our own
"$rmas" plot "$work/whole" -o "$work/plot.svg" 2>"$work/err" || note "plot: $(cat "$work/err")"
python3 -c 'import sys, xml.dom.minidom as xml
svg = xml.parse(sys.argv[1])
texts = {t.firstChild.data for t in svg.getElementsByTagName("text")}
assert {"loss", "held-out loss", "outer_12", "outer_31"} <= texts, texts
assert len(svg.getElementsByTagName("polyline")) >= 4 and len(svg.getElementsByTagName("circle")) >= 5' "$work/plot.svg" 2>"$work/err" || note "plot: $(tail -1 "$work/err")"
mkdir "$work/bin"
refuses "no program for PNG" "rsvg-convert \(Debian: librsvg2-bin\)" env PATH="$work/bin" "$rmas" plot "$work/whole" -o "$work/plot.png"
printf '#!/bin/sh\nread -r first\necho "$first" >"$2"\ncase $2 in *bad*) exit 1;; esac\n' >"$work/bin/rsvg-convert"
chmod +x "$work/bin/rsvg-convert"
PATH="$work/bin" "$rmas" plot "$work/whole" -o "$work/plot.png" 2>"$work/err" || note "PNG: $(cat "$work/err")"
grep -q '^<svg' "$work/plot.png" || note "PNG: the program was not given the picture"
refuses "a PNG that fails" "could not write it" env PATH="$work/bin" "$rmas" plot "$work/whole" -o "$work/bad.png"
[ -z "$(find "$work" -maxdepth 1 -name '*.png.*' -o -maxdepth 1 -name 'bad*')" ] || note "a PNG that fails leaves something"

# gold states: with a probe, which looks at all of them, the numbers are those without, where what is not sent is not computed
for probe in "" "--probe=$work/probed"; do
    # shellcheck disable=SC2086
    train "$work/gold" --recipe reference --max_latent_tokens 2 --max_steps 3 $probe >/dev/null 2>"$work/err" || note "gold states${probe:+, probe}: $(cat "$work/err")"
done
python3 -c 'import json, sys
logs = [[e for e in map(json.loads, open(f"{sys.argv[1]}/{x}")) if "norm_by_round" in e] for x in ("gold/log.jsonl", "probed/steps.jsonl")]
assert len(logs[0]) == len(logs[1]) == 3, logs
for plain, probed in zip(*logs):
    sent = [t["length"] - t["prompt_len"] for row in probed["stages"] for t in row if t["role"] != "solver"]
    assert max(sent) > 2, sent
    for key in ("rows", "ce", "loss", "norm", "norm_by_round"): assert plain[key] == probed[key], (key, plain, probed)' "$work" 2>"$work/err" || note "gold states: $(tail -1 "$work/err")"

# a limit of the messages' gradients: a high one changes nothing, a low one they follow
for limit in 0 1e9 1e-6 2e-6; do
    train "$work/limit $limit" --max_steps 2 --outer_lr 0 --max_message_grad $limit >/dev/null 2>"$work/err" || note "limit $limit: $(cat "$work/err")"
done
python3 -c 'import json, sys
logs = [[json.loads(l) for l in open(f"{sys.argv[1]}/limit {x}/log.jsonl")] for x in ("0", "1e9", "1e-6", "2e-6")]
for none, high, low, twice in zip(*logs):
    if "norm_by_round" not in none: continue
    assert high.pop("limited_messages") == 0, high
    assert none == high, (none, high)
    assert low["limited_messages"] == twice["limited_messages"] >= 4, low # what the solver reads, of two samples in two rounds
    for link, norms in low["norm_by_round"].items():
        for a, b, c in zip(norms, twice["norm_by_round"][link], none["norm_by_round"][link]):
            assert abs(b - 2 * a) <= 1e-5 * b and b <= c, (link, a, b, c)' "$work" 2>"$work/err" || note "limits of messages: $(tail -1 "$work/err")"

# with quantised weights, whose gradients are approximate: the same links with any number of threads and any limit of memory
"$rmas" quantize "$work/tiny/wide" "$work/tiny/wide.gguf" --type q8_0 >/dev/null || note "quantize"
for i in 1 2 3 4 5 6; do
    echo "{\"question\": \"How many are $i and $i, and as many once more?\", \"distill_expert\": \"We add $i and $i.\", \"answer\": \"$((4 * i))\"}"
done >"$work/expert.jsonl"
for way in "--threads 1" "--threads 3" "--threads 2 --memory_limit 0.006"; do
    # shellcheck disable=SC2086
    "$rmas" train outer --system "$work/tiny/packed" --data "$work/expert.jsonl" --max_steps 2 --batch_size 3 --latent_length 5 --num_recursive_rounds 2 \
        --log_every 0 --save_dir "$work/packed ${way##* }" $way >/dev/null 2>"$work/err" || note "quantised, $way: $(cat "$work/err")"
    for link in outer_el outer_le; do
        cmp "$work/packed 1/$link.pt" "$work/packed ${way##* }/$link.pt" || note "quantised: $way gives another $link"
    done
done

refused() { # WHAT PATTERN FLAG...
    local what=$1 pattern=$2
    shift 2
    train "$work/none" "$@" >/dev/null 2>"$work/err" && note "$what is taken"
    grep -qE -- "$pattern" "$work/err" || note "$what: $(cat "$work/err")"
}
refused "a run without a step" "6 rows in 1 epochs make no step of 8 rows" --max_steps -1 --grad_accum_steps 4
refused "a negative rate" "must not be negative" --outer_lr -1
refused "a negative limit" "must not be negative" --max_message_grad -1
refused "a negative decay" "must not be negative" --weight_decay -0.1
exit $bad
