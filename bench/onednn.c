/* A yardstick: oneDNN's rate for y = x W^T in float32 and bf16 (float32 results), best of several runs of processor time.
 *   apt-get install libdnnl-dev; gcc -O2 bench/onednn.c -o onednn -ldnnl; OMP_NUM_THREADS=1 ./onednn [ROWS N_OUT N_IN] */
#include <oneapi/dnnl/dnnl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
static void must(dnnl_status_t s, const char *what) {
    if (s == dnnl_success) return;
    fprintf(stderr, "%s: status %d\n", what, (int)s);
    exit(1);
}

static void measure(dnnl_engine_t engine, dnnl_stream_t stream, const char *name, dnnl_data_type_t type, long rows, long n_out, long n_in) {
    dnnl_memory_desc_t x, w, wp, y;
    dnnl_dims_t dx = {rows, n_in}, dw = {n_in, n_out}, dy = {rows, n_out}, sw = {1, n_in};
    must(dnnl_memory_desc_init_by_tag(&x, 2, dx, type, dnnl_ab), "x");
    must(dnnl_memory_desc_init_by_strides(&w, 2, dw, type, sw), "w");
    must(dnnl_memory_desc_init_by_tag(&wp, 2, dw, type, dnnl_format_tag_any), "packed w");
    must(dnnl_memory_desc_init_by_tag(&y, 2, dy, dnnl_f32, dnnl_ab), "y");
    for (int packed = 0; packed < 2; packed++) {
        dnnl_matmul_desc_t op;
        dnnl_primitive_desc_t pd;
        dnnl_primitive_t prim;
        dnnl_memory_t mx, mw, my;
        must(dnnl_matmul_desc_init(&op, &x, packed ? &wp : &w, NULL, &y), "matmul");
        must(dnnl_primitive_desc_create(&pd, &op, NULL, engine, NULL), "primitive");
        const dnnl_memory_desc_t *wd = dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0);
        must(dnnl_primitive_create(&prim, pd), "create");
        must(dnnl_memory_create(&mx, &x, engine, DNNL_MEMORY_ALLOCATE), "memory");
        must(dnnl_memory_create(&mw, wd, engine, DNNL_MEMORY_ALLOCATE), "memory");
        must(dnnl_memory_create(&my, &y, engine, DNNL_MEMORY_ALLOCATE), "memory");
        dnnl_exec_arg_t arg[] = {{DNNL_ARG_SRC, mx}, {DNNL_ARG_WEIGHTS, mw}, {DNNL_ARG_DST, my}};
        double best = 1e9;
        for (int i = 0; i < 8; i++) {
            double t = now();
            for (int k = 0; k < 4; k++) must(dnnl_primitive_execute(prim, stream, 3, arg), "execute");
            must(dnnl_stream_wait(stream), "wait");
            t = (now() - t) / 4;
            if (t < best) best = t;
        }
        printf("%-5s %-12s %ld x %ld x %ld: %.1f GFLOP/s\n", name, packed ? "own layout" : "row-major", rows, n_out, n_in,
               2e-9 * (double)rows * (double)n_out * (double)n_in / best);
    }
}

int main(int argc, char **argv) {
    long rows = argc > 3 ? atol(argv[1]) : 256, n_out = argc > 3 ? atol(argv[2]) : 4864, n_in = argc > 3 ? atol(argv[3]) : 1024;
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    must(dnnl_engine_create(&engine, dnnl_cpu, 0), "engine");
    must(dnnl_stream_create(&stream, engine, dnnl_stream_default_flags), "stream");
    measure(engine, stream, "f32", dnnl_f32, rows, n_out, n_in);
    measure(engine, stream, "bf16", dnnl_bf16, rows, n_out, n_in);
    return 0;
}
