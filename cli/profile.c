#include "profile.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "machine.h"
#include "tensor/profile.h"

static double ops_of(const rm_profile_cell *c) {
    double n = 0;
    for (int k = 0; k < RM_N_OPS; k++) n += c->ops[k];
    return n;
}

static void add(rm_profile_cell *to, const rm_profile_cell *c) {
    to->ns += c->ns;
    to->n_call += c->n_call;
    to->bytes += c->bytes;
    for (int k = 0; k < RM_N_OPS; k++) to->ops[k] += c->ops[k];
}

static rm_profile_cell sum_of(const rm_profile_stage *s) {
    rm_profile_cell all = {0};
    for (int t = 0; t < RM_N_TIME; t++) add(&all, &s->cell[t]);
    return all;
}

/* The least time that the machine's measured rates allow for this work, as a share of the time that it took. */
static double ceiling_share(const rm_profile_cell *c, const double *rate) {
    double read = c->bytes / rate[RM_CEILING_READ],
           compute =
               c->ops[RM_OPS_F32] / rate[RM_CEILING_F32] + c->ops[RM_OPS_BF16] / rate[RM_CEILING_BF16] + c->ops[RM_OPS_INT8] / rate[RM_CEILING_INT8];
    return c->ns ? (read > compute ? read : compute) / ((double)c->ns * 1e-9) : 0;
}

static void print_rates(const rm_profile_cell *c, const double *rate) {
    if (c->ns && c->bytes > 0)
        fprintf(stderr, " %7.1f %9.1f %6.0f %%", c->bytes / (double)c->ns, ops_of(c) / (double)c->ns, 100 * ceiling_share(c, rate));
    fputc('\n', stderr);
}

static void print_tables(const rm_profile *p, const double *rate) {
    rm_profile_cell by[RM_N_TIME] = {0}, all = {0};
    for (int i = 0; i < p->n_stage; i++)
        for (int t = 0; t < RM_N_TIME; t++) add(&by[t], &p->stage[i].cell[t]);
    for (int t = 0; t < RM_N_TIME; t++) add(&all, &by[t]);
    double total = all.ns ? (double)all.ns : 1;
    fprintf(stderr, "\n%-28s %9s %9s %7s %7s %9s %8s\n", "operation", "calls", "seconds", "share", "GB/s", "GFLOP/s", "ceiling");
    for (int t = 0; t < RM_N_TIME; t++) {
        if (!by[t].n_call && (double)by[t].ns < 1e-3 * total) continue;
        fprintf(stderr, "%-28s %9llu %9.3f %5.1f %%", rm_time_name((rm_time)t), (unsigned long long)by[t].n_call, (double)by[t].ns * 1e-9,
                100 * (double)by[t].ns / total);
        print_rates(&by[t], rate);
    }
    fprintf(stderr, "\n%-28s %9s %9s %7s %9s %8s %9s %7s %9s %8s\n", "stage", "passes", "seconds", "share", "positions", "reused", "pos/s", "GB/s",
            "GFLOP/s", "ceiling");
    for (int i = 0; i < p->n_stage; i++) {
        const rm_profile_stage *s = &p->stage[i];
        rm_profile_cell c = sum_of(s);
        char name[96];
        if (!s->role[0])
            snprintf(name, sizeof name, "outside");
        else if (s->round)
            snprintf(name, sizeof name, "%s, round %d, %s", s->role, s->round, rm_phase_name(s->phase));
        else
            snprintf(name, sizeof name, "%s, %s", s->role, rm_phase_name(s->phase));
        fprintf(stderr, "%-28s %9llu %9.3f %5.1f %% %9llu %8llu %9.1f", name, (unsigned long long)s->n_call, (double)c.ns * 1e-9,
                100 * (double)c.ns / total, (unsigned long long)s->n_pos, (unsigned long long)s->n_reused,
                c.ns ? (double)s->n_pos / ((double)c.ns * 1e-9) : 0);
        print_rates(&c, rate);
    }
    fprintf(stderr,
            "total %.3f s. This machine just now (rmas bench --machine): %.1f GB/s read, products of %.0f GFLOP/s in float32, %.0f in bf16, %.0f in "
            "8 bits;\n"
            "ceiling: the least time that these rates allow for the bytes or the arithmetic, as a share of the time taken\n",
            total * 1e-9, rate[RM_CEILING_READ] * 1e-9, rate[RM_CEILING_F32] * 1e-9, rate[RM_CEILING_BF16] * 1e-9, rate[RM_CEILING_INT8] * 1e-9);
}

static json_t *cell_json(const rm_profile_cell *c, const double *rate) {
    return json_pack("{s:f, s:I, s:f, s:f, s:f, s:f, s:f}", "seconds", (double)c->ns * 1e-9, "calls", (json_int_t)c->n_call, "bytes", c->bytes,
                     "ops_f32", c->ops[RM_OPS_F32], "ops_bf16", c->ops[RM_OPS_BF16], "ops_int8", c->ops[RM_OPS_INT8], "ceiling",
                     ceiling_share(c, rate));
}

static json_t *stage_json(const rm_profile_stage *s, const double *rate) {
    rm_profile_cell all = sum_of(s);
    json_t *ops = json_object();
    for (int t = 0; t < RM_N_TIME; t++)
        if (s->cell[t].n_call || s->cell[t].ns) json_object_set_new(ops, rm_time_name((rm_time)t), cell_json(&s->cell[t], rate));
    return json_pack("{s:s, s:i, s:s, s:f, s:I, s:I, s:I, s:o}", "role", s->role, "round", s->round, "phase", rm_phase_name(s->phase), "seconds",
                     (double)all.ns * 1e-9, "passes", (json_int_t)s->n_call, "positions", (json_int_t)s->n_pos, "reused", (json_int_t)s->n_reused,
                     "operations", ops);
}

static rmas_status write_json(const rm_profile *p, const double *rate, const char *path, rmas_error *err) {
    json_t *stages = json_array(), *machine = json_object(), *all;
    for (int i = 0; i < p->n_stage; i++) json_array_append_new(stages, stage_json(&p->stage[i], rate));
    for (int c = 0; c < RM_N_CEILING; c++) json_object_set_new(machine, rm_ceiling_name((rm_ceiling)c), json_real(rate[c]));
    all = json_pack("{s:o, s:o}", "machine", machine, "stages", stages);
    bool ok = all && json_dump_file(all, path, JSON_INDENT(1) | JSON_REAL_PRECISION(6)) == 0;
    json_decref(all);
    return ok ? RMAS_OK : rm_fail(err, RMAS_E_IO, "%s: cannot write the profile", path);
}

rmas_status rm_profile_report(rm_exec *e, bool print, const char *path, rmas_error *err) {
    rm_profile *p = e->profile;
    double rate[RM_N_CEILING];
    rm_profile_stop(p);
    e->profile = NULL; /* the machine's measurement is not part of it */
    rmas_status st = rm_machine_rates(e, rate, err);
    e->profile = p;
    if (st == RMAS_OK && print) print_tables(p, rate);
    return st == RMAS_OK && path ? write_json(p, rate, path, err) : st;
}
