/* The shapes of rm_forms as constants, for bodies that are compiled once per form: X(form, bits, high, sub, min, super, table, shift). */
#ifndef RM_KERN_SHAPES_H
#define RM_KERN_SHAPES_H

#include "kern/form.h"

#define RM_SHAPES(X)                                                                                                                                 \
    X(RM_FORM_Q4_0, 4, 0, 32, false, false, false, 3)                                                                                                \
    X(RM_FORM_Q4_1, 4, 0, 32, true, false, false, 0)                                                                                                 \
    X(RM_FORM_Q5_0, 4, 1, 32, false, false, false, 4)                                                                                                \
    X(RM_FORM_Q5_1, 4, 1, 32, true, false, false, 0)                                                                                                 \
    X(RM_FORM_Q8_0, 8, 0, 32, false, false, false, 7)                                                                                                \
    X(RM_FORM_IQ4_NL, 4, 0, 32, false, false, true, 7)                                                                                               \
    X(RM_FORM_Q2_K, 4, 0, 16, true, true, false, 0)                                                                                                  \
    X(RM_FORM_Q3_K, 4, 0, 16, false, true, false, 2)                                                                                                 \
    X(RM_FORM_Q4_K, 4, 0, 32, true, true, false, 0)                                                                                                  \
    X(RM_FORM_Q5_K, 4, 1, 32, true, true, false, 0)                                                                                                  \
    X(RM_FORM_Q6_K, 4, 2, 16, false, true, false, 5)                                                                                                 \
    X(RM_FORM_IQ4_XS, 4, 0, 32, false, true, true, 7)

#endif
