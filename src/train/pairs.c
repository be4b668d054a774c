/* Pairs for the aligned start of outer links. The sender reads a chat with the gold text; a state that precedes gold token t
 * stands for what the receiver would read in its place: the mean of its embeddings of the same bytes. */
#include <string.h>

#include "train/outer.h"
#include "util/mem.h"

typedef struct {
    int *from, *to; /* bytes of each token; may begin at -1 (a space that the tokenizer puts before the text) */
    int n;
} spans;

static void spans_free(spans *s) {
    rm_free(s->from);
    *s = (spans){0};
}

/* Bytes that tokens stand for, summed up from the start. *fits: they are those of the text. */
static rmas_status make_spans(spans *s, const rm_tok *tok, const rm_ids *ids, const char *text, bool *fits, rmas_error *err) {
    rm_strbuf all = {0};
    *s = (spans){.n = ids->n, .from = rm_array(2 * (size_t)ids->n + 1, sizeof(int))};
    if (!s->from) return rm_fail(err, RMAS_E_NOMEM, "out of memory");
    s->to = s->from + ids->n;
    for (int i = 0; i < ids->n; i++) {
        s->from[i] = (int)all.n;
        rm_tok_piece(tok, ids->id[i], &all);
        s->to[i] = (int)all.n;
    }
    size_t n = strlen(text);
    int shift = all.n == n + 1 && rm_str(&all)[0] == ' ' ? 1 : 0;
    *fits = !all.failed && all.n == n + (size_t)shift && !memcmp(rm_str(&all) + shift, text, n);
    for (int i = 0; i < ids->n; i++) s->from[i] -= shift, s->to[i] -= shift;
    rm_strbuf_free(&all);
    return RMAS_OK;
}

static const char *last_occurrence(const char *text, const char *what) {
    const char *found = NULL;
    for (const char *p = text; (p = strstr(p, what)); p++) found = p;
    return found;
}

typedef struct {
    float *x, *y; /* states of the sender; embeddings of the receiver */
    int n, cap;
    size_t i, o;
} growing;

static rmas_status make_room(growing *g, int n, rmas_error *err) {
    if (g->n + n <= g->cap) return RMAS_OK;
    int cap = 2 * (g->n + n);
    float *x = rm_realloc_array(g->x, (size_t)cap * g->i, sizeof *x);
    if (x) g->x = x;
    float *y = rm_realloc_array(g->y, (size_t)cap * g->o, sizeof *y);
    if (y) g->y = y;
    if (!x || !y) return rm_fail(err, RMAS_E_NOMEM, "out of memory for %d pairs", g->n + n);
    g->cap = cap;
    return RMAS_OK;
}

/* Pairs of one sample; hidden [ids.n - 1, d]. */
static rmas_status add_pairs(growing *g, rm_crew *t, int from, int to, const rm_inner_sample *s, const float *hidden, rmas_error *err) {
    const rm_tok *tok_a = t->agent[from].chat.tok, *tok_b = t->agent[to].chat.tok;
    const char *gold = last_occurrence(s->text, s->gold);
    if (!gold) return RMAS_OK; /* the template changes the text */
    int start = (int)(gold - s->text), end = start + (int)strlen(s->gold);
    rm_ids ids = {0};
    spans a = {0}, b = {0};
    bool fits_a, fits_b = false;
    rmas_status st = make_spans(&a, tok_a, &s->ids, s->text, &fits_a, err);
    if (st == RMAS_OK) st = rm_tok_encode(tok_b, s->gold, strlen(s->gold), false, &ids, err);
    if (st == RMAS_OK) st = make_spans(&b, tok_b, &ids, s->gold, &fits_b, err);
    float *e = rm_array((size_t)ids.n * g->o + 1, sizeof(float));
    if (st == RMAS_OK && !e) st = rm_fail(err, RMAS_E_NOMEM, "out of memory");
    if (st == RMAS_OK && ids.n) st = rm_model_embed(rm_crew_model(t, to), ids.id, ids.n, e, err);
    if (st == RMAS_OK) st = make_room(g, s->ids.n, err);
    for (int k = 0; st == RMAS_OK && fits_a && fits_b && k + 1 < s->ids.n; k++) {
        if (!s->mask[k + 1]) continue;
        int lo = (a.from[k + 1] > start ? a.from[k + 1] : start) - start, hi = (a.to[k + 1] < end ? a.to[k + 1] : end) - start, total = 0;
        float *y = g->y + (size_t)g->n * g->o;
        memset(y, 0, g->o * sizeof *y);
        for (int pass = 0; pass < 2; pass++)
            for (int j = 0; j < b.n && hi > lo; j++) {
                int share = (hi < b.to[j] ? hi : b.to[j]) - (lo > b.from[j] ? lo : b.from[j]);
                if (share <= 0) continue;
                if (pass == 0)
                    total += share;
                else
                    for (size_t c = 0; c < g->o; c++) y[c] += e[(size_t)j * g->o + c] * (float)((double)share / total);
            }
        if (!total) continue;
        memcpy(g->x + (size_t)g->n * g->i, hidden + (size_t)k * g->i, g->i * sizeof(float));
        g->n++;
    }
    rm_free(e);
    rm_ids_free(&ids);
    spans_free(&a);
    spans_free(&b);
    return st;
}

static rmas_status states(rm_crew *t, int role, const rm_inner_sample *s, float *hidden, rmas_error *err) {
    rm_feed feed = {.n = s->ids.n - 1, .tokens = s->ids.id};
    RM_TRY(rm_seq_new(&feed.seq, rm_crew_model(t, role), err));
    rmas_status st = rm_batch_forward_tap(rm_crew_batch(t, role), &feed, 1, &(rm_tap){.hidden = hidden}, err);
    rm_seq_free(feed.seq);
    return st;
}

rmas_status rm_outer_pairs(rm_crew *t, int edge, const rm_rows *rows, const size_t *row, size_t n_row, size_t most, int max_length, float **x,
                           float **y, int *n, rmas_error *err) {
    int from = t->style.edge[edge].from, to = t->style.edge[edge].to;
    growing g = {.i = (size_t)rm_crew_width(t, from), .o = (size_t)rm_crew_width(t, to)};
    *x = *y = NULL;
    *n = 0;
    rmas_status st = RMAS_OK;
    for (size_t k = 0; k < n_row && st == RMAS_OK && (size_t)g.n < most; k++) {
        rm_inner_sample s;
        st = rm_inner_sample_make(&s, &t->prompts, &t->agent[from].chat, from, rows, row[k], max_length, err);
        float *hidden = NULL;
        if (st == RMAS_OK && !s.skipped && s.ids.n > 1) {
            hidden = rm_array((size_t)s.ids.n * g.i, sizeof(float));
            st = hidden ? states(t, from, &s, hidden, err) : rm_fail(err, RMAS_E_NOMEM, "out of memory");
            if (st == RMAS_OK) st = add_pairs(&g, t, from, to, &s, hidden, err);
        }
        rm_free(hidden);
        rm_inner_sample_free(&s);
    }
    if (st == RMAS_OK && g.n < 2)
        st = rm_fail(err, RMAS_E_ARG, "%s: the rows give too few pairs to fit %s: are the tokenizers able to spell their texts?", rows->path,
                     t->style.edge[edge].key);
    float *out = st == RMAS_OK ? rm_array((size_t)g.n * g.i, sizeof(float)) : NULL;
    if (st == RMAS_OK && !out) st = rm_fail(err, RMAS_E_NOMEM, "out of memory for %d pairs", g.n);
    if (st == RMAS_OK) st = rm_link_apply(t->agent[from].inner, g.x, g.n, out, err);
    rm_free(g.x);
    if (st != RMAS_OK) {
        rm_free(out);
        rm_free(g.y);
        return st;
    }
    *x = out;
    *y = g.y;
    *n = g.n;
    return RMAS_OK;
}
