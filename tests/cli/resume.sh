#!/usr/bin/env bash
# A run that is killed again and again, whose results file is cut anywhere, or whose disk is full: with --resume its file becomes
# that of an unbroken run, byte for byte. Greedy and sampled.
. "$(dirname "$0")/lib.bash"
python3 "$here/cli/tiny.py" "$work/tiny" || exit 1

run() { # FILE FLAG...
    local file=$1
    shift
    ${exec-} "$rmas" run --system "$work/tiny/chain" --dataset gsm8k --dataset_path "$work/tiny/questions.jsonl" --batch_size 5 --threads 1 --quiet \
        --result_jsonl "$file" "$@"
}

resumed() { # WHAT FILE WHOLE FLAG...
    local what=$1 file=$2 whole=$3
    shift 3
    run "$file" --resume "$@" >/dev/null 2>"$work/err" || note "$what: $(cat "$work/err")"
    cmp -s "$file" "$whole" || note "$what: the file is not that of an unbroken run"
}

RANDOM=${SEED:-20261122}
for flags in "--temperature 0" "--temperature 0.9 --num_rollouts 2 --seed 7"; do
    whole=$work/whole.jsonl part=$work/part.jsonl
    rm -f "$whole" "$part"
    run "$whole" $flags >/dev/null 2>&1 || note "the whole run"
    [ "$(wc -l <"$whole")" = 25 ] || note "not 24 results and a summary"

    kills=0
    for _ in $(seq 60); do
        exec=exec run "$part" --resume $flags >/dev/null 2>&1 & # the process itself, no shell around it
        want=$(($(wc -l 2>/dev/null <"$part" || echo 0) + RANDOM % 4))
        while [ -e "/proc/$!/cwd" ] && [ "$(wc -l 2>/dev/null <"$part" || echo 0)" -lt "$want" ]; do sleep 0.005; done
        { kill -9 $! && wait $!; } 2>/dev/null
        [ $? = 137 ] && kills=$((kills + 1)) || break
    done
    lines=$(grep -c . "$part" 2>/dev/null)
    echo "$flags: killed $kills times, ${lines:-0} lines then"
    [ "$kills" -gt 0 ] || note "never killed: the run is too short for this test"
    resumed "killed" "$part" "$whole" $flags

    size=$(wc -c <"$whole")
    for _ in 1 2 3 4 5 6; do
        cut=$(((RANDOM * 32768 + RANDOM) % size))
        head -c "$cut" "$whole" >"$part"
        resumed "cut after $cut bytes" "$part" "$whole" $flags
    done
done

# a file into which another process writes is left alone; two runs that begin together do not write over one another
python3 -c 'import fcntl, os, sys, time; f = os.open(sys.argv[1], os.O_RDONLY); fcntl.flock(f, fcntl.LOCK_EX); print("held", flush=True); time.sleep(60)' \
    "$part" >"$work/held" &
until [ -s "$work/held" ]; do sleep 0.01; done
cp "$part" "$work/before"
run "$part" --resume $flags >/dev/null 2>"$work/err" && note "two runs into one file"
grep -q "another run is writing into this file" "$work/err" || note "two runs into one file: $(cat "$work/err")"
cmp -s "$part" "$work/before" || note "two runs into one file: it is changed"
{ kill $! && wait $!; } 2>/dev/null
for _ in 1 2 3 4 5; do
    rm -f "$part"
    run "$part" $flags >/dev/null 2>&1 &
    first=$!
    run "$part" $flags >/dev/null 2>&1 && second=ran || second=refused
    wait $first && first=ran || first=refused
    [ "$first$second" = ranrefused ] || [ "$first$second" = refusedran ] || note "begun together: $first and $second"
    cmp -s "$part" "$whole" || note "begun together: the file is not that of one run"
done

# a full disk
rm -f "$part"
(ulimit -f 8 && run "$part" --temperature 0.9 --num_rollouts 2 --seed 7) >/dev/null 2>"$work/err"
[ $? = 1 ] || note "full disk: status is not 1"
grep -q "cannot write: File too large; the [0-9]* results before are there, --resume goes on" "$work/err" || note "full disk: $(cat "$work/err")"
tail -c 1 "$part" | od -c | grep -q '\\n' || note "full disk: half a line is left"
resumed "full disk" "$part" "$whole" --temperature 0.9 --num_rollouts 2 --seed 7

# a model may write NULs
grep -q 'u0000' "$whole" || note "no NUL in a result: another seed is needed for this test"

# through a link: what it points to is written, the link stays
rm -f "$part"
ln -s part.jsonl "$work/link.jsonl"
resumed "link" "$work/link.jsonl" "$whole" --temperature 0.9 --num_rollouts 2 --seed 7
[ -L "$work/link.jsonl" ] && cmp -s "$part" "$whole" || note "link: replaced by a file"

# what cannot be resumed
run "$part" --resume --temperature 0.5 >/dev/null 2>"$work/err" && note "other settings are taken"
grep -q "other settings" "$work/err" || note "other settings: $(cat "$work/err")"
run "$part" --temperature 0.9 >/dev/null 2>"$work/err" && note "a file that is there is overwritten"
grep -q "exists already" "$work/err" || note "exists: $(cat "$work/err")"
ls "$work" | grep -q 'tmp\.[0-9]*$' && echo "note: temporary files of killed runs: $(ls "$work" | grep -c 'tmp\.')"
exit $bad
