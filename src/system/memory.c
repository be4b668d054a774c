#include "system/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PROMPT = 1024 }; /* positions of a prompt; questions with long contexts need more */

size_t rm_memory_estimate(const rm_team *t, const rm_run_options *o) {
    size_t most = 0, snaps = 0;
    for (int a = 0; a < t->n_agent; a++) {
        const rm_agent *x = &t->agent[a];
        bool writes = o->text || a == t->sys->answer;
        size_t n_pos = PROMPT + (size_t)(writes ? o->max_new_tokens : o->latent_steps);
        size_t one = n_pos * rm_seq_bytes_per_token(x->model) + rm_seq_bytes_fixed(x->model);
        if (one > most) most = one;
        if (!o->text && o->n_round > 1) snaps += PROMPT / 2 * rm_seq_bytes_per_token(x->model) + rm_seq_bytes_fixed(x->model);
    }
    return (size_t)o->batch_size * (most + snaps);
}

static bool read_number(const char *path, size_t *out) {
    FILE *f = fopen(path, "re");
    unsigned long long v;
    bool ok = f && fscanf(f, "%llu", &v) == 1;
    if (f) fclose(f);
    if (ok) *out = (size_t)v;
    return ok;
}

size_t rm_memory_available(void) {
    size_t available = 0, limit, used;
    char line[128];
    FILE *f = fopen("/proc/meminfo", "re");
    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, "MemAvailable:", 13)) available = (size_t)strtoull(line + 13, NULL, 10) * 1024;
    if (f) fclose(f);
    if (read_number("/sys/fs/cgroup/memory.max", &limit) && read_number("/sys/fs/cgroup/memory.current", &used)) {
        size_t left = limit > used ? limit - used : 0;
        if (!available || left < available) available = left;
    }
    return available;
}

rmas_status rm_memory_check(const rm_team *t, const rm_run_options *o, rmas_error *err) {
    size_t need = rm_memory_estimate(t, o), have = rm_memory_available();
    if (!have || need <= have) return RMAS_OK;
    size_t fits = have / (need / (size_t)o->batch_size + 1);
    return rm_fail(
        err, RMAS_E_NOMEM,
        "a batch of %d may need %.1f GB for sequences of up to %d tokens, and %.1f GB are free; use --batch_size %zu or less --max_new_tokens",
        o->batch_size, (double)need * 1e-9, o->max_new_tokens, (double)have * 1e-9, fits ? fits : 1);
}
