/* Reads memory once, as fast as the processor can: what decoding at batch 1 is bound by. */
#include <stddef.h>
#include <stdint.h>

uint64_t read_through(const uint64_t *memory, size_t words) {
  uint64_t sums[32] = {0};
  for (size_t i = 0; i + 32 <= words; i += 32) {
    for (int j = 0; j < 32; j += 8) __builtin_prefetch(memory + i + 1024 + j, 0, 2);
    for (int j = 0; j < 32; j++) sums[j] += memory[i + j];
  }
  uint64_t sum = 0;
  for (int j = 0; j < 32; j++) sum += sums[j];
  return sum;
}
