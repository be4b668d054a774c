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

#define RM_STRICT_PATTERNS(X)                                                                                                                        \
    X(ST_MARKDOWN_ENDS, 0, "^(?:\\*\\*|__|`)+|(?:\\*\\*|__|`)+$")                                                                                    \
    X(ST_MATH_BRACKETS, 0, "\\\\[()\\[\\]]")                                                                                                         \
    X(ST_MONEY, 0, "(?<!\\\\)\\$(?=\\s*\\d[\\d,.]*\\s*$)")                                                                                           \
    X(ST_THOUSANDS, 0, "(?<![\\d.,])([1-9]\\d{0,2})((?:(?:,\\\\!\\s*|\\{,\\}|,\\\\,|\\\\,|\\\\ |\\\\;|,| )\\d{3})+)(?![\\d])(?!,\\d)(?!\\.\\d+,)")   \
    X(ST_PAIR, 0, "[(\\[{]\\s*-?\\s*\\d{1,3},\\d{3}\\s*(?:[)\\]]|\\\\\\})")                                                                          \
    X(ST_SPACING, 0,                                                                                                                                 \
      "(?<!\\\\)\\\\[!,;:> "                                                                                                                         \
      "]|\\\\q?quad\\b|\\\\(?:thinspace|medspace|thickspace|negthinspace|enspace|hfill|null)\\b|\\\\[hv]space\\*?\\{[^{}]*\\}|\\\\[hv]?phantom\\{[^" \
      "{}]*\\}|~")                                                                                                                                   \
    X(ST_SIZING, 0,                                                                                                                                  \
      "\\\\(?:left|right|middle)\\s*\\.|\\\\(?:left|right|middle)(?![A-Za-z])|\\\\[bB]igg?[lrm]?(?![A-Za-z])|\\\\(?:display|text|script)style\\b|"   \
      "\\\\(?:no)?limits\\b|\\\\boxed(?![A-Za-z])")                                                                                                  \
    X(ST_FRAC, 0, "\\\\[dtc]frac\\b")                                                                                                                \
    X(ST_ANY_FRAC, 0, "\\\\[dtc]frac")                                                                                                               \
    X(ST_TEXT_VALUE, 0, "(?:[\\d\\s.,/+*^%\\-]|\\\\dollar|\\\\circ|\\\\%)*+|\\s*\\\\[a-zA-Z]+\\s*\\{.*\\}\\s*")                                      \
    X(ST_STARTS_NUMBER, 0, "\\s*(?:\\\\dollar\\s*)?[\\-+]?(?:\\d|\\.\\d)")                                                                           \
    X(ST_NUMBER_WORDS, RM_RE_S, "\\s*((?:\\\\dollar\\s*)?[\\-+]?[\\d.]+(?:\\s*/\\s*\\d+)?)\\s*([\\p{L}\\p{Nl}\\p{No}].*)$")                          \
    X(ST_WORD, 0, "[\\p{L}\\p{Nl}\\p{No}]+(?:'[a-z]+)?")                                                                                             \
    X(ST_NUMBER, 0, "(?:\\d+\\.\\d+|\\.\\d+|\\d+\\.(?=\\\\(?:overline|bar)\\b)|\\d+)(?:[eE][+\\-]?\\d+(?![A-Za-z\\d.]))?")                           \
    X(ST_TEXT_COMMAND, 0, "\\\\(?:text|mbox|textbf|textrm|textit|mathrm|mathbf|operatorname|emph)\\b")                                               \
    X(ST_TEXT_SIGNS, 0, "\\\\[,;:! ]|[\\\\${}*_`\"]")                                                                                                \
    X(ST_NON_WORDS, 0, "[^\\w]+")                                                                                                                    \
    X(ST_UNIT_WORDS, 0, "[\\p{L}\\p{Nl}\\p{No}]+(?:'s)?|/|-")                                                                                        \
    X(ST_UNIT_STRANGE, 0, "[^\\w\\s/.,'^{}()\\-]")                                                                                                   \
    X(ST_UNIT_WRONG, 0, "[,(]\\s*\\d|^\\d|^[\\-*/(^]|\\bnot\\b|\\bor\\b|\\band\\b")                                                                  \
    X(ST_UNIT_POWER, 0, "\\^\\s*\\{?\\s*([23])\\s*\\}?")                                                                                             \
    X(ST_DIGIT, 0, "\\d")                                                                                                                            \
    X(ST_SQUASH_COMMAND, 0, "\\\\(?:text|mbox|textbf|textrm|mathrm|mathbf|left|right)(?![A-Za-z])")                                                  \
    X(ST_SQUASH_MATH, 0, "\\\\[()\\[\\]]|\\$")                                                                                                       \
    X(ST_BETWEEN_DIGITS, 0, "(?<=\\d)\\s+(?=\\d)")                                                                                                   \
    X(ST_LETTER_DRESS, 0, "\\\\(?:text|mbox|textbf|textrm|mathrm|mathbf)\\b|[${}\\s\\\\]")                                                           \
    X(EX_BOX, 0, "\\\\(?:boxed|fbox)(?![A-Za-z])[ \\t]*+")                                                                                           \
    X(EX_GLUE, 0,                                                                                                                                    \
      "(?:\\s++|\\$|\\\\[()\\[\\],;:!]|\\\\q?quad|[,;&*]|\\\\ |~|\\b(?:and|or)\\b|\\\\(?:text|mbox|textbf)\\{\\s*(?:,|and|or|, and|, "               \
      "or)?\\s*\\}|[A-Za-z](?:_\\{?\\w\\}?)?\\s*=)*\\Z")                                                                                             \
    X(EX_MARK, RM_RE_I | RM_RE_M,                                                                                                                    \
      "(?:final\\s+answer\\W{0,6}?(?:is\\b)?[\\s:*]*(?=[^\\s:*])|####\\s*|\\b(?:the|my)\\s+(?:final\\s+|correct\\s+)?answer(?:\\s+to\\s+[^.\\n:]{1," \
      "60})?\\s+is\\b[\\s:*]*|^[ \\t>*_#]*answer[*_ ]*:[\\s*_]*)")                                                                                   \
    X(EX_AGAIN, RM_RE_I, "(?:the\\s+)?final\\s+answer\\s+is:?\\s*|(?:the\\s+)?answer\\s+is:?\\s*")                                                   \
    X(EX_SENTENCE, 0, "\\.(?:\\s*I hope it is correct\\.?|\\s+[A-Z].*)$")                                                                            \
    X(EX_LONG_SENTENCE, 0, "(?<=\\w\\w\\w\\w)\\.\\s+[A-Z].*$")                                                                                       \
    X(EX_BECAUSE, 0, "(?:,\\s*+|(?<!\\s)\\s++)(?:which|because|since|so|as)\\b.*$")                                                                  \
    X(EX_TEXT_COMMANDS, 0, "\\\\(?:text|textbf|textrm|mathrm|mathbf|boxed|mbox|bf|rm)\\b\\s*")                                                       \
    X(EX_LETTER_SIGNS, 0, "[${}*_`\\\\]|\\\\[()\\[\\]]")                                                                                             \
    X(EX_LETTER_LABEL, RM_RE_I, "(?:option|choice|answer)\\s*:?\\s*")                                                                                \
    X(EX_LETTER, RM_RE_S, "\\(?\\[?([A-Za-z])[\\])]?(?:\\s*$|\\s*[.:),].*$|\\s+-\\s.*$|(?<=[\\])])\\s.*$)")                                          \
    X(EX_SECOND_LETTER, 0, "[\\])]?\\s*(?:,|and\\b|or\\b|&|/)\\s*[\\[(]?[A-Da-d]\\b")                                                                \
    X(EX_CHOICE, RM_RE_I,                                                                                                                            \
      "(?:final\\s+(?:choice|answer)|correct\\s+(?:choice|option|answer)|best\\s+(?:choice|option|answer)|\\banswer|\\boption|\\bchoice)(?:\\s+is)?" \
      "[\\s:*\\-]*(?:option\\s+|choice\\s+)?(?:\\$?\\\\(?:text|textbf|mathbf|mathrm)\\{)?([(\\[*]{0,3})([A-Z])([)\\]*]{0,3})(?![A-Za-z'])")          \
    X(EX_LINE_END, 0, "[ .]*(?:\\n|$)")                                                                                                              \
    X(EX_OTHER_LETTER, 0, "\\s*(?:,|and|or|&|/)\\s*[\\[(]?[A-D]\\b")                                                                                 \
    X(EX_WORD_AFTER, 0, "\\s+[a-z]")                                                                                                                 \
    X(EX_REASON, 0, "\\s+(?:because|since|as|which|due|given|for|based)\\b")                                                                         \
    X(EX_BARE_LETTER, 0, "\\W*?([(\\[]?)([A-Z])(?:[)\\]]|[.:](?=\\s|$)|\\W*$)")                                                                      \
    X(EX_FENCE, 0, "^[ \\t]*+(`{3,}|~{3,})[ \\t]*([A-Za-z0-9_+#.\\-]*)[^\\n`]*$")                                                                    \
    X(EX_QA_COMMANDS, 0, "\\\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox|emph)\\b\\s*")                                                         \
    X(EX_QA_SPACING, 0, "\\\\[()\\[\\]]|\\\\[,;:!]")                                                                                                 \
    X(EX_QA_ESCAPES, 0, "\\\\([$%&_#{}])")                                                                                                           \
    X(EX_QA_BRACES, 0, "(?<!\\\\)[{}]|\\$(?!\\d)")

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
