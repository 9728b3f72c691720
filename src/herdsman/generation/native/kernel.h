/* What the parts of the kernel share: packed matrices, activations, and the shape of a model. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "vectors.h"

#define GROUP 64                        /* inputs that share a scale; inputs are padded to a multiple of it */
#define GROUP_BYTES (GROUP * LANES + LANES * 4)
#define TILE_ROWS 16

enum Kind { BFLOAT16, INT8 };

/* A matrix in panels of 16 outputs, so that a product reads it once, from front to back.
 *
 *   BFLOAT16  [outputs / 16][inputs / 2][16][2]
 *   INT8      [outputs / 16][inputs / GROUP] of { int8 [GROUP / 4][16][4], float scale [16] }
 *
 * outputs are padded to a multiple of 16 and inputs to one of GROUP, both with zeros. */
typedef struct {
  int outputs, inputs;
  enum Kind kind;
  const uint8_t *packed;
} Matrix;

INLINE size_t panel_bytes(const Matrix *m) {
  return m->kind == INT8 ? (size_t)(m->inputs / GROUP) * GROUP_BYTES : (size_t)m->inputs * LANES * 2;
}

/* The rows that a product multiplies: halves for a BFLOAT16 matrix; for an INT8 one quants, with a scale and the sum
 * of the quants for each GROUP of a row. Rows are padded to a multiple of TILE_ROWS. */
typedef struct {
  half *halves;
  quant *quants;
  float *scales;
  int32_t *sums;
} Activations;

/* Writes a row of `inputs` floats into the activations. */
void prepare(const Activations *to, enum Kind kind, int row, int inputs, const float *from);

/* y[row][0 .. columns) = (add ? y : 0) + matrix times row; y's rows lie `stride` floats apart. Called by all threads of
 * a parallel region together; all of y is there when it returns. `columns` is a multiple of 16 unless it is the last
 * output that counts. */
void product(const Matrix *matrix, const Activations *x, int rows, float *y, size_t stride, int columns, bool add);

/* Row `index` of a matrix as floats. */
void matrix_row(const Matrix *matrix, int index, float *to);

/* Keys and values of one layer, [blocks][kv_heads][16 tokens][width] of bfloat16. Within a block and head the layout is
 * our own, packed as a BFLOAT16 matrix is, so that attention is made of the same inner products:
 *
 *   keys    [width / 2][16 tokens][2]
 *   values  [16 tokens / 2][width][2]
 */
typedef struct {
  uint16_t *keys, *values;
  int kv_heads, width;
} LayerCache;

#define BLOCK_TOKENS LANES

INLINE size_t head_place(const LayerCache *cache, int block, int kv_head) {
  return ((size_t)block * cache->kv_heads + kv_head) * BLOCK_TOKENS * cache->width;
}

/* The sequences of a step: where their tokens start, how many came before these, and their blocks. */
typedef struct {
  int count;
  const int32_t *starts, *lengths, *table, *table_starts;
} Sequences;

/* Tokens in the order in which attention takes them: those of a sequence stand together, and so do sequences that begin
 * with the same blocks. */
typedef struct {
  const Sequences *all;
  int tokens;
  int *token;    /* [tokens] place of each, counted from the first of them */
  int *sequence; /* [tokens] */
  int *visible;  /* [tokens] keys that each sees, itself among them */
} Order;

/* Fills in the order of tokens [first, end) of a step; false if there is no memory. */
bool arrange(const Sequences *all, int first, int end, Order *order);

/* out[token][head][width] from queries [kv_heads][padded_rows][padded width], where rows are (token, head of the group)
 * in the order's order. Rows and width are padded for tiles. Called by all threads of a parallel region together. */
void attend(const Order *order, const LayerCache *cache, const half *queries, int padded_rows, int padded_width,
            int group, float *out, size_t out_stride);

/* All tiles are 16 rows of 64 bytes but these two, for products over 16 inputs of bfloat16 in place of 32. */
#define HALF_LEFT 6
#define HALF_RIGHT 7

/* Whether this processor and its system let a thread use matrix tiles, and what a thread does before and after. */
bool tiles_allowed(void);
void tiles_begin(void);
void tiles_end(void);
extern bool use_tiles;

/* The compiler does not know that tiles and their configuration are loaded from memory: without this it may leave out
 * what was to be written there, or write it later. */
#define BEFORE_TILES(memory) __asm__ volatile("" : : "r"(memory) : "memory")
