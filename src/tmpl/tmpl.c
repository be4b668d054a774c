/* The public functions: parsing, one rendering, dates. */
#include "tmpl/tmpl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tmpl/run.h"
#include "util/mem.h"

struct rm_tmpl {
    rm_tree tree;
    char *name;
};

rmas_status rm_tmpl_new(rm_tmpl **out, const char *source, size_t n, const char *name, rmas_error *err) {
    rm_tmpl *t = RM_NEW(rm_tmpl);
    *out = NULL;
    if (!t || !(t->name = rm_strdup(name))) {
        rm_free(t);
        return rm_fail(err, RMAS_E_NOMEM, "%s: out of memory", name);
    }
    rmas_status st = rm_tmpl_parse(&t->tree, source, n, t->name, err);
    if (st != RMAS_OK)
        rm_tmpl_free(t);
    else
        *out = t;
    return st;
}

void rm_tmpl_free(rm_tmpl *t) {
    if (!t) return;
    rm_tmpl_tree_free(&t->tree);
    rm_free(t->name);
    rm_free(t);
}

rmas_status rm_tmpl_render(const rm_tmpl *t, const json_t *vars, rm_date date, rm_strbuf *out, rmas_error *err) {
    rm_strbuf text = {0};
    if (vars && !json_is_object(vars)) return rm_fail(err, RMAS_E_ARG, "%s: the variables of a template must be an object", t->name);
    if (date.month < 1 || date.month > 12 || date.day < 1 || date.day > 31)
        return rm_fail(err, RMAS_E_ARG, "%s: not a date: month %d, day %d", t->name, date.month, date.day);
    rm_run r = {
        .tree = &t->tree, .vars = vars, .date = date, .arena = {.limit = RM_MAX_MEMORY}, .out = &text, .name = t->name, .line = 1, .err = err};
    bool ok = rm_tmpl_exec_all(&r);
    rm_tmpl_arena_free(&r.arena);
    if (ok) {
        rm_strbuf_add(out, rm_str(&text), text.n);
        if (out->failed) r.st = rm_fail(err, RMAS_E_NOMEM, "%s: out of memory", t->name);
    }
    rm_strbuf_free(&text);
    return r.st;
}

/* ---- dates ---------------------------------------------------------------------------------------------------------- */

rm_date rm_date_today(void) {
    time_t now = time(NULL);
    struct tm tm;
    if (!localtime_r(&now, &tm)) return (rm_date){1970, 1, 1};
    return (rm_date){tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday};
}

bool rm_date_parse(const char *s, rm_date *out) {
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    if (!s || strlen(s) != 10 || strspn(s, "0123456789-") != 10 || s[4] != '-' || s[7] != '-' || strchr(s + 8, '-') || memchr(s, '-', 4) ||
        memchr(s + 5, '-', 2))
        return false;
    rm_date d = {atoi(s), atoi(s + 5), atoi(s + 8)};
    bool leap = (d.year % 4 == 0 && d.year % 100 != 0) || d.year % 400 == 0;
    if (d.year < 1 || d.month < 1 || d.month > 12 || d.day < 1 || d.day > days[d.month - 1] + (leap && d.month == 2)) return false;
    *out = d;
    return true;
}
