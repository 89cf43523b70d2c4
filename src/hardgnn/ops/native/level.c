/* The interval level (a GRU over T states of a node, dropout, LayerNorm, attention over the states, averaged) and its
   gradient, 32 nodes at a time from the first state to the last, so that nothing between them leaves the caches.

   Within a block numbers lie as [feature][node], so that every operation runs over whole vectors. */

#include "products.h"

#define NODES 32 /* of a block */
#define AHEAD 4  /* blocks whose dropped numbers are noted together, since each is on a page of its own */

static inline vec sigmoid(vec x) { return inverse(1.f + exp2_of(x * -1.44269504f)); }
static inline long smaller(long a, long b) { return a < b ? a : b; }
static inline vec tanh_of(vec x) { return 2.f * sigmoid(2.f * x) - 1.f; }

/* sums (n, LANES) += each row (n, NODES); and in the end sums (n,) of these */
static void add_rows(float *sums, const float *rows, long n) {
    for (long i = 0; i < n; i++)
        store(sums + i * LANES, load(sums + i * LANES) + load(rows + i * NODES) + load(rows + i * NODES + LANES));
}

static void add_sums(float *to, const float *sums, long n) {
    for (long i = 0; i < n; i++) to[i] += sum_of(load(sums + i * LANES));
}

/* ---- the level ---- */

/* The order of fields is that of hardgnn.ops.native.level. Gates are r, z, n, as in torch; the gain and offset of the
   LayerNorm, the scale of the logits and the base 2 of the softmax are in the weights of queries, keys and values. `tiles` is
   how many bfloat16 numbers stand for one, none where there are no tiles. */
typedef struct {
    long intervals, dim, heads, over_states, with_norm, tiles;
    float epsilon, kept_scale;
    const float *input_weight, *state_weight, *qkv_weight, *output_weight; /* (3d, d) each, (d, d) or none */
    const float *input_bias, *state_bias, *qkv_bias, *output_bias;
} Level;

/* The numbers of a block, x as [node][feature]; the weights, and for the gradient the weights turned round. Of a GRU's,
   `both` are those of r and z for the input and below them for the state, whose products are added up as one. Biases have each
   number 16 times over. */
typedef struct {
    float *x, *gates, *recalled, *hidden, *hat, *deviation, *joined, *looks, *weights, *pooled, *spare;
    float *both_bias, *input_bias, *state_bias, *qkv_bias, *output_bias, *nothing;
    float *of_joined, *of_hidden, *of_own, *of_recalled, *back, *through, *of_biases;
    Side both, input, state, qkv, output, input_back, state_back, qkv_back, output_back;
    Side left, right; /* of the product at hand */
    uint32_t *stays;  /* which of the 32 nodes keep a number, [block][feature][interval] */
    long tiles, apart; /* apart: numbers between the gates of two intervals, which the gradient alone needs again */
    void *memory;
} Work;

/* Packs a weight (rows, columns), or that turned round. */
static void weigh(Work *w, Side *side, const float *weight, long rows, long columns, float *turned) {
    side->plain = turned ? turned : weight;
    if (!weight) return;
    if (turned) transpose(weight, rows, columns, turned);
    if (w->tiles) turned ? pack_left(side, columns, rows, w->tiles) : pack_left(side, rows, columns, w->tiles);
}

static void spread(float *to, const float *bias, const float *more, long n) {
    for (long i = 0; bias && i < n; i++) store(to + i * LANES, all(bias[i] + (more ? more[i] : 0.f)));
}

static int begin(Work *w, const Level *l, int learning) {
    long T = l->intervals, d = l->dim, H = l->heads, block = d * NODES, looks = H * T * T * NODES, square = d * d;
    float *both, *input, *state, *qkv, *output;
    struct {
        void *place;
        long size;
    } parts[] = {{&w->x, T * block},
                 {&w->gates, 3 * (learning ? T : 1) * block},
                 {&w->recalled, (learning ? T : 1) * block},
                 {&w->hidden, T * block},
                 {&w->hat, T * block},
                 {&w->deviation, T * NODES},
                 {&w->joined, 3 * T * block},
                 {&w->looks, looks},
                 {&w->weights, H * T * NODES},
                 {&w->pooled, block},
                 {&w->spare, T * block},
                 {&w->both_bias, 2 * d * LANES},
                 {&w->input_bias, d * LANES},
                 {&w->state_bias, d * LANES},
                 {&w->qkv_bias, 3 * d * LANES},
                 {&w->output_bias, d * LANES},
                 {&w->nothing, d * LANES},
                 {&both, 4 * square},
                 {&w->both.packed, 4 * square},
                 {&w->input.packed, square},
                 {&w->state.packed, square},
                 {&w->qkv.packed, 3 * square},
                 {&w->output.packed, square},
                 {&w->right.packed, 3 * T * block},
                 {&w->left.packed, 3 * T * block},
                 {&w->stays, AHEAD * T * d},
                 {&w->of_joined, 3 * T * block},
                 {&w->of_hidden, T * block},
                 {&w->of_own, 3 * T * block},
                 {&w->of_recalled, 3 * T * block},
                 {&w->back, block},
                 {&w->through, looks},
                 {&w->of_biases, 10 * d * LANES},
                 {&w->input_back.packed, 3 * square},
                 {&w->state_back.packed, 3 * square},
                 {&w->qkv_back.packed, 3 * square},
                 {&w->output_back.packed, square},
                 {&input, 3 * square},
                 {&state, 3 * square},
                 {&qkv, 3 * square},
                 {&output, square}};
    int count = learning ? sizeof parts / sizeof parts[0] : 26;
    long total = 0;
    for (int i = 0; i < count; i++) total += parts[i].size;
    if (!(w->memory = malloc(sizeof(float) * total + 64))) return 0;
    float *at = (float *)(((uintptr_t)w->memory + 63) & ~(uintptr_t)63);
    for (int i = 0; i < count; i++) *(float **)parts[i].place = at, at += parts[i].size;
    w->tiles = l->tiles, w->apart = learning ? block : 0;
    memcpy(both, l->input_weight, sizeof(float) * 2 * square);
    memcpy(both + 2 * square, l->state_weight, sizeof(float) * 2 * square);
    weigh(w, &w->both, both, 4 * d, d, NULL);
    weigh(w, &w->input, l->input_weight + 2 * square, d, d, NULL);
    weigh(w, &w->state, l->state_weight + 2 * square, d, d, NULL);
    weigh(w, &w->qkv, l->qkv_weight, 3 * d, d, NULL);
    weigh(w, &w->output, l->output_weight, d, d, NULL);
    spread(w->both_bias, l->input_bias, l->state_bias, 2 * d);
    spread(w->input_bias, l->input_bias + 2 * d, NULL, d);
    spread(w->state_bias, l->state_bias + 2 * d, NULL, d);
    spread(w->qkv_bias, l->qkv_bias, NULL, 3 * d);
    spread(w->output_bias, l->output_bias, NULL, d);
    memset(w->nothing, 0, sizeof(float) * d * LANES);
    if (learning) {
        memset(w->of_biases, 0, sizeof(float) * 10 * d * LANES);
        weigh(w, &w->input_back, l->input_weight, 3 * d, d, input);
        weigh(w, &w->state_back, l->state_weight, 3 * d, d, state);
        weigh(w, &w->qkv_back, l->qkv_weight, 3 * d, d, qkv);
        weigh(w, &w->output_back, l->output_weight, d, d, output);
    }
    if (w->tiles) begin_tiles();
    return 1;
}

static void end(Work *w) {
    if (w->tiles) end_tiles();
    free(w->memory);
}

/* The right side number s of a product, x (k, columns), or turned round (columns, k). */
static void place(Work *w, long s, const float *x, long k, long columns, int turned) {
    Side one = {x, w->right.packed + 2 * s * k * columns};
    if (w->tiles)
        one.packed = w->right.packed + w->tiles * s * k * columns,
        turned ? pack_turned(&one, k, columns, w->tiles) : pack_right(&one, k, columns, w->tiles);
    else if (turned)
        transpose(x, columns, k, (float *)one.packed);
    else
        memcpy(one.packed, x, sizeof(float) * k * columns);
}

/* c (rows, NODES) = start (c where there is none) + the sum of n products weight (rows, k) @ x (k, NODES), of right sides that
   are placed, from number s on. */
static void add_placed(Work *w, float *c, const float *start, long rows, long k, const Side *weight, long s, long n) {
    Side x = {NULL, w->right.packed + (w->tiles ? w->tiles : 2) * s * k * NODES};
    if (w->tiles)
        add_by_tiles(c, start, rows, NODES, k, weight, &x, n, w->tiles);
    else
        add_by_vectors(c, start, rows, NODES, k, weight->plain, (float *)x.packed, n);
}

static void affine(Work *w, float *c, const float *start, long rows, long k, const Side *weight, const float *x) {
    place(w, 0, x, k, NODES, 0);
    add_placed(w, c, start, rows, k, weight, 0, 1);
}

/* c (rows, d) += the sum of n products left (rows, NODES) @ right, (d, NODES).T or (NODES, d), which follow each other. */
static void add_outer(Work *w, float *c, long rows, long d, const float *left, const float *right, int turned, long n) {
    for (long s = 0; s < n; s++) place(w, s, right + s * d * NODES, NODES, d, turned);
    w->left.plain = left;
    if (w->tiles) {
        pack_left(&w->left, n * rows, NODES, w->tiles);
        add_by_tiles(c, NULL, rows, d, NODES, &w->left, &w->right, n, w->tiles);
    } else
        add_by_vectors(c, NULL, rows, d, NODES, left, (float *)w->right.packed, n);
}

/* Rows [node][feature], zeros for nodes that are missing; the same as [feature][node]; and the way back. */
static void copy(const float *from, long nodes, long d, float *to) {
    memcpy(to, from, sizeof(float) * nodes * d);
    memset(to + nodes * d, 0, sizeof(float) * (NODES - nodes) * d);
}

static void take(const float *from, long nodes, long d, float *spare, float *to) {
    if (nodes < NODES) copy(from, nodes, d, spare), from = spare;
    transpose(from, NODES, d, to);
}

static void give(const float *from, long nodes, long d, float *spare, float *to) {
    transpose(from, d, NODES, nodes < NODES ? spare : to);
    if (nodes < NODES) memcpy(to, spare, sizeof(float) * nodes * d);
}

#define EACH(i, n) for (long i = 0; i < (n); i += LANES)

/* Notes which numbers of the next blocks stay. */
static void note(const Level *l, Work *w, const uint8_t *kept, long all_nodes, long first, long nodes) {
    uint8_t last[AHEAD * NODES] = {0};
    long numbers = l->dim * l->intervals;
    for (long i = 0; i < numbers; i++) {
        const uint8_t *k = kept + i * all_nodes + first;
        if (nodes < AHEAD * NODES) k = memcpy(last, k, nodes);
        for (long b = 0; b < AHEAD; b++, k += NODES) {
            ints low = __builtin_convertvector(*(const bytes *)k, ints);
            ints high = __builtin_convertvector(*(const bytes *)(k + LANES), ints);
            w->stays[b * numbers + i] = marks(low) | (uint32_t)marks(high) << LANES;
        }
    }
}

/* to = the states that stay, of block number b of those that are noted, scaled up. */
static void drop(const Level *l, const Work *w, long b, const float *states, float *to) {
    const uint32_t *noted = w->stays + b * l->dim * l->intervals;
    for (long i = 0; i < l->dim; i++)
        for (long t = 0; t < l->intervals; t++) {
            long at = (t * l->dim + i) * NODES;
            uint32_t stays = noted[i * l->intervals + t];
            store(to + at, marked(stays, load(states + at) * l->kept_scale, all(0)));
            store(to + at + LANES, marked(stays >> LANES, load(states + at + LANES) * l->kept_scale, all(0)));
        }
}

static void recurrent(const Level *l, Work *w, const float *x, long all_nodes, long first, long nodes) {
    long d = l->dim, block = d * NODES;
    for (long t = 0; t < l->intervals; t++) {
        float *gates = w->gates + 3 * t * w->apart, *recalled = w->recalled + t * w->apart, *state = w->hidden + t * block;
        const float *before = state - block;
        copy(x + (t * all_nodes + first) * d, nodes, d, w->x + t * block);
        place(w, 0, w->x + t * block, d, NODES, 1);
        if (t) place(w, 1, before, d, NODES, 0);
        add_placed(w, gates, w->both_bias, 2 * d, d, &w->both, 0, t ? 2 : 1);
        add_placed(w, gates + 2 * block, w->input_bias, d, d, &w->input, 0, 1);
        if (t) add_placed(w, recalled, w->state_bias, d, d, &w->state, 1, 1);
        EACH(i, block) {
            vec reset = sigmoid(load(gates + i)), update = sigmoid(load(gates + block + i));
            vec candidate = t ? load(recalled + i) : load(w->state_bias + i / NODES * LANES);
            vec new = tanh_of(load(gates + 2 * block + i) + reset * candidate);
            vec past = t ? load(before + i) : all(0);
            if (!t) store(recalled + i, candidate);
            store(gates + i, reset), store(gates + block + i, update), store(gates + 2 * block + i, new);
            store(state + i, new + update * (past - new));
        }
    }
}

static void normalise(const Level *l, Work *w) {
    long together = l->over_states ? l->intervals * l->dim : l->dim, groups = l->intervals * l->dim / together;
    for (long g = 0; g < groups; g++)
        EACH(j, NODES) {
            float *h = w->hat + g * together * NODES + j;
            vec mean = all(0), square = all(0), deviation;
            for (long i = 0; i < together; i++) mean += load(h + i * NODES);
            mean /= (float)together;
            for (long i = 0; i < together; i++) {
                vec centred = load(h + i * NODES) - mean;
                square += centred * centred;
            }
            square = square / (float)together + l->epsilon;
            for (int i = 0; i < LANES; i++) deviation[i] = 1.f / __builtin_sqrtf(square[i]);
            for (long i = 0; i < together; i++) store(h + i * NODES, (load(h + i * NODES) - mean) * deviation);
            store(w->deviation + g * NODES + j, deviation);
        }
}

/* Softmax of queries and keys; the mean over queries meets the values, which is exact. */
static void attend(const Level *l, Work *w) {
    long T = l->intervals, each = l->dim / l->heads, block = l->dim * NODES;
    for (long h = 0; h < l->heads; h++)
        EACH(j, NODES) {
            const float *at = w->joined + h * each * NODES + j;
            float *weights = w->weights + h * T * NODES + j;
            for (long s = 0; s < T; s++) store(weights + s * NODES, all(0));
            for (long t = 0; t < T; t++) {
                float *looks = w->looks + (h * T + t) * T * NODES + j;
                vec most = all(-1e30f), total = all(0);
                for (long s = 0; s < T; s++) {
                    vec sum = all(0);
                    for (long i = 0; i < each; i++)
                        sum += load(at + 3 * t * block + i * NODES) * load(at + (3 * s + 1) * block + i * NODES);
                    most = larger(sum, most);
                    store(looks + s * NODES, sum);
                }
                for (long s = 0; s < T; s++) {
                    vec look = exp2_of(load(looks + s * NODES) - most);
                    total += look;
                    store(looks + s * NODES, look);
                }
                vec part = inverse(total);
                for (long s = 0; s < T; s++) {
                    vec look = load(looks + s * NODES) * part;
                    store(looks + s * NODES, look);
                    store(weights + s * NODES, load(weights + s * NODES) + look / (float)T);
                }
            }
            for (long i = 0; i < each; i++) {
                vec sum = all(0);
                for (long s = 0; s < T; s++)
                    sum += load(weights + s * NODES) * load(at + (3 * s + 2) * block + i * NODES);
                store(w->pooled + (h * each + i) * NODES + j, sum);
            }
        }
}

/* Of nodes at to last - 1, which are a block, or more than one. */
static void forward(const Level *l, Work *w, const float *x, const uint8_t *kept, long all_nodes, long first, long at,
                    long last) {
    long nodes = smaller(last - at, NODES), b = (at - first) / NODES % AHEAD;
    long T = l->intervals, d = l->dim, block = d * NODES;
    recurrent(l, w, x, all_nodes, at, nodes);
    if (kept && !b) note(l, w, kept, all_nodes, at, smaller(last - at, AHEAD * NODES));
    if (kept)
        drop(l, w, b, w->hidden, w->hat);
    else
        memcpy(w->hat, w->hidden, sizeof(float) * T * block);
    if (l->with_norm) normalise(l, w);
    for (long t = 0; t < T; t++)
        affine(w, w->joined + 3 * t * block, w->qkv_bias, 3 * d, d, &w->qkv, w->hat + t * block);
    attend(l, w);
}

/* The long-term vectors of nodes first to last - 1: x (T, all_nodes, d), kept (d, T, all_nodes) or none -> result
   (all_nodes, d). Other than 0 where there is no memory. */
int hardgnn_level(long first, long last, const Level *l, const float *x, const uint8_t *kept, long all_nodes,
                  float *result) {
    Work w;
    long d = l->dim;
    if (!begin(&w, l, 0)) return 1;
    for (long at = first; at < last; at += NODES) {
        long nodes = smaller(last - at, NODES);
        forward(l, &w, x, kept, all_nodes, first, at, last);
        if (l->output_weight) affine(&w, w.x, w.output_bias, d, d, &w.output, w.pooled); /* x has been used */
        give(l->output_weight ? w.x : w.pooled, nodes, d, w.spare, result + at * d);
    }
    end(&w);
    return 0;
}

static void attend_gradient(const Level *l, Work *w, const float *of_pooled) {
    long T = l->intervals, each = l->dim / l->heads, block = l->dim * NODES;
    for (long h = 0; h < l->heads; h++)
        EACH(j, NODES) {
            const float *at = w->joined + h * each * NODES + j, *of = of_pooled + h * each * NODES + j;
            float *to = w->of_joined + h * each * NODES + j, *through = w->through + h * T * T * NODES + j;
            vec of_weight[T];
            for (long s = 0; s < T; s++) {
                vec weight = load(w->weights + (h * T + s) * NODES + j), sum = all(0);
                for (long i = 0; i < each; i++) {
                    sum += load(of + i * NODES) * load(at + (3 * s + 2) * block + i * NODES);
                    store(to + (3 * s + 2) * block + i * NODES, weight * load(of + i * NODES));
                }
                of_weight[s] = sum * (0.69314718f / T); /* ln 2: the softmax has the base 2 */
            }
            for (long t = 0; t < T; t++) {
                const float *looks = w->looks + (h * T + t) * T * NODES + j;
                vec total = all(0);
                for (long s = 0; s < T; s++) total += load(looks + s * NODES) * of_weight[s];
                for (long s = 0; s < T; s++)
                    store(through + (t * T + s) * NODES, load(looks + s * NODES) * (of_weight[s] - total));
            }
            for (long t = 0; t < T; t++)
                for (long i = 0; i < each; i++) {
                    vec of_query = all(0), of_key = all(0);
                    for (long s = 0; s < T; s++) {
                        of_query += load(through + (t * T + s) * NODES) * load(at + (3 * s + 1) * block + i * NODES);
                        of_key += load(through + (s * T + t) * NODES) * load(at + 3 * s * block + i * NODES);
                    }
                    store(to + 3 * t * block + i * NODES, of_query);
                    store(to + (3 * t + 1) * block + i * NODES, of_key);
                }
        }
}

static void normalise_gradient(const Level *l, Work *w) {
    long together = l->over_states ? l->intervals * l->dim : l->dim, groups = l->intervals * l->dim / together;
    for (long g = 0; g < groups; g++)
        EACH(j, NODES) {
            float *of = w->of_hidden + g * together * NODES + j, *hat = w->hat + g * together * NODES + j;
            vec mean = all(0), alike = all(0), deviation = load(w->deviation + g * NODES + j);
            for (long i = 0; i < together; i++) {
                mean += load(of + i * NODES);
                alike += load(of + i * NODES) * load(hat + i * NODES);
            }
            mean /= (float)together, alike /= (float)together;
            for (long i = 0; i < together; i++)
                store(of + i * NODES, (load(of + i * NODES) - mean - load(hat + i * NODES) * alike) * deviation);
        }
}

static void gates_gradient(const Level *l, Work *w, long t) {
    long block = l->dim * NODES;
    const float *gates = w->gates + 3 * t * block, *candidate = w->recalled + t * block;
    const float *before = w->hidden + (t - 1) * block;
    float *own = w->of_own + 3 * t * block, *recalled = w->of_recalled + 3 * t * block;
    EACH(i, block) {
        vec reset = load(gates + i), update = load(gates + block + i), new = load(gates + 2 * block + i);
        vec g = load(w->of_hidden + t * block + i) + load(w->back + i);
        vec past = t ? load(before + i) : all(0);
        vec of_new = g * (1.f - update) * (1.f - new * new);
        vec of_reset = of_new * load(candidate + i) * reset * (1.f - reset);
        vec of_update = g * (past - new) * update * (1.f - update);
        store(own + i, of_reset), store(own + block + i, of_update), store(own + 2 * block + i, of_new);
        store(recalled + i, of_reset), store(recalled + block + i, of_update);
        store(recalled + 2 * block + i, of_new * reset);
        store(w->back + i, g * update);
    }
}

/* The gradient `result` (T, all_nodes, d) of x from that of the vectors, `grad` (all_nodes, d). Added to `sums`: the
   weights' gradients over these nodes, of input, state, qkv and output, and then of their biases. */
int hardgnn_level_gradient(long first, long last, const Level *l, const float *x, const uint8_t *kept, long all_nodes,
                           const float *grad, float *result, float *sums) {
    Work w;
    long T = l->intervals, d = l->dim, block = d * NODES, square = d * d;
    float *of_input = sums, *of_state = of_input + 3 * square, *of_qkv = of_state + 3 * square;
    float *of_output = of_qkv + 3 * square;
    if (!begin(&w, l, 1)) return 1;
    float *of_input_bias = w.of_biases, *of_state_bias = of_input_bias + 3 * d * LANES;
    float *of_qkv_bias = of_state_bias + 3 * d * LANES, *of_output_bias = of_qkv_bias + 3 * d * LANES;
    for (long at = first; at < last; at += NODES) {
        long nodes = smaller(last - at, NODES);
        forward(l, &w, x, kept, all_nodes, first, at, last);
        take(grad + at * d, nodes, d, w.spare, w.back);
        if (l->output_weight) {
            float *of_vectors = w.of_own; /* not needed yet */
            memcpy(of_vectors, w.back, sizeof(float) * block);
            add_outer(&w, of_output, d, d, of_vectors, w.pooled, 1, 1);
            add_rows(of_output_bias, of_vectors, d);
            affine(&w, w.back, w.nothing, d, d, &w.output_back, of_vectors);
        }
        attend_gradient(l, &w, w.back);
        add_outer(&w, of_qkv, 3 * d, d, w.of_joined, w.hat, 1, T);
        for (long t = 0; t < T; t++) {
            add_rows(of_qkv_bias, w.of_joined + 3 * t * block, 3 * d);
            affine(&w, w.of_hidden + t * block, w.nothing, d, 3 * d, &w.qkv_back, w.of_joined + 3 * t * block);
        }
        if (l->with_norm) normalise_gradient(l, &w);
        if (kept) drop(l, &w, (at - first) / NODES % AHEAD, w.of_hidden, w.of_hidden);
        memset(w.back, 0, sizeof(float) * block);
        for (long t = T - 1; t >= 0; t--) {
            const float *own = w.of_own + 3 * t * block, *recalled = w.of_recalled + 3 * t * block;
            gates_gradient(l, &w, t);
            add_rows(of_input_bias, own, 3 * d);
            add_rows(of_state_bias, recalled, 3 * d);
            affine(&w, w.pooled, w.nothing, d, 3 * d, &w.input_back, own);
            give(w.pooled, nodes, d, w.spare, result + (t * all_nodes + at) * d);
            if (t) affine(&w, w.back, NULL, d, 3 * d, &w.state_back, recalled);
        }
        add_outer(&w, of_input, 3 * d, d, w.of_own, w.x, 0, T);
        if (T > 1) add_outer(&w, of_state, 3 * d, d, w.of_recalled + 3 * block, w.hidden, 1, T - 1);
    }
    add_sums(of_output + square, w.of_biases, 10 * d);
    end(&w);
    return 0;
}

/* Whether products may run by tiles here. */
int hardgnn_tiles(void) { return may_use_tiles(); }
