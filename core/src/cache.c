/* cache.c - Skip-Cache (section 4.2): the i-th sample's results lie in the i-th row. */
#include "skip2.h"

#include <string.h>

void s2_cache_add(s2_cache *cache, uint32_t sample, const float *row) {
    if (sample < cache->capacity) {
        memcpy(cache->rows + (size_t)sample * cache->row_stride, row,
               cache->row_stride * sizeof *row);
        cache->filled[sample] = 1;
    }
}
