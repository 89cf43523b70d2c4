/* Scores of users over all items, a block of users and items at a time within the caches, and what is wanted of them: all,
   how many reach a target's, or the largest. A score is the same number to the last bit whatever is wanted of it.

   A block's table holds the users of an item side by side: each lane of a vector is a user. */

#include "vectors.h"

#define USERS 32   /* of a block */
#define PANEL 2048 /* items of a block; a multiple of 8 */

/* Of B users: base + moment + strength * log(1 + x / epsilon) + query · vector, x = history @ edges. */
typedef struct {
    long d, items;
    float strength, epsilon;
    const float *queries, *vectors, *base;   /* (B, d), (items, d), (items,) */
    const float *moments;                    /* (R, items), or none */
    const int64_t *moment;                   /* (B,) */
    const int64_t *order;                    /* (B,) in which users are taken: those of one moment together */
    const int64_t *offsets;                  /* (B + 1,) of histories, or none */
    const int32_t *history;
    const float *weights;
    const int64_t *edges;                    /* (items + 1,) */
    const int32_t *columns;                  /* ascending within a row */
    const float *values;
    const int64_t *without;                  /* (B + 1,) of what is left out, or none */
    const int32_t *out;                      /* ascending, once each */
} Terms;

/* What a part of the users needs meanwhile. */
typedef struct {
    float *table, *turned, *last, *x, *packed;
    int32_t *reached;
    int64_t *cursor, *begin, *of_out; /* begin: of a user's cursors */
} Scratch;

static void release(Scratch *w) {
    free(w->table), free(w->turned), free(w->last), free(w->x), free(w->packed);
    free(w->reached), free(w->cursor), free(w->begin), free(w->of_out);
}

/* Room for users first to last - 1 in their order, with their queries turned and all cursors at the beginning. Other than
   0 where there is no memory. */
static int prepare(Scratch *w, const Terms *s, long first, long last) {
    long blocks = (last - first + USERS - 1) / USERS, d = s->d, said = 0;
    w->begin = malloc(sizeof(int64_t) * (last - first + 1)), w->of_out = malloc(sizeof(int64_t) * (last - first + 1));
    for (long k = first; w->begin && s->offsets && k < last; k++) {
        w->begin[k - first] = said;
        said += s->offsets[s->order[k] + 1] - s->offsets[s->order[k]];
    }
    w->table = malloc(sizeof(float) * PANEL * USERS), w->turned = calloc(blocks * USERS * d + 1, sizeof(float));
    w->last = calloc(8 * d + 1, sizeof(float)), w->x = calloc(PANEL, sizeof(float));
    w->packed = malloc(sizeof(float) * (PANEL + LANES)), w->reached = malloc(sizeof(int32_t) * (PANEL + 1));
    w->cursor = malloc(sizeof(int64_t) * (said + 1));
    if (!w->table || !w->turned || !w->last || !w->x || !w->packed || !w->reached || !w->cursor || !w->begin || !w->of_out)
        return 1;
    for (long k = first; k < last; k++) {
        long user = s->order[k], place = k - first;
        for (long q = 0; q < d; q++)
            w->turned[place / USERS * USERS * d + q * USERS + place % USERS] = s->queries[user * d + q];
        for (long h = 0; s->offsets && h < s->offsets[user + 1] - s->offsets[user]; h++)
            w->cursor[w->begin[place] + h] = s->edges[s->history[s->offsets[user] + h]];
        if (s->without) w->of_out[place] = s->without[user];
    }
    long left = s->items % 8;
    memcpy(w->last, s->vectors + (s->items - left) * d, sizeof(float) * left * d);
    return 0;
}

/* Adds what the history of a user reaches of items start to start + width - 1, from its cursors on. */
static void add_reached(const Terms *s, const Scratch *w, long user, int64_t *cursor, long start, long width,
                        float *to) {
    const int32_t *columns = s->columns;
    float *x = w->x;
    long count = 0, end = start + width;
    for (long h = s->offsets[user]; h < s->offsets[user + 1]; h++, cursor++) {
        long e = *cursor, last = s->edges[s->history[h] + 1];
        float weight = s->weights[h];
        for (; e < last && columns[e] < end; e++) {
            long column = columns[e] - start;
            float more = weight * s->values[e]; /* may be 0: weights shrink with age */
            w->reached[count] = column;         /* kept where it is new */
            count += x[column] == 0.f && more != 0.f;
            x[column] += more;
        }
        *cursor = e;
    }
    for (long i = 0; i < count; i++) w->packed[i] = x[w->reached[i]], x[w->reached[i]] = 0.f;
    for (long i = count; i < count + LANES; i++) w->packed[i] = 0.f;
    for (long i = 0; i < count; i += LANES)
        store(w->packed + i, s->strength * log_of(1.f + load(w->packed + i) / s->epsilon));
    for (long i = 0; i < count; i++) to[w->reached[i] * USERS] += w->packed[i];
}

/* Adds the moments of `rows` users to a block's table, all users of one moment at once. */
static void add_moments(const Terms *s, float *table, const int64_t *users, long rows, long start, long width) {
    for (long u = 0, next; u < rows; u = next) {
        const float *moment = s->moments + s->moment[users[u]] * s->items + start;
        for (next = u + 1; next < rows && s->moment[users[next]] == s->moment[users[u]];) next++;
        ints first = {0}, second = {0};
        for (long k = u; k < next; k++)
            if (k < LANES)
                first[k] = -1;
            else
                second[k - LANES] = -1;
        for (long i = 0; i < width; i++) {
            float *to = table + i * USERS;
            vec more = all(moment[i]);
            store(to, load(to) + chosen(first, more, all(0))), store(to + LANES, load(to + LANES) + chosen(second, more, all(0)));
        }
    }
}

/* The table of a block: the users in places `from` on, of which only lanes `low` to `high` - 1 need be right, items from
   `start` on, a multiple of 8. Not inlined: one copy of it computes every score. */
static __attribute__((noinline)) void fill(const Terms *s, const Scratch *w, long first, long from, long low, long high,
                                           long start, long width) {
    long d = s->d, whole = (width + 7) / 8 * 8;
    const float *turned = w->turned + (from - first) * d;
    for (long i = 0; i < whole; i++) {
        vec base = all(i < width ? s->base[start + i] : -__builtin_inff());
        store(w->table + i * USERS, base), store(w->table + i * USERS + LANES, base);
    }
    if (s->moments) add_moments(s, w->table, s->order + from, high, start, width);
    for (long u = low; s->offsets && u < high; u++)
        add_reached(s, w, s->order[from + u], w->cursor + w->begin[from + u - first], start, width, w->table + u);
    for (long i = 0; i < whole; i += 8) {
        const float *vectors = start + i + 8 <= s->items ? s->vectors + (start + i) * d : w->last;
        add_tile(w->table + i * USERS, USERS, vectors, d, 1, turned, USERS, d);
    }
}

static inline ints no_number(vec x) { return x != x; }

/* Lanes that are other than 0, told to `flags`. */
static void tell(ints first, ints second, long rows, const int64_t *users, uint8_t *flags) {
    for (long u = 0; u < rows; u++) flags[users[u]] |= (u < LANES ? first[u] : second[u - LANES]) != 0;
}

/* All scores of users first to last - 1: (B, items). */
int hardgnn_scores(long first, long last, const Terms *s, float *scores) {
    Scratch w;
    int failed = prepare(&w, s, first, last);
    for (long start = 0; start < s->items && !failed; start += PANEL)
        for (long user = first; user < last; user += USERS) {
            long rows = last - user < USERS ? last - user : USERS;
            long width = s->items - start < PANEL ? s->items - start : PANEL;
            fill(s, &w, first, user, 0, rows, start, width);
            for (long u = 0; u < rows; u++) {
                float *to = scores + s->order[user + u] * s->items + start;
                for (long i = 0; i < width; i++) to[i] = w.table[i * USERS + u];
            }
        }
    release(&w);
    return failed;
}

/* The first edge of an item's row at `column` or after it. */
static long edge_at(const Terms *s, long item, long column) {
    long low = s->edges[item], high = s->edges[item + 1];
    while (low < high) {
        long middle = low + (high - low) / 2;
        if (s->columns[middle] < column)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The score of the target of the user in a place, out of a block of 8 items; the cursors go back to the beginning. */
static float of_target(const Terms *s, const Scratch *w, long first, long place, long target) {
    long start = target / 8 * 8, width = s->items - start < 8 ? s->items - start : 8, user = s->order[place];
    long from = s->offsets ? s->offsets[user] : 0, to = s->offsets ? s->offsets[user + 1] : 0;
    int64_t *cursor = w->cursor + (s->offsets ? w->begin[place - first] : 0);
    for (long h = from; h < to; h++) cursor[h - from] = edge_at(s, s->history[h], start);
    long lane = (place - first) % USERS;
    fill(s, w, first, place - lane, lane, lane + 1, start, width);
    for (long h = from; h < to; h++) cursor[h - from] = s->edges[s->history[h]];
    return w->table[(target - start) * USERS + lane];
}

/* The score of the target of each user, 0 where that is -1: scores (B,). */
int hardgnn_targets(long first, long last, const Terms *s, const int32_t *targets, float *scores) {
    Scratch w;
    int failed = prepare(&w, s, first, last);
    for (long user = first; user < last && !failed; user++) {
        long who = s->order[user];
        scores[who] = targets[who] < 0 ? 0.f : of_target(s, &w, first, user, targets[who]);
    }
    release(&w);
    return failed;
}

/* How many items that are not left out score as much as a user's limit (B,) or more: above (B,); and whether a score is
   no number: odd (B,). */
int hardgnn_above(long first, long last, const Terms *s, const float *least, int32_t *above, uint8_t *odd) {
    Scratch w;
    long blocks = (last - first + USERS - 1) / USERS;
    float *limits = calloc(blocks * USERS, sizeof(float));
    int failed = prepare(&w, s, first, last) || !limits;
    for (long user = first; user < last && !failed; user++) {
        limits[user - first] = least[s->order[user]];
        above[s->order[user]] = 0, odd[s->order[user]] = 0;
    }
    for (long start = 0; start < s->items && !failed; start += PANEL)
        for (long user = first; user < last; user += USERS) {
            long rows = last - user < USERS ? last - user : USERS;
            long width = s->items - start < PANEL ? s->items - start : PANEL;
            fill(s, &w, first, user, 0, rows, start, width);
            vec low = load(limits + user - first), high = load(limits + user - first + LANES);
            ints counts[2] = {{0}}, none[2] = {{0}};
            for (long i = 0; i < width; i++) {
                vec a = load(w.table + i * USERS), b = load(w.table + i * USERS + LANES);
                counts[0] -= a >= low, counts[1] -= b >= high;
                none[0] |= no_number(a), none[1] |= no_number(b);
            }
            tell(none[0], none[1], rows, s->order + user, odd);
            for (long u = 0; u < rows; u++) {
                long who = s->order[user + u];
                above[who] += counts[u / LANES][u % LANES];
                int64_t *at = w.of_out + (user + u - first);
                for (; s->without && *at < s->without[who + 1] && s->out[*at] < start + width; ++*at)
                    above[who] -= w.table[(s->out[*at] - start) * USERS + u] >= limits[user + u - first];
            }
        }
    release(&w), free(limits);
    return failed;
}

/* Heaps of scores and their items, the worst on top; of equal ones the later item is worse. */
static inline int worse(float a, int32_t item, float b, int32_t other) { return a < b || (a == b && item > other); }

static void put(float *best, int32_t *which, long n, float score, int32_t item) {
    long at = 0;
    for (long child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && worse(best[child + 1], which[child + 1], best[child], which[child])) child++;
        if (!worse(best[child], which[child], score, item)) break;
        best[at] = best[child], which[at] = which[child];
    }
    best[at] = score, which[at] = item;
}

/* The n largest scores of items that are not left out, the first of equal ones first, -inf and -1 where fewer are above
   -inf: best and which (B, n). */
int hardgnn_best(long first, long last, const Terms *s, long n, float *best, int32_t *which, uint8_t *odd) {
    Scratch w;
    long blocks = (last - first + USERS - 1) / USERS;
    float *limits = malloc(sizeof(float) * blocks * USERS);
    int failed = prepare(&w, s, first, last) || !limits;
    for (long i = 0; i < blocks * USERS && !failed; i++) limits[i] = __builtin_inff();
    for (long user = first; user < last && !failed; user++) {
        long who = s->order[user];
        limits[user - first] = -__builtin_inff(), odd[who] = 0;
        for (long i = who * n; i < (who + 1) * n; i++) best[i] = -__builtin_inff(), which[i] = -1;
    }
    for (long start = 0; start < s->items && !failed; start += PANEL)
        for (long user = first; user < last; user += USERS) {
            long rows = last - user < USERS ? last - user : USERS;
            long width = s->items - start < PANEL ? s->items - start : PANEL;
            fill(s, &w, first, user, 0, rows, start, width);
            for (long u = 0; u < rows; u++) {
                long who = s->order[user + u];
                int64_t *at = w.of_out + (user + u - first);
                for (; s->without && *at < s->without[who + 1] && s->out[*at] < start + width; ++*at) {
                    float *score = w.table + (s->out[*at] - start) * USERS + u;
                    odd[who] |= *score != *score;
                    *score = -__builtin_inff();
                }
            }
            float *limit = limits + user - first;
            ints none[2] = {{0}};
            for (long i = 0; i < width; i += 8) /* rows after the last item are -inf */
                for (long half = 0; half < 2; half++) {
                    const float *table = w.table + i * USERS + half * LANES;
                    vec least = load(limit + half * LANES);
                    ints over = {0};
                    for (long r = 0; r < 8; r++) {
                        vec score = load(table + r * USERS);
                        over |= score > least, none[half] |= no_number(score);
                    }
                    if (!any_of(over)) continue;
                    for (long j = 0; j < LANES; j++) {
                        if (!over[j]) continue;
                        long to = s->order[user + half * LANES + j] * n;
                        for (long r = 0; r < 8; r++)
                            if (table[r * USERS + j] > limit[half * LANES + j]) {
                                put(best + to, which + to, n, table[r * USERS + j], start + i + r);
                                limit[half * LANES + j] = best[to];
                            }
                    }
                }
            tell(none[0], none[1], rows, s->order + user, odd);
        }
    for (long user = first; user < last && !failed; user++)
        for (long m = n - 1, at = s->order[user] * n; m > 0; m--) {
            float score = best[at + m];
            int32_t item = which[at + m];
            best[at + m] = best[at], which[at + m] = which[at];
            put(best + at, which + at, m, score, item);
        }
    release(&w), free(limits);
    return failed;
}

/* The scores of the items asked of each user (B, count): (B, count). */
int hardgnn_some(long first, long last, const Terms *s, long count, const int32_t *asked, float *scores) {
    long d = s->d, whole = d / LANES * LANES;
    float *x = calloc(s->items + 1, sizeof(float)), *packed = malloc(sizeof(float) * (count + LANES));
    int failed = !x || !packed;
    for (long user = first; user < last && !failed; user++) {
        const int32_t *items = asked + user * count;
        const float *query = s->queries + user * d, *moment = s->moments ? s->moments + s->moment[user] * s->items : NULL;
        float *to = scores + user * count;
        long from = s->offsets ? s->offsets[user] : 0, end = s->offsets ? s->offsets[user + 1] : 0;
        for (long h = from; h < end; h++)
            for (long e = s->edges[s->history[h]]; e < s->edges[s->history[h] + 1]; e++)
                x[s->columns[e]] += s->weights[h] * s->values[e];
        for (long i = 0; i < count; i++) packed[i] = x[items[i]];
        for (long i = count; i < count + LANES; i++) packed[i] = 0.f;
        if (s->offsets)
            for (long i = 0; i < count; i += LANES)
                store(packed + i, s->strength * log_of(1.f + load(packed + i) / s->epsilon));
        for (long h = from; h < end; h++)
            for (long e = s->edges[s->history[h]]; e < s->edges[s->history[h] + 1]; e++) x[s->columns[e]] = 0.f;
        for (long i = 0; i < count; i++) {
            const float *vector = s->vectors + (long)items[i] * d;
            if (i + 8 < count)
                for (long q = 0; q < d; q += LANES) __builtin_prefetch(s->vectors + (long)items[i + 8] * d + q);
            vec sum = all(0);
            for (long q = 0; q < whole; q += LANES) sum += load(query + q) * load(vector + q);
            float rest = 0;
            for (long q = whole; q < d; q++) rest += query[q] * vector[q];
            to[i] = s->base[items[i]] + packed[i] + (moment ? moment[items[i]] : 0.f) + (sum_of(sum) + rest);
        }
    }
    free(x), free(packed);
    return failed;
}
