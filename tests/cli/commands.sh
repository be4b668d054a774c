#!/usr/bin/env bash
# generate, prompts, template, tokenize, resolve and run from the outside: what they print, what they refuse, in one line, and with
# which exit status.
. "$(dirname "$0")/lib.bash"
unset RMAS_MODELS RMAS_DATA RMAS_PYTHON
export HF_HOME=$work/no-hub HOME=$work/no-home
python3 "$here/cli/tiny.py" "$work/tiny" && cd "$work/tiny" || exit 1

# every command has help that names it
for c in $("$rmas" --help | sed -n 's/^  \([a-z]*\) .*/\1/p'); do says "$c --help" "^usage: rmas $c" "$rmas" "$c" --help; done
refuses "unknown command" "unknown command 'walk'" "$rmas" walk
[ -c /dev/full ] && { "$rmas" run --help >/dev/full 2>"$work/err" && note "a full standard output is no error"; grep -q "No space left" "$work/err" || note "full output"; }

# generate: repeatable by its seed, the same for any number of threads
"$rmas" generate small "hello" --max_new_tokens 40 --seed 3 --quiet >"$work/a" 2>/dev/null || note "generate"
echo hello | "$rmas" generate small --max_new_tokens 40 --seed=3 --threads 1 --quiet 2>/dev/null | diff -q - "$work/a" >/dev/null && note "the line break of the prompt is lost"
printf hello | "$rmas" generate small --max-new-tokens=40 --seed 3 --threads 1 --quiet 2>/dev/null | cmp -s - "$work/a" || note "generate from standard input, one thread"
"$rmas" generate small "hello" --max_new_tokens 40 --seed 4 --quiet 2>/dev/null | cmp -s - "$work/a" && note "the seed has no effect"
tr -d '\000' <"$work/a" | cmp -s - "$work/a" && note "the text for the terminal has no control characters to begin with"
python3 - "$rmas" >"$work/out" <<'E' || note "generate on a terminal"
import os, pty, subprocess, sys
terminal, end = pty.openpty()
command = [sys.argv[1], "generate", "small", "hello", "--max_new_tokens", "40", "--seed", "3", "--quiet"]
child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=end, stderr=subprocess.DEVNULL)
os.close(end)
try:
    while part := os.read(terminal, 4096):
        sys.stdout.buffer.write(part)
except OSError:  # how a terminal ends
    pass
sys.exit(child.wait())
E
tr -d '\000' <"$work/a" | cmp -s - <(tr -d '\r' <"$work/out") || note "control characters go to the terminal"
refuses "no model" "none: no such file or folder" "$rmas" generate none x
refuses "prompt twice" "one of them" "$rmas" generate small x --file y
refuses "not UTF-8" "not UTF-8" "$rmas" generate small "$(printf 'a\377')"
refuses "not a number" "'warm' is not a number" "$rmas" generate small x --temperature warm
refuses "unknown option" "unknown option '--tmperature'" "$rmas" generate small x --tmperature 1

# template and tokens
says "template" "^<.start.>system$" "$rmas" template small x --system "be brief"
says "template lines" '^\{"text":"<.start.>user\\nx<.end.>\\n<.start.>assistant\\n"\}$' \
    "$rmas" template small --jsonl <<<'{"messages": [{"role": "user", "content": "x"}], "add_generation_prompt": true}'
says "template source" "for m in messages" "$rmas" template small --source
says "tokenize" '^ +67 +"c"$' "$rmas" tokenize small "ab c"
says "detokenize" "^ab c$" "$rmas" detokenize small 65 66 0 67

# prompts
says "prompts list" "^sequential/critic" "$rmas" prompts list
says "prompts show" "four.*\\+|7 and 8" "$rmas" prompts show sequential planner --question "7 and 8"
refuses "no such role" "tried: sequential/nobody/math, sequential/nobody" "$rmas" prompts show sequential nobody
printf 'rmas-prompts 1\n\n=== a\nx\n=== a\ny\n' >pack
refuses "bad pack" "pack: line 5: E_DUPLICATE" "$rmas" prompts --check pack

# resolve: all that is missing, in one line
says "resolve" '"shares_weights_with": "planner"' "$rmas" resolve chain
refuses "missing parts" "planner \(RecursiveMAS/Sequential-Light-Planner-Qwen3-1.7B\); critic \(.*\); solver \(.*\); outer \(RecursiveMAS/Sequential-Light-Outerlinks\)" \
    "$rmas" resolve sequential_light
refuses "missing parts of a run" "math .*; code .*; science .*; summarizer .*; outer " "$rmas" run --style mixture -q x --quiet
refuses "unknown system" "no-such" "$rmas" resolve no-such
mkdir broken
printf '{"rmas_system": 1, "name": "b", "style": "deliberation", "agents": {"reflector": {"model": "../small"}, "toolcaler": {"model": "../small"}}}' >broken/system.json
refuses "misspelt role" "toolcaler" "$rmas" resolve broken

# -1 stands for the default, given or not
printf '{"Question": "Which?", "Correct Answer": "one", "Incorrect Answer 1": "two", "Incorrect Answer 2": "three", "Incorrect Answer 3": "four"}\n' >gpqa.jsonl
for flags in "" "--choice_old_prompt -1" "--choice_old_prompt 2"; do
    "$rmas" run chain --dataset gpqa --dataset_path gpqa.jsonl --ans 0 --max_new_tokens 2 --record "said$flags" $flags --quiet >/dev/null 2>"$work/err" || note "gpqa $flags: $(cat "$work/err")"
    cmp -s "said$flags/000000.json" said/000000.json || note "gpqa $flags: another prompt"
done
rm -r said*
python3 -c 'print("{\"index\": 0, \"role\": \"solver\", \"text\": \"" + 500 * "a" + "\"}")' >long

# flags of the reference's scripts: accepted as there, or refused with the reason
refuses "another name" "it is --latent_length here" "$rmas" run chain -q x --latent_steps 3
refuses "no penalty" "repetition-penalty=1.0: there is none" "$rmas" run chain -q x --repetition-penalty=1.0
says "0|1 alone" "^--- question 0: x" "$rmas" run chain -q x --quiet --max_new_tokens 5 --enable_thinking --ans --seed 1
says "0|1 alone at the end" "^--- question 0: x" "$rmas" run chain -q x --quiet --max_new_tokens 5 --ans

# questions of files as editors leave them
printf '\357\273\277one\r\ntwo\r\n' >marked.txt
says "a byte order mark, text" "^--- question 0: one$" "$rmas" run chain --questions marked.txt --quiet --max_new_tokens 5
printf '\357\273\277{"question": "one", "answer": "#### 1"}\r\n' >marked.jsonl
says "a byte order mark, JSON lines" "^accuracy=.* \\(0/1\\)" "$rmas" run chain --dataset gsm8k --dataset_path marked.jsonl --quiet --max_new_tokens 5
printf 'one\0two\n' >binary.txt
refuses "a NUL in a text" "binary.txt: line 1: a NUL character" "$rmas" run chain --questions binary.txt --quiet

# a model where a system belongs
refuses "a model's folder" "small: no system.json in this folder; .*rmas generate" "$rmas" run small -q x
"$rmas" quantize small small.gguf --type f16 >/dev/null 2>&1
refuses "a model's file" "small.gguf: a model, not a system; .*rmas generate" "$rmas" run small.gguf -q x

# links that are named are used, or missed; init_seed does not hide a misspelt name
"$rmas" data make --system chain --data questions.jsonl --out rows.jsonl --keep all --num_samples 4 --quiet >/dev/null 2>&1 &&
    "$rmas" train inner --system chain --role planner --data rows.jsonl --save_dir trained --max_steps 1 >/dev/null 2>&1 || note "an inner link"
for link in trained trained/adapter.safetensors; do
    "$rmas" run chain -q x --quiet --ckpt_override planner/inner=$link >/dev/null 2>"$work/err" && grep -q "UNTRAINED: 5 of 6" "$work/err" || note "planner/inner=$link: $(cat "$work/err")"
done
"$rmas" train outer --system chain --data rows.jsonl --save_dir links --max_steps 1 --ckpt_override planner/inner=trained >/dev/null 2>"$work/err" || note "train outer"
grep -q "inner link of the planner" "$work/err" && note "train outer does not take the trained inner link"
refuses "a link in a model's place" "planner/inner=trained takes the link" "$rmas" run chain -q x --quiet --ckpt_override planner=trained
refuses "a link in a model's place" "planner/inner=trained takes the link" "$rmas" train outer --system chain --data rows.jsonl --save_dir no --ckpt_override planner=trained
refuses "a negative rate" "outer_lr -1: it must not be negative" "$rmas" train outer --system chain --data rows.jsonl --save_dir no --outer_lr -1
refuses "a link of nobody" "planer/inner=trained" "$rmas" run chain -q x --quiet --ckpt_override planer/inner=trained
refuses "no such link" "inner link of critic \\(none\\)" "$rmas" run chain -q x --quiet --ckpt_override critic/inner=none
mkdir misnamed
sed 's/"init_seed"/"outer_links": "lnks", "init_seed"/' chain/system.json >misnamed/system.json
refuses "no such folder of links" "lacks: outer \\(lnks\\)" "$rmas" run misnamed -q x --quiet

# run: a prompt that is longer than what the model was trained on is told of once, and computed
sed -i 's/"max_position_embeddings": 8192/"max_position_embeddings": 400/' large/config.json
"$rmas" run chain -q "$(printf '%0500d' 1)" -q "$(printf '%0500d' 2)" --quiet --max_new_tokens 2 --ans 0 >/dev/null 2>"$work/err" || note "a long question"
[ "$(grep -c "solver, whose model was trained on texts of 400" "$work/err")" = 1 ] || note "a long question: $(cat "$work/err")"
sed -i 's/"max_position_embeddings": 400/"max_position_embeddings": 8192/' large/config.json

# run: what is refused before anything is loaded
refuses "no questions" "no questions" "$rmas" run chain
refuses "unknown data set" "not a data set that rmas knows" "$rmas" run chain --dataset nope
refuses "no file" "RMAS_DATA" "$rmas" run chain --dataset math500
refuses "unknown tool" "there are python and search" "$rmas" run tools -q x --allow_tools perl
refuses "no interpreter" "no Python interpreter at /none" env RMAS_PYTHON=/none "$rmas" run tools -q x --allow_tools python
refuses "two systems" "give either --style NAME or --system DIR" "$rmas" run --style mixture --system chain -q x
refuses "batch" "must be 1 to 65536" "$rmas" run chain -q x --batch_size 0
refuses "tool time" "--python_timeout 0: it must be more than 0" "$rmas" run tools -q x --allow_tools python --python_timeout 0 --quiet
refuses "resume what" "--resume needs --result_jsonl" "$rmas" run chain -q x --resume
refuses "method" "--method telepathy" "$rmas" run chain -q x --method telepathy

for f in --temperature=-1 --top_p=-0.1 --min_p=1.5 --threads=-1 --top_k=-4294967297 --max_new_tokens=4294967297 --choice_old_prompt=4 --max_tool_rounds=-1; do
    refuses "$f" "${f%%=*} .*${f#*=}" "$rmas" run chain -q x --quiet "$f"
done
says "as many tokens as the data set asks for" "^question 0: .* \\[[1-9][0-9][0-9]+ tokens" \
    "$rmas" run chain --dataset gsm8k --dataset_path questions.jsonl --num_samples 1 --max_new_tokens -1 --replay long --ans 0

# run: signals
"$rmas" run chain --dataset gsm8k --dataset_path questions.jsonl --num_recursive_rounds 5000 --quiet >/dev/null 2>"$work/err" &
sleep 0.5
kill -TERM $!
wait $!
[ $? = 143 ] && grep -q "interrupted" "$work/err" || note "a terminated run: $(cat "$work/err")"

# run: all methods, tools that are not allowed, agents that say so
for m in latent text text_recursive single single_tools; do
    says "method $m" "^accuracy=.* \(.*/4\)" "$rmas" run chain --method $m --dataset gsm8k --dataset_path questions.jsonl --num_samples 4 --quiet
done
"$rmas" run tools -q x --max_new_tokens 5 >/dev/null 2>"$work/err" || note "run"
grep -q "none is allowed" "$work/err" && grep -q "UNTRAINED" "$work/err" || note "notes of a run: $(cat "$work/err")"
printf '%s\n' '{"index": 0, "role": "toolcaller", "text": "<python>print(6*7)</python>"}' '{"index": 0, "role": "toolcaller", "call": 1, "text": " so \\boxed{42}"}' >said
says "a call that is not allowed" "result> \[python is switched off in this run\] </result>" "$rmas" run tools -q x --quiet --replay said --show_text
if "$rmas" run tools -q x --quiet --replay said --show_text --allow_tools python >"$work/out" 2>"$work/err"; then
    grep -q "<result> 42 </result> so " "$work/out" || note "a call: $(cat "$work/out")"
else
    grep -q "no sandbox on this machine" "$work/err" || note "neither a sandbox nor a reason: $(cat "$work/err")"
fi

# run: programs are graded while the others are written, and all of them count
for i in 0 1 2 3; do echo '{"task_id": "'$i'", "prompt": "Write twice.", "code": "", "test_list": [], "test": "assert twice(2) == 4"}'; done >programs.jsonl
for i in 0 2; do printf '{"index": %d, "role": "solver", "text": "```python\\nimport time\\ntime.sleep(0.3)\\ndef twice(x):\\n    return 2 * x\\n```"}\n' $i; done >said
"$rmas" run chain --dataset mbppplus --dataset_path programs.jsonl --replay said --quiet --ans 0 --max_new_tokens 200 --result_jsonl graded.jsonl >"$work/out" 2>"$work/err" || note "programs: $(cat "$work/err")"
grep -q "programs were not run" "$work/err" || grep -q "^accuracy=50.00% (2/4)  strict=50.00% (2/4)" "$work/out" || note "programs: $(cat "$work/out")"
[ "$(wc -l <graded.jsonl)" = 5 ] || note "programs: not four results and a summary"
exit $bad
