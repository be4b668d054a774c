#!/usr/bin/env bash
# rmas data make with a tiny random model that stands in for every role: which rows are kept, going on after kill -9, errors.
. "$(dirname "$0")/lib.bash"

refused() { # WHAT PATTERN COMMAND...
    local what=$1 pattern=$2
    shift 2
    "$@" >"$work/out" 2>"$work/err"
    [ $? = 1 ] || note "$what: status is not 1"
    grep -q -e "$pattern" "$work/err" || note "$what: $(cat "$work/err")"
}

# The model's words: letters for the prompts, and boxed digits, so that some of its random texts hold an answer.
cp -r "$here/fixtures/models/llama" "$work/model"
python3 - "$work" <<'PY'
import json, sys
work = sys.argv[1]
vocab = {c: i for i, c in enumerate("abcdefghijklmnopqrstuvwxyz\u0120\u010a.?")}
added = [{"id": 30, "content": "<s>", "special": True}, {"id": 31, "content": "</s>", "special": True}]
added += [{"id": 32 + i, "content": "\\boxed{%d} " % (i % 2), "special": False} for i in range(16)]
for a in added:
    a.update(single_word=False, lstrip=False, rstrip=False, normalized=False)
    a["content"] = a["content"] if a["special"] else a["content"] + " " * (a["id"] // 36)
json.dump({"version": "1.0", "added_tokens": added, "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
           "decoder": {"type": "ByteLevel"}, "model": {"type": "BPE", "vocab": vocab, "merges": []}}, open(f"{work}/model/tokenizer.json", "w"))
json.dump({"eos_token": "</s>", "chat_template": "{% for m in messages %}<s>{{ m.content }}</s>{% endfor %}{% if add_generation_prompt %}<s>{% endif %}"},
          open(f"{work}/model/tokenizer_config.json", "w"))
with open(f"{work}/questions.jsonl", "w") as f:
    for i in range(24):
        f.write(json.dumps({"question": f"how many {'abcdefghijklmnopqrstuvwx'[i]}?", "answer": f"first <<1+1={i % 2}>>{i % 2}\n#### {i % 2}"}) + "\n")
PY
make() { # NAME OPTIONS...
    local name=$1
    shift
    ${exec:-} "$rmas" data make --system "$here/../systems/nano-sequential" --generator "$work/model" --data "$work/questions.jsonl" --out "$work/$name.jsonl" \
        --max_new_tokens 24 --temperature 1 --quiet --threads 1 "$@"
}

make a --attempts 3 >"$work/out" 2>"$work/err" || note "data make: $(cat "$work/err")"
python3 - "$work/a.jsonl" <<'PY' || note "rows of kept answers"
import json, re, sys
rows = [json.loads(line) for line in open(sys.argv[1])]
tries = {k: {r["sample_idx"]: r for r in map(json.loads, open(f"{sys.argv[1]}.{k}")) if "question" in r} for k in (1, 2, 3)}
assert 3 <= len(rows) < 24, len(rows)
assert [r["sample_idx"] for r in rows] == sorted(r["sample_idx"] for r in rows)
assert len({r["attempt"] for r in rows}) > 1
for r in rows:
    line = tries[r["attempt"]][r["sample_idx"]]
    assert line["strict_correct"] and r["strict_correct"] and r["question"] == line["question"]
    assert r["plan"] == line["said"]["planner"].strip() and r["refined_plan"] == line["said"]["critic"].strip() and r["answer"] == line["raw_output"].strip()
    assert r["plan"] and r["refined_plan"] and r["sample_idx"] not in tries.get(r["attempt"] + 1, {})
dropped = set(range(24)) - {r["sample_idx"] for r in rows}
assert all(not t[i]["strict_correct"] for i in dropped for t in tries.values())
PY
grep -q "dropped" "$work/err" || note "no summary: $(cat "$work/err")"

make all --keep all --gold_answer --batch_size 5 >/dev/null 2>"$work/err" || note "--keep all: $(cat "$work/err")"
python3 - "$work/all.jsonl" <<'PY' || note "rows with the data's own answers"
import json, sys
rows = [json.loads(line) for line in open(sys.argv[1])]
assert len(rows) >= 16, len(rows)
for r in rows:
    n = r["sample_idx"] % 2
    assert r["answer"] == "first %d\nThe answer is \\boxed{%d}." % (n, n), r
PY

# killed at any time and gone on with: the same file
exec=exec make b --attempts 3 --batch_size 2 >/dev/null 2>&1 & # the process itself, no shell around it
pid=$!
for _ in $(seq 100); do
    [ "$(cat "$work"/b.jsonl.* 2>/dev/null | wc -l)" -ge 3 ] && break
    sleep 0.02
done
kill -9 "$pid" 2>/dev/null
wait "$pid" 2>/dev/null >&2
[ -f "$work/b.jsonl" ] && echo "note: the run was over before it was killed"
printf '{"sample_idx": 1, "dat' >>"$work/b.jsonl.1" # a line that was being written
make b --attempts 3 --resume >/dev/null 2>"$work/err" || note "--resume: $(cat "$work/err")"
for f in "" .1 .2 .3; do cmp "$work/a.jsonl$f" "$work/b.jsonl$f" || note "an interrupted run gives other rows$f"; done
make b --attempts 3 --resume >/dev/null 2>&1 && cmp "$work/a.jsonl" "$work/b.jsonl" || note "--resume of a whole run"

# the other styles' columns
for s in mixture:hie_math_expert:hie_summarizer distillation:distill_expert:distill_learner deliberation:deliberation_reflector:deliberation_toolcaller; do
    IFS=: read -r style sender answer <<<"$s"
    "$rmas" data make --system "$here/../systems/nano-$style" --generator "$work/model" --data "$work/questions.jsonl" --out "$work/$style.jsonl" \
        --max_new_tokens 8 --num_samples 4 --keep all --quiet >/dev/null 2>"$work/err" || note "$style: $(cat "$work/err")"
    python3 -c 'import json, sys
r = json.loads(open(sys.argv[1]).readline())
assert r[sys.argv[2]] and r[sys.argv[3]] == r["answer"], r' "$work/$style.jsonl" "$sender" "$answer" || note "columns of $style"
done

echo "{\"question\": \"why?\"}" >"$work/noanswer.jsonl"
# the rows train links; types of single links by the reference's flags
train() {
    "$rmas" train outer --system "$here/../systems/nano-sequential" --data "$work/all.jsonl" --max_steps 1 --latent_length 2 --num_recursive_rounds 1 --threads 1 \
        --ckpt_override planner="$work/model" --ckpt_override critic="$work/model" --ckpt_override solver="$work/model" --init random --save_dir "$work/links" "$@"
}
train --outer_12_type outer_linear_adapter --link_type outer_31=outer_res_adapter --dataset_split test >"$work/out" 2>&1 || note "train outer: $(cat "$work/out")"
grep -q "a local file has no splits" "$work/out" || note "--dataset_split says nothing"
python3 -c 'import json, sys
types = [a["adapter_type"] for a in json.load(open(sys.argv[1]))["adapters"]]
assert types == ["outer_linear_adapter", "outer_ln_res_adapter", "outer_res_adapter"], types' "$work/links/outerlink_config.json" || note "types of links"
refused "a link of another style" "has no link outer_rt" train --outer_rt_type outer_adapter
refused "a type that is none" "unknown link type" train --outer_12_type outer_great_adapter

refused "overwriting" "exists already; --resume" make a
refused "other settings" "made with other settings" make b --resume --seed 7
refused "no answers" "no field .answer." make c --data "$work/noanswer.jsonl"
refused "attempts without sampling" "every attempt would write the same" make c --attempts 2 --temperature 0
refused "unknown word" "there are right and all" make c --keep some
refused "no rows file" "--out FILE is needed" "$rmas" data make --system "$here/../systems/nano-sequential" --data "$work/questions.jsonl"
refused "no data" "--data FILE is needed" "$rmas" data make --system "$here/../systems/nano-sequential" --out "$work/c.jsonl"
refused "no command" "usage: rmas data make" "$rmas" data
exit "$bad"
