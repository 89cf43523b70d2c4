/* Products of pairs of rows, and their gradient, without the rows gathered. */

#include "vectors.h"

/* products[p] = the sum over d of leaky(left[rows[p]] * right[columns[p]]); d is a multiple of 16. */
int hardgnn_pairs(long first, long last, long d, float slope, const float *left, const float *right,
                  const int64_t *rows, const int64_t *columns, float *products) {
    for (long p = first; p < last; p++) {
        const float *one = left + rows[p] * d, *other = right + columns[p] * d;
        vec sum = all(0);
        for (long i = 0; i < d; i += LANES) {
            vec z = load(one + i) * load(other + i);
            sum += chosen(z > 0.f, z, slope * z);
        }
        products[p] = sum_of(sum);
    }
    return 0;
}

/* Added to d_left and d_right: the gradient of the products, of which `grad` is that of pairs first to last - 1. */
int hardgnn_pairs_gradient(long first, long last, long d, float slope, const float *left, const float *right,
                           const int64_t *rows, const int64_t *columns, const float *grad, float *d_left,
                           float *d_right) {
    for (long p = first; p < last; p++) {
        if (grad[p] == 0.f) continue;
        const float *one = left + rows[p] * d, *other = right + columns[p] * d;
        float *to = d_left + rows[p] * d, *and = d_right + columns[p] * d;
        for (long i = 0; i < d; i += LANES) {
            vec x = load(one + i), y = load(other + i), g = chosen(x * y > 0.f, all(grad[p]), all(slope * grad[p]));
            store(to + i, load(to + i) + g * y);
            store(and + i, load(and + i) + g * x);
        }
    }
    return 0;
}
