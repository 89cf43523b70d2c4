/* Products of many queries with all candidates: the softmax over them with its gradients, and the largest. A block of
   queries goes from its scores to its gradients within the caches.

   Queries come as whole blocks and candidates as whole strips, filled up with zeros; d is a multiple of 32. */

#include "vectors.h"

#define QUERIES 32 /* of a block */
#define STRIP 32   /* candidates of a strip */
#define PANEL 128  /* candidates that pass a block's gradient together */

/* table (QUERIES, width) += queries (QUERIES, d) @ items.T, of which `strips` holds (width / STRIP, d, STRIP) */
static void add_scores(float *table, long width, long d, const float *queries, const float *strips) {
    for (long j = 0; j < width; j += STRIP)
        for (long i = 0; i < QUERIES; i += 8)
            add_tile(table + i * width + j, width, queries + i * d, d, 1, strips + j * d, STRIP, d);
}

/* For queries first to last - 1, all of one block: see hardgnn.ops.native.candidates. */
typedef struct {
    long d, width, candidates, count; /* width: candidates in whole strips; count: of all queries */
    float strength, epsilon;
    const float *queries, *items, *strips, *offsets, *positive, *reached, *added; /* reached and added may be none */
    const uint8_t *own;
    const int64_t *owner, *row;
    float *d_queries, *d_positive, *d_reached;
} Softmax;

/* What is added up over queries, of each part by itself: d_items (width, d), d_offsets (width,), d_added (R, candidates). */
typedef struct {
    float *d_items, *d_offsets, *d_added;
    double *numbers; /* loss, d_strength, d_epsilon */
} Sums;

static inline ints mask_of(const uint8_t *own) {
    return __builtin_convertvector(*(const bytes *)own, ints) != 0;
}

/* Scores of a query as they are, with all that is added: the largest of them. */
static float complete(const Softmax *s, long query, float *table, float *logs, uint8_t *masked) {
    const float *reached = s->reached ? s->reached + query * s->candidates : NULL;
    const float *added = s->added ? s->added + s->row[query] * s->candidates : NULL;
    const uint8_t *own = s->own + s->owner[query] * s->candidates;
    vec most = all(-1e30f);
    memset(masked, 1, s->width);
    memcpy(masked, own, s->candidates);
    for (long c = 0; c < s->width; c += LANES) {
        long left = s->candidates - c;
        vec score = load(table + c), x = all(0), more = all(0);
        if (left >= LANES) {
            if (reached) x = load(reached + c);
            if (added) more = load(added + c);
        } else
            for (long j = 0; j < left; j++) {
                if (reached) x[j] = reached[c + j];
                if (added) more[j] = added[c + j];
            }
        if (reached) {
            vec term = log_of(x + s->epsilon);
            store(logs + c, term);
            score += s->strength * term;
        }
        score = chosen(mask_of(masked + c), all(-1e30f), score + more);
        most = larger(most, score);
        store(table + c, score);
    }
    float found = -1e30f;
    for (int j = 0; j < LANES; j++) found = most[j] > found ? most[j] : found;
    return found;
}

/* Scores become the loss's gradients of them; the loss is added up. */
static void weigh(const Softmax *s, long query, float *table, const float *logs, float most, const Sums *sums) {
    float near = s->positive[query];
    if (near > most) most = near;
    vec total = all(0);
    for (long c = 0; c < s->width; c += LANES) {
        vec score = load(table + c);
        vec e = chosen(score < -1e29f, all(0), exp2_of((score - most) * 1.44269504f));
        total += e;
        store(table + c, e);
    }
    float own = exp2_of(all((near - most) * 1.44269504f))[0], all_of = sum_of(total) + own;
    sums->numbers[0] += most + log_of(all(all_of))[0] - near;
    s->d_positive[query] = (own / all_of - 1.f) / s->count;
    float times = 1.f / (all_of * s->count);
    vec of_strength = all(0), of_epsilon = all(0);
    float *d_reached = s->reached ? s->d_reached + query * s->candidates : NULL;
    const float *reached = s->reached ? s->reached + query * s->candidates : NULL;
    float *d_added = s->added ? sums->d_added + s->row[query] * s->candidates : NULL;
    for (long c = 0; c < s->width; c += LANES) {
        vec p = load(table + c) * times;
        long left = s->candidates - c;
        store(table + c, p);
        store(sums->d_offsets + c, load(sums->d_offsets + c) + p);
        if (left < LANES) {
            for (long j = 0; j < left; j++) {
                if (d_added) d_added[c + j] += p[j];
                if (d_reached) {
                    float g = p[j] * s->strength / (reached[c + j] + s->epsilon);
                    d_reached[c + j] = g;
                    of_strength[j] += p[j] * logs[c + j], of_epsilon[j] += g;
                }
            }
            continue;
        }
        if (d_added) store(d_added + c, load(d_added + c) + p);
        if (d_reached) {
            vec g = p * s->strength / (load(reached + c) + s->epsilon);
            store(d_reached + c, g);
            of_strength += p * load(logs + c), of_epsilon += g;
        }
    }
    sums->numbers[1] += sum_of(of_strength), sums->numbers[2] += sum_of(of_epsilon);
}

/* Queries first to last - 1; `first` is the first of a block. Other than 0 where there is no memory. */
int hardgnn_softmax(long first, long last, const Softmax *s, const Sums *sums) {
    long d = s->d, width = s->width;
    float *table = malloc(sizeof(float) * (QUERIES + 1) * width + width);
    if (!table) return 1;
    float *logs = table + QUERIES * width;
    uint8_t *masked = (uint8_t *)(logs + width);
    for (long at = first; at < last; at += QUERIES) {
        const float *queries = s->queries + at * d;
        float *d_queries = s->d_queries + at * d;
        long rows = last - at < QUERIES ? last - at : QUERIES;
        for (long i = 0; i < QUERIES; i++) memcpy(table + i * width, s->offsets, sizeof(float) * width);
        add_scores(table, width, d, queries, s->strips);
        for (long i = 0; i < rows; i++) {
            float most = complete(s, at + i, table + i * width, logs, masked);
            weigh(s, at + i, table + i * width, logs, most, sums);
        }
        memset(table + rows * width, 0, sizeof(float) * (QUERIES - rows) * width);
        memset(d_queries, 0, sizeof(float) * QUERIES * d);
        for (long c = 0; c < width; c += PANEL)
            for (long j = 0; j < d; j += STRIP)
                for (long i = 0; i < QUERIES; i += 8)
                    add_tile(d_queries + i * d + j, d, table + i * width + c, width, 1, s->items + c * d + j, d,
                             width - c < PANEL ? width - c : PANEL);
        for (long c = 0; c < width; c += 8)
            for (long j = 0; j < d; j += STRIP)
                add_tile(sums->d_items + c * d + j, d, table + c, 1, width, queries + j, d, QUERIES);
    }
    free(table);
    return 0;
}

/* The k largest products of queries first to last - 1 with the candidates that are not their owner's, the first of equal
   ones, and which these are: values and index (P, k), -inf and 0 where fewer are left. */
int hardgnn_top(long first, long last, long d, long width, long candidates, long k, const float *queries,
                const float *strips, const uint8_t *own, const int64_t *owner, float *values, int64_t *index) {
    float *table = malloc(sizeof(float) * QUERIES * width + width);
    if (!table) return 1;
    uint8_t *masked = (uint8_t *)(table + QUERIES * width);
    for (long at = first; at < last; at += QUERIES) {
        memset(table, 0, sizeof(float) * QUERIES * width);
        add_scores(table, width, d, queries + at * d, strips);
        for (long i = at; i < last && i < at + QUERIES; i++) {
            float *scores = table + (i - at) * width, *best = values + i * k;
            int64_t *which = index + i * k;
            for (long n = 0; n < k; n++) best[n] = -__builtin_inff(), which[n] = 0;
            memset(masked, 1, width);
            memcpy(masked, own + owner[i] * candidates, candidates);
            for (long c = 0; c < width; c += LANES) {
                ints above = (load(scores + c) > best[k - 1]) & (mask_of(masked + c) == 0);
                if (!any_of(above)) continue;
                for (int j = 0; j < LANES; j++) {
                    float score = scores[c + j];
                    if (!above[j] || score <= best[k - 1]) continue;
                    long n = k - 1;
                    for (; n > 0 && score > best[n - 1]; n--) best[n] = best[n - 1], which[n] = which[n - 1];
                    best[n] = score, which[n] = c + j;
                }
            }
        }
    }
    free(table);
    return 0;
}

/* The gradients of those products: d_queries (P, d), and added to d_items (candidates, d). */
int hardgnn_top_gradient(long first, long last, long d, long k, const float *queries, const float *items,
                          const int64_t *index, const float *grad, float *d_queries, float *d_items) {
    for (long i = first; i < last; i++) {
        float *to = d_queries + i * d;
        memset(to, 0, sizeof(float) * d);
        for (long n = i * k; n < (i + 1) * k; n++) {
            float g = grad[n];
            if (g == 0.f) continue;
            const float *item = items + index[n] * d;
            float *of = d_items + index[n] * d;
            for (long j = 0; j < d; j += LANES) {
                store(to + j, load(to + j) + g * load(item + j));
                store(of + j, load(of + j) + g * load(queries + i * d + j));
            }
        }
    }
    return 0;
}
