/* Data sets: names, opening, order of the rows. What a row becomes: items.c; how files are read: rows.c. */
#include "eval/dataset.h"

#include <string.h>
#include <strings.h>

#include "eval/items.h"
#include "util/mem.h"

/* name, kind, split of the usual release, aliases between bars */
static const struct {
    const char *name;
    rm_kind kind;
    const char *split, *aliases;
} sets[] = {
    {"math500", RM_KIND_MATH, "test", "|math-500|huggingfaceh4/math-500|"},
    {"gsm8k", RM_KIND_MATH, "test", "|openai/gsm8k|"},
    {"medqa", RM_KIND_CHOICE, "train", "|local/medqa|"},
    {"gpqa", RM_KIND_CHOICE, "train", "|gpqa_diamond|idavidrein/gpqa|"},
    {"mbppplus", RM_KIND_CODE, "test", "|mbpp+|evalplus/mbppplus|"},
    {"livecodebench", RM_KIND_CODE, "test", "|lcb|livecodebench/code_generation_lite|"},
    {"aime24", RM_KIND_MATH, "test", "|huggingfaceh4/aime_2024|"},
    {"aime25", RM_KIND_MATH, "test", "|math-ai/aime25|"},
    {"aime26", RM_KIND_MATH, "test", "|matharena/aime_2026|"},
    {"bamboogle", RM_KIND_MATH, "test", "|chiayewken/bamboogle|"},
    {"hotpotqa", RM_KIND_MATH, "validation", "|hotpotqa/hotpot_qa|"},
};

static int find(const char *name) {
    char key[80];
    size_t n = strlen(name);
    if (n == 0 || n + 3 > sizeof key || strchr(name, '|')) return -1;
    key[0] = '|';
    for (size_t i = 0; i < n; i++) key[i + 1] = (char)(name[i] >= 'A' && name[i] <= 'Z' ? name[i] + 32 : name[i]);
    key[n + 1] = '|';
    key[n + 2] = 0;
    for (size_t i = 0; i < RM_COUNT(sets); i++) {
        if (strcasecmp(name, sets[i].name) == 0 || strstr(sets[i].aliases, key)) return (int)i;
    }
    return -1;
}

const char *rm_dataset_canonical(const char *name) {
    int i = find(name);
    return i < 0 ? NULL : sets[i].name;
}

rm_kind rm_dataset_kind(const char *canonical) {
    int i = find(canonical);
    return i < 0 ? RM_KIND_MATH : sets[i].kind;
}

const char *rm_dataset_split(const char *canonical) {
    int i = find(canonical);
    return i < 0 ? "test" : sets[i].split;
}

bool rm_dataset_needs_search(const char *canonical) { return strcmp(canonical, "bamboogle") == 0 || strcmp(canonical, "hotpotqa") == 0; }

static void free_item(rm_item *it) {
    rm_free(it->id);
    rm_free(it->question);
    rm_free(it->gold);
    rm_free(it->gold_strict);
    rm_free(it->fn_name);
    for (int i = 0; i < it->n_option; i++) rm_free(it->option[i]);
    rm_free(it->option);
    rm_free(it->eval_sample);
}

void rm_dataset_close(rm_dataset *ds) {
    if (!ds) return;
    for (size_t i = 0; i < ds->n; i++) free_item(&ds->v[i]);
    rm_free(ds->v);
    rm_free(ds->name);
    rm_free(ds);
}

/* Which rows, in which order: all, shuffled if asked for, then a stretch of them. */
static rmas_status choose(size_t n_row, const rm_dataset_options *opt, size_t **order, size_t *n, rmas_error *err) {
    size_t *perm = rm_array(n_row, sizeof *perm);
    if (!perm) return rm_fail(err, RMAS_E_NOMEM, "out of memory");
    for (size_t i = 0; i < n_row; i++) perm[i] = i;
    if (opt->shuffle) {
        rmas_status st = rm_python_shuffle((uint64_t)opt->seed, perm, n_row, err);
        if (st) {
            rm_free(perm);
            return st;
        }
    }
    size_t first = opt->first > 0 ? (size_t)opt->first : 0;
    if (first > n_row) first = n_row;
    *n = n_row - first;
    if (opt->num_samples >= 0 && (uint64_t)opt->num_samples < *n) *n = (size_t)opt->num_samples;
    memmove(perm, perm + first, *n * sizeof *perm);
    *order = perm;
    return RMAS_OK;
}

static rmas_status build(rm_dataset **out, const char *name, rm_rows *rows, bool own, const rm_dataset_options *opt, rmas_error *err) {
    static const rm_dataset_options defaults = RM_DATASET_OPTIONS_DEFAULT;
    if (!opt) opt = &defaults;
    const char *canonical = rm_dataset_canonical(name);
    size_t *order = NULL, n = 0;
    rm_dataset *ds = RM_NEW(rm_dataset);
    rmas_status st = ds ? RMAS_OK : rm_fail(err, RMAS_E_NOMEM, "out of memory");
    if (!st) st = choose(rows->n, opt, &order, &n, err);
    if (!st && n == 0) st = rm_fail(err, RMAS_E_FORMAT, "%s: no questions%s", rows->path, rows->n ? " are left after skipping" : "");
    if (!st) {
        ds->name = rm_strdup(canonical ? canonical : name);
        ds->kind = rm_dataset_kind(canonical ? canonical : name);
        ds->v = rm_calloc(n, sizeof *ds->v);
        if (!ds->name || !ds->v) st = rm_fail(err, RMAS_E_NOMEM, "out of memory");
    }
    rm_grader *g = NULL;
    if (!st) st = rm_grader_new(&g, err);
    for (size_t i = 0; !st && i < n; i++) {
        rm_item *it = &ds->v[ds->n++];
        it->row = order[i];
        it->kind = ds->kind;
        st = rm_item_build(it, ds->name, rows, order[i], own, g, opt, err);
    }
    rm_grader_free(g);
    rm_free(order);
    if (st) {
        rm_dataset_close(ds);
        ds = NULL;
    }
    *out = ds;
    return st;
}

rmas_status rm_dataset_open(rm_dataset **out, const char *name, const char *path, const rm_dataset_options *opt, rmas_error *err) {
    rm_rows rows = {0};
    *out = NULL;
    rmas_status st = rm_rows_read(&rows, path, err);
    if (!st) st = build(out, name, &rows, false, opt, err);
    rm_rows_free(&rows);
    return st;
}

rmas_status rm_dataset_questions(rm_dataset **out, const char *name, const char *const *text, size_t n_text, const char *path,
                                 const rm_dataset_options *opt, rmas_error *err) {
    rm_rows rows = {0};
    *out = NULL;
    rmas_status st = path ? rm_rows_read_questions(&rows, path, err) : RMAS_OK;
    if (!st && !path) rows.path = "-q";
    for (size_t i = 0; !st && i < n_text; i++) st = rm_rows_add_text(&rows, text[i], i, err);
    if (!st) st = build(out, name ? name : "gsm8k", &rows, true, opt, err);
    rm_rows_free(&rows);
    return st;
}
