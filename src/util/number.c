#include "util/number.h"

#include <locale.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

static locale_t c_locale; /* stays until the end of the program */
static void make_c_locale(void) { c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0); }

/* The locale of this thread alone; 0 (and no change) if there is no memory for another. */
static locale_t enter(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_c_locale);
    return uselocale(c_locale);
}

double rm_number_parse(const char *s, char **end) {
    const locale_t was = enter();
    const double v = strtod(s, end);
    uselocale(was);
    return v;
}

int rm_number_print(char *to, size_t size, char form, int precision, double v) {
    const locale_t was = enter();
    const int n = form == 'e'   ? snprintf(to, size, "%.*e", precision, v)
                  : form == 'g' ? snprintf(to, size, "%.*g", precision, v)
                                : snprintf(to, size, "%.*f", precision, v);
    uselocale(was);
    return n;
}
