/* Every entry of every kernel table that this CPU can run, against double precision, at odd sizes and offsets, with guard words
 * around what is written; products bitwise equal for any number of rows. "--bench" measures the same entries. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kern/kern.h"
#include "tensor/matrix.h"
#include "tensor/pack.h"
#include "util/mem.h"
#include "util/rng.h"

static int n_fail, n_check;
static const char *isa;
#define CHECK(cond, ...)                                                                                                                             \
    do {                                                                                                                                             \
        n_check++;                                                                                                                                   \
        if (!(cond)) {                                                                                                                               \
            if (++n_fail < 40) {                                                                                                                     \
                printf("FAIL %s: ", isa);                                                                                                            \
                printf(__VA_ARGS__);                                                                                                                 \
                printf("\n");                                                                                                                        \
            }                                                                                                                                        \
        }                                                                                                                                            \
    } while (0)

static rm_rng rng;
static void fill(float *p, size_t n, float scale) {
    for (size_t i = 0; i < n; i++) p[i] = scale * (float)rm_rng_normal(&rng);
}

/* A buffer of n floats at an odd offset between guards. */
enum { GUARD = 32 };
typedef struct {
    float *base, *p;
    size_t n;
} guarded;
static guarded guard_new(size_t n, int offset) {
    guarded g = {malloc((n + 2 * GUARD) * sizeof(float)), NULL, n};
    if (!g.base) exit(2);
    for (size_t i = 0; i < n + 2 * GUARD; i++) g.base[i] = 12345.0f + (float)(i % 7);
    g.p = g.base + GUARD / 2 + offset;
    return g;
}
static void guard_end(guarded g, const char *what) {
    size_t at = (size_t)(g.p - g.base);
    bool ok = true;
    for (size_t i = 0; i < g.n + 2 * GUARD; i++)
        if ((i < at || i >= at + g.n) && g.base[i] != 12345.0f + (float)(i % 7)) ok = false;
    CHECK(ok, "%s writes outside its %zu elements", what, g.n);
    free(g.base);
}

/* ---- row functions ------------------------------------------------------------------------------------------------------------- */

typedef double (*scalar_fn)(double g, double u);
static double f_exp(double x, double u) { return (void)u, exp(x); }
static double f_sigmoid(double x, double u) { return (void)u, 1 / (1 + exp(-x)); }
static double f_silu(double x, double u) { return (void)u, x / (1 + exp(-x)); }
static double f_gelu(double x, double u) { return (void)u, 0.5 * x * (1 + erf(x * sqrt(0.5))); }
static double f_silu_mul(double x, double u) { return u * x / (1 + exp(-x)); }
static double f_gelu_tanh_mul(double x, double u) { return u * 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x))); }
static double f_sigmoid_mul(double x, double u) { return u / (1 + exp(-x)); }
static double f_add(double x, double u) { return x + u; }
static double f_mul(double x, double u) { return x * u; }

static void check_map(const char *name, void (*f1)(float *, const float *, size_t), void (*f2)(float *, const float *, const float *, size_t),
                      scalar_fn ref, double tolerance) {
    double floor_ = ref == f_gelu ? 0.2 : 1e-7; /* gelu cancels for negative arguments: absolute there */
    static const int sizes[] = {0, 1, 3, 15, 16, 17, 33, 100, 1000};
    for (size_t k = 0; k < RM_COUNT(sizes); k++) {
        size_t n = (size_t)sizes[k];
        guarded y = guard_new(n, (int)k % 5);
        float a[1000], b[1000];
        fill(a, n, k % 3 == 0 ? 20.0f : 2.0f);
        fill(b, n, 3.0f);
        if (f1)
            f1(y.p, a, n);
        else
            f2(y.p, a, b, n);
        for (size_t i = 0; i < n; i++) {
            double want = ref(a[i], b[i]), scale = fabs(want) + floor_ * (f1 ? 1 : fabs(b[i])) * (1 + fabs(a[i]));
            if (fabs(want) < 1e-30) continue;
            CHECK(fabs(y.p[i] - want) <= tolerance * scale, "%s(%g, %g) = %.9g, expected %.9g", name, a[i], b[i], y.p[i], want);
        }
        guard_end(y, name);
    }
}

/* Gradients of the gated activations against central differences in double, in place too. */
static void check_map_back(const char *name, void (*back)(float *, float *, const float *, const float *, const float *, size_t), scalar_fn ref) {
    enum { N = 333 };
    float g[N], u[N], t[N];
    fill(g, N, 3), fill(u, N, 1), fill(t, N, 1);
    guarded dg = guard_new(N, 1), du = guard_new(N, 3);
    back(dg.p, du.p, t, g, u, N);
    for (int i = 0; i < N; i++) {
        double h = 1e-5, slope = (ref((double)g[i] + h, u[i]) - ref((double)g[i] - h, u[i])) / (2 * h) * t[i], value = ref(g[i], 1) * t[i];
        CHECK(fabs(dg.p[i] - slope) < 3e-6 * (1 + fabs(slope)) && fabs(du.p[i] - value) < 3e-6 * (1 + fabs(value)), "%s at %g", name, g[i]);
    }
    back(g, u, t, g, u, N);
    CHECK(memcmp(g, dg.p, sizeof g) == 0 && memcmp(u, du.p, sizeof u) == 0, "%s in place", name);
    guard_end(dg, name);
    guard_end(du, name);
}

static void check_bf16(const rm_kern *k) {
    static const uint32_t bits[] = {0x3F800000, 0x3F808000, 0x3F818000, 0x3F817FFF, 0x3F808001, 0x7F7FFFFF,
                                    0x7F800000, 0xFF800000, 0x7F800001, 0xFFFFFFFF, 0x80000000};
    static const uint16_t want[] = {0x3F80, 0x3F80, 0x3F82, 0x3F81, 0x3F81, 0x7F80, 0x7F80, 0xFF80, 0x7FC0, 0xFFFF, 0x8000};
    enum { N = RM_COUNT(bits) };
    for (size_t n = 0; n <= 40; n++) {
        float x[40];
        for (size_t i = 0; i < 40; i++) memcpy(x + i, &bits[i % N], 4);
        guarded y = guard_new((n + 1) / 2, 1);
        uint16_t *p = (uint16_t *)(void *)y.p, beyond = 0;
        if (n % 2) memcpy(&beyond, p + n, 2);
        k->to_bf16(p, x, n);
        for (size_t i = 0; i < n; i++) CHECK(p[i] == want[i % N], "to_bf16 of %08x: %04x, expected %04x", bits[i % N], p[i], want[i % N]);
        if (n % 2) CHECK(memcmp(&beyond, p + n, 2) == 0, "to_bf16 of %zu numbers wrote behind them", n);
        guard_end(y, "to_bf16");
    }
}

static void check_rows(const rm_kern *k) {
    check_bf16(k);
    check_map("exp", k->exp, NULL, f_exp, 3e-7);
    check_map("sigmoid", k->sigmoid, NULL, f_sigmoid, 4e-7);
    check_map("silu", k->silu, NULL, f_silu, 4e-7);
    check_map("gelu", k->gelu, NULL, f_gelu, 1e-6);
    check_map("add", NULL, k->add, f_add, 1e-7);
    check_map("mul", NULL, k->mul, f_mul, 1e-7);
    check_map("silu_mul", NULL, k->silu_mul, f_silu_mul, 5e-7);
    check_map("gelu_tanh_mul", NULL, k->gelu_tanh_mul, f_gelu_tanh_mul, 3e-6);
    check_map("sigmoid_mul", NULL, k->sigmoid_mul, f_sigmoid_mul, 5e-7);
    check_map_back("silu_mul_back", k->silu_mul_back, f_silu_mul);
    check_map_back("gelu_tanh_mul_back", k->gelu_tanh_mul_back, f_gelu_tanh_mul);
    float special[5] = {NAN, 1000.0f, -1000.0f, INFINITY, -INFINITY}, out[5];
    k->exp(out, special, 5);
    CHECK(isnan(out[0]) && isinf(out[1]) && out[2] == 0 && isinf(out[3]) && out[4] == 0, "exp of special values: %g %g %g %g %g", out[0], out[1],
          out[2], out[3], out[4]);
    static const size_t sizes[] = {1, 2, 15, 16, 17, 60, 896, 1000};
    for (size_t j = 0; j < RM_COUNT(sizes); j++) {
        size_t n = sizes[j];
        float *x = malloc(n * 4), *w = malloc(n * 4), *b = malloc(n * 4);
        fill(x, n, 2.0f);
        fill(w, n, 1.0f);
        fill(b, n, 1.0f);
        for (size_t i = 0; i < n; i++) x[i] += 5.0f;
        double ss = 0, mean = 0, var = 0, dot = 0, top = -1e30, sum = 0;
        for (size_t i = 0; i < n; i++) ss += (double)x[i] * x[i], mean += x[i] / (double)n, dot += (double)x[i] * w[i], top = fmax(top, x[i]);
        for (size_t i = 0; i < n; i++) var += (x[i] - mean) * (x[i] - mean) / (double)n, sum += exp(x[i] - top);
        CHECK(fabs(k->dot(x, w, n) - dot) < 1e-6 * sqrt(ss * (double)n), "dot of %zu: %g, expected %g", n, k->dot(x, w, n), dot);
        guarded y = guard_new(n, (int)j % 3);
        k->rms_norm(y.p, x, w, n, 1e-6f);
        for (size_t i = 0; i < n; i++) {
            double want = x[i] / sqrt(ss / (double)n + 1e-6) * w[i];
            CHECK(fabs(y.p[i] - want) < 1e-6 * (1 + fabs(want)), "rms_norm %zu/%zu: %g, expected %g", i, n, y.p[i], want);
        }
        double back = 0, r = 1 / sqrt(ss / (double)n + 1e-6);
        for (size_t i = 0; i < n; i++) y.p[i] = 1, back += (double)x[i] * b[i] * w[i] / (double)n;
        k->rms_norm_back(y.p, b, x, w, n, 1e-6f);
        for (size_t i = 0; i < n; i++) {
            double want = 1 + r * b[i] * w[i] - r * r * r * back * x[i];
            CHECK(fabs(y.p[i] - want) < 1e-6 * (1 + fabs(want)), "rms_norm_back %zu/%zu: %g, expected %g", i, n, y.p[i], want);
        }
        k->layer_norm(y.p, x, w, b, n, 1e-5f);
        for (size_t i = 0; i < n; i++) {
            double want = (x[i] - mean) / sqrt(var + 1e-5) * w[i] + b[i];
            CHECK(fabs(y.p[i] - want) < 3e-6 * (1 + fabs(want)) || n == 1, "layer_norm %zu/%zu: %g, expected %g", i, n, y.p[i], want);
        }
        k->l2_norm(y.p, x, n, 1e-6f, 0.5f);
        for (size_t i = 0; i < n; i++) {
            double want = x[i] / sqrt(ss + 1e-6) * 0.5;
            CHECK(fabs(y.p[i] - want) < 1e-6, "l2_norm %zu/%zu: %g, expected %g", i, n, y.p[i], want);
        }
        k->softmax(y.p, x, n);
        for (size_t i = 0; i < n; i++) {
            double want = exp(x[i] - top) / sum;
            CHECK(fabs(y.p[i] - want) < 1e-6 * want + 1e-12, "softmax %zu/%zu: %g, expected %g", i, n, y.p[i], want);
        }
        memcpy(y.p, w, n * 4);
        k->axpy(y.p, 1.5f, x, n);
        for (size_t i = 0; i < n; i++) CHECK(fabs(y.p[i] - (w[i] + 1.5 * x[i])) < 1e-5, "axpy %zu/%zu", i, n);
        guard_end(y, "a norm");
        free(x);
        free(w);
        free(b);
    }
}

/* ---- rope, convolution, attention, delta rule -------------------------------------------------------------------------------------- */

static void check_rope(const rm_kern *k) {
    for (int half = 1; half <= 40; half += 3) {
        float x[80], y[80], cs[80];
        fill(x, 80, 1);
        for (int j = 0; j < half; j++) cs[j] = (float)cos(j * 0.3), cs[half + j] = (float)sin(j * 0.3);
        for (int adjacent = 0; adjacent < 2; adjacent++) {
            memcpy(y, x, sizeof y);
            k->rope(y, cs, half, adjacent);
            for (int j = 0; j < half; j++) {
                int a = adjacent ? 2 * j : j, b = adjacent ? 2 * j + 1 : j + half;
                double ya = (double)x[a] * cs[j] - (double)x[b] * cs[half + j], yb = (double)x[b] * cs[j] + (double)x[a] * cs[half + j];
                CHECK(fabs(y[a] - ya) < 1e-6 && fabs(y[b] - yb) < 1e-6, "rope half %d adjacent %d pair %d", half, adjacent, j);
            }
            for (int j = 2 * half; j < 80; j++) CHECK(y[j] == x[j], "rope writes past its pairs");
        }
    }
    for (size_t n = 1; n < 40; n += 6) {
        float rows[4][40], w[160];
        fill(&rows[0][0], 160, 1);
        fill(w, 160, 1);
        const float *x[4] = {rows[0], rows[1], rows[2], rows[3]};
        guarded y = guard_new(n, 1);
        k->conv4_silu(y.p, x, w, n);
        for (size_t c = 0; c < n; c++) {
            double s = 0;
            for (int i = 0; i < 4; i++) s += (double)w[c * 4 + (size_t)i] * x[i][c];
            CHECK(fabs(y.p[c] - f_silu(s, 0)) < 2e-6, "conv4_silu %zu/%zu", c, n);
        }
        guard_end(y, "conv4_silu");
    }
}

enum { N_KEY = 150, MAX_D = 256 };

static void check_attention(const rm_kern *k, int d, int n_q, bool half, int window, bool prompt) {
    int n_block = (N_KEY + RM_KV_BLOCK - 1) / RM_KV_BLOCK;
    size_t each = (size_t)d * RM_KV_BLOCK;
    float *kt = calloc(each * (size_t)n_block, 4), *v = calloc(each * (size_t)n_block, 4), *q = malloc((size_t)(n_q * d) * 4);
    uint16_t *kh = calloc(each * (size_t)n_block, 2), *vh = calloc(each * (size_t)n_block, 2);
    fill(q, (size_t)(n_q * d), 1);
    fill(kt, each * (size_t)n_block, 1);
    fill(v, each * (size_t)n_block, 1);
    if (half) {
        k->to_half(kh, kt, each * (size_t)n_block);
        k->to_half(vh, v, each * (size_t)n_block);
        k->widen(kt, kh, RM_W_F16, each * (size_t)n_block);
        k->widen(v, vh, RM_W_F16, each * (size_t)n_block);
    }
    /* factors are good to 2^-16 on tiles; scores are sums of d products */
    const double good = prompt && half && strcmp(isa, "amx") == 0 ? 2e-4 : d > 128 ? 4e-5 : 2e-5;
    float *o = calloc((size_t)(n_q * d), 4), *one = calloc((size_t)(n_q * d), 4), m[16], l[16], m1[16], l1[16];
    guarded scratch = guard_new(RM_KV_BLOCK * (size_t)(2 * d + n_q), 1);
    for (int i = 0; i < n_q; i++) m[i] = m1[i] = -INFINITY, l[i] = l1[i] = 0;
    for (int b = 0; b < n_block; b++) {
        int from[16], to[16];
        for (int i = 0; i < n_q; i++) { /* query i sits at position N_KEY - n_q + i */
            int pos = N_KEY - n_q + i, first = window ? pos - window + 1 : 0;
            from[i] = first - b * RM_KV_BLOCK < 0 ? 0 : first - b * RM_KV_BLOCK;
            to[i] = pos + 1 - b * RM_KV_BLOCK > RM_KV_BLOCK ? RM_KV_BLOCK : pos + 1 - b * RM_KV_BLOCK;
        }
        rm_attn a = {.d = d,
                     .n_q = n_q,
                     .scale = 0.3f,
                     .half = half,
                     .q = q,
                     .ldq = (size_t)d,
                     .from = from,
                     .to = to,
                     .o = o,
                     .ldo = (size_t)d,
                     .m = m,
                     .l = l,
                     .scratch = scratch.p,
                     .prompt = prompt};
        a.k = half ? (const void *)(kh + each * (size_t)b) : kt + each * (size_t)b;
        a.next = a.k;
        a.v = half ? (const void *)(vh + each * (size_t)b) : v + each * (size_t)b;
        k->attn_block(&a);
        for (int i = 0; i < n_q; i++) { /* the same one by one */
            rm_attn s = a;
            s.n_q = 1, s.q = q + (size_t)(i * d), s.from = from + i, s.to = to + i, s.o = one + (size_t)(i * d), s.m = m1 + i, s.l = l1 + i;
            k->attn_block(&s);
        }
    }
    guard_end(scratch, "attn_block's scratch");
    k->attn_finish(o, (size_t)d, l, n_q, d);
    k->attn_finish(one, (size_t)d, l1, n_q, d);
    CHECK(memcmp(o, one, (size_t)(n_q * d) * 4) == 0, "attention d %d: %d queries together differ from one by one", d, n_q);
    for (int i = 0; i < n_q; i++) {
        double p[N_KEY], top = -1e30, sum = 0;
        int pos = N_KEY - n_q + i, first = window && pos - window + 1 > 0 ? pos - window + 1 : 0;
        for (int j = first; j <= pos; j++) {
            p[j] = 0;
            for (int c = 0; c < d; c++) p[j] += 0.3 * q[i * d + c] * kt[each * (size_t)(j / 64) + (size_t)(c * 64 + j % 64)];
            top = fmax(top, p[j]);
        }
        for (int j = first; j <= pos; j++) sum += p[j] = exp(p[j] - top);
        for (int c = 0; c < d; c++) {
            double want = 0;
            for (int j = first; j <= pos; j++) want += p[j] / sum * v[each * (size_t)(j / 64) + (size_t)((j % 64) * d + c)];
            CHECK(fabs(o[i * d + c] - want) < good, "attention d %d query %d element %d: %g, expected %g", d, i, c, o[i * d + c], want);
        }
    }
    free(kt), free(v), free(q), free(kh), free(vh), free(o), free(one);
}

/* Slots that no query sees hold NaN, gradients of slots below `first` must stay as they were; queries together as one by one. */
static void check_attention_back(const rm_kern *k, int d, int n_q, bool half, int from, int to, int first) {
    size_t n = (size_t)d * RM_KV_BLOCK, nq = (size_t)n_q * (size_t)d;
    float *key = malloc(n * 4), *v = malloc(n * 4), *q = malloc(nq * 4), *g = malloc(nq * 4), lse[9], dot[9];
    uint16_t *kh = malloc(n * 2), *vh = malloc(n * 2);
    float *dq1 = malloc(nq * 4), *dk1 = malloc(n * 4), *dv1 = malloc(n * 4), *scratch = malloc((3 * n + 2 * RM_KV_BLOCK * (size_t)n_q) * 4);
    int lo[9], hi[9];
    fill(key, n, 1), fill(v, n, 1), fill(q, nq, 0.2f), fill(g, nq, 1);
    for (int i = 0; i < n_q; i++) lo[i] = from + i % 3, hi[i] = to - i < from ? from : to - i, lse[i] = 1.5f + 0.1f * (float)i, dot[i] = 0.3f;
    for (int j = 0; j < RM_KV_BLOCK; j++)
        for (int c = 0; c < d; c++)
            if (j < from || j >= to) key[c * RM_KV_BLOCK + j] = v[j * d + c] = NAN;
    for (size_t i = 0; i < n && half; i++) key[i] = rm_f16_to_f32(kh[i] = rm_f32_to_f16(key[i])), v[i] = rm_f16_to_f32(vh[i] = rm_f32_to_f16(v[i]));
    guarded dq = guard_new(nq, 1), dk = guard_new(n, 3), dv = guard_new(n, 2);
    for (size_t i = 0; i < nq; i++) dq.p[i] = dq1[i] = 0.5f;
    for (size_t i = 0; i < n; i++) dk.p[i] = dk1[i] = 0.25f, dv.p[i] = dv1[i] = -0.25f;
    double *wq = calloc(nq, sizeof *wq), *wk = calloc(n, sizeof *wk), *wv = calloc(n, sizeof *wv), scale = 0.2;
    for (int i = 0; i < n_q; i++)
        for (int j = lo[i]; j < hi[i]; j++) {
            double s = 0, gv = 0;
            for (int c = 0; c < d; c++) {
                s += (double)q[i * d + c] * key[c * RM_KV_BLOCK + j];
                gv += (double)g[i * d + c] * v[j * d + c];
            }
            double p = exp(s * scale - (double)lse[i]), ds = p * (gv - (double)dot[i]) * scale;
            for (int c = 0; c < d; c++) {
                wq[i * d + c] += ds * key[c * RM_KV_BLOCK + j];
                if (j >= first) wk[j * d + c] += ds * q[i * d + c], wv[j * d + c] += p * g[i * d + c];
            }
        }
    rm_attn_back a = {
        d,    n_q,  first, half,      (float)scale, half ? (void *)kh : (void *)key, half ? (void *)vh : (void *)v, lo, hi, q, g, lse, dot,
        dq.p, dk.p, dv.p,  (size_t)d, scratch};
    k->attn_back(&a);
    for (size_t i = 0; i < nq; i++)
        CHECK(fabs(dq.p[i] - 0.5 - wq[i]) < (half && strcmp(isa, "amx") == 0 ? 3e-4 : 1e-4) * (1 + fabs(wq[i])),
              "attn_back d %d, %d queries [%d, %d): dq[%zu] %g, expected %g", d, n_q, from, to, i, dq.p[i], 0.5 + wq[i]);
    for (size_t i = 0; i < n; i++)
        CHECK(fabs(dk.p[i] - 0.25 - wk[i]) < 1e-4 * (1 + fabs(wk[i])) && fabs(dv.p[i] + 0.25 - wv[i]) < 1e-4 * (1 + fabs(wv[i])),
              "attn_back d %d, %d queries: slot %zu element %zu", d, n_q, i / (size_t)d, i % (size_t)d);
    for (int i = 0; i < n_q; i++) {
        rm_attn_back one = a;
        one.n_q = 1, one.from = lo + i, one.to = hi + i, one.lse = lse + i, one.dot = dot + i;
        one.q = q + i * d, one.g = g + i * d, one.dq = dq1 + i * d, one.dk = dk1, one.dv = dv1;
        k->attn_back(&one);
    }
    CHECK(memcmp(dq.p, dq1, nq * 4) == 0 && memcmp(dk.p, dk1, n * 4) == 0 && memcmp(dv.p, dv1, n * 4) == 0,
          "attn_back d %d: %d queries together differ from one by one", d, n_q);
    guard_end(dq, "attn_back");
    guard_end(dk, "attn_back");
    guard_end(dv, "attn_back");
    free(key), free(v), free(q), free(g), free(kh), free(vh), free(dq1), free(dk1), free(dv1), free(scratch), free(wq), free(wk), free(wv);
}

static void check_delta(const rm_kern *k, int dk, int dv) {
    enum { T = 7 };
    float *q = malloc((size_t)(T * dk) * 4), *key = malloc((size_t)(T * dk) * 4), *v = malloc((size_t)(T * dv) * 4), decay[T], beta[T];
    fill(q, (size_t)(T * dk), 0.3f);
    fill(key, (size_t)(T * dk), 0.3f);
    fill(v, (size_t)(T * dv), 1);
    for (int t = 0; t < T; t++) decay[t] = 0.9f - 0.05f * (float)t, beta[t] = 0.3f + 0.05f * (float)t;
    guarded s = guard_new((size_t)(dk * dv), 0), o = guard_new((size_t)(T * dv), 3);
    float *s1 = calloc((size_t)(dk * dv), 4), *o1 = malloc((size_t)(T * dv) * 4), *rest = malloc((size_t)(T * dv) * 4);
    double *S = calloc((size_t)(dk * dv), sizeof *S);
    memset(s.p, 0, s.n * 4);
    rm_delta a = {dk, dv, T, s.p, q, key, v, (size_t)dk, (size_t)dk, (size_t)dv, decay, beta, 1, o.p, (size_t)dv, rest};
    k->delta_rule(&a);
    for (int t = 0; t < T; t++) {
        rm_delta b = {dk, dv, 1, s1, q + t * dk, key + t * dk, v + t * dv, 1, 1, 1, decay + t, beta + t, 1, o1 + t * dv, 1, NULL};
        k->delta_rule(&b);
        for (int c = 0; c < dv; c++) {
            double u = 0, out = 0;
            for (int i = 0; i < dk; i++) u += (S[i * dv + c] *= decay[t]) * key[t * dk + i];
            CHECK(fabs(rest[t * dv + c] - (v[t * dv + c] - u)) < 2e-5, "delta_rule %d x %d token %d: rest", dk, dv, t);
            u = beta[t] * (v[t * dv + c] - u);
            for (int i = 0; i < dk; i++) out += (S[i * dv + c] += key[t * dk + i] * u) * q[t * dk + i];
            CHECK(fabs(o.p[t * dv + c] - out) < 2e-5, "delta_rule %d x %d token %d column %d: %g, expected %g", dk, dv, t, c, o.p[t * dv + c], out);
        }
    }
    CHECK(memcmp(s.p, s1, s.n * 4) == 0 && memcmp(o.p, o1, o.n * 4) == 0, "delta_rule %d x %d: tokens together differ from one by one", dk, dv);
    guard_end(s, "delta_rule");
    guard_end(o, "delta_rule");
    free(q), free(key), free(v), free(s1), free(o1), free(rest), free(S);
}

/* Element (i, c) of a state that lies in slices. */
static size_t delta_at(int dk, int dv, int i, int c) {
    int first = c / RM_DELTA_SLICE * RM_DELTA_SLICE, width = dv - first < RM_DELTA_SLICE ? dv - first : RM_DELTA_SLICE;
    return (size_t)(first * dk + i * width + c - first);
}

/* n tokens after a state, gradients of those from `from` on, by the recurrence in double precision; then the same tokens in two parts. */
static void check_delta_back(const rm_kern *k, int dk, int dv, int n, int from) {
    const int m = n - from;
    const size_t nk = (size_t)(n * dk), nv = (size_t)(n * dv), size = (size_t)(dk * dv), mk = (size_t)(m * dk), mv = (size_t)(m * dv);
    float *q = malloc(nk * 4), *key = malloc(nk * 4), *v = malloc(nv * 4), *s0 = malloc(size * 4), *o = malloc(nv * 4), *rest = malloc(nv * 4),
          *d_o = malloc(mv * 4);
    float *g0 = malloc(size * 4), *s1 = malloc(size * 4), decay[RM_KV_BLOCK], beta[RM_KV_BLOCK];
    fill(q, nk, 0.3f), fill(key, nk, 0.3f), fill(v, nv, 1), fill(s0, size, 0.5f), fill(d_o, mv, 1), fill(g0, size, 0.5f);
    for (int t = 0; t < n; t++) decay[t] = t % 9 == 8 ? 0 : 1 - 0.04f * (float)(t % 7), beta[t] = 0.1f + 0.1f * (float)(t % 8);
    memcpy(s1, s0, size * 4);
    rm_delta fwd = {dk, dv, n, s1, q, key, v, (size_t)dk, (size_t)dk, (size_t)dv, decay, beta, 1, o, (size_t)dv, rest};
    k->delta_rule(&fwd);

    double *S = malloc((size_t)(n + 1) * size * sizeof *S), *G = malloc(size * sizeof *G), *P = malloc(nv * sizeof *P);
    double *wq = calloc(mk, sizeof *wq), *wk = calloc(mk, sizeof *wk), *wv = calloc(mv, sizeof *wv), *wb = calloc((size_t)m, sizeof *wb);
    for (size_t i = 0; i < size; i++) {
        int row = (int)i / dv, c = (int)i % dv;
        S[i] = s0[delta_at(dk, dv, row, c)], G[i] = g0[delta_at(dk, dv, row, c)];
    }
    for (int t = 0; t < n; t++) {
        const double *b = S + (size_t)t * size;
        double *a = S + (size_t)(t + 1) * size;
        for (int c = 0; c < dv; c++) {
            double p = 0;
            for (int i = 0; i < dk; i++) p += decay[t] * b[i * dv + c] * key[t * dk + i];
            P[t * dv + c] = v[t * dv + c] - p;
            for (int i = 0; i < dk; i++) a[i * dv + c] = decay[t] * b[i * dv + c] + key[t * dk + i] * beta[t] * P[t * dv + c];
        }
    }
    for (int t = n - 1; t >= from; t--) {
        const double *b = S + (size_t)t * size, *a = S + (size_t)(t + 1) * size;
        const int r = t - from;
        for (int c = 0; c < dv; c++) {
            double dd = 0, u = beta[t] * P[t * dv + c], out = d_o[r * dv + c];
            for (int i = 0; i < dk; i++) {
                G[i * dv + c] += q[t * dk + i] * out;
                dd += G[i * dv + c] * key[t * dk + i];
                wq[r * dk + i] += a[i * dv + c] * out;
                wk[r * dk + i] += G[i * dv + c] * u;
            }
            wv[r * dv + c] = beta[t] * dd;
            wb[r] += dd * P[t * dv + c];
            for (int i = 0; i < dk; i++) {
                wk[r * dk + i] -= decay[t] * b[i * dv + c] * beta[t] * dd;
                G[i * dv + c] = decay[t] * (G[i * dv + c] - key[t * dk + i] * beta[t] * dd);
            }
        }
    }

    guarded dq = guard_new(mk, 1), dkey = guard_new(mk, 2), d_v = guard_new(mv, 3), db = guard_new((size_t)m, 0), g = guard_new(size, 0);
    guarded scratch = guard_new(rm_delta_back_floats((size_t)dk, (size_t)dv), 0);
    memcpy(g.p, g0, size * 4);
    rm_delta_rule_back a = {dk,   dv,         n,   from, s0,   q,      key,        decay, beta,       (size_t)dk, 1,
                            rest, (size_t)dv, d_o, g.p,  dq.p, dkey.p, (size_t)dk, d_v.p, (size_t)dv, db.p,       scratch.p};
    k->delta_rule_back(&a);
    const double tol = 2e-5 * sqrt((double)(dk * n));
    for (size_t i = 0; i < mk; i++)
        CHECK(fabs(dq.p[i] - wq[i]) < tol * (1 + fabs(wq[i])) && fabs(dkey.p[i] - wk[i]) < tol * (1 + fabs(wk[i])),
              "delta_rule_back %d x %d, tokens [%d, %d): row %zu: %g and %g, expected %g and %g", dk, dv, from, n, i / (size_t)dk, dq.p[i], dkey.p[i],
              wq[i], wk[i]);
    for (size_t i = 0; i < mv; i++)
        CHECK(fabs(d_v.p[i] - wv[i]) < tol * (1 + fabs(wv[i])), "delta_rule_back %d x %d, tokens [%d, %d): d_v %g, expected %g", dk, dv, from, n,
              d_v.p[i], wv[i]);
    for (int i = 0; i < m; i++)
        CHECK(fabs(db.p[i] - wb[i]) < tol * (1 + fabs(wb[i])), "delta_rule_back %d x %d: d_beta %g, expected %g", dk, dv, db.p[i], wb[i]);
    for (int i = 0; i < (int)size; i++) {
        double x = G[i], y = g.p[delta_at(dk, dv, i / dv, i % dv)];
        CHECK(fabs(y - x) < tol * (1 + fabs(x)), "delta_rule_back %d x %d: d_state %g, expected %g", dk, dv, y, x);
    }
    if (m > 1) {
        float *dq1 = malloc(mk * 4), *dk1 = malloc(mk * 4), *dv1 = malloc(mv * 4), *db1 = malloc((size_t)m * 4), *g1 = malloc(size * 4);
        memcpy(g1, g0, size * 4);
        for (int end = n, begin = from + m / 2; end > from; end = begin, begin = from) {
            const int r = begin - from;
            rm_delta_rule_back b = a;
            b.n_tok = end, b.from = begin, b.d_state = g1;
            b.d_o = d_o + r * dv, b.d_q = dq1 + r * dk, b.d_k = dk1 + r * dk, b.d_v = dv1 + r * dv, b.d_beta = db1 + r;
            k->delta_rule_back(&b);
        }
        CHECK(memcmp(dq.p, dq1, mk * 4) == 0 && memcmp(dkey.p, dk1, mk * 4) == 0 && memcmp(d_v.p, dv1, mv * 4) == 0 &&
                  memcmp(db.p, db1, (size_t)m * 4) == 0 && memcmp(g.p, g1, size * 4) == 0,
              "delta_rule_back %d x %d, tokens [%d, %d): all together differ from two parts", dk, dv, from, n);
        free(dq1), free(dk1), free(dv1), free(db1), free(g1);
    }
    guard_end(dq, "delta_rule_back"), guard_end(dkey, "delta_rule_back"), guard_end(d_v, "delta_rule_back");
    guard_end(db, "delta_rule_back"), guard_end(g, "delta_rule_back"), guard_end(scratch, "delta_rule_back");
    free(q), free(key), free(v), free(s0), free(o), free(rest), free(d_o), free(g0), free(s1), free(S), free(G), free(P), free(wq), free(wk),
        free(wv), free(wb);
}

/* ---- products, through rm_matrix --------------------------------------------------------------------------------------------------- */

/* Random blocks of any type: bytes, but scales that are moderate f16 numbers. */
static void random_blocks(rm_dtype t, uint8_t *p, size_t n_row, size_t n_in) {
    const rm_dtype_info *f = rm_dtype_get(t);
    size_t n = n_row * n_in / (size_t)f->block_elems;
    for (size_t i = 0; i < n * (size_t)f->block_bytes; i++) p[i] = (uint8_t)rm_rng_u64(&rng);
    for (size_t b = 0; b < n; b++, p += f->block_bytes) {
        uint16_t d = rm_f32_to_f16(0.01f * (1 + (float)rm_rng_double(&rng))), m = rm_f32_to_f16(-0.05f * (float)rm_rng_double(&rng));
        uint16_t pos = rm_f32_to_f16(0.01f * (float)rm_rng_double(&rng));
        if (t == RM_F32) {
            float v = (float)rm_rng_normal(&rng);
            memcpy(p, &v, 4);
        } else if (t == RM_F16 || t == RM_BF16) {
            float v = (float)rm_rng_normal(&rng);
            uint16_t h = t == RM_F16 ? rm_f32_to_f16(v) : rm_f32_to_bf16(v);
            memcpy(p, &h, 2);
        } else if (t == RM_Q2_K) {
            memcpy(p + 80, &d, 2), memcpy(p + 82, &pos, 2);
        } else if (t == RM_Q3_K) {
            memcpy(p + 108, &d, 2);
        } else if (t == RM_Q6_K) {
            memcpy(p + 208, &d, 2);
        } else {
            memcpy(p, &d, 2);
            if (t == RM_Q4_1 || t == RM_Q5_1) memcpy(p + 2, &m, 2);
            if (t == RM_Q4_K || t == RM_Q5_K) memcpy(p + 2, &pos, 2);
        }
    }
}

static const rm_dtype TYPES[] = {RM_F32,    RM_F16,  RM_BF16, RM_Q4_0, RM_Q4_1, RM_Q5_0, RM_Q5_1,  RM_Q8_0,
                                 RM_IQ4_NL, RM_Q2_K, RM_Q3_K, RM_Q4_K, RM_Q5_K, RM_Q6_K, RM_IQ4_XS};
static const int ROWS[] = {1, 2, 3, 4, 5, 6, 7, 16, 37};

/* The gradient with respect to the input, rows together and one by one, then added to what is there. W: the weights in float32. */
static void check_gradient(rm_exec *e, const rm_matrix *w, const float *W, int n_out, int n_in, rm_dtype type, rm_precision precision, bool prompt) {
    enum { G = 41 };
    const rm_kern *k = e->kern;
    const char *name = rm_dtype_get(type)->name;
    const size_t ldx = (size_t)n_in + 3, ldy = (size_t)n_out + 5;
    const bool native = precision == RM_NATIVE && type != RM_F32 && type != RM_F16, turned = native && prompt && k->q_turn && type != RM_BF16;
    rmas_error err;
    float *dy = malloc(G * ldy * sizeof *dy);
    fill(dy, G * ldy, 1);
    guarded dx = guard_new((G - 1) * ldx + (size_t)n_in, 1), d1 = guard_new((size_t)n_in, 1);
    e->prompt = prompt;
    rm_matrix_mul_t(e, dx.p, ldx, dy, ldy, G, w, false, &err);
    for (int i = 0; i < G; i++) {
        const float *di = dx.p + (size_t)i * ldx, *dyi = dy + (size_t)i * ldy;
        rm_matrix_mul_t(e, d1.p, ldx, dyi, ldy, 1, w, false, &err);
        CHECK(memcmp(d1.p, di, (size_t)n_in * 4) == 0, "%s: mul_t of one row differs", name);
        if (i == 0) {
            rm_matrix_mul_t(e, d1.p, ldx, dyi, ldy, 1, w, true, &err);
            for (int c = 0; c < n_in; c++)
                CHECK(fabsf(d1.p[c] - 2 * di[c]) <= 1e-4f * (1 + fabsf(di[c])), "%s: mul_t adds %g to %g", name, d1.p[c] - di[c], di[c]);
        }
        for (int c = 0; c < n_in && i < 2; c++) {
            double want = 0, scale = 0, top = 0, top_w = 0, norm = 0, norm_w = 0;
            for (int o = 0; o < n_out; o++) {
                double a = dyi[o], b = W[(size_t)o * (size_t)n_in + (size_t)c];
                want += a * b;
                scale += a * b * a * b;
                top = fmax(top, fabs(a)), top_w = fmax(top_w, fabs(b));
                norm += a * a, norm_w += b * b;
            }
            double limit = (native && k->mul_pairs ? 3.5 / 256 : 3e-6) * sqrt(scale); /* bf16, two roundings: 0.6 / 256 is usual */
            if (turned) { /* steps of both factors, six times the deviation of the sum of their errors */
                const double steps = (1 << rm_forms[k->turned].shift) - 1;
                limit = 6 / steps / sqrt(12) * sqrt(top * top * norm_w + top_w * top_w * norm);
            }
            CHECK(fabs(di[c] - want) < limit + 1e-5, "%s %d x %d mul_t row %d column %d: %g, expected %g, scale %g", name, n_out, n_in, i, c, di[c],
                  want, sqrt(scale));
        }
    }
    e->prompt = false;
    guard_end(dx, "mul_t");
    guard_end(d1, "mul_t");
    free(dy);
}

/* The gradient of a few outputs of a matrix of two parts, also of none of a part. */
static void check_some(rm_exec *e, rm_dtype type, int n_in, rm_precision precision) {
    enum { FIRST = 70, N_OUT = FIRST + 129, G = 5 };
    const size_t row_bytes = rm_dtype_row_bytes(type, (size_t)n_in), d = (size_t)n_in;
    uint8_t *data = malloc(row_bytes * N_OUT);
    float *W = malloc(d * N_OUT * sizeof *W);
    random_blocks(type, data, N_OUT, d);
    for (size_t o = 0; o < N_OUT; o++) rm_dequant(type, data + row_bytes * o, W + o * d, d);
    const rm_tensor t[2] = {{.name = "a", .dtype = type, .n_dim = 2, .dim = {FIRST, n_in}, .data = data, .n_bytes = row_bytes * FIRST},
                            {.name = "b",
                             .dtype = type,
                             .n_dim = 2,
                             .dim = {N_OUT - FIRST, n_in},
                             .data = data + row_bytes * FIRST,
                             .n_bytes = row_bytes * (N_OUT - FIRST)}};
    rm_matrix *w;
    rmas_error err;
    if (rm_matrix_new(&w, e, (const rm_tensor *[]){&t[0], &t[1]}, 2, precision, &err) != RMAS_OK) exit(2);
    for (int turn = 0; turn < 5; turn++) { /* one in two, every one, one in sixteen, the second part's only, none */
        int out[N_OUT], n = 0;
        for (int o = 0; o < N_OUT; o++)
            if (turn == 1 || (turn == 0 && rm_rng_u64(&rng) % 2) || (turn == 2 && rm_rng_u64(&rng) % 16 == 0) ||
                (turn == 3 && o % 3 == 0 && o >= FIRST))
                out[n++] = o;
        float *dy = malloc(G * N_OUT * sizeof *dy);
        fill(dy, G * N_OUT, 1);
        guarded dx = guard_new((G - 1) * (d + 3) + d, turn % 2);
        CHECK(rm_matrix_mul_t_some(e, dx.p, d + 3, dy, N_OUT, G, w, out, n, &err) == RMAS_OK, "mul_t_some: %s", err.msg);
        for (size_t i = 0; i < G; i++)
            for (size_t c = 0; c < d; c++) {
                double want = 0, scale = 0;
                for (int k = 0; k < n; k++) {
                    const double term = (double)dy[i * N_OUT + (size_t)k] * (double)W[(size_t)out[k] * d + c];
                    want += term;
                    scale += term * term;
                }
                const double got = dx.p[i * (d + 3) + c];
                CHECK(fabs(got - want) <= 3e-6 * sqrt(scale), "%s mul_t_some, turn %d, row %zu, column %zu: %g, expected %g, scale %g",
                      rm_dtype_get(type)->name, turn, i, c, got, want, sqrt(scale));
            }
        guard_end(dx, "mul_t_some");
        free(dy);
    }
    rm_matrix_free(w);
    free(data), free(W);
}

static void check_matrix(rm_exec *e, rm_dtype type, int n_out, int n_in, rm_precision precision) {
    enum { MAX_ROW = 37 };
    const rm_dtype_info *info = rm_dtype_get(type);
    size_t bytes = rm_dtype_row_bytes(type, (size_t)n_in) * (size_t)n_out;
    uint8_t *mem = malloc(bytes + 64), *data = mem + 2; /* misaligned */
    float *W = malloc((size_t)n_out * (size_t)n_in * 4), *row = malloc((size_t)n_in * 4);
    random_blocks(type, data, (size_t)n_out, (size_t)n_in);
    for (int o = 0; o < n_out; o++)
        rm_dequant(type, data + rm_dtype_row_bytes(type, (size_t)n_in) * (size_t)o, W + (size_t)o * (size_t)n_in, (size_t)n_in);
    rm_tensor t = {.name = "test", .dtype = type, .n_dim = 2, .dim = {n_out, n_in}, .data = data, .n_bytes = bytes};
    const rm_tensor *parts[1] = {&t};
    rm_matrix *w;
    rmas_error err;
    if (rm_matrix_new(&w, e, parts, 1, precision, &err) != RMAS_OK) {
        CHECK(false, "%s %d x %d: %s", info->name, n_out, n_in, err.msg);
        free(mem), free(W), free(row);
        return;
    }
    for (int o = 0; o < n_out; o += 1 + n_out / 7) {
        rm_matrix_row(w, o, row);
        CHECK(memcmp(row, W + (size_t)o * (size_t)n_in, (size_t)n_in * 4) == 0, "%s %d x %d: row %d is not what rm_dequant gives", info->name, n_out,
              n_in, o);
    }
    size_t ldx = (size_t)n_in + 3, ldy = (size_t)n_out + 5;
    float *x = malloc(MAX_ROW * ldx * 4), *bias = malloc((size_t)n_out * 4);
    float *first = malloc(MAX_ROW * ldy * 4);
    fill(x, MAX_ROW * ldx, 1);
    fill(bias, (size_t)n_out, 1);
    for (size_t j = 0; j < 2 * RM_COUNT(ROWS); j++) {
        size_t k = j % RM_COUNT(ROWS);
        int n_row = ROWS[RM_COUNT(ROWS) - 1 - k];
        e->prompt = j >= RM_COUNT(ROWS);
        guarded y = guard_new((size_t)(n_row - 1) * ldy + (size_t)n_out, (int)k % 3);
        rmas_status s = rm_matrix_mul(e, y.p, ldy, x, ldx, n_row, w, bias, &err);
        CHECK(s == RMAS_OK, "%s: product fails", info->name);
        for (int i = 0; i < n_row; i++) {
            const float *yi = y.p + (size_t)i * ldy, *fi = first + (size_t)i * ldy;
            if (k == 0) {
                memcpy(first + (size_t)i * ldy, yi, (size_t)n_out * 4);
                for (int o = 0; o < n_out; o++) {
                    double want = bias[o], scale = 1e-3, top = 0, norm = 0;
                    for (int c = 0; c < n_in; c++) {
                        double term = (double)x[(size_t)i * ldx + (size_t)c] * W[(size_t)o * (size_t)n_in + (size_t)c];
                        want += term;
                        scale += term * term;
                        top = fmax(top, fabs(x[(size_t)i * ldx + (size_t)c]));
                        norm += (double)W[(size_t)o * (size_t)n_in + (size_t)c] * W[(size_t)o * (size_t)n_in + (size_t)c];
                    }
                    scale = sqrt(scale);
                    bool rough = precision == RM_NATIVE && type != RM_F32 && type != RM_F16 && (type != RM_BF16 || e->kern->mul_bf16);
                    /* activations in steps of top / 127: an error of step / sqrt(12) each, six times their sum's deviation is allowed */
                    double limit = rough ? fmax(0.03 * scale, 6 * top / 127 / sqrt(12) * sqrt(norm)) : 3e-6 * scale;
                    CHECK(fabs(yi[o] - want) < limit + 1e-5, "%s %d x %d row %d out %d: %g, expected %g (scale %g)", info->name, n_out, n_in, i, o,
                          yi[o], want, scale);
                }
            } else {
                CHECK(memcmp(yi, fi, (size_t)n_out * 4) == 0, "%s %d x %d: row %d of %d differs from the same row of 37", info->name, n_out, n_in, i,
                      n_row);
            }
        }
        if (n_row > 1) /* between the rows nothing may be written */
            for (size_t c = (size_t)n_out; c < ldy; c++) CHECK(y.p[c] > 12344.0f && y.p[c] < 12352.0f, "%s: writes between rows", info->name);
        guard_end(y, info->name);
    }
    enum { MANY = 300 }; /* more than one pass of any table; the rows of before, again and again */
    float *xs = malloc(MANY * ldx * 4);
    for (int i = 0; i < MANY; i++) memcpy(xs + (size_t)i * ldx, x + (size_t)(i % MAX_ROW) * ldx, ldx * 4);
    for (int prompt = 0; prompt < 2; prompt++) {
        guarded y = guard_new((MANY - 1) * ldy + (size_t)n_out, prompt);
        e->prompt = prompt;
        rm_matrix_mul(e, first, ldy, x, ldx, MAX_ROW, w, bias, &err);
        rm_matrix_mul(e, y.p, ldy, xs, ldx, MANY, w, bias, &err);
        for (int i = 0; i < MANY; i++)
            CHECK(memcmp(y.p + (size_t)i * ldy, first + (size_t)(i % MAX_ROW) * ldy, (size_t)n_out * 4) == 0,
                  "%s %d x %d: row %d of %d differs from the same row of 37", info->name, n_out, n_in, i, MANY);
        guard_end(y, info->name);
    }
    free(xs);
    e->prompt = false;
    for (int prompt = 0; prompt < 2; prompt++) check_gradient(e, w, W, n_out, n_in, type, precision, prompt);
    rm_matrix_free(w);
    free(mem), free(W), free(row), free(x), free(bias), free(first);
}

/* Activations in 8 bits, byte for byte as form.h says; with blocks of zeros, of tiny numbers, with a NaN, with an infinity. narrow: for
 * weights of 7 bits, whose sums have 16. */
static void check_quant_tile(const rm_kern *k, int n_row, int n_block, bool narrow) {
    const size_t n = (size_t)n_block * RM_QBLOCK, ldx = n + 3, bytes = (size_t)n_row * (size_t)n_block * RM_QX_ROW;
    const bool words =
        strncmp(k->name, "avx", 3) != 0 || strncmp(k->name, "avx512", 6) == 0; /* the 256-bit tables have other words behind the first two */
    float *x = malloc((size_t)n_row * ldx * sizeof *x);
    fill(x, (size_t)n_row * ldx, 1);
    for (int i = 0; i < n_row * n_block; i++) {
        float *p = x + (size_t)(i / n_block) * ldx + (size_t)(i % n_block) * RM_QBLOCK;
        if (i % 7 == 3) memset(p, 0, RM_QBLOCK * sizeof *p);
        if (i % 7 == 4)
            for (int j = 0; j < RM_QBLOCK; j++) p[j] *= 1e-39f;
        if (i % 11 == 5) p[i % RM_QBLOCK] = i % 2 ? NAN : -INFINITY;
        if (i % 5 == 2) p[(i * 3) % RM_QBLOCK] *= 1000;
    }
    guarded tile = guard_new(bytes / sizeof(float), 0);
    (narrow ? k->q_quant_turned : k->q_quant)((uint8_t *)(void *)tile.p, x, ldx, n_row, n);
    for (int b = 0; b < n_block; b++)
        for (int r = 0; r < n_row; r++) {
            const float *p = x + (size_t)r * ldx + (size_t)b * RM_QBLOCK;
            const uint8_t *t = (const uint8_t *)(void *)tile.p + (size_t)b * (size_t)n_row * RM_QX_ROW, *meta = t + n_row * RM_QBLOCK + r * 4;
            float top = 0, d, dsum, step, inv;
            bool finite = true;
            double met[2] = {0, 0}; /* magnitudes that meet in a sum of 16 bits */
            for (int j = 0; j < RM_QBLOCK; j++) {
                finite &= isfinite(p[j]) != 0, top = fabsf(p[j]) > top ? fabsf(p[j]) : top;
                met[j / 2 % 2] += fabs((double)p[j]);
            }
            memcpy(&d, meta, 4), memcpy(&dsum, meta + n_row * 4, 4);
            step = top / 127, inv = 127 / top;
            const double least = fmax(met[0], met[1]) / 512;
            if (narrow && finite && least > (double)step) {
                CHECK(fabs((double)d - least) <= 1e-6 * least || least < 1e-36, "q_quant: step %g of a row with sums of %g", d, least);
                step = d, inv = 1 / d; /* its last bits depend on the order of that sum */
            }
            if (!finite || top == 0) inv = 0;
            if (!isfinite(inv)) inv = step = 0;
            int sum[2] = {0, 0}, large[2] = {0, 0}, wrong = 0, neg[3];
            for (int j = 0; j < RM_QBLOCK; j++) {
                int q = finite ? (int)lrintf(p[j] * inv) : 0;
                wrong += (int8_t)t[r * RM_QBLOCK + j] != q;
                sum[j / 16] += q;
                large[j / 2 % 2] += abs(q);
            }
            for (int i = 0; i < 3; i++) memcpy(&neg[i], meta + (2 + i) * n_row * 4, 4);
            CHECK(wrong == 0, "q_quant: %d numbers of row %d, block %d of %d are wrong", wrong, r, b, n_block);
            CHECK(!narrow || (large[0] <= 520 && large[1] <= 520), "q_quant: sums of %d and %d can be more than 16 bits hold", large[0], large[1]);
            CHECK(finite ? d == step && dsum == d * (float)(sum[0] + sum[1]) : !isfinite(d), "q_quant: step %g or its sum %g", d, dsum);
            CHECK(!words || (neg[0] == -(sum[0] + sum[1]) && neg[1] == -sum[0] && neg[2] == -sum[1]), "q_quant: sums %d %d %d", neg[0], neg[1],
                  neg[2]);
        }
    guard_end(tile, "q_quant");
    free(x);
}
static void check_quant(const rm_kern *k) {
    static const int blocks[] = {1, 2, 15, 16, 17, 33, 48};
    for (size_t i = 0; i < RM_COUNT(blocks); i++)
        for (int n_row = 1; n_row <= RM_QROWS; n_row++) check_quant_tile(k, n_row, blocks[i], false);
    if (!k->q_turn) return;
    if (rm_forms[k->turned].shift < 7)
        for (int n_row = 1; n_row <= RM_QROWS; n_row++) check_quant_tile(k, n_row, 17, true);
    else
        CHECK(k->q_quant_turned == k->q_quant, "8 bits are one thing");
}

/* Turned blocks: quants and scales against the definition. */
static void check_turn(const rm_kern *k, rm_dtype type) {
    enum { BLOCKS = 8, GROUPS = 2, ROWS_OF = RM_GROUP * GROUPS, COLUMNS = RM_QBLOCK * BLOCKS };
    rm_form form;
    if (!rm_pack_form(type, &form)) return;
    const rm_form_info *f = &rm_forms[k->turned];
    const size_t row_bytes = rm_dtype_row_bytes(type, COLUMNS), group_bytes = rm_form_group_bytes(&rm_forms[form], BLOCKS);
    const size_t n_scale = rm_form_expanded_scales(f);
    uint8_t *rows = malloc(row_bytes * ROWS_OF), *packed = aligned_alloc(64, group_bytes * GROUPS);
    uint8_t *q = aligned_alloc(64, GROUPS * RM_EXPANDED_QUANTS);
    float *W = malloc(ROWS_OF * COLUMNS * sizeof *W), *s = aligned_alloc(64, GROUPS * n_scale * sizeof *s);
    random_blocks(type, rows, ROWS_OF, COLUMNS);
    memset(rows, 0, row_bytes * 3); /* zeros among others */
    for (size_t o = 0; o < ROWS_OF; o++) rm_dequant(type, rows + o * row_bytes, W + o * COLUMNS, COLUMNS);
    for (size_t g = 0; g < GROUPS; g++) rm_pack_group(form, packed + g * group_bytes, rows + g * RM_GROUP * row_bytes, row_bytes, RM_GROUP, BLOCKS);
    const int limit = (1 << f->shift) - 1, middle = 1 << f->shift;
    for (int b = 0; b < BLOCKS; b++) {
        k->q_turn(q, s, packed, group_bytes, GROUPS, form, b);
        for (int g = 0; g < GROUPS; g++)
            for (int c = 0; c < RM_QBLOCK; c++)
                for (int o = 0; o < RM_GROUP; o += f->sub) {
                    const float *column = W + (g * RM_GROUP + o) * COLUMNS + b * RM_QBLOCK + c,
                                step = s[(size_t)g * n_scale + (size_t)(o / f->sub * RM_GROUP + c)];
                    float top = 0, off = 0;
                    for (int i = 0; i < f->sub; i++) top = fmaxf(top, fabsf(column[i * COLUMNS]));
                    for (int i = 0, at = o; i < f->sub; i++, at++) {
                        const int v = q[g * RM_EXPANDED_QUANTS + at / 4 * 128 + c / 16 * 64 + c % 16 * 4 + at % 4] - middle;
                        off = fmaxf(off, fabsf((float)v * step - column[i * COLUMNS]));
                    }
                    CHECK(fabsf(step * (float)limit - top) <= 1e-5f * top, "%s: step %g of a column with %g", rm_dtype_get(type)->name, step, top);
                    CHECK(off <= 0.501f * step, "%s: %g steps off", rm_dtype_get(type)->name, off / step);
                }
    }
    free(rows), free(packed), free(q), free(W), free(s);
}

/* Sums of the largest numbers, all of one sign: nothing may wrap around. */
static void check_largest(rm_exec *e) {
    enum { N_OUT = 64, N_IN = 64, N_ROW = 7 };
    uint8_t data[N_OUT * N_IN / 32 * 34];
    float x[N_ROW * N_IN], y[N_ROW * N_OUT];
    for (int sign = -1; sign <= 1; sign += 2) {
        for (size_t b = 0; b < sizeof data; b += 34) {
            const uint16_t one = 0x3C00;
            memcpy(data + b, &one, 2);
            memset(data + b + 2, sign * 127, 32);
        }
        for (int i = 0; i < N_ROW * N_IN; i++) x[i] = 3;
        rm_tensor t = {.name = "test", .dtype = RM_Q8_0, .n_dim = 2, .dim = {N_OUT, N_IN}, .data = data, .n_bytes = sizeof data};
        const rm_tensor *parts[1] = {&t};
        rm_matrix *w;
        rmas_error err;
        if (rm_matrix_new(&w, e, parts, 1, RM_NATIVE, &err) != RMAS_OK) exit(2);
        const double want = sign * 127 * 3 * 64;
        e->prompt = true;
        rm_matrix_mul(e, y, N_OUT, x, N_IN, N_ROW, w, NULL, &err);
        for (int i = 0; i < N_ROW * N_OUT; i++) CHECK(fabs(y[i] - want) < 1e-3 * fabs(want), "largest numbers: %g, expected %g", y[i], want);
        rm_matrix_mul_t(e, y, N_IN, x, N_OUT, N_ROW, w, false, &err);
        for (int i = 0; i < N_ROW * N_IN; i++)
            CHECK(fabs(y[i] - want) < 1e-3 * fabs(want), "gradient of largest numbers: %g, expected %g", y[i], want);
        e->prompt = false;
        rm_matrix_free(w);
    }
}

static void check_products(const rm_kern *k) {
    check_quant(k);
    rm_exec *e;
    rmas_error err;
    if (rm_exec_new(&e, 2, k->name, &err) != RMAS_OK) {
        CHECK(false, "%s", err.msg);
        return;
    }
    check_largest(e);
    for (size_t i = 0; i < RM_COUNT(TYPES); i++) {
        if (k->q_turn) check_turn(k, TYPES[i]);
        int unit = rm_dtype_get(TYPES[i])->block_elems;
        for (int p = 0; p < 2; p++) {
            check_matrix(e, TYPES[i], 70, unit == 1 ? 45 : unit, (rm_precision)p);
            check_matrix(e, TYPES[i], 129, unit == 1 ? 160 : unit == 32 ? 1120 : 1280, (rm_precision)p);
            check_some(e, TYPES[i], unit == 1 ? 45 : unit == 32 ? 160 : 512, (rm_precision)p);
            if (TYPES[i] == RM_BF16 || TYPES[i] == RM_F32) check_matrix(e, TYPES[i], 13, 2085, (rm_precision)p);
        }
    }
    rm_exec_free(e);
}

/* ---- measuring ------------------------------------------------------------------------------------------------------------------------ */

static clockid_t the_clock = CLOCK_MONOTONIC;
static double now(void) {
    struct timespec t;
    clock_gettime(the_clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void bench_matrix(rm_exec *e, rm_dtype type, int n_out, int n_in, rm_precision precision) {
    enum { MAX_ROW = 256, COPIES = 8 };
    size_t bytes = rm_dtype_row_bytes(type, (size_t)n_in) * (size_t)n_out;
    uint8_t *data = aligned_alloc(64, (bytes + 63) / 64 * 64);
    random_blocks(type, data, (size_t)n_out, (size_t)n_in);
    rm_tensor t = {.name = "bench", .dtype = type, .n_dim = 2, .dim = {n_out, n_in}, .data = data, .n_bytes = bytes};
    const rm_tensor *parts[1] = {&t};
    rm_matrix *w[COPIES]; /* more than the caches hold, as in a model */
    rmas_error err;
    double t0 = now();
    for (int i = 0; i < COPIES; i++)
        if (rm_matrix_new(&w[i], e, parts, 1, precision, &err) != RMAS_OK) exit(2);
    double load = (now() - t0) / COPIES;
    float *x = malloc((size_t)MAX_ROW * (size_t)n_in * 4), *y = malloc((size_t)MAX_ROW * (size_t)n_out * 4);
    fill(x, (size_t)MAX_ROW * (size_t)n_in, 1);
    printf("%-8s %-6s %-6s %5d x %5d  load %6.1f ms", e->kern ? e->kern->name : "", rm_dtype_get(type)->name,
           precision == RM_EXACT ? "exact" : "native", n_out, n_in, load * 1e3);
    static const int rows[] = {1, 4, 16, 256};
    for (size_t k = 0; k < RM_COUNT(rows); k++) {
        double best = 1e9;
        for (int rep = 0; rep < (rows[k] == 256 ? 2 : 5); rep++) {
            t0 = now();
            for (int i = 0; i < COPIES; i++) rm_matrix_mul(e, y, (size_t)n_out, x, (size_t)n_in, rows[k], w[i], NULL, &err);
            t0 = (now() - t0) / COPIES;
            if (t0 < best) best = t0;
        }
        printf("  | %3d: %8.1f us %6.1f GB/s %7.1f Gop/s", rows[k], best * 1e6, (double)bytes / best * 1e-9,
               2.0 * rows[k] * n_out * (double)n_in / best * 1e-9);
    }
    for (int prompt_rows = 16; e->kern->q_mul_bf16 && prompt_rows <= 256; prompt_rows *= 4) {
        double best = 1e9;
        e->prompt = true;
        for (int rep = 0; rep < 5; rep++) {
            t0 = now();
            for (int i = 0; i < COPIES; i++) rm_matrix_mul(e, y, (size_t)n_out, x, (size_t)n_in, prompt_rows, w[i], NULL, &err);
            t0 = (now() - t0) / COPIES;
            if (t0 < best) best = t0;
        }
        e->prompt = false;
        printf("  | prompt %3d: %8.1f us %7.1f GFLOP/s", prompt_rows, best * 1e6, 2.0 * prompt_rows * n_out * (double)n_in / best * 1e-9);
    }
    printf("  | gradient"); /* y as dy, x as dx */
    static const int grad_rows[] = {1, 8, 64, 256};
    fill(y, (size_t)MAX_ROW * (size_t)n_out, 1);
    for (int prompt = 0; prompt <= (e->kern->q_turn ? 1 : 0); prompt++) {
        if (prompt) printf("  | of prompts");
        e->prompt = prompt;
        for (size_t k = 0; k < RM_COUNT(grad_rows); k++) {
            double best = 1e9;
            for (int rep = 0; rep < (grad_rows[k] == 256 ? 2 : 5); rep++) {
                t0 = now();
                for (int i = 0; i < COPIES; i++) rm_matrix_mul_t(e, x, (size_t)n_in, y, (size_t)n_out, grad_rows[k], w[i], false, &err);
                t0 = (now() - t0) / COPIES;
                if (t0 < best) best = t0;
            }
            printf("  %3d: %8.1f us %6.1f GFLOP/s", grad_rows[k], best * 1e6, 2.0 * grad_rows[k] * n_out * (double)n_in / best * 1e-9);
        }
    }
    e->prompt = false;
    printf("\n");
    for (int i = 0; i < COPIES; i++) rm_matrix_free(w[i]);
    free(data), free(x), free(y);
}

static void bench(const rm_kern *k, int argc, char **argv) {
    rm_exec *e;
    int n_thread = argc > 3 ? atoi(argv[3]) : 2;
    if (n_thread == 1) the_clock = CLOCK_PROCESS_CPUTIME_ID; /* of use on a busy machine */
    if (rm_exec_new(&e, n_thread, k->name, NULL) != RMAS_OK) return;
    for (size_t i = 0; i < RM_COUNT(TYPES); i++) {
        if (argc > 4 && strcmp(argv[4], rm_dtype_get(TYPES[i])->name) != 0) continue;
        bench_matrix(e, TYPES[i], 4864, 1024, RM_NATIVE);
        if (argc > 5) bench_matrix(e, TYPES[i], 1024, 4864, RM_NATIVE);
        if (argc > 5) bench_matrix(e, TYPES[i], 4864, 1024, RM_EXACT);
    }
    rm_exec_free(e);
}

int main(int argc, char **argv) {
    rng = rm_rng_make(1, 1);
    const rm_kern *k;
    if (argc > 1 && strcmp(argv[1], "--bench") == 0) { /* --bench [ISA [THREADS [TYPE [more]]]] */
        for (int i = 0; (k = rm_kern_at(i)); i++)
            if (argc < 3 || strcmp(argv[2], k->name) == 0) bench(k, argc, argv);
        return 0;
    }
    for (int i = 0; (k = rm_kern_at(i)); i++) {
        isa = k->name;
        check_rows(k);
        check_rope(k);
        static const int dims[] = {8, 10, 16, 24, 64, 80, 128, 256};
        for (size_t j = 0; j < RM_COUNT(dims); j++)
            for (int n_q = 1; n_q <= 13; n_q += n_q < 5 ? 1 : 4)
                for (int way = 0; way < 4; way++) check_attention(k, dims[j], n_q, way & 1, n_q == 3 ? 70 : 0, way & 2);
        for (size_t j = 0; j < RM_COUNT(dims); j++) {
            check_attention_back(k, dims[j], 1, false, 0, 64, -5);
            check_attention_back(k, dims[j], 9, true, 0, 64, -5);
            check_attention_back(k, dims[j], 5, j & 1, 7, 39, 20);
        }
        check_delta(k, 12, 12);
        check_delta(k, 16, 80);
        check_delta(k, 128, 128);
        check_delta_back(k, 128, 128, 64, 0);
        check_delta_back(k, 128, 128, 64, 63);
        check_delta_back(k, 12, 12, 7, 2);
        check_delta_back(k, 16, 80, 33, 0);
        check_delta_back(k, 24, 56, 20, 11);
        check_delta_back(k, 8, 20, 1, 0);
        check_products(k);
    }
    printf("checkkern: %d passed, %d failed\n", n_check - n_fail, n_fail);
    return n_fail != 0;
}
