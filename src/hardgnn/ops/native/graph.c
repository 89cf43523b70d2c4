/* Propagation over the graphs: a layer and its gradient, each in one pass over the edges and the tables.

   Tables are whole; the rows of the matrices, and of `negative` and `through`, stand for the rows that have an edge, which
   `rows` and `from` (of the other side) name. Numbers of rows that have none are never read. */

#include "vectors.h"

/* sum (d,) = the edges' values times what their columns stand for: rows of x, skipping those that nothing is asked of. */
static inline void gather(long row, const int32_t *offsets, const int32_t *columns, const float *values,
                          const int64_t *from, const float *x, long d, const int64_t *asked, float *sum) {
    long last = offsets[row + 1];
    for (long i = 0; i < d; i += LANES) store(sum + i, all(0));
    for (long e = offsets[row]; e < last; e++) {
        long column = columns[e];
        if (asked && asked[column] < 0) continue;
        const float *one = x + (from ? from[column] : column) * d, value = values ? values[e] : 1.f;
        for (long i = 0; i < d; i += LANES) store(sum + i, load(sum + i) + value * load(one + i));
    }
}

/* to[k] = x[k], times `factor` where the k-th asked row has no edge. x is the table (n, d), or with `spread` the gradient
   of the asked rows (k, d), and `to` the other. */
int hardgnn_ends(long first, long last, const int64_t *asked, const int64_t *active, long d, float factor, long spread,
                  const float *x, float *to) {
    for (long k = first; k < last; k++) {
        long row = asked ? asked[k] : k, read = spread ? k : row, write = spread ? row : k;
        float times = active[row] < 0 ? factor : 1.f;
        for (long i = 0; i < d; i += LANES) store(to + write * d + i, times * load(x + read * d + i));
    }
    return 0;
}

/* Rows first to last - 1, of the list `only` where there is one, of z = leaky(A x), e = z + own: next = e and
   total[place] += e, where these are there; `negative` is -1 for each z below zero, else 0. */
int hardgnn_layer(long first, long last, const int64_t *only, const int32_t *offsets, const int32_t *columns,
                   const float *values, const int64_t *rows, const int64_t *from, const float *x, const float *own,
                   long d, float slope, float *next, const int64_t *place, float *total, int8_t *negative) {
    float sum[d];
    for (long k = first; k < last; k++) {
        long edge = only ? only[k] : k, row = rows[edge], at = place ? place[row] : row;
        gather(edge, offsets, columns, values, from, x, d, NULL, sum);
        for (long i = 0; i < d; i += LANES) {
            vec z = load(sum + i);
            ints below = z < 0.f;
            vec e = chosen(below, slope * z, z) + load(own + row * d + i);
            if (next) store(next + row * d + i, e);
            if (at >= 0) store(total + at * d + i, load(total + at * d + i) + e);
            if (negative) *(bytes *)(negative + edge * d + i) = __builtin_convertvector(below, bytes);
        }
    }
    return 0;
}

/* through = g, times the slope where `negative` says so: the gradient through the LeakyReLU. */
int hardgnn_through(long first, long last, const int64_t *rows, long d, float slope, const float *g,
                     const int8_t *negative, float *through) {
    for (long k = first; k < last; k++)
        for (long i = 0; i < d; i += LANES) {
            ints below = __builtin_convertvector(*(const bytes *)(negative + k * d + i), ints);
            vec x = load(g + rows[k] * d + i);
            store(through + k * d + i, chosen(below, slope * x, x));
        }
    return 0;
}

/* g += A through, + grad[place] where there is one. */
int hardgnn_gather(long first, long last, const int32_t *offsets, const int32_t *columns, const float *values,
                    const float *through, const int64_t *asked, const int64_t *rows, long d, const int64_t *place,
                    const float *grad, float *g) {
    float sum[d];
    for (long k = first; k < last; k++) {
        long row = rows[k], at = place ? place[row] : row;
        gather(k, offsets, columns, values, NULL, through, d, asked, sum);
        for (long i = 0; i < d; i += LANES) {
            vec more = load(sum + i) + load(g + row * d + i);
            if (at >= 0) more += load(grad + at * d + i);
            store(g + row * d + i, more);
        }
    }
    return 0;
}
