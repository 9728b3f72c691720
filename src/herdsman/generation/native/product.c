/* Matrix times a few rows, or many. One panel of 16 outputs at a time, so that its weights are read from memory once
 * and from the nearest cache for further rows. For int8 every way of computing gives the same bits: the sums of a
 * group are whole numbers, and groups are added in order. */
#include "kernel.h"
#include <math.h>

#if HAS_AMX
#include <sys/syscall.h>
#include <unistd.h>
#endif

#define VECTOR_ROWS 8     /* rows of a pass with vectors: their sums fill the registers */
#define PASS_ROWS 64      /* rows of a pass with tiles */
#define FEWEST_TILED 3    /* rows of int8 from which tiles are faster than vectors; of bfloat16 they always are */
#define AHEAD_BYTES 8192  /* how far ahead of their use weights are called from memory */

bool use_tiles = false;

bool tiles_allowed(void) {
#if HAS_AMX
  return syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, 18 /* tile data */) == 0;
#else
  return false;
#endif
}

void tiles_begin(void) {
#if HAS_AMX
  struct { uint8_t palette, start, zero[14]; uint16_t bytes[16]; uint8_t rows[16]; } whole = {.palette = 1};
  for (int i = 0; i < 8; i++) whole.bytes[i] = 64, whole.rows[i] = 16;
  whole.bytes[HALF_LEFT] = 32, whole.rows[HALF_RIGHT] = 8;
  BEFORE_TILES(&whole);
  if (use_tiles) _tile_loadconfig(&whole);
#endif
}

void tiles_end(void) {
#if HAS_AMX
  if (use_tiles) _tile_release();
#endif
}

void prepare(const Activations *to, enum Kind kind, int row, int inputs, const float *from) {
  if (kind == BFLOAT16) {
    half *halves = to->halves + (size_t)row * inputs;
    for (int i = 0; i < inputs; i += LANES) store_halves(halves + i, load(from + i));
    return;
  }
  quant *quants = to->quants + (size_t)row * inputs;
  const size_t first = (size_t)row * (inputs / GROUP);
  for (int g = 0; g < inputs / GROUP; g++) {
    F32 v[GROUP / LANES], most = all(0), sum = all(0);
    for (int i = 0; i < GROUP / LANES; i++) {
      v[i] = load(from + g * GROUP + i * LANES);
      most = larger(most, magnitude(v[i]));
    }
    const float largest = largest_of(most), inverse = largest > 0 ? 127 / largest : 0;
    for (int i = 0; i < GROUP / LANES; i++) {
      const F32 whole = nearest(v[i] * inverse);
      store_quants(quants + g * GROUP + i * LANES, whole);
      sum += whole;
    }
    to->scales[first + g] = largest / 127;
    to->sums[first + g] = (int32_t)sum_of(sum);
  }
}

/* Weights are read once, and faster than the processor foresees. They are called to the second cache: more lines can be
 * on their way there than to the first. */
INLINE void ahead(const uint8_t *weights, int bytes) {
  for (int i = 0; i < bytes; i += 64) __builtin_prefetch(weights + AHEAD_BYTES + i, 0, 2);
}

INLINE void bfloat16_vectors(const int rows, const Matrix *m, const uint8_t *panel, const Activations *x, int first,
                             float *y) {
  const half *from = x->halves + (size_t)first * m->inputs;
  F32 sums[VECTOR_ROWS];
  for (int r = 0; r < rows; r++) sums[r] = all(0);
  for (int i = 0; i < m->inputs; i += 2) {
    if (rows <= 2) ahead(panel + (size_t)i * LANES * 2, 64);
    for (int r = 0; r < rows; r++)
      sums[r] = dot2(sums[r], panel + (size_t)i * LANES * 2, from + (size_t)r * m->inputs + i);
  }
  for (int r = 0; r < rows; r++) store(y + r * LANES, sums[r]);
}

INLINE void int8_vectors(const int rows, const Matrix *m, const uint8_t *panel, const Activations *x, int first,
                         float *y) {
  const int groups = m->inputs / GROUP;
  F32 sums[VECTOR_ROWS];
  for (int r = 0; r < rows; r++) sums[r] = all(0);
  for (int g = 0; g < groups; g++) {
    const uint8_t *w = panel + (size_t)g * GROUP_BYTES;
    const quant *from = x->quants + (size_t)first * m->inputs + g * GROUP;
    Sum4 dots[VECTOR_ROWS];
    for (int r = 0; r < rows; r++) dots[r] = dot4_start(x->sums[(size_t)(first + r) * groups + g]);
    for (int i = 0; i < GROUP; i += 4) {
      if (rows <= 2) ahead(w + i * LANES, 64);
      for (int r = 0; r < rows; r++) dots[r] = dot4(dots[r], w + i * LANES, from + (size_t)r * m->inputs + i);
    }
    const F32 scales = load((const float *)(w + GROUP * LANES));
    for (int r = 0; r < rows; r++)
      sums[r] += to_float(dots[r]) * (scales * x->scales[(size_t)(first + r) * groups + g]);
  }
  for (int r = 0; r < rows; r++) store(y + r * LANES, sums[r]);
}

INLINE void with_vectors(const int rows, const Matrix *m, const uint8_t *panel, const Activations *x, int first,
                         float *y) {
  if (m->kind == INT8) int8_vectors(rows, m, panel, x, first, y);
  else bfloat16_vectors(rows, m, panel, x, first, y);
}

#if HAS_AMX
/* `tiles` times 16 rows; a tile of weights is loaded once for all of them. */
INLINE void bfloat16_tiles(const int tiles, const Matrix *m, const uint8_t *panel, const Activations *x, int first,
                           float *y) {
  const size_t stride = (size_t)m->inputs * 2, next = TILE_ROWS * stride;
  const uint8_t *from = (const uint8_t *)(x->halves + (size_t)first * m->inputs);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
#define ADD(i)                                              \
  if (tiles > i) {                                          \
    _tile_loadd(4, from + i * next + (size_t)k * 2, stride); \
    _tile_dpbf16ps(i, 4, 5);                                \
  }
  for (int k = 0; k < m->inputs; k += 32) {
    const uint8_t *w = panel + (size_t)k * LANES * 2;
    if (first == 0) ahead(w, 32 * LANES * 2);
    _tile_loadd(5, w, 64);
    ADD(0) ADD(1) ADD(2) ADD(3)
  }
#undef ADD
  _tile_stored(0, y, 64);
  if (tiles > 1) _tile_stored(1, y + 256, 64);
  if (tiles > 2) _tile_stored(2, y + 512, 64);
  if (tiles > 3) _tile_stored(3, y + 768, 64);
}

/* 16 rows, of which the first `rows` count. */
INLINE void int8_tile(const int rows, const Matrix *m, const uint8_t *panel, const Activations *x, int first,
                      float *y) {
  const int groups = m->inputs / GROUP;
  const quant *from = x->quants + (size_t)first * m->inputs;
  const float *row_scales = x->scales + (size_t)first * groups;
  int32_t dots[2][TILE_ROWS * LANES] __attribute__((aligned(64)));
  F32 sums[TILE_ROWS];
  for (int r = 0; r < rows; r++) sums[r] = all(0);
  for (int g = 0; g < groups; g++) {
    const uint8_t *w = panel + (size_t)g * GROUP_BYTES;
    int32_t *to = dots[g & 1];
    if (first == 0) ahead(w, GROUP_BYTES);
    _tile_zero(0);
    _tile_loadd(4, from + g * GROUP, m->inputs);
    _tile_loadd(5, w, 64);
    _tile_dpbssd(0, 4, 5);
    _tile_stored(0, to, 64);
    const F32 scales = load((const float *)(w + GROUP * LANES));
    for (int r = 0; r < rows; r++) {
      const F32 dot = __builtin_convertvector((I32)load_bits(to + r * LANES), F32);
      sums[r] += dot * (scales * row_scales[(size_t)r * groups + g]);
    }
  }
  for (int r = 0; r < rows; r++) store(y + r * LANES, sums[r]);
}

INLINE void with_tiles(int rows, const Matrix *m, const uint8_t *panel, const Activations *x, int first, float *y) {
  BEFORE_TILES(x);
  if (m->kind == BFLOAT16) {
    if (rows > 48) bfloat16_tiles(4, m, panel, x, first, y);
    else if (rows > 32) bfloat16_tiles(3, m, panel, x, first, y);
    else if (rows > 16) bfloat16_tiles(2, m, panel, x, first, y);
    else bfloat16_tiles(1, m, panel, x, first, y);
    return;
  }
  for (int r = 0; r < rows; r += TILE_ROWS) {
    const int left = rows - r;
    float *to = y + r * LANES;
    if (left > 12) int8_tile(16, m, panel, x, first + r, to);
    else if (left > 8) int8_tile(12, m, panel, x, first + r, to);
    else if (left > 4) int8_tile(8, m, panel, x, first + r, to);
    else int8_tile(4, m, panel, x, first + r, to);
  }
}
#endif

/* Up to PASS_ROWS rows of one panel into y [rows][16]; returns how many were taken. */
static int panel_product(const Matrix *m, const uint8_t *panel, const Activations *x, int first, int rows, float *y) {
#if HAS_AMX
  if (use_tiles && (rows >= FEWEST_TILED || m->kind == BFLOAT16)) {
    const int taken = rows < PASS_ROWS ? rows : PASS_ROWS;
    with_tiles(taken, m, panel, x, first, y);
    return taken;
  }
#endif
  switch (rows) {
    case 1: with_vectors(1, m, panel, x, first, y); return 1;
    case 2: with_vectors(2, m, panel, x, first, y); return 2;
    case 3: with_vectors(3, m, panel, x, first, y); return 3;
    case 4: case 5: with_vectors(4, m, panel, x, first, y); return 4;
    case 6: case 7: with_vectors(6, m, panel, x, first, y); return 6;
    default: with_vectors(VECTOR_ROWS, m, panel, x, first, y); return VECTOR_ROWS;
  }
}

void product(const Matrix *m, const Activations *x, int rows, float *y, size_t stride, int columns, bool add) {
  const size_t bytes = panel_bytes(m);
#pragma omp for schedule(static)
  for (int panel = 0; panel < m->outputs / LANES; panel++) {
    float result[PASS_ROWS * LANES] __attribute__((aligned(64)));
    const int column = panel * LANES, count = columns - column < LANES ? columns - column : LANES;
    for (int first = 0; first < rows;) {
      const int taken = panel_product(m, m->packed + panel * bytes, x, first, rows - first, result);
      for (int r = 0; r < taken; r++) {
        float *to = y + (first + r) * stride + column;
        const F32 v = load(result + r * LANES);
        if (count == LANES) store(to, add ? load(to) + v : v);
        else if (count > 0) memcpy(to, &v, count * sizeof(float));
      }
      first += taken;
    }
  }
}

void matrix_row(const Matrix *m, int index, float *to) {
  const uint8_t *panel = m->packed + (size_t)(index / LANES) * panel_bytes(m);
  const int lane = index % LANES;
  for (int i = 0; i < m->inputs; i++) {
    if (m->kind == INT8) {
      const uint8_t *group = panel + (size_t)(i / GROUP) * GROUP_BYTES;
      const int within = i % GROUP;
      const int8_t value = (int8_t)group[(within / 4 * LANES + lane) * 4 + within % 4];
      to[i] = value * ((const float *)(group + GROUP * LANES))[lane];
    } else {
      const uint32_t bits = (uint32_t)((const uint16_t *)panel)[((size_t)i / 2 * LANES + lane) * 2 + i % 2] << 16;
      memcpy(to + i, &bits, 4);
    }
  }
}
