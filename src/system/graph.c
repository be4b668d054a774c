/* Graphs of agents: checking them, and compiling them with a number of rounds into the order of stages. */
#include <string.h>

#include "system/system.h"
#include "util/mem.h"

int rm_system_agent(const rm_system *s, const char *role) {
    for (int i = 0; i < s->n_agent; i++)
        if (s->agent[i].role && !strcmp(s->agent[i].role, role)) return i;
    return -1;
}

static void free_agent(rm_agent_spec *a) {
    rm_free(a->role);
    rm_free(a->repo);
    rm_free(a->model);
    rm_free(a->hint);
    for (int t = 0; t < RM_N_LINK_TASK; t++) rm_free(a->inner[t]);
}

void rm_system_free(rm_system *s) {
    if (!s) return;
    for (int i = 0; s->agent && i < s->n_agent; i++) free_agent(&s->agent[i]);
    for (int i = 0; s->edge && i < s->n_edge; i++) {
        rm_free(s->edge[i].key);
        for (int t = 0; t < RM_N_LINK_TASK; t++) rm_free(s->edge[i].file[t]);
    }
    rm_free(s->agent);
    rm_free(s->edge);
    rm_free(s->name);
    rm_free(s->style);
    rm_free(s->family);
    rm_free(s->dir);
    rm_free(s->description);
    rm_free(s->outer_repo);
    rm_free(s->outer);
    rm_free(s->prompts);
    json_decref(s->defaults);
    rm_free(s);
}

static char *dup_or_null(const char *s, bool *failed) {
    if (!s) return NULL;
    char *c = rm_strdup(s);
    if (!c) *failed = true;
    return c;
}

rmas_status rm_system_single(rm_system **out, const rm_system *s, const char *family, bool tools, rmas_error *err) {
    const rm_agent_spec *a = &s->agent[s->answer];
    bool failed = false;
    rm_system *o = *out = RM_NEW(rm_system);
    if (!o) return rm_fail(err, RMAS_E_NOMEM, "out of memory");
    o->agent = rm_calloc(1, sizeof *o->agent);
    if (!o->agent) failed = true;
    o->n_agent = o->agent ? 1 : 0;
    o->name = dup_or_null(s->name, &failed);
    o->family = dup_or_null(family, &failed);
    o->dir = dup_or_null(s->dir, &failed);
    o->prompts = dup_or_null(s->prompts, &failed);
    if (o->agent) {
        o->agent[0].role = dup_or_null("agent", &failed);
        o->agent[0].repo = dup_or_null(a->repo, &failed);
        o->agent[0].model = dup_or_null(a->model, &failed);
        o->agent[0].hint = dup_or_null(a->hint, &failed);
        o->agent[0].tools = tools;
    }
    o->text_special = false; /* one prompt, rendered whole by the chat template */
    o->defaults = json_incref(s->defaults);
    if (!failed) return RMAS_OK;
    rm_system_free(o);
    *out = NULL;
    return rm_fail(err, RMAS_E_NOMEM, "out of memory");
}

/* ---- checking ------------------------------------------------------------------------------------------------------- */

static bool is_word(const char *s) {
    if (!*s) return false;
    for (; *s; s++)
        if (!((*s >= 'a' && *s <= 'z') || (*s >= '0' && *s <= '9') || *s == '_' || *s == '-')) return false;
    return true;
}

/* Topological order of the agents along forward edges; among those that can run, the first of the manifest. Returns how many. */
static int forward_order(const rm_system *s, int *order) {
    bool done[RM_SYSTEM_MAX_AGENT] = {false};
    int n = 0;
    while (n < s->n_agent) {
        int next = -1;
        for (int a = 0; a < s->n_agent && next < 0; a++) {
            if (done[a]) continue;
            bool ready = true;
            for (int e = 0; e < s->n_edge; e++)
                if (!s->edge[e].feedback && s->edge[e].to == a && !done[s->edge[e].from]) ready = false;
            if (ready) next = a;
        }
        if (next < 0) return n;
        done[next] = true;
        order[n++] = next;
    }
    return n;
}

static rmas_status check_edges(const rm_system *s, rmas_error *err) {
    for (int e = 0; e < s->n_edge; e++) {
        const rm_edge_spec *x = &s->edge[e];
        const char *from = s->agent[x->from].role, *to = s->agent[x->to].role;
        if (!x->feedback && x->from == x->to)
            return rm_fail(err, RMAS_E_ARG, "system %s: edge %s: %s cannot send to itself within a round; make it a feedback edge", s->name, x->key,
                           from);
        for (int f = 0; f < e; f++) {
            if (s->edge[f].from == x->from && s->edge[f].to == x->to)
                return rm_fail(err, RMAS_E_ARG, "system %s: two edges from %s to %s; a prompt has one slot per sender", s->name, from, to);
            if (!strcmp(s->edge[f].key, x->key)) return rm_fail(err, RMAS_E_ARG, "system %s: two edges have the key %s", s->name, x->key);
        }
    }
    return RMAS_OK;
}

rmas_status rm_system_check(const rm_system *s, rmas_error *err) {
    int order[RM_SYSTEM_MAX_AGENT];
    bool reaches[RM_SYSTEM_MAX_AGENT] = {false};
    if (s->n_agent < 1 || s->n_agent > RM_SYSTEM_MAX_AGENT || s->n_edge > RM_SYSTEM_MAX_EDGE)
        return rm_fail(err, RMAS_E_ARG, "system %s: %d agents and %d edges; there can be 1 to %d agents and up to %d edges", s->name, s->n_agent,
                       s->n_edge, RM_SYSTEM_MAX_AGENT, RM_SYSTEM_MAX_EDGE);
    if (!is_word(s->family))
        return rm_fail(err, RMAS_E_ARG, "system %s: family '%s' is not a word of a prompt pack (a-z, 0-9, _ and -)", s->name, s->family);
    for (int a = 0; a < s->n_agent; a++)
        if (!is_word(s->agent[a].role))
            return rm_fail(err, RMAS_E_ARG, "system %s: role '%s' is not a word of a prompt pack (a-z, 0-9, _ and -)", s->name, s->agent[a].role);
    RM_TRY(check_edges(s, err));
    int n = forward_order(s, order);
    if (n < s->n_agent) {
        for (int a = 0; a < s->n_agent; a++) {
            bool ran = false;
            for (int i = 0; i < n; i++) ran |= order[i] == a;
            if (!ran)
                return rm_fail(err, RMAS_E_ARG,
                               "system %s: %s waits for a message that waits for %s; one edge of the circle must be \"feedback\": true", s->name,
                               s->agent[a].role, s->agent[a].role);
        }
    }
    reaches[s->answer] = true;
    for (int k = 0; k < s->n_agent; k++)
        for (int e = 0; e < s->n_edge; e++)
            if (reaches[s->edge[e].to]) reaches[s->edge[e].from] = true;
    for (int a = 0; a < s->n_agent; a++)
        if (!reaches[a])
            return rm_fail(err, RMAS_E_ARG, "system %s: nothing that %s sends reaches %s, who answers", s->name, s->agent[a].role,
                           s->agent[s->answer].role);
    return RMAS_OK;
}

/* ---- plans ---------------------------------------------------------------------------------------------------------- */

int rm_stage_incoming(const rm_system *s, const rm_stage *st, int *edge) {
    int n = 0;
    for (int e = 0; e < s->n_edge; e++)
        if (s->edge[e].to == st->agent && (!s->edge[e].feedback || st->round > 1)) edge[n++] = e;
    return n;
}

void rm_plan_free(rm_plan *p) {
    rm_free(p->stage);
    *p = (rm_plan){0};
}

static bool gets_feedback(const rm_system *s, int agent) {
    for (int e = 0; e < s->n_edge; e++)
        if (s->edge[e].feedback && s->edge[e].to == agent) return true;
    return false;
}

/* need[(r - 1) * n_agent + a]: what agent a sends in round r has an effect on the answer. Backward from the last text. */
static void mark_needed(const rm_system *s, int n_round, const int *order, bool *need) {
    int n = s->n_agent;
    for (int r = n_round; r >= 1; r--)
        for (int k = n - 1; k >= 0; k--) {
            int a = order[k];
            bool *mine = &need[(r - 1) * n + a];
            for (int e = 0; e < s->n_edge && !*mine; e++) {
                const rm_edge_spec *x = &s->edge[e];
                if (x->from != a) continue;
                int to_round = x->feedback ? r + 1 : r;
                if (to_round > n_round) continue;
                bool is_final = to_round == n_round && x->to == s->answer;
                if (is_final || need[(to_round - 1) * n + x->to]) *mine = true;
            }
        }
}

rmas_status rm_plan_new(rm_plan *out, const rm_system *s, const rm_plan_options *o, rmas_error *err) {
    int order[RM_SYSTEM_MAX_AGENT], n = s->n_agent, n_round = o->n_round;
    *out = (rm_plan){.n_round = n_round};
    if (n_round < 1 || n_round > 100000) return rm_fail(err, RMAS_E_ARG, "%d rounds; there must be 1 to 100000", n_round);
    RM_TRY(rm_system_check(s, err));
    forward_order(s, order);
    bool *need = rm_calloc((size_t)n_round * (size_t)n, 1);
    out->stage = rm_calloc((size_t)n_round * (size_t)n * 2, sizeof *out->stage);
    if (!need || !out->stage) {
        rm_free(need);
        rm_plan_free(out);
        return rm_fail(err, RMAS_E_NOMEM, "out of memory");
    }
    if (o->text || o->latent) mark_needed(s, n_round, order, need);
    for (int r = 1; r <= n_round; r++)
        for (int k = 0; k < n; k++) {
            int a = order[k];
            bool last = r == n_round && a == s->answer;
            rm_stage st = {.round = r, .agent = a, .kind = o->text ? RM_STAGE_TEXT : RM_STAGE_LATENT, .feedback = r > 1 && gets_feedback(s, a)};
            if (last) {
                st.kind = RM_STAGE_TEXT;
                st.final = true;
                out->stage[out->n_stage++] = st;
                continue;
            }
            if (o->all && !o->text && a == s->answer && s->answer_every_round) {
                rm_stage extra = st;
                extra.kind = RM_STAGE_TEXT;
                extra.shadow = true;
                out->stage[out->n_stage++] = extra;
            }
            if (need[(r - 1) * n + a]) out->stage[out->n_stage++] = st;
        }
    rm_free(need);
    return RMAS_OK;
}
