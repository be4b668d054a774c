/* rmas probe config: what a config.json says, as one JSON object. */
#include <jansson.h>
#include <stdlib.h>

#include "model/config.h"
#include "probe.h"
#include "tensor/dtype.h"

static const char *const kind_name[RM_LAYER_KINDS] = {"full_attention", "sliding_attention", "linear_attention"};

static json_t *layer_runs(const rm_config *c) {
    json_t *runs = json_array();
    for (int i = 0, k; i < c->n_layer; i = k) {
        for (k = i; k < c->n_layer && c->layer[k] == c->layer[i];) k++;
        json_array_append_new(runs, json_pack("[si]", kind_name[c->layer[i]], k - i));
    }
    return runs;
}

static json_t *rope(const rm_rope *r) {
    json_t *f = json_array();
    for (int i = 0; i < r->n_rot / 2; i++) json_array_append_new(f, json_real((double)r->inv_freq[i]));
    return json_pack("{siso}", "rotary_dims", r->n_rot, "inv_freq", f);
}

static json_t *describe(const rm_config *c) {
    json_t *o = json_pack("{ss si si si si si si si sf sb si so sf}", "model_type", c->model_type, "hidden_size", c->d_model, "intermediate_size",
                          c->d_ff, "layers", c->n_layer, "heads", c->n_head, "kv_heads", c->n_kv, "head_dim", c->d_head, "vocab_size", c->n_vocab,
                          "rms_norm_eps", (double)c->norm_eps, "tie_word_embeddings", (int)c->tied, "max_position_embeddings", c->n_ctx_train,
                          "layer_types", layer_runs(c), "attention_scale", (double)c->attn_scale);
    json_object_set_new(o, "sliding_window", c->window ? json_integer(c->window) : json_null());
    bool same =
        c->rope[0].n_rot == c->rope[1].n_rot && !memcmp(c->rope[0].inv_freq, c->rope[1].inv_freq, sizeof(float) * (size_t)c->rope[0].n_rot / 2);
    json_object_set_new(o, "rope",
                        same ? json_pack("{so}", "all", rope(&c->rope[0]))
                             : json_pack("{soso}", kind_name[RM_LAYER_FULL], rope(&c->rope[0]), kind_name[RM_LAYER_SLIDING], rope(&c->rope[1])));
    if (c->embed_scale != 0) {
        json_object_set_new(o, "embed_scale_float32", json_real((double)c->embed_scale));
        json_object_set_new(o, "embed_scale_bfloat16", json_real((double)rm_bf16_to_f32(rm_f32_to_bf16(c->embed_scale))));
    }
    const rm_delta_plan *d = &c->delta;
    const struct {
        const char *key;
        int v;
    } delta[] = {{"linear_key_heads", d->n_key},
                 {"linear_value_heads", d->n_value},
                 {"linear_key_head_dim", d->d_key},
                 {"linear_value_head_dim", d->d_value},
                 {"conv_kernel", d->n_tap}};
    for (size_t i = 0; d->n_value && i < sizeof delta / sizeof delta[0]; i++) json_object_set_new(o, delta[i].key, json_integer(delta[i].v));
    return o;
}

int probe_config(int argc, char **argv) {
    const rm_opt opts[] = {{0}};
    int n_word, r = rm_opt_parse(argc, argv, opts, "rmas probe config PATH", &n_word);
    if (r) return r == 2 ? 0 : 1;
    rmas_error err = {0};
    rm_config c = {0};
    rmas_status st = n_word == 1 ? rm_config_read(&c, argv[1], &err) : rm_fail(&err, RMAS_E_ARG, "needs a config.json or its folder");
    json_t *o = st == RMAS_OK ? describe(&c) : NULL;
    char *text = o ? json_dumps(o, JSON_REAL_PRECISION(17)) : NULL;
    if (text)
        puts(text);
    else if (st == RMAS_OK)
        st = rm_fail(&err, RMAS_E_NOMEM, "out of memory for the result");
    free(text);
    json_decref(o);
    rm_config_free(&c);
    return st == RMAS_OK ? 0 : rm_cli_fail(argv[0], &err);
}
