/* Transitions: what the items of a history reach, by the edges that there are and no others. */

#include "vectors.h"

/* Histories first to last - 1, weights of items in rows (B, I), times the edges S (I, items): scores (B, items) +=
   strength * log(1 + x / epsilon) of what they reach. Other than 0 where there is no memory. */
int hardgnn_reach(long first, long last, const int32_t *offsets, const int32_t *items_of, const float *weights,
                  const int32_t *edges, const int32_t *columns, const float *values, long items, float strength,
                  float epsilon, float *scores) {
    float *x = calloc(items + LANES, sizeof(float)), *packed = malloc(sizeof(float) * (items + LANES));
    int32_t *reached = malloc(sizeof(int32_t) * (items + LANES));
    int failed = !x || !packed || !reached;
    for (long row = first; row < last && !failed; row++) {
        long count = 0;
        for (long h = offsets[row]; h < offsets[row + 1]; h++) {
            float weight = weights[h];
            for (long e = edges[items_of[h]]; e < edges[items_of[h] + 1]; e++) {
                long column = columns[e];
                float more = weight * values[e]; /* may be 0: weights shrink with age */
                reached[count] = column;         /* kept where it is new */
                count += x[column] == 0.f && more != 0.f;
                x[column] += more;
            }
        }
        for (long i = 0; i < count; i++) packed[i] = x[reached[i]], x[reached[i]] = 0.f;
        for (long i = count; i < count + LANES; i++) packed[i] = 0.f;
        for (long i = 0; i < count; i += LANES)
            store(packed + i, strength * log_of(1.f + load(packed + i) / epsilon));
        for (long i = 0; i < count; i++) scores[row * items + reached[i]] += packed[i];
    }
    free(x), free(packed), free(reached);
    return failed;
}

/* Windows first to last - 1 of m rows of edges, n for padding: at each item, one after the other, x = decay * x + what its
   edges reach of the candidates, `place` (items,) of each column among them, -1 for others. x (P, width) has a row for each
   item; that of window w's first is starts[w]. An edge weighs one + forward * other. */
int hardgnn_walk(long first, long last, long m, long n, const int64_t *windows, const int64_t *starts,
                  const int32_t *edges, const int32_t *columns, const float *one, const float *other,
                  const int32_t *place, long width, float decay, float forward, float *x) {
    for (long w = first; w < last; w++) {
        const int64_t *window = windows + w * m;
        float *at = x + starts[w] * width, *before = NULL;
        for (long p = 0; p < m; p++) {
            if (window[p] >= n) continue;
            if (before)
                for (long c = 0; c < width; c++) at[c] = decay * before[c];
            else
                memset(at, 0, sizeof(float) * width);
            for (long e = edges[window[p]]; e < edges[window[p] + 1]; e++) {
                long column = place[columns[e]];
                if (column >= 0) at[column] += one[e] + forward * other[e];
            }
            before = at, at += width;
        }
    }
    return 0;
}

/* The gradients of decay and forward, added to `sums`, from that of x, which is used up. */
int hardgnn_walk_gradient(long first, long last, long m, long n, const int64_t *windows, const int64_t *starts,
                           const int32_t *edges, const int32_t *columns, const float *other, const int32_t *place,
                           long width, float decay, const float *x, float *grad, double *sums) {
    for (long w = first; w < last; w++) {
        const int64_t *window = windows + w * m;
        long row = starts[w + 1];
        for (long p = m - 1; p >= 0; p--) {
            if (window[p] >= n) continue;
            float *at = grad + --row * width, of_decay = 0, of_forward = 0;
            for (long e = edges[window[p]]; e < edges[window[p] + 1]; e++) {
                long column = place[columns[e]];
                if (column >= 0) of_forward += at[column] * other[e];
            }
            sums[1] += of_forward;
            if (row == starts[w]) break;
            for (long c = 0; c < width; c++) {
                of_decay += at[c] * x[(row - 1) * width + c];
                at[c - width] += decay * at[c];
            }
            sums[0] += of_decay;
        }
    }
    return 0;
}
