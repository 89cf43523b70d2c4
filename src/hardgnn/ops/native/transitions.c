/* Transitions: what the items of a history reach, by the edges that there are and no others. */

#include "vectors.h"

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
