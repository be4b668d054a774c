/* Inside the strict scorer: tokens, expression trees and answers of the LaTeX subset that answers use.
 * Everything lives in the arena of one comparison (rm_strict) and is released with it. A text outside the subset sets `bad`;
 * functions then return NULL or false, and every caller passes that on. */
#ifndef RM_EVAL_STRICT_H
#define RM_EVAL_STRICT_H

#include <gmp.h>

#include "eval/scorer.h"

enum {
    ST_MAX_LEN = 2000, /* characters of an answer */
    ST_MAX_DEPTH = 40, /* nesting of groups */
    ST_MAX_BITS = 20000, /* of an exact numerator or denominator */
    ST_MAX_ITEMS = 64, /* elements of a list, set, tuple, matrix */
    ST_MAX_LISTS = 6, /* nesting of answers in answers */
    ST_MAX_DIGITS = 4000 /* of a literal; and size of its exponent */
};

typedef struct st_chunk st_chunk;
typedef struct {
    const rm_grader *g;
    st_chunk *chunks;
    mpq_ptr *q; /* rationals to clear at the end */
    size_t n_q, cap_q;
    bool bad, no_memory;
} rm_strict;

void rm_st_init(rm_strict *s, const rm_grader *g);
void rm_st_free(rm_strict *s);
void *rm_st_alloc(rm_strict *s, size_t n); /* zeroed; NULL sets bad and no_memory */
char *rm_st_copy(rm_strict *s, rm_sv v); /* NUL-terminated */
mpq_ptr rm_st_q(rm_strict *s);
void *rm_st_bad(rm_strict *s); /* sets bad, returns NULL */

/* ---- tokens -------------------------------------------------------------------------------------------------------------- */

typedef struct {
    char kind; /* 'n' number, 'v' letter, 'p' punctuation, 'c' command, 't' words, ' ' space, 0 end */
    const char *s;
} st_token;
typedef struct {
    st_token *v;
    size_t n, cap;
} st_tokens;

/* Text in the form that the tokeniser reads; thousands: separators of digit groups are taken out. Appends to out. */
bool rm_st_normal(rm_strict *s, rm_sv text, bool thousands, rm_strbuf *out);
bool rm_st_tokens(rm_strict *s, rm_sv text, st_tokens *out);
bool rm_st_is(st_token k, char kind, const char *text);
bool rm_st_is_function(const char *name); /* sin, log ... */
bool rm_st_is_greek(const char *name);
const char *rm_st_unit(const char *word); /* canonical name of a unit in the table, or NULL */
unsigned long long rm_st_scale(const char *word); /* hundred ... trillion, dozen; 0: none */
st_tokens rm_st_trim(st_tokens t);
void rm_st_unicode(rm_sv text, rm_strbuf *out); /* signs beyond ASCII as LaTeX */

/* ---- expressions ----------------------------------------------------------------------------------------------------------- */

typedef enum {
    E_NUM, /* q */
    E_LIT, /* q, name = as written: only while parsing */
    E_PAREN, /* a: only while parsing */
    E_SYM, /* name */
    E_CONST, /* name: pi, e, i, oo */
    E_NEG, /* a */
    E_ADD, /* a b */
    E_MUL,
    E_DIV,
    E_POW,
    E_FN, /* name, item[n] */
    E_PM, /* a (may be NULL) plus-minus b, sign */
    E_DEG, /* a */
    E_PCT, /* a */
    E_TUPLE, /* item[n], open, close */
    E_SET, /* item[n] */
    E_MAT, /* item[n] row by row, n_col */
    E_BASE /* name = digits, base */
} st_kind;

typedef struct st_expr st_expr;
struct st_expr {
    st_kind kind;
    mpq_ptr q;
    const char *name, *base;
    st_expr *a, *b, **item;
    int n, n_col, sign;
    char open, close;
};

st_expr *rm_st_expr(rm_strict *s, st_kind kind, st_expr *a, st_expr *b);
st_expr *rm_st_num(rm_strict *s, long num, unsigned long den);
st_expr *rm_st_number(rm_strict *s, const char *text);
/* Reads an expression from the tokens (which it may change); *rest: what follows it. */
st_expr *rm_st_parse(rm_strict *s, st_tokens t, st_tokens *rest);
st_expr *rm_st_strip(rm_strict *s, st_expr *e); /* without E_LIT and E_PAREN */
bool rm_st_same_tree(const st_expr *a, const st_expr *b);
bool rm_st_has_symbols(const st_expr *e);
st_expr *rm_st_fold_matrix(rm_strict *s, st_expr *e); /* an E_MAT with scalar factors multiplied in; NULL: no matrix (or bad) */

/* ---- numbers ---------------------------------------------------------------------------------------------------------------- */

bool rm_st_same_number(rm_strict *s, const st_expr *a, const st_expr *b); /* equal for all values of their symbols */
bool rm_st_proportional(rm_strict *s, const st_expr *p, const st_expr *q); /* p = c q with a constant c, same symbols, at least one */
/* |a - b| <= |a| / 100, and |a| >= 1; false if a value is missing or not real. */
bool rm_st_near(rm_strict *s, const st_expr *a, const st_expr *b);
bool rm_st_at_least_one(rm_strict *s, const st_expr *a);

/* ---- answers ---------------------------------------------------------------------------------------------------------------- */

typedef enum { A_SCALAR, A_LIST, A_TUPLE, A_SET, A_MAT, A_REL, A_UNION, A_TEXT, A_BASE, A_NAME, A_NAMED, A_EQUATION, A_RELATION } st_akind;
typedef struct {
    const char *name;
    bool known; /* in the table: it can disagree */
} st_unit;

typedef struct st_answer st_answer;
struct st_answer {
    st_akind kind;
    st_expr *e; /* scalar, tuple, set, matrix, base */
    st_unit unit; /* of a scalar; name NULL: none */
    const char *text; /* text, name */
    st_answer **item; /* list, union, sides of a relation; named: left, value; equation: left, right */
    int n;
    const char **op; /* between the sides: n - 1 of them */
};

st_answer *rm_st_answer(rm_strict *s, st_akind kind);
st_answer *rm_st_scalar(rm_strict *s, st_expr *e, st_unit unit);
st_answer *rm_st_parse_answer(rm_strict *s, rm_sv text, bool thousands);
void rm_st_text_value(const rm_grader *g, rm_sv text, rm_strbuf *out); /* words for comparison of text answers */

/* ---- extraction --------------------------------------------------------------------------------------------------------------- */

char rm_strict_letter_of(const rm_grader *g, rm_sv content); /* the one option letter that a text states, or 0 */
bool rm_strict_same(const rm_grader *g, rm_sv gold, rm_sv answer, bool *no_memory);

#endif
