/* Inside the running of programs: the Python around them, and comparison of what they give. */
#ifndef RM_EVAL_PROGRAM_H
#define RM_EVAL_PROGRAM_H

#include <stdbool.h>

#include "util/strbuf.h"

extern const char rm_py_imports[]; /* 36 lines: names that the tasks' programs may use without importing them */
extern const char rm_py_compile[]; /* exit status 3: prog.py does not compile */
extern const char rm_py_reference_call[]; /* the reference's way: one JSON record on standard output */
extern const char rm_py_strict_call[]; /* one JSON line per test on descriptor 3 */
extern const char rm_py_strict_script[]; /* program and test script; what happened goes to descriptor 3 */

/* Output of a program as text: line ends become LF. False if it is not UTF-8. */
bool rm_output_text(const rm_strbuf *raw, rm_strbuf *out);
/* Line by line; a line may also be equal as a list of decimal numbers (strict: plain ones only). */
bool rm_output_equal(const char *got, const char *want, bool strict);
/* Two JSON texts as Python values: true = 1, 3.0 = 3, order of keys does not matter. *valid: both are JSON. */
bool rm_json_equal(const char *a, const char *b, bool *valid);

#endif
