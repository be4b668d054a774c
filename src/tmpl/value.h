/* Values of templates: Python's, as far as templates meet them. Immutable but for namespaces and consumed iterators.
 * Everything a value points to lives in the arena of the rendering (or of the template, or in the caller's variables). */
#ifndef RM_TMPL_VALUE_H
#define RM_TMPL_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum {
    V_ABSENT, /* an argument that was not given; never visible to a template */
    V_UNDEF, /* s, n: the name; flag: kind of the object it is missing from, 0: a variable */
    V_NONE,
    V_BOOL,
    V_INT,
    V_FLOAT,
    V_STR, /* s, n; flag: marked safe */
    V_LIST, /* seq, n */
    V_TUPLE,
    V_RANGE,
    V_VIEW, /* keys, values or items of a dict */
    V_ITER, /* what Python gives as a generator: can be run through once */
    V_DICT, /* dict, n */
    V_NS, /* namespace */
    V_LOOP,
    V_MACRO,
    V_FUNC, /* a global function */
    V_METHOD, /* bound */
    V_CYCLER,
    V_JOINER
} rm_val_kind;

typedef struct rm_val rm_val;
typedef struct rm_pair rm_pair;
typedef struct rm_iter rm_iter;
typedef struct rm_ns rm_ns;
typedef struct rm_loop rm_loop;
typedef struct rm_macro rm_macro;
typedef struct rm_bound rm_bound;
typedef struct rm_cycler rm_cycler;
struct rm_entry;

struct rm_val {
    uint8_t kind, flag;
    uint32_t n;
    union {
        bool b;
        int64_t i;
        double f;
        const char *s;
        const rm_val *seq;
        const rm_pair *dict;
        rm_iter *iter;
        rm_ns *ns;
        rm_loop *loop;
        rm_macro *macro;
        const struct rm_entry *func;
        rm_bound *bound;
        rm_cycler *cycler; /* of a joiner too */
    };
};
struct rm_pair {
    rm_val key, val;
};
struct rm_iter {
    const rm_val *seq;
    bool used;
};
struct rm_ns {
    rm_pair *v;
    uint32_t n, cap;
};
struct rm_bound { /* a method and what it belongs to */
    rm_val self;
    const struct rm_entry *fn;
};
struct rm_cycler {
    const rm_val *v;
    uint32_t n, at;
};

static inline rm_val rm_val_none(void) { return (rm_val){.kind = V_NONE}; }
static inline rm_val rm_val_bool(bool b) { return (rm_val){.kind = V_BOOL, .b = b}; }
static inline rm_val rm_val_int(int64_t i) { return (rm_val){.kind = V_INT, .i = i}; }
static inline rm_val rm_val_float(double f) { return (rm_val){.kind = V_FLOAT, .f = f}; }
static inline rm_val rm_val_str(const char *s, size_t n) { return (rm_val){.kind = V_STR, .n = (uint32_t)n, .s = s}; }
static inline rm_val rm_val_seq(rm_val_kind kind, const rm_val *v, size_t n) { return (rm_val){.kind = (uint8_t)kind, .n = (uint32_t)n, .seq = v}; }
static inline rm_val rm_val_undef(const char *name, size_t n) { return (rm_val){.kind = V_UNDEF, .n = (uint32_t)n, .s = name}; }
static inline bool rm_val_is_seq(const rm_val *v) { return v->kind >= V_LIST && v->kind <= V_VIEW; }
static inline bool rm_val_is_number(const rm_val *v) { return v->kind >= V_BOOL && v->kind <= V_FLOAT; }

bool rm_val_true(const rm_val *v);
double rm_val_double(const rm_val *v); /* of a number */
const char *rm_val_type(const rm_val *v); /* "dict", "str", as Python calls them */
bool rm_val_is(const rm_val *v, const char *s); /* a string equal to s */

#endif
