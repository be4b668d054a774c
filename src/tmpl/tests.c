/* Tests: what stands behind "is". */
#include "tmpl/builtin.h"
#include "tmpl/text.h"
#include "util/mem.h"

#define TEST(name) static bool name(rm_run *r, rm_val *a, const rm_args *all, rm_val *out)
#define YES(expression) return (void)r, (void)all, *out = rm_val_bool(expression), true

TEST(t_defined) { YES(a[0].kind != V_UNDEF); }
TEST(t_undefined) { YES(a[0].kind == V_UNDEF); }
TEST(t_none) { YES(a[0].kind == V_NONE); }
TEST(t_boolean) { YES(a[0].kind == V_BOOL); }
TEST(t_true) { YES(a[0].kind == V_BOOL && a[0].b); }
TEST(t_false) { YES(a[0].kind == V_BOOL && !a[0].b); }
TEST(t_integer) { YES(a[0].kind == V_INT); }
TEST(t_float) { YES(a[0].kind == V_FLOAT); }
TEST(t_number) { YES(rm_val_is_number(&a[0])); }
TEST(t_string) { YES(a[0].kind == V_STR); }
TEST(t_mapping) { YES(a[0].kind == V_DICT); }
TEST(t_escaped) { YES(a[0].kind == V_STR && a[0].flag); }
TEST(t_callable) { YES(a[0].kind == V_UNDEF || (a[0].kind >= V_LOOP && a[0].kind <= V_METHOD) || a[0].kind == V_JOINER); }
/* An undefined value has a length, items and a way through them: none. */
TEST(t_sequence) { YES(a[0].kind == V_UNDEF || a[0].kind == V_STR || a[0].kind == V_DICT || (rm_val_is_seq(&a[0]) && a[0].kind != V_VIEW)); }
TEST(t_iterable) { YES(a[0].kind == V_UNDEF || a[0].kind == V_STR || a[0].kind == V_DICT || a[0].kind == V_ITER || rm_val_is_seq(&a[0])); }

static bool modulo(rm_run *r, const rm_val *v, int64_t by, rm_val *out) {
    rm_val d = rm_val_int(by), rest = {0};
    if (!rm_tmpl_binary(r, '%', v, &d, &rest)) return false;
    if (!rm_val_is_number(&rest)) return rm_tmpl_fail(r, "'%s' is not a number", rm_val_type(v));
    *out = rm_val_float(rm_val_double(&rest));
    return true;
}
TEST(t_even) {
    rm_val rest = {0};
    if (!modulo(r, &a[0], 2, &rest)) return false;
    YES(rest.f == 0);
}
TEST(t_odd) {
    rm_val rest = {0};
    if (!modulo(r, &a[0], 2, &rest)) return false;
    YES(rest.f == 1);
}
TEST(t_divisibleby) {
    rm_val rest = {0};
    int64_t by;
    if (!rm_tmpl_arg_int(r, &a[1], "num", &by) || !modulo(r, &a[0], by, &rest)) return false;
    YES(rest.f == 0);
}

static bool cased(rm_run *r, const rm_val *v, bool (*is)(unsigned), bool (*is_not)(unsigned), rm_val *out) {
    rm_val t;
    bool any = false, all = true;
    if (!rm_tmpl_to_str(r, v, &t) || !rm_tmpl_charge(r, t.n / 16)) return false;
    for (size_t i = 0; i < t.n && all;) {
        unsigned cp;
        i += (size_t)rm_text_next(t.s + i, t.n - i, &cp);
        any = any || is(cp);
        all = !is_not(cp);
    }
    *out = rm_val_bool(any && all);
    return true;
}
TEST(t_lower) { return (void)all, cased(r, &a[0], rm_cp_lower, rm_cp_upper, out); }
TEST(t_upper) { return (void)all, cased(r, &a[0], rm_cp_upper, rm_cp_lower, out); }

TEST(t_eq) {
    bool same;
    if (!rm_tmpl_equal(r, &a[0], &a[1], &same)) return false;
    YES(same);
}
TEST(t_ne) {
    bool same;
    if (!rm_tmpl_equal(r, &a[0], &a[1], &same)) return false;
    YES(!same);
}
TEST(t_in) {
    bool in;
    if (!rm_tmpl_contains(r, &a[1], &a[0], &in)) return false;
    YES(in);
}
TEST(t_sameas) {
    bool same = a[0].kind == a[1].kind;
    if (same && !(rm_val_is_seq(&a[0]) || a[0].kind == V_DICT || a[0].kind == V_STR) && !rm_tmpl_equal(r, &a[0], &a[1], &same)) return false;
    YES(same && (!(rm_val_is_seq(&a[0]) || a[0].kind == V_DICT || a[0].kind == V_STR) || (a[0].s == a[1].s && a[0].n == a[1].n)));
}

#define ORDER(name, condition)                                                                                                                       \
    TEST(name) {                                                                                                                                     \
        int c;                                                                                                                                       \
        if (!rm_tmpl_order(r, &a[0], &a[1], &c)) return false;                                                                                       \
        YES(condition);                                                                                                                              \
    }
ORDER(t_lt, c < 0)
ORDER(t_le, c <= 0)
ORDER(t_gt, c > 0)
ORDER(t_ge, c >= 0)

static const rm_entry tests[] = {
    {"!=", "value other", 2, t_ne},
    {"boolean", "value", 1, t_boolean},
    {"callable", "obj", 1, t_callable},
    {"defined", "value", 1, t_defined},
    {"divisibleby", "value num", 2, t_divisibleby},
    {"eq", "value other", 2, t_eq},
    {"equalto", "value other", 2, t_eq},
    {"==", "value other", 2, t_eq},
    {"escaped", "value", 1, t_escaped},
    {"even", "value", 1, t_even},
    {"false", "value", 1, t_false},
    {"float", "value", 1, t_float},
    {"ge", "value other", 2, t_ge},
    {">=", "value other", 2, t_ge},
    {"greaterthan", "value other", 2, t_gt},
    {"gt", "value other", 2, t_gt},
    {">", "value other", 2, t_gt},
    {"in", "value seq", 2, t_in},
    {"integer", "value", 1, t_integer},
    {"iterable", "value", 1, t_iterable},
    {"le", "value other", 2, t_le},
    {"<=", "value other", 2, t_le},
    {"lessthan", "value other", 2, t_lt},
    {"lt", "value other", 2, t_lt},
    {"<", "value other", 2, t_lt},
    {"lower", "value", 1, t_lower},
    {"mapping", "value", 1, t_mapping},
    {"ne", "value other", 2, t_ne},
    {"none", "value", 1, t_none},
    {"number", "value", 1, t_number},
    {"odd", "value", 1, t_odd},
    {"sameas", "value other", 2, t_sameas},
    {"sequence", "value", 1, t_sequence},
    {"string", "value", 1, t_string},
    {"true", "value", 1, t_true},
    {"undefined", "value", 1, t_undefined},
    {"upper", "value", 1, t_upper},
};

const rm_entry *rm_tmpl_test_find(const char *s, size_t n) { return rm_tmpl_entry_find(tests, RM_COUNT(tests), s, n); }
