# What the tests of the command line share. rmas: the program; here: the folder tests; work: a folder that goes away at the end.
set -u
rmas=$(realpath "${RMAS:-build/rmas}")
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bad=0
note() {
    echo "FAIL $*"
    bad=1
}

says() { # WHAT PATTERN COMMAND...: status 0, standard output has the pattern
    local what=$1 pattern=$2
    shift 2
    "$@" >"$work/out" 2>"$work/err" || note "$what: $(cat "$work/err")"
    grep -qE -- "$pattern" "$work/out" || note "$what: $(head -c 400 "$work/out")"
}

refuses() { # WHAT PATTERN COMMAND...: status 1, one line on standard error has the pattern, nothing on standard output
    local what=$1 pattern=$2
    shift 2
    "$@" >"$work/out" 2>"$work/err" </dev/null
    [ $? = 1 ] || note "$what: status is not 1"
    [ "$(wc -l <"$work/err")" = 1 ] && grep -qE -- "$pattern" "$work/err" || note "$what: $(cat "$work/err")"
    [ -s "$work/out" ] && note "$what: prints something"
}
