/* Strict scorer: values. Exact rationals where both sides allow it, else complex numbers at 60 and at 100 decimal digits;
 * expressions with symbols are compared at fixed sample points. */
#include <mpc.h>
#include <stdlib.h>
#include <string.h>

#include "eval/strict.h"
#include "util/mem.h"

typedef enum { V_OK, V_INEXACT, V_UNDEFINED } status;

enum { MAX_SYMBOLS = 64, N_TRIAL = 12, MIN_GOOD = 4, PREC_60 = 203, PREC_100 = 336 };

/* Values of the symbols, sorted by name. */
typedef struct {
    const char *name[MAX_SYMBOLS];
    mpq_t value[MAX_SYMBOLS];
    int n;
    bool too_many;
} environment;

static int find_symbol(const environment *env, const char *name) {
    for (int i = 0; env && i < env->n; i++) {
        if (strcmp(env->name[i], name) == 0) return i;
    }
    return -1;
}

static void collect(const st_expr *e, environment *env) {
    if (!e) return;
    if (e->kind == E_SYM && find_symbol(env, e->name) < 0) {
        if (env->n == MAX_SYMBOLS) {
            env->too_many = true;
            return;
        }
        int i = env->n++;
        for (; i > 0 && strcmp(env->name[i - 1], e->name) > 0; i--) env->name[i] = env->name[i - 1];
        env->name[i] = e->name;
    }
    for (int i = 0; i < e->n; i++) collect(e->item[i], env);
    collect(e->a, env);
    collect(e->b, env);
}

static void open_env(environment *env) {
    for (int i = 0; i < env->n; i++) mpq_init(env->value[i]);
}

static void close_env(environment *env) {
    for (int i = 0; i < env->n; i++) mpq_clear(env->value[i]);
}

/* ---- sample points ---------------------------------------------------------------------------------------------------------- */

static uint64_t next_random(uint64_t *state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

/* Small positive, larger, negative, large rationals in turn. */
static void sample(environment *env, uint64_t *state, int trial) {
    for (int i = 0; i < env->n; i++) {
        long q = (long)(next_random(state) % 997 + 1); /* thousandths */
        long v = trial % 4 == 0 ? q : trial % 4 == 1 ? 1000 + 3 * q : trial % 4 == 2 ? -q - 500 : 5000 + 20 * q;
        mpq_set_si(env->value[i], v, 1000);
        mpq_canonicalize(env->value[i]);
    }
}

/* ---- exact --------------------------------------------------------------------------------------------------------------------- */

static bool too_big(mpq_srcptr q) { return mpz_sizeinbase(mpq_numref(q), 2) > ST_MAX_BITS || mpz_sizeinbase(mpq_denref(q), 2) > ST_MAX_BITS; }
static bool whole(mpq_srcptr q) { return mpz_cmp_ui(mpq_denref(q), 1) == 0; }

static status exact(const st_expr *e, const environment *env, mpq_ptr out);

static status exact_power(const st_expr *e, const environment *env, mpq_ptr out) {
    mpq_t b;
    mpq_init(b);
    status st = exact(e->a, env, out);
    if (!st) st = exact(e->b, env, b);
    if (!st && !whole(b)) st = V_INEXACT;
    if (!st) {
        size_t bits = mpz_sizeinbase(mpq_numref(out), 2), den = mpz_sizeinbase(mpq_denref(out), 2);
        if (den > bits) bits = den;
        bool zero = mpq_sgn(out) == 0, unit = mpz_cmpabs_ui(mpq_numref(out), 1) == 0 && whole(out);
        if ((zero && mpq_sgn(b) < 0) || mpz_cmpabs_ui(mpq_numref(b), ST_MAX_BITS) > 0) {
            st = V_UNDEFINED;
        } else {
            long n = mpz_get_si(mpq_numref(b));
            unsigned long k = (unsigned long)labs(n);
            if (k * bits > ST_MAX_BITS && !unit && !zero) {
                st = V_UNDEFINED;
            } else {
                mpz_pow_ui(mpq_numref(out), mpq_numref(out), k);
                mpz_pow_ui(mpq_denref(out), mpq_denref(out), k);
                if (n < 0) mpq_inv(out, out);
                if (too_big(out)) st = V_UNDEFINED;
            }
        }
    }
    mpq_clear(b);
    return st;
}

static status exact_root(mpq_ptr a) {
    if (mpq_sgn(a) < 0 || !mpz_perfect_square_p(mpq_numref(a)) || !mpz_perfect_square_p(mpq_denref(a))) return V_INEXACT;
    mpz_sqrt(mpq_numref(a), mpq_numref(a));
    mpz_sqrt(mpq_denref(a), mpq_denref(a));
    return V_OK;
}

static status exact_binomial(const st_expr *e, const environment *env, mpq_ptr out) {
    mpq_t b;
    mpq_init(b);
    status st = exact(e->item[1], env, b);
    if (!st && (!whole(out) || !whole(b) || mpq_sgn(out) < 0 || mpq_sgn(b) < 0 || mpz_cmp_ui(mpq_numref(out), 2000) > 0)) st = V_UNDEFINED;
    if (!st) {
        unsigned long n = mpz_get_ui(mpq_numref(out));
        if (mpz_cmp_ui(mpq_numref(b), n) > 0)
            mpq_set_ui(out, 0, 1);
        else
            mpz_bin_uiui(mpq_numref(out), n, mpz_get_ui(mpq_numref(b)));
        if (too_big(out)) st = V_UNDEFINED;
    }
    mpq_clear(b);
    return st;
}

static status exact_function(const st_expr *e, const environment *env, mpq_ptr out) {
    const char *f = e->name;
    bool abs = strcmp(f, "abs") == 0, floor = strcmp(f, "floor") == 0, ceil = strcmp(f, "ceil") == 0, fact = strcmp(f, "fact") == 0;
    bool binom = strcmp(f, "binom") == 0, root = strcmp(f, "sqrt") == 0;
    if (!abs && !floor && !ceil && !fact && !binom && !root) return V_INEXACT;
    status st = exact(e->item[0], env, out);
    if (st) return st;
    if (abs) mpq_abs(out, out);
    if (floor) mpz_fdiv_q(mpq_numref(out), mpq_numref(out), mpq_denref(out));
    if (ceil) mpz_cdiv_q(mpq_numref(out), mpq_numref(out), mpq_denref(out));
    if (floor || ceil) mpz_set_ui(mpq_denref(out), 1);
    if (binom) return exact_binomial(e, env, out);
    if (root) return exact_root(out);
    if (fact) {
        if (!whole(out) || mpq_sgn(out) < 0 || mpz_cmp_ui(mpq_numref(out), 1000) > 0) return V_UNDEFINED;
        mpz_fac_ui(mpq_numref(out), mpz_get_ui(mpq_numref(out)));
        if (too_big(out)) return V_UNDEFINED;
    }
    return V_OK;
}

static status exact(const st_expr *e, const environment *env, mpq_ptr out) {
    status st;
    switch (e->kind) {
    case E_NUM: mpq_set(out, e->q); return V_OK;
    case E_SYM: {
        int i = find_symbol(env, e->name);
        if (i < 0) return V_INEXACT;
        mpq_set(out, env->value[i]);
        return V_OK;
    }
    case E_NEG:
        st = exact(e->a, env, out);
        if (!st) mpq_neg(out, out);
        return st;
    case E_PCT: {
        st = exact(e->a, env, out);
        if (st) return st;
        mpq_t hundred;
        mpq_init(hundred);
        mpq_set_ui(hundred, 100, 1);
        mpq_div(out, out, hundred);
        mpq_clear(hundred);
        return V_OK;
    }
    case E_ADD:
    case E_MUL:
    case E_DIV: {
        mpq_t b;
        mpq_init(b);
        status sa, sb;
        if (e->kind == E_DIV) { /* the divisor is looked at first */
            sb = exact(e->b, env, b);
            sa = sb ? sb : mpq_sgn(b) == 0 ? V_UNDEFINED : exact(e->a, env, out);
        } else {
            sa = exact(e->a, env, out);
            sb = sa ? sa : exact(e->b, env, b);
        }
        st = sa ? sa : sb;
        if (!st && e->kind == E_ADD) mpq_add(out, out, b);
        if (!st && e->kind == E_MUL) mpq_mul(out, out, b);
        if (!st && e->kind == E_DIV) mpq_div(out, out, b);
        mpq_clear(b);
        return !st && too_big(out) ? V_UNDEFINED : st;
    }
    case E_POW: return exact_power(e, env, out);
    case E_FN: return exact_function(e, env, out);
    default: return V_INEXACT;
    }
}

/* ---- numeric -------------------------------------------------------------------------------------------------------------------- */

typedef struct {
    const environment *env;
    mpfr_prec_t prec;
    mpfr_ptr tol; /* 1e-40 */
} numeric_ctx;

static status numeric(const numeric_ctx *c, const st_expr *e, mpc_ptr out);

static bool below(mpfr_srcptr x, mpfr_srcptr limit) { return mpfr_cmpabs(x, limit) < 0; }

static bool tiny(const numeric_ctx *c, mpc_srcptr z) {
    mpfr_t r;
    mpfr_init2(r, c->prec);
    mpc_abs(r, z, MPFR_RNDN);
    bool yes = below(r, c->tol);
    mpfr_clear(r);
    return yes;
}

static bool real_value(const numeric_ctx *c, mpc_srcptr z) { return below(mpc_imagref(z), c->tol); }

/* Negative zeros become zeros: they would choose the other side of a branch cut. */
static status finished(mpc_ptr z) {
    if (mpfr_zero_p(mpc_imagref(z))) mpfr_set_zero(mpc_imagref(z), 1);
    if (mpfr_zero_p(mpc_realref(z))) mpfr_set_zero(mpc_realref(z), 1);
    return mpfr_number_p(mpc_realref(z)) && mpfr_number_p(mpc_imagref(z)) ? V_OK : V_UNDEFINED;
}

static void drop_imaginary(mpc_ptr z) { mpfr_set_zero(mpc_imagref(z), 1); }

/* A real odd root of a negative number, where the exponent is a fraction with an odd denominator. */
static bool odd_root(const numeric_ctx *c, const st_expr *exponent, mpc_ptr a) {
    if (exponent->kind != E_DIV || !real_value(c, a) || mpfr_sgn(mpc_realref(a)) >= 0) return false;
    mpq_t q;
    mpq_init(q);
    bool yes = exact(exponent, NULL, q) == V_OK && mpz_odd_p(mpq_denref(q));
    if (yes) {
        mpfr_t x;
        mpfr_init2(x, c->prec);
        mpfr_set_q(x, q, MPFR_RNDN);
        mpfr_neg(mpc_realref(a), mpc_realref(a), MPFR_RNDN);
        mpfr_pow(mpc_realref(a), mpc_realref(a), x, MPFR_RNDN);
        if (mpz_odd_p(mpq_numref(q))) mpfr_neg(mpc_realref(a), mpc_realref(a), MPFR_RNDN);
        drop_imaginary(a);
        mpfr_clear(x);
    }
    mpq_clear(q);
    return yes;
}

static status numeric_power(const numeric_ctx *c, const st_expr *e, mpc_ptr a) {
    mpc_t b, t;
    mpfr_t r;
    mpc_init2(b, c->prec);
    mpc_init2(t, c->prec);
    mpfr_init2(r, c->prec);
    status st = numeric(c, e->a, a);
    if (!st) st = numeric(c, e->b, b);
    if (!st && tiny(c, a)) {
        if (mpfr_sgn(mpc_realref(b)) > 0 && real_value(c, b))
            mpc_set_ui(a, 0, MPC_RNDNN);
        else if (tiny(c, b))
            mpc_set_ui(a, 1, MPC_RNDNN);
        else
            st = V_UNDEFINED;
    } else if (!st) {
        mpc_log(t, a, MPC_RNDNN);
        mpc_mul(t, t, b, MPC_RNDNN);
        mpc_abs(r, t, MPFR_RNDN);
        if (!(mpfr_cmp_ui(r, 20000) <= 0)) {
            st = V_UNDEFINED;
        } else if (!odd_root(c, e->b, a)) {
            if (mpfr_zero_p(mpc_imagref(b)) && mpfr_integer_p(mpc_realref(b)) && mpfr_fits_slong_p(mpc_realref(b), MPFR_RNDN))
                mpc_pow_si(a, a, mpfr_get_si(mpc_realref(b), MPFR_RNDN), MPC_RNDNN);
            else if (mpfr_zero_p(mpc_imagref(a)) && mpfr_zero_p(mpc_imagref(b)) && mpfr_sgn(mpc_realref(a)) > 0)
                mpfr_pow(mpc_realref(a), mpc_realref(a), mpc_realref(b), MPFR_RNDN);
            else
                mpc_exp(a, t, MPC_RNDNN);
        }
    }
    mpc_clear(b);
    mpc_clear(t);
    mpfr_clear(r);
    return st;
}

static status numeric_root(const numeric_ctx *c, mpc_ptr a, mpc_srcptr index) {
    mpfr_t n, d;
    mpfr_inits2(c->prec, n, d, (mpfr_ptr)0);
    mpfr_rint(n, mpc_realref(index), MPFR_RNDN);
    mpfr_sub(d, n, mpc_realref(index), MPFR_RNDN);
    bool ok = real_value(c, index) && mpfr_cmpabs(d, c->tol) <= 0 && mpfr_cmp_ui(n, 1) >= 0 && mpfr_cmp_ui(n, 1000) <= 0;
    if (ok) {
        unsigned long k = mpfr_get_ui(n, MPFR_RNDN);
        bool real = real_value(c, a), negative = mpfr_sgn(mpc_realref(a)) < 0;
        if (real && (!negative || k % 2)) {
            if (negative) mpfr_neg(mpc_realref(a), mpc_realref(a), MPFR_RNDN);
            mpfr_rootn_ui(mpc_realref(a), mpc_realref(a), k, MPFR_RNDN);
            if (negative) mpfr_neg(mpc_realref(a), mpc_realref(a), MPFR_RNDN);
            drop_imaginary(a);
        } else {
            mpc_log(a, a, MPC_RNDNN);
            mpc_div_ui(a, a, k, MPC_RNDNN);
            mpc_exp(a, a, MPC_RNDNN);
        }
    }
    mpfr_clears(n, d, (mpfr_ptr)0);
    return ok ? V_OK : V_UNDEFINED;
}

static status numeric_log(const numeric_ctx *c, mpc_ptr a, mpc_ptr base) {
    if (tiny(c, a)) return V_UNDEFINED;
    mpc_log(a, a, MPC_RNDNN);
    if (!base) return V_OK;
    if (tiny(c, base)) return V_UNDEFINED;
    mpc_log(base, base, MPC_RNDNN);
    if (tiny(c, base)) return V_UNDEFINED;
    mpc_div(a, a, base, MPC_RNDNN);
    return V_OK;
}

/* sin, cos and what is made of them; hyperbolic and inverse functions. */
static status numeric_trigonometry(const numeric_ctx *c, const char *f, mpc_ptr a) {
    static const struct {
        const char *name;
        int (*fn)(mpc_ptr, mpc_srcptr, mpc_rnd_t);
    } direct[] = {{"sin", mpc_sin},     {"cos", mpc_cos},   {"arcsin", mpc_asin}, {"arccos", mpc_acos},
                  {"arctan", mpc_atan}, {"sinh", mpc_sinh}, {"cosh", mpc_cosh},   {"tanh", mpc_tanh}};
    if (mpfr_cmp_si(mpc_imagref(a), 200) > 0 || mpfr_cmp_si(mpc_imagref(a), -200) < 0) return V_UNDEFINED;
    if (mpfr_regular_p(mpc_realref(a)) && mpfr_get_exp(mpc_realref(a)) > 100000) return V_UNDEFINED; /* would need as many bits of pi */
    for (size_t i = 0; i < RM_COUNT(direct); i++) {
        if (strcmp(f, direct[i].name) != 0) continue;
        direct[i].fn(a, a, MPC_RNDNN);
        return V_OK;
    }
    bool by_cos = strcmp(f, "tan") == 0 || strcmp(f, "sec") == 0, one = strcmp(f, "sec") == 0 || strcmp(f, "csc") == 0;
    if (!by_cos && strcmp(f, "cot") != 0 && strcmp(f, "csc") != 0) return V_UNDEFINED;
    mpc_t sn, cs;
    mpc_init2(sn, c->prec);
    mpc_init2(cs, c->prec);
    mpc_sin_cos(sn, cs, a, MPC_RNDNN, MPC_RNDNN);
    mpc_ptr d = by_cos ? cs : sn, n = by_cos ? sn : cs;
    status st = tiny(c, d) ? V_UNDEFINED : V_OK;
    if (!st && one) mpc_ui_div(a, 1, d, MPC_RNDNN);
    if (!st && !one) mpc_div(a, n, d, MPC_RNDNN);
    mpc_clear(sn);
    mpc_clear(cs);
    return st;
}

static status numeric_function(const numeric_ctx *c, const st_expr *e, mpc_ptr a) {
    const char *f = e->name;
    if (strcmp(f, "fact") == 0 || strcmp(f, "binom") == 0) {
        mpq_t q;
        mpq_init(q);
        status st = exact(e, c->env, q);
        if (!st) mpc_set_q(a, q, MPC_RNDNN);
        mpq_clear(q);
        return st ? V_UNDEFINED : V_OK;
    }
    mpc_t b;
    mpc_init2(b, c->prec);
    status st = numeric(c, e->item[0], a);
    if (!st && e->n > 1) st = numeric(c, e->item[1], b);
    if (!st) {
        if (strcmp(f, "sqrt") == 0) {
            mpc_sqrt(a, a, MPC_RNDNN);
        } else if (strcmp(f, "root") == 0) {
            st = numeric_root(c, a, b);
        } else if (strcmp(f, "abs") == 0) {
            mpc_abs(mpc_realref(b), a, MPFR_RNDN);
            mpc_set_fr(a, mpc_realref(b), MPC_RNDNN);
        } else if (strcmp(f, "floor") == 0 || strcmp(f, "ceil") == 0) {
            if (!real_value(c, a)) st = V_UNDEFINED;
            if (f[0] == 'f')
                mpfr_floor(mpc_realref(a), mpc_realref(a));
            else
                mpfr_ceil(mpc_realref(a), mpc_realref(a));
            drop_imaginary(a);
        } else if (strcmp(f, "log") == 0 || strcmp(f, "ln") == 0) {
            st = numeric_log(c, a, f[1] == 'o' ? b : NULL);
        } else {
            st = numeric_trigonometry(c, f, a);
        }
    }
    mpc_clear(b);
    return st;
}

static status numeric_binary(const numeric_ctx *c, const st_expr *e, mpc_ptr out) {
    mpc_t b;
    mpc_init2(b, c->prec);
    status st = numeric(c, e->a, out);
    if (!st) st = numeric(c, e->b, b);
    if (!st && e->kind == E_ADD) mpc_add(out, out, b, MPC_RNDNN);
    if (!st && e->kind == E_MUL) mpc_mul(out, out, b, MPC_RNDNN);
    if (!st && e->kind == E_DIV) {
        if (tiny(c, b))
            st = V_UNDEFINED;
        else
            mpc_div(out, out, b, MPC_RNDNN);
    }
    mpc_clear(b);
    return st;
}

static status numeric(const numeric_ctx *c, const st_expr *e, mpc_ptr out) {
    status st = V_OK;
    switch (e->kind) {
    case E_NUM: mpc_set_q(out, e->q, MPC_RNDNN); break;
    case E_SYM: {
        int i = find_symbol(c->env, e->name);
        if (i < 0) return V_UNDEFINED;
        mpc_set_q(out, c->env->value[i], MPC_RNDNN);
        break;
    }
    case E_CONST:
        mpc_set_ui(out, 0, MPC_RNDNN);
        if (strcmp(e->name, "pi") == 0)
            mpfr_const_pi(mpc_realref(out), MPFR_RNDN);
        else if (strcmp(e->name, "i") == 0)
            mpfr_set_ui(mpc_imagref(out), 1, MPFR_RNDN);
        else if (strcmp(e->name, "e") == 0) {
            mpfr_set_ui(mpc_realref(out), 1, MPFR_RNDN);
            mpfr_exp(mpc_realref(out), mpc_realref(out), MPFR_RNDN);
        } else
            return V_UNDEFINED;
        break;
    case E_NEG:
        st = numeric(c, e->a, out);
        if (!st) mpc_neg(out, out, MPC_RNDNN);
        break;
    case E_PCT:
    case E_DEG:
        st = numeric(c, e->a, out);
        if (!st && e->kind == E_PCT) mpc_div_ui(out, out, 100, MPC_RNDNN);
        if (!st && e->kind == E_DEG) {
            mpfr_t pi;
            mpfr_init2(pi, c->prec);
            mpfr_const_pi(pi, MPFR_RNDN);
            mpc_mul_fr(out, out, pi, MPC_RNDNN);
            mpc_div_ui(out, out, 180, MPC_RNDNN);
            mpfr_clear(pi);
        }
        break;
    case E_ADD:
    case E_MUL:
    case E_DIV: st = numeric_binary(c, e, out); break;
    case E_POW: st = numeric_power(c, e, out); break;
    case E_FN: st = numeric_function(c, e, out); break;
    default: return V_UNDEFINED;
    }
    return st ? st : finished(out);
}

/* ---- comparison ------------------------------------------------------------------------------------------------------------------ */

static void power_of_ten(mpfr_ptr x, long n) {
    mpfr_set_ui(x, 10, MPFR_RNDN);
    mpfr_pow_si(x, x, n, MPFR_RNDN);
}

/* |a - b|, and whether it is within 10^-digits of their size. */
static status distance(const environment *env, const st_expr *a, const st_expr *b, mpfr_prec_t prec, long digits, mpfr_ptr d, bool *near) {
    mpc_t x, y;
    mpfr_t tol, size, t;
    mpc_init2(x, prec);
    mpc_init2(y, prec);
    mpfr_inits2(prec, tol, size, t, (mpfr_ptr)0);
    power_of_ten(tol, -40);
    numeric_ctx c = {env, prec, tol};
    status st = numeric(&c, a, x);
    if (!st) st = numeric(&c, b, y);
    if (!st) {
        mpc_abs(size, x, MPFR_RNDN);
        mpc_abs(t, y, MPFR_RNDN);
        mpfr_max(size, size, t, MPFR_RNDN);
        mpfr_add_ui(size, size, 1, MPFR_RNDN);
        power_of_ten(t, -digits);
        mpfr_mul(size, size, t, MPFR_RNDN);
        mpc_sub(x, x, y, MPC_RNDNN);
        mpc_abs(d, x, MPFR_RNDN);
        *near = mpfr_cmp(d, size) <= 0;
    }
    mpc_clear(x);
    mpc_clear(y);
    mpfr_clears(tol, size, t, (mpfr_ptr)0);
    return st;
}

/* Whether two values agree at two precisions; a difference that stays the same is real. */
static status numerically_equal(const environment *env, const st_expr *a, const st_expr *b, bool *equal) {
    mpfr_t d1, d2, t;
    bool near = false;
    mpfr_inits2(PREC_100, d1, d2, t, (mpfr_ptr)0);
    *equal = false;
    status st = distance(env, a, b, PREC_60, 40, d1, &near);
    if (!st && near) {
        st = distance(env, a, b, PREC_100, 80, d2, &near);
        if (!st && near) {
            mpfr_sub(d2, d1, d2, MPFR_RNDN);
            mpfr_div_ui(t, d1, 1000, MPFR_RNDN);
            *equal = mpfr_zero_p(d1) || mpfr_cmpabs(d2, t) > 0;
        }
    }
    mpfr_clears(d1, d2, t, (mpfr_ptr)0);
    return st;
}

static int infinity(const st_expr *e) {
    if (e->kind == E_NEG) return -infinity(e->a) * (e->a->kind == E_CONST);
    return e->kind == E_CONST && strcmp(e->name, "oo") == 0;
}

bool rm_st_same_number(rm_strict *s, const st_expr *a, const st_expr *b) {
    if (s->bad) return false;
    if (rm_st_same_tree(a, b)) return true;
    if (infinity(a) || infinity(b)) return infinity(a) == infinity(b);
    environment env = {.n = 0};
    collect(a, &env);
    collect(b, &env);
    if (env.too_many) return false;
    open_env(&env);
    mpq_t x, y;
    mpq_inits(x, y, NULL);
    uint64_t state = 0x9E3779B97F4A7C15u;
    int good = 0, n_trial = env.n ? N_TRIAL : 1;
    bool equal = true;
    for (int k = 0; k < n_trial && equal; k++) {
        sample(&env, &state, k);
        status st = exact(a, &env, x);
        if (!st) st = exact(b, &env, y);
        if (st == V_OK)
            equal = mpq_equal(x, y) != 0;
        else if (st == V_INEXACT) {
            st = numerically_equal(&env, a, b, &equal);
            if (st) equal = true; /* undefined at this point: it says nothing */
        }
        good += st == V_OK;
    }
    mpq_clears(x, y, NULL);
    close_env(&env);
    return equal && good >= (env.n ? MIN_GOOD : 1);
}

bool rm_st_proportional(rm_strict *s, const st_expr *p, const st_expr *q) {
    environment env = {.n = 0}, other = {.n = 0};
    if (s->bad) return false;
    collect(p, &env);
    collect(q, &other);
    bool same = env.n > 0 && env.n == other.n && !env.too_many;
    for (int i = 0; same && i < env.n; i++) same = strcmp(env.name[i], other.name[i]) == 0;
    if (!same) return false;
    open_env(&env);
    mpc_t x, y, ratio;
    mpfr_t tol, d, limit;
    mpc_init2(x, PREC_60);
    mpc_init2(y, PREC_60);
    mpc_init2(ratio, PREC_60);
    mpfr_inits2(PREC_60, tol, d, limit, (mpfr_ptr)0);
    power_of_ten(tol, -40);
    uint64_t state = 0x9E3779B97F4A7C15u;
    int good = 0;
    for (int k = 0; k < N_TRIAL && same; k++) {
        sample(&env, &state, k);
        numeric_ctx c = {&env, PREC_60, tol};
        if (numeric(&c, p, x) || numeric(&c, q, y)) continue;
        bool zx = tiny(&c, x), zy = tiny(&c, y);
        if (zx && zy) continue;
        if (zx || zy) {
            same = false;
            break;
        }
        mpc_div(x, x, y, MPC_RNDNN);
        if (good == 0) {
            mpc_set(ratio, x, MPC_RNDNN);
        } else {
            mpc_sub(y, x, ratio, MPC_RNDNN);
            mpc_abs(d, y, MPFR_RNDN);
            mpc_abs(limit, ratio, MPFR_RNDN);
            mpfr_mul(limit, limit, tol, MPFR_RNDN);
            same = mpfr_cmp(d, limit) <= 0;
        }
        good++;
    }
    mpc_clear(x);
    mpc_clear(y);
    mpc_clear(ratio);
    mpfr_clears(tol, d, limit, (mpfr_ptr)0);
    close_env(&env);
    return same && good >= MIN_GOOD;
}

/* A real number without symbols. */
static bool real_of(const st_expr *e, mpfr_ptr out) {
    mpc_t z;
    mpfr_t tol;
    int inf = infinity(e);
    if (inf) {
        mpfr_set_inf(out, inf);
        return true;
    }
    mpc_init2(z, PREC_60);
    mpfr_init2(tol, PREC_60);
    power_of_ten(tol, -40);
    numeric_ctx c = {NULL, PREC_60, tol};
    bool ok = numeric(&c, e, z) == V_OK && real_value(&c, z);
    if (ok) mpfr_set(out, mpc_realref(z), MPFR_RNDN);
    mpc_clear(z);
    mpfr_clear(tol);
    return ok;
}

bool rm_st_near(rm_strict *s, const st_expr *a, const st_expr *b) {
    mpfr_t x, y, d;
    if (s->bad) return false;
    mpfr_inits2(PREC_60, x, y, d, (mpfr_ptr)0);
    bool ok = real_of(a, x) && real_of(b, y);
    if (ok) {
        mpfr_sub(d, x, y, MPFR_RNDN);
        mpfr_abs(d, d, MPFR_RNDN);
        mpfr_abs(x, x, MPFR_RNDN);
        mpfr_div_ui(x, x, 100, MPFR_RNDN);
        ok = !mpfr_nan_p(d) && mpfr_cmp(d, x) <= 0;
    }
    mpfr_clears(x, y, d, (mpfr_ptr)0);
    return ok;
}

bool rm_st_at_least_one(rm_strict *s, const st_expr *a) {
    mpfr_t x, one;
    if (s->bad) return false;
    mpfr_inits2(PREC_60, x, one, (mpfr_ptr)0);
    mpfr_set_ui(one, 1, MPFR_RNDN);
    bool ok = real_of(a, x) && mpfr_cmpabs(x, one) >= 0;
    mpfr_clears(x, one, (mpfr_ptr)0);
    return ok;
}
