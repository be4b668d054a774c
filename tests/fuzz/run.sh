#!/usr/bin/env bash
# Fuzzes every reader of foreign files for SECONDS each (default 60) under ASan and UBSan: tests/fuzz/run.sh [SECONDS] [TARGET...]
# The corpus grows in build-fuzz/corpus; crashing inputs stay in build-fuzz/found. Exit status 1 if there are any.
set -u
cd "$(dirname "$0")/../.."
seconds=${1:-60}
shift || true
[ $# -gt 0 ] || set -- safetensors gguf pt json config tokenizer template prompts grade
if [ ! -d build-fuzz ]; then
    CC=clang meson setup build-fuzz -Dfuzz=true --buildtype=plain -Db_sanitize=address,undefined -Db_lundef=false \
        -Dc_args="-O1 -g -fsanitize=fuzzer-no-link" >/dev/null || exit 1
fi
ninja -C build-fuzz $(printf 'tests/fuzz/fuzz_%s ' "$@") >/dev/null || exit 1
bad=0
for t in "$@"; do
    mkdir -p "build-fuzz/corpus/$t" "build-fuzz/found/$t"
    dict=tests/fuzz/$t.dict
    UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 nice "build-fuzz/tests/fuzz/fuzz_$t" -max_total_time="$seconds" -max_len=16384 -timeout=30 \
        -rss_limit_mb=2048 -malloc_limit_mb=256 -print_final_stats=1 -artifact_prefix="build-fuzz/found/$t/" $([ -f "$dict" ] && echo "-dict=$dict") \
        "build-fuzz/corpus/$t" "tests/fuzz/seeds/$t" >"build-fuzz/$t.log" 2>&1
    status=$?
    inputs=$(sed -n 's/^stat::number_of_executed_units: *//p' "build-fuzz/$t.log")
    cover=$(grep -o 'cov: [0-9]*' "build-fuzz/$t.log" | tail -n 1)
    if [ $status = 0 ]; then
        echo "fuzz_$t: $inputs inputs in $seconds s, $cover, nothing found"
    else
        bad=1
        echo "fuzz_$t: FOUND something, see build-fuzz/$t.log and build-fuzz/found/$t"
        grep -E 'ERROR|runtime error|SUMMARY' "build-fuzz/$t.log" | head -n 3
    fi
done
exit $bad
