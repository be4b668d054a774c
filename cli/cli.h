/* What the commands share: the table of commands, option parsing, JSON lines. */
#ifndef RM_CLI_H
#define RM_CLI_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "util/error.h"

/* name, one-line summary; cmd_NAME(argc, argv) is in cli/NAME.c and returns the exit status */
#define RM_COMMANDS(X)                                                                                                                               \
    X(run, "run a system of agents on questions")                                                                                                    \
    X(generate, "let one model answer")                                                                                                              \
    X(train, "train the links of a system")                                                                                                          \
    X(data, "make training rows")                                                                                                                    \
    X(plot, "draw the curves of a training run")                                                                                                     \
    X(quantize, "turn a model into a GGUF file")                                                                                                     \
    X(inspect, "what a file, model or system is and what it will cost")                                                                              \
    X(resolve, "which files a run would use")                                                                                                        \
    X(grade, "score answers (JSON lines)")                                                                                                           \
    X(prompts, "look up and check prompt packs")                                                                                                     \
    X(tokenize, "text to token ids")                                                                                                                 \
    X(detokenize, "token ids to text")                                                                                                               \
    X(template, "render a chat template")                                                                                                            \
    X(probe, "the numbers inside, as safetensors")                                                                                                   \
    X(bench, "measure speed")

typedef struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
} rm_command;

#define X(name, summary) int cmd_##name(int argc, char **argv);
RM_COMMANDS(X)
#undef X

/* ---- options: one table per command gives parsing, checking and --help --------------------------------------------- */

typedef enum { RM_OPT_FLAG, RM_OPT_INT, RM_OPT_FLOAT, RM_OPT_STRING, RM_OPT_LIST } rm_opt_kind;

typedef struct {
    const char **v; /* values of a repeated option, in order; the array belongs to the parser's caller (rm_free) */
    int n;
} rm_opt_list;

typedef struct {
    const char *name; /* "batch_size": --batch_size and --batch-size are the same, "=" form too; one letter: -i */
    rm_opt_kind kind;
    void *value; /* bool* (FLAG), int64_t* (INT), double* (FLOAT), const char** (STRING), rm_opt_list* (LIST); holds the default */
    bool *given; /* set to true if the option is on the command line; may be NULL */
    const char *arg; /* "N", "FILE" ...; NULL for FLAG; with "0|1" the option may stand alone for 1 */
    const char *help;
} rm_opt;

/* Ends with a name NULL. Words that are no options are moved to argv[1..*n_word]. Returns 0; 1 after an error (one line on
 * stderr); 2 after --help was printed (the caller returns 0 then). Parsing stops at "--". */
int rm_opt_parse(int argc, char **argv, const rm_opt *opts, const char *usage, int *n_word);

/* Settings of sampling that mean nothing, as the reference refuses them; temperature 0 is greedy, a negative min_p the model's own. */
rmas_status rm_cli_check_sampling(double temperature, double top_p, double min_p, rmas_error *err);

/* Prints "rmas COMMAND: message" on stderr and returns 1. */
int rm_cli_fail(const char *command, const rmas_error *err);

/* From now on SIGINT and SIGTERM end what runs cleanly: the flag is then the signal, to be used as `cancel` of runs and trainings. The second one ends
 * the program at once. */
const volatile sig_atomic_t *rm_cli_catch_interrupts(void);

/* ---- JSON lines: one object in, one out, in order; a bad line gives {"error"} and status 1 at the end ---------------- */
struct json_t;
typedef struct json_t *(*rm_jsonl_fn)(void *ctx, struct json_t *in, rmas_error *err); /* new object, or NULL with err filled */
int rm_cli_jsonl(rm_jsonl_fn fn, void *ctx);

#endif
