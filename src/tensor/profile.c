#include "tensor/profile.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "util/mem.h"

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

rmas_status rm_profile_start(rm_exec *e, rmas_error *err) {
    rm_profile *p = RM_NEW(rm_profile);
    if (p) p->stage = RM_NEW(rm_profile_stage);
    if (!p || !p->stage) {
        rm_free(p);
        return rm_fail(err, RMAS_E_NOMEM, "out of memory for a profile");
    }
    p->n_stage = 1;
    p->since = now();
    rm_profile_free(e->profile);
    e->profile = p;
    return RMAS_OK;
}

void rm_profile_free(rm_profile *p) {
    if (p) rm_free(p->stage);
    rm_free(p);
}

void rm_profile_stop(rm_profile *p) {
    uint64_t t = now();
    p->stage[p->at].cell[p->on].ns += t - p->since;
    p->since = t;
}

void rm_profile_switch(rm_profile *p, rm_time t) {
    rm_profile_stop(p);
    p->on = t;
}

/* Out of memory for one more stage: its time goes to the first. */
void rm_profile_enter(rm_profile *p, const char *role, int round, rm_phase phase) {
    rm_profile_stop(p);
    for (p->at = 0; p->at < p->n_stage; p->at++) {
        const rm_profile_stage *s = &p->stage[p->at];
        if (s->phase == phase && s->round == round && !strncmp(s->role, role, sizeof s->role - 1)) return;
    }
    p->at = 0;
    rm_profile_stage *s = rm_realloc_array(p->stage, (size_t)p->n_stage + 1, sizeof *s);
    if (!s) return;
    p->stage = s;
    p->at = p->n_stage++;
    s[p->at] = (rm_profile_stage){.round = round, .phase = phase};
    snprintf(s[p->at].role, sizeof s->role, "%s", role);
}

const char *rm_time_name(rm_time t) {
    static const char *const name[] = {
#define X(name, text) text,
        RM_TIME_CLASSES(X)
#undef X
    };
    return name[t];
}

const char *rm_phase_name(rm_phase p) {
    static const char *const name[] = {"", "prefill", "latent", "decode"};
    return name[p];
}
