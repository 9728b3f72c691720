/* A whole step of a Llama decoder: tokens in, logits out, keys and values written to the cache. */
#include "kernel.h"
#include <math.h>
#include <stdlib.h>

#define PART_TOKENS 256 /* tokens of a step that are computed together: what they need stays in the nearest caches */

/* All else is hidden: a name such as `product` may be some other library's too. */
#define EXPORT __attribute__((visibility("default")))

typedef struct {
  int32_t layers, dim, heads, kv_heads, width, ffn, vocab, outputs, positions, kind;
  float norm_eps;
} Shape;

typedef struct {
  const float *attention_norm, *ffn_norm;
  Matrix qkv, out, gate_up, down;
} Layer;

/* What a step works in; its capacity is in tokens, and grows. */
typedef struct {
  int tokens;
  float *x, *normed, *qkv, *attended, *ffn;
  half *queries;
  Activations activations;
  int *order; /* [tokens] of three numbers */
} Room;

typedef struct {
  Shape shape;
  int dim, qkv_columns, attended, ffn, query_width; /* padded */
  Matrix embedding, output;
  const float *norm, *cosines, *sines;
  Room room;
  Layer layers[];
} Model;

static int padded(int count, int to) { return (count + to - 1) / to * to; }

static Matrix matrix(const Shape *shape, int outputs, int inputs, const void *packed) {
  return (Matrix){padded(outputs, LANES), padded(inputs, GROUP), shape->kind, packed};
}

/* A model over weights that are the caller's and must outlive it; NULL if there is no memory.
 *
 * pointers: embedding (packed [vocab, dim]), output (packed [outputs, dim]), norm [dim], cosines and sines
 * [positions][width / 2], and of each layer attention_norm [dim], qkv (packed, queries first), out, ffn_norm [dim],
 * gate_up (packed, panels of the two in turns), down. */
EXPORT Model *herdsman_open(const Shape *shape, const void *const *pointers) {
  Model *model = calloc(1, sizeof(Model) + shape->layers * sizeof(Layer));
  if (!model) return NULL;
  const int attended = shape->heads * shape->width, qkv = attended + 2 * shape->kv_heads * shape->width;
  model->shape = *shape;
  model->dim = padded(shape->dim, GROUP);
  model->qkv_columns = padded(qkv, LANES);
  model->attended = padded(attended, GROUP);
  model->ffn = padded(shape->ffn, GROUP);
  model->query_width = padded(shape->width, 32);
  model->embedding = matrix(shape, shape->vocab, shape->dim, pointers[0]);
  model->output = matrix(shape, shape->outputs, shape->dim, pointers[1]);
  model->norm = pointers[2], model->cosines = pointers[3], model->sines = pointers[4];
  for (int i = 0; i < shape->layers; i++) {
    const void *const *of = pointers + 5 + 6 * i;
    model->layers[i] = (Layer){
        of[0], of[3], matrix(shape, qkv, shape->dim, of[1]), matrix(shape, shape->dim, attended, of[2]),
        matrix(shape, 2 * padded(shape->ffn, LANES), shape->dim, of[4]), matrix(shape, shape->dim, shape->ffn, of[5])};
  }
  use_tiles = tiles_allowed();
  return model;
}

static void leave(Room *room) {
  void *all[] = {room->x, room->normed, room->qkv, room->attended, room->ffn, room->queries, room->activations.halves,
                 room->activations.quants, room->activations.scales, room->activations.sums, room->order};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
  *room = (Room){0};
}

EXPORT void herdsman_close(Model *model) {
  leave(&model->room);
  free(model);
}

/* Zeros, since padding is read though it never counts: it must not be NaN. */
static void *zeros(size_t bytes) {
  void *memory = aligned_alloc(64, (bytes + 63) / 64 * 64);
  return memory ? memset(memory, 0, bytes) : NULL;
}

static bool make_room(Model *model, int tokens) {
  Room *room = &model->room;
  if (tokens <= room->tokens) return true;
  leave(room);
  const size_t rows = padded(tokens, 64);
  int widest = model->dim > model->attended ? model->dim : model->attended;
  if (model->ffn > widest) widest = model->ffn;
  const size_t query_rows = padded(rows * (model->shape.heads / model->shape.kv_heads), TILE_ROWS);
  room->x = zeros(rows * model->dim * 4);
  room->normed = zeros(rows * widest * 4);
  room->qkv = zeros(rows * model->qkv_columns * 4);
  room->attended = zeros(rows * model->attended * 4);
  room->ffn = zeros(rows * 2 * model->ffn * 4);
  room->queries = zeros(model->shape.kv_heads * query_rows * model->query_width * sizeof(half));
  if (model->shape.kind == INT8) {
    room->activations.quants = zeros(rows * widest * sizeof(quant));
    room->activations.scales = zeros(rows * widest / GROUP * 4);
    room->activations.sums = zeros(rows * widest / GROUP * 4);
  } else {
    room->activations.halves = zeros(rows * widest * sizeof(half));
  }
  room->order = zeros(rows * 3 * sizeof(int));
  const Activations *got = &room->activations;
  const bool has_activations = got->halves || (got->quants && got->scales && got->sums);
  if (room->x && room->normed && room->qkv && room->attended && room->ffn && room->queries && room->order &&
      has_activations) {
    room->tokens = rows;
    return true;
  }
  leave(room);
  return false;
}

/* x / rms(x) * weight. */
static void normalise(const float *x, const float *weight, int dim, float eps, float *to) {
  F32 squares = all(0);
  int i = 0;
  for (; i + LANES <= dim; i += LANES) squares += load(x + i) * load(x + i);
  float sum = sum_of(squares);
  for (; i < dim; i++) sum += x[i] * x[i];
  const float scale = 1 / sqrtf(sum / dim + eps);
  for (i = 0; i < dim; i++) to[i] = x[i] * scale * weight[i];
}

/* silu(gate) * up, from panels of both in turns. */
static void gate(const float *from, int panels, float *to) {
  for (int i = 0; i < panels; i++) {
    const F32 g = load(from + 2 * i * LANES), up = load(from + (2 * i + 1) * LANES);
    store(to + i * LANES, g / (1.0f + exponential(-g)) * up);
  }
}

/* Pairs (i, i + width / 2) turned by the angle of a position. */
static void turn(const float *from, const float *cosines, const float *sines, int width, float *to) {
  const int pairs = width / 2;
  for (int i = 0; i < pairs; i++) {
    to[i] = from[i] * cosines[i] - from[i + pairs] * sines[i];
    to[i + pairs] = from[i + pairs] * cosines[i] + from[i] * sines[i];
  }
}

/* Positions' queries to the room, keys and values to the cache: those of a sequence in turn, by one thread. */
static void remember(const Model *model, const Order *order, const LayerCache *cache, int query_rows) {
  const int width = model->shape.width, group = model->shape.heads / model->shape.kv_heads, pairs = width / 2;
#pragma omp for schedule(static)
  for (int task = 0; task < cache->kv_heads * order->tokens; task++) {
    const int kv_head = task % cache->kv_heads, place = task / cache->kv_heads, token = order->token[place];
    const int position = order->visible[place] - 1, slot = position % BLOCK_TOKENS;
    const float *of = model->room.qkv + (size_t)token * model->qkv_columns;
    const float *cosines = model->cosines + (size_t)position * pairs, *sines = model->sines + (size_t)position * pairs;
    float turned[512] = {0};
    half halves[512];
    for (int g = 0; g < group; g++) {
      turn(of + (kv_head * group + g) * width, cosines, sines, width, turned);
      half *to = model->room.queries + ((size_t)kv_head * query_rows + place * group + g) * model->query_width;
      for (int i = 0; i < model->query_width; i += LANES) store_halves(to + i, load(turned + i));
    }
    const int sequence = order->sequence[place];
    const int block = order->all->table[order->all->table_starts[sequence] + position / BLOCK_TOKENS];
    const size_t at = head_place(cache, block, kv_head);
    uint16_t *keys = cache->keys + at, *values = cache->values + at;
    turn(of + (model->shape.heads + kv_head) * width, cosines, sines, width, turned);
    for (int i = 0; i < model->query_width; i += LANES) store_halves(halves + i, load(turned + i));
    for (int i = 0; i < width; i++) keys[(i / 2 * LANES + slot) * 2 + i % 2] = half_bits(halves[i]);
    memcpy(turned, of + (model->shape.heads + cache->kv_heads + kv_head) * width, width * 4);
    for (int i = 0; i < model->query_width; i += LANES) store_halves(halves + i, load(turned + i));
    for (int i = 0; i < width; i++) values[(slot / 2 * width + i) * 2 + slot % 2] = half_bits(halves[i]);
  }
}
static void normalise_row(const Model *model, const float *x, const float *weight, int row) {
  float *to = model->room.normed + (size_t)row * model->dim;
  normalise(x, weight, model->shape.dim, model->shape.norm_eps, to);
  for (int i = model->shape.dim; i < model->dim; i++) to[i] = 0;
  prepare(&model->room.activations, model->shape.kind, row, model->dim, to);
}

static void normalise_rows(const Model *model, const float *weight, int rows) {
#pragma omp for schedule(static)
  for (int row = 0; row < rows; row++) normalise_row(model, model->room.x + (size_t)row * model->dim, weight, row);
}

/* All threads of a parallel region run this together. */
static void run_layers(const Model *model, const Order *order, uint16_t *keys, uint16_t *values, int64_t blocks) {
  const Room *room = &model->room;
  const Shape *shape = &model->shape;
  const Activations *activations = &room->activations;
  const int tokens = order->tokens, group = shape->heads / shape->kv_heads, dim = model->dim;
  const int query_rows = padded(tokens * group, TILE_ROWS), gate_panels = padded(shape->ffn, LANES) / LANES;
  const size_t layer_size = (size_t)blocks * shape->kv_heads * BLOCK_TOKENS * shape->width;
  const int written = padded(shape->dim, LANES);
  for (int i = 0; i < shape->layers; i++) {
    const Layer *layer = model->layers + i;
    const LayerCache cache = {keys + i * layer_size, values + i * layer_size, shape->kv_heads, shape->width};
    normalise_rows(model, layer->attention_norm, tokens);
    product(&layer->qkv, activations, tokens, room->qkv, model->qkv_columns, model->qkv_columns, false);
    remember(model, order, &cache, query_rows);
    attend(order, &cache, room->queries, query_rows, model->query_width, group, room->attended, model->attended);
#pragma omp for schedule(static)
    for (int row = 0; row < tokens; row++)
      prepare(activations, shape->kind, row, model->attended, room->attended + (size_t)row * model->attended);
    product(&layer->out, activations, tokens, room->x, dim, written, true);
    normalise_rows(model, layer->ffn_norm, tokens);
    product(&layer->gate_up, activations, tokens, room->ffn, 2 * model->ffn, layer->gate_up.outputs, false);
#pragma omp for schedule(static)
    for (int row = 0; row < tokens; row++) {
      float *gated = room->normed + (size_t)row * model->ffn;
      gate(room->ffn + (size_t)row * 2 * model->ffn, gate_panels, gated);
      for (int c = gate_panels * LANES; c < model->ffn; c++) gated[c] = 0;
      prepare(activations, shape->kind, row, model->ffn, gated);
    }
    product(&layer->down, activations, tokens, room->x, dim, written, true);
  }
}

/* Computes the tokens of a step (see generation.runner.Step) and writes logits [wanted][outputs].
 *
 * table: the blocks of all sequences, those of sequence s at table_starts[s] and on. keys, values: of all layers.
 * Returns 0; 1 if there is no memory; 2 if a token or a position is not the model's. */
EXPORT int herdsman_step(Model *model, int threads, int tokens, const int64_t *token, int sequences,
                         const int32_t *starts, const int32_t *lengths, const int32_t *table,
                         const int32_t *table_starts, int wanted, const int64_t *wanted_places, uint16_t *keys,
                         uint16_t *values, int64_t blocks, float *logits) {
  const Sequences all = {sequences, starts, lengths, table, table_starts};
  for (int t = 0; t < tokens; t++)
    if (token[t] < 0 || token[t] >= model->shape.vocab) return 2;
  for (int s = 0; s < sequences; s++)
    if (lengths[s] + starts[s + 1] - starts[s] > model->shape.positions) return 2;
  float *found = malloc((size_t)wanted * model->dim * sizeof(float)); /* hidden states that are wanted */
  const int most = tokens > wanted ? tokens : wanted;
  int status = found && make_room(model, most < PART_TOKENS ? most : PART_TOKENS) ? 0 : 1;
  const Room *room = &model->room;
  for (int first = 0; first < tokens && !status; first += PART_TOKENS) {
    const int end = first + PART_TOKENS < tokens ? first + PART_TOKENS : tokens;
    int *numbers = room->order;
    Order order = {.token = numbers, .sequence = numbers + room->tokens, .visible = numbers + 2 * room->tokens};
    if (!arrange(&all, first, end, &order)) status = 1;
    else {
#pragma omp parallel num_threads(threads)
      {
        tiles_begin();
#pragma omp for schedule(static)
        for (int t = first; t < end; t++)
          matrix_row(&model->embedding, (int)token[t], room->x + (size_t)(t - first) * model->dim);
        run_layers(model, &order, keys, values, blocks);
        tiles_end();
      }
      for (int i = 0; i < wanted; i++)
        if (wanted_places[i] >= first && wanted_places[i] < end)
          memcpy(found + (size_t)i * model->dim, room->x + (wanted_places[i] - first) * model->dim, model->dim * 4);
    }
  }
  for (int first = 0; first < wanted && !status; first += PART_TOKENS) {
    const int rows = wanted - first < PART_TOKENS ? wanted - first : PART_TOKENS, outputs = model->shape.outputs;
#pragma omp parallel num_threads(threads)
    {
      tiles_begin();
#pragma omp for schedule(static)
      for (int row = 0; row < rows; row++)
        normalise_row(model, found + (size_t)(first + row) * model->dim, model->norm, row);
      product(&model->output, &room->activations, rows, logits + (size_t)first * outputs, outputs, outputs, false);
      tiles_end();
    }
  }
  free(found);
  return status;
}

/* What the kernel was built to use: 1 products of whole numbers, 2 those of bfloat16, 4 tiles, 8 threads. */
EXPORT int herdsman_features(void) {
  int features = HAS_VNNI | HAS_BF16 << 1;
  if (tiles_allowed()) features |= 4;
#ifdef _OPENMP
  features |= 8;
#endif
  return features;
}
