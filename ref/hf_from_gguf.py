#!/usr/bin/env python3
"""A GGUF model as the Hugging Face folder that the reference pipeline needs: weights dequantised to bf16, tokenizer, chat template.

    ref/hf_from_gguf.py MODEL.gguf OUT_DIR          needs torch, transformers, gguf (ref/requirements.txt)
"""
import sys
from pathlib import Path

import torch
from gguf import GGUFReader
from transformers import AutoModelForCausalLM, AutoTokenizer


def main():
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    src, out = Path(sys.argv[1]), Path(sys.argv[2])
    model = AutoModelForCausalLM.from_pretrained(src.parent, gguf_file=src.name, dtype=torch.bfloat16)
    tok = AutoTokenizer.from_pretrained(src.parent, gguf_file=src.name)
    field = GGUFReader(src).get_field("tokenizer.ggml.eos_token_id")
    tok.eos_token = tok.convert_ids_to_tokens(int(field.parts[field.data[0]][0]))  # the library takes the family's instead
    model.generation_config.do_sample = True  # or saving refuses temperatures
    model.to(torch.bfloat16).save_pretrained(out)
    tok.save_pretrained(out)
    print(out, sum(p.numel() for p in model.parameters()), "parameters,", tok.eos_token)


if __name__ == "__main__":
    main()
