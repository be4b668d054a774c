#include "util/rng.h"

#include <math.h>

double rm_rng_normal(rm_rng *r) {
    double u = 1.0 - rm_rng_double(r), v = rm_rng_double(r);
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v);
}
