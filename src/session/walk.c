#include "session/walk.h"

#include <string.h>

#include "tensor/profile.h"
#include "util/mem.h"

static size_t max2(size_t a, size_t b) { return a > b ? a : b; }

enum { N_BUFFER = 13 };

/* Floats per row of the buffers, in the order in which rm_work_fit gives them out. */
static void widths(const rm_config *c, size_t n[N_BUFFER]) {
    const rm_delta_plan *d = &c->delta;
    bool linear = d->n_value > 0;
    size_t q = (size_t)rm_config_q_dim(c), dm = (size_t)c->d_model, ff = (size_t)c->d_ff, conv = linear ? (size_t)rm_delta_conv_dim(d) : 0;
    size_t in = max2((size_t)rm_config_qkv_dim(c), linear ? (size_t)rm_delta_in_dim(d) : 0);
    size_t o = max2(q, linear ? (size_t)rm_delta_value_dim(d) : 0);
    const size_t all[N_BUFFER] = {dm,
                                  dm,
                                  in,
                                  max2(q, conv),
                                  max2(q, dm),
                                  o,
                                  (size_t)c->n_head,
                                  2 * ff,
                                  ff,
                                  2 * (size_t)d->n_value,
                                  (size_t)c->rope[0].n_rot,
                                  (size_t)c->rope[1].n_rot,
                                  1};
    memcpy(n, all, sizeof all);
}

static int capacity(int n_row) { return n_row <= 4 ? 4 : (n_row + 15) / 16 * 16; }
static size_t buffer_floats(size_t width, int cap) { return (width * (size_t)cap + 15) / 16 * 16; }

static size_t work_floats(const rm_config *c, int cap) {
    size_t width[N_BUFFER], n = 0;
    widths(c, width);
    for (int i = 0; i < N_BUFFER; i++) n += buffer_floats(width[i], cap);
    return n;
}

size_t rm_work_bytes(const rm_config *c, int n_row) { return work_floats(c, capacity(n_row)) * sizeof(float); }

rmas_status rm_work_fit(rm_work *w, const rm_model *m, int n_row, int n_run, rmas_error *err) {
    w->m = m;
    if (n_run > w->cap_run) {
        rm_run *r = rm_realloc_array(w->run, (size_t)n_run, sizeof *r);
        if (r) w->run = r;
        rm_seq **s = rm_realloc_array(w->seq, (size_t)n_run, sizeof(rm_seq *));
        if (s) w->seq = s;
        rm_run *last = rm_realloc_array(w->last, (size_t)n_run, sizeof *last);
        if (last) w->last = last;
        if (!r || !s || !last) return rm_fail(err, RMAS_E_NOMEM, "out of memory for a batch of %d sequences", n_run);
        w->cap_run = n_run;
    }
    if (n_row <= w->cap) return RMAS_OK;
    int cap = capacity(n_row);
    float **const buffer[N_BUFFER] = {
        &w->x, &w->a, &w->in, &w->q, &w->t, &w->o, &w->lse, &w->gate_up, &w->h, &w->delta_gate, &w->cs[0], &w->cs[1], (float **)(void *)&w->pos};
    size_t width[N_BUFFER], n = work_floats(&m->cfg, cap);
    rm_free(w->memory);
    w->cap = 0;
    w->memory = rm_aligned(n * sizeof *w->memory);
    if (!w->memory) return rm_fail(err, RMAS_E_NOMEM, "out of memory for a pass of %d rows (%zu bytes)", cap, n * sizeof *w->memory);
    float *at = w->memory;
    widths(&m->cfg, width);
    for (int i = 0; i < N_BUFFER; at += buffer_floats(width[i++], cap)) memcpy(buffer[i], &at, sizeof at);
    w->cap = cap;
    return RMAS_OK;
}

void rm_work_free(rm_work *w) {
    rm_free(w->memory);
    rm_free(w->scratch);
    rm_free(w->run);
    rm_free(w->seq);
    rm_free(w->last);
    memset(w, 0, sizeof *w);
}

rmas_status rm_scratch_fit(float **p, size_t *cap, size_t n, rmas_error *err) {
    if (n <= *cap) return RMAS_OK;
    rm_free(*p);
    *cap = 0;
    *p = rm_aligned((n + n / 2) * sizeof **p);
    if (!*p) return rm_fail(err, RMAS_E_NOMEM, "out of memory for attention (%zu bytes)", (n + n / 2) * sizeof **p);
    *cap = n + n / 2;
    return RMAS_OK;
}

rmas_status rm_work_begin(rm_work *w, int n_row, rmas_error *err) {
    const rm_config *c = &w->m->cfg;
    rm_time_to(w->m->exec, RM_TIME_POINTWISE);
    w->at = w->run;
    for (int i = 0; i < w->n_run; i++)
        for (int k = 0; k < w->run[i].n; k++) w->pos[w->run[i].row + k] = w->run[i].pos + k;
    for (int k = 0; k < 2; k++)
        if (k == RM_LAYER_FULL || c->window) rm_rope_table(w->m->exec, w->cs[k], &c->rope[k], w->pos, n_row);
    return rm_scratch_fit(&w->scratch, &w->cap_scratch, rm_attention_scratch(w->m, w->run, w->n_run), err);
}

/* The mixer's output o from x. */
static rmas_status mix(rm_work *w, int il, int slot, int n_row, rmas_error *err) {
    const rm_model *m = w->m;
    const rm_layer *l = &m->layer[il];
    rm_layer_kind kind = m->cfg.layer[il];
    rm_time_to(m->exec, RM_TIME_POINTWISE);
    rm_norm(m->exec, w->a, w->x, l->norm, m->cfg.d_model, n_row, m->cfg.norm_eps);
    rm_time_to(m->exec, RM_TIME_MIX_IN);
    RM_TRY(rm_linear_mul(m->exec, w->in, w->a, n_row, &l->in, err));
    const size_t width = rm_mixer_in_kept(&m->cfg, il);
    for (int i = 0; i < w->n_run; i++) {
        const rm_record *r = w->seq[i]->record;
        const rm_run *run = &w->run[i];
        if (r && width)
            rm_rows_keep(m, r->in[il] + (size_t)(run->pos - r->first) * width * rm_kept_bytes(m), w->in + (size_t)run->row * width, run->n, width);
    }
    if (kind == RM_LAYER_LINEAR) {
        rm_time_to(m->exec, RM_TIME_DELTA);
        for (int i = 0; i < w->n_run; i++) {
            w->run[i].conv = w->seq[i]->conv + (size_t)slot * rm_seq_conv_floats(m);
            w->run[i].state = w->seq[i]->state + (size_t)slot * rm_seq_state_floats(m);
            const rm_record *r = w->seq[i]->record;
            if (!r) continue;
            w->run[i].snap = r->snap[slot];
            w->run[i].snap_first = r->first;
        }
        rm_delta_mix(m, il, w->o, NULL, w->q, w->delta_gate, w->in, w->run, w->n_run, n_row);
    } else {
        size_t off = (size_t)slot * rm_kv_layer_bytes(m);
        bool kept = false;
        for (int i = 0; i < w->n_run; i++) {
            const rm_record *r = w->seq[i]->record;
            w->run[i].tile = w->seq[i]->cache[kind].tile;
            w->run[i].attention = r ? r->attention[il] + (size_t)(w->run[i].pos - r->first) * rm_attention_kept(&m->cfg) : NULL;
            kept |= r != NULL;
        }
        rm_time_to(m->exec, RM_TIME_POINTWISE);
        rm_attention_prepare(m, il, w->q, w->in, w->cs[kind], w->run, w->n_run, n_row, off);
        rm_time_to(m->exec, RM_TIME_ATTENTION);
        rm_attention(m, il, w->o, w->t, kept ? w->lse : NULL, w->q, w->in, w->run, w->n_run, n_row, off, w->scratch);
    }
    return RMAS_OK;
}

/* Leaves of x and o the wanted rows. Returns how many. */
static int wanted_rows(rm_work *w, rm_layer_kind kind) {
    const rm_config *c = &w->m->cfg;
    const size_t d = (size_t)c->d_model, width = (size_t)(kind == RM_LAYER_LINEAR ? rm_delta_value_dim(&c->delta) : rm_config_q_dim(c));
    int n = 0;
    for (int i = 0; i < w->n_run; n += w->last[i++].n) {
        const size_t from = (size_t)(w->run[i].row + w->run[i].n - w->last[i].n), to = (size_t)n, rows = (size_t)w->last[i].n;
        if (from == to) continue;
        memmove(w->x + to * d, w->x + from * d, rows * d * sizeof *w->x);
        memmove(w->o + to * width, w->o + from * width, rows * width * sizeof *w->o);
    }
    w->at = w->last;
    return n;
}

/* What the backward pass would compute again: rows of the residual sum's width, if they are wanted, and gate and up before the activation. */
static void keep(const rm_work *w, rm_kept what, int il, const float *rows) {
    const size_t d = (size_t)w->m->cfg.d_model;
    for (int i = 0; i < w->n_run; i++) {
        const rm_record *r = w->seq[i]->record;
        const rm_run *run = &w->at[i];
        if (!r || !r->rows[what][il]) continue;
        const int n = what != RM_KEPT_MLP && rm_mixer_rounds(&w->m->cfg, il) ? run->n : rm_record_mlp(r, run->pos, run->n);
        rm_rows_copy(w->m->exec, r->rows[what][il] + (size_t)(run->pos - r->first) * d, rows + (size_t)run->row * d, n, d);
    }
}

static void keep_gate_up(const rm_work *w, int il) {
    const size_t width = 2 * (size_t)w->m->cfg.d_ff;
    for (int i = 0; i < w->n_run; i++) {
        const rm_record *r = w->seq[i]->record;
        const rm_run *run = &w->at[i];
        const int n = r ? rm_record_mlp(r, run->pos, run->n) : 0;
        if (n) rm_rows_keep(w->m, r->gate_up[il] + (size_t)(run->pos - r->first) * width, w->gate_up + (size_t)run->row * width, n, width);
    }
}

rmas_status rm_walk_layer(rm_work *w, int il, int slot, int n_row, rmas_error *err) {
    const rm_model *m = w->m;
    const rm_layer *l = &m->layer[il];
    RM_TRY(mix(w, il, slot, n_row, err));
    if (il == m->cfg.n_layer - 1) n_row = wanted_rows(w, m->cfg.layer[il]);
    rm_time_to(m->exec, RM_TIME_MIX_OUT);
    RM_TRY(rm_linear_mul(m->exec, w->t, w->o, n_row, &l->out, err));
    rm_time_to(m->exec, RM_TIME_POINTWISE);
    keep(w, RM_KEPT_MIX, il, w->t);
    rm_residual(m->exec, w->x, w->t, l->post_norm, m->cfg.d_model, n_row, m->cfg.norm_eps);
    keep(w, RM_KEPT_MID, il, w->x);
    rm_norm(m->exec, w->a, w->x, l->mlp_norm, m->cfg.d_model, n_row, m->cfg.norm_eps);
    rm_time_to(m->exec, RM_TIME_FFN);
    RM_TRY(rm_linear_mul(m->exec, w->gate_up, w->a, n_row, &l->gate_up, err));
    rm_time_to(m->exec, RM_TIME_POINTWISE);
    keep_gate_up(w, il);
    rm_act_mul(m, w->h, w->gate_up, n_row);
    rm_time_to(m->exec, RM_TIME_FFN);
    RM_TRY(rm_linear_mul(m->exec, w->t, w->h, n_row, &l->down, err));
    rm_time_to(m->exec, RM_TIME_POINTWISE);
    keep(w, RM_KEPT_MLP, il, w->t);
    rm_residual(m->exec, w->x, w->t, l->post_mlp_norm, m->cfg.d_model, n_row, m->cfg.norm_eps);
    return RMAS_OK;
}
