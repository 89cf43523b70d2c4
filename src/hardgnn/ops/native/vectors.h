/* Vectors of 16 float32 numbers, which the compiler splits where the processor's are shorter. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

#define LANES 16

typedef float vec __attribute__((vector_size(64), aligned(4), may_alias));
typedef int8_t bytes __attribute__((vector_size(16), aligned(1), may_alias));
typedef uint16_t halves __attribute__((vector_size(32), aligned(2), may_alias));
typedef int32_t ints __attribute__((vector_size(64), aligned(4), may_alias));

static inline vec load(const float *p) { return *(const vec *)p; }
static inline void store(float *p, vec x) { *(vec *)p = x; }
static inline vec all(float x) { return x - (vec){0}; }
static inline vec chosen(ints first, vec a, vec b) { return (vec)(((ints)a & first) | ((ints)b & ~first)); }
static inline vec larger(vec a, vec b) { return chosen(a > b, a, b); }
static inline int any_of(ints x) {
#ifdef __AVX512F__
    return _mm512_test_epi32_mask((__m512i)x, (__m512i)x) != 0;
#else
    int any = 0;
    for (int j = 0; j < LANES; j++) any |= x[j];
    return any;
#endif
}
/* One bit for each number that is not 0, the first lowest; and a where its bit is set, else b. */
static inline uint16_t marks(ints x) {
#ifdef __AVX512F__
    return _mm512_test_epi32_mask((__m512i)x, (__m512i)x);
#else
    uint16_t bits = 0;
    for (int j = 0; j < LANES; j++) bits |= (x[j] != 0) << j;
    return bits;
#endif
}
static inline vec marked(uint16_t bits, vec a, vec b) {
#ifdef __AVX512F__
    return (vec)_mm512_mask_blend_ps(bits, (__m512)b, (__m512)a);
#else
    const ints each = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768};
    return chosen(((each - each + bits) & each) != 0, a, b);
#endif
}
/* 16 bfloat16 numbers, and 16 rounded to these. */
static inline vec widened(const uint16_t *p) {
#ifdef __AVX512F__
    return (vec)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p)), 16);
#else
    return (vec)(__builtin_convertvector(*(const halves *)p, ints) << 16);
#endif
}
static inline void narrowed(uint16_t *p, vec x) {
#ifdef __AVX512BF16__
    _mm256_storeu_si256((__m256i *)p, (__m256i)_mm512_cvtneps_pbh((__m512)x));
#else
    ints bits = (ints)x;
    *(halves *)p = __builtin_convertvector((bits + 0x7fff + ((bits >> 16) & 1)) >> 16, halves);
#endif
}
static inline float sum_of(vec x) {
    float sum = 0;
    for (int j = 0; j < LANES; j++) sum += x[j];
    return sum;
}

/* 1 / x to 1e-7, of x from 1e-37 to 1e37 */
static inline vec inverse(vec x) {
#ifdef __AVX512F__
    vec y = (vec)_mm512_rcp14_ps((__m512)x);
    return y * (2.f - x * y);
#else
    return 1.f / x;
#endif
}

/* 2^x to 1e-7, of x from -126 to 126; what is no number stays none */
static inline vec exp2_of(vec x) {
#ifdef __AVX512F__
    x = (vec)_mm512_max_ps(_mm512_set1_ps(-126), _mm512_min_ps(_mm512_set1_ps(126), (__m512)x)); /* of two the second */
    vec whole = (vec)_mm512_roundscale_ps((__m512)x, 8), part = x - whole;
#else
    x = chosen(x < -126.f, all(-126.f), chosen(x > 126.f, all(126.f), x));
    vec odd = x;
    ints whole = __builtin_convertvector(x + 1024.5f, ints) - 1024; /* the nearest whole number */
    vec part = x - __builtin_convertvector(whole, vec);
#endif
    vec y = all(1.5403530e-4f);
    y = y * part + 1.3333558e-3f;
    y = y * part + 9.6181291e-3f;
    y = y * part + 5.5504109e-2f;
    y = y * part + 2.4022651e-1f;
    y = y * part + 6.9314718e-1f;
    y = y * part + 1.0f;
#ifdef __AVX512F__
    return (vec)_mm512_scalef_ps((__m512)y, (__m512)whole);
#else
    return chosen(odd == odd, (vec)((ints)y + (whole << 23)), odd);
#endif
}

/* The natural logarithm to 1e-7, of x above 1e-37: log(2^e m), m within sqrt(1/2) and sqrt(2), by a polynomial in m - 1. */
static inline vec log_of(vec x) {
    ints bits = (ints)x - 0x3f3504f3;
    vec power = __builtin_convertvector(bits >> 23, vec);
    vec z = (vec)((bits & 0x007fffff) + 0x3f3504f3) - 1.f;
    vec y = all(7.0376836292e-2f);
    y = y * z - 1.1514610310e-1f;
    y = y * z + 1.1676998740e-1f;
    y = y * z - 1.2420140846e-1f;
    y = y * z + 1.4249322787e-1f;
    y = y * z - 1.6668057665e-1f;
    y = y * z + 2.0000714765e-1f;
    y = y * z - 2.4999993993e-1f;
    y = y * z + 3.3333331174e-1f;
    return chosen(x == x, power * 0.69314718f + (z + z * z * (y * z - 0.5f)), x);
}

/* c (8, 32) += a (8, k) @ b (k, 32): the numbers of a row, and of a k, follow each other at the given distances. */
static inline void add_tile(float *c, long c_row, const float *a, long a_row, long a_k, const float *b, long b_k, long k) {
    vec sums[8][2];
    for (int r = 0; r < 8; r++) sums[r][0] = load(c + r * c_row), sums[r][1] = load(c + r * c_row + LANES);
    for (long q = 0; q < k; q++) {
        vec first = load(b + q * b_k), second = load(b + q * b_k + LANES);
#pragma GCC unroll 8
        for (int r = 0; r < 8; r++) {
            float times = a[r * a_row + q * a_k];
            sums[r][0] += times * first, sums[r][1] += times * second;
        }
    }
    for (int r = 0; r < 8; r++) store(c + r * c_row, sums[r][0]), store(c + r * c_row + LANES, sums[r][1]);
}
