#!/usr/bin/env bash
# inspect, probe tensor and quantize from the outside: exit status, one line of error, nothing left behind.
. "$(dirname "$0")/lib.bash"

pt=$here/fixtures/weights/strided.pt
"$rmas" probe tensor "$pt" state_dict.a -o "$work/a.safetensors" || note "probe tensor"
"$rmas" inspect "$work/a.safetensors" --tensors | grep -q 'F32    \[6, 4\] value' || note "inspect of a tensor that was written"
"$rmas" inspect "$pt" --json | python3 -c 'import json, sys
o = json.load(sys.stdin)
assert o["kind"] == "tensors" and o["format"] == "PyTorch" and o["tensor_count"] == 5 and o["stored"]["F64"] == 8, o' || note "inspect --json"

refuses "unknown tensor" "no tensor 'w' among 5" "$rmas" probe tensor "$pt" w -o "$work/w"
[ -e "$work/w" ] && note "a file was left"
refuses "missing file" "cannot open" "$rmas" inspect "$work/none"
refuses "empty folder" "neither model.safetensors" "$rmas" inspect "$work"
head -c 1000 "$pt" >"$work/cut.pt"
refuses "cut file" "no end record" "$rmas" inspect "$work/cut.pt"
printf 'version https://git-lfs.github.com/spec/v1\n' >"$work/lfs.safetensors"
refuses "LFS pointer" "Git LFS" "$rmas" inspect "$work/lfs.safetensors"
refuses "two words" "must be named" "$rmas" inspect a b
refuses "unknown type" "'?q9'? is none" "$rmas" quantize "$pt" "$work/o.gguf" --type q9
refuses "quantize a link" "neither a model folder nor a GGUF" "$rmas" quantize "$pt" "$work/o.gguf"
refuses "quantize into nowhere" "cannot create" "$rmas" quantize "$here/fuzz/seeds/gguf/llama" "$work/no/o.gguf" --type f32
[ -e "$work/o.gguf" ] && note "a GGUF file was left"

"$rmas" quantize "$here/fuzz/seeds/gguf/llama" "$work/o.gguf" --type f16 >/dev/null || note "quantize"
"$rmas" probe tensor "$work/o.gguf" w -o "$work/w1" && "$rmas" probe tensor "$here/fuzz/seeds/gguf/llama" w -o "$work/w2" || note "probe of a GGUF file"
cmp -s "$work/w1" "$work/w2" || note "values changed on the way from GGUF to GGUF"
exit $bad
