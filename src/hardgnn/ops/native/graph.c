/* Propagation over the graphs: a layer and its gradient, each in one pass over the edges and the tables.

   Rows that have an edge are numbered, and the tables of layers and of gradients hold these alone; `rows` names the row of
   the whole table that each stands for, `place` the asked row, -1 for none. With `half` tables hold bfloat16 numbers. */

#include "vectors.h"

#define INLINE static inline __attribute__((always_inline))
#define TOGETHER 4 /* vectors of a row that are added up at a time */

INLINE vec get(const void *table, long i, long half) {
    return half ? widened((const uint16_t *)table + i) : load((const float *)table + i);
}

INLINE void put(void *table, long i, long half, vec x) {
    half ? narrowed((uint16_t *)table + i, x) : store((float *)table + i, x);
}

/* sums = n vectors, from number i on, of what a row's edges lead to: rows of x, that `from` names, skipping those below 0;
   times their values, and `slope` where `negative` (16 numbers each) of the edge's column says so. */
INLINE void gather(vec *sums, long n, long i, long row, const int32_t *offsets, const int32_t *columns,
                   const float *values, const int64_t *from, const void *x, long half, long d,
                   const uint16_t *negative, float slope) {
    for (long v = 0; v < n; v++) sums[v] = all(0);
    for (long e = offsets[row], last = offsets[row + 1]; e < last; e++) {
        long column = columns[e], at = from ? from[column] : column;
        if (at < 0) continue;
        float value = values ? values[e] : 1.f;
        for (long v = 0; v < n; v++) {
            vec times = all(value);
            if (negative) times = marked(negative[(column * d + i) / LANES + v], all(value * slope), times);
            sums[v] += times * get(x, at * d + i + v * LANES, half);
        }
    }
}

/* Calls ROW(i, n) for the vectors of a row: `TOGETHER` at a time, then one. */
#define EACH_PART(ROW)                                              \
    long i = 0;                                                     \
    for (; i + TOGETHER * LANES <= d; i += TOGETHER * LANES) ROW(TOGETHER); \
    for (; i < d; i += LANES) ROW(1)

/* to[k] = x[row k] as bfloat16. */
int hardgnn_rounded(long first, long last, const int64_t *rows, long d, const float *x, uint16_t *to) {
    for (long k = first; k < last; k++)
        for (long i = 0; i < d; i += LANES) narrowed(to + k * d + i, load(x + rows[k] * d + i));
    return 0;
}

/* Rows without an edge stay as they are in all layers: to[k] = factor * x[asked k] (all, where there is no list) of these;
   of the others once, where there are no layers. */
int hardgnn_ends(long first, long last, const int64_t *asked, const int64_t *active, long d, long layers, const float *x,
                 float *to) {
    for (long k = first; k < last; k++) {
        long row = asked ? asked[k] : k;
        if (active[row] >= 0 && layers) continue;
        for (long i = 0; i < d; i += LANES) store(to + k * d + i, (layers + 1.f) * load(x + row * d + i));
    }
    return 0;
}

/* The gradient of that: to[row] = factor * grad[place row] (the row itself, where there is no list), or zeros. */
int hardgnn_ends_gradient(long first, long last, const int64_t *place, const int64_t *active, long d, long layers,
                          const float *grad, float *to) {
    for (long row = first; row < last; row++) {
        long k = place ? place[row] : row;
        if (active[row] >= 0 && layers) continue;
        for (long i = 0; i < d; i += LANES)
            if (k < 0)
                store(to + row * d + i, all(0));
            else
                store(to + row * d + i, (layers + 1.f) * load(grad + k * d + i));
    }
    return 0;
}

INLINE void layer(long first, long last, const int64_t *only, const int32_t *offsets, const int32_t *columns,
                  const float *values, const int64_t *from, const void *x, const int64_t *own_rows, const void *own,
                  long d, float slope, long half, void *next, uint16_t *negative, const int64_t *rows,
                  const int64_t *place, const float *table, void *const *between, long count, float *total) {
    for (long k = first; k < last; k++) {
        long row = only ? only[k] : k, mine = own_rows ? own_rows[row] : row, whole = rows[row];
        long at = place ? place[whole] : whole;
#define ROW(n)                                                                                               \
    do {                                                                                                     \
        vec sums[n];                                                                                         \
        gather(sums, n, i, row, offsets, columns, values, from, x, half, d, NULL, 0);                        \
        for (long v = 0; v < n; v++) {                                                                       \
            long j = i + v * LANES;                                                                          \
            ints below = sums[v] < 0.f;                                                                      \
            vec e = chosen(below, slope * sums[v], sums[v]) + get(own, mine * d + j, half);                  \
            if (negative) negative[(row * d + j) / LANES] = marks(below);                                    \
            if (next) put(next, row * d + j, half, e);                                                       \
            if (!total) continue;                                                                            \
            vec sum = load(table + whole * d + j);                                                           \
            for (long l = 0; l < count; l++) sum += get(between[l], row * d + j, half);                      \
            store(total + at * d + j, sum + e);                                                              \
        }                                                                                                    \
    } while (0)
        EACH_PART(ROW);
#undef ROW
    }
}

/* Rows first to last - 1, of the list `only` where there is one, of z = leaky(A x), e = z + own: next = e; or at the top
   total[place] = table + the layers between + e. `negative`, where it is there, marks each z below zero. */
int hardgnn_layer(long first, long last, const int64_t *only, const int32_t *offsets, const int32_t *columns,
                  const float *values, const int64_t *from, const void *x, const int64_t *own_rows, const void *own,
                  long d, float slope, long half, void *next, uint16_t *negative, const int64_t *rows,
                  const int64_t *place, const float *table, void *const *between, long count, float *total) {
#define LAYER(half)                                                                                              \
    layer(first, last, only, offsets, columns, values, from, x, own_rows, own, d, slope, half, next, negative, rows, \
          place, table, between, count, total)
    if (half)
        LAYER(1);
    else
        LAYER(0);
    return 0;
}

INLINE void gradient(long first, long last, const int32_t *offsets, const int32_t *columns, const float *values,
                     const int64_t *from, const void *x, long of_x, const uint16_t *negative, const void *own,
                     long of_own, const int64_t *place, float times, const float *grad, long d, float slope,
                     const int64_t *rows, void *to, long of_to) {
    for (long k = first; k < last; k++) {
        long at = place[k], row = rows ? rows[k] : k;
#define ROW(n)                                                                                     \
    do {                                                                                           \
        vec sums[n];                                                                               \
        gather(sums, n, i, k, offsets, columns, values, from, x, of_x, d, negative, slope);        \
        for (long v = 0; v < n; v++) {                                                             \
            long j = i + v * LANES;                                                                \
            if (own) sums[v] += get(own, k * d + j, of_own);                                       \
            if (at >= 0) sums[v] += times * load(grad + at * d + j);                               \
            put(to, row * d + j, of_to, sums[v]);                                                  \
        }                                                                                          \
    } while (0)
        EACH_PART(ROW);
#undef ROW
    }
}

/* The gradient of the layer below: to = A (x through the LeakyReLU) + own + times * grad[place], of rows first to last - 1.
   x is the gradient of the layer above, at the top `grad` of the other side, that `from` names; where `rows` is there, to is
   the gradient of the whole table. With `half`, x unless `from` is there, own, and to unless `rows` is there are so. */
int hardgnn_layer_gradient(long first, long last, const int32_t *offsets, const int32_t *columns, const float *values,
                           const int64_t *from, const void *x, const uint16_t *negative, const void *own,
                           const int64_t *place, float times, const float *grad, long d, float slope, long half,
                           const int64_t *rows, void *to) {
#define GRADIENT(of_x, of_own, of_to)                                                                              \
    gradient(first, last, offsets, columns, values, from, x, of_x, negative, own, of_own, place, times, grad, d, slope, \
             rows, to, of_to)
    if (!half)
        GRADIENT(0, 0, 0);
    else if (from)
        rows ? GRADIENT(0, 1, 0) : GRADIENT(0, 1, 1);
    else
        rows ? GRADIENT(1, 1, 0) : GRADIENT(1, 1, 1);
    return 0;
}
