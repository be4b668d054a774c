/* Inside the graders: the table of patterns, and what the files of the scorers share. */
#ifndef RM_EVAL_SCORER_H
#define RM_EVAL_SCORER_H

#include "eval/grade.h"
#include "eval/regex.h"
#include "eval/unicode.h"

/* Quantifiers are possessive wherever giving back cannot help: it keeps the time linear. */
#define RM_PATTERNS(X)                                                                                                                               \
    /* reference scorer */                                                                                                                           \
    X(FINAL_ANSWER, RM_RE_I | RM_RE_M, "Final\\s+Answer\\s*:\\s*(.+)$")                                                                              \
    X(FINAL_CHOICE, RM_RE_I | RM_RE_M, "Final\\s*(?:Choice|Answer)\\s*:\\s*(.+)$")                                                                   \
    X(KEYWORD_LETTER, RM_RE_I, "(?:choice|option|answer)\\s*+[:\\-]?+\\s*+[(\\[]?+\\s*+([A-Da-d])\\b")                                               \
    X(FIRST_LETTER, 0, "\\s*+[(\\[]?+\\s*+([A-Da-d])(?:\\s*+[)\\]:.\\-]|$)")                                                                         \
    X(OPTION_LABEL, RM_RE_I, "\\s*+[A-D]\\s*+[.):\\-]\\s*+")                                                                                         \
    X(LATEX_TEXT, 0, "\\\\text\\{([^{}]*+)\\}")                                                                                                      \
    X(LATEX_FRAC, 0, "\\\\frac\\{\\s*+(-?\\d++)\\s*+\\}\\{\\s*+(-?\\d++)\\s*+\\}")                                                                   \
    X(ARTICLES, 0, "\\b(?:a|an|the)\\b")                                                                                                             \
    X(ORDINAL, 0, "\\b(\\d{1,2})(?:st|nd|rd|th)\\b")                                                                                                 \
    X(HAS_YEAR, 0, "\\b\\d{4}\\b")                                                                                                                   \
    X(HAS_MONTH, 0,                                                                                                                                  \
      "\\b(?:january|jan|february|feb|march|mar|april|apr|may|june|jun|july|jul|august|aug|september|sep|october|oct|november|nov|december|dec)\\b") \
    X(HAS_DD, 0, "\\b\\d{1,2}[/\\-]\\d{1,2}(?:[/\\-]\\d{2,4})?\\b")                                                                                  \
    X(HAS_DAY, 0, "\\b\\d{1,2}\\b")                                                                                                                  \
    X(THINK_OPEN, RM_RE_I, "<think>")                                                                                                                \
    X(THINK_CLOSE, RM_RE_I, "</think>")                                                                                                              \
    X(PYTHON_FENCE, RM_RE_I, "```python")                                                                                                            \
    RM_STRICT_PATTERNS(X)

#define RM_STRICT_PATTERNS(X)

enum {
#define X(name, flags, pattern) RE_##name,
    RM_PATTERNS(X)
#undef X
        RM_N_PATTERN
};

struct rm_grader {
    rm_re *re[RM_N_PATTERN];
};

/* Reference scorer, data sets whose answers are words: the normal form by dateutil's rules; "" if it is no date. */
void rm_ref_date(const rm_grader *g, rm_sv lowered, rm_strbuf *out);

#endif
