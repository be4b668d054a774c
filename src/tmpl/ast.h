/* The tree of a template. Nodes live in the template's arena and never change after parsing. */
#ifndef RM_TMPL_AST_H
#define RM_TMPL_AST_H

#include "tmpl/lex.h"
#include "tmpl/value.h"

typedef enum {
    /* expressions */
    N_CONST, /* val */
    N_NAME, /* id */
    N_LIST, /* list */
    N_TUPLE, /* list; also an assignment target */
    N_DICT, /* list: key, value, key, value ... */
    N_GETATTR, /* a.text */
    N_GETITEM, /* a[b] */
    N_SLICE, /* a[b:c:d]; b, c, d may be NULL */
    N_CALL, /* a(list) */
    N_FILTER, /* a | fn(list); a NULL at the head of a filter or set block */
    N_TEST, /* a is fn(list) */
    N_NOT, /* a */
    N_NEG,
    N_POS,
    N_BINARY, /* a op b */
    N_CONCAT, /* list */
    N_COMPARE, /* a, then list of N_OPERAND (op, a) */
    N_OPERAND,
    N_AND, /* a, b */
    N_OR,
    N_COND, /* a if b else c; c may be NULL */
    N_KEYWORD, /* an argument text=a */
    N_STAR, /* *a */
    N_STAR2, /* **a */
    N_NSREF, /* assignment target id.text */
    /* statements */
    N_DATA, /* text */
    N_PRINT, /* a */
    N_IF, /* list of N_BRANCH */
    N_BRANCH, /* a (NULL: else), body */
    N_FOR, /* a target, b iterable, c condition, body, other (else), op: recursive */
    N_SET, /* a target, b value */
    N_SETBLOCK, /* a target, b filters or NULL, body */
    N_MACRO, /* id, text, list of N_PARAM, body, op: RM_MACRO_ flags */
    N_PARAM, /* id, text, a default or NULL */
    N_CALLBLOCK, /* a call, b N_MACRO for caller */
    N_FILTERBLOCK, /* b filters, body */
    N_WITH, /* list of N_SET, body */
    N_BODY, /* body in a scope of its own: {% generation %} */
    N_BREAK,
    N_CONTINUE
} rm_node_kind;

enum { RM_MACRO_VARARGS = 1, RM_MACRO_KWARGS = 2, RM_MACRO_CALLER = 4 };
enum { RM_OP_IN = 1, RM_OP_NOT_IN = 2 }; /* further operators of N_OPERAND beside those of the lexer */

typedef struct rm_node rm_node;
struct rm_node {
    uint8_t kind;
    uint16_t op;
    int line;
    int id; /* of a name: names are numbered per template */
    uint32_t n_text;
    const char *text;
    rm_node *a, *b, *c, *d;
    rm_node *list; /* first of the children linked through next */
    rm_node *body, *other;
    rm_node *next;
    int n; /* length of list */
    const void *fn; /* entry of the table of filters or tests */
    rm_val val;
};

typedef struct {
    rm_tmpl_arena arena;
    rm_node *body;
    struct {
        const char **v; /* name of each id */
        uint32_t *n;
        int count, cap;
    } names;
} rm_tree;

rmas_status rm_tmpl_parse(rm_tree *t, const char *source, size_t n, const char *name, rmas_error *err);
void rm_tmpl_tree_free(rm_tree *t);

/* Numbers that every template gives to the names that the evaluator sets itself. */
enum { RM_ID_LOOP, RM_ID_CALLER, RM_ID_VARARGS, RM_ID_KWARGS, RM_ID_FIXED };

#endif
