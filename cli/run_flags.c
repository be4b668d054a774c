/* The flags of a run. */
#include <string.h>

#include "run_setup.h"
#include "util/mem.h"

const rm_run_flags rm_run_defaults = {.dtype = "native",
                                      .settings = "2",
                                      .method = "latent",
                                      .messages = "own",
                                      .tool_loop = "rows",
                                      .search = "tavily",
                                      .num_samples = -1,
                                      .seed = 42,
                                      .sample_seed = -1,
                                      .rounds = 3,
                                      .batch = 8,
                                      .latent = 32,
                                      .top_k = -1,
                                      .max_new_tokens = -1,
                                      .max_answer = -1,
                                      .ans = 1,
                                      .ans_max = -1,
                                      .rollouts = 1,
                                      .choice_old = -1,
                                      .max_tool_rounds = 5,
                                      .result_max_chars = 6000,
                                      .prompt_tests = 3,
                                      .temperature = 0.6,
                                      .top_p = 0.95,
                                      .min_p = -1,
                                      .python_timeout = 10,
                                      .program_timeout = -1};

int rm_run_parse(int argc, char **argv, rm_run_flags *f, const rm_opt *own, const char *usage, int *n_word) {
    const rm_opt shared[] = {
        STR("style", style, "NAME", "a published system: sequential_light, sequential_scaled, mixture, distillation, deliberation"),
        STR("system", system, "DIR", "a folder with a system.json"),
        {"ckpt_override", RM_OPT_LIST, &f->override, NULL, "KEY=PATH",
         "use this folder for a role, or for 'outer', or this link for ROLE/inner; repeatable"},
        STR("dataset_split", split, "NAME", "only reported: the file decides"),
        INT("num_samples", num_samples, NULL, "N", "take N questions, -1: all"),
        INT("first", first, NULL, "N", "skip N questions first"),
        FLAG("shuffle", shuffle, "shuffle the questions with the seed"),
        INT("gpqa_no_option_shuffle", no_option_shuffle, NULL, "0|1", "keep the right option first"),
        INT("mbppplus_num_prompt_tests", prompt_tests, NULL, "N", "example assertions shown with a question"),
        INT("batch_size", batch, &f->g_batch, "N", "sequences computed together; results do not depend on it"),
        INT("max_new_tokens", max_new_tokens, &f->g_max_new, "N", "of a text; -1: by data set, as the reference's runner"),
        INT("max_answer_tokens", max_answer, NULL, "N", "of the answering agent's text, if not as the others'; -1: the same"),
        NUM("temperature", temperature, &f->g_temperature, "T", "0: greedy"),
        NUM("top_p", top_p, &f->g_top_p, "P", "nucleus"),
        INT("top_k", top_k, &f->g_top_k, "K", "-1: the model's generation_config.json, else 50; 0: off"),
        NUM("min_p", min_p, NULL, "P", "-1: the model's, else off"),
        INT("seed", seed, NULL, "N", "of everything random"),
        INT("sample_seed", sample_seed, NULL, "N", "of sampling only; -1: the seed"),
        INT("enable_thinking", thinking, &f->g_thinking, "0|1", "variable of chat templates"),
        INT("solver_pre_question", pre_question, NULL, "0|1", "sequential: the question stands before the plan"),
        INT("choice_old_prompt", choice_old, &f->g_choice_old, "0-3", "sequential: wording for choice questions; -1: 2 for gpqa, else 0"),
        STR("prompts", prompts, "FILE", "a prompt pack"),
        STR("date", date, "YYYY-MM-DD", "what chat templates see as today"),
        STR("allow_tools", allow_tools, "LIST", "python,search: what agents may call; nothing by default"),
        STR("tool_loop", tool_loop, "rows|reference", "rows: a call stops its own row only; reference: as in the reference, the whole batch"),
        INT("max_tool_rounds", max_tool_rounds, NULL, "N", "calls per text"),
        NUM("python_timeout", python_timeout, NULL, "S", "seconds per call"),
        INT("result_max_chars", result_max_chars, NULL, "N", "of a tool's result"),
        FLAG("echo_last_expr", echo, "print the value of a last expression"),
        STR("search_provider", search, "NAME", "tavily (key in TAVILY_API_KEY), file:DIR, off"),
        FLAG("unsafe_python", unsafe, "run programs without a sandbox; only inside a container that is one"),
        NUM("mbppplus_timeout_s", program_timeout, NULL, "S", "per program that is scored; -1: 10, livecodebench 6 per test"),
        FLAG("resume", resume, "go on with the results file that is there"),
        STR("dtype", dtype, "f32|native", "f32: all arithmetic in float32; native: as stored"),
        INT("threads", threads, NULL, "N", "0: all processors"),
        STR("isa", isa, "NAME", "instruction set: portable, avx2, avx-vnni, avx512, avx512-intel, amx, neon, neon-dot"),
        STR("device", device, "NAME", "accepted: there is only the CPU"),
        STR("trust_remote_code", trust, "0|1", "accepted: no code of models is ever run"),
        FLAG("quiet", quiet, "no progress"),
        {0},
    };
    rm_opt all[96] = {0};
    size_t n = 0;
    while (own[n].name) n++;
    if (n + RM_COUNT(shared) > RM_COUNT(all)) return 1; /* a table has grown: enlarge all[] */
    memcpy(all, own, n * sizeof *own);
    memcpy(all + n, shared, sizeof shared);
    return rm_opt_parse(argc, argv, all, usage, n_word);
}
