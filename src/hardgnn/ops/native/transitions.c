/* Transitions: what the items of a history reach, by the edges that there are and no others. */

#include "vectors.h"

/* Which of up to 16 columns have their bit in `chosen`, one bit each. */
static inline unsigned among(const int32_t *columns, long count, const uint32_t *chosen) {
#ifdef __AVX512F__
    __mmask16 asked = count < LANES ? (1u << count) - 1 : 0xffff;
    __m512i column = _mm512_maskz_loadu_epi32(asked, columns);
    __m512i word = _mm512_mask_i32gather_epi32(column, asked, _mm512_srli_epi32(column, 5), chosen, 4);
    __m512i bit = _mm512_srlv_epi32(word, _mm512_and_si512(column, _mm512_set1_epi32(31)));
    return _mm512_mask_test_epi32_mask(asked, bit, _mm512_set1_epi32(1));
#else
    unsigned found = 0;
    for (long i = 0; i < count && i < LANES; i++) found |= (chosen[columns[i] >> 5] >> (columns[i] & 31) & 1) << i;
    return found;
#endif
}

/* Rows first to last - 1, row i with `lengths[i]` edges from `begins[i]` on: how many go to a chosen column, and which, 16
   edges a mask, those of row i from masks[starts[i]] on. */
int hardgnn_among(long first, long last, const int64_t *begins, const int64_t *lengths, const int32_t *columns,
                   const uint32_t *chosen, const int64_t *starts, uint16_t *masks, int64_t *counts) {
    for (long i = first; i < last; i++) {
        uint16_t *mask = masks + starts[i];
        counts[i] = 0;
        for (long e = 0; e < lengths[i]; e += LANES, mask++) {
            *mask = among(columns + begins[i] + e, lengths[i] - e, chosen);
            counts[i] += __builtin_popcount(*mask);
        }
    }
    return 0;
}

/* Those edges, of row i from to[i] on: `place` (items,) of their columns, and both values. */
int hardgnn_take_among(long first, long last, const int64_t *begins, const int64_t *lengths, const int32_t *columns,
                        const float *one, const float *other, const int64_t *starts, const uint16_t *masks,
                        const int32_t *place, const int64_t *to, int32_t *found, float *found_one, float *found_other) {
    for (long i = first; i < last; i++) {
        const uint16_t *mask = masks + starts[i];
        long at = to[i];
        for (long e = begins[i]; e < begins[i] + lengths[i]; e += LANES, mask++)
            for (unsigned left = *mask; left; left &= left - 1, at++) {
                long edge = e + __builtin_ctz(left);
                found[at] = place[columns[edge]], found_one[at] = one[edge], found_other[at] = other[edge];
            }
    }
    return 0;
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
