/* Families of models: how one is recognised, which numbers and names it has, and what its layer plan is.
 * A new dense cousin is one short file and one line in family.c (docs/MODELS.md). */
#ifndef RM_MODEL_FAMILY_H
#define RM_MODEL_FAMILY_H

#include <jansson.h>

#include "model/config.h"
#include "weights/gguf.h"

/* ---- where a configuration is read from ----------------------------------------------------------------------------- */

typedef struct {
    const char *path; /* for messages */
    json_t *root, *text; /* config.json, and its text_config (or root again) */
    const rm_gguf *gguf; /* or the metadata of a GGUF file, root is NULL then */
    const char *arch; /* general.architecture */
} rm_source;

static inline bool rm_source_is_gguf(const rm_source *s) { return s->gguf; }

/* A value by its key in config.json and by its key in GGUF (without the architecture); either may be NULL. null counts as absent.
 * The value is checked against [min, max]; if absent: fallback, and an error if that is below min. */
rmas_status rm_source_int(const rm_source *s, const char *key, const char *gguf_key, int64_t min, int64_t max, int64_t fallback, int *out,
                          rmas_error *err);
rmas_status rm_source_float(const rm_source *s, const char *key, const char *gguf_key, double min, double max, double fallback, float *out,
                            rmas_error *err);
rmas_status rm_source_bool(const rm_source *s, const char *key, bool fallback, bool *out, rmas_error *err); /* config.json only */
bool rm_source_has(const rm_source *s, const char *key); /* config.json: present and not null */
/* sliding_window of config.json; 0 (none) where it is named null, as against missing. */
rmas_status rm_source_window(const rm_source *s, int fallback, int *out, rmas_error *err);

/* One rotary table for all layers: rope_parameters, or rope_theta and rope_scaling, or GGUF's rope.*; theta and part where they are absent. */
rmas_status rm_source_rope(const rm_source *s, rm_config *c, double theta, double part, rmas_error *err);
/* The rotary table of sliding layers, where it is not that of the full ones: an object of its own in rope_parameters, or a base under
 * an older key, or under a key of GGUF. */
rmas_status rm_source_sliding_rope(const rm_source *s, rm_config *c, const char *theta_key, const char *gguf_theta_key, double theta,
                                   rmas_error *err);

/* The factor on cosines and sines that goes with a yarn scaling by `factor`; m: weight of the logarithm, usually 1. */
double rm_rope_yarn_scale(double factor, double m);

/* ---- families ------------------------------------------------------------------------------------------------------- */

/* What a tensor is for. Those from RM_T_LAYER on exist once per layer. */
typedef enum {
    RM_T_EMBED,
    RM_T_OUT_NORM,
    RM_T_HEAD,
    RM_T_ATTN_NORM, /* before the mixer (attention or delta rule) */
    RM_T_POST_ATTN_NORM, /* on its output */
    RM_T_MLP_NORM,
    RM_T_POST_MLP_NORM,
    RM_T_Q,
    RM_T_K,
    RM_T_V,
    RM_T_O,
    RM_T_Q_NORM,
    RM_T_K_NORM,
    RM_T_GATE,
    RM_T_UP,
    RM_T_DOWN,
    RM_T_DELTA_QKV,
    RM_T_DELTA_Z,
    RM_T_DELTA_B,
    RM_T_DELTA_A,
    RM_T_DELTA_CONV,
    RM_T_DELTA_DT,
    RM_T_DELTA_A_LOG,
    RM_T_DELTA_NORM,
    RM_T_DELTA_OUT,
    RM_T_COUNT,
    RM_T_LAYER = RM_T_ATTN_NORM
} rm_tensor_role;

typedef struct {
    rm_tensor_role role;
    const char *hf, *gguf; /* without layer prefix; ".weight" or ".bias" is added unless the name has a full stop at its end */
} rm_tensor_name;

typedef struct {
    const char *model_type[2]; /* in config.json, of the text part or of the wrapper; the first one is reported */
    const char *arch; /* general.architecture; NULL if GGUF has no name of its own for it */
    rm_config base; /* numbers that are used where the file has none; 0: the file must have it (n_kv: n_head, d_head: d_model / n_head) */
    double rope_theta, rope_part; /* where the file does not say; part: of a head that is rotated, 0: all of it */
    rm_tensor_name rename[4]; /* where it differs from the usual names; ends with hf NULL */
    /* Fills the plan. Sizes have been read; all layers are RM_LAYER_FULL, attn_scale is d_head^-0.5. layer_types of the file, if there
     * is one, is applied afterwards and wins. NULL: nothing to add. */
    rmas_status (*plan)(rm_config *c, const rm_source *s, rmas_error *err);
} rm_family;

extern const rm_family rm_family_llama, rm_family_mistral, rm_family_qwen2, rm_family_qwen3, rm_family_gemma3, rm_family_qwen3_5, rm_family_smollm3;

/* In config.json `name` is model_type, in GGUF the architecture. NULL if unknown. */
const rm_family *rm_family_find(const char *name, size_t n, bool gguf);
const char *rm_family_names(bool gguf); /* all of them, for messages */
/* The name of a tensor without prefix; gguf or Hugging Face spelling. */
const char *rm_family_tensor(const rm_family *f, rm_tensor_role role, bool gguf);

/* Reads everything that families share and calls the plan. */
rmas_status rm_config_from(rm_config *c, const rm_family **family, const rm_source *s, rmas_error *err);
rmas_status rm_config_from_json(rm_config *c, const rm_family **family, const char *path, rmas_error *err);
rmas_status rm_config_from_gguf(rm_config *c, const rm_family **family, const rm_gguf *g, const char *path, rmas_error *err);
int rm_gemma3_gguf_scalar(const rm_config *c); /* the query_pre_attn_scalar that a GGUF file of these sizes means */
/* Layers i >= max_window_layers slide if use_sliding_window is true (qwen2, qwen3). */
rmas_status rm_plan_window_by_flag(rm_config *c, const rm_source *s, rmas_error *err);

#endif
