#!/usr/bin/env bash
# Files cut and changed in many places (see tests/damage.c): a few thousand of them, from the fixtures.
# All of them: tests/damage --step 64 FILE|FOLDER..., built with -Db_sanitize=address,undefined.
set -u
here=$(cd "$(dirname "$0")/.." && pwd)
damage=$(dirname "${RMAS:-$here/../build/rmas}")/tests/damage
"$damage" --step 251 "$here"/fixtures/models/* "$here"/fixtures/weights/*.pt "$here"/fuzz/seeds/gguf/* "$here"/fuzz/bytelevel.json
