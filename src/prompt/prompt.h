/* Prompt packs: every sentence that is said to a model, and where latents go in it.
 *
 *   pack  --lookup-->  parts (text | slot ROLE)  --chat template-->  pieces cut at the slots  --tokenizer-->  ids
 *
 * A pack is a table from names to texts (docs/PROMPTS.md); it is read-only after opening. All texts are UTF-8 without NUL. */
#ifndef RM_PROMPT_PROMPT_H
#define RM_PROMPT_PROMPT_H

#include <stdbool.h>
#include <stddef.h>

#include "tmpl/tmpl.h"
#include "tok/tok.h"
#include "util/error.h"
#include "util/strbuf.h"

/* ---- packs ---------------------------------------------------------------------------------------------------------- */

typedef struct rm_pack rm_pack;

/* path NULL: the default pack, which is part of the library. Messages of format errors: "FILE: line N: E_CODE: what". */
rmas_status rm_pack_open(rm_pack **out, const char *path, rmas_error *err);
rmas_status rm_pack_parse(rm_pack **out, const char *text, size_t n, const char *name, rmas_error *err);
void rm_pack_close(rm_pack *p);
int rm_pack_n_section(const rm_pack *p);
const char *rm_pack_section(const rm_pack *p, int i); /* its name; in file order */

/* ---- rendered prompts ----------------------------------------------------------------------------------------------- */

typedef struct {
    bool is_slot;
    char *text; /* the text, or the role that sends into the slot */
    size_t n;
} rm_part;

/* Texts never touch: between two of them stands a slot. An empty prompt has no parts. */
typedef struct {
    rm_part *v;
    int n, cap;
    const char *section; /* where the lookup ended; belongs to the pack */
} rm_parts;
void rm_parts_free(rm_parts *p); /* fine on a zeroed struct, and again */

/* ---- lookup --------------------------------------------------------------------------------------------------------- */

typedef enum { RM_TASK_MATH, RM_TASK_CHOICE, RM_TASK_CODE } rm_task;
typedef enum { RM_FORM_PROGRAM, RM_FORM_NAMED, RM_FORM_UNNAMED } rm_form; /* of a code task */

rm_task rm_task_of_dataset(const char *dataset); /* mbppplus, livecodebench: code; medqa, gpqa: choice; else math */
bool rm_task_parse(const char *s, rm_task *out); /* "math", "choice", "code" */
bool rm_form_parse(const char *s, rm_form *out); /* "program", "named", "unnamed" */
const char *rm_task_name(rm_task t);

/* What a lookup depends on. */
typedef struct {
    rm_task task;
    rm_form form;
    const char *fn_name; /* of the form "named"; may be NULL */
    const char *question; /* may be NULL: "" */
    const char *const *option; /* option words in order ("question-first", "choice-2") */
    int n_option;
} rm_ask;

/* The user prompt of ROLE. feedback: the one with a slot for latents of the round before. text_mode: agents exchange text. */
rmas_status rm_pack_user(const rm_pack *p, const char *style, const char *role, bool feedback, bool text_mode, const rm_ask *ask, rm_parts *out,
                         rmas_error *err);
/* These append to out. An empty system prompt means: send no system message. */
rmas_status rm_pack_system(const rm_pack *p, const char *style, const char *role, bool text_mode, const rm_ask *ask, rm_strbuf *out, rmas_error *err);
rmas_status rm_pack_retry(const rm_pack *p, const char *style, const rm_ask *ask, rm_strbuf *out, rmas_error *err);
/* A question with example assertions (tests: one per line; NULL or "" leaves the question alone), with starter code (blank
 * leaves it alone), and with the choice note (once). */
rmas_status rm_pack_question_tests(const rm_pack *p, const char *question, const char *tests, rm_strbuf *out, rmas_error *err);
rmas_status rm_pack_question_starter(const rm_pack *p, const char *question, const char *starter, rm_strbuf *out, rmas_error *err);
rmas_status rm_pack_question_choice(const rm_pack *p, const char *question, rm_strbuf *out, rmas_error *err);
rmas_status rm_pack_search_off(const rm_pack *p, const char *query, rm_strbuf *out, rmas_error *err);
/* Any base names, the first that is found. */
rmas_status rm_pack_lookup(const rm_pack *p, const char *const *base, int n_base, const rm_ask *ask, rm_parts *out, rmas_error *err);

bool rm_question_lettered(const char *question, size_t n); /* a line opens like an answer option: "A. ", "b) " ... */
void rm_text_strip(const char **s, size_t *n, bool left, bool right); /* white space as Python's str.strip has it */

/* The slots must be exactly these roles, each once, in any order (E_SLOTS). */
rmas_status rm_parts_check(const rm_parts *p, const char *const *role, int n_role, rmas_error *err);
/* Text mode: each slot is replaced by text[i] of role[i], stripped at both ends. Appends to out. */
rmas_status rm_parts_fill(const rm_parts *p, const char *const *role, const rm_strbuf *const *text, int n_role, rm_strbuf *out, rmas_error *err);

/* ---- through the chat template -------------------------------------------------------------------------------------- */

/* A model's chat template with its variables. Read-only after opening. */
typedef struct rm_chat rm_chat;
typedef struct {
    bool enable_thinking;
    rm_date date; /* what the template's clock shows */
    const char *date_string; /* variable of Llama's template; NULL: undefined */
} rm_chat_options;
rmas_status rm_chat_new(rm_chat **out, const rm_tok *tok, const rm_chat_options *opt, const char *name, rmas_error *err);
/* The same without a tokenizer: bos, eos NULL or "": undefined. */
rmas_status rm_chat_parse(rm_chat **out, const char *source, const char *bos, const char *eos, const rm_chat_options *opt, const char *name,
                          rmas_error *err);
void rm_chat_free(rm_chat *c);
/* The template's source and the texts of the special tokens ({"bos_token": "...", ...}) of a model folder (tokenizer.json
 * is not needed), a tokenizer.json or a .gguf file. The caller frees both (rm_free, json_decref). */
rmas_status rm_chat_source(char **source, json_t **tokens, const char *path, rmas_error *err);
/* [system, user] with add_generation_prompt; system NULL or "": no system message. A template that refuses a system
 * message ("Conversation roles must alternate") gets system + empty line + user as the user message. What a model wrote may
 * stand in user, so it may hold NULs. Appends to out. */
rmas_status rm_chat_render(const rm_chat *c, const char *system, const char *user, size_t n_user, rm_strbuf *out, rmas_error *err);

/* The rendered chat, cut at the slots: text[0] slot[0] text[1] ... slot[n_slot - 1] text[n_slot]. Each text is tokenised on
 * its own, without special tokens of the post-processor; empty text gives no ids. */
typedef struct {
    char **text;
    size_t *n_text;
    char **slot; /* the sending roles in the order of the prompt */
    int n_slot;
} rm_pieces;
void rm_pieces_free(rm_pieces *p); /* fine on a zeroed struct */

typedef rmas_status (*rm_chat_fn)(void *ctx, const char *system, const char *user, rm_strbuf *out, rmas_error *err);
/* Puts a marker that occurs nowhere else into each slot, renders, cuts. An error if the template drops, doubles or moves one. */
rmas_status rm_prompt_split(const rm_parts *user, const char *system, rm_chat_fn render, void *ctx, rm_pieces *out, rmas_error *err);
/* The usual case. */
rmas_status rm_prompt_chat(const rm_chat *c, const char *system, const rm_parts *user, rm_pieces *out, rmas_error *err);

#endif
