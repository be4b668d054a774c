/* The run of a conversion: jobs for all tensors, their types, and streaming the data in chunks of rows over all threads. */
#include "convert/internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "util/file.h"
#include "util/mem.h"

static const struct {
    const char *name;
    rm_dtype type;
    uint32_t file_type; /* general.file_type */
} types[] = {{"f32", RM_F32, 0},    {"f16", RM_F16, 1},    {"bf16", RM_BF16, 32}, {"q8_0", RM_Q8_0, 7},
             {"q6_k", RM_Q6_K, 18}, {"q4_k", RM_Q4_K, 15}, {"q4_0", RM_Q4_0, 2}};

bool rm_convert_type(const char *name, rm_dtype *out) {
    for (size_t i = 0; i < RM_COUNT(types); i++)
        if (!strcasecmp(types[i].name, name)) {
            *out = types[i].type;
            return true;
        }
    return false;
}

rmas_status rm_convert_nomem(const rm_conversion *c) { return rm_fail(c->err, RMAS_E_NOMEM, "%s: out of memory", c->path); }

void rm_convert_note(rm_conversion *c, const char *text) {
    size_t n = strlen(c->report->note);
    snprintf(c->report->note + n, sizeof c->report->note - n, "%s%s", n ? "; " : "", text);
}

json_t *rm_convert_json(const rm_conversion *c, const char *file) {
    char *path = rm_path_join(c->path, file), *text = NULL;
    size_t n;
    json_t *j = NULL;
    if (path && rm_path_exists(path) && rm_file_read(&text, &n, path, 256 << 20, NULL) == RMAS_OK) {
        j = json_loadb(text, n, JSON_ALLOW_NUL, NULL);
        if (!j) j = json_loadb(text, n, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, NULL); /* model_max_length may be 10^30 */
    }
    rm_free(path);
    rm_free(text);
    if (json_is_object(j)) return j;
    json_decref(j);
    return NULL;
}

rm_job *rm_convert_job(rm_conversion *c, const char *name, const rm_tensor *src) {
    if (c->n_job == c->cap_job) {
        int cap = c->cap_job ? c->cap_job * 2 : 256;
        rm_job *p = rm_realloc_array(c->job, (size_t)cap, sizeof *p);
        if (!p) return NULL;
        c->job = p;
        c->cap_job = cap;
    }
    rm_job *j = &c->job[c->n_job];
    *j = (rm_job){.src = src, .scale = 1};
    if (src) {
        j->t.n_dim = src->n_dim;
        memcpy(j->t.dim, src->dim, sizeof j->t.dim);
    }
    j->t.name = rm_strdup(name);
    if (!j->t.name) return NULL;
    c->n_job++;
    return j;
}

/* ---- types ---------------------------------------------------------------------------------------------------------- */

static bool ends_with(const char *s, const char *end) {
    size_t a = strlen(s), b = strlen(end);
    return a >= b && !strcmp(s + a - b, end);
}

static int layer_of(const char *name) { return strncmp(name, "blk.", 4) ? -1 : atoi(name + 4); }

static rm_dtype fit(rm_dtype want, int64_t n_col) {
    if (n_col % rm_dtype_get(want)->block_elems == 0) return want;
    return n_col % 32 ? RM_F16 : want == RM_Q4_K ? RM_Q5_0 : RM_Q8_0;
}

/* The converter's rules, and more bits where 4 of them hurt most: embeddings and head, values and the way back
 * from the MLP in the first and last eighth of the layers, the small projections of the delta rule. */
static rm_dtype pick_type(const rm_conversion *c, const rm_job *j, int n_layer) {
    const char *name = j->t.name;
    if (j->t.n_dim < 2 || !ends_with(name, ".weight") || ends_with(name, "_norm.weight") || strstr(name, "ssm_conv1d") || !strncmp(name, "rope_", 5))
        return RM_F32;
    if (c->type != RM_Q4_K && c->type != RM_Q4_0) return fit(c->type, j->n_col);
    if (!strcmp(name, "token_embd.weight") || !strcmp(name, "output.weight")) return fit(RM_Q6_K, j->n_col);
    if (strstr(name, ".ssm_alpha.") || strstr(name, ".ssm_beta.")) return fit(RM_Q8_0, j->n_col);
    int il = layer_of(name), edge = n_layer / 8;
    if (c->type == RM_Q4_K && (strstr(name, ".attn_v.") || strstr(name, ".ffn_down.")) && (il < edge || il >= n_layer - edge))
        return fit(RM_Q6_K, j->n_col);
    return fit(c->type, j->n_col);
}

static void finish_jobs(rm_conversion *c) {
    int n_layer = 0;
    for (int i = 0; i < c->n_job; i++) {
        int il = layer_of(c->job[i].t.name);
        if (il >= n_layer) n_layer = il + 1;
    }
    for (int i = 0; i < c->n_job; i++) {
        rm_job *j = &c->job[i];
        j->n_col = j->t.n_dim ? j->t.dim[j->t.n_dim - 1] : 1;
        j->n_row = j->n_col ? rm_tensor_count(&j->t) / j->n_col : 0;
        j->t.dtype = pick_type(c, j, n_layer);
        j->t.n_bytes = (size_t)j->n_row * rm_dtype_row_bytes(j->t.dtype, (size_t)j->n_col);
        c->report->n_tensor++;
        c->report->n_bytes_in += j->src ? j->src->n_bytes : j->t.n_bytes;
        c->report->n_bytes_out += j->t.n_bytes;
    }
}

/* ---- data ----------------------------------------------------------------------------------------------------------- */

typedef struct {
    const rm_job *job;
    int64_t first, n_row, step; /* rows of this pass, rows of a chunk */
    size_t src_bytes, out_bytes; /* of a row */
    uint8_t *out;
    float *scratch; /* two rows for each thread */
} pass;

static void convert_rows(void *ctx, int chunk, int thread) {
    const pass *p = ctx;
    const rm_job *j = p->job;
    float *row = p->scratch + (size_t)thread * 2 * (size_t)j->n_col, *other = row + j->n_col;
    int64_t end = (chunk + 1) * p->step < p->n_row ? (chunk + 1) * p->step : p->n_row;
    for (int64_t i = chunk * p->step; i < end; i++) {
        int64_t from = p->first + i;
        if (j->row) from = j->row[from];
        float *x = row;
        if (j->src)
            rm_dequant(j->src->dtype, (const uint8_t *)j->src->data + (size_t)from * p->src_bytes, x, (size_t)j->n_col);
        else
            memcpy(x, j->values + from * j->n_col, (size_t)j->n_col * sizeof *x);
        if (j->col) {
            for (int64_t k = 0; k < j->n_col; k++) other[k] = x[j->col[k]];
            x = other;
        }
        if (j->neg_exp)
            for (int64_t k = 0; k < j->n_col; k++) x[k] = -expf(x[k]);
        if (j->add != 0 || j->scale != 1)
            for (int64_t k = 0; k < j->n_col; k++) x[k] = (x[k] + j->add) * j->scale;
        rm_quant(j->t.dtype, x, p->out + (size_t)i * p->out_bytes, (size_t)j->n_col);
    }
}

typedef struct {
    rm_conversion *c;
    rm_pool *pool;
} maker;

/* Passes of about 8 MiB, cut into chunks of rows. */
static rmas_status make_tensor(void *ctx, int i, rm_gguf_sink *sink, rmas_error *err) {
    const maker *m = ctx;
    const rm_job *j = &m->c->job[i];
    if (!j->n_row || !j->n_col) return RMAS_OK;
    if (j->src && j->src->dtype == j->t.dtype && !j->row && !j->col && !j->neg_exp && j->add == 0 && j->scale == 1)
        return rm_gguf_add(sink, j->src->data, j->t.n_bytes, err); /* nothing changes */
    pass p = {.job = j, .out_bytes = rm_dtype_row_bytes(j->t.dtype, (size_t)j->n_col)};
    if (j->src) p.src_bytes = rm_dtype_row_bytes(j->src->dtype, (size_t)j->n_col);
    int64_t rows = (8 << 20) / (int64_t)(p.out_bytes + 1) + 1;
    if (rows > j->n_row) rows = j->n_row;
    p.step = rows / 64 + 1;
    p.out = rm_array((size_t)rows, p.out_bytes);
    p.scratch = rm_array((size_t)rm_pool_size(m->pool) * 2 * (size_t)j->n_col, sizeof *p.scratch);
    rmas_status s = p.out && p.scratch ? RMAS_OK : rm_convert_nomem(m->c);
    for (; s == RMAS_OK && p.first < j->n_row; p.first += p.n_row) {
        p.n_row = j->n_row - p.first < rows ? j->n_row - p.first : rows;
        rm_pool_run(m->pool, (int)((p.n_row + p.step - 1) / p.step), convert_rows, &p);
        s = rm_gguf_add(sink, p.out, (size_t)p.n_row * p.out_bytes, err);
    }
    rm_free(p.out);
    rm_free(p.scratch);
    return s;
}

/* ---- the two kinds of models ---------------------------------------------------------------------------------------- */

static bool keep_key(rm_span key) {
    static const char *const dropped[] = {"general.file_type", "general.quantization_version", "general.alignment", "split.no",
                                          "split.count",       "split.tensors.count"};
    for (size_t i = 0; i < RM_COUNT(dropped); i++)
        if (key.n == strlen(dropped[i]) && !memcmp(key.s, dropped[i], key.n)) return false;
    return true;
}

static rmas_status from_gguf(rm_conversion *c) {
    rm_gguf_put_all(&c->meta, rm_weights_gguf(c->w), keep_key);
    for (int i = 0; i < rm_weights_count(c->w); i++) {
        const rm_tensor *t = rm_weights_at(c->w, i);
        if (!rm_convert_job(c, t->name, t)) return rm_convert_nomem(c);
    }
    return RMAS_OK;
}

static rmas_status from_folder(rm_conversion *c) {
    char *config = rm_path_join(c->path, "config.json");
    if (!config) return rm_convert_nomem(c);
    rmas_status s = rm_config_from_json(&c->cfg, &c->family, config, c->err);
    rm_free(config);
    if (s != RMAS_OK) return s;
    c->config = rm_convert_json(c, "config.json");
    if (!c->config) return rm_fail(c->err, RMAS_E_FORMAT, "%s/config.json: cannot be read", c->path);
    c->text = json_object_get(c->config, "text_config");
    if (!json_is_object(c->text)) c->text = c->config;
    RM_TRY(rm_convert_metadata(c));
    RM_TRY(rm_convert_vocab(c));
    return rm_convert_tensors(c);
}

static rmas_status convert(rm_conversion *c, const char *out, rm_pool *pool) {
    uint32_t file_type = 0;
    RM_TRY(rm_weights_open(&c->w, c->path, c->err));
    if (rm_weights_kind(c->w) == RM_FILE_GGUF)
        RM_TRY(from_gguf(c));
    else if (rm_path_is_dir(c->path))
        RM_TRY(from_folder(c));
    else
        return rm_fail(c->err, RMAS_E_ARG, "%s: neither a model folder nor a GGUF file", c->path);
    for (size_t i = 0; i < RM_COUNT(types); i++)
        if (types[i].type == c->type) file_type = types[i].file_type;
    rm_gguf_put_u32(&c->meta, "general.file_type", file_type);
    rm_gguf_put_u32(&c->meta, "general.quantization_version", 2);
    finish_jobs(c);
    rm_tensor *t = rm_array((size_t)c->n_job, sizeof *t);
    if (!t) return rm_convert_nomem(c);
    for (int i = 0; i < c->n_job; i++) t[i] = c->job[i].t;
    maker m = {c, pool};
    rmas_status s = rm_gguf_write(out, &c->meta, t, c->n_job, make_tensor, &m, c->err);
    rm_free(t);
    return s;
}

rmas_status rm_convert_gguf(const char *out, const char *model, rm_dtype type, rm_pool *pool, rm_convert_report *report, rmas_error *err) {
    *report = (rm_convert_report){0};
    rm_conversion c = {.path = model, .type = type, .report = report, .err = err};
    rmas_status s = convert(&c, out, pool);
    for (int i = 0; i < c.n_job; i++) {
        rm_free((void *)(uintptr_t)c.job[i].t.name);
        rm_free(c.job[i].values);
        rm_free(c.job[i].row);
        rm_free(c.job[i].col);
    }
    rm_free(c.job);
    rm_gguf_meta_free(&c.meta);
    json_decref(c.config);
    rm_config_free(&c.cfg);
    rm_weights_close(c.w);
    return s;
}
