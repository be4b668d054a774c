/* One rendering: limits, scopes, output, and what evaluation, statements and built-ins need of one another.
 * Functions that return bool return false after rm_tmpl_fail; everything then unwinds. */
#ifndef RM_TMPL_RUN_H
#define RM_TMPL_RUN_H

#include <jansson.h>

#include "tmpl/ast.h"
#include "tmpl/tmpl.h"

typedef struct {
    int id;
    rm_val v;
} rm_binding;

typedef struct rm_scope rm_scope;
struct rm_scope {
    rm_scope *up;
    rm_binding *v;
    int n, cap;
};

typedef struct rm_run {
    const rm_tree *tree;
    const json_t *vars;
    rm_date date;
    rm_tmpl_arena arena;
    rm_strbuf *out; /* the text that is being written: the result, or a block that is captured */
    rm_scope *scope, *root;
    const char *name;
    int line; /* of what is being evaluated */
    int depth; /* of nested evaluation */
    long steps; /* work done so far */
    size_t written; /* bytes put out so far, captured ones too */
    rmas_status st;
    rmas_error *err;
} rm_run;

/* Ample for real chats (a long one takes some 10^5 steps), and reached within a second or two by a hostile template. Fuzzing takes fewer
 * steps: else it spends its time at the limit. */
#ifndef RM_TMPL_MAX_STEPS
#define RM_TMPL_MAX_STEPS 20000000
#endif
enum { RM_MAX_DEPTH = 1000, RM_MAX_OUTPUT = 64 << 20, RM_MAX_MEMORY = 256 << 20, RM_MAX_RANGE = 100000 };

bool rm_tmpl_fail(rm_run *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
bool rm_tmpl_fail_code(rm_run *r, rmas_status code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
bool rm_tmpl_undefined(rm_run *r, const rm_val *v); /* the error for using an undefined value */
bool rm_tmpl_charge(rm_run *r, size_t steps);
bool rm_tmpl_enter(rm_run *r); /* one level deeper; r->depth-- on the way out */
void *rm_tmpl_get(rm_run *r, size_t n); /* arena memory; NULL after rm_tmpl_fail */
bool rm_tmpl_put(rm_run *r, const char *s, size_t n);
bool rm_tmpl_text(rm_run *r, const char *s, size_t n, rm_val *out); /* a string value with a copy of s */
bool rm_tmpl_take(rm_run *r, rm_strbuf *b, rm_val *out); /* the same with the content of b, which is freed */

/* ---- scopes (exec.c) */
rm_scope *rm_tmpl_scope_new(rm_run *r, rm_scope *up);
bool rm_tmpl_scope_set(rm_run *r, rm_scope *s, int id, const rm_val *v);
bool rm_tmpl_scope_get(rm_run *r, int id, rm_val *out); /* undefined if there is none */

/* ---- values (value.c) */
bool rm_tmpl_from_json(rm_run *r, const json_t *j, rm_val *out);
bool rm_tmpl_items(rm_run *r, const rm_val *v, const rm_val **items, uint32_t *n); /* what a loop over v sees */
bool rm_tmpl_length(rm_run *r, const rm_val *v, int64_t *out);
bool rm_tmpl_equal(rm_run *r, const rm_val *a, const rm_val *b, bool *out);
bool rm_tmpl_order(rm_run *r, const rm_val *a, const rm_val *b, int *out); /* < 0, 0, > 0 */
bool rm_tmpl_contains(rm_run *r, const rm_val *in, const rm_val *v, bool *out);
bool rm_tmpl_dict_find(rm_run *r, const rm_val *dict, const rm_val *key, const rm_val **out); /* *out NULL: not there */
bool rm_tmpl_dict_put(rm_run *r, rm_pair *v, uint32_t *n, const rm_val *key, const rm_val *val); /* v has room */
bool rm_tmpl_get_attr(rm_run *r, const rm_val *of, const char *name, size_t n, rm_val *out);
bool rm_tmpl_get_item(rm_run *r, const rm_val *of, const rm_val *key, rm_val *out);
bool rm_tmpl_get_slice(rm_run *r, const rm_val *of, const rm_val *start, const rm_val *stop, const rm_val *step, rm_val *out); /* NULL: left out */
rm_val rm_tmpl_undef_of(const rm_val *object, const char *name, size_t n);

/* ---- text of values (show.c) */
bool rm_tmpl_show(rm_run *r, const rm_val *v, rm_strbuf *out); /* str(v) */
bool rm_tmpl_repr(rm_run *r, const rm_val *v, rm_strbuf *out);
bool rm_tmpl_to_str(rm_run *r, const rm_val *v, rm_val *out); /* a string value */
typedef struct {
    bool ascii, sorted, indented;
    const char *indent, *item, *key; /* text of one level, separators */
    size_t n_indent, n_item, n_key;
} rm_dump_style;
bool rm_tmpl_dump(rm_run *r, const rm_val *v, const rm_dump_style *s, int level, rm_strbuf *out); /* json.dumps */
bool rm_tmpl_escape(rm_run *r, rm_val *io); /* a string: & < > and quotes as HTML; marks it safe */

/* ---- evaluation (eval.c, call.c, exec.c) */
typedef struct {
    rm_val *v; /* of filters, tests and methods the first is what they are applied to */
    int n;
    rm_pair *kw; /* keys are strings */
    int n_kw;
} rm_args;

struct rm_macro {
    const rm_node *node;
    rm_scope *scope; /* where it was defined */
};
struct rm_loop {
    const rm_node *node; /* the N_FOR */
    rm_scope *scope; /* in which it runs */
    const rm_val *seq; /* what is left of the source begins at seq[at] */
    uint32_t n, at;
    bool filter; /* the condition has still to be asked */
    int64_t index; /* of the current item, from 0 */
    int depth;
    rm_val prev, cur, ahead; /* ahead: fetched already, V_ABSENT if not */
    rm_val changed; /* last arguments of loop.changed, V_ABSENT before */
};

bool rm_tmpl_eval(rm_run *r, const rm_node *n, rm_val *out);
bool rm_tmpl_binary(rm_run *r, unsigned op, const rm_val *a, const rm_val *b, rm_val *out); /* ops.c */
bool rm_tmpl_concat(rm_run *r, const rm_val *v, int n, rm_val *out);
bool rm_tmpl_format_percent(rm_run *r, const rm_val *format, const rm_val *args, rm_val *out); /* "..." % args */
bool rm_tmpl_format_braces(rm_run *r, const rm_val *format, const rm_args *args, rm_val *out); /* "...".format(args) */
bool rm_tmpl_call(rm_run *r, const rm_val *f, const rm_args *args, rm_val *out);
bool rm_tmpl_call_entry(rm_run *r, const struct rm_entry *e, const rm_args *args, rm_val *out);
bool rm_tmpl_call_node(rm_run *r, const rm_node *n, const struct rm_entry *e, const rm_val *first, rm_val *out); /* a filter or test */
bool rm_tmpl_args_eval(rm_run *r, const rm_node *n, const rm_val *first, rm_args *out);
bool rm_tmpl_macro_call(rm_run *r, const rm_macro *m, const rm_args *args, rm_val *out);
bool rm_tmpl_loop_again(rm_run *r, const rm_loop *l, const rm_val *items, rm_val *out); /* loop(items) of a recursive loop */
bool rm_tmpl_loop_attr(rm_run *r, rm_loop *l, const char *name, size_t n, rm_val *out, bool *found);
bool rm_tmpl_exec_all(rm_run *r); /* the whole template */

#endif
