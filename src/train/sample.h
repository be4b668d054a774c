/* From a row of data to token ids: samples of the inner loop and stages of the outer loop. Owns the
 * masks and where they begin; knows no model, only tokenizers, chat templates and prompt packs. */
#ifndef RM_TRAIN_SAMPLE_H
#define RM_TRAIN_SAMPLE_H

#include "prompt/prompt.h"
#include "train/data.h"
#include "train/style.h"

/* How chats are made for one model. */
typedef struct {
    const rm_tok *tok;
    rm_tmpl *tmpl; /* NULL: a tokenizer without chat template */
    const char *name; /* for messages */
    bool enable_thinking;
    rm_date date;
} rm_train_chat;

rmas_status rm_train_chat_init(rm_train_chat *c, const rm_tok *tok, const char *name, bool enable_thinking, rm_date date, rmas_error *err);
void rm_train_chat_free(rm_train_chat *c);
/* The rendered chat: with the generation prompt, or with the assistant's text and without it (assistant not NULL). */
rmas_status rm_train_chat_render(const rm_train_chat *c, const char *system, const char *user, const char *assistant, rm_strbuf *out,
                                 rmas_error *err);

/* What the prompts of a row depend on beside the row. */
typedef struct {
    const rm_pack *pack;
    const rm_train_style *style;
    rm_task task; /* of the run */
    const char *const *option; /* option words of prompt packs */
    int n_option;
} rm_train_prompts;

/* ---- inner loop -------------------------------------------------------------------------------------------------------- */

typedef struct {
    rm_ids ids;
    int prompt_len;
    unsigned char *mask; /* [ids.n]: 1 where the token is a target of the link */
    char *text, *gold; /* the rendered chat and the assistant's text in it; NULL for raw text */
    const char *skipped; /* why the row does not count, or NULL */
} rm_inner_sample;

/* role < 0: data without a role (question and answer, or raw text). */
rmas_status rm_inner_sample_make(rm_inner_sample *out, const rm_train_prompts *p, const rm_train_chat *c, int role, const rm_rows *rows, size_t row,
                                 int max_length, rmas_error *err);
void rm_inner_sample_free(rm_inner_sample *s); /* fine on a zeroed struct */

/* ---- outer loop -------------------------------------------------------------------------------------------------------- */

/* One use of a model on prompt and gold text: piece[0] slot piece[1] ... slot piece[n_slot]. prompt_piece: the chat up to the
 * generation prompt, cut in the same way. */
typedef struct {
    int n_slot, sender[RM_TRAIN_ROLES]; /* roles */
    rm_ids piece[RM_TRAIN_ROLES + 1], prompt_piece[RM_TRAIN_ROLES + 1];
    int n_full, n_prompt; /* ids in all pieces */
} rm_train_stage;

/* stage[role][0]: the prompt of the first round; [1]: with feedback, for roles that get any. */
typedef struct {
    rm_train_stage stage[RM_TRAIN_ROLES][2];
    const char *skipped;
} rm_outer_sample;

/* chat: one per role. */
rmas_status rm_outer_sample_make(rm_outer_sample *out, const rm_train_prompts *p, const rm_train_chat *chat, const rm_rows *rows, size_t row,
                                 rmas_error *err);
void rm_outer_sample_free(rm_outer_sample *s);

#endif
