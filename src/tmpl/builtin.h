/* Tables of filters, tests, global functions and methods. */
#ifndef RM_TMPL_BUILTIN_H
#define RM_TMPL_BUILTIN_H

#include "tmpl/run.h"

/* a: one slot per parameter, V_ABSENT where nothing was given; without a list of parameters all->v. */
typedef bool (*rm_builtin)(rm_run *r, rm_val *a, const rm_args *all, rm_val *out);
typedef struct rm_entry {
    const char *name;
    const char *params; /* names in order, separated by one space, at most RM_MAX_PARAMS; NULL: takes what comes */
    int required;
    rm_builtin fn;
} rm_entry;
enum { RM_MAX_PARAMS = 8 };

const rm_entry *rm_tmpl_entry_find(const rm_entry *table, size_t n_table, const char *s, size_t n);
const rm_entry *rm_tmpl_filter_find(const char *s, size_t n);
const rm_entry *rm_tmpl_filter_seq_find(const char *s, size_t n); /* the second half of the filters: those of sequences */
const rm_entry *rm_tmpl_test_find(const char *s, size_t n);
const rm_entry *rm_tmpl_global_find(const char *s, size_t n);
const rm_entry *rm_tmpl_method_find(const rm_val *of, const char *s, size_t n);

/* Arguments of built-ins. They fail with a message that names the parameter. */
bool rm_tmpl_arg_str(rm_run *r, const rm_val *v, const char *what, const char **s, size_t *n);
bool rm_tmpl_arg_int(rm_run *r, const rm_val *v, const char *what, int64_t *out);

#endif
