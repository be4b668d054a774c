/* The backward walk: each layer is computed again from its kept input, then gone through backwards. */
#include <string.h>

#include "session/tape.h"
#include "util/mem.h"

static size_t round16(size_t n) { return (n + 15) / 16 * 16; }

/* Rows of the longer runs: up to a block and the convolution's reach before each run. */
static size_t ext_rows(const rm_model *m, int n_row, int n_run) {
    return (size_t)n_row + (size_t)n_run * (size_t)(RM_KV_BLOCK - 1 + m->cfg.delta.n_tap - 1);
}

static bool fit_runs(rm_back *b, int n) {
    rm_free(b->run);
    rm_free(b->ext);
    rm_free(b->last);
    rm_free(b->seq);
    rm_free(b->item);
    rm_free(b->kv_grad);
    rm_free(b->delta_grad);
    b->cap_run = 0;
    b->run = rm_calloc((size_t)n, sizeof *b->run);
    b->ext = rm_calloc((size_t)n, sizeof *b->ext);
    b->last = rm_calloc((size_t)n, sizeof *b->last);
    b->seq = rm_calloc((size_t)n, sizeof *b->seq);
    b->item = rm_calloc((size_t)n, sizeof *b->item);
    b->kv_grad = rm_calloc((size_t)n, sizeof *b->kv_grad);
    b->delta_grad = rm_calloc((size_t)n, sizeof *b->delta_grad);
    return b->run && b->ext && b->last && b->seq && b->item && b->kv_grad && b->delta_grad;
}

rmas_status rm_back_fit(rm_back *b, const rm_model *m, int n_row, int n_run, rmas_error *err) {
    const rm_config *c = &m->cfg;
    const rm_delta_plan *dp = &c->delta;
    if (b->memory && n_row <= b->cap && n_run <= b->cap_run) return RMAS_OK;
    if (n_row < b->cap) n_row = b->cap;
    if (n_run < b->cap_run) n_run = b->cap_run;
    b->m = m;
    bool linear = dp->n_value > 0;
    size_t r = (size_t)n_row, d = (size_t)c->d_model, q = (size_t)rm_config_q_dim(c), conv = linear ? (size_t)rm_delta_conv_dim(dp) : 0;
    size_t vd = linear ? (size_t)rm_delta_value_dim(dp) : 0, din = linear ? (size_t)rm_delta_in_dim(dp) : 0, nv = (size_t)dp->n_value;
    size_t in = (size_t)rm_config_qkv_dim(c) > din ? (size_t)rm_config_qkv_dim(c) : din, ext = linear ? ext_rows(m, n_row, n_run) : 0;
    size_t o = q > vd ? q : vd;
    const struct {
        float **p;
        size_t n;
    } part[] = {{&b->d_hidden, r * d},
                {&b->dx, r * d},
                {&b->x, r * d},
                {&b->mid, r * d},
                {&b->a, r * d},
                {&b->da, r * d},
                {&b->t1, r * d},
                {&b->t2, r * d},
                {&b->in, c->qk_norm || c->attn_gate ? r * (size_t)rm_config_qkv_dim(c) : 0},
                {&b->d_in, r * in},
                {&b->o, r * o},
                {&b->d_o, r * o},
                {&b->gate_up, r * 2 * (size_t)c->d_ff},
                {&b->h, r * (size_t)c->d_ff},
                {&b->cs[0], r * (size_t)c->rope[0].n_rot},
                {&b->cs[1], r * (size_t)c->rope[1].n_rot},
                {(float **)(void *)&b->pos, r},
                {&b->ext_in, ext * din},
                {&b->conv, ext * conv},
                {&b->gate, ext * 2 * nv},
                {&b->ext_o, ext * vd},
                {&b->rest, ext * vd},
                {&b->d_gate, r * 2 * nv},
                {&b->du, r * conv},
                {&b->d_qk, r * nv * 2 * (size_t)dp->d_key},
                {&b->conv_tmp, linear ? (size_t)n_run * rm_seq_conv_floats(m) : 0},
                {&b->state_tmp, linear ? (size_t)n_run * rm_seq_state_floats(m) : 0}};
    size_t n = 0, scratch = rm_attention_back_scratch(m, n_row);
    size_t other = linear ? rm_delta_back_scratch(m) * (size_t)rm_pool_size(m->exec->pool) : 0;
    for (size_t i = 0; i < RM_COUNT(part); i++) n += round16(part[i].n);
    rm_free(b->memory);
    rm_free(b->scratch);
    b->memory = rm_aligned(n * sizeof *b->memory);
    b->scratch = rm_aligned((scratch > other ? scratch : other) * sizeof *b->scratch);
    b->cap = 0;
    if (!fit_runs(b, n_run) || !b->memory || !b->scratch)
        return rm_fail(err, RMAS_E_NOMEM, "out of memory for a backward pass of %d rows (%zu bytes)", n_row, n * sizeof *b->memory);
    float *at = b->memory;
    for (size_t i = 0; i < RM_COUNT(part); at += round16(part[i++].n)) memcpy(part[i].p, &at, sizeof at);
    b->cap = n_row;
    b->cap_run = n_run;
    return RMAS_OK;
}

void rm_back_free(rm_back *b) {
    rm_free(b->run);
    rm_free(b->ext);
    rm_free(b->last);
    rm_free(b->seq);
    rm_free(b->item);
    rm_free(b->kv_grad);
    rm_free(b->delta_grad);
    rm_free(b->memory);
    rm_free(b->scratch);
    memset(b, 0, sizeof *b);
}

/* What was kept of layer il: where it lies if there is one run, else put together in `to`. */
static const float *kept_rows(const rm_back *b, float *to, rm_kept what, int il) {
    const size_t d = (size_t)b->m->cfg.d_model;
    for (int i = 0; i < b->n_run; i++) {
        const rm_run *r = &b->run[i];
        const float *from = b->seq[i]->record.rows[what][il] + (size_t)(r->pos - b->seq[i]->record.first) * d;
        if (b->n_run == 1) return from;
        rm_rows_copy(b->m->exec, to + (size_t)r->row * d, from, r->n, d);
    }
    return to;
}

/* ---- mixers -------------------------------------------------------------------------------------------------------------- */

/* From what is kept. */
static void attention_again(rm_back *b, int il) {
    const rm_model *m = b->m;
    const size_t width = rm_mixer_in_kept(&m->cfg, il), each = rm_attention_kept(&m->cfg);
    for (int i = 0; i < b->n_run; i++) {
        const rm_tape_seq *s = b->seq[i];
        rm_run *run = &b->run[i];
        const size_t at = (size_t)(run->pos - s->record.first);
        run->tile = s->seq->cache[m->cfg.layer[il]].tile;
        b->kv_grad[i] = (rm_kv_grad){s->d_kv[il], s->record.first, s->record.attention[il] + at * each};
        if (width) rm_rows_kept(m, b->in + (size_t)run->row * width, s->record.in[il] + at * width * rm_kept_bytes(m), run->n, width);
    }
}

static void attention_back(rm_back *b, int il, int slot, int n_row) {
    const rm_model *m = b->m;
    rm_layer_kind kind = m->cfg.layer[il];
    rm_attention_back(m, il, b->d_in, b->d_o, b->in, b->cs[kind], b->run, b->kv_grad, b->n_run, n_row, (size_t)slot * rm_kv_layer_bytes(m),
                      b->scratch);
}

/* From what is kept: the rows of each run from the last kept state on, and before them what the convolution reaches. */
static void delta_again(rm_back *b, int il, int slot) {
    const rm_model *m = b->m;
    const rm_delta_plan *d = &m->cfg.delta;
    size_t conv = rm_seq_conv_floats(m), state = rm_seq_state_floats(m), width = (size_t)rm_delta_in_dim(d);
    int n_ext = 0, reach = d->n_tap - 1;
    for (int i = 0; i < b->n_run; i++) {
        const rm_run *r = &b->run[i];
        const rm_tape_seq *s = b->seq[i];
        int first = s->record.first, begin = rm_snap_begin(first, r->pos), pos = begin - reach > first ? begin - reach : first;
        rm_run *x = &b->ext[i];
        *x = (rm_run){.row = n_ext, .n = r->pos + r->n - pos, .pos = pos, .skip = begin - pos};
        x->conv = b->conv_tmp + (size_t)i * conv;
        x->state = b->state_tmp + (size_t)i * state;
        const float *before = s->conv0 + (size_t)slot * conv;
        x->snap = s->record.snap[slot];
        x->snap_first = first;
        x->again = true;
        if (pos == first)
            memcpy(x->conv, before, conv * sizeof *before);
        else
            memset(x->conv, 0, conv * sizeof *before); /* reaches only rows that are skipped */
        rm_rows_kept(m, b->ext_in + (size_t)n_ext * width, s->record.in[il] + (size_t)(pos - first) * width * rm_kept_bytes(m), x->n, width);
        b->delta_grad[i] = (rm_delta_grad){.d_state = s->d_state + (size_t)slot * state,
                                           .d_conv = s->d_conv + (size_t)slot * conv,
                                           .d_decay = s->d_decay + (size_t)slot * (size_t)d->n_value,
                                           .snap = s->record.snap[slot],
                                           .snap_first = first,
                                           .ext_row = n_ext,
                                           .ext_pos = pos};
        n_ext += x->n;
    }
    rm_delta_mix(m, il, b->ext_o, b->rest, b->conv, b->gate, b->ext_in, b->ext, b->n_run, n_ext);
}

static void delta_back(rm_back *b, int il, int slot) {
    const rm_delta_rows rows = {b->ext_o, b->rest, b->ext_in, b->conv, b->gate, b->du, b->d_qk, b->d_gate, b->scratch};
    for (int i = 0; i < b->n_run; i++) b->run[i].conv = b->seq[i]->conv0 + (size_t)slot * rm_seq_conv_floats(b->m);
    rm_delta_back(b->m, il, b->d_in, b->d_o, &rows, b->run, b->delta_grad, b->n_run);
}

/* ---- a layer ------------------------------------------------------------------------------------------------------------- */

/* dt: the gradient of a block's output t from that of the residual sum; t is the block's output before the norm w (if there is one). */
static const float *through_post_norm(rm_back *b, float *dt, const float *t, const float *w, int n_row) {
    if (!w) return b->dx;
    memset(dt, 0, (size_t)n_row * (size_t)b->m->cfg.d_model * sizeof *dt);
    rm_norm_back(b->m->exec, dt, b->dx, t, w, b->m->cfg.d_model, n_row, b->m->cfg.norm_eps);
    return dt;
}

/* Is gate_up kept of all rows, and with it what else is kept of those? */
static bool mlp_kept(const rm_back *b) { return b->prompt && b->seq[0]->record.gate_up; }

/* The products of gate and up, rounded as they are kept, and, where there is a norm behind the MLP, its input *out. */
static rmas_status gate_up_again(rm_back *b, int il, int n_row, const float *mid, const float **out, rmas_error *err) {
    const rm_model *m = b->m;
    const rm_layer *l = &m->layer[il];
    const size_t width = 2 * (size_t)m->cfg.d_ff;
    if (mlp_kept(b)) {
        for (int i = 0; i < b->n_run; i++) {
            const rm_run *r = &b->run[i];
            const uint16_t *kept = b->seq[i]->record.gate_up[il] + (size_t)(r->pos - b->seq[i]->record.first) * width;
            rm_rows_kept(m, b->gate_up + (size_t)r->row * width, kept, r->n, width);
        }
        if (l->post_mlp_norm) *out = kept_rows(b, b->t2, RM_KEPT_MLP, il);
        return RMAS_OK;
    }
    rm_norm(m->exec, b->a, mid, l->mlp_norm, m->cfg.d_model, n_row, m->cfg.norm_eps);
    RM_TRY(rm_linear_mul(m->exec, b->gate_up, b->a, n_row, &l->gate_up, err));
    if (l->post_mlp_norm) {
        rm_act_mul(m, b->h, b->gate_up, n_row);
        RM_TRY(rm_linear_mul(m->exec, b->t2, b->h, n_row, &l->down, err));
        *out = b->t2;
    }
    rm_rows_round(m, b->gate_up, n_row, width);
    return RMAS_OK;
}

static rmas_status mlp_back(rm_back *b, int il, int n_row, const float *mid, rmas_error *err) {
    const rm_model *m = b->m;
    const rm_layer *l = &m->layer[il];
    int d = m->cfg.d_model;
    float eps = m->cfg.norm_eps;
    const float *out = NULL;
    RM_TRY(gate_up_again(b, il, n_row, mid, &out, err));
    const float *dt = through_post_norm(b, b->da, out, l->post_mlp_norm, n_row);
    RM_TRY(rm_linear_mul_t(m->exec, b->h, dt, n_row, &l->down, err));
    rm_act_mul_back(m, b->gate_up, b->h, b->gate_up, n_row);
    RM_TRY(rm_linear_mul_t(m->exec, b->da, b->gate_up, n_row, &l->gate_up, err));
    rm_norm_back(m->exec, b->dx, b->da, mid, l->mlp_norm, d, n_row, eps);
    return RMAS_OK;
}

/* The mixer's output *out, before the norm behind it if there is one, from that of attention (a mixer that rounds is kept). */
static rmas_status mix_again(rm_back *b, int il, int n_row, const float **out, rmas_error *err) {
    const rm_model *m = b->m;
    const size_t q = (size_t)rm_config_q_dim(&m->cfg), each = rm_attention_kept(&m->cfg);
    for (int i = 0; i < b->n_run; i++) {
        const rm_run *r = &b->run[i];
        const float *kept = b->seq[i]->record.attention[il] + (size_t)(r->pos - b->seq[i]->record.first) * each;
        for (int k = 0; k < r->n; k++) memcpy(b->o + (size_t)(r->row + k) * q, kept + (size_t)k * each, q * sizeof *b->o);
    }
    *out = b->t1;
    return rm_linear_mul(m->exec, b->t1, b->o, n_row, &m->layer[il].out, err);
}

/* The residual sums *mid between mixer and MLP; x: the layer's input. Where there is a norm behind the mixer, *out is its input. */
static rmas_status mid_again(rm_back *b, int il, int n_row, const float *x, const float **mid, const float **out, rmas_error *err) {
    const rm_model *m = b->m;
    const rm_layer *l = &m->layer[il];
    const bool kept = rm_mixer_rounds(&m->cfg, il) || mlp_kept(b);
    if (kept && !l->post_norm) {
        *mid = kept_rows(b, b->mid, RM_KEPT_MID, il);
        return RMAS_OK;
    }
    if (kept)
        *out = kept_rows(b, b->t1, RM_KEPT_MIX, il);
    else
        RM_TRY(mix_again(b, il, n_row, out, err));
    rm_rows_copy(m->exec, b->mid, x, n_row, (size_t)m->cfg.d_model);
    rm_rows_copy(m->exec, b->t2, *out, n_row, (size_t)m->cfg.d_model); /* is overwritten */
    rm_residual(m->exec, b->mid, b->t2, l->post_norm, m->cfg.d_model, n_row, m->cfg.norm_eps);
    *mid = b->mid;
    return RMAS_OK;
}

/* Through the MLP and the mixer's output product: dx becomes the gradient of the residual sum before the mixer as far as it goes past it, d_o that of
 * what the mixer gives. */
static rmas_status output_back(rm_back *b, int il, int n_row, rmas_error *err) {
    const rm_model *m = b->m;
    const rm_layer *l = &m->layer[il];
    const float *mid, *out = NULL;
    RM_TRY(mid_again(b, il, n_row, kept_rows(b, b->x, RM_KEPT_X, il), &mid, &out, err));
    RM_TRY(mlp_back(b, il, n_row, mid, err));
    const float *dt = through_post_norm(b, b->da, out, l->post_norm, n_row);
    return rm_linear_mul_t(m->exec, b->d_o, dt, n_row, &l->out, err);
}

static rmas_status mixer_back(rm_back *b, int il, int slot, int n_row, rmas_error *err) {
    const rm_model *m = b->m;
    const rm_layer *l = &m->layer[il];
    if (m->cfg.layer[il] == RM_LAYER_LINEAR) {
        delta_again(b, il, slot);
        delta_back(b, il, slot);
    } else {
        attention_again(b, il);
        attention_back(b, il, slot, n_row);
    }
    RM_TRY(rm_linear_mul_t(m->exec, b->da, b->d_in, n_row, &l->in, err));
    rm_norm_back(m->exec, b->dx, b->da, kept_rows(b, b->x, RM_KEPT_X, il), l->norm, m->cfg.d_model, n_row, m->cfg.norm_eps);
    return RMAS_OK;
}

/* Makes b->last; the gradients of its rows move to the front of d_hidden. Returns how many rows it has, -1 if a state that has a gradient was unseen. */
static int find_last(rm_back *b) {
    const size_t d = (size_t)b->m->cfg.d_model;
    int n_row = 0;
    for (int i = 0; i < b->n_run; i++) {
        const rm_run *r = &b->run[i];
        const float *g = b->d_hidden + (size_t)r->row * d;
        int from = 0, to = r->n;
        while (to > from && rm_all_zero(g + (size_t)(to - 1) * d, d)) to--;
        while (from < to && rm_all_zero(g + (size_t)from * d, d)) from++;
        if (from < to && r->pos + from < b->seq[i]->record.seen) return -1;
        b->last[i] = (rm_run){.row = n_row, .n = to - from, .pos = r->pos + from};
        memmove(b->d_hidden + (size_t)n_row * d, g + (size_t)from * d, (size_t)(to - from) * d * sizeof *g);
        n_row += to - from;
    }
    return n_row;
}

/* Rows of b->last become those of b->run, with zeros between them. */
static void spread(const rm_back *b, float *x, size_t d) {
    for (int i = b->n_run - 1; i >= 0; i--) {
        const rm_run *r = &b->run[i], *l = &b->last[i];
        float *to = x + (size_t)r->row * d;
        const size_t before = (size_t)(l->pos - r->pos), behind = (size_t)(r->n - l->n) - before;
        memmove(to + before * d, x + (size_t)l->row * d, (size_t)l->n * d * sizeof *x);
        memset(to, 0, before * d * sizeof *x);
        memset(to + (before + (size_t)l->n) * d, 0, behind * d * sizeof *x);
    }
}

/* From the gradient of states to that of what the last layer's mixer gives: only of rows that have one. */
static rmas_status states_back(rm_back *b, rmas_error *err) {
    const rm_model *m = b->m;
    const rm_config *c = &m->cfg;
    const int n_row = find_last(b), il = c->n_layer - 1;
    if (n_row < 0) return rm_fail(err, RMAS_E_ARG, "a gradient for a state that was unseen");
    rm_run *run = b->run;
    b->run = b->last;
    memset(b->dx, 0, (size_t)n_row * (size_t)c->d_model * sizeof *b->dx);
    rm_norm_back(m->exec, b->dx, b->d_hidden, kept_rows(b, b->x, RM_KEPT_X, c->n_layer), m->out_norm, c->d_model, n_row, c->norm_eps);
    rmas_status st = n_row ? output_back(b, il, n_row, err) : RMAS_OK;
    b->run = run;
    spread(b, b->dx, (size_t)c->d_model);
    spread(b, b->d_o, (size_t)rm_matrix_n_in(m->layer[il].out.w));
    return st;
}

rmas_status rm_back_rows(rm_back *b, int n_row, rmas_error *err) {
    const rm_model *m = b->m;
    const rm_config *c = &m->cfg;
    int slot[RM_LAYER_KINDS];
    for (int k = 0; k < RM_LAYER_KINDS; k++) slot[k] = rm_model_count_layers(m, (rm_layer_kind)k);
    for (int i = 0; i < b->n_run; i++) {
        const rm_run *r = &b->run[i];
        for (int k = 0; k < r->n; k++) b->pos[r->row + k] = r->pos + k;
    }
    for (int k = 0; k < 2; k++)
        if (k == RM_LAYER_FULL || c->window) rm_rope_table(m->exec, b->cs[k], &c->rope[k], b->pos, n_row);
    m->exec->prompt = b->prompt;
    rmas_status st = states_back(b, err);
    for (int il = c->n_layer - 1; il >= 0 && st == RMAS_OK; il--) {
        if (il < c->n_layer - 1) st = output_back(b, il, n_row, err);
        if (st == RMAS_OK) st = mixer_back(b, il, --slot[c->layer[il]], n_row, err);
    }
    m->exec->prompt = false;
    return st;
}
