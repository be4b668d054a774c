/* What filters and methods of strings share. All arguments are string values. */
#ifndef RM_TMPL_STRINGS_H
#define RM_TMPL_STRINGS_H

#include "tmpl/run.h"
#include "tmpl/text.h"

bool rm_tmpl_str_case(rm_run *r, const rm_val *s, rm_case how, rm_val *out);
bool rm_tmpl_str_replace(rm_run *r, const rm_val *s, const rm_val *from, const rm_val *to, int64_t count, rm_val *out); /* count < 0: all */
/* align -1: text at the left, 0: in the middle as str.center has it, 1: at the right */
bool rm_tmpl_str_pad(rm_run *r, const rm_val *s, int64_t width, const char *fill, size_t n_fill, int align, rm_val *out);
bool rm_tmpl_str_lines(rm_run *r, const rm_val *s, bool keep_ends, rm_val *out); /* str.splitlines: a list */
bool rm_tmpl_str_split(rm_run *r, const rm_val *s, const rm_val *sep, int64_t max, bool from_right, rm_val *out); /* sep NULL: white space */
bool rm_tmpl_str_join(rm_run *r, const rm_val *sep, const rm_val *items, uint32_t n, rm_val *out); /* items as text */

#endif
