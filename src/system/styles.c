/* The published styles as data: agents, edges, repositories, recommended settings. The run loop knows none of them. */
#include <string.h>

#include "system/system.h"
#include "util/mem.h"

typedef struct {
    const char *role, *repo;
} style_agent;

typedef struct {
    const char *key, *from, *to;
    bool feedback;
} style_edge;

/* The last agent answers. */
typedef struct {
    const char *name, *family, *outer_repo;
    style_agent agent[5];
    const style_edge *edge;
    bool by_task, answer_every_round, tools, no_text_special;
} style;

static const style_edge sequential_edges[] = {
    {"outer_12", "planner", "critic", false}, {"outer_23", "critic", "solver", false}, {"outer_31", "solver", "planner", true}, {0}};
static const style_edge mixture_edges[] = {{"outer_1s", "math", "summarizer", false},
                                           {"outer_2s", "code", "summarizer", false},
                                           {"outer_3s", "science", "summarizer", false},
                                           {"outer_s1", "summarizer", "math", true},
                                           {"outer_s2", "summarizer", "code", true},
                                           {"outer_s3", "summarizer", "science", true},
                                           {0}};
static const style_edge distillation_edges[] = {{"outer_el", "expert", "learner", false}, {"outer_le", "learner", "expert", true}, {0}};
static const style_edge deliberation_edges[] = {{"outer_rt", "reflector", "toolcaller", false}, {"outer_tr", "toolcaller", "reflector", true}, {0}};

static const style styles[] = {
    {.name = "sequential_light",
     .family = "sequential",
     .outer_repo = "Sequential-Light-Outerlinks",
     .agent = {{"planner", "Sequential-Light-Planner-Qwen3-1.7B"},
               {"critic", "Sequential-Light-Critic-Llama3.2-1B"},
               {"solver", "Sequential-Light-Solver-Qwen2.5-Math-1.5B"}},
     .edge = sequential_edges,
     .by_task = true},
    {.name = "sequential_scaled",
     .family = "sequential",
     .outer_repo = "Sequential-Scaled-Outerlinks",
     .agent = {{"planner", "Sequential-Scaled-Planner-Gemma3-4B"},
               {"critic", "Sequential-Scaled-Critic-Llama3.2-3B"},
               {"solver", "Sequential-Scaled-Solver-Qwen3.5-4B"}},
     .edge = sequential_edges,
     .by_task = true},
    {.name = "mixture",
     .family = "mixture",
     .outer_repo = "Mixture-Outerlinks",
     .agent = {{"math", "Mixture-Math-DeepSeek-R1-Distill-Qwen-1.5B"},
               {"code", "Mixture-Code-Qwen2.5-Coder-3B"},
               {"science", "Mixture-Science-BioMistral-7B"},
               {"summarizer", "Mixture-Summarizer-Qwen3.5-2B"}},
     .edge = mixture_edges,
     .answer_every_round = true},
    {.name = "distillation",
     .family = "distillation",
     .outer_repo = "Distillation-Outerlinks",
     .agent = {{"expert", "Distillation-Expert-Qwen3.5-9B"}, {"learner", "Distillation-Learner-Qwen3.5-4B"}},
     .edge = distillation_edges,
     .by_task = true},
    {.name = "deliberation",
     .family = "deliberation",
     .outer_repo = "Deliberation-Outerlinks",
     .agent = {{"reflector", "Deliberation-Reflector-Qwen3.5-4B"}, {"toolcaller", "Deliberation-Toolcaller-Qwen3.5-4B"}},
     .edge = deliberation_edges,
     .tools = true,
     .no_text_special = true},
};

const char *rm_style_name(int i) { return i >= 0 && i < (int)RM_COUNT(styles) ? styles[i].name : NULL; }

static char *published(const char *repo) {
    static const char owner[] = "RecursiveMAS/";
    char *s = rm_alloc(sizeof owner + strlen(repo));
    if (s) {
        memcpy(s, owner, sizeof owner - 1);
        memcpy(s + sizeof owner - 1, repo, strlen(repo) + 1);
    }
    return s;
}

static bool fill(rm_system *s, const style *t) {
    int n_edge = 0;
    while (t->edge[n_edge].key) n_edge++;
    s->name = rm_strdup(t->name);
    s->style = rm_strdup(t->name);
    s->family = rm_strdup(t->family);
    s->outer_repo = published(t->outer_repo);
    s->by_task = t->by_task;
    s->answer_every_round = t->answer_every_round;
    s->text_special = !t->no_text_special;
    s->agent = rm_calloc(RM_COUNT(t->agent), sizeof *s->agent);
    s->edge = rm_calloc((size_t)n_edge, sizeof *s->edge);
    if (!s->name || !s->style || !s->family || !s->outer_repo || !s->agent || !s->edge) return false;
    for (const style_agent *from = t->agent; from->role; from++) {
        rm_agent_spec *a = &s->agent[s->n_agent++];
        a->role = rm_strdup(from->role);
        a->repo = published(from->repo);
        a->tools = t->tools;
        if (!a->role || !a->repo) return false;
    }
    s->answer = s->n_agent - 1;
    for (; s->n_edge < n_edge; s->n_edge++) {
        const style_edge *e = &t->edge[s->n_edge];
        s->edge[s->n_edge].key = rm_strdup(e->key);
        if (!s->edge[s->n_edge].key) return false;
        s->edge[s->n_edge].from = rm_system_agent(s, e->from);
        s->edge[s->n_edge].to = rm_system_agent(s, e->to);
        s->edge[s->n_edge].feedback = e->feedback;
    }
    return true;
}

rmas_status rm_system_style(rm_system **out, const char *name, rmas_error *err) {
    *out = NULL;
    for (size_t i = 0; i < RM_COUNT(styles); i++) {
        if (strcmp(styles[i].name, name)) continue;
        rm_system *s = RM_NEW(rm_system);
        if (!s || !fill(s, &styles[i])) {
            rm_system_free(s);
            return rm_fail(err, RMAS_E_NOMEM, "out of memory");
        }
        *out = s;
        return RMAS_OK;
    }
    return rm_fail(err, RMAS_E_ARG, "unknown style '%s'; there are sequential_light, sequential_scaled, mixture, distillation and deliberation",
                   name);
}

/* ---- recommended settings ------------------------------------------------------------------------------------------- */

static const char *const dataset_name[] = {"math500", "medqa", "gpqa", "mbppplus", "aime25", "aime26", "livecodebench", "bamboogle", "hotpotqa"};
enum { N_DATASET = RM_COUNT(dataset_name), AIME25 = 4, AIME26, LIVECODEBENCH };
static const int dataset_batch[N_DATASET] = {16, 16, 16, 16, 15, 15, 12, 8, 8};

/* June 2026: latent steps and rounds by data set, in the order above; 0: nothing recommended. */
static const struct {
    const char *style;
    struct {
        int steps, rounds;
    } on[N_DATASET];
    double livecodebench_temperature;
} june_2026[] = {
    {"sequential_light", {{32, 3}, {32, 2}, {48, 3}, {48, 3}, {32, 3}, {32, 2}}, 0},
    {"sequential_scaled", {{64, 2}, {32, 3}, {32, 2}, {32, 3}, {48, 3}, {64, 3}, {48, 2}}, 0.2},
    {"distillation", {{64, 3}, {64, 2}, {64, 3}, {16, 2}, {32, 3}, {32, 3}, {64, 2}}, 0.6},
    {"deliberation", {{16, 2}, {16, 2}, {16, 3}, {16, 3}, {16, 3}, {16, 2}, {16, 3}, {16, 3}, {32, 2}}, 0.6},
    {"mixture", {{64, 3}, {48, 2}, {48, 3}, {32, 3}, {16, 3}, {32, 2}, {16, 2}}, 0.2},
};

/* The first release: batch and latent steps, always 3 rounds. */
static const struct {
    const char *style;
    struct {
        int batch, steps;
    } on[N_DATASET];
} first_release[] = {
    {"sequential_light", {{32, 48}, {16, 32}, {16, 32}, {16, 16}}},
    {"sequential_scaled", {{16, 32}, {16, 48}, {16, 48}, {16, 16}}},
};

bool rm_style_recommended(const char *name, const char *dataset, int version, rm_style_settings *out) {
    *out = (rm_style_settings){.temperature = -1};
    size_t d = 0;
    while (dataset && d < N_DATASET && strcmp(dataset_name[d], dataset)) d++;
    if (!name || !dataset || d == N_DATASET) return false;
    for (size_t i = 0; version == 2 && i < RM_COUNT(june_2026); i++)
        if (!strcmp(june_2026[i].style, name) && june_2026[i].on[d].rounds)
            *out = (rm_style_settings){june_2026[i].on[d].steps, june_2026[i].on[d].rounds, dataset_batch[d],
                                       d == LIVECODEBENCH ? june_2026[i].livecodebench_temperature : -1, d == AIME25 || d == AIME26 ? 10 : 0};
    for (size_t i = 0; version == 1 && i < RM_COUNT(first_release); i++)
        if (!strcmp(first_release[i].style, name) && first_release[i].on[d].batch)
            *out = (rm_style_settings){first_release[i].on[d].steps, 3, first_release[i].on[d].batch, -1, 0};
    /* the runner forces it for code, unless its table says otherwise */
    if (out->temperature < 0 && (!strcmp(dataset, "mbppplus") || !strcmp(dataset, "livecodebench"))) out->temperature = 0.2;
    return out->rounds || out->temperature >= 0;
}

int rm_style_max_new_tokens(const char *name, const char *dataset) {
    bool light = name && !strcmp(name, "sequential_light");
    if (!strcmp(dataset, "math500")) return light ? 1000 : 2000;
    if (!strncmp(dataset, "aime", 4)) return light ? 8192 : 16000;
    if (!strcmp(dataset, "livecodebench")) return 4096;
    return 4000;
}
