/* The items with the largest products with each query, without a table of them all: items pass by strips, and a query
   keeps the best so far. */

#include "products.h"

#define STRIP 32   /* items */
#define QUERIES 32 /* queries of a part are a multiple of these, filled up with zeros */

/* A query's best so far, and how far its avoided items, in rising order, have been passed. */
typedef struct {
    float *values;
    int64_t *index;
    const int64_t *avoided, *end;
} Best;

static void offer(Best *b, long k, float score, int64_t item) {
    while (b->avoided < b->end && *b->avoided < item) b->avoided++;
    if (b->avoided < b->end && *b->avoided == item) return;
    long n = k - 1;
    for (; n > 0 && score > b->values[n - 1]; n--) b->values[n] = b->values[n - 1], b->index[n] = b->index[n - 1];
    b->values[n] = score, b->index[n] = item;
}

static int rising(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* Queries first to last - 1 of (Q, d), items (count, d), d a multiple of 32 -> values and index (Q, k), in falling order, the
   first of equal ones, -inf and 0 where fewer than k are left. What query q avoids is avoided[offsets[q] : offsets[q + 1]],
   and is sorted here. Other than 0 where there is no memory. */
int hardgnn_nearest(long first, long last, long d, long count, long k, long tiles, const float *queries,
                    const float *items, const int64_t *offsets, int64_t *avoided, float *values, int64_t *index) {
    long rows = (last - first + QUERIES - 1) / QUERIES * QUERIES, strip = d * STRIP;
    float *memory = malloc(sizeof(float) * (2 * rows * d + 3 * strip + rows * STRIP) + sizeof(Best) * rows);
    if (!memory) return 1;
    float *table = memory + 2 * rows * d, *padded = table + rows * STRIP, *turned = padded + strip;
    Side left = {memory, (uint16_t *)(memory + rows * d)}, right = {turned, (uint16_t *)(turned + strip)};
    Best *best = (Best *)(turned + 2 * strip);
    memset(memory, 0, sizeof(float) * rows * d);
    memcpy(memory, queries + first * d, sizeof(float) * (last - first) * d);
    for (long i = 0; i < last - first; i++) {
        long q = first + i;
        qsort(avoided + offsets[q], offsets[q + 1] - offsets[q], sizeof *avoided, rising);
        best[i] = (Best){values + q * k, index + q * k, avoided + offsets[q], avoided + offsets[q + 1]};
        for (long n = 0; n < k; n++) best[i].values[n] = -__builtin_inff(), best[i].index[n] = 0;
    }
    if (tiles) pack_left(&left, rows, d, tiles), begin_tiles();
    for (long at = 0; at < count; at += STRIP) {
        const float *from = items + at * d;
        if (count - at < STRIP) {
            memset(padded, 0, sizeof(float) * strip);
            from = memcpy(padded, from, sizeof(float) * (count - at) * d);
        }
        memset(table, 0, sizeof(float) * rows * STRIP);
        if (tiles) {
            right.plain = from;
            pack_turned(&right, d, STRIP, tiles);
            add_by_tiles(table, NULL, rows, STRIP, d, &left, &right, 1, tiles);
        } else {
            transpose(from, STRIP, d, turned);
            add_by_vectors(table, NULL, rows, STRIP, d, left.plain, turned, 1);
        }
        for (long i = 0; i < last - first; i++)
            for (long c = 0; c < STRIP; c += LANES) {
                const float *scores = table + i * STRIP + c, *least = best[i].values + k - 1;
                ints above = load(scores) > all(*least);
                if (!any_of(above)) continue;
                for (long j = 0; j < LANES && at + c + j < count; j++)
                    if (scores[j] > *least) offer(&best[i], k, scores[j], at + c + j);
            }
    }
    if (tiles) end_tiles();
    free(memory);
    return 0;
}
