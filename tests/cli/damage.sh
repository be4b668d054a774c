#!/usr/bin/env bash
# Files cut and changed in many places (see tests/damage.c): a few thousand of them, from the fixtures.
# More: tests/damage_sanitized --step 64 FILE|FOLDER..., of a build with -Dsanitizers=true.
set -u
here=$(cd "$(dirname "$0")/.." && pwd)
damage=$(dirname "${RMAS:-$here/../build/rmas}")/tests/damage
"$damage" --step 251 "$here"/fixtures/models/* "$here"/fixtures/weights/*.pt "$here"/fuzz/seeds/gguf/* "$here"/fuzz/bytelevel.json
