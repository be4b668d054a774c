#!/usr/bin/env python3
"""embed.py NAME IN OUT: makes a C file with the bytes of a file, as NAME and NAME_size."""
import sys

name, source, out = sys.argv[1:]
with open(source, "rb") as f:
    data = f.read()
with open(out, "w") as f:
    f.write("#include <stddef.h>\n")
    f.write(f"extern const char {name}[];\nextern const size_t {name}_size;\n")
    f.write(f"const size_t {name}_size = {len(data)};\nconst char {name}[] = {{\n")
    for i in range(0, len(data), 20):
        f.write("    " + ", ".join(str(b if b < 128 else b - 256) for b in data[i:i + 20]) + ",\n")
    f.write("    0};\n")
