/* pool.c - averages of feature maps over a grid, the row of a tap that is such a map. */
#include "skip2_pool.h"

#include "arena.h"

#include <string.h>

/* The places of a cell, as adaptive average pooling has them: neighbours may share one. */
typedef struct {
    uint32_t start, stop;
} places;

/* Lines are sums of rows: lines (n_maps, n_rows, width) of maps (n_maps, height, width) from value
 * number `at`. The compiler makes vectors of it, and reading the maps is what takes the time. */
#define DEFINE_ADD(name, type)                                                                     \
    static void name(size_t n_maps, size_t height, size_t width, size_t n_rows,                    \
                     const places *rows, const void *values, size_t at, float *restrict lines) {   \
        for (size_t map = 0; map < n_maps; map++, at += height * width) {                          \
            for (size_t y = 0; y < n_rows; y++, lines += width) {                                  \
                const type *restrict x = (const type *)values + at + rows[y].start * width;        \
                for (size_t i = 0; i < width; i++) {                                               \
                    lines[i] = (float)x[i];                                                        \
                }                                                                                  \
                for (size_t row = rows[y].start + 1; row < rows[y].stop; row++) {                  \
                    x += width;                                                                    \
                    for (size_t i = 0; i < width; i++) {                                           \
                        lines[i] += (float)x[i];                                                   \
                    }                                                                              \
                }                                                                                  \
            }                                                                                      \
        }                                                                                          \
    }
DEFINE_ADD(add_float32, float)
DEFINE_ADD(add_int8, int8_t)
DEFINE_ADD(add_uint8, uint8_t)
DEFINE_ADD(add_int16, int16_t)

typedef void (*add_function)(size_t n_maps, size_t height, size_t width, size_t n_rows,
                             const places *rows, const void *values, size_t at,
                             float *restrict lines);

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

static places places_of(uint32_t cell, uint32_t cells, uint32_t size) {
    return (places){(uint32_t)((uint64_t)cell * size / cells),
                    (uint32_t)(((uint64_t)(cell + 1) * size + cells - 1) / cells)};
}

/* What s2_pool keeps in its workspace. */
typedef struct {
    const s2_maps *maps;
    add_function add;
    places *rows, *columns;   /* of each line and column of cells */
    float *factors, *offsets; /* an average is (sum - offset) * factor, (grid height, grid width) */
    float *lines, *sums;
    size_t at_once; /* maps */
} pooling;

static size_t cells_of(const s2_maps *maps) {
    return s2_times(maps->grid_height, maps->grid_width);
}

/* Maps of one channel are small: some are averaged together. */
static size_t maps_at_once(const s2_maps *maps) {
    enum { FLOATS = 2048 };
    const size_t lines = s2_times(maps->width, maps->grid_height);
    if (maps->channels != 1 || maps->count < 2 || lines == 0 || lines > FLOATS) {
        return 1;
    }
    return FLOATS / lines;
}

/* Lines that are kept: all of maps with one channel, one of a map with many. */
static size_t floats_of_lines(const s2_maps *maps) {
    return s2_times(maps->width, maps->channels == 1
                                     ? s2_times(maps_at_once(maps), maps->grid_height)
                                     : maps->channels);
}

static pooling lay_out(const s2_maps *maps, s2_arena *arena) {
    const size_t cells = cells_of(maps), lines = floats_of_lines(maps);
    pooling p = {.maps = maps, .add = add_of(maps->element), .at_once = maps_at_once(maps)};
    p.rows = s2_take(arena, 1, maps->grid_height, sizeof *p.rows);
    p.columns = s2_take(arena, 1, maps->grid_width, sizeof *p.columns);
    p.factors = s2_take_floats(arena, 1, cells);
    p.offsets = s2_take_floats(arena, 1, cells);
    p.lines = s2_take_floats(arena, 1, lines);
    p.sums = s2_take_floats(arena, 1, maps->channels == 1 ? lines : maps->channels);
    return p;
}

static void find_cells(const pooling *p) {
    const s2_maps *maps = p->maps;
    for (uint32_t y = 0; y < maps->grid_height; y++) {
        p->rows[y] = places_of(y, maps->grid_height, maps->height);
    }
    for (uint32_t x = 0; x < maps->grid_width; x++) {
        p->columns[x] = places_of(x, maps->grid_width, maps->width);
    }
    for (size_t cell = 0; cell < cells_of(maps); cell++) {
        const places row = p->rows[cell / maps->grid_width];
        const places column = p->columns[cell % maps->grid_width];
        const float count = (float)(row.stop - row.start) * (float)(column.stop - column.start);
        p->factors[cell] = maps->scale / count;
        p->offsets[cell] = count * (float)maps->zero_point;
    }
}

static void add_pairs(size_t n, const float *restrict x, float *restrict sums) {
    for (size_t i = 0; i < n; i++) {
        sums[i] = x[2 * i] + x[2 * i + 1];
    }
}

static void add_strided(size_t n, size_t size, const float *restrict x, float *restrict sums) {
    for (size_t i = 0; i < n; i++) {
        sums[i] = x[i * size];
    }
    for (size_t k = 1; k < size; k++) {
        for (size_t i = 0; i < n; i++) {
            sums[i] += x[i * size + k];
        }
    }
}

/* Sums (n) of x (n, size), in one of the two rooms, which are both used. Pairs are added as long
 * as there are: the compiler makes vectors of those. */
static const float *add_neighbours(size_t n, size_t size, float *x, float *other) {
    while (size > 1) {
        if (size % 2 == 0) {
            size /= 2;
            add_pairs(n * size, x, other);
        } else {
            add_strided(n, size, x, other);
            size = 1;
        }
        float *sums = other;
        other = x;
        x = sums;
    }
    return x;
}

/* Maps (n, height, width) of one channel, from value number `at`. */
static void pool_planes(const pooling *p, size_t n, const void *values, size_t at, float *out) {
    const s2_maps *maps = p->maps;
    const size_t width = maps->width, grid_width = maps->grid_width, cells = cells_of(maps);
    const float *sums = p->sums;
    p->add(n, maps->height, width, maps->grid_height, p->rows, values, at, p->lines);
    if (width % grid_width == 0) {
        sums = add_neighbours(n * cells, width / grid_width, p->lines, p->sums);
    } else {
        memset(p->sums, 0, n * cells * sizeof *p->sums);
        for (size_t x = 0; x < grid_width; x++) {
            for (size_t column = p->columns[x].start; column < p->columns[x].stop; column++) {
                for (size_t line = 0; line < n * maps->grid_height; line++) {
                    p->sums[line * grid_width + x] += p->lines[line * width + column];
                }
            }
        }
    }
    for (size_t map = 0; map < n; map++, sums += cells, out += cells) {
        for (size_t cell = 0; cell < cells; cell++) {
            out[cell] = (sums[cell] - p->offsets[cell]) * p->factors[cell];
        }
    }
}

/* A map (height, width, channels), from value number `at`. */
static void pool_channels(const pooling *p, const void *values, size_t at, float *out) {
    const size_t channels = p->maps->channels, width = p->maps->width * channels;
    const size_t cells = cells_of(p->maps), grid_width = p->maps->grid_width;
    for (size_t cell = 0; cell < cells; cell++) {
        if (cell % grid_width == 0) {
            p->add(1, p->maps->height, width, 1, p->rows + cell / grid_width, values, at, p->lines);
        }
        add_float32(1, grid_width, channels, 1, p->columns + cell % grid_width, p->lines, 0,
                    p->sums);
        for (size_t c = 0; c < channels; c++) {
            out[c * cells + cell] = (p->sums[c] - p->offsets[cell]) * p->factors[cell];
        }
    }
}

size_t s2_pool_bytes(const s2_maps *maps) {
    s2_arena arena = {0};
    (void)lay_out(maps, &arena);
    return arena.used;
}

s2_status s2_pool(const s2_maps *maps, const void *values, void *workspace, size_t size,
                  float *out) {
    if (!add_of(maps->element)) {
        return S2_BAD_VALUE;
    }
    if (!maps->channels || !maps->grid_height || !maps->grid_width ||
        maps->grid_height > maps->height || maps->grid_width > maps->width) {
        return S2_BAD_SHAPE;
    }
    s2_arena arena = {.base = workspace, .size = size};
    const pooling p = lay_out(maps, &arena);
    if (!s2_fits(&arena)) {
        return S2_NO_ROOM;
    }
    find_cells(&p);
    const size_t size_of_map = (size_t)maps->height * maps->width * maps->channels;
    const size_t size_of_row = maps->channels * cells_of(maps);
    for (size_t map = 0; map < maps->count; map += p.at_once) {
        const size_t left = maps->count - map, at = map * size_of_map;
        if (maps->channels == 1) {
            pool_planes(&p, left < p.at_once ? left : p.at_once, values, at,
                        out + map * size_of_row);
        } else {
            pool_channels(&p, values, at, out + map * size_of_row);
        }
    }
    return S2_OK;
}
