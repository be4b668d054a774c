#!/usr/bin/env bash
# Fuzzes the readers of foreign files under ASan and UBSan: tests/fuzz/run.sh [SECONDS | --runs N] [TARGET...]
# Every target runs for SECONDS (default 60), or until N inputs have been executed. The corpus grows in build-fuzz/corpus; inputs that
# crash stay in build-fuzz/found. Exit status 1 if there are any.
set -u
cd "$(dirname "$0")/../.."
limit=-max_total_time=60
if [ "${1:-}" = --runs ]; then
    limit=-runs=$2
    shift 2
elif [[ "${1:-}" =~ ^[0-9]+$ ]]; then
    limit=-max_total_time=$1
    shift
fi
[ $# -gt 0 ] || set -- safetensors gguf pt json config tokenizer text template prompts grade model system
if [ ! -d build-fuzz ]; then
    CC=clang meson setup build-fuzz -Dfuzz=true --buildtype=plain -Db_sanitize=address,undefined -Db_lundef=false \
        -Dc_args="-O1 -g -fsanitize=fuzzer-no-link" >/dev/null || exit 1
fi
ninja -j2 -C build-fuzz $(printf 'tests/fuzz/fuzz_%s ' "$@") >/dev/null || exit 1
# Freed memory is kept from reuse up to 16 MB, far more than one input frees; the default of 256 MB only misses the caches.
export ASAN_OPTIONS=quarantine_size_mb=16:malloc_context_size=2 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
bad=0
for t in "$@"; do
    mkdir -p "build-fuzz/corpus/$t" "build-fuzz/found/$t"
    # Weighing inputs by rare features costs more time than the fuzzed function where these are many.
    case $t in
        safetensors | gguf | pt | model | system) how="-max_len=16384" ;;
        text | prompts) how="-max_len=512 -entropic=0" ;;
        *) how="-max_len=4096 -entropic=0" ;;
    esac
    dict=tests/fuzz/$t.dict
    start=$SECONDS
    nice "build-fuzz/tests/fuzz/fuzz_$t" "$limit" $how -timeout=60 -rss_limit_mb=2048 -malloc_limit_mb=256 -print_final_stats=1 \
        -artifact_prefix="build-fuzz/found/$t/" $([ -f "$dict" ] && echo "-dict=$dict") "build-fuzz/corpus/$t" "tests/fuzz/seeds/$t" >"build-fuzz/$t.log" 2>&1
    status=$?
    inputs=$(sed -n 's/^stat::number_of_executed_units: *//p' "build-fuzz/$t.log")
    cover=$(grep -o 'cov: [0-9]*' "build-fuzz/$t.log" | tail -n 1)
    if [ $status = 0 ]; then
        echo "fuzz_$t: $inputs inputs in $((SECONDS - start)) s, $cover, nothing found"
    else
        bad=1
        echo "fuzz_$t: FOUND something, see build-fuzz/$t.log and build-fuzz/found/$t"
        grep -E 'ERROR|runtime error|SUMMARY' "build-fuzz/$t.log" | head -n 3
    fi
done
exit $bad
