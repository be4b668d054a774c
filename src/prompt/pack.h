/* The inside of a prompt pack, for its reader (pack.c, pack_check.c) and its lookups (lookup.c). */
#ifndef RM_PROMPT_PACK_H
#define RM_PROMPT_PACK_H

#include "prompt.h"

typedef enum {
    PART_TEXT,
    PART_QUESTION,
    PART_CHOICE_QUESTION,
    PART_FN_NAME,
    PART_TESTS,
    PART_STARTER,
    PART_QUERY,
    PART_SLOT,
    PART_INCLUDE
} rm_pack_part_kind;

typedef struct {
    rm_pack_part_kind kind;
    const char *s; /* text, role or path: into the pack's text */
    size_t n;
} rm_pack_part;

typedef struct {
    char *name; /* with "@word" */
    size_t n_name, n_path; /* n_path: up to the "@" */
    int line;
    int first, n_part; /* of rm_pack.part */
    int next; /* the next section with the same path, in file order; -1: none */
} rm_pack_section_;

struct rm_pack {
    char *name; /* for messages */
    char *text; /* the file */
    size_t n_text;
    rm_pack_section_ *section;
    int n_section, cap_section;
    rm_pack_part *part;
    int n_part, cap_part;
    int *by_name, *by_path; /* hash tables of section numbers, -1: empty; by_path: the first with the path */
    size_t n_slot; /* size of both, a power of two */
    int note, mark; /* sections choice-note and choice-mark, -1: none */
};

enum { RM_PACK_MAX_BYTES = 1 << 20, RM_PACK_MAX_DEPTH = 16 };

/* "NAME: line N: CODE: message"; line 0: no line is to blame. Returns RMAS_E_FORMAT. */
rmas_status rm_pack_fail(const rm_pack *p, rmas_error *err, const char *code, int line, const char *fmt, ...) __attribute__((format(printf, 5, 6)));
int rm_pack_find_name(const rm_pack *p, const char *name, size_t n); /* section number, -1: none */
int rm_pack_find_path(const rm_pack *p, const char *path, size_t n); /* the first section with this path, any "@word" */
rmas_status rm_pack_check(const rm_pack *p, rmas_error *err); /* includes and choice sections */
bool rm_pack_is_marked(const rm_pack *p, const char *text, size_t n); /* holds a phrase of choice-mark */
void rm_pack_plain(const rm_pack *p, int section, rm_strbuf *out); /* the text of a section without placeholders */

#endif
