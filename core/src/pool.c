/* pool.c - averages of a feature map over a grid, the row of a tap that is such a map. */
#include "skip2_pool.h"

#include <string.h>

/* sum += x; the compiler makes vectors of it, and reading the map is what takes the time. */
#define DEFINE_ADD(name, type)                                                                     \
    static void name(size_t size, const void *values, size_t at, float *restrict sum) {            \
        const type *restrict x = (const type *)values + at;                                        \
        for (size_t i = 0; i < size; i++) {                                                        \
            sum[i] += (float)x[i];                                                                 \
        }                                                                                          \
    }
DEFINE_ADD(add_float32, float)
DEFINE_ADD(add_int8, int8_t)
DEFINE_ADD(add_uint8, uint8_t)
DEFINE_ADD(add_int16, int16_t)

typedef void (*add_function)(size_t size, const void *values, size_t at, float *restrict sum);

/* NULL for a type that is none. */
static add_function add_of(s2_element element) {
    switch (element) {
    case S2_FLOAT32:
        return add_float32;
    case S2_INT8:
        return add_int8;
    case S2_UINT8:
        return add_uint8;
    case S2_INT16:
        return add_int16;
    }
    return NULL;
}

/* The places of a cell, as adaptive average pooling has them: neighbours may share one. */
typedef struct {
    size_t start, stop;
} places;

static places places_of(size_t cell, size_t cells, size_t size) {
    return (places){cell * size / cells, ((cell + 1) * size + cells - 1) / cells};
}

size_t s2_pool_bytes(const s2_map *map) {
    return ((size_t)map->width + 1) * map->channels * sizeof(float);
}

s2_status s2_pool(const s2_map *map, const void *values, void *workspace, size_t size, float *out) {
    const add_function add = add_of(map->element);
    if (!add) {
        return S2_BAD_VALUE;
    }
    if (!map->channels || !map->grid_height || !map->grid_width || map->grid_height > map->height ||
        map->grid_width > map->width) {
        return S2_BAD_SHAPE;
    }
    if (size < s2_pool_bytes(map)) {
        return S2_NO_ROOM;
    }
    const size_t channels = map->channels, line = map->width * channels;
    const size_t cells = (size_t)map->grid_height * map->grid_width;
    float *lines = workspace, *cell = lines + line;
    for (size_t gy = 0; gy < map->grid_height; gy++) {
        const places rows = places_of(gy, map->grid_height, map->height);
        memset(lines, 0, line * sizeof *lines);
        for (size_t y = rows.start; y < rows.stop; y++) {
            add(line, values, y * line, lines);
        }
        for (size_t gx = 0; gx < map->grid_width; gx++) {
            const places columns = places_of(gx, map->grid_width, map->width);
            memset(cell, 0, channels * sizeof *cell);
            for (size_t x = columns.start; x < columns.stop; x++) {
                add_float32(channels, lines, x * channels, cell);
            }
            const float count = (float)((rows.stop - rows.start) * (columns.stop - columns.start));
            for (size_t c = 0; c < channels; c++) {
                const float mean = cell[c] / count;
                out[c * cells + gy * map->grid_width + gx] =
                    (mean - (float)map->zero_point) * map->scale;
            }
        }
    }
    return S2_OK;
}
