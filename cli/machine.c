#include "machine.h"

#include "kern/kern.h"
#include "tensor/matrix.h"
#include "util/mem.h"
#include "util/rng.h"

static double now(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

const char *rm_ceiling_name(rm_ceiling c) {
    static const char *const name[] = {"read", "f32", "bf16", "int8"};
    return name[c];
}

typedef struct {
    const rm_kern *kern;
    const float *x;
    size_t n; /* per chunk */
    float sum[256]; /* so that the loads are needed */
} reading;

static void read_chunk(void *ctx, int chunk, int thread) {
    (void)thread;
    reading *r = ctx;
    const float *x = r->x + (size_t)chunk * r->n;
    r->sum[chunk % 256] = r->kern->dot(x, x, r->n); /* as wide loads as the processor has; one stream, as in decoding */
}

static rmas_status time_read(rm_exec *e, int repeat, clockid_t clock, double *seconds, rm_ceiling_work *work, rmas_error *err) {
    enum { CHUNKS = 256 };
    size_t n = (size_t)128 << 20;
    reading *r = RM_NEW(reading);
    float *x = rm_aligned(n * sizeof *x);
    if (!r || !x) {
        rm_free(r);
        rm_free(x);
        return rm_fail(err, RMAS_E_NOMEM, "out of memory for a read test of 512 MiB");
    }
    rm_huge_pages(x, n * sizeof *x); /* as weights have them */
    for (size_t i = 0; i < n; i++) x[i] = (float)(i % 64);
    *r = (reading){.kern = e->kern, .x = x, .n = n / CHUNKS};
    for (int k = -1; k < repeat; k++) { /* the first run warms up */
        double t = now(clock);
        rm_pool_run(e->pool, CHUNKS, read_chunk, r);
        if (k >= 0) seconds[k] = now(clock) - t;
    }
    *work = (rm_ceiling_work){1, (double)n * sizeof *x, 0};
    rm_free(x);
    rm_free(r);
    return RMAS_OK;
}

static rmas_status time_product(rm_exec *e, rm_ceiling c, int repeat, clockid_t clock, double *seconds, rm_ceiling_work *work, rmas_error *err) {
    enum { N = 2048, ROWS = 256, CALLS = 4 };
    rm_dtype type = c == RM_CEILING_F32 ? RM_F32 : c == RM_CEILING_BF16 ? RM_BF16 : RM_Q8_0;
    float *f = rm_aligned((size_t)N * (N + 2 * ROWS) * sizeof *f), *x = f + (size_t)N * N, *y = x + (size_t)N * ROWS;
    uint8_t *data = rm_aligned(rm_dtype_row_bytes(type, N) * N);
    rm_matrix *w = NULL;
    rmas_status s = f && data ? RMAS_OK : rm_fail(err, RMAS_E_NOMEM, "out of memory for a product");
    rm_rng rng = rm_rng_make(1, 2);
    for (size_t i = 0; s == RMAS_OK && i < (size_t)N * (N + ROWS); i++) f[i] = (float)rm_rng_double(&rng) - 0.5f;
    if (s == RMAS_OK && !rm_quant(type, f, data, (size_t)N * N))
        s = rm_fail(err, RMAS_E_UNSUPPORTED, "%s cannot be written", rm_dtype_get(type)->name);
    rm_tensor t = {.name = rm_ceiling_name(c), .dtype = type, .n_dim = 2, .dim = {N, N}, .data = data, .n_bytes = rm_dtype_row_bytes(type, N) * N};
    const rm_tensor *part[1] = {&t};
    if (s == RMAS_OK) s = rm_matrix_new(&w, e, part, 1, c == RM_CEILING_F32 ? RM_EXACT : RM_NATIVE, err);
    for (int k = -1; k < repeat && s == RMAS_OK; k++) {
        double at = now(clock);
        for (int i = 0; i < CALLS && s == RMAS_OK; i++) s = rm_matrix_mul(e, y, N, x, N, ROWS, w, NULL, err);
        if (k >= 0) seconds[k] = now(clock) - at;
    }
    *work = (rm_ceiling_work){ROWS, CALLS * (double)t.n_bytes, 2.0 * CALLS * ROWS * N * N};
    rm_matrix_free(w);
    rm_free(data);
    rm_free(f);
    return s;
}

rmas_status rm_machine_time(rm_exec *e, rm_ceiling c, int repeat, clockid_t clock, double *seconds, rm_ceiling_work *work, rmas_error *err) {
    if (c == RM_CEILING_READ) return time_read(e, repeat, clock, seconds, work, err);
    return time_product(e, c, repeat, clock, seconds, work, err);
}

rmas_status rm_machine_rates(rm_exec *e, double rate[RM_N_CEILING], rmas_error *err) {
    enum { REPEAT = 3 };
    for (int c = 0; c < RM_N_CEILING; c++) {
        double seconds[REPEAT], best;
        rm_ceiling_work work;
        RM_TRY(rm_machine_time(e, (rm_ceiling)c, REPEAT, CLOCK_MONOTONIC, seconds, &work, err));
        best = seconds[0];
        for (int i = 1; i < REPEAT; i++)
            if (seconds[i] < best) best = seconds[i];
        rate[c] = (c == RM_CEILING_READ ? work.bytes : work.ops) / best;
    }
    return RMAS_OK;
}
