/* A ragged batch: feeds are cut into passes of bounded size, a pass walks through the layers, wanted rows go through the head. */
#include <math.h>
#include <string.h>

#include "session/walk.h"
#include "tensor/profile.h"
#include "util/mem.h"

enum { PASS_ROWS = 512, LOOKED_UP = 256 /* embeddings, until the pages that they touched are given back */ };

struct rm_batch {
    const rm_model *m;
    rm_work work;
    float *hidden, *logits, *rows; /* [cap_feed, d_model], [cap_logits, n_vocab], [cap_rows, d_model] */
    int *logit_of; /* [cap_feed] row of logits, -1: none */
    int cap_feed, cap_logits, cap_rows, n_feed, n_looked_up;
    const volatile sig_atomic_t *cancel; /* may be NULL */
};

size_t rm_batch_bytes(const rm_config *c, int n_row, int n_feed) {
    return rm_work_bytes(c, n_row < PASS_ROWS ? n_row : PASS_ROWS) + (size_t)n_feed * ((size_t)c->n_vocab + 2 * (size_t)c->d_model) * sizeof(float);
}

rmas_status rm_batch_new(rm_batch **out, const rm_model *m, rmas_error *err) {
    *out = RM_NEW(rm_batch);
    if (!*out) return rm_fail(err, RMAS_E_NOMEM, "out of memory for a batch");
    (*out)->m = m;
    return RMAS_OK;
}

void rm_batch_free(rm_batch *b) {
    if (!b) return;
    rm_work_free(&b->work);
    rm_free(b->hidden);
    rm_free(b->logits);
    rm_free(b->rows);
    rm_free(b->logit_of);
    rm_free(b);
}

void rm_batch_watch(rm_batch *b, const volatile sig_atomic_t *cancel) { b->cancel = cancel; }

const float *rm_batch_hidden(const rm_batch *b, int i) { return b->hidden + (size_t)i * (size_t)b->m->cfg.d_model; }
const float *rm_batch_logits(const rm_batch *b, int i) {
    return b->logit_of[i] < 0 ? NULL : b->logits + (size_t)b->logit_of[i] * (size_t)b->m->cfg.n_vocab;
}

static bool grow(float **p, int *cap, int n, size_t width) {
    if (n <= *cap) return true;
    float *v = rm_array((size_t)n, width * sizeof *v);
    if (!v) return false;
    rm_free(*p);
    *p = v, *cap = n;
    return true;
}

static rmas_status check_feed(const rm_batch *b, const rm_feed *f, int i, rmas_error *err) {
    int n_vocab = b->m->cfg.n_vocab;
    if (!f->seq || f->seq->m != b->m) return rm_fail(err, RMAS_E_ARG, "feed %d: not a sequence of this model", i);
    if (f->seq->broken) return rm_fail(err, RMAS_E_ARG, "feed %d: an earlier call on its sequence failed", i);
    if (f->seq->in_call) return rm_fail(err, RMAS_E_ARG, "feed %d: its sequence comes twice", i);
    if (f->n < 1) return rm_fail(err, RMAS_E_ARG, "feed %d has no positions", i);
    for (int k = 0; k < f->n; k++) {
        bool is_token = f->tokens && f->tokens[k] >= 0;
        if (!is_token && !f->embeds) return rm_fail(err, RMAS_E_ARG, "feed %d, position %d: neither a token nor an embedding", i, k);
        if (is_token && f->tokens[k] >= n_vocab)
            return rm_fail(err, RMAS_E_ARG, "feed %d, position %d: token %d is outside the vocabulary of %d", i, k, (int)f->tokens[k], n_vocab);
    }
    return RMAS_OK;
}

static rmas_status check_feeds(const rm_batch *b, const rm_feed *feed, int n_feed, int64_t *total, rmas_error *err) {
    rmas_status st = RMAS_OK;
    int n = 0;
    *total = 0;
    for (; n < n_feed && st == RMAS_OK; n++) {
        st = check_feed(b, &feed[n], n, err);
        if (st != RMAS_OK) break;
        feed[n].seq->in_call = true;
        *total += feed[n].n;
    }
    for (int i = 0; i < n; i++) feed[i].seq->in_call = false;
    if (st == RMAS_OK && *total > INT32_MAX) st = rm_fail(err, RMAS_E_FULL, "%lld positions in one call", (long long)*total);
    return st;
}

/* The next rows of the feeds, from position done of feed *first on, all of prompts or all steps; returns how many. */
static int fill_pass(rm_work *w, const rm_feed *feed, int n_feed, int *first, int *done) {
    int n_row = 0;
    const bool step = feed[*first].step;
    w->n_run = 0;
    while (*first < n_feed && n_row < PASS_ROWS && feed[*first].step == step) {
        int left = feed[*first].n - *done, n = left < PASS_ROWS - n_row ? left : PASS_ROWS - n_row;
        w->run[w->n_run] = (rm_run){.row = n_row, .n = n, .pos = feed[*first].seq->len};
        w->seq[w->n_run++] = feed[*first].seq;
        n_row += n;
        *done += n;
        if (n == left) ++*first, *done = 0;
    }
    return n_row;
}

static rmas_status embed(rm_batch *b, const rm_feed *feed, int first, int done, rmas_error *err) {
    size_t d = (size_t)b->m->cfg.d_model;
    for (int i = 0; i < b->work.n_run; i++, first++, done = 0) {
        const rm_run *r = &b->work.run[i];
        const rm_feed *f = &feed[first];
        float *x = b->work.x + (size_t)r->row * d;
        for (int k = done; k < done + r->n; k++, x += d)
            if (f->tokens && f->tokens[k] >= 0) {
                RM_TRY(rm_model_embed(b->m, f->tokens + k, 1, x, err));
                b->n_looked_up++;
            } else
                memcpy(x, f->embeds + (size_t)k * d, d * sizeof *x);
    }
    if (b->n_looked_up >= LOOKED_UP) {
        rm_model_embed_done(b->m);
        b->n_looked_up = 0;
    }
    return RMAS_OK;
}

/* The rows as they enter layer il (or leave the last one), for whoever wants them. */
static void keep_rows(const rm_work *w, int il, int n_row, float *layers, size_t layer_stride) {
    size_t d = (size_t)w->m->cfg.d_model;
    if (layers) memcpy(layers + (size_t)il * layer_stride, w->x, (size_t)n_row * d * sizeof *layers);
    for (int i = 0; i < w->n_run; i++) {
        const rm_record *r = w->seq[i]->record;
        const rm_run *run = &w->at[i];
        if (r) rm_rows_copy(w->m->exec, r->rows[RM_KEPT_X][il] + (size_t)(run->pos - r->first) * d, w->x + (size_t)run->row * d, run->n, d);
    }
}

static rmas_status pass(rm_batch *b, int n_row, float *layers, size_t layer_stride, rmas_error *err) {
    rm_work *w = &b->work;
    const rm_config *c = &b->m->cfg;
    int slot[RM_LAYER_KINDS] = {0};
    for (int i = 0; i < w->n_run; i++) RM_TRY(rm_seq_reserve(w->seq[i], w->run[i].n, err));
    RM_TRY(rm_work_begin(w, n_row, err));
    keep_rows(w, 0, n_row, layers, layer_stride);
    for (int il = 0; il < c->n_layer; il++) {
        RM_TRY(rm_walk_layer(w, il, slot[c->layer[il]]++, n_row, err));
        keep_rows(w, il + 1, n_row, layers, layer_stride);
    }
    for (int i = 0; i < w->n_run; i++) rm_seq_advance(w->seq[i], w->run[i].n);
    return RMAS_OK;
}

/* Rows through the LM head. */
static rmas_status head(const rm_model *m, float *logits, const float *hidden, int n, rmas_error *err) {
    rm_time_to(m->exec, RM_TIME_HEAD);
    RM_TRY(rm_linear_mul(m->exec, logits, hidden, n, &m->head, err));
    float cap = m->cfg.logit_softcap;
    for (size_t i = 0, end = (size_t)n * (size_t)m->cfg.n_vocab; cap > 0 && i < end; i++) logits[i] = cap * tanhf(logits[i] / cap);
    return RMAS_OK;
}

/* Of the last layer the last row of each feed is wanted; all that are not unseen if a tap shows or a tape keeps them; for a tap of layers every one. */
static void want_rows(rm_work *w, const rm_feed *feed, int first, int done, const rm_tap *tap) {
    for (int i = 0, row = 0; i < w->n_run; i++, first++, done = 0) {
        const rm_run *r = &w->run[i];
        const int end = done + r->n, seen = end - feed[first].n_unseen;
        int n = end == feed[first].n;
        if (tap->layers)
            n = r->n;
        else if ((tap->hidden || w->seq[i]->record) && seen > n)
            n = seen < r->n ? seen : r->n;
        w->last[i] = *r;
        w->last[i].row = row;
        w->last[i].n = n;
        w->last[i].pos += r->n - n;
        row += n;
    }
}

/* Final norm where a row is wanted: the last of each feed, or what a tap shows. */
static void finish_pass(rm_batch *b, const rm_feed *feed, int first, int done, float *tap_hidden) {
    const rm_model *m = b->m;
    const rm_work *w = &b->work;
    size_t d = (size_t)m->cfg.d_model;
    for (int i = 0; i < w->n_run; i++, first++, done = 0) {
        const rm_run *r = &w->run[i], *last = &w->last[i];
        const float *x = w->x + (size_t)last->row * d;
        if (tap_hidden)
            rm_norm(m->exec, tap_hidden + (size_t)(r->row + r->n - last->n) * d, x, m->out_norm, m->cfg.d_model, last->n, m->cfg.norm_eps);
        if (done + r->n != feed[first].n) continue;
        rm_norm(m->exec, b->hidden + (size_t)first * d, x + (size_t)(last->n - 1) * d, m->out_norm, m->cfg.d_model, 1, m->cfg.norm_eps);
    }
}

static rmas_status make_logits(rm_batch *b, const rm_feed *feed, int n_feed, rmas_error *err) {
    size_t d = (size_t)b->m->cfg.d_model;
    int n = 0;
    for (int i = 0; i < n_feed; i++) b->logit_of[i] = feed[i].want_logits ? n++ : -1;
    if (!n) return RMAS_OK;
    if (!grow(&b->rows, &b->cap_rows, n, d) || !grow(&b->logits, &b->cap_logits, n, (size_t)b->m->cfg.n_vocab))
        return rm_fail(err, RMAS_E_NOMEM, "out of memory for the logits of %d sequences", n);
    for (int i = 0; i < n_feed; i++)
        if (b->logit_of[i] >= 0) memcpy(b->rows + (size_t)b->logit_of[i] * d, b->hidden + (size_t)i * d, d * sizeof *b->rows);
    return head(b->m, b->logits, b->rows, n, err);
}

static rmas_status run_passes(rm_batch *b, const rm_feed *feed, int n_feed, int64_t total, float *hidden, float *layers, rmas_error *err) {
    int first = 0, done = 0;
    size_t d = (size_t)b->m->cfg.d_model, row = 0;
    while (first < n_feed) {
        if (b->cancel && *b->cancel) return rm_fail(err, RMAS_E_CANCELLED, "cancelled");
        int f0 = first, d0 = done, n = fill_pass(&b->work, feed, n_feed, &first, &done);
        rm_time_to(b->m->exec, RM_TIME_EMBED);
        RM_TRY(embed(b, feed, f0, d0, err));
        b->m->exec->prompt = !feed[f0].step;
        want_rows(&b->work, feed, f0, d0, &(rm_tap){.hidden = hidden, .layers = layers});
        rmas_status st = pass(b, n, layers ? layers + row * d : NULL, (size_t)total * d, err);
        b->m->exec->prompt = false;
        if (st != RMAS_OK) return st;
        finish_pass(b, feed, f0, d0, hidden ? hidden + row * d : NULL);
        rm_time_pass(b->m->exec, n);
        row += (size_t)n;
    }
    return RMAS_OK;
}

static rmas_status tap_logits(rm_batch *b, const rm_tap *tap, const float *hidden, int64_t total, rmas_error *err) {
    enum { AT_ONCE = 64 };
    size_t d = (size_t)b->m->cfg.d_model, v = (size_t)b->m->cfg.n_vocab;
    if (!grow(&b->rows, &b->cap_rows, AT_ONCE, d)) return rm_fail(err, RMAS_E_NOMEM, "out of memory for logits");
    for (int i = 0; i < tap->n_logit_row; i += AT_ONCE) {
        int n = tap->n_logit_row - i < AT_ONCE ? tap->n_logit_row - i : AT_ONCE;
        for (int k = 0; k < n; k++) {
            int r = tap->logit_row[i + k];
            if (r < 0 || r >= total) return rm_fail(err, RMAS_E_ARG, "logits of row %d are wanted, there are %lld rows", r, (long long)total);
            memcpy(b->rows + (size_t)k * d, hidden + (size_t)r * d, d * sizeof *hidden);
        }
        RM_TRY(head(b->m, tap->logits + (size_t)i * v, b->rows, n, err));
    }
    return RMAS_OK;
}

rmas_status rm_batch_forward_tap(rm_batch *b, const rm_feed *feed, int n_feed, const rm_tap *tap, rmas_error *err) {
    int64_t total;
    RM_TRY(check_feeds(b, feed, n_feed, &total, err));
    if (n_feed > b->cap_feed) {
        int *l = rm_realloc_array(b->logit_of, (size_t)n_feed, sizeof *l);
        if (l) b->logit_of = l;
        if (!l || !grow(&b->hidden, &b->cap_feed, n_feed, (size_t)b->m->cfg.d_model)) return rm_fail(err, RMAS_E_NOMEM, "out of memory for a batch");
    }
    RM_TRY(rm_work_fit(&b->work, b->m, total < PASS_ROWS ? (int)total : PASS_ROWS, n_feed, err));
    float *hidden = tap ? tap->hidden : NULL, *own = NULL;
    if (tap && tap->n_logit_row && !hidden) {
        hidden = own = rm_array((size_t)total, (size_t)b->m->cfg.d_model * sizeof *own);
        if (!own) return rm_fail(err, RMAS_E_NOMEM, "out of memory for hidden states");
    }
    rm_time was = rm_time_now(b->m->exec);
    rmas_status st = run_passes(b, feed, n_feed, total, hidden, tap ? tap->layers : NULL, err);
    if (st == RMAS_OK) st = make_logits(b, feed, n_feed, err);
    if (st == RMAS_OK && tap && tap->n_logit_row) st = tap_logits(b, tap, hidden, total, err);
    rm_time_back(b->m->exec, was);
    rm_free(own);
    for (int i = 0; i < n_feed && st != RMAS_OK; i++) feed[i].seq->broken = true;
    return st;
}

rmas_status rm_batch_forward(rm_batch *b, const rm_feed *feed, int n_feed, rmas_error *err) {
    return rm_batch_forward_tap(b, feed, n_feed, NULL, err);
}
