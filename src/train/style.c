#include "train/style.h"

#include <string.h>

/* ---- the published families ---------------------------------------------------------------------------------------------- */

static const struct {
    const char *family, *design, *shape, *style;
    int batch;
    bool row_task, need_senders;
    const char *signal;
} families[] = {
    {"sequential", "sequential", "chain", "sequential_light", 2, false, false, NULL},
    {"mixture", "hie", "hie", "mixture", 1, true, false, NULL},
    {"distillation", "distill", "distill", "distillation", 2, true, true, NULL},
    {"deliberation", "deliberation", "deliberation", "deliberation", 2, true, false, "<<DELIBERATION_REFLECTOR_SLOT>>"},
};
enum { N_FAMILY = sizeof families / sizeof families[0] };

static const struct {
    const char *family, *name, *reference, *inner[4], *outer[4]; /* reference: its --mas_role */
} roles[] = {
    {"sequential", "planner", "planner", {"plan"}, {"plan"}},
    {"sequential", "critic", "refiner", {"refined_plan"}, {"refined_plan"}},
    {"sequential", "solver", "solver", {"answer"}, {"answer"}},
    {"mixture", "math", "hie_math_expert", {"hie_math_expert", "math_expert", "expert_math"}, {"hie_math_expert", "math_expert", "expert_math"}},
    {"mixture", "code", "hie_code_expert", {"hie_code_expert", "code_expert", "expert_code"}, {"hie_code_expert", "code_expert", "expert_code"}},
    {"mixture",
     "science",
     "hie_science_expert",
     {"hie_science_expert", "science_expert", "expert_science"},
     {"hie_science_expert", "science_expert", "expert_science"}},
    {"mixture", "summarizer", "hie_summarizer", {"hie_summarizer", "summary", "answer"}, {"answer", "hie_summarizer", "summary"}},
    {"distillation",
     "expert",
     "distill_expert",
     {"distill_expert", "refined_plan", "expert_plan"},
     {"distill_expert", "refined_plan", "expert_plan"}},
    {"distillation", "learner", "distill_learner", {"distill_learner", "answer", "learner_answer"}, {"distill_learner", "answer", "learner_answer"}},
    {"deliberation", "reflector", "deliberation_reflector", {"deliberation_reflector", "answer"}, {"deliberation_reflector", "answer"}},
    {"deliberation", "toolcaller", "deliberation_toolcaller", {"deliberation_toolcaller", "answer"}, {"deliberation_toolcaller", "answer"}},
};
enum { N_ROLE = sizeof roles / sizeof roles[0] };

const char *rm_train_style_name(const char *word) {
    for (int i = 0; i < N_FAMILY; i++)
        if (!strcmp(word, families[i].family) || !strcmp(word, families[i].design)) return families[i].style;
    return word;
}

int rm_train_role_find(const rm_train_style *s, const char *name) {
    for (int i = 0; i < s->n_role; i++)
        if (!strcmp(s->role[i].name, name)) return i;
    for (int i = 0; i < N_ROLE; i++)
        if (!strcmp(roles[i].family, s->family) && !strcmp(roles[i].reference, name)) return rm_train_role_find(s, roles[i].name);
    return -1;
}

bool rm_train_has_feedback(const rm_train_style *s, int role) {
    for (int i = 0; i < s->n_edge; i++)
        if (s->edge[i].to == role && s->edge[i].feedback) return true;
    return false;
}

/* ---- from a graph ---------------------------------------------------------------------------------------------------------- */

static void columns(rm_train_role *r, const char *family, bool answers) {
    for (int i = 0; i < N_ROLE; i++)
        if (!strcmp(roles[i].family, family) && !strcmp(roles[i].name, r->name)) {
            memcpy(r->inner, roles[i].inner, sizeof r->inner);
            memcpy(r->outer, roles[i].outer, sizeof r->outer);
            return;
        }
    r->inner[0] = r->outer[0] = r->name;
    if (answers) r->inner[1] = r->outer[1] = "answer";
}

/* The next agent all of whose messages of this round have been sent; the answering one when no other is left. */
static int next_agent(const rm_system *s, const int *role_of, int done) {
    for (int a = 0; a < s->n_agent; a++) {
        if (role_of[a] >= 0 || (a == s->answer && done + 1 < s->n_agent)) continue;
        bool ready = true;
        for (int e = 0; e < s->n_edge; e++) ready = ready && !(s->edge[e].to == a && !s->edge[e].feedback && role_of[s->edge[e].from] < 0);
        if (ready) return a;
    }
    return -1;
}

rmas_status rm_train_style_make(rm_train_style *out, const rm_system *s, rmas_error *err) {
    *out = (rm_train_style){.system = s, .family = s->family, .shape = "graph", .row_task = true, .outer_batch = 2};
    if (s->n_agent > RM_TRAIN_ROLES || s->n_edge > RM_TRAIN_EDGES)
        return rm_fail(err, RMAS_E_UNSUPPORTED, "%s: %d agents and %d links; training handles %d and %d", s->name, s->n_agent, s->n_edge,
                       RM_TRAIN_ROLES, RM_TRAIN_EDGES);
    for (int i = 0; i < N_FAMILY; i++)
        if (!strcmp(families[i].family, s->family)) {
            out->shape = families[i].shape;
            out->row_task = families[i].row_task;
            out->need_senders = families[i].need_senders;
            out->signal = families[i].signal;
            out->outer_batch = families[i].batch;
        }
    int role_of[RM_TRAIN_ROLES];
    for (int a = 0; a < s->n_agent; a++) role_of[a] = -1;
    for (int r = 0; r < s->n_agent; r++) {
        int a = next_agent(s, role_of, r);
        if (a < 0) return rm_fail(err, RMAS_E_ARG, "%s: links within a round go in a circle, or the answering agent is not the last", s->name);
        role_of[a] = r;
        out->role[r] = (rm_train_role){.name = s->agent[a].role, .agent = a};
        columns(&out->role[r], s->family, a == s->answer);
    }
    out->n_role = s->n_agent;
    out->n_edge = s->n_edge;
    for (int e = 0; e < s->n_edge; e++)
        out->edge[e] = (rm_train_edge){s->edge[e].key, role_of[s->edge[e].from], role_of[s->edge[e].to], s->edge[e].feedback};
    return RMAS_OK;
}
