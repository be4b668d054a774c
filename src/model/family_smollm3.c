/* SmolLM3: a Llama in which every fourth layer does not rotate queries and keys. */
#include "model/family.h"

#include "util/mem.h"

static rmas_status plan_rotation(rm_config *c, const rm_source *s, rmas_error *err) {
    const json_t *list = rm_source_is_gguf(s) ? NULL : json_object_get(s->text, "no_rope_layers"); /* in spite of the name, 1: rotated */
    int interval;
    RM_TRY(rm_source_int(s, "no_rope_layer_interval", NULL, 1, 1 << 20, 4, &interval, err));
    if (json_is_null(list)) list = NULL;
    if (list && json_array_size(list) != (size_t)c->n_layer)
        return rm_fail(err, RMAS_E_FORMAT, "%s: no_rope_layers is not an array of %d numbers", s->path, c->n_layer);
    c->unrotated = rm_calloc((size_t)c->n_layer, sizeof *c->unrotated);
    if (!c->unrotated) return rm_fail(err, RMAS_E_NOMEM, "out of memory for the layer plan");
    for (int i = 0; i < c->n_layer; i++) {
        const json_t *v = json_array_get(list, (size_t)i);
        if (list && !json_is_integer(v) && !json_is_boolean(v))
            return rm_fail(err, RMAS_E_FORMAT, "%s: no_rope_layers[%d] is neither 0 nor 1", s->path, i);
        c->unrotated[i] = list ? json_is_false(v) || (json_is_integer(v) && !json_integer_value(v)) : (i + 1) % interval == 0;
    }
    return RMAS_OK;
}

/* Layers that do not rotate slide if use_sliding_window is true. */
static rmas_status plan_window(rm_config *c, const rm_source *s, rmas_error *err) {
    bool use;
    RM_TRY(rm_source_bool(s, "use_sliding_window", false, &use, err));
    RM_TRY(rm_source_window(s, 0, &c->window, err));
    for (int i = 0; use && c->window && i < c->n_layer; i++)
        if (c->unrotated[i]) c->layer[i] = RM_LAYER_SLIDING;
    return RMAS_OK;
}

static rmas_status plan(rm_config *c, const rm_source *s, rmas_error *err) {
    c->rope_adjacent = rm_source_is_gguf(s); /* the converter permutes the rows of q and k */
    RM_TRY(rm_source_bool(s, "attention_bias", false, &c->qkv_bias, err));
    c->o_bias = c->qkv_bias;
    RM_TRY(rm_source_bool(s, "mlp_bias", false, &c->mlp_bias, err));
    RM_TRY(plan_rotation(c, s, err));
    return plan_window(c, s, err);
}

const rm_family rm_family_smollm3 = {
    .model_type = {"smollm3"},
    .arch = "smollm3",
    .base = {.norm_eps = 1e-6f,
             .d_model = 2048,
             .n_layer = 36,
             .n_head = 16,
             .n_kv = 4,
             .d_ff = 11008,
             .n_vocab = 128256,
             .n_ctx_train = 32768,
             .tied = true},
    .rope_theta = 2e6,
    .plan = plan,
};
