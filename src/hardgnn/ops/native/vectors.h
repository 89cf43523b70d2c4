/* Vectors of 16 float32 numbers, which the compiler splits where the processor's are shorter. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define LANES 16

typedef float vec __attribute__((vector_size(64), aligned(4), may_alias));
typedef int8_t bytes __attribute__((vector_size(16), aligned(1), may_alias));
typedef int32_t ints __attribute__((vector_size(64), aligned(4), may_alias));

static inline vec load(const float *p) { return *(const vec *)p; }
static inline void store(float *p, vec x) { *(vec *)p = x; }
static inline vec all(float x) { return x - (vec){0}; }
static inline vec chosen(ints first, vec a, vec b) { return (vec)(((ints)a & first) | ((ints)b & ~first)); }
static inline vec larger(vec a, vec b) { return chosen(a > b, a, b); }
