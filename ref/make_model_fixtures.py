#!/usr/bin/env python3
"""Writes tests/fixtures/models: random models of every family, a few kilobytes each, with values of transformers run in float64.

    make_model_fixtures.py [--out tests/fixtures/models]

Each folder: config.json, model.safetensors, golden.safetensors (F32, I64):
  tokens [T]; hidden [T,d]; rows [2]; layers [L+1,2,d] (embeddings, raw output of each layer) and logits [2,V] of these rows;
  embeds [2,d], embed_pos [2], spliced [2,d] (hidden of the rows); proj [T,d], grad_proj [T,d]; labels [T] (labels[t] follows row t, -100: ignored),
  ce [1], grad_ce [T,d]; rollout [4,d], grad_rollout [T,d]: see rollout() below.
GGUF files hold the weights of the folder of the same name as llama.cpp's converter would store them.
"""
import argparse
import json
import shutil
from pathlib import Path

import gguf
import numpy as np
import torch
import transformers
from safetensors.numpy import save_file
from transformers.models.qwen3_5 import Qwen3_5ForCausalLM, Qwen3_5TextConfig

torch.set_num_threads(1)
V, T = 48, 70                                              # more than one block of 64 positions
ROPE = {"rope_type": "default", "rope_theta": 1e4}


def families():
    t = transformers
    base = dict(vocab_size=V, max_position_embeddings=512, bos_token_id=1, eos_token_id=2)
    yield "llama", t.LlamaForCausalLM, t.LlamaConfig(**base, hidden_size=24, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=10, intermediate_size=28, rms_norm_eps=1e-4,
        attention_bias=True, mlp_bias=True, tie_word_embeddings=False,
        rope_parameters={"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32})
    yield "llama_plain", t.LlamaForCausalLM, t.LlamaConfig(**base, hidden_size=20, num_hidden_layers=2, num_attention_heads=3, num_key_value_heads=1, head_dim=8, intermediate_size=24, tie_word_embeddings=True, rope_parameters=ROPE)
    yield "mistral", t.MistralForCausalLM, t.MistralConfig(**base, hidden_size=24, num_hidden_layers=3, num_attention_heads=3, num_key_value_heads=3, intermediate_size=20, sliding_window=7, tie_word_embeddings=False, rope_parameters=ROPE)
    yield "qwen2", t.Qwen2ForCausalLM, t.Qwen2Config(**base, hidden_size=24, num_hidden_layers=3, num_attention_heads=6, num_key_value_heads=2, intermediate_size=28, tie_word_embeddings=True,
        use_sliding_window=True, sliding_window=66, max_window_layers=1, rope_parameters=ROPE)
    yield "qwen3", t.Qwen3ForCausalLM, t.Qwen3Config(**base, hidden_size=20, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=12, intermediate_size=28, rms_norm_eps=2e-3, tie_word_embeddings=True, rope_parameters=ROPE)
    yield "gemma3", t.Gemma3ForCausalLM, t.Gemma3TextConfig(**base, pad_token_id=0, hidden_size=20, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=1, head_dim=8, intermediate_size=24, sliding_window=5,
        query_pre_attn_scalar=8, rms_norm_eps=1e-3, layer_types=["sliding_attention", "full_attention", "sliding_attention", "full_attention"],
        rope_parameters={"full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 4.0}, "sliding_attention": ROPE})
    q = dict(base, hidden_size=20, intermediate_size=24, tie_word_embeddings=True, full_attention_interval=2, rms_norm_eps=1e-3)
    yield "qwen3_5", Qwen3_5ForCausalLM, Qwen3_5TextConfig(**q, num_hidden_layers=4, num_attention_heads=2, num_key_value_heads=1, head_dim=16, linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=6,
        linear_value_head_dim=10, linear_conv_kernel_dim=4, rope_parameters={**ROPE, "partial_rotary_factor": 0.25, "mrope_interleaved": True, "mrope_section": [1, 1, 0]})
    yield "qwen3_5_tap3", Qwen3_5ForCausalLM, Qwen3_5TextConfig(**q, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2, head_dim=8, linear_num_key_heads=3, linear_num_value_heads=3, linear_key_head_dim=4,
        linear_value_head_dim=4, linear_conv_kernel_dim=3, rope_parameters={**ROPE, "partial_rotary_factor": 0.5, "mrope_interleaved": True, "mrope_section": [1, 1, 0]})
    yield "smollm3", t.SmolLM3ForCausalLM, t.SmolLM3Config(**base, pad_token_id=0, hidden_size=24, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2, intermediate_size=24, no_rope_layers=[1, 0, 0, 1],
        tie_word_embeddings=True, rope_parameters=ROPE)


def fill(model, one_plus, seed):
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            r = torch.randn(p.shape, generator=g)
            if name.endswith("norm.weight"):
                p.copy_((0.0 if one_plus and "linear_attn" not in name else 1.0) + 0.3 * r)
            elif name.endswith("A_log"):
                p.copy_(torch.log(0.1 * 20 ** torch.sigmoid(r)))
            elif name.endswith("dt_bias"):
                p.copy_(r - 1)
            elif name.endswith("bias"):
                p.copy_(0.3 * r)
            elif "conv1d" in name:
                p.copy_(0.5 * r)
            else:
                p.copy_(1.5 * r / p.shape[-1] ** 0.5)


def inner(x):
    """The link of the rollout: no parameters, so that a test can have it too."""
    return 0.8 * torch.tanh(x) + 0.1


def run(model, x):
    out = model(inputs_embeds=x[None], output_hidden_states=True, use_cache=False)
    return out.hidden_states, out.logits[0]


def rollout(model, x, steps):
    """h_1 .. h_steps, e_t = inner(h_t) fed back."""
    hidden = []
    for _ in range(steps):
        h = run(model, x)[0][-1][0, -1]
        hidden.append(h)
        x = torch.cat([x, inner(h)[None]])
    return torch.stack(hidden)


def golden(name, model, seed):
    rng = np.random.default_rng(seed)
    double = model.double().requires_grad_(False)
    for m in double.modules():                             # inverse frequencies stay those of float32
        for key, b in m.named_buffers(recurse=False):
            if "inv_freq" in key:
                setattr(m, key, b.float().double())
    raw = []
    hook = double.model.layers[-1].register_forward_hook(lambda m, i, o: raw.append(o[0] if isinstance(o, tuple) else o))
    tokens = rng.integers(3, V, T)
    x = double.get_input_embeddings()(torch.tensor(tokens)).detach()
    states, logits = run(double, x)
    rows = [T // 2, T - 1]
    f = lambda t: np.ascontiguousarray(t.detach().numpy(), dtype=np.float32)
    a = {"tokens": tokens.astype(np.int64), "hidden": f(states[-1][0]), "layers": f(torch.stack([s[0, rows] for s in states[:-1]] + [raw[-1].reshape(x.shape)[rows]])), "logits": f(logits[rows]), "rows": np.array(rows)}
    pos = np.array([1, T - 4])
    e = rng.standard_normal((2, x.shape[1])).astype(np.float32)
    y = x.clone()
    y[pos] = torch.tensor(e).double()
    a.update(embeds=e, embed_pos=pos, spliced=f(run(double, y)[0][-1][0, rows]))
    proj = rng.standard_normal(x.shape).astype(np.float32)
    labels = np.roll(tokens, -1)
    labels[:5] = labels[-1:] = -100
    leaf = x.clone().requires_grad_(True)
    states, logits = run(double, leaf)
    a.update(proj=proj, grad_proj=f(torch.autograd.grad((states[-1][0] * torch.tensor(proj).double()).sum(), leaf)[0]))
    states, logits = run(double, leaf)
    ce = torch.nn.functional.cross_entropy(logits, torch.tensor(labels), ignore_index=-100)
    a.update(labels=labels.astype(np.int64), ce=np.array([ce.item()], dtype=np.float32), grad_ce=f(torch.autograd.grad(ce, leaf)[0]))
    h = rollout(double, leaf, 4)                           # loss: sum of proj rows times h_1 .. h_4, through the fed-back states
    a.update(rollout=f(h), grad_rollout=f(torch.autograd.grad((h * torch.tensor(proj[:4]).double()).sum(), leaf)[0]))
    hook.remove()
    return a


# ---- GGUF: names and values as the converter of llama.cpp writes them

NAMES = {"input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm",
         "self_attn.k_norm": "attn_k_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "linear_attn.in_proj_qkv": "attn_qkv", "linear_attn.in_proj_z": "attn_gate",
         "linear_attn.in_proj_b": "ssm_beta", "linear_attn.in_proj_a": "ssm_alpha", "linear_attn.conv1d": "ssm_conv1d", "linear_attn.norm": "ssm_norm", "linear_attn.out_proj": "ssm_out"}


def write_gguf(path, arch, c, state):
    w = gguf.GGUFWriter(str(path), arch)
    w.add_block_count(c.num_hidden_layers)
    w.add_context_length(c.max_position_embeddings)
    w.add_embedding_length(c.hidden_size)
    w.add_feed_forward_length(c.intermediate_size)
    w.add_head_count(c.num_attention_heads)
    w.add_head_count_kv(c.num_key_value_heads)
    w.add_layer_norm_rms_eps(c.rms_norm_eps)
    w.add_key_length(c.head_dim)
    w.add_value_length(c.head_dim)
    w.add_rope_freq_base(c.rope_parameters["rope_theta"])
    nk, nv = (c.linear_num_key_heads, c.linear_num_value_heads) if arch == "qwen35" else (1, 1)
    if arch == "qwen35":
        w.add_ssm_conv_kernel(c.linear_conv_kernel_dim)
        w.add_ssm_state_size(c.linear_key_head_dim)
        w.add_ssm_group_count(nk)
        w.add_ssm_time_step_rank(nv)
        w.add_ssm_inner_size(nv * c.linear_value_head_dim)
        w.add_uint32("qwen35.full_attention_interval", c.full_attention_interval)
        w.add_rope_dimension_count(int(c.head_dim * c.rope_parameters["partial_rotary_factor"]))

    def pairs(t, heads):                                   # half-split rows -> adjacent pairs
        return t.reshape(heads, 2, -1, *t.shape[1:]).swapaxes(1, 2).reshape(t.shape)

    def regroup(t, axis=0):                                # value head kh * R + r -> r * nk + kh
        t = np.moveaxis(t, axis, 0)
        return np.moveaxis(t.reshape(nk, nv // nk, -1, *t.shape[1:]).swapaxes(0, 1).reshape(t.shape), 0, axis)

    for name, v in state.items():
        if name.startswith("model.layers."):
            _, _, i, rest = name.split(".", 3)
            stem, _, kind = rest.rpartition(".")
            out = "attn_norm" if rest == "input_layernorm.weight" else NAMES.get(stem)
            if rest == "post_attention_layernorm.weight":
                out = "ffn_norm" if arch == "llama" else "post_attention_norm"
            if rest == "linear_attn.A_log":
                out, v, kind = "ssm_a", -np.exp(v), ""
            if rest == "linear_attn.dt_bias":
                out, kind = "ssm_dt", "bias"
            if arch == "llama" and out in ("attn_q", "attn_k"):
                v = pairs(v, c.num_attention_heads if out == "attn_q" else c.num_key_value_heads)
            if arch == "qwen35":
                qk = 2 * nk * c.linear_key_head_dim
                if rest.endswith("norm.weight") and out != "ssm_norm":
                    v = v + 1
                if out == "ssm_conv1d":
                    v = v[:, 0]
                if out in ("attn_qkv", "ssm_conv1d"):
                    v = np.concatenate([v[:qk], regroup(v[qk:])])
                elif out in ("attn_gate", "ssm_beta", "ssm_alpha", "ssm_a", "ssm_dt"):
                    v = regroup(v)
                elif out == "ssm_out":
                    v = regroup(v, 1)
            out = f"blk.{i}.{out}" + (f".{kind}" if kind else "")
        else:
            out = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight", "lm_head.weight": "output.weight"}[name]
            if arch == "qwen35" and out == "output_norm.weight":
                v = v + 1
        w.add_tensor(out, np.ascontiguousarray(v, dtype=np.float32))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", type=Path, default=Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "models")
    out = p.parse_args().out
    shutil.rmtree(out, ignore_errors=True)
    for seed, (name, cls, config) in enumerate(families(), 11):
        torch.manual_seed(seed)
        model = cls._from_config(config, attn_implementation="eager").eval()
        fill(model, name.startswith(("gemma", "qwen3_5")), seed)
        state = {k: v.numpy().copy() for k, v in model.state_dict().items() if not (k == "lm_head.weight" and config.tie_word_embeddings)}
        folder = out / name
        folder.mkdir(parents=True)
        c = {k: v for k, v in config.to_dict().items() if v is not None and k not in ("transformers_version", "architectures")}
        (folder / "config.json").write_text(json.dumps(c, indent=1, sort_keys=True) + "\n")
        save_file(state, str(folder / "model.safetensors"))
        save_file(golden(name, model, seed), str(folder / "golden.safetensors"))
        arch = {"llama_plain": "llama", "qwen3_5": "qwen35"}.get(name)
        if arch:
            write_gguf(out / f"{name}.gguf", arch, config, state)
        print(name, sum(f.stat().st_size for f in folder.iterdir()))


if __name__ == "__main__":
    main()
