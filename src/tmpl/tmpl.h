/* Chat templates: the subset of Jinja2 that real templates use. Knows no tokenizer. */
#ifndef RM_TMPL_TMPL_H
#define RM_TMPL_TMPL_H

#include <jansson.h>

#include "util/error.h"
#include "util/strbuf.h"

typedef struct rm_tmpl rm_tmpl;

/* Parses. name: for messages. Unsupported constructs are named with their line. */
rmas_status rm_tmpl_new(rm_tmpl **out, const char *source, size_t n, const char *name, rmas_error *err);
void rm_tmpl_free(rm_tmpl *t);

/* vars: an object; each key is a variable (messages, add_generation_prompt, bos_token ...), absent ones are undefined.
 * date: what strftime_now sees. Bounded in steps, depth and output size. raise_exception gives RMAS_E_ARG with its text. */
typedef struct {
    int year, month, day;
} rm_date;
rmas_status rm_tmpl_render(const rm_tmpl *t, const json_t *vars, rm_date date, rm_strbuf *out, rmas_error *err);

rm_date rm_date_today(void); /* local time */
bool rm_date_parse(const char *s, rm_date *out); /* YYYY-MM-DD */

#endif
