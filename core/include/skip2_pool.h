/*
 * skip2_pool.h - rows of taps that are feature maps: averages over a grid (pool.c). The rules of
 * skip2.h hold.
 */
#ifndef SKIP2_POOL_H
#define SKIP2_POOL_H

#include "skip2.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum { S2_FLOAT32 = 0, S2_INT8 = 1, S2_UINT8 = 2, S2_INT16 = 3 } s2_element;

/* Maps (count, height, width, channels) and the grid they are averaged over, no cell less than a
 * place. Where channels come first, each is a map of one channel. */
typedef struct {
    uint32_t count, height, width, channels;
    uint32_t grid_height, grid_width;
    s2_element element;
    float scale; /* the value q means scale * (q - zero_point) */
    int32_t zero_point;
} s2_maps;

size_t s2_pool_bytes(const s2_maps *maps);
/* The averages, out (count, channels, grid_height, grid_width). Cell i of n takes the places from
 * floor(i * size / n) up to ceil((i + 1) * size / n), as adaptive average pooling does. */
s2_status s2_pool(const s2_maps *maps, const void *values, void *workspace, size_t size,
                  float *out);

#ifdef __cplusplus
}
#endif

#endif
