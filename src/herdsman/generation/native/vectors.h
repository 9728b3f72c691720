/* Vectors of 16 lanes, and the two inner products that everything rests on.
 *
 * What is written with the compiler's own vectors runs anywhere, lowered to whatever width the processor has. Where
 * it has AVX-512, the few operations that matter are its own instructions.
 *
 * A `half` is a number rounded to bfloat16, and a `quant` a whole number from -127 to 127, each held the way the inner
 * products read it: packed where there is an instruction for them, as float where there is none.
 */
#pragma once
#include <stdint.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* Most that is used of the processor: 0 plain C, 1 AVX-512, 2 also tiles. Only tests ask for less than there is. */
#ifndef HERDSMAN_LEVEL
#define HERDSMAN_LEVEL 2
#endif

#define INLINE static inline __attribute__((always_inline))
#define LANES 16

typedef float F32 __attribute__((vector_size(64)));
typedef int32_t I32 __attribute__((vector_size(64)));
typedef uint32_t U32 __attribute__((vector_size(64)));

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VNNI__) && HERDSMAN_LEVEL >= 1
#define HAS_VNNI 1
typedef int8_t quant;
#else
#define HAS_VNNI 0
typedef float quant;
#endif

/* clang 16 crashes over a broadcast pair of bfloat16; 19 does not. */
#if HAS_VNNI && defined(__AVX512BF16__) && !(defined(__clang__) && __clang_major__ < 19)
#define HAS_BF16 1
typedef uint16_t half;
#else
#define HAS_BF16 0
typedef float half;
#endif

#if HAS_BF16 && defined(__AMX_TILE__) && defined(__AMX_INT8__) && defined(__AMX_BF16__) && defined(__linux__) && \
    HERDSMAN_LEVEL >= 2
#define HAS_AMX 1
#else
#define HAS_AMX 0
#endif

INLINE F32 load(const float *from) { F32 v; memcpy(&v, from, sizeof v); return v; }
INLINE void store(float *to, F32 v) { memcpy(to, &v, sizeof v); }
INLINE U32 load_bits(const void *from) { U32 v; memcpy(&v, from, sizeof v); return v; }
INLINE F32 all(float x) { return (F32){x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x}; }
INLINE F32 choose(I32 mask, F32 yes, F32 no) { return (F32)((mask & (I32)yes) | (~mask & (I32)no)); }

INLINE F32 larger(F32 a, F32 b) {
#if HAS_VNNI
  return (F32)_mm512_max_ps((__m512)a, (__m512)b);
#else
  return choose(a > b, a, b);
#endif
}

INLINE F32 magnitude(F32 v) { return (F32)((U32)v & 0x7fffffffu); }

INLINE float sum_of(F32 v) {
  float sum = 0;
  for (int i = 0; i < LANES; i++) sum += v[i];
  return sum;
}

INLINE float largest_of(F32 v) {
#if HAS_VNNI
  return _mm512_reduce_max_ps((__m512)v);
#else
  float largest = v[0];
  for (int i = 1; i < LANES; i++) largest = v[i] > largest ? v[i] : largest;
  return largest;
#endif
}

/* To the nearest whole number, ties to even; for magnitudes below 2^22. */
INLINE F32 nearest(F32 v) { return (v + 12582912.0f) - 12582912.0f; }

/* e^v within 2 units in the last place; what is below -87 counts as -87. */
INLINE F32 exponential(F32 v) {
  v = larger(v, all(-87.0f));
  const F32 n = nearest(v * 1.44269504f);
  const F32 r = (v - n * 0.693359375f) + n * 2.12194440e-4f;
  F32 p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  return (F32)((I32)p + (__builtin_convertvector(n, I32) << 23));
}

INLINE void store_halves(half *to, F32 v) {
#if HAS_BF16
  _mm256_storeu_si256((__m256i *)to, (__m256i)_mm512_cvtneps_pbh((__m512)v));
#else
  U32 bits = (U32)v;
  bits = (bits + 0x7fffu + ((bits >> 16) & 1u)) & 0xffff0000u;
  store(to, (F32)bits);
#endif
}

INLINE uint16_t half_bits(half x) {
#if HAS_BF16
  return x;
#else
  uint32_t bits;
  memcpy(&bits, &x, 4);
  return (uint16_t)(bits >> 16);
#endif
}

/* v holds whole numbers from -127 to 127. */
INLINE void store_quants(quant *to, F32 v) {
#if HAS_VNNI
  _mm_storeu_si128((__m128i *)to, _mm512_cvtepi32_epi8(_mm512_cvtps_epi32((__m512)v)));
#else
  store(to, v);
#endif
}

/* sum[i] + w[i][0] x[0] + w[i][1] x[1], where w is 16 pairs of bfloat16. */
INLINE F32 dot2(F32 sum, const void *w, const half *x) {
#if HAS_BF16
  int32_t pair;
  memcpy(&pair, x, 4);
  return (F32)_mm512_dpbf16_ps((__m512)sum, (__m512bh)load_bits(w), (__m512bh)_mm512_set1_epi32(pair));
#else
  const U32 bits = load_bits(w);
  sum += (F32)(bits << 16) * x[0];
  return sum + (F32)(bits & 0xffff0000u) * x[1];
#endif
}

/* The running sum of `dot4`: whole numbers, so exact in either type. */
#if HAS_VNNI
typedef I32 Sum4;
#else
typedef F32 Sum4;
#endif

/* sum[i] + w[i][0] x[0] + ... + w[i][3] x[3], where w is 16 times 4 signed bytes.
 * The instruction multiplies unsigned by signed bytes, so w is taken as w + 128; `dot4_start` makes up for it. */
INLINE Sum4 dot4(Sum4 sum, const void *w, const quant *x) {
#if HAS_VNNI
  int32_t four;
  memcpy(&four, x, 4);
  const U32 shifted = load_bits(w) ^ 0x80808080u;
  return (I32)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)shifted, _mm512_set1_epi32(four));
#else
  const I32 bytes = (I32)load_bits(w);
  sum += __builtin_convertvector((bytes << 24) >> 24, F32) * x[0];
  sum += __builtin_convertvector((bytes << 16) >> 24, F32) * x[1];
  sum += __builtin_convertvector((bytes << 8) >> 24, F32) * x[2];
  return sum + __builtin_convertvector(bytes >> 24, F32) * x[3];
#endif
}

/* Where a sum over some x begins; `sum_x` is the sum of these x. */
INLINE Sum4 dot4_start(int32_t sum_x) {
#if HAS_VNNI
  return (I32)_mm512_set1_epi32(-128 * sum_x);
#else
  (void)sum_x;
  return all(0);
#endif
}

INLINE F32 to_float(Sum4 sum) {
#if HAS_VNNI
  return __builtin_convertvector(sum, F32);
#else
  return sum;
#endif
}
