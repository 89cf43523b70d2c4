/* Products of float32 matrices: by vectors, or where the processor multiplies tiles of bfloat16 numbers (AMX) by these:
   every number is the sum of two of them, high and low, and high * high + high * low + low * high is the product to 1e-5;
   or, of one part alone, high, and high * high is the product to 4e-3.

   Rows and columns are multiples of 32, and so is what is added up over. */

#include "vectors.h"

/* A side of a product; `packed` has room for as many numbers as the matrix has. */
typedef struct {
    const float *plain;
    uint16_t *packed;
} Side;

#ifdef __AVX512F__
#define PAIRS(kind, x, y) _mm512_castpd_ps(_mm512_unpack##kind##_pd(_mm512_castps_pd(x), _mm512_castps_pd(y)))

static void transpose16(const float *from, long step, float *to, long step_to) {
    __m512 a[16], b[16];
    for (int i = 0; i < 16; i++) a[i] = _mm512_loadu_ps(from + i * step);
    for (int i = 0; i < 16; i += 2) {
        b[i] = _mm512_unpacklo_ps(a[i], a[i + 1]);
        b[i + 1] = _mm512_unpackhi_ps(a[i], a[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        a[i] = PAIRS(lo, b[i], b[i + 2]), a[i + 1] = PAIRS(hi, b[i], b[i + 2]);
        a[i + 2] = PAIRS(lo, b[i + 1], b[i + 3]), a[i + 3] = PAIRS(hi, b[i + 1], b[i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        b[i] = _mm512_shuffle_f32x4(a[i], a[i + 4], 0x88);
        b[i + 4] = _mm512_shuffle_f32x4(a[i], a[i + 4], 0xdd);
        b[i + 8] = _mm512_shuffle_f32x4(a[i + 8], a[i + 12], 0x88);
        b[i + 12] = _mm512_shuffle_f32x4(a[i + 8], a[i + 12], 0xdd);
    }
    for (int i = 0; i < 8; i++) {
        _mm512_storeu_ps(to + i * step_to, _mm512_shuffle_f32x4(b[i], b[i + 8], 0x88));
        _mm512_storeu_ps(to + (i + 8) * step_to, _mm512_shuffle_f32x4(b[i], b[i + 8], 0xdd));
    }
}
#else
static void transpose16(const float *from, long step, float *to, long step_to) {
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 16; j++) to[j * step_to + i] = from[i * step + j];
}
#endif

/* (rows, columns) to (columns, rows), both multiples of 16 */
static void transpose(const float *from, long rows, long columns, float *to) {
    for (long i = 0; i < rows; i += 16)
        for (long j = 0; j < columns; j += 16) transpose16(from + i * columns + j, columns, to + j * rows + i, rows);
}

#if defined(__AMX_TILE__) && defined(__AMX_BF16__) && defined(__AVX512BF16__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#define TILE 512 /* numbers of a tile: 16 rows of 32 */

/* Whether this process may use tiles: the kernel is asked (ARCH_REQ_XCOMP_PERM for XTILEDATA). */
static int may_use_tiles(void) { return syscall(SYS_arch_prctl, 0x1023, 18) == 0; }

static void begin_tiles(void) {
    static const struct { /* static: compilers take the instruction to read its first 8 bytes alone */
        uint8_t palette, start, reserved[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } eight = {1, 0, {0}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};
    _tile_loadconfig(&eight);
}

static void end_tiles(void) { _tile_release(); }

static inline __m512i rounded(__m512 first, __m512 second) { return (__m512i)_mm512_cvtne2ps_pbh(second, first); }

/* What is left of 32 numbers where their roundings are taken away. */
static inline __m512i rest(__m512 first, __m512 second, __m512i high) {
    __m512i of_first = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(high));
    __m512i of_second = _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(high, 1));
    first = _mm512_sub_ps(first, _mm512_castsi512_ps(_mm512_slli_epi32(of_first, 16)));
    second = _mm512_sub_ps(second, _mm512_castsi512_ps(_mm512_slli_epi32(of_second, 16)));
    return rounded(first, second);
}

/* The left side (rows, k): tiles of 16 rows and 32 numbers of k, high and low in turn. */
static void pack_left(Side *side, long rows, long k, long parts) {
    uint16_t *to = side->packed;
    for (long i = 0; i < rows; i += 16)
        for (long j = 0; j < k; j += 32, to += parts * TILE)
            for (long r = 0; r < 16; r++) {
                const float *from = side->plain + (i + r) * k + j;
                __m512 first = _mm512_loadu_ps(from), second = _mm512_loadu_ps(from + 16);
                __m512i high = rounded(first, second);
                _mm512_storeu_si512(to + 32 * r, high);
                if (parts > 1) _mm512_storeu_si512(to + TILE + 32 * r, rest(first, second, high));
            }
}

/* The right side (k, columns): tiles of 16 columns, whose 16 rows have two numbers of k for each column. */
static void pack_right(Side *side, long k, long columns, long parts) {
    uint16_t order[32], *to = side->packed;
    for (int i = 0; i < 16; i++) order[2 * i] = i, order[2 * i + 1] = 16 + i;
    __m512i pairs = _mm512_loadu_si512(order);
    for (long j = 0; j < columns; j += 16)
        for (long i = 0; i < k; i += 32, to += parts * TILE)
            for (long r = 0; r < 16; r++) {
                const float *from = side->plain + (i + 2 * r) * columns + j;
                __m512 first = _mm512_loadu_ps(from), second = _mm512_loadu_ps(from + columns);
                __m512i high = rounded(first, second);
                _mm512_storeu_si512(to + 32 * r, _mm512_permutexvar_epi16(pairs, high));
                if (parts > 1)
                    _mm512_storeu_si512(to + TILE + 32 * r, _mm512_permutexvar_epi16(pairs, rest(first, second, high)));
            }
}

/* The same of what lies turned round, (columns, k): two numbers of k are already beside each other. */
static void pack_turned(Side *side, long k, long columns, long parts) {
    __m512i high[16], low[16];
    uint16_t *to = side->packed;
    for (long j = 0; j < columns; j += 16)
        for (long i = 0; i < k; i += 32, to += parts * TILE) {
            for (long c = 0; c < 16; c++) {
                const float *from = side->plain + (j + c) * k + i;
                __m512 first = _mm512_loadu_ps(from), second = _mm512_loadu_ps(from + 16);
                high[c] = rounded(first, second);
                if (parts > 1) low[c] = rest(first, second, high[c]);
            }
            transpose16((float *)high, 16, (float *)to, 16);
            if (parts > 1) transpose16((float *)low, 16, (float *)(to + TILE), 16);
        }
}

/* Tiles 0 to 3 are the sums of two tiles of rows, 4 and 5, with two of columns, 6 and 7. */
#define LOAD(first, second, from, distance, row) \
    _tile_loadd(first, from, row);               \
    _tile_loadd(second, (from) + (distance), row)
#define STORE(first, second, to, distance, row) \
    _tile_stored(first, to, row);               \
    _tile_stored(second, (to) + (distance), row)
#define ADD_FOUR()           \
    _tile_dpbf16ps(0, 4, 6); \
    _tile_dpbf16ps(1, 4, 7); \
    _tile_dpbf16ps(2, 5, 6); \
    _tile_dpbf16ps(3, 5, 7)

static inline __attribute__((always_inline)) void add_tiles(float *c, const float *start, long rows, long columns, long k,
                                                            const Side *left, const Side *right, long n, long parts) {
    long row = columns * sizeof(float), across = parts * TILE * (k / 32);
    for (long i = 0; i < rows; i += 32)
        for (long j = 0; j < columns; j += 32) {
            float *at = c + i * columns + j, *below = at + 16 * columns;
            if (start) {
                const float *from = start + i * LANES;
                LOAD(0, 1, from, 0, LANES * sizeof(float));
                LOAD(2, 3, from + 16 * LANES, 0, LANES * sizeof(float));
            } else {
                LOAD(0, 1, at, 16, row);
                LOAD(2, 3, below, 16, row);
            }
            for (long s = 0; s < n; s++) {
                const uint16_t *a = left->packed + (s * rows + i) / 16 * across;
                const uint16_t *b = right->packed + (s * columns + j) / 16 * across;
                for (long q = 0; q < across; q += parts * TILE) {
                    LOAD(4, 5, a + q, across, 64);
                    if (parts > 1) {
                        LOAD(6, 7, b + q + TILE, across, 64);
                        ADD_FOUR();
                    }
                    LOAD(6, 7, b + q, across, 64);
                    ADD_FOUR();
                    if (parts > 1) {
                        LOAD(4, 5, a + q + TILE, across, 64);
                        ADD_FOUR();
                    }
                }
            }
            STORE(0, 1, at, 16, row);
            STORE(2, 3, below, 16, row);
        }
}

/* c (rows, columns) = start + the sum of n products left (rows, k) @ right (k, columns), which follow each other; start has
   one number for each row, 16 times over, and is c where there is none. */
static void add_by_tiles(float *c, const float *start, long rows, long columns, long k, const Side *left,
                         const Side *right, long n, long parts) {
    if (parts > 1)
        add_tiles(c, start, rows, columns, k, left, right, n, 2);
    else
        add_tiles(c, start, rows, columns, k, left, right, n, 1);
}
#else
static int may_use_tiles(void) { return 0; }
static void begin_tiles(void) {}
static void end_tiles(void) {}
static void pack_left(Side *side, long rows, long k, long parts) { (void)side, (void)rows, (void)k, (void)parts; }
static void pack_right(Side *side, long k, long columns, long parts) { (void)side, (void)k, (void)columns, (void)parts; }
static void pack_turned(Side *side, long k, long columns, long parts) { (void)side, (void)k, (void)columns, (void)parts; }
static void add_by_tiles(float *c, const float *start, long rows, long columns, long k, const Side *left,
                         const Side *right, long n, long parts) {
    (void)c, (void)start, (void)rows, (void)columns, (void)k, (void)left, (void)right, (void)n, (void)parts;
}
#endif

static void add_by_vectors(float *c, const float *start, long rows, long columns, long k, const float *left,
                           const float *right, long n) {
    for (long i = 0; start && i < rows; i++)
        for (long j = 0; j < columns; j += LANES) store(c + i * columns + j, load(start + i * LANES));
    for (long i = 0; i < rows; i += 8)
        for (long j = 0; j < columns; j += 2 * LANES)
            for (long s = 0; s < n; s++)
                add_tile(c + i * columns + j, columns, left + (s * rows + i) * k, k, 1, right + s * k * columns + j,
                         columns, k);
}
