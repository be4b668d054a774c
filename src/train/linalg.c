#include "train/linalg.h"

#include <math.h>
#include <string.h>

#include "tensor/matrix.h"
#include "util/mem.h"

enum { LANES = 8, BLOCK = 256, SMALL = 1 << 14 }; /* rows of a block of products; below SMALL multiplications threads do not pay */

/* Fixed order of summation that a compiler can vectorise. */
static double dot(const double *a, const double *b, int n) {
    double s[LANES] = {0};
    int i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int k = 0; k < LANES; k++) s[k] += a[i + k] * b[i + k];
    for (int k = 0; i < n; i++, k++) s[k] += a[i] * b[i];
    return ((s[0] + s[4]) + (s[1] + s[5])) + ((s[2] + s[6]) + (s[3] + s[7]));
}

static void run(rm_exec *e, int n_chunk, rm_pool_fn fn, void *ctx, double work) {
    if (work < SMALL)
        for (int c = 0; c < n_chunk; c++) fn(ctx, c, 0);
    else
        rm_pool_run(e->pool, n_chunk, fn, ctx);
}

rmas_status rm_moments(rm_exec *e, double *out, const float *y, int o, const float *x, int i, int n, rmas_error *err) {
    size_t cells = (size_t)o * (size_t)i;
    float *turned = rm_array((size_t)o * BLOCK, sizeof(float)), *part = rm_array(cells, sizeof(float));
    rmas_status st = turned && part ? RMAS_OK : rm_fail(err, RMAS_E_NOMEM, "out of memory for a matrix of %d x %d moments", o, i);
    memset(out, 0, cells * sizeof *out);
    for (int at = 0; at < n && st == RMAS_OK; at += BLOCK) {
        int rows = n - at < BLOCK ? n - at : BLOCK;
        for (int r = 0; r < rows; r++)
            for (int k = 0; k < o; k++) turned[(size_t)k * (size_t)rows + (size_t)r] = y[(size_t)(at + r) * (size_t)o + (size_t)k];
        rm_tensor t = {.name = "rows",
                       .dtype = RM_F32,
                       .n_dim = 2,
                       .dim = {rows, i},
                       .data = x + (size_t)at * (size_t)i,
                       .n_bytes = (size_t)rows * (size_t)i * 4};
        const rm_tensor *one[1] = {&t};
        rm_matrix *m = NULL;
        st = rm_matrix_new(&m, e, one, 1, RM_EXACT, err);
        if (st == RMAS_OK) st = rm_matrix_mul_t(e, part, (size_t)i, turned, (size_t)rows, o, m, false, err);
        rm_matrix_free(m);
        for (size_t k = 0; k < cells && st == RMAS_OK; k++) out[k] += (double)part[k];
    }
    rm_free(turned);
    rm_free(part);
    return st;
}

bool rm_cholesky(double *a, int n) {
    size_t ld = (size_t)n;
    for (int i = 0; i < n; i++) {
        double *row = a + (size_t)i * ld;
        for (int j = 0; j < i; j++) row[j] = (row[j] - dot(row, a + (size_t)j * ld, j)) / a[(size_t)j * ld + (size_t)j];
        double d = row[i] - dot(row, row, i);
        if (!(d > 0)) return false;
        row[i] = sqrt(d);
    }
    return true;
}

typedef struct {
    const double *a, *b, *v, *w;
    double *out;
    int m, n, k, from;
    const double *cs; /* rotations of a sweep: c, s */
    int first, count;
} job;

static void solve_row(void *ctx, int r, int thread) {
    (void)thread;
    job *j = ctx;
    size_t ld = (size_t)j->n;
    double *b = j->out + (size_t)r * ld;
    for (int i = 0; i < j->n; i++) b[i] = (b[i] - dot(j->a + (size_t)i * ld, b, i)) / j->a[(size_t)i * ld + (size_t)i];
    for (int i = j->n - 1; i >= 0; i--) {
        const double *row = j->a + (size_t)i * ld;
        b[i] /= row[i];
        double x = b[i];
        for (int k = 0; k < i; k++) b[k] -= x * row[k];
    }
}

void rm_cholesky_solve(rm_exec *e, const double *l, int n, double *b, int rows) {
    run(e, rows, solve_row, &(job){.a = l, .n = n, .out = b}, (double)rows * n * n);
}

static void product_row(void *ctx, int r, int thread) {
    (void)thread;
    job *j = ctx;
    for (int c = 0; c < j->n; c++)
        j->out[(size_t)r * (size_t)j->n + (size_t)c] = dot(j->a + (size_t)r * (size_t)j->k, j->b + (size_t)c * (size_t)j->k, j->k);
}

void rm_product_nt(rm_exec *e, double *out, const double *a, int m, const double *b, int n, int k) {
    run(e, m, product_row, &(job){.a = a, .b = b, .out = out, .m = m, .n = n, .k = k}, (double)m * n * k);
}

/* ---- eigenvectors: Householder to tridiagonal form, then implicit QL -------------------------------------------------------------- */

enum { STRIP = 64 }; /* rows or columns that one piece of work covers */

static int strips(int n) { return (n + STRIP - 1) / STRIP; }

/* out[r] = a[r] v over the trailing part */
static void matvec_strip(void *ctx, int c, int thread) {
    (void)thread;
    job *j = ctx;
    for (int r = j->from + c * STRIP; r < j->n && r < j->from + (c + 1) * STRIP; r++)
        j->out[r] = dot(j->a + (size_t)r * (size_t)j->n + j->from, j->v + j->from, j->n - j->from);
}

/* a -= v wᵀ + w vᵀ over the trailing part */
static void rank2_strip(void *ctx, int c, int thread) {
    (void)thread;
    job *j = ctx;
    for (int r = j->from + c * STRIP; r < j->n && r < j->from + (c + 1) * STRIP; r++) {
        double *row = j->out + (size_t)r * (size_t)j->n, v = j->v[r], w = j->w[r];
        for (int k = j->from; k < j->n; k++) row[k] -= v * j->w[k] + w * j->v[k];
    }
}

/* Rows of z (eigenvectors in the making) times H = 1 - v vᵀ: z[r] -= (z[r] v) v over the trailing part. */
static void reflect_strip(void *ctx, int c, int thread) {
    (void)thread;
    job *j = ctx;
    for (int r = j->from + c * STRIP; r < j->n && r < j->from + (c + 1) * STRIP; r++) {
        double *row = j->out + (size_t)r * (size_t)j->n, s = dot(row + j->from, j->v + j->from, j->n - j->from);
        for (int k = j->from; k < j->n; k++) row[k] -= s * j->v[k];
    }
}

/* The rotations of a sweep on a strip of columns: rows i and i + 1, from the last rotation to the first. */
static void rotate_strip(void *ctx, int c, int thread) {
    (void)thread;
    job *j = ctx;
    int from = c * STRIP, to = from + STRIP < j->n ? from + STRIP : j->n;
    for (int q = 0; q < j->count; q++) {
        double *lo = j->out + (size_t)(j->first - q) * (size_t)j->n, *hi = lo + j->n, cc = j->cs[2 * q], ss = j->cs[2 * q + 1];
        for (int k = from; k < to; k++) {
            double f = hi[k];
            hi[k] = ss * lo[k] + cc * f;
            lo[k] = cc * lo[k] - ss * f;
        }
    }
}

/* a becomes tridiagonal (d, off[k] between k and k + 1); the reflectors v_k, scaled so that H = 1 - v vᵀ, go to row k of refl. */
static void tridiagonal(rm_exec *e, double *a, int n, double *d, double *off, double *refl, double *p) {
    size_t ld = (size_t)n;
    for (int k = 0; k < n; k++) {
        double *v = refl + (size_t)k * ld;
        memset(v, 0, ld * sizeof *v);
        d[k] = a[(size_t)k * ld + (size_t)k];
        if (k + 1 >= n) break;
        double *row = a + (size_t)k * ld, norm = sqrt(dot(row + k + 1, row + k + 1, n - k - 1));
        double alpha = row[k + 1] > 0 ? -norm : norm;
        off[k] = k + 2 < n ? alpha : row[k + 1];
        if (k + 2 >= n || norm == 0) continue;
        memcpy(v + k + 1, row + k + 1, (size_t)(n - k - 1) * sizeof *v);
        v[k + 1] -= alpha;
        double scale = sqrt(2 / dot(v + k + 1, v + k + 1, n - k - 1));
        for (int i = k + 1; i < n; i++) v[i] *= scale;
        job j = {.a = a, .v = v, .w = p, .out = p, .n = n, .from = k + 1};
        double work = (double)(n - k) * (n - k);
        run(e, strips(n - k - 1), matvec_strip, &j, work);
        double half = dot(p + k + 1, v + k + 1, n - k - 1) / 2;
        for (int i = k + 1; i < n; i++) p[i] -= half * v[i];
        j.out = a;
        run(e, strips(n - k - 1), rank2_strip, &j, work);
    }
}

rmas_status rm_eigen(rm_exec *e, double *a, int n, double *w, rmas_error *err) {
    size_t ld = (size_t)n;
    double *refl = rm_array(ld * ld, sizeof(double)), *off = rm_calloc(ld + 1, sizeof(double)), *cs = rm_array(2 * ld + 2, sizeof(double));
    double *p = rm_array(ld, sizeof(double));
    rmas_status st = refl && off && cs && p ? RMAS_OK : rm_fail(err, RMAS_E_NOMEM, "out of memory for the eigenvectors of a matrix of width %d", n);
    if (st == RMAS_OK) {
        tridiagonal(e, a, n, w, off, refl, p);
        /* a = transpose of H_0 H_1 ...: row k is column k of the product. H_k touches the columns from k + 1 on only, and the
         * rows before k + 1 of the product of the later ones are still unit vectors. */
        memset(a, 0, ld * ld * sizeof *a);
        for (int i = 0; i < n; i++) a[(size_t)i * ld + (size_t)i] = 1;
        for (int k = n - 3; k >= 0; k--)
            run(e, strips(n - k - 1), reflect_strip, &(job){.v = refl + (size_t)k * ld, .out = a, .n = n, .from = k + 1}, (double)(n - k) * (n - k));
    }
    for (int l = 0; l < n && st == RMAS_OK; l++) {
        for (int sweep = 0;; sweep++) {
            int m = l;
            while (m + 1 < n && fabs(off[m]) > 1e-16 * (fabs(w[m]) + fabs(w[m + 1]))) m++;
            if (m == l) break;
            if (sweep == 60) {
                st = rm_fail(err, RMAS_E_ARG, "the eigenvectors of a matrix of width %d do not converge: are there values that are not finite?", n);
                break;
            }
            double g = (w[l + 1] - w[l]) / (2 * off[l]), r = hypot(g, 1), s = 1, c = 1, q = 0;
            g = w[m] - w[l] + off[l] / (g + copysign(r, g));
            int count = 0, i = m - 1;
            for (; i >= l; i--) {
                double f = s * off[i], b = c * off[i];
                off[i + 1] = r = hypot(f, g);
                if (r == 0) { /* the problem splits */
                    w[i + 1] -= q;
                    break;
                }
                s = f / r;
                c = g / r;
                g = w[i + 1] - q;
                r = (w[i] - g) * s + 2 * c * b;
                q = s * r;
                w[i + 1] = g + q;
                g = c * r - b;
                cs[2 * count] = c;
                cs[2 * count++ + 1] = s;
            }
            if (i < l) {
                w[l] -= q;
                off[l] = g;
            }
            off[m] = 0;
            run(e, strips(n), rotate_strip, &(job){.out = a, .n = n, .cs = cs, .first = m - 1, .count = count}, (double)count * n);
        }
    }
    for (int i = 0; i + 1 < n && st == RMAS_OK; i++) { /* ascending */
        int least = i;
        for (int k = i + 1; k < n; k++)
            if (w[k] < w[least]) least = k;
        if (least == i) continue;
        double x = w[i];
        w[i] = w[least];
        w[least] = x;
        memcpy(p, a + (size_t)i * ld, ld * sizeof *p);
        memcpy(a + (size_t)i * ld, a + (size_t)least * ld, ld * sizeof *p);
        memcpy(a + (size_t)least * ld, p, ld * sizeof *p);
    }
    rm_free(refl);
    rm_free(off);
    rm_free(cs);
    rm_free(p);
    return st;
}
