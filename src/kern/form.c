#include "kern/form.h"

const rm_form_info rm_forms[RM_FORM_COUNT + 1] = {
    [RM_FORM_Q4_0] = {.bits = 4, .shift = 3, .sub = 32},
    [RM_FORM_Q4_1] = {.bits = 4, .sub = 32, .min = true},
    [RM_FORM_Q5_0] = {.bits = 4, .high = 1, .shift = 4, .sub = 32},
    [RM_FORM_Q5_1] = {.bits = 4, .high = 1, .sub = 32, .min = true},
    [RM_FORM_Q8_0] = {.bits = 8, .shift = 7, .sub = 32},
    [RM_FORM_IQ4_NL] = {.bits = 4, .shift = 7, .sub = 32, .table = true},
    [RM_FORM_Q2_K] = {.bits = 4, .sub = 16, .min = true, .super = true},
    [RM_FORM_Q3_K] = {.bits = 4, .shift = 2, .sub = 16, .super = true},
    [RM_FORM_Q4_K] = {.bits = 4, .sub = 32, .min = true, .super = true},
    [RM_FORM_Q5_K] = {.bits = 4, .high = 1, .sub = 32, .min = true, .super = true},
    [RM_FORM_Q6_K] = {.bits = 4, .high = 2, .shift = 5, .sub = 16, .super = true},
    [RM_FORM_IQ4_XS] = {.bits = 4, .shift = 7, .sub = 32, .super = true, .table = true},
    [RM_FORM_TURNED_7] = {.bits = 7, .shift = 6, .sub = 32},
};

/* the values of IQ4_NL, + 128 */
const uint8_t rm_iq4nl[16] = {1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241};
