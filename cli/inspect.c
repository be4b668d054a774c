/* rmas inspect: what a file, model or system is and what it will cost. The facts are gathered in inspect_facts.c; here they
 * are printed for people, or as they are. */
#include "inspect.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

static const char *text(const json_t *o, const char *key) {
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}
static json_int_t number(const json_t *o, const char *key) { return json_integer_value(json_object_get(o, key)); }

/* "1.25 GiB", in one of a few static buffers. */
static const char *size(json_int_t n) {
    static const char *const unit[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    static char buf[8][32];
    static int turn;
    char *s = buf[turn++ & 7];
    double v = (double)n;
    int u = 0;
    while (v >= 1024 && u < 4) v /= 1024, u++;
    snprintf(s, 32, u ? "%.2f %s" : "%.0f %s", v, unit[u]);
    return s;
}

static const char *count(json_int_t n) {
    static char buf[4][32];
    static int turn;
    char *s = buf[turn++ & 3];
    double v = (double)n;
    snprintf(s, 32,
             n >= 1000000000 ? "%.2f G"
             : n >= 1000000  ? "%.1f M"
             : n >= 10000    ? "%.1f k"
                             : "%.0f",
             v / (n >= 1000000000 ? 1e9
                  : n >= 1000000  ? 1e6
                  : n >= 10000    ? 1e3
                                  : 1));
    return s;
}

static void print_stored(const json_t *o, const char *indent) {
    const char *dtype;
    json_t *v;
    printf("%sstored      %s parameters in %" JSON_INTEGER_FORMAT " tensors, %s:", indent, count(number(o, "parameters")), number(o, "tensor_count"),
           size(number(o, "bytes")));
    json_object_foreach(json_object_get(o, "stored"), dtype, v) printf(" %s %s", dtype, size(json_integer_value(v)));
    printf("\n");
}

static void print_layers(const json_t *o, const char *indent) {
    size_t i;
    json_t *run;
    printf("%slayers      %" JSON_INTEGER_FORMAT ":", indent, number(o, "layers"));
    json_array_foreach(json_object_get(o, "layer_types"), i, run) {
        if (i == 8) {
            printf(" ...");
            break;
        }
        printf(" %" JSON_INTEGER_FORMAT " %s", json_integer_value(json_array_get(run, 1)), json_string_value(json_array_get(run, 0)));
    }
    if (json_is_integer(json_object_get(o, "sliding_window"))) printf(" (window %" JSON_INTEGER_FORMAT ")", number(o, "sliding_window"));
    printf("\n");
}

static void print_memory(const json_t *m, const char *indent) {
    printf("%smemory      weights %s", indent, size(number(m, "weights_packed") + number(m, "weights_mapped")));
    if (number(m, "weights_packed")) printf(" (%s of it repacked)", size(number(m, "weights_packed")));
    printf(", cache %s per token", size(number(m, "cache_per_token")));
    if (number(m, "state_per_sequence")) printf(" + %s per sequence", size(number(m, "state_per_sequence")));
    printf(", workspace %s\n%s            %" JSON_INTEGER_FORMAT " sequence%s of %" JSON_INTEGER_FORMAT
           " tokens: %s in all, program and tokenizer included\n",
           size(number(m, "workspace")), indent, number(m, "batch"), number(m, "batch") == 1 ? "" : "s", number(m, "context"),
           size(number(m, "peak")));
}

static void print_model(const json_t *o, const char *indent) {
    printf("%sfamily      %s, hidden %" JSON_INTEGER_FORMAT ", MLP %" JSON_INTEGER_FORMAT ", %" JSON_INTEGER_FORMAT " query / %" JSON_INTEGER_FORMAT
           " key heads of %" JSON_INTEGER_FORMAT ", vocabulary %" JSON_INTEGER_FORMAT "%s, trained to %" JSON_INTEGER_FORMAT " positions\n",
           indent, text(o, "model_type"), number(o, "hidden_size"), number(o, "intermediate_size"), number(o, "heads"), number(o, "kv_heads"),
           number(o, "head_dim"), number(o, "vocab_size"), json_is_true(json_object_get(o, "tie_word_embeddings")) ? " (tied)" : "",
           number(o, "max_position_embeddings"));
    print_layers(o, indent);
    if (json_object_get(o, "tensor_count")) print_stored(o, indent);
    printf("%stokenizer   %s; chat template: %s\n", indent, text(o, "tokenizer"), json_is_true(json_object_get(o, "chat_template")) ? "yes" : "no");
    if (json_object_get(o, "memory")) print_memory(json_object_get(o, "memory"), indent);
}

static void print_link(const json_t *o, const char *name) {
    if (*text(o, "missing"))
        printf("  %-11s %s\n", name, text(o, "missing"));
    else if (!*text(o, "file"))
        printf("  %-11s made from the seed (untrained)\n", name);
    else
        printf("  %-11s %s, %" JSON_INTEGER_FORMAT " -> %" JSON_INTEGER_FORMAT ", %s, %s parameters: %s\n", name, text(o, "type"), number(o, "d_in"),
               number(o, "d_out"), text(o, "dtype"), count(number(o, "parameters")), text(o, "file"));
}

static void print_system(const json_t *o) {
    size_t i;
    json_t *a;
    printf("%s: system%s%s\n", text(o, "name"), *text(o, "description") ? ", " : "", text(o, "description"));
    json_array_foreach(json_object_get(o, "agents"), i, a) {
        json_t *m = json_object_get(a, "model");
        printf("\n%s%s: %s\n", text(a, "role"), json_is_true(json_object_get(a, "answers")) ? " (answers)" : "",
               *text(a, "path") ? text(a, "path") : text(a, "missing"));
        if (*text(a, "shared_with"))
            printf("  the model of %s\n", text(a, "shared_with"));
        else if (m)
            print_model(m, "  ");
        if (json_object_get(a, "inner_link")) print_link(json_object_get(a, "inner_link"), "inner link");
    }
    printf("\nmessages\n");
    json_array_foreach(json_object_get(o, "outer_links"), i, a) {
        printf("  %s -> %s%s\n", text(a, "from"), text(a, "to"), json_is_true(json_object_get(a, "feedback")) ? " (in the next round)" : "");
        print_link(a, text(a, "key"));
    }
    if (json_object_get(o, "memory")) printf("\nmemory of all agents together: %s\n", size(number(json_object_get(o, "memory"), "peak")));
}

static void print_tensors(const json_t *list) {
    size_t i, k;
    json_t *t, *d;
    json_array_foreach(list, i, t) {
        printf("  %-6s [", text(t, "dtype"));
        json_array_foreach(json_object_get(t, "shape"), k, d) printf("%s%" JSON_INTEGER_FORMAT, k ? ", " : "", json_integer_value(d));
        printf("] %s\n", text(t, "name"));
    }
}

void rm_inspect_print(const json_t *o) {
    const char *kind = text(o, "kind");
    if (!strcmp(kind, "system")) {
        print_system(o);
        return;
    }
    printf("%s: %s%s%s\n", text(o, "path"), kind, *text(o, "format") ? ", " : "", text(o, "format"));
    if (!strcmp(kind, "model"))
        print_model(o, "  ");
    else
        print_stored(o, "  ");
    if (!strcmp(kind, "link"))
        printf("  link        %s, %" JSON_INTEGER_FORMAT " -> %" JSON_INTEGER_FORMAT ", %s\n", text(o, "type"), number(o, "d_in"), number(o, "d_out"),
               text(o, "dtype"));
    print_tensors(json_object_get(o, "tensors"));
}

int cmd_inspect(int argc, char **argv) {
    rm_inspect_options o = {.batch = 1};
    bool json = false;
    const rm_opt opts[] = {{"json", RM_OPT_FLAG, &json, NULL, NULL, "one JSON object"},
                           {"tensors", RM_OPT_FLAG, &o.tensors, NULL, NULL, "list every tensor"},
                           {"context", RM_OPT_INT, &o.context, NULL, "N", "tokens per sequence, for the memory; 0: as trained, at most 4096"},
                           {"batch", RM_OPT_INT, &o.batch, NULL, "N", "sequences together, for the memory"},
                           {0}};
    int n_word, r = rm_opt_parse(argc, argv, opts, "rmas inspect FILE|MODEL|SYSTEM|STYLE [--json] [--tensors]", &n_word);
    if (r) return r == 2 ? 0 : 1;
    rmas_error err = {0};
    json_t *facts = NULL;
    rmas_status s;
    if (n_word != 1 || o.context < 0 || o.context > INT32_MAX || o.batch < 1 || o.batch > 1 << 20)
        s = rm_fail(&err, RMAS_E_ARG, n_word != 1 ? "one file, folder or style must be named" : "--context or --batch is out of range");
    else
        s = rm_inspect(&facts, argv[1], &o, &err);
    if (s != RMAS_OK) return rm_cli_fail(argv[0], &err);
    if (json) {
        char *t = json_dumps(facts, JSON_INDENT(1) | JSON_ENSURE_ASCII);
        puts(t ? t : "{}");
        free(t);
    } else
        rm_inspect_print(facts);
    json_decref(facts);
    return 0;
}
