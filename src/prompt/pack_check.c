/* What can be said of a pack without a question: no dangling include, no cycle, bounded depth and size, a choice note
 * that is recognised again. The walk keeps its own stack: packs are files of users. */
#include <stdio.h>
#include <string.h>

#include "pack.h"
#include "util/mem.h"

/* Suffixes that a lookup may put behind the path of an include. */
static const char *const suffixes[] = {"", "/math", "/choice", "/lettered", "/code", "/code/named", "/code/unnamed", "/code/program"};
enum { N_SUFFIX = (int)RM_COUNT(suffixes) };

typedef struct { /* where a lookup of one path may end, in file order */
    int head[N_SUFFIX]; /* first section of each list of sections with one path, -1: none */
    int at[N_SUFFIX]; /* the next one that is to be visited, -1: at its end */
} targets;

static bool targets_of(const rm_pack *p, const char *path, size_t n, targets *t) {
    char name[512];
    bool any = false;
    for (int i = 0; i < N_SUFFIX; i++) {
        t->head[i] = -1;
        if (n + strlen(suffixes[i]) < sizeof name) {
            memcpy(name, path, n);
            strcpy(name + n, suffixes[i]);
            t->head[i] = rm_pack_find_path(p, name, n + strlen(suffixes[i]));
        }
        t->at[i] = t->head[i];
        any = any || t->head[i] >= 0;
    }
    return any;
}

static int next_target(const rm_pack *p, targets *t) {
    int best = -1;
    for (int i = 0; i < N_SUFFIX; i++)
        if (t->at[i] >= 0 && (best < 0 || t->at[i] < t->at[best])) best = i;
    if (best < 0) return -1;
    int section = t->at[best];
    t->at[best] = p->section[section].next;
    return section;
}

typedef struct { /* a section that is being visited */
    int section, part;
    targets t;
    bool inside; /* t holds what is left of the current include's targets */
    int depth, below; /* of the section so far; of the current include */
    size_t size, most;
} frame;

typedef struct {
    uint8_t *state; /* 0 new, 1 being visited, 2 done */
    int *depth;
    size_t *size;
    struct {
        bool done; /* of the list that begins with this section: all are visited, and these are the largest values */
        int depth;
        size_t size;
    } * list;
    frame *stack;
    int n, cap;
} walk;

static bool push(walk *w, int section) {
    if (w->n == w->cap) {
        int cap = w->cap ? 2 * w->cap : 32;
        frame *v = rm_realloc_array(w->stack, (size_t)cap, sizeof *v);
        if (!v) return false;
        w->stack = v;
        w->cap = cap;
    }
    w->stack[w->n++] = (frame){.section = section, .depth = 1};
    w->state[section] = 1;
    return true;
}

/* Begins an include: none of its targets may be under way. */
static rmas_status begin_include(const rm_pack *p, const walk *w, frame *f, const rm_pack_part *part, rmas_error *err) {
    const rm_pack_section_ *s = &p->section[f->section];
    const int n = (int)(part->n > 60 ? 60 : part->n);
    if (!targets_of(p, part->s, part->n, &f->t))
        return rm_pack_fail(p, err, "E_INCLUDE", s->line, "section %s includes %.*s, which does not exist", s->name, n, part->s);
    f->inside = true;
    f->below = 0;
    f->most = 0;
    for (int i = 0; i < N_SUFFIX; i++) { /* lists that are done need no second look, or wide packs take quadratic time */
        int head = f->t.head[i];
        if (head < 0 || !w->list[head].done) continue;
        f->t.at[i] = -1;
        if (f->below < w->list[head].depth) f->below = w->list[head].depth;
        if (f->most < w->list[head].size) f->most = w->list[head].size;
    }
    targets look = f->t;
    for (int k; (k = next_target(p, &look)) >= 0;)
        if (w->state[k] == 1)
            return rm_pack_fail(p, err, "E_CYCLE", s->line, "section %s includes %.*s, which leads back to it", s->name, n, part->s);
    return RMAS_OK;
}

static rmas_status end_include(const rm_pack *p, const walk *w, frame *f, rmas_error *err) {
    const rm_pack_section_ *s = &p->section[f->section];
    for (int i = 0; i < N_SUFFIX; i++) {
        int head = f->t.head[i];
        if (head < 0 || w->list[head].done) continue;
        w->list[head].done = true;
        for (int k = head; k >= 0; k = p->section[k].next) {
            if (w->list[head].depth < w->depth[k]) w->list[head].depth = w->depth[k];
            if (w->list[head].size < w->size[k]) w->list[head].size = w->size[k];
        }
    }
    f->inside = false;
    f->part++;
    if (f->depth < f->below + 1) f->depth = f->below + 1;
    f->size += f->most;
    if (f->depth > RM_PACK_MAX_DEPTH) return rm_pack_fail(p, err, "E_SIZE", s->line, "includes nest deeper than %d", RM_PACK_MAX_DEPTH);
    if (f->size > RM_PACK_MAX_BYTES) return rm_pack_fail(p, err, "E_SIZE", s->line, "section %s grows beyond %d bytes", s->name, RM_PACK_MAX_BYTES);
    return RMAS_OK;
}

/* One step of the section on top of the stack. */
static rmas_status step(const rm_pack *p, walk *w, rmas_error *err) {
    frame *f = &w->stack[w->n - 1];
    const rm_pack_section_ *s = &p->section[f->section];
    if (f->inside) {
        targets rest = f->t;
        int k = next_target(p, &rest);
        if (k < 0) return end_include(p, w, f, err);
        if (w->state[k] != 2) return push(w, k) ? RMAS_OK : rm_fail(err, RMAS_E_NOMEM, "%s: out of memory", p->name);
        f->t = rest;
        if (f->below < w->depth[k]) f->below = w->depth[k];
        if (f->most < w->size[k]) f->most = w->size[k];
        return RMAS_OK;
    }
    if (f->part == s->n_part) {
        w->state[f->section] = 2;
        w->depth[f->section] = f->depth;
        w->size[f->section] = f->size;
        w->n--;
        return RMAS_OK;
    }
    const rm_pack_part *part = &p->part[s->first + f->part];
    if (part->kind == PART_INCLUDE) return begin_include(p, w, f, part, err);
    if (part->kind == PART_TEXT) f->size += part->n;
    f->part++;
    return RMAS_OK;
}

static rmas_status check_includes(const rm_pack *p, rmas_error *err) {
    size_t n = (size_t)p->n_section;
    walk w = {
        .state = rm_calloc(n, 1), .depth = rm_calloc(n, sizeof *w.depth), .size = rm_calloc(n, sizeof *w.size), .list = rm_calloc(n, sizeof *w.list)};
    rmas_status st = w.state && w.depth && w.size && w.list ? RMAS_OK : rm_fail(err, RMAS_E_NOMEM, "%s: out of memory", p->name);
    for (int i = 0; i < p->n_section && st == RMAS_OK; i++) {
        if (w.state[i]) continue;
        if (!push(&w, i)) st = rm_fail(err, RMAS_E_NOMEM, "%s: out of memory", p->name);
        while (st == RMAS_OK && w.n) st = step(p, &w, err);
    }
    rm_free(w.state);
    rm_free(w.depth);
    rm_free(w.size);
    rm_free(w.list);
    rm_free(w.stack);
    return st;
}

/* ---- choice questions --------------------------------------------------------------------------------------------------- */

void rm_pack_plain(const rm_pack *p, int section, rm_strbuf *out) {
    const rm_pack_section_ *s = &p->section[section];
    for (int i = 0; i < s->n_part; i++) rm_strbuf_add(out, p->part[s->first + i].s, p->part[s->first + i].n);
}

static bool same_letters(const char *a, const char *b, size_t n) {
    for (size_t i = 0; i < n; i++) {
        char x = a[i], y = b[i];
        if (x >= 'A' && x <= 'Z') x = (char)(x + 32);
        if (y >= 'A' && y <= 'Z') y = (char)(y + 32);
        if (x != y) return false;
    }
    return true;
}

bool rm_pack_is_marked(const rm_pack *p, const char *text, size_t n) {
    rm_strbuf marks = {0};
    bool found = false;
    rm_pack_plain(p, p->mark, &marks);
    for (const char *s = rm_str(&marks), *end = s + marks.n, *next; s < end && !found; s = next) {
        const char *lf = memchr(s, '\n', (size_t)(end - s));
        size_t len = (size_t)((lf ? lf : end) - s);
        next = lf ? lf + 1 : end;
        for (size_t i = 0; len && i + len <= n && !found; i++) found = same_letters(text + i, s, len);
    }
    rm_strbuf_free(&marks);
    return found;
}

static rmas_status check_choice(const rm_pack *p, rmas_error *err) {
    for (int i = 0; i < p->n_section; i++)
        for (int k = 0; k < p->section[i].n_part; k++)
            if (p->part[p->section[i].first + k].kind == PART_CHOICE_QUESTION && (p->note < 0 || p->mark < 0))
                return rm_pack_fail(p, err, "E_MISSING", p->section[i].line, "{{choice_question}} needs the sections choice-note and choice-mark");
    if (p->note < 0 || p->mark < 0) return RMAS_OK;
    rm_strbuf note = {0};
    rm_pack_plain(p, p->note, &note);
    bool marked = rm_pack_is_marked(p, rm_str(&note), note.n), failed = note.failed;
    rm_strbuf_free(&note);
    if (failed) return rm_fail(err, RMAS_E_NOMEM, "%s: out of memory", p->name);
    return marked ? RMAS_OK : rm_pack_fail(p, err, "E_MARK", p->section[p->note].line, "choice-note holds none of the phrases of choice-mark");
}

rmas_status rm_pack_check(const rm_pack *p, rmas_error *err) {
    RM_TRY(check_includes(p, err));
    return check_choice(p, err);
}
