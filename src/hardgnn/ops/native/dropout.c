/* Dropout in one pass over the numbers. */

#include "vectors.h"

/* to = x * scale where the random number is not below `dropped`, else 0. */
int hardgnn_dropout(long first, long last, const int16_t *drawn, long dropped, float scale, const float *x, float *to) {
    int16_t least = (int16_t)dropped;
    for (long i = first; i < last; i++) to[i] = drawn[i] >= least ? x[i] * scale : 0.f;
    return 0;
}
