/* rmas quantize MODEL OUT.gguf --type TYPE */
#include <stdio.h>

#include "cli.h"
#include "convert/convert.h"

int cmd_quantize(int argc, char **argv) {
    const char *type_name = "q4_k";
    int64_t threads = 0;
    const rm_opt opts[] = {{"type", RM_OPT_STRING, &type_name, NULL, "TYPE", "f32, f16, bf16, q8_0, q6_k, q4_k, q4_0"},
                           {"threads", RM_OPT_INT, &threads, NULL, "N", "threads; 0: all processors"},
                           {0}};
    int n_word, r = rm_opt_parse(argc, argv, opts, "rmas quantize MODEL OUT.gguf [--type TYPE]", &n_word);
    if (r) return r == 2 ? 0 : 1;
    rmas_error err = {0};
    rm_dtype type;
    rm_pool *pool = NULL;
    rm_convert_report report = {0};
    rmas_status s;
    if (n_word != 2)
        s = rm_fail(&err, RMAS_E_ARG, "needs a model (folder or .gguf) and the name of the new file");
    else if (!rm_convert_type(type_name, &type))
        s = rm_fail(&err, RMAS_E_ARG, "--type: '%s' is none of f32, f16, bf16, q8_0, q6_k, q4_k, q4_0", type_name);
    else
        s = rm_pool_new(&pool, threads > 0 && threads < 4096 ? (int)threads : 0, &err);
    if (s == RMAS_OK) s = rm_convert_gguf(argv[2], argv[1], type, pool, &report, &err);
    rm_pool_free(pool);
    if (s != RMAS_OK) return rm_cli_fail(argv[0], &err);
    printf("%s: %d tensors, %.1f MiB (were %.1f MiB)\n", argv[2], report.n_tensor, (double)report.n_bytes_out / (1 << 20),
           (double)report.n_bytes_in / (1 << 20));
    if (report.note[0]) printf("note: %s\n", report.note);
    return 0;
}
