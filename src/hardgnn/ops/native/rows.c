/* Some rows of a table under AdamW: what steps without a gradient have done to them, and one with. */

#include "vectors.h"

#include <math.h>

#define NUMBERS 13 /* of each kind of row, in `since` */

/* Rows first to last - 1 of the tables (.., d), each of a kind: decayed, moved by their momentum, averaged. `mean` may be
   missing. */
int hardgnn_rows_drift(long first, long last, long d, const int64_t *rows, const int64_t *kinds, const float *since,
                       float *table, float *firsts, float *seconds, float *means) {
    for (long r = first; r < last; r++) {
        const float *s = since + kinds[r] * NUMBERS;
        float *restrict x = table + rows[r] * d, *restrict m = firsts + rows[r] * d, *restrict v = seconds + rows[r] * d;
        if (means) {
            float *restrict mean = means + rows[r] * d;
            for (long c = 0; c < d; c++) {
                float root = sqrtf(v[c]);
                mean[c] = s[1] * mean[c] + s[2] * x[c] - m[c] * (s[9] * root + s[10]) / (v[c] + s[11] * root + s[12]);
            }
        }
        for (long c = 0; c < d; c++) {
            float root = sqrtf(v[c]);
            x[c] = s[0] * x[c] - m[c] * (s[5] * root + s[6]) / (v[c] + s[7] * root + s[8]);
            m[c] *= s[3], v[c] *= s[4];
        }
    }
    return 0;
}

/* One step of AdamW with the gradients (n, d) of these rows. Its numbers are β1 and what it leaves,
   β2 and what it leaves, the decay, the rate over what m lacks, the root of what v lacks, ε, and what the average takes. */
int hardgnn_rows_step(long first, long last, long d, const int64_t *rows, const float *gradients, const float *numbers,
                      float *table, float *firsts,
                      float *seconds, float *means) {
    const float beta = numbers[0], fresh = numbers[1], gamma = numbers[2], squared = numbers[3], decay = numbers[4];
    const float size = numbers[5], root = numbers[6], epsilon = numbers[7], taken = numbers[8];
    for (long r = first; r < last; r++) {
        const float *restrict g = gradients + r * d;
        float *restrict x = table + rows[r] * d, *restrict m = firsts + rows[r] * d, *restrict v = seconds + rows[r] * d;
        for (long c = 0; c < d; c++) {
            m[c] = beta * m[c] + fresh * g[c];
            v[c] = gamma * v[c] + squared * g[c] * g[c];
            x[c] = decay * x[c] - size * m[c] / (sqrtf(v[c]) / root + epsilon);
        }
        if (means) {
            float *restrict mean = means + rows[r] * d;
            for (long c = 0; c < d; c++) mean[c] += taken * (x[c] - mean[c]);
        }
    }
    return 0;
}
