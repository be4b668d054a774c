/* Typed look-ups in config.json or GGUF metadata: one call for both spellings, every value checked against its limits. */
#include "model/family.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "util/mem.h"

#define PI 3.14159265358979323846

static json_t *get(const rm_source *s, const char *key) {
    if (!key || !s->root) return NULL;
    json_t *v = json_object_get(s->text, key);
    if (!v || json_is_null(v)) v = json_object_get(s->root, key);
    return json_is_null(v) ? NULL : v;
}

static bool gguf_key(const rm_source *s, const char *key, char out[160]) {
    if (!key || !s->gguf) return false;
    return snprintf(out, 160, "%s.%s", s->arch, key) < 160 && rm_gguf_has(s->gguf, out);
}

static const char *shown(const rm_source *s, const char *key, const char *gkey) { return s->gguf ? (gkey ? gkey : key) : key; }

bool rm_source_has(const rm_source *s, const char *key) { return get(s, key) != NULL; }

rmas_status rm_source_int(const rm_source *s, const char *key, const char *gkey, int64_t min, int64_t max, int64_t fallback, int *out,
                          rmas_error *err) {
    char k[160];
    int64_t v = fallback;
    bool found = false;
    if (gguf_key(s, gkey, k)) {
        found = true;
        if (!rm_gguf_int(s->gguf, k, &v)) return rm_fail(err, RMAS_E_FORMAT, "%s: %s is not an integer", s->path, k);
    } else {
        const json_t *j = get(s, key);
        if (json_is_integer(j))
            v = json_integer_value(j), found = true;
        else if (json_is_real(j) && fabs(json_real_value(j)) < 9e15 && floor(json_real_value(j)) == json_real_value(j))
            v = (int64_t)json_real_value(j), found = true;
        else if (j)
            return rm_fail(err, RMAS_E_FORMAT, "%s: %s is not an integer", s->path, key);
    }
    if (!found && v < min) return rm_fail(err, RMAS_E_FORMAT, "%s: %s is missing", s->path, shown(s, key, gkey));
    if (max > INT32_MAX) max = INT32_MAX;
    if (v < min || v > max)
        return rm_fail(err, RMAS_E_FORMAT, "%s: %s is %lld, expected %lld to %lld", s->path, shown(s, key, gkey), (long long)v, (long long)min,
                       (long long)max);
    *out = (int)v;
    return RMAS_OK;
}

static rmas_status number(const rm_source *s, const char *name, const json_t *j, double *v, rmas_error *err) {
    if (!json_is_number(j)) return rm_fail(err, RMAS_E_FORMAT, "%s: %s is not a number", s->path, name);
    *v = json_number_value(j);
    return RMAS_OK;
}

rmas_status rm_source_float(const rm_source *s, const char *key, const char *gkey, double min, double max, double fallback, float *out,
                            rmas_error *err) {
    char k[160];
    double v = fallback;
    const json_t *j = get(s, key);
    if (gguf_key(s, gkey, k)) {
        if (!rm_gguf_float(s->gguf, k, &v)) return rm_fail(err, RMAS_E_FORMAT, "%s: %s is not a number", s->path, k);
    } else if (j)
        RM_TRY(number(s, key, j, &v, err));
    if (!(v >= min && v <= max)) return rm_fail(err, RMAS_E_FORMAT, "%s: %s is %g, expected %g to %g", s->path, shown(s, key, gkey), v, min, max);
    *out = (float)v;
    return RMAS_OK;
}

rmas_status rm_source_bool(const rm_source *s, const char *key, bool fallback, bool *out, rmas_error *err) {
    const json_t *j = get(s, key);
    if (j && !json_is_boolean(j)) return rm_fail(err, RMAS_E_FORMAT, "%s: %s is not true or false", s->path, key);
    *out = j ? json_is_true(j) : fallback;
    return RMAS_OK;
}

rmas_status rm_source_window(const rm_source *s, int fallback, int *out, rmas_error *err) {
    bool named_null = json_is_null(json_object_get(s->text, "sliding_window"));
    return rm_source_int(s, "sliding_window", NULL, 0, INT32_MAX, named_null ? 0 : fallback, out, err);
}

/* ---- rotary tables --------------------------------------------------------------------------------------------------- */

static json_t *field(const json_t *o, const char *key) {
    json_t *v = json_is_object(o) ? json_object_get(o, key) : NULL;
    return json_is_null(v) ? NULL : v;
}

static rmas_status scaling_of(const rm_source *s, const char *type, size_t n, rm_rope_spec *r, rmas_error *err) {
    static const struct {
        const char *name;
        rm_rope_scaling scaling;
    } known[] = {{"default", RM_ROPE_PLAIN}, {"mrope", RM_ROPE_PLAIN},   {"none", RM_ROPE_PLAIN},
                 {"linear", RM_ROPE_LINEAR}, {"llama3", RM_ROPE_LLAMA3}, {"yarn", RM_ROPE_YARN}};
    for (size_t i = 0; i < RM_COUNT(known); i++)
        if (strlen(known[i].name) == n && memcmp(known[i].name, type, n) == 0) {
            r->scaling = known[i].scaling;
            return RMAS_OK;
        }
    return rm_fail(err, RMAS_E_UNSUPPORTED, "%s: rope scaling \"%.*s\" is not supported (default, linear, llama3, yarn are)", s->path,
                   (int)(n > 40 ? 40 : n), type);
}

/* The object o (rope_parameters, one of its parts, or rope_scaling) into r. */
static rmas_status spec_json(const rm_source *s, const json_t *o, rm_rope_spec *r, rmas_error *err) {
    const json_t *type = field(o, "rope_type");
    if (!type) type = field(o, "type");
    if (type && !json_is_string(type)) return rm_fail(err, RMAS_E_FORMAT, "%s: rope_type is not a string", s->path);
    if (type) RM_TRY(scaling_of(s, json_string_value(type), json_string_length(type), r, err));
    const struct {
        const char *key;
        double *v;
        bool needed;
    } f[] = {{"rope_theta", &r->theta, false},
             {"partial_rotary_factor", &r->part, false},
             {"factor", &r->factor, r->scaling != RM_ROPE_PLAIN},
             {"low_freq_factor", &r->low, r->scaling == RM_ROPE_LLAMA3},
             {"high_freq_factor", &r->high, r->scaling == RM_ROPE_LLAMA3},
             {"original_max_position_embeddings", &r->original, false},
             {"beta_fast", &r->beta_fast, false},
             {"beta_slow", &r->beta_slow, false},
             {"attention_factor", &r->attention, false},
             {"mscale", &r->mscale, false},
             {"mscale_all_dim", &r->mscale_all, false}};
    for (size_t i = 0; i < RM_COUNT(f); i++) {
        const json_t *v = field(o, f[i].key);
        if (v)
            RM_TRY(number(s, f[i].key, v, f[i].v, err));
        else if (f[i].needed)
            return rm_fail(err, RMAS_E_FORMAT, "%s: rope scaling needs %s", s->path, f[i].key);
    }
    r->untruncated = json_is_false(field(o, "truncate"));
    return RMAS_OK;
}

static bool by_kind(const json_t *rp) { return json_is_object(field(rp, "full_attention")) || json_is_object(field(rp, "sliding_attention")); }

static rmas_status check_spec(const rm_source *s, const rm_rope_spec *r, rmas_error *err) {
    if (!(r->theta > 0 && r->theta <= 1e30)) return rm_fail(err, RMAS_E_FORMAT, "%s: rope base %g, expected a positive number", s->path, r->theta);
    if (r->scaling == RM_ROPE_PLAIN) return RMAS_OK;
    if (!(r->factor > 0 && r->factor <= 1e9))
        return rm_fail(err, RMAS_E_FORMAT, "%s: rope scaling factor %g, expected a positive number", s->path, r->factor);
    bool length = r->original > 0 && r->original <= 1e12;
    if (r->scaling == RM_ROPE_LLAMA3 && !(r->low > 0 && r->high > r->low && r->high <= 1e9 && length))
        return rm_fail(err, RMAS_E_FORMAT, "%s: rope scaling needs 0 < low_freq_factor < high_freq_factor and a positive original length", s->path);
    if (r->scaling == RM_ROPE_YARN && !(r->theta > 1 && r->beta_slow > 0 && r->beta_fast > 0 && r->beta_slow <= 1e9 && r->beta_fast <= 1e9 && length))
        return rm_fail(err, RMAS_E_FORMAT, "%s: yarn needs a rope base over 1, positive beta_slow and beta_fast and a positive original length",
                       s->path);
    if (r->scaling == RM_ROPE_YARN && !(r->attention >= 0 && r->attention <= 1e9 && fabs(r->mscale) <= 1e9 && fabs(r->mscale_all) <= 1e9))
        return rm_fail(err, RMAS_E_FORMAT, "%s: yarn: attention_factor %g, mscale %g, mscale_all_dim %g are out of range", s->path, r->attention,
                       r->mscale, r->mscale_all);
    return RMAS_OK;
}

static float llama3_freq(const rm_rope_spec *r, float f) {
    float wave = (float)(2 * PI) / f, original = (float)r->original, low = (float)r->low, high = (float)r->high, factor = (float)r->factor;
    if (wave > original / low) return f / factor;
    if (wave < original / high) return f;
    float mix = (original / wave - low) / (high - low);
    return (1 - mix) * f / factor + mix * f;
}

/* The frequency (a place in the table, not whole) that turns n times within the original length. */
static double yarn_place(const rm_rope_spec *r, int n_rot, double n) { return n_rot * log(r->original / (n * 2 * PI)) / (2 * log(r->theta)); }

/* Slow frequencies are divided by the factor, fast ones are not, and between two places it goes from one to the other. */
static void yarn_table(const rm_rope_spec *r, int n_rot, float *f) {
    double low = yarn_place(r, n_rot, r->beta_fast), high = yarn_place(r, n_rot, r->beta_slow);
    if (!r->untruncated) low = floor(low), high = ceil(high);
    low = low > 0 ? low : 0;
    high = high < n_rot - 1 ? high : n_rot - 1;
    if (low == high) high += 0.001;
    for (int j = 0; j < n_rot / 2; j++) {
        float mix = ((float)j - (float)low) / (float)(high - low);
        mix = mix < 0 ? 0 : mix > 1 ? 1 : mix;
        f[j] = f[j] / (float)r->factor * mix + f[j] * (1 - mix);
    }
}

double rm_rope_yarn_scale(double factor, double m) { return factor > 1 ? 0.1 * m * log(factor) + 1 : 1; }

static double table_scale(const rm_rope_spec *r) {
    if (r->scaling != RM_ROPE_YARN) return 1;
    if (r->attention > 0) return r->attention;
    bool both = r->mscale != 0 && r->mscale_all != 0;
    return both ? rm_rope_yarn_scale(r->factor, r->mscale) / rm_rope_yarn_scale(r->factor, r->mscale_all) : rm_rope_yarn_scale(r->factor, 1);
}

static rmas_status make_table(const rm_source *s, const rm_config *c, const rm_rope_spec *r, int n_rot, rm_rope *out, rmas_error *err) {
    RM_TRY(check_spec(s, r, err));
    if (n_rot < 2 || n_rot > c->d_head || n_rot % 2)
        return rm_fail(err, RMAS_E_FORMAT, "%s: %d of %d elements of a head are rotated, expected an even number from 2 on", s->path, n_rot,
                       c->d_head);
    float *f = rm_array((size_t)n_rot / 2, sizeof *f);
    if (!f) return rm_fail(err, RMAS_E_NOMEM, "out of memory for rotary tables");
    for (int j = 0; j < n_rot / 2; j++) {
        f[j] = 1.0f / powf((float)r->theta, (float)(2 * j) / (float)n_rot);
        if (r->scaling == RM_ROPE_LINEAR) f[j] /= (float)r->factor;
        if (r->scaling == RM_ROPE_LLAMA3) f[j] = llama3_freq(r, f[j]);
    }
    if (r->scaling == RM_ROPE_YARN) yarn_table(r, n_rot, f);
    rm_free(out->inv_freq);
    *out = (rm_rope){n_rot, f, (float)table_scale(r), *r};
    return RMAS_OK;
}

static rmas_status spec_gguf(const rm_source *s, const char *theta_key, bool scaled, rm_rope_spec *r, rmas_error *err) {
    char k[160];
    rm_span type;
    float v;
    RM_TRY(rm_source_float(s, NULL, theta_key, 0, 1e30, r->theta, &v, err));
    r->theta = (double)v;
    if (!scaled || !gguf_key(s, "rope.scaling.type", k) || !rm_gguf_str(s->gguf, k, &type)) return RMAS_OK;
    RM_TRY(scaling_of(s, type.s, type.n, r, err));
    const struct {
        const char *key;
        double *v;
    } f[] = {{"rope.scaling.factor", &r->factor},
             {"rope.scaling.original_context_length", &r->original},
             {"rope.scaling.yarn_beta_fast", &r->beta_fast},
             {"rope.scaling.yarn_beta_slow", &r->beta_slow},
             {"rope.scaling.attn_factor", &r->attention}};
    for (size_t i = 0; i < RM_COUNT(f); i++) {
        RM_TRY(rm_source_float(s, NULL, f[i].key, 0, 1e12, *f[i].v, &v, err));
        *f[i].v = (double)v;
    }
    if (r->attention > 0) r->attention *= rm_rope_yarn_scale(r->factor, 1); /* there it stands beside the usual one */
    return RMAS_OK;
}

/* All of a head where the family has no part: the reference does not look at the factor there. */
static rmas_status rope_dims(const rm_source *s, const rm_config *c, double part, bool whole, int *n_rot, rmas_error *err) {
    if (!(part > 0 && part <= 1)) return rm_fail(err, RMAS_E_FORMAT, "%s: partial_rotary_factor %g, expected 0 to 1", s->path, part);
    *n_rot = whole ? c->d_head : (int)(c->d_head * part);
    return s->gguf ? rm_source_int(s, NULL, "rope.dimension_count", 2, c->d_head, *n_rot, n_rot, err) : RMAS_OK;
}

static rm_rope_spec spec_default(const rm_config *c, double theta, double part) {
    return (rm_rope_spec){.theta = theta, .part = part > 0 ? part : 1, .factor = 1, .original = c->n_ctx_train, .beta_fast = 32, .beta_slow = 1};
}

/* Table of the layers of a kind; the kinds share one unless a family asks for rm_source_sliding_rope. */
rmas_status rm_source_rope(const rm_source *s, rm_config *c, double theta, double part, rmas_error *err) {
    rm_rope_spec r = spec_default(c, theta, part);
    int n_rot;
    if (s->gguf)
        RM_TRY(spec_gguf(s, "rope.freq_base", true, &r, err));
    else {
        const json_t *rp = get(s, "rope_parameters"), *old = get(s, "rope_scaling"),
                     *top[2] = {get(s, "rope_theta"), get(s, "partial_rotary_factor")};
        if (top[0]) RM_TRY(number(s, "rope_theta", top[0], &r.theta, err));
        if (top[1]) RM_TRY(number(s, "partial_rotary_factor", top[1], &r.part, err));
        if (by_kind(rp)) RM_TRY(spec_json(s, field(rp, "full_attention"), &r, err));
        if (json_object_size(old)) /* in place of the newer spelling, where both are there */
            RM_TRY(spec_json(s, old, &r, err));
        else if (!by_kind(rp))
            RM_TRY(spec_json(s, rp, &r, err));
    }
    RM_TRY(rope_dims(s, c, r.part, !(part > 0), &n_rot, err));
    RM_TRY(make_table(s, c, &r, n_rot, &c->rope[RM_LAYER_FULL], err));
    return make_table(s, c, &r, n_rot, &c->rope[RM_LAYER_SLIDING], err);
}

rmas_status rm_source_sliding_rope(const rm_source *s, rm_config *c, const char *theta_key, const char *gguf_theta_key, double theta,
                                   rmas_error *err) {
    rm_rope_spec r = spec_default(c, theta, 0);
    int n_rot;
    if (s->gguf)
        RM_TRY(spec_gguf(s, gguf_theta_key, false, &r, err));
    else {
        const json_t *old = get(s, theta_key), *rp = get(s, "rope_parameters");
        if (old) RM_TRY(number(s, theta_key, old, &r.theta, err));
        if (by_kind(rp)) RM_TRY(spec_json(s, field(rp, "sliding_attention"), &r, err));
    }
    RM_TRY(rope_dims(s, c, r.part, true, &n_rot, err));
    return make_table(s, c, &r, n_rot, &c->rope[RM_LAYER_SLIDING], err);
}
