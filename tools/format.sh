#!/bin/sh
# Formats the C files; with --check says which ones are not formatted.
cd "$(dirname "$0")/.." || exit 1
files=$(git ls-files '*.c' '*.h')
if [ "${1:-}" = --check ]; then
    clang-format --dry-run --Werror $files
else
    clang-format -i $files
fi
