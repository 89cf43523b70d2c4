/* The interval level (a GRU over T states of a node, dropout, LayerNorm, attention over the states, averaged) and its
   gradient, 32 nodes at a time from the first state to the last, so that nothing between them leaves the caches.

   Within a block numbers lie as [feature][node], so that every operation runs over whole vectors. */

#include "products.h"

#define NODES 32 /* of a block */

static inline vec sigmoid(vec x) { return inverse(1.f + exp2_of(x * -1.44269504f)); }
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
   LayerNorm, the scale of the logits and the base 2 of the softmax are in the weights of queries, keys and values. */
typedef struct {
    long intervals, dim, heads, over_states, with_norm, tiles;
    float epsilon, kept_scale;
    const float *input_weight, *state_weight, *qkv_weight, *output_weight; /* (3d, d) each, (d, d) or none */
    const float *input_bias, *state_bias, *qkv_bias, *output_bias;
} Level;

/* The numbers of a block; the weights, and for the gradient the weights turned round. */
typedef struct {
    float *x, *gates, *recalled, *hidden, *hat, *deviation, *joined, *looks, *weights, *pooled, *spare;
    float *of_joined, *of_hidden, *of_own, *of_recalled, *back, *through, *of_biases;
    Side input, state, qkv, output, input_back, state_back, qkv_back, output_back;
    Side left, right; /* of the product at hand */
    long tiles, apart; /* apart: numbers between the gates of two intervals, which the gradient alone needs again */
    void *memory;
} Work;

/* Packs a weight (rows, columns), or that turned round. */
static void weigh(Work *w, Side *side, const float *weight, long rows, long columns, float *turned) {
    side->plain = turned ? turned : weight;
    if (!weight) return;
    if (turned) transpose(weight, rows, columns, turned);
    if (w->tiles) turned ? pack_left(side, columns, rows) : pack_left(side, rows, columns);
}

static int begin(Work *w, const Level *l, int learning) {
    long T = l->intervals, d = l->dim, H = l->heads, block = d * NODES, looks = H * T * T * NODES, square = d * d;
    float *input, *state, *qkv, *output;
    struct {
        void *place;
        long size;
    } parts[] = {{&w->x, T * block},
                 {&w->gates, 3 * T * block},
                 {&w->recalled, 3 * T * block},
                 {&w->hidden, T * block},
                 {&w->hat, T * block},
                 {&w->deviation, T * NODES},
                 {&w->joined, 3 * T * block},
                 {&w->looks, looks},
                 {&w->weights, H * T * NODES},
                 {&w->pooled, block},
                 {&w->spare, T * block},
                 {&w->input.packed, 3 * square},
                 {&w->state.packed, 3 * square},
                 {&w->qkv.packed, 3 * square},
                 {&w->output.packed, square},
                 {&w->right.packed, 3 * T * block},
                 {&w->left.packed, 3 * T * block},
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
    int count = learning ? sizeof parts / sizeof parts[0] : 16;
    long total = 0;
    for (int i = 0; i < count; i++) total += parts[i].size;
    if (!(w->memory = malloc(sizeof(float) * total + 64))) return 0;
    float *at = (float *)(((uintptr_t)w->memory + 63) & ~(uintptr_t)63);
    for (int i = 0; i < count; i++) *(float **)parts[i].place = at, at += parts[i].size;
    w->tiles = l->tiles, w->apart = learning ? 3 * block : 0;
    weigh(w, &w->input, l->input_weight, 3 * d, d, NULL);
    weigh(w, &w->state, l->state_weight, 3 * d, d, NULL);
    weigh(w, &w->qkv, l->qkv_weight, 3 * d, d, NULL);
    weigh(w, &w->output, l->output_weight, d, d, NULL);
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

/* c (rows, NODES) += weight (rows, k) @ x (k, NODES) */
static void add_product(Work *w, float *c, long rows, long k, const Side *weight, const float *x) {
    w->right.plain = x;
    if (w->tiles) {
        pack_right(&w->right, k, NODES);
        add_by_tiles(c, rows, NODES, k, weight, &w->right, 1);
    } else
        add_by_vectors(c, rows, NODES, k, weight->plain, x, 1);
}

/* c (rows, NODES) = weight (rows, k) @ x (k, NODES) + bias (rows,), or zeros for a bias and a product that are none */
static void affine(Work *w, float *c, long rows, long k, const Side *weight, const float *x, const float *bias) {
    for (long i = 0; i < rows; i++) {
        vec start = all(bias ? bias[i] : 0.f);
        store(c + i * NODES, start), store(c + i * NODES + LANES, start);
    }
    if (x) add_product(w, c, rows, k, weight, x);
}

/* c (rows, d) += the sum of n products left (rows, NODES) @ right (d, NODES).T, which follow each other in memory */
static void add_outer(Work *w, float *c, long rows, long d, const float *left, const float *right, long n) {
    for (long s = 0; s < n; s++) transpose(right + s * d * NODES, d, NODES, w->spare + s * d * NODES);
    if (!w->tiles) {
        add_by_vectors(c, rows, d, NODES, left, w->spare, n);
        return;
    }
    w->left.plain = left;
    pack_left(&w->left, n * rows, NODES);
    for (long s = 0; s < n; s++) {
        Side one = {w->spare + s * d * NODES, w->right.packed + 2 * s * d * NODES};
        pack_right(&one, NODES, d);
    }
    add_by_tiles(c, rows, d, NODES, &w->left, &w->right, n);
}

/* Rows [node][feature] as [feature][node], zeros for nodes that are missing; and the way back. */
static void take(const float *from, long nodes, long d, float *spare, float *to) {
    if (nodes < NODES) {
        memset(spare, 0, sizeof(float) * NODES * d);
        from = memcpy(spare, from, sizeof(float) * nodes * d);
    }
    transpose(from, NODES, d, to);
}

static void give(const float *from, long nodes, long d, float *spare, float *to) {
    transpose(from, d, NODES, nodes < NODES ? spare : to);
    if (nodes < NODES) memcpy(to, spare, sizeof(float) * nodes * d);
}

#define EACH(i, n) for (long i = 0; i < (n); i += LANES)

static void drop(const Level *l, const uint8_t *kept, long all_nodes, long first, long nodes, float *states) {
    uint8_t last[NODES] = {0};
    for (long i = 0; i < l->dim; i++)
        for (long t = 0; t < l->intervals; t++) {
            const uint8_t *k = kept + (i * l->intervals + t) * all_nodes + first;
            float *h = states + (t * l->dim + i) * NODES;
            if (nodes < NODES) k = memcpy(last, k, nodes);
            EACH(j, NODES) {
                ints stays = __builtin_convertvector(*(const bytes *)(k + j), ints) != 0;
                store(h + j, chosen(stays, load(h + j) * l->kept_scale, all(0)));
            }
        }
}

static void recurrent(const Level *l, Work *w, const float *x, long all_nodes, long first, long nodes) {
    long d = l->dim, block = d * NODES;
    for (long t = 0; t < l->intervals; t++) {
        float *gates = w->gates + t * w->apart, *recalled = w->recalled + t * w->apart, *state = w->hidden + t * block;
        const float *before = state - block;
        take(x + (t * all_nodes + first) * d, nodes, d, w->spare, w->x + t * block);
        affine(w, gates, 3 * d, d, &w->input, w->x + t * block, l->input_bias);
        affine(w, recalled, 3 * d, d, &w->state, t ? before : NULL, l->state_bias);
        EACH(i, block) {
            vec reset = sigmoid(load(gates + i) + load(recalled + i));
            vec update = sigmoid(load(gates + block + i) + load(recalled + block + i));
            vec new = tanh_of(load(gates + 2 * block + i) + reset * load(recalled + 2 * block + i));
            vec past = t ? load(before + i) : all(0);
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
                for (long s = 0; s < T; s++) {
                    vec look = load(looks + s * NODES) / total;
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

static void forward(const Level *l, Work *w, const float *x, const uint8_t *kept, long all_nodes, long first, long nodes) {
    long T = l->intervals, d = l->dim, block = d * NODES;
    recurrent(l, w, x, all_nodes, first, nodes);
    memcpy(w->hat, w->hidden, sizeof(float) * T * block);
    if (kept) drop(l, kept, all_nodes, first, nodes, w->hat);
    if (l->with_norm) normalise(l, w);
    for (long t = 0; t < T; t++)
        affine(w, w->joined + 3 * t * block, 3 * d, d, &w->qkv, w->hat + t * block, l->qkv_bias);
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
        long nodes = last - at < NODES ? last - at : NODES;
        forward(l, &w, x, kept, all_nodes, at, nodes);
        if (l->output_weight) affine(&w, w.x, d, d, &w.output, w.pooled, l->output_bias); /* x has been used */
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
    const float *gates = w->gates + 3 * t * block, *candidate = w->recalled + (3 * t + 2) * block;
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
        long nodes = last - at < NODES ? last - at : NODES;
        forward(l, &w, x, kept, all_nodes, at, nodes);
        take(grad + at * d, nodes, d, w.spare, w.back);
        if (l->output_weight) {
            float *of_vectors = w.of_own; /* not needed yet */
            memcpy(of_vectors, w.back, sizeof(float) * block);
            add_outer(&w, of_output, d, d, of_vectors, w.pooled, 1);
            add_rows(of_output_bias, of_vectors, d);
            affine(&w, w.back, d, d, &w.output_back, of_vectors, NULL);
        }
        attend_gradient(l, &w, w.back);
        add_outer(&w, of_qkv, 3 * d, d, w.of_joined, w.hat, T);
        for (long t = 0; t < T; t++) {
            add_rows(of_qkv_bias, w.of_joined + 3 * t * block, 3 * d);
            affine(&w, w.of_hidden + t * block, d, 3 * d, &w.qkv_back, w.of_joined + 3 * t * block, NULL);
        }
        if (l->with_norm) normalise_gradient(l, &w);
        if (kept) drop(l, kept, all_nodes, at, nodes, w.of_hidden);
        memset(w.back, 0, sizeof(float) * block);
        for (long t = T - 1; t >= 0; t--) {
            const float *own = w.of_own + 3 * t * block, *recalled = w.of_recalled + 3 * t * block;
            gates_gradient(l, &w, t);
            add_rows(of_input_bias, own, 3 * d);
            add_rows(of_state_bias, recalled, 3 * d);
            affine(&w, w.pooled, d, 3 * d, &w.input_back, own, NULL);
            give(w.pooled, nodes, d, w.spare, result + (t * all_nodes + at) * d);
            if (t) add_product(&w, w.back, d, 3 * d, &w.state_back, recalled);
        }
        add_outer(&w, of_input, 3 * d, d, w.of_own, w.x, T);
        if (T > 1) add_outer(&w, of_state, 3 * d, d, w.of_recalled + 3 * block, w.hidden, T - 1);
    }
    add_sums(of_output + square, w.of_biases, 10 * d);
    end(&w);
    return 0;
}

/* Whether products may run by tiles here. */
int hardgnn_tiles(void) { return may_use_tiles(); }
