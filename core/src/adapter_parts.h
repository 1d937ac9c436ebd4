/* adapter_parts.h - the passes over rows that lie in other ways than as floats: some samples of a
 * tap are read at a time, then some of its columns of all samples; included by adapter.c. */
#ifndef S2_ADAPTER_PARTS_H
#define S2_ADAPTER_PARTS_H

#include "arena.h"

/* Samples that are read at once: as many as kernels have in a tile. */
enum { READ_SAMPLES = 4 };

typedef struct {
    float *floats;      /* what was read */
    const float **row;  /* (count): where it lies */
    uint32_t n_columns; /* that are read of all samples at once */
} row_parts;

static row_parts take_parts(const s2_row_layout *layout, uint32_t count, s2_arena *arena) {
    uint32_t widest = 0;
    for (uint32_t k = 0; k < layout->n_taps; k++) {
        const uint32_t width = layout->tap_width[k];
        widest = width > widest ? width : widest;
    }
    const size_t samples = count < READ_SAMPLES ? count : READ_SAMPLES;
    const size_t of_samples = s2_times(samples, s2_padded(widest));
    const size_t of_columns = s2_times(count, S2_LANES);
    const size_t size = of_samples > of_columns ? of_samples : of_columns;
    const size_t most = count > 0 ? size / count : 0;
    row_parts parts = {.n_columns = (uint32_t)(most / S2_LANES) * S2_LANES};
    parts.floats = s2_take_floats(arena, 1, size);
    parts.row = s2_take(arena, 1, count, sizeof *parts.row);
    return parts;
}

/* Reads numbers `first` to `first + width` of tap k of `count` samples from `sample`, with the pass's
 * width and count, and points the pass at them. */
static void read_part(const s2_adapter *adapter, const s2_batch *batch, const row_parts *parts,
                      uint32_t k, uint32_t sample, uint32_t first, s2_tap_pass *pass) {
    const s2_row_reader *reader = adapter->reader;
    float *at = parts->floats;
    for (uint32_t s = 0; s < pass->count; s++, at += s2_padded(pass->width)) {
        reader->read(reader->context, batch->row[sample + s], k, first, pass->width, at);
        parts->row[s] = at;
    }
    pass->row = parts->row;
    pass->offset = 0;
    pass->n_ahead = 0;
}

/* A few samples after the others: hidden values of one do not depend on those of another. */
static void forward_parts(const s2_adapter *adapter, const s2_batch *batch, const row_parts *parts,
                          uint32_t k, const s2_tap_pass *tap) {
    s2_tap_pass part = *tap;
    for (uint32_t s = 0; s < tap->count; s += READ_SAMPLES) {
        const uint32_t left = tap->count - s;
        part.count = left < READ_SAMPLES ? left : READ_SAMPLES;
        read_part(adapter, batch, parts, k, s, 0, &part);
        adapter->kernels->tap_forward(&part);
        part.hidden += READ_SAMPLES * tap->h_sample;
    }
}

/* A few columns after the others: each moves by a sum over the batch, whatever the others do. */
static void update_parts(const s2_adapter *adapter, const s2_batch *batch, const row_parts *parts,
                         uint32_t k, const s2_tap_pass *tap, const s2_update *update) {
    const uint32_t most = parts->n_columns;
    s2_tap_pass part = *tap;
    for (uint32_t first = 0; first < tap->width; first += most) {
        const uint32_t left = tap->width - first;
        part.width = left < most ? left : most;
        read_part(adapter, batch, parts, k, 0, first, &part);
        adapter->kernels->tap_update(&part, update);
        part.a += most;
        part.m = part.m ? part.m + most : NULL;
        part.v = part.v ? part.v + most : NULL;
    }
}

#endif
