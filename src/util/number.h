/* Numbers as text with a decimal point, whatever the locale of the program around us says. */
#ifndef RM_UTIL_NUMBER_H
#define RM_UTIL_NUMBER_H

#include <stddef.h>

/* As strtod. */
double rm_number_parse(const char *s, char **end);
/* As snprintf of "%.*e" or "%.*g" by `form`, with any other letter "%.*f". */
int rm_number_print(char *to, size_t size, char form, int precision, double v);

#endif
