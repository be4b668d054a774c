"""Writes a system of two tiny models of random numbers and a data set for it: tiny.py FOLDER. Needs nothing but Python."""
import json
import random
import struct
import sys
from pathlib import Path

VOCAB = [chr(256 + c) if c <= 32 else chr(c) for c in [*range(32, 127), 10, 0]]  # as byte-level tokenizers write bytes
CHAT = ("{% for m in messages %}<|start|>{{ m.role }}\n{{ m.content }}<|end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}")


def write_model(folder, d, seed):
    rng = random.Random(seed)
    folder.mkdir(parents=True)
    n_vocab = len(VOCAB) + 2
    config = {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "hidden_size": d, "intermediate_size": 2 * d, "num_hidden_layers": 2,
              "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": n_vocab, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "hidden_act": "silu",
              "tie_word_embeddings": False, "max_position_embeddings": 8192, "torch_dtype": "float32"}
    (folder / "config.json").write_text(json.dumps(config))
    shapes = {"model.embed_tokens.weight": (n_vocab, d), "lm_head.weight": (n_vocab, d), "model.norm.weight": (d,)}
    for layer in range(2):
        parts = {"input_layernorm.weight": (d,), "post_attention_layernorm.weight": (d,), "self_attn.q_proj.weight": (d, d), "self_attn.q_proj.bias": (d,),
                 "self_attn.k_proj.weight": (d // 2, d), "self_attn.k_proj.bias": (d // 2,), "self_attn.v_proj.weight": (d // 2, d),
                 "self_attn.v_proj.bias": (d // 2,), "self_attn.o_proj.weight": (d, d), "mlp.gate_proj.weight": (2 * d, d), "mlp.up_proj.weight": (2 * d, d),
                 "mlp.down_proj.weight": (d, 2 * d)}
        shapes |= {f"model.layers.{layer}.{k}": v for k, v in parts.items()}
    head, data = {}, b""
    for name, shape in shapes.items():
        n = shape[0] * (shape[1] if len(shape) > 1 else 1)
        norm, big = "norm" in name, name in ("model.embed_tokens.weight", "lm_head.weight")
        values = [1 + rng.gauss(0, 0.05) if norm else rng.gauss(0, 0.7 if big else 4.8 / d) for _ in range(n)]
        head[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [len(data), len(data) + 4 * n]}
        data += struct.pack(f"<{n}f", *values)
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
    special = [{"id": len(VOCAB) + i, "content": c, "special": True} for i, c in enumerate(("<|start|>", "<|end|>"))]
    (folder / "tokenizer.json").write_text(json.dumps({
        "version": "1.0", "added_tokens": special, "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
        "decoder": {"type": "ByteLevel"}, "model": {"type": "BPE", "vocab": {c: i for i, c in enumerate(VOCAB)}, "merges": []}}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|end|>", "chat_template": CHAT}))


out = Path(sys.argv[1])
write_model(out / "small", 16, 1)
write_model(out / "large", 24, 2)
write_model(out / "wide", 32, 3)  # rows of whole blocks, to be quantised
for name, style, agents in (("chain", "sequential_light", {"planner": "small", "critic": "small", "solver": "large"}),
                            ("packed", "distillation", {"expert": "wide.gguf", "learner": "wide.gguf"}),
                            ("tools", "deliberation", {"reflector": "small", "toolcaller": "large"})):
    (out / name).mkdir()
    (out / name / "system.json").write_text(json.dumps({
        "rmas_system": 1, "name": name, "style": style, "agents": {k: {"model": f"../{v}"} for k, v in agents.items()}, "init_seed": 1,
        "defaults": {"latent_length": 3, "num_recursive_rounds": 2, "max_new_tokens": 60}}))
with open(out / "questions.jsonl", "w") as f:
    for i in range(24):
        print(json.dumps({"question": f"How many apples are {i} and {2 * i}{' or so' * (i % 4)}?", "answer": f"#### {3 * i}"}), file=f)
