/* Attention over a cache in blocks.
 *
 * The rows that ask, (token, head) pairs that share a key head, are taken 16 at a time, and each such tile goes once
 * over the blocks it sees with a running softmax (Milakov and Gimelshein, 2018). Neighbouring rows whose sequences hold
 * the same block read it together: the heads of a group always, the tokens of a prompt, and the samples of one. */
#include "kernel.h"
#include <math.h>
#include <stdlib.h>

#define CHUNK_BLOCKS 16
#define CHUNK (CHUNK_BLOCKS * BLOCK_TOKENS) /* keys between two corrections of the running softmax */
#define WIDEST 256

typedef struct {
  const int32_t *blocks;
  int count, sequence;
} Table;

static int by_blocks(const void *one, const void *other) {
  const Table *a = one, *b = other;
  for (int i = 0; i < a->count && i < b->count; i++)
    if (a->blocks[i] != b->blocks[i]) return a->blocks[i] < b->blocks[i] ? -1 : 1;
  return a->count != b->count ? a->count - b->count : a->sequence - b->sequence;
}

bool arrange(const Sequences *all, int first, int end, Order *order) {
  Table *tables = malloc(all->count * sizeof(Table));
  if (!tables) return false;
  int count = 0, place = 0;
  for (int s = 0; s < all->count; s++)
    if (all->starts[s] < end && all->starts[s + 1] > first)
      tables[count++] = (Table){all->table + all->table_starts[s], all->table_starts[s + 1] - all->table_starts[s], s};
  qsort(tables, count, sizeof(Table), by_blocks);
  for (int i = 0; i < count; i++) {
    const int s = tables[i].sequence, from = all->starts[s] > first ? all->starts[s] : first;
    for (int t = from; t < end && t < all->starts[s + 1]; t++, place++) {
      order->token[place] = t - first;
      order->sequence[place] = s;
      order->visible[place] = all->lengths[s] + t - all->starts[s] + 1;
    }
  }
  free(tables);
  order->all = all, order->tokens = end - first;
  return true;
}

typedef struct {
  int rows;
  int visible[TILE_ROWS], sequence[TILE_ROWS];
  float scores[TILE_ROWS][CHUNK];
  half weights[TILE_ROWS][CHUNK];
  float out[TILE_ROWS][WIDEST]; /* sums of values, before the division by `total` */
  float most[TILE_ROWS], total[TILE_ROWS];
} Tile;

/* Rows [first, end) read the same blocks of a chunk. */
typedef struct {
  int first, end;
  const int32_t *blocks;
} Run;

INLINE const int32_t *blocks_of(const Order *order, int sequence, int block) {
  const int32_t place = order->all->table_starts[sequence] + block;
  return place < order->all->table_starts[sequence + 1] ? order->all->table + place : NULL;
}

INLINE bool same_block(const Order *order, int a, int b, int block) {
  if (a == b) return true;
  const int32_t *one = blocks_of(order, a, block), *other = blocks_of(order, b, block);
  return one && other && *one == *other;
}

/* Splits the rows that see block `from` into runs, and gives the number of blocks, `most` at the most, for which these
 * stay the same. Runs without the block are left out. */
static int split(const Order *order, const Tile *tile, int from, int most, Run *runs, int *run_count) {
  int count = 0, blocks = most;
  for (int first = 0; first < tile->rows;) {
    int end = first + 1;
    while (end < tile->rows && same_block(order, tile->sequence[first], tile->sequence[end], from)) end++;
    const int32_t *table = blocks_of(order, tile->sequence[first], from);
    int visible = 0;
    for (int r = first; r < end; r++) visible = tile->visible[r] > visible ? tile->visible[r] : visible;
    if (table && visible > from * BLOCK_TOKENS) {
      runs[count++] = (Run){first, end, table};
      const int last = (visible + BLOCK_TOKENS - 1) / BLOCK_TOKENS - from;
      blocks = last < blocks ? last : blocks;
      for (int r = first + 1; r < end; r++)
        for (int b = 1; b < blocks; b++)
          if (!same_block(order, tile->sequence[r - 1], tile->sequence[r], from + b)) blocks = b;
    }
    first = end;
  }
  *run_count = count;
  return blocks;
}

/* scores[row][0 .. 16) of the rows of a run for the 16 keys of a block. */
INLINE void score_rows(const int rows, const uint16_t *keys, const half *queries, int width, int stride,
                       float (*scores)[CHUNK], int column) {
  F32 sums[4];
  for (int r = 0; r < rows; r++) sums[r] = all(0);
  for (int i = 0; i < width; i += 2)
    for (int r = 0; r < rows; r++) sums[r] = dot2(sums[r], keys + i * LANES, queries + (size_t)r * stride + i);
  for (int r = 0; r < rows; r++) store(&scores[r][column], sums[r]);
}

/* out[row][0 .. width) += weights[row][0 .. 16) times the 16 values of a block. */
INLINE void add_values(const int rows, const uint16_t *values, half (*weights)[CHUNK], int column, int width,
                       float (*out)[WIDEST]) {
  for (int d = 0; d < width; d += LANES) {
    const int lanes = width - d < LANES ? width - d : LANES;
    F32 sums[4];
    for (int r = 0; r < rows; r++) sums[r] = load(&out[r][d]);
    for (int t = 0; t < BLOCK_TOKENS; t += 2) {
      const uint16_t *pairs = values + (size_t)t * width + d * 2;
      U32 last = {0};
      if (lanes < LANES) memcpy(&last, pairs, lanes * 4);
      const void *w = lanes < LANES ? (const void *)&last : pairs;
      for (int r = 0; r < rows; r++) sums[r] = dot2(sums[r], w, &weights[r][column + t]);
    }
    for (int r = 0; r < rows; r++) store(&out[r][d], sums[r]);
  }
}

#define FOUR_AT_A_TIME(first, end, call)                                                                             \
  for (int r = first; r < (end); r += 4) switch ((end) - r) {                                                        \
      case 1: { enum { N = 1 }; call; break; }                                                                       \
      case 2: { enum { N = 2 }; call; break; }                                                                       \
      case 3: { enum { N = 3 }; call; break; }                                                                       \
      default: { enum { N = 4 }; call; break; }                                                                      \
    }

#if HAS_AMX
/* The same with tiles: 16 rows are computed, and those of the run are kept. */
static void score_tile(const Run *run, const uint16_t *keys, const half *queries, int width, int stride,
                       float (*scores)[CHUNK], int column) {
  float found[TILE_ROWS][LANES] __attribute__((aligned(64)));
  BEFORE_TILES(queries);
  _tile_zero(0);
  for (int i = 0; i < width; i += 32) {
    _tile_loadd(4, queries + i, stride * 2);
    _tile_loadd(5, keys + i * LANES, 64);
    _tile_dpbf16ps(0, 4, 5);
  }
  _tile_stored(0, found, 64);
  for (int r = run->first; r < run->end; r++) store(&scores[r][column], load(found[r]));
}

static void add_tile(const Run *run, const LayerCache *cache, int kv_head, int first_block, int blocks, Tile *tile) {
  float found[TILE_ROWS][LANES] __attribute__((aligned(64)));
  BEFORE_TILES(tile);
  for (int d = 0; d < cache->width; d += LANES) {
    _tile_loadd(0, &tile->out[0][d], WIDEST * 4);
    for (int b = 0; b < blocks; b++) {
      _tile_loadd(HALF_LEFT, &tile->weights[0][(first_block + b) * BLOCK_TOKENS], CHUNK * 2);
      _tile_loadd(HALF_RIGHT, cache->values + head_place(cache, run->blocks[b], kv_head) + d * 2, cache->width * 4);
      _tile_dpbf16ps(0, HALF_LEFT, HALF_RIGHT);
    }
    _tile_stored(0, found, 64);
    for (int r = run->first; r < run->end; r++) store(&tile->out[r][d], load(found[r]));
  }
}
#endif

/* Turns the scores of a row into weights, and what the row has summed up so far to the new largest score. */
INLINE void soften(Tile *tile, int row, int keys, float scale, int width) {
  float *scores = tile->scores[row];
  const int padded = (keys + LANES - 1) / LANES * LANES;
  for (int i = keys; i < padded; i++) scores[i] = -INFINITY;
  F32 most = all(-INFINITY), total = all(0);
  for (int i = 0; i < padded; i += LANES) most = larger(most, load(scores + i));
  const float before = tile->most[row], now = fmaxf(before, largest_of(most) * scale);
  for (int i = 0; i < padded; i += LANES) {
    const F32 weight = exponential(load(scores + i) * scale - now);
    store_halves(&tile->weights[row][i], weight);
    total += weight;
  }
  const float kept = before == -INFINITY ? 0 : expf(before - now);
  tile->most[row] = now;
  tile->total[row] = tile->total[row] * kept + sum_of(total);
  if (kept != 1)
    for (int d = 0; d < width; d += LANES) store(&tile->out[row][d], load(&tile->out[row][d]) * kept);
}

static void score_run(const Run *run, const LayerCache *cache, int kv_head, int first_block, int blocks,
                      const half *queries, int stride, Tile *tile) {
  for (int b = 0; b < blocks; b++) {
    const uint16_t *keys = cache->keys + head_place(cache, run->blocks[b], kv_head);
    const int column = (first_block + b) * BLOCK_TOKENS;
#if HAS_AMX
    if (use_tiles && cache->width % 32 == 0) {
      score_tile(run, keys, queries, cache->width, stride, tile->scores, column);
      continue;
    }
#endif
    FOUR_AT_A_TIME(run->first, run->end,
                   score_rows(N, keys, queries + (size_t)r * stride, cache->width, stride, tile->scores + r, column))
  }
}

static void add_run(const Run *run, const LayerCache *cache, int kv_head, int first_block, int blocks, Tile *tile) {
#if HAS_AMX
  if (use_tiles && cache->width % 32 == 0) {
    add_tile(run, cache, kv_head, first_block, blocks, tile);
    return;
  }
#endif
  for (int b = 0; b < blocks; b++) {
    const uint16_t *values = cache->values + head_place(cache, run->blocks[b], kv_head);
    const int column = (first_block + b) * BLOCK_TOKENS;
    FOUR_AT_A_TIME(run->first, run->end, add_values(N, values, tile->weights + r, column, cache->width, tile->out + r))
  }
}

/* What a row gets does not depend on the rows beside it: chunks begin at the same keys for all, and within one values
 * are added block after block, whoever else reads the block. */
static void attend_tile(const Order *order, const LayerCache *cache, int kv_head, const half *queries, int stride,
                        Tile *tile) {
  const float scale = 1 / sqrtf(cache->width);
  int visible = 0;
  for (int r = 0; r < tile->rows; r++) {
    visible = tile->visible[r] > visible ? tile->visible[r] : visible;
    tile->most[r] = -INFINITY, tile->total[r] = 0;
    for (int d = 0; d < cache->width; d += LANES) store(&tile->out[r][d], all(0));
  }
  for (int chunk = 0; chunk * BLOCK_TOKENS < visible; chunk += CHUNK_BLOCKS) {
    Run runs[TILE_ROWS];
    int count;
    for (int b = 0, same; b < CHUNK_BLOCKS && (chunk + b) * BLOCK_TOKENS < visible; b += same) {
      same = split(order, tile, chunk + b, CHUNK_BLOCKS - b, runs, &count);
      for (const Run *run = runs; run < runs + count; run++)
        score_run(run, cache, kv_head, b, same, queries, stride, tile);
    }
    for (int r = 0; r < tile->rows; r++) {
      const int left = tile->visible[r] - chunk * BLOCK_TOKENS, keys = left < 0 ? 0 : left < CHUNK ? left : CHUNK;
      if (keys > 0) soften(tile, r, keys, scale, cache->width);
      memset(&tile->weights[r][keys], 0, (CHUNK - keys) * sizeof(half));
    }
    for (int b = 0, same; b < CHUNK_BLOCKS && (chunk + b) * BLOCK_TOKENS < visible; b += same) {
      same = split(order, tile, chunk + b, CHUNK_BLOCKS - b, runs, &count);
      for (const Run *run = runs; run < runs + count; run++) add_run(run, cache, kv_head, b, same, tile);
    }
  }
}

void attend(const Order *order, const LayerCache *cache, const half *queries, int padded_rows, int padded_width,
            int group, float *out, size_t out_stride) {
  const int rows = order->tokens * group, tiles = (rows + TILE_ROWS - 1) / TILE_ROWS;
#pragma omp for schedule(dynamic)
  for (int task = 0; task < tiles * cache->kv_heads; task++) {
    /* The last tiles of a prompt see the most, so they come first. */
    const int kv_head = task % cache->kv_heads, first = (tiles - 1 - task / cache->kv_heads) * TILE_ROWS;
    Tile tile __attribute__((aligned(64)));
    tile.rows = rows - first < TILE_ROWS ? rows - first : TILE_ROWS;
    for (int r = 0; r < tile.rows; r++) {
      tile.visible[r] = order->visible[(first + r) / group];
      tile.sequence[r] = order->sequence[(first + r) / group];
    }
    const half *asking = queries + ((size_t)kv_head * padded_rows + first) * padded_width;
    attend_tile(order, cache, kv_head, asking, padded_width, &tile);
    for (int r = 0; r < tile.rows; r++) {
      const int head = kv_head * group + (first + r) % group;
      float *to = out + order->token[(first + r) / group] * out_stride + (size_t)head * cache->width;
      for (int d = 0; d < cache->width; d++) to[d] = tile.out[r][d] / tile.total[r];
    }
  }
}
