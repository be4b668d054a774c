/* The tape: what is kept of pushed positions, and popping them in passes of bounded size. The layers' backward is layer_back.c. */
#include "session/grad.h"

#include <limits.h>
#include <string.h>

#include "session/tape.h"
#include "util/mem.h"

static inline int least(int a, int b) { return a < b ? a : b; }

/* ---- memory of a sequence ----------------------------------------------------------------------------------------------- */

static void sequence_free(rm_tape_seq *s, const rm_model *m) {
    const int n = m->cfg.n_layer;
    rm_record *r = &s->record;
    rm_seq_free(s->seq);
    for (int k = 0; k < RM_KEPT_COUNT; k++) {
        for (int i = 0; r->rows[k] && i <= n; i++) rm_free(r->rows[k][i]);
        rm_free(r->rows[k]);
    }
    for (int i = 0; r->attention && i < n; i++) rm_free(r->attention[i]);
    for (int i = 0; r->gate_up && i < n; i++) rm_free(r->gate_up[i]);
    for (int i = 0; r->in && i < n; i++) rm_free(r->in[i]);
    for (int i = 0; r->snap && i < n; i++) rm_free(r->snap[i]);
    for (int i = 0; s->d_kv && i < n; i++) rm_free(s->d_kv[i]);
    rm_free(r->attention);
    rm_free(r->gate_up);
    rm_free(r->in);
    rm_free(r->snap);
    rm_free(s->d_kv);
    rm_free(s->conv0);
    rm_free(s->d_state);
    rm_free(s->d_conv);
    rm_free(s->d_decay);
    memset(s, 0, sizeof *s);
}

/* Of layer il; gate_up: is kept. */
static bool keeps(const rm_model *m, bool gate_up, rm_kept what, int il) {
    if (what == RM_KEPT_X) return true;
    if (il == m->cfg.n_layer) return false;
    if (what == RM_KEPT_MLP) return m->cfg.post_norm && gate_up;
    return m->cfg.post_norm == (what == RM_KEPT_MIX) && (gate_up || rm_mixer_rounds(&m->cfg, il));
}

static rmas_status sequence_begin(rm_tape_seq *s, const rm_model *m, const rm_seq *prefix, bool gate_up, rmas_error *err) {
    size_t n = (size_t)m->cfg.n_layer;
    if (prefix)
        RM_TRY(rm_seq_clone(&s->seq, prefix, err));
    else
        RM_TRY(rm_seq_new(&s->seq, m, err));
    rm_record *r = &s->record;
    bool ok = true;
    for (int k = 0; k < RM_KEPT_COUNT; k++) ok &= (r->rows[k] = rm_calloc(n + 1, sizeof *r->rows[k])) != NULL;
    r->attention = rm_calloc(n, sizeof *r->attention);
    r->gate_up = gate_up ? rm_calloc(n, sizeof *r->gate_up) : NULL;
    r->in = rm_calloc(n, sizeof *r->in);
    r->snap = rm_calloc(n, sizeof *r->snap);
    s->d_kv = rm_calloc(n, sizeof *s->d_kv);
    size_t n_linear = (size_t)s->seq->n_linear, conv = n_linear * rm_seq_conv_floats(m);
    s->conv0 = rm_calloc(conv + 1, sizeof *s->conv0);
    s->d_conv = rm_calloc(conv + 1, sizeof *s->d_conv);
    s->d_state = rm_calloc(n_linear * rm_seq_state_floats(m) + 1, sizeof *s->d_state);
    s->d_decay = rm_calloc(n_linear * (size_t)m->cfg.delta.n_value + 1, sizeof *s->d_decay);
    ok &= r->attention && (r->gate_up || !gate_up) && r->in && r->snap && s->d_kv;
    if (!ok || !s->conv0 || !s->d_conv || !s->d_state || !s->d_decay) return rm_fail(err, RMAS_E_NOMEM, "out of memory for a tape");
    if (conv) memcpy(s->conv0, s->seq->conv, conv * sizeof *s->conv0);
    r->first = r->seen = s->seq->len;
    r->end = INT_MAX;
    s->seq->record = r;
    return RMAS_OK;
}

/* p: the address of a pointer to n elements of `size` bytes. */
static bool grow(void *p, size_t n, size_t size) {
    void *v;
    memcpy(&v, p, sizeof v);
    if (!(v = rm_realloc_array(v, n, size))) return false;
    memcpy(p, &v, sizeof v);
    return true;
}

/* Of a position, what is kept of the input of layer il's mixer. */
static size_t in_bytes(const rm_model *m, int il) { return rm_mixer_in_kept(&m->cfg, il) * rm_kept_bytes(m); }

static rmas_status sequence_reserve(rm_tape_seq *s, const rm_model *m, int n, rmas_error *err) {
    const rm_config *c = &m->cfg;
    rm_record *r = &s->record;
    int64_t want = (int64_t)s->seq->len - r->first + n;
    int n_snap = rm_snap_index(r->first, r->first + (int)want - 1) + 1, linear = 0;
    bool ok = want <= INT32_MAX / 2;
    if (ok && want > s->cap) {
        int cap = (int)want > s->cap + s->cap / 2 ? (int)want : s->cap + s->cap / 2;
        for (int k = 0; k < RM_KEPT_COUNT; k++)
            for (int i = 0; ok && i <= c->n_layer; i++)
                ok = !keeps(m, r->gate_up, (rm_kept)k, i) || grow(&r->rows[k][i], (size_t)cap * (size_t)c->d_model, sizeof(float));
        for (int i = 0; ok && i < c->n_layer; i++)
            ok = c->layer[i] == RM_LAYER_LINEAR || grow(&r->attention[i], (size_t)cap * rm_attention_kept(c), sizeof(float));
        for (int i = 0; ok && r->gate_up && i < c->n_layer; i++) ok = grow(&r->gate_up[i], (size_t)cap * 2 * (size_t)c->d_ff, sizeof(uint16_t));
        for (int i = 0; ok && i < c->n_layer; i++) ok = !in_bytes(m, i) || grow(&r->in[i], (size_t)cap, in_bytes(m, i));
        if (ok) s->cap = cap;
    }
    size_t state = rm_seq_state_floats(m);
    for (int i = 0; ok && i < c->n_layer && n_snap > s->cap_snap; i++)
        if (c->layer[i] == RM_LAYER_LINEAR) ok = grow(&r->snap[linear++], (size_t)n_snap * state, sizeof(float));
    if (ok && n_snap > s->cap_snap) s->cap_snap = n_snap;
    return ok ? RMAS_OK : rm_fail(err, RMAS_E_NOMEM, "out of memory for a tape of %lld positions", (long long)want);
}

/* Before the first pop: gradients of keys and values, zero. */
static rmas_status sequence_gradients(rm_tape_seq *s, const rm_model *m, rmas_error *err) {
    for (int i = 0; i < m->cfg.n_layer; i++) {
        if (s->d_kv[i] || m->cfg.layer[i] == RM_LAYER_LINEAR) continue;
        s->d_kv[i] = rm_calloc((size_t)s->cap * 2 * (size_t)rm_config_kv_dim(&m->cfg), sizeof **s->d_kv);
        if (!s->d_kv[i]) return rm_fail(err, RMAS_E_NOMEM, "out of memory for the gradients of %d positions", s->cap);
    }
    return RMAS_OK;
}

/* ---- the tape ----------------------------------------------------------------------------------------------------------- */

rmas_status rm_tape_new(rm_tape **out, const rm_model *m, bool gate_up, rmas_error *err) {
    rm_tape *t = *out = RM_NEW(rm_tape);
    if (!t) return rm_fail(err, RMAS_E_NOMEM, "out of memory for a tape");
    t->m = m;
    t->gate_up = gate_up && m->precision == RM_NATIVE;
    rmas_status st = rm_batch_new(&t->batch, m, err);
    if (st != RMAS_OK) {
        rm_tape_free(t);
        *out = NULL;
    }
    return st;
}

static void drop_sequences(rm_tape *t) {
    for (int i = 0; i < t->n_seq; i++) sequence_free(&t->seq[i], t->m);
    rm_free(t->seq);
    t->seq = NULL;
    t->n_seq = 0;
}

void rm_tape_free(rm_tape *t) {
    if (!t) return;
    drop_sequences(t);
    rm_batch_free(t->batch);
    rm_back_free(&t->back);
    rm_free(t);
}

rmas_status rm_tape_add(rm_tape *t, const rm_seq *prefix, int *seq, rmas_error *err) {
    if (prefix && prefix->m != t->m) return rm_fail(err, RMAS_E_ARG, "sequence %d begins with a sequence of another model", t->n_seq);
    rm_tape_seq *all = rm_realloc_array(t->seq, (size_t)t->n_seq + 1, sizeof *all);
    if (!all) return rm_fail(err, RMAS_E_NOMEM, "out of memory for a tape");
    t->seq = all;
    for (int i = 0; i < t->n_seq; i++)
        if (all[i].seq) all[i].seq->record = &all[i].record; /* it has moved */
    *seq = t->n_seq++;
    all[*seq] = (rm_tape_seq){0};
    return sequence_begin(&all[*seq], t->m, prefix, t->gate_up, err);
}

void rm_tape_drop(rm_tape *t, int seq) { sequence_free(&t->seq[seq], t->m); }

rmas_status rm_tape_begin(rm_tape *t, int n_seq, const rm_seq *const *prefix, rmas_error *err) {
    drop_sequences(t);
    t->broken = false;
    if (n_seq < 0) return rm_fail(err, RMAS_E_ARG, "a tape of %d sequences", n_seq);
    for (int i = 0, seq; i < n_seq; i++) RM_TRY(rm_tape_add(t, prefix ? prefix[i] : NULL, &seq, err));
    return RMAS_OK;
}

int rm_tape_len(const rm_tape *t, int seq) { return t->seq[seq].seq->len; }

/* What a position takes beside the caches. */
static size_t position_bytes(const rm_model *m, bool gate_up, bool popped) {
    const rm_config *c = &m->cfg;
    size_t layers = (size_t)c->n_layer, attention = layers - (size_t)rm_model_count_layers(m, RM_LAYER_LINEAR), rows = 0, in = 0;
    for (int k = 0; k < RM_KEPT_COUNT; k++)
        for (int i = 0; i <= c->n_layer; i++) rows += keeps(m, gate_up, (rm_kept)k, i);
    for (int i = 0; i < c->n_layer; i++) in += in_bytes(m, i);
    size_t floats = rows * (size_t)c->d_model + attention * (rm_attention_kept(c) + (popped ? 2 * (size_t)rm_config_kv_dim(c) : 0));
    return floats * sizeof(float) + in + (gate_up ? layers * 2 * (size_t)c->d_ff * sizeof(uint16_t) : 0);
}

size_t rm_tape_bytes_per_token(const rm_model *m, bool gate_up) {
    return position_bytes(m, gate_up && m->precision == RM_NATIVE, true) + rm_seq_bytes_per_token(m);
}

size_t rm_tape_bytes(const rm_tape *t) {
    size_t n = 0;
    for (int i = 0; i < t->n_seq; i++) {
        const rm_tape_seq *s = &t->seq[i];
        if (!s->seq) continue;
        n += (size_t)s->cap * position_bytes(t->m, t->gate_up, s->popped);
        n += (size_t)s->cap_snap * (size_t)s->seq->n_linear * rm_seq_state_floats(t->m) * sizeof(float);
        n += (size_t)s->seq->len * rm_seq_bytes_per_token(t->m) + 2 * rm_seq_bytes_fixed(t->m);
    }
    return n;
}

static rmas_status check_item(const rm_tape *t, int i, int seq, int n, uint8_t *seen, rmas_error *err) {
    if (seq < 0 || seq >= t->n_seq || !t->seq[seq].seq) return rm_fail(err, RMAS_E_ARG, "item %d: sequence %d of %d", i, seq, t->n_seq);
    if (n < 1) return rm_fail(err, RMAS_E_ARG, "item %d: %d rows", i, n);
    if (seen[seq]) return rm_fail(err, RMAS_E_ARG, "item %d: sequence %d comes twice", i, seq);
    seen[seq] = 1;
    return RMAS_OK;
}

static rmas_status usable(const rm_tape *t, rmas_error *err) {
    return t->broken ? rm_fail(err, RMAS_E_ARG, "an earlier call on the tape failed: begin again") : RMAS_OK;
}

/* ---- push --------------------------------------------------------------------------------------------------------------- */

static rmas_status push(rm_tape *t, const rm_tape_rows *rows, int n_rows, rm_feed *feed, uint8_t *seen, float **hidden, rmas_error *err) {
    size_t d = (size_t)t->m->cfg.d_model, total = 0, at = 0;
    bool wanted = false;
    for (int i = 0; i < n_rows; i++) {
        RM_TRY(check_item(t, i, rows[i].seq, rows[i].n, seen, err));
        if (t->seq[rows[i].seq].popped) return rm_fail(err, RMAS_E_ARG, "nothing can be pushed after a pop: begin again");
        rm_tape_seq *s = &t->seq[rows[i].seq];
        RM_TRY(sequence_reserve(s, t->m, rows[i].n, err));
        if (rows[i].step && s->record.end > s->seq->len) s->record.end = s->seq->len;
        if (rows[i].n_unseen > 0 && s->record.seen < s->seq->len)
            return rm_fail(err, RMAS_E_ARG, "item %d: positions behind seen ones are to be unseen", i);
        if (rows[i].n_unseen > 0) s->record.seen += least(rows[i].n_unseen, rows[i].n);
        feed[i] = (rm_feed){
            .seq = s->seq, .n = rows[i].n, .tokens = rows[i].tokens, .embeds = rows[i].embeds, .n_unseen = rows[i].n_unseen, .step = rows[i].step};
        total += (size_t)rows[i].n;
        wanted |= rows[i].hidden != NULL;
    }
    if (wanted && !(*hidden = rm_array(total, d * sizeof **hidden))) return rm_fail(err, RMAS_E_NOMEM, "out of memory for %zu hidden states", total);
    RM_TRY(rm_batch_forward_tap(t->batch, feed, n_rows, &(rm_tap){.hidden = *hidden}, err));
    for (int i = 0; i < n_rows; at += (size_t)rows[i++].n)
        if (rows[i].hidden) memcpy(rows[i].hidden, *hidden + at * d, (size_t)rows[i].n * d * sizeof **hidden);
    return RMAS_OK;
}

rmas_status rm_tape_push(rm_tape *t, const rm_tape_rows *rows, int n_rows, rmas_error *err) {
    RM_TRY(usable(t, err));
    rm_feed *feed = rm_calloc((size_t)n_rows, sizeof *feed);
    uint8_t *seen = rm_calloc((size_t)t->n_seq, 1);
    float *hidden = NULL;
    rmas_status st = feed && seen ? push(t, rows, n_rows, feed, seen, &hidden, err) : rm_fail(err, RMAS_E_NOMEM, "out of memory for a tape");
    rm_free(feed);
    rm_free(seen);
    rm_free(hidden);
    t->broken = st != RMAS_OK;
    return st;
}

/* ---- pop ---------------------------------------------------------------------------------------------------------------- */

/* Rows at the end that have no gradient, of the first pop of a sequence: nothing is to be computed. Returns how many are left. */
static int pop_unsent(rm_tape_seq *s, const rm_tape_grads *g, size_t d) {
    int n = g->n;
    while (n > 0 && (!g->d_hidden || rm_all_zero(g->d_hidden + (size_t)(n - 1) * d, d))) n--;
    s->seq->len -= g->n - n;
    if (g->d_embeds) memset(g->d_embeds + (size_t)n * d, 0, (size_t)(g->n - n) * d * sizeof *g->d_embeds);
    return n;
}

/* The last rows of the items that are not done, at most POP_ROWS together. left: rows of each item that remain. Positions of prompts and steps do not go
 * together: their products differ. */
static int fill(rm_tape *t, const rm_tape_grads *grads, int n_grads, const int *left) {
    rm_back *b = &t->back;
    int n_row = 0;
    b->n_run = 0;
    for (int i = 0; i < n_grads && n_row < RM_POP_ROWS; i++) {
        rm_tape_seq *s = &t->seq[grads[i].seq];
        const bool prompt = s->seq->len <= s->record.end;
        if (!left[i] || (b->n_run && b->prompt != prompt)) continue;
        b->prompt = prompt;
        int n = left[i] < RM_POP_ROWS - n_row ? left[i] : RM_POP_ROWS - n_row;
        if (!prompt && n > s->seq->len - s->record.end) n = s->seq->len - s->record.end;
        b->item[b->n_run] = i;
        b->seq[b->n_run] = s;
        b->run[b->n_run++] = (rm_run){.row = n_row, .n = n, .pos = s->seq->len - n};
        n_row += n;
    }
    return n_row;
}

static rmas_status pop(rm_tape *t, const rm_tape_grads *grads, int n_grads, int *left, rmas_error *err) {
    rm_back *b = &t->back;
    size_t d = (size_t)t->m->cfg.d_model;
    int64_t total = 0;
    for (int i = 0; i < n_grads; i++) {
        rm_tape_seq *s = &t->seq[grads[i].seq];
        total += left[i] = s->popped ? grads[i].n : pop_unsent(s, &grads[i], d);
        s->popped = true;
        RM_TRY(sequence_gradients(s, t->m, err));
    }
    if (total == 0) return RMAS_OK;
    RM_TRY(rm_back_fit(b, t->m, total < RM_POP_ROWS ? (int)total : RM_POP_ROWS, n_grads, err));
    for (int n; (n = fill(t, grads, n_grads, left));) {
        for (int i = 0; i < b->n_run; i++) {
            const rm_run *r = &b->run[i];
            const float *g = grads[b->item[i]].d_hidden;
            float *to = b->d_hidden + (size_t)r->row * d;
            if (g)
                memcpy(to, g + (size_t)(left[b->item[i]] - r->n) * d, (size_t)r->n * d * sizeof *to);
            else
                memset(to, 0, (size_t)r->n * d * sizeof *to);
        }
        RM_TRY(rm_back_rows(b, n, err));
        for (int i = 0; i < b->n_run; i++) {
            const rm_run *r = &b->run[i];
            float *g = grads[b->item[i]].d_embeds;
            left[b->item[i]] -= r->n;
            if (g) memcpy(g + (size_t)left[b->item[i]] * d, b->dx + (size_t)r->row * d, (size_t)r->n * d * sizeof *g);
            b->seq[i]->seq->len -= r->n;
        }
    }
    return RMAS_OK;
}

rmas_status rm_tape_pop(rm_tape *t, const rm_tape_grads *grads, int n_grads, rmas_error *err) {
    RM_TRY(usable(t, err));
    uint8_t *seen = rm_calloc((size_t)t->n_seq, 1);
    int *left = rm_calloc((size_t)n_grads, sizeof *left);
    rmas_status st = seen && left ? RMAS_OK : rm_fail(err, RMAS_E_NOMEM, "out of memory for a tape");
    for (int i = 0; i < n_grads && st == RMAS_OK; i++) {
        st = check_item(t, i, grads[i].seq, grads[i].n, seen, err);
        const rm_tape_seq *s = st == RMAS_OK ? &t->seq[grads[i].seq] : NULL;
        if (s && grads[i].n > s->seq->len - s->record.first)
            st = rm_fail(err, RMAS_E_ARG, "%d rows are to be popped, sequence %d has %d", grads[i].n, grads[i].seq, s->seq->len - s->record.first);
    }
    if (st == RMAS_OK) {
        st = pop(t, grads, n_grads, left, err);
        t->broken = st != RMAS_OK;
    }
    rm_free(seen);
    rm_free(left);
    return st;
}
