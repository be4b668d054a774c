/* Shared by the two halves of the parser: statements (parse.c) and expressions (parse_expr.c). */
#ifndef RM_TMPL_PARSE_H
#define RM_TMPL_PARSE_H

#include "tmpl/ast.h"

typedef struct {
    rm_tree *tree;
    const rm_token *t; /* the current token */
    const char *name;
    rmas_error *err;
    int depth; /* of nested expressions and statements */
    int n_loop; /* open loops: break and continue need one */
    int n_if; /* open {% if %}: what is unknown inside is an error only if it is reached, as in Jinja */
    unsigned macro_flags; /* RM_MACRO_: names that the macro being parsed uses */
} rm_parser;

enum { RM_PARSE_DEPTH = 200 };

/* These return NULL after rm_tmpl_parse_fail. */
rm_node *rm_tmpl_parse_node(rm_parser *p, rm_node_kind kind, int line);
rm_node *rm_tmpl_parse_expr(rm_parser *p); /* with "a if b else c" */
rm_node *rm_tmpl_parse_or(rm_parser *p); /* without */
rm_node *rm_tmpl_parse_tuple(rm_parser *p, bool with_cond, bool parentheses); /* one expression, or several with commas */
rm_node *rm_tmpl_parse_target(rm_parser *p, bool with_ns); /* what stands left of "=" or "in" */
rm_node *rm_tmpl_parse_name(rm_parser *p); /* N_NAME of an identifier that is assigned to */
bool rm_tmpl_parse_filters(rm_parser *p, rm_node **io, bool first_without_bar); /* *io | f | g */

void *rm_tmpl_parse_fail(rm_parser *p, int line, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void *rm_tmpl_parse_unexpected(rm_parser *p, const char *wanted);
bool rm_tmpl_parse_is_op(const rm_parser *p, unsigned op);
bool rm_tmpl_parse_is_name(const rm_parser *p, const char *name);
bool rm_tmpl_parse_skip_op(rm_parser *p, unsigned op); /* true and moves on if it is there */
bool rm_tmpl_parse_skip_name(rm_parser *p, const char *name);
bool rm_tmpl_parse_expect_op(rm_parser *p, unsigned op);
bool rm_tmpl_parse_expect(rm_parser *p, rm_tok_kind kind);
bool rm_tmpl_parse_enter(rm_parser *p); /* one level deeper; p->depth-- on the way out */
int rm_tmpl_parse_id(rm_parser *p, const char *s, uint32_t n); /* number of a name; -1 out of memory */

typedef struct { /* a growing list of siblings */
    rm_node *first, *last;
    int n;
} rm_nodes;
static inline void rm_nodes_add(rm_nodes *l, rm_node *n) {
    if (l->last)
        l->last->next = n;
    else
        l->first = n;
    l->last = n;
    l->n++;
}

#endif
