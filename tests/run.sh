#!/usr/bin/env bash
# Builds in release (warnings are errors) and runs every test; then the unit tests again under ASan and UBSan.
# Closes with "N passed, N failed, N skipped". RMAS_SHARED names the folder with the large golden values, if there is one.
set -u
cd "$(dirname "$0")/.."
passed=0 failed=0 skipped=0
check() { # NAME COMMAND...: one test
    local name=$1 log
    shift
    log=$(mktemp)
    if "$@" >"$log" 2>&1; then
        passed=$((passed + 1))
        echo "PASS $name"
    else
        failed=$((failed + 1))
        echo "FAIL $name"
        tail -n 30 "$log"
    fi
    rm -f "$log"
}
check "include arrows" python3 tools/check_arrows.py
check "format" tools/format.sh --check
[ -d build-ci ] || meson setup build-ci --buildtype=release --werror >/dev/null || exit 1
check "build, warnings are errors" ninja -C build-ci
[ -d build-asan ] || meson setup build-asan --buildtype=debugoptimized --werror -Db_sanitize=address,undefined -Db_lundef=false >/dev/null || exit 1
check "build with ASan and UBSan" ninja -C build-asan
for t in build-ci/tests/test_*; do
    [ -x "$t" ] && [ -f "$t" ] || continue
    n=$(basename "$t")
    check "$n" "$t"
    check "$n (sanitizers)" "build-asan/tests/$n"
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
