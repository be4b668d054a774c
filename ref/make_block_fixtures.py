#!/usr/bin/env python3
"""Random blocks of every GGUF type that rmas reads, and their values by ggml's own Python package: tests/fixtures/weights/blocks.{gguf,safetensors}.

    ref/make_block_fixtures.py      (numpy, safetensors, gguf)
"""
from pathlib import Path

import gguf
import numpy as np
from safetensors.numpy import save_file

OUT = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "weights"
TYPES = "Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 IQ4_NL Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_XS".split()
HALVES = {"Q4_1": [0, 2], "Q5_1": [0, 2], "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}  # offsets of f16 factors; else [0]

rng = np.random.default_rng(5)
writer = gguf.GGUFWriter(OUT / "blocks.gguf", "none")
values = {}
for name in TYPES:
    kind = gguf.GGMLQuantizationType[name]
    elements, size = gguf.GGML_QUANT_SIZES[kind]
    blocks = rng.integers(0, 256, (512 // elements, size), dtype=np.uint8)
    for at in HALVES.get(name, [0]):
        blocks[:, at:at + 2] = rng.normal(0, 0.02, (len(blocks), 1)).astype(np.float16).view(np.uint8)
    data = blocks.reshape(2, -1)
    writer.add_tensor(name, data, raw_dtype=kind)
    values[name] = gguf.dequantize(data, kind).astype(np.float32)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
save_file(values, OUT / "blocks.safetensors")
