/* Statements of templates, and the helpers that both halves of the parser use. */
#include "tmpl/parse.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "tmpl/builtin.h"
#include "util/mem.h"

/* ---- helpers -------------------------------------------------------------------------------------------------------- */

void *rm_tmpl_parse_fail(rm_parser *p, int line, const char *fmt, ...) {
    char what[300];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    rm_fail(p->err, RMAS_E_FORMAT, "%s line %d: %s", p->name, line, what);
    return NULL;
}

void *rm_tmpl_parse_unexpected(rm_parser *p, const char *wanted) {
    const rm_token *t = p->t;
    static const char *const names[] = {[T_EOF] = "the end of the template",
                                        [T_DATA] = "text",
                                        [T_BLOCK_BEGIN] = "{%",
                                        [T_BLOCK_END] = "%}",
                                        [T_VAR_BEGIN] = "{{",
                                        [T_VAR_END] = "}}"};
    if (t->kind <= T_VAR_END) return rm_tmpl_parse_fail(p, t->line, "expected %s, found %s", wanted, names[t->kind]);
    return rm_tmpl_parse_fail(p, t->line, "expected %s, found '%.*s'", wanted, (int)(t->n > 40 ? 40 : t->n), t->s);
}

rm_node *rm_tmpl_parse_node(rm_parser *p, rm_node_kind kind, int line) {
    rm_node *n = rm_tmpl_arena_zero(&p->tree->arena, sizeof *n);
    if (!n) {
        rm_fail(p->err, RMAS_E_NOMEM, "%s: out of memory", p->name);
        return NULL;
    }
    n->kind = (uint8_t)kind;
    n->line = line;
    return n;
}

bool rm_tmpl_parse_is_op(const rm_parser *p, unsigned op) { return p->t->kind == T_OP && p->t->op == op; }
bool rm_tmpl_parse_is_name(const rm_parser *p, const char *name) {
    return p->t->kind == T_NAME && p->t->n == strlen(name) && !memcmp(p->t->s, name, p->t->n);
}

bool rm_tmpl_parse_skip_op(rm_parser *p, unsigned op) {
    if (!rm_tmpl_parse_is_op(p, op)) return false;
    p->t++;
    return true;
}

bool rm_tmpl_parse_skip_name(rm_parser *p, const char *name) {
    if (!rm_tmpl_parse_is_name(p, name)) return false;
    p->t++;
    return true;
}

bool rm_tmpl_parse_expect_op(rm_parser *p, unsigned op) {
    char wanted[5] = {'\'', op > 255 ? (char)(op >> 8) : (char)op, op > 255 ? (char)op : '\'', op > 255 ? '\'' : 0};
    return rm_tmpl_parse_skip_op(p, op) || rm_tmpl_parse_unexpected(p, wanted);
}

bool rm_tmpl_parse_expect(rm_parser *p, rm_tok_kind kind) {
    if (p->t->kind != kind) return rm_tmpl_parse_unexpected(p, kind == T_BLOCK_END ? "%}" : kind == T_VAR_END ? "}}" : "a name");
    p->t++;
    return true;
}

bool rm_tmpl_parse_enter(rm_parser *p) {
    if (p->depth >= RM_PARSE_DEPTH) return rm_tmpl_parse_fail(p, p->t->line, "nested deeper than %d levels", RM_PARSE_DEPTH);
    p->depth++;
    return true;
}

int rm_tmpl_parse_id(rm_parser *p, const char *s, uint32_t n) {
    rm_tree *t = p->tree;
    for (int i = 0; i < t->names.count; i++)
        if (t->names.n[i] == n && !memcmp(t->names.v[i], s, n)) return i;
    if (t->names.count == t->names.cap) {
        int cap = t->names.cap ? 2 * t->names.cap : 32;
        const char **v = rm_realloc_array(t->names.v, (size_t)cap, sizeof *v);
        if (v) t->names.v = v;
        uint32_t *lens = v ? rm_realloc_array(t->names.n, (size_t)cap, sizeof *lens) : NULL;
        if (!lens) {
            rm_fail(p->err, RMAS_E_NOMEM, "%s: out of memory", p->name);
            return -1;
        }
        t->names.n = lens;
        t->names.cap = cap;
    }
    if (t->names.count == 10000) return rm_tmpl_parse_fail(p, p->t->line, "more than 10000 different names"), -1;
    t->names.v[t->names.count] = s;
    t->names.n[t->names.count] = n;
    return t->names.count++;
}

rm_node *rm_tmpl_parse_name(rm_parser *p) {
    const rm_token *t = p->t;
    if (!rm_tmpl_parse_expect(p, T_NAME)) return NULL;
    rm_node *n = rm_tmpl_parse_node(p, N_NAME, t->line);
    if (!n) return NULL;
    n->text = t->s;
    n->n_text = t->n;
    n->id = rm_tmpl_parse_id(p, t->s, t->n);
    return n->id < 0 ? NULL : n;
}

/* ---- bodies --------------------------------------------------------------------------------------------------------- */

static rm_node *statement(rm_parser *p);

/* The end of a tag, then statements up to the tag whose name is one of `ends`; p->t is at that name then. ends NULL: up
 * to the end of the template. Not quite a node: a list in ->body. */
static bool body(rm_parser *p, const char *const *ends, rm_node **out) {
    const int line = p->t->line;
    rm_nodes list = {0};
    if (ends) {
        rm_tmpl_parse_skip_op(p, ':');
        if (!rm_tmpl_parse_expect(p, T_BLOCK_END)) return false;
    }
    if (!rm_tmpl_parse_enter(p)) return false;
    for (;;) {
        const rm_token *t = p->t;
        rm_node *n;
        if (t->kind == T_EOF) {
            if (ends) return rm_tmpl_parse_fail(p, line, "{%% %s %%} is missing", ends[0]);
            break;
        }
        p->t++;
        if (t->kind == T_DATA) {
            n = rm_tmpl_parse_node(p, N_DATA, t->line);
            if (!n) return false;
            n->text = t->s;
            n->n_text = t->n;
        } else if (t->kind == T_VAR_BEGIN) {
            n = rm_tmpl_parse_node(p, N_PRINT, t->line);
            if (!n || !(n->a = rm_tmpl_parse_tuple(p, true, false)) || !rm_tmpl_parse_expect(p, T_VAR_END)) return false;
        } else {
            for (const char *const *e = ends; e && *e; e++)
                if (rm_tmpl_parse_is_name(p, *e)) {
                    *out = list.first;
                    p->depth--;
                    return true;
                }
            if (!(n = statement(p)) || !rm_tmpl_parse_expect(p, T_BLOCK_END)) return false;
        }
        rm_nodes_add(&list, n);
    }
    *out = list.first;
    p->depth--;
    return true;
}

/* A body whose end tag is passed over too. */
static bool body_until(rm_parser *p, const char *end, rm_node **out) {
    const char *const ends[] = {end, NULL};
    if (!body(p, ends, out)) return false;
    p->t++;
    return true;
}

/* ---- statements: each begins behind the name of its tag ----------------------------------------------------------------- */

static rm_node *for_(rm_parser *p, rm_node *n) {
    static const char *const ends[] = {"endfor", "else", NULL};
    if (!(n->a = rm_tmpl_parse_target(p, false))) return NULL;
    if (!rm_tmpl_parse_skip_name(p, "in")) return rm_tmpl_parse_unexpected(p, "'in'");
    if (!(n->b = rm_tmpl_parse_tuple(p, false, false))) return NULL;
    if (rm_tmpl_parse_skip_name(p, "if") && !(n->c = rm_tmpl_parse_expr(p))) return NULL;
    n->op = rm_tmpl_parse_skip_name(p, "recursive");
    p->n_loop++;
    if (!body(p, ends, &n->body)) return NULL;
    p->n_loop--;
    if (!rm_tmpl_parse_skip_name(p, "else")) {
        p->t++;
        return n;
    }
    return body_until(p, "endfor", &n->other) ? n : NULL;
}

static rm_node *if_(rm_parser *p, rm_node *n) {
    static const char *const ends[] = {"endif", "elif", "else", NULL};
    rm_nodes branches = {0};
    p->n_if++;
    for (bool more = true; more;) {
        rm_node *b = rm_tmpl_parse_node(p, N_BRANCH, p->t->line);
        if (!b || !(b->a = rm_tmpl_parse_tuple(p, false, false)) || !body(p, ends, &b->body)) return NULL;
        rm_nodes_add(&branches, b);
        more = rm_tmpl_parse_is_name(p, "elif");
        if (rm_tmpl_parse_is_name(p, "else")) {
            p->t++;
            rm_node *last = rm_tmpl_parse_node(p, N_BRANCH, p->t->line);
            if (!last || !body_until(p, "endif", &last->body)) return NULL;
            rm_nodes_add(&branches, last);
            break;
        }
        p->t++; /* elif or endif */
    }
    p->n_if--;
    n->list = branches.first;
    return n;
}

static rm_node *set(rm_parser *p, rm_node *n) {
    if (!(n->a = rm_tmpl_parse_target(p, true))) return NULL;
    if (rm_tmpl_parse_skip_op(p, '=')) return (n->b = rm_tmpl_parse_tuple(p, true, false)) ? n : NULL;
    n->kind = N_SETBLOCK;
    if (!rm_tmpl_parse_filters(p, &n->b, false)) return NULL;
    return body_until(p, "endset", &n->body) ? n : NULL;
}

/* (name, name=default ...) of a macro or a call block */
static bool signature(rm_parser *p, rm_node *n) {
    rm_nodes params = {0};
    bool defaults = false;
    if (!rm_tmpl_parse_expect_op(p, '(')) return false;
    while (!rm_tmpl_parse_is_op(p, ')')) {
        if (params.n && !rm_tmpl_parse_expect_op(p, ',')) return false;
        rm_node *a = rm_tmpl_parse_name(p);
        if (!a) return false;
        a->kind = N_PARAM;
        if (rm_tmpl_parse_skip_op(p, '=')) {
            if (!(a->a = rm_tmpl_parse_expr(p))) return false;
            defaults = true;
        } else if (defaults) {
            return rm_tmpl_parse_fail(p, a->line, "parameter '%.*s' without a default follows one with a default", (int)a->n_text, a->text);
        }
        rm_nodes_add(&params, a);
    }
    p->t++;
    n->list = params.first;
    n->n = params.n;
    return true;
}

/* Body of a macro or call block: outer loops are out of reach, special names that it uses are noted. */
static bool macro_body(rm_parser *p, rm_node *n, const char *end, bool with_signature) {
    const int loops = p->n_loop;
    const unsigned flags = p->macro_flags;
    p->n_loop = 0;
    p->macro_flags = 0;
    if ((with_signature && !signature(p, n)) || !body_until(p, end, &n->body)) return false;
    n->op = (uint16_t)p->macro_flags;
    p->n_loop = loops;
    p->macro_flags = flags;
    return true;
}

static rm_node *macro(rm_parser *p, rm_node *n) {
    rm_node *name = rm_tmpl_parse_name(p);
    if (!name) return NULL;
    n->id = name->id;
    n->text = name->text;
    n->n_text = name->n_text;
    return macro_body(p, n, "endmacro", true) ? n : NULL;
}

static rm_node *call_block(rm_parser *p, rm_node *n) {
    n->b = rm_tmpl_parse_node(p, N_MACRO, n->line);
    if (!n->b) return NULL;
    n->b->id = RM_ID_CALLER;
    n->b->text = "caller";
    n->b->n_text = 6;
    if (rm_tmpl_parse_is_op(p, '(') && !signature(p, n->b)) return NULL;
    if (!(n->a = rm_tmpl_parse_expr(p))) return NULL;
    if (n->a->kind != N_CALL) return rm_tmpl_parse_fail(p, n->line, "{%% call %%} needs a call");
    return macro_body(p, n->b, "endcall", false) ? n : NULL;
}

static rm_node *with(rm_parser *p, rm_node *n) {
    rm_nodes sets = {0};
    while (p->t->kind != T_BLOCK_END) {
        if (sets.n && !rm_tmpl_parse_expect_op(p, ',')) return NULL;
        rm_node *s = rm_tmpl_parse_node(p, N_SET, p->t->line);
        if (!s || !(s->a = rm_tmpl_parse_target(p, false)) || !rm_tmpl_parse_expect_op(p, '=') || !(s->b = rm_tmpl_parse_expr(p))) return NULL;
        rm_nodes_add(&sets, s);
    }
    n->list = sets.first;
    n->n = sets.n;
    return body_until(p, "endwith", &n->body) ? n : NULL;
}

static rm_node *filter_block(rm_parser *p, rm_node *n) {
    return rm_tmpl_parse_filters(p, &n->b, true) && body_until(p, "endfilter", &n->body) ? n : NULL;
}

static rm_node *generation(rm_parser *p, rm_node *n) { return macro_body(p, n, "endgeneration", false) ? n : NULL; }

static rm_node *jump(rm_parser *p, rm_node *n) {
    if (!p->n_loop) return rm_tmpl_parse_fail(p, n->line, "{%% %s %%} outside of a loop", n->kind == N_BREAK ? "break" : "continue");
    return n;
}

static rm_node *print(rm_parser *p, rm_node *n) { /* {% print a, b %}: one after the other */
    rm_nodes l = {0};
    n->a = rm_tmpl_parse_node(p, N_CONCAT, n->line);
    while (n->a && p->t->kind != T_BLOCK_END) {
        if (l.n && !rm_tmpl_parse_expect_op(p, ',')) return NULL;
        rm_node *e = rm_tmpl_parse_expr(p);
        if (!e) return NULL;
        rm_nodes_add(&l, e);
    }
    if (!n->a) return NULL;
    n->a->list = l.first;
    n->a->n = l.n;
    return n;
}

static rm_node *statement(rm_parser *p) {
    static const struct {
        const char *name;
        rm_node_kind kind;
        rm_node *(*parse)(rm_parser *, rm_node *);
    } tags[] = {
        {"for", N_FOR, for_},
        {"if", N_IF, if_},
        {"set", N_SET, set},
        {"macro", N_MACRO, macro},
        {"call", N_CALLBLOCK, call_block},
        {"filter", N_FILTERBLOCK, filter_block},
        {"with", N_WITH, with},
        {"generation", N_BODY, generation},
        {"break", N_BREAK, jump},
        {"continue", N_CONTINUE, jump},
        {"print", N_PRINT, print},
    };
    const rm_token *t = p->t;
    if (t->kind != T_NAME) return rm_tmpl_parse_unexpected(p, "the name of a tag");
    for (size_t i = 0; i < RM_COUNT(tags); i++)
        if (rm_tmpl_parse_is_name(p, tags[i].name)) {
            rm_node *n = rm_tmpl_parse_node(p, tags[i].kind, t->line);
            p->t++;
            return n ? tags[i].parse(p, n) : NULL;
        }
    return rm_tmpl_parse_fail(p, t->line, "tag '%.*s' is not supported here", (int)(t->n > 40 ? 40 : t->n), t->s);
}

/* ---- the whole ------------------------------------------------------------------------------------------------------ */

rmas_status rm_tmpl_parse(rm_tree *t, const char *source, size_t n, const char *name, rmas_error *err) {
    static const char *const fixed[RM_ID_FIXED] = {"loop", "caller", "varargs", "kwargs"};
    *t = (rm_tree){.arena = {.limit = (size_t)256 << 20}};
    rm_tokens tokens = {0};
    rmas_error local = {0};
    rm_parser p = {.tree = t, .name = name, .err = err ? err : &local};
    rmas_status st = rm_tmpl_lex(&tokens, &t->arena, source, n, name, p.err);
    bool ok = st == RMAS_OK;
    for (int i = 0; ok && i < RM_ID_FIXED; i++) ok = rm_tmpl_parse_id(&p, fixed[i], (uint32_t)strlen(fixed[i])) == i;
    p.t = tokens.v;
    ok = ok && body(&p, NULL, &t->body);
    if (!ok && st == RMAS_OK) st = p.err->code;
    rm_free(tokens.v);
    if (!ok) rm_tmpl_tree_free(t);
    return st;
}

void rm_tmpl_tree_free(rm_tree *t) {
    rm_tmpl_arena_free(&t->arena);
    rm_free(t->names.v);
    rm_free(t->names.n);
    *t = (rm_tree){0};
}
