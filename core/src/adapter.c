/*
 * adapter.c - the skip adapters: from every layer's input to the last layer's output (Eq. 17), and
 * lines 8-10 of Algorithm 1 as one fused step on cached rows.
 */
#include "arena.h"

#include <math.h>
#include <string.h>

s2_status s2_row_layout_init(s2_row_layout *layout, uint32_t n_taps, const uint32_t *tap_width,
                             uint32_t n_outputs, int first_tap_is_x, uint32_t *tap_offset) {
    if (n_taps == 0 || n_outputs == 0 || n_outputs > S2_MAX_WIDTH) {
        return S2_BAD_SHAPE;
    }
    uint64_t used = 0;
    for (uint32_t k = 0; k < n_taps; k++) {
        if (tap_width[k] == 0 || tap_width[k] > S2_MAX_WIDTH) {
            return S2_BAD_SHAPE;
        }
        const int is_x = first_tap_is_x && k == 0;
        tap_offset[k] = is_x ? S2_TAP_IS_X : (uint32_t)used;
        used += is_x ? 0 : s2_padded(tap_width[k]);
        if (used > UINT32_MAX / 2) {
            return S2_BAD_SHAPE;
        }
    }
    *layout = (s2_row_layout){.n_taps = n_taps,
                              .n_outputs = n_outputs,
                              .tap_width = tap_width,
                              .tap_offset = tap_offset,
                              .logits_offset = (uint32_t)used,
                              .row_stride = (uint32_t)used + s2_padded(n_outputs)};
    return S2_OK;
}

s2_status s2_adapter_check(const s2_row_layout *layout, uint32_t rank) {
    for (uint32_t k = 0; k < layout->n_taps; k++) {
        if (rank == 0 || rank > layout->tap_width[k]) {
            return S2_BAD_SHAPE;
        }
    }
    return S2_OK;
}

/* Where lora_a of this tap starts; with tap = n_taps, where the lora_b start. */
static size_t packed_offset(const s2_row_layout *layout, uint32_t rank, uint32_t tap) {
    size_t offset = 0;
    for (uint32_t k = 0; k < tap; k++) {
        offset += (size_t)rank * s2_padded(layout->tap_width[k]);
    }
    return offset;
}

size_t s2_adapter_floats(const s2_row_layout *layout, uint32_t rank) {
    return packed_offset(layout, rank, layout->n_taps) +
           (size_t)layout->n_taps * rank * layout->n_outputs;
}

static float *packed_b(const s2_adapter *adapter) {
    return adapter->packed + packed_offset(adapter->layout, adapter->rank, adapter->layout->n_taps);
}

/* The moments that belong to a part of `packed`, or NULL. */
static float *moments_of(const s2_adapter *adapter, int which, const float *part) {
    return adapter->moments[which] ? adapter->moments[which] + (part - adapter->packed) : NULL;
}

void s2_adapter_init(s2_adapter *adapter, uint64_t seed) {
    const s2_row_layout *layout = adapter->layout;
    s2_rng rng;
    s2_rng_seed(&rng, seed, S2_STREAM_ADAPTER);
    /* lora_b starts at zero, so the first output equals the backbone's. */
    memset(adapter->packed, 0, s2_adapter_floats(layout, adapter->rank) * sizeof(float));
    for (uint32_t k = 0; k < layout->n_taps; k++) {
        const size_t width = layout->tap_width[k];
        const float bound = 1.0f / sqrtf((float)width);
        float *a = adapter->packed + packed_offset(layout, adapter->rank, k);
        for (size_t r = 0; r < adapter->rank; r++) {
            for (size_t i = 0; i < width; i++) {
                a[r * s2_padded((uint32_t)width) + i] = (2.0f * s2_rng_unit(&rng) - 1.0f) * bound;
            }
        }
    }
}

void s2_adapter_pack(s2_adapter *adapter, uint32_t tap, const float *wa, const float *wb) {
    const s2_row_layout *layout = adapter->layout;
    const size_t rank = adapter->rank, width = layout->tap_width[tap];
    const size_t padded = s2_padded((uint32_t)width);
    float *a = adapter->packed + packed_offset(layout, adapter->rank, tap);
    memset(a, 0, rank * padded * sizeof *a);
    for (size_t i = 0; i < width; i++) {
        for (size_t r = 0; r < rank; r++) {
            a[r * padded + i] = wa[i * rank + r];
        }
    }
    memcpy(packed_b(adapter) + tap * rank * layout->n_outputs, wb,
           rank * layout->n_outputs * sizeof *wb);
}

void s2_adapter_unpack(const s2_adapter *adapter, uint32_t tap, float *wa, float *wb) {
    const s2_row_layout *layout = adapter->layout;
    const size_t rank = adapter->rank, width = layout->tap_width[tap];
    const float *a = adapter->packed + packed_offset(layout, adapter->rank, tap);
    for (size_t i = 0; i < width; i++) {
        for (size_t r = 0; r < rank; r++) {
            wa[i * rank + r] = a[r * s2_padded((uint32_t)width) + i];
        }
    }
    memcpy(wb, packed_b(adapter) + tap * rank * layout->n_outputs,
           rank * layout->n_outputs * sizeof *wb);
}

typedef struct {
    size_t lanes;
    float *logits;      /* (n_outputs, lanes) */
    float *hidden;      /* (n_taps * rank, lanes) */
    float *grad_hidden; /* (n_taps * rank, lanes) */
} adapter_room;

static adapter_room lay_out(const s2_row_layout *layout, uint32_t rank, uint32_t count,
                            s2_arena *arena) {
    adapter_room room = {.lanes = s2_round_up(count, S2_SAMPLE_LANES)};
    const size_t n_hidden = (size_t)layout->n_taps * rank;
    room.logits = s2_take_floats(arena, layout->n_outputs * room.lanes);
    room.hidden = s2_take_floats(arena, n_hidden * room.lanes);
    room.grad_hidden = s2_take_floats(arena, n_hidden * room.lanes);
    return room;
}

size_t s2_adapter_workspace_bytes(const s2_row_layout *layout, uint32_t rank, uint32_t count) {
    s2_arena arena = {0};
    (void)lay_out(layout, rank, count, &arena);
    return arena.used;
}

/* The pass over tap k: the sample itself or a part of its row. */
static s2_tap_pass tap_pass(const s2_adapter *adapter, const s2_batch *batch, uint32_t tap,
                            float *hidden, size_t lanes) {
    const s2_row_layout *layout = adapter->layout;
    const int is_x = layout->tap_offset[tap] == S2_TAP_IS_X;
    float *a = adapter->packed + packed_offset(layout, adapter->rank, tap);
    return (s2_tap_pass){.count = batch->count,
                         .width = layout->tap_width[tap],
                         .rank = adapter->rank,
                         .row = is_x ? batch->x : batch->row,
                         .offset = is_x ? 0 : layout->tap_offset[tap],
                         .a = a,
                         .m = moments_of(adapter, 0, a),
                         .v = moments_of(adapter, 1, a),
                         .a_row = s2_padded(layout->tap_width[tap]),
                         .hidden = hidden + (size_t)tap * adapter->rank * lanes,
                         .lanes = lanes};
}

/* Eq. 17 with samples in lanes; lanes without a sample hold zeros. */
static s2_head_pass forward(const s2_adapter *adapter, const s2_batch *batch,
                            const adapter_room *room) {
    const s2_row_layout *layout = adapter->layout;
    const size_t n_hidden = (size_t)layout->n_taps * adapter->rank;
    if (room->lanes != batch->count) {
        memset(room->logits, 0, layout->n_outputs * room->lanes * sizeof(float));
        memset(room->hidden, 0, n_hidden * room->lanes * sizeof(float));
    }
    for (size_t s = 0; s < batch->count; s++) {
        const float *base_logits = batch->row[s] + layout->logits_offset;
        for (size_t o = 0; o < layout->n_outputs; o++) {
            room->logits[o * room->lanes + s] = base_logits[o];
        }
    }
    for (uint32_t k = 0; k < layout->n_taps; k++) { /* Eq. 7 for each tap */
        const s2_tap_pass pass = tap_pass(adapter, batch, k, room->hidden, room->lanes);
        adapter->kernels->tap_forward(&pass);
    }
    const s2_head_pass head = {.n_hidden = (uint32_t)n_hidden,
                               .n_outputs = layout->n_outputs,
                               .lanes = room->lanes,
                               .wb = packed_b(adapter),
                               .m = moments_of(adapter, 0, packed_b(adapter)),
                               .v = moments_of(adapter, 1, packed_b(adapter)),
                               .hidden = room->hidden,
                               .grad_hidden = room->grad_hidden,
                               .logits = room->logits};
    adapter->kernels->head_forward(&head); /* Eqs. 8, 9 for all taps */
    return head;
}

s2_status s2_adapter_forward(const s2_adapter *adapter, const s2_batch *batch, float *logits,
                             void *workspace, size_t workspace_bytes) {
    s2_arena arena = {.base = workspace};
    const adapter_room room = lay_out(adapter->layout, adapter->rank, batch->count, &arena);
    if (!s2_fits(&arena, workspace_bytes)) {
        return S2_NO_ROOM;
    }
    (void)forward(adapter, batch, &room);
    const size_t n_outputs = adapter->layout->n_outputs;
    for (size_t s = 0; s < batch->count; s++) {
        for (size_t o = 0; o < n_outputs; o++) {
            logits[s * n_outputs + o] = room.logits[o * room.lanes + s];
        }
    }
    return S2_OK;
}

s2_status s2_batch_check(const s2_batch *batch, uint32_t n_outputs, const s2_update *update) {
    if (batch->count == 0 || batch->count > S2_MAX_BATCH) {
        return S2_BAD_SHAPE;
    }
    for (uint32_t s = 0; s < batch->count; s++) {
        if (batch->label[s] < 0 || (uint32_t)batch->label[s] >= n_outputs) {
            return S2_BAD_VALUE;
        }
    }
    return isfinite(update->rate) && isfinite(update->keep) ? S2_OK : S2_BAD_VALUE;
}

s2_status s2_adapter_step(s2_adapter *adapter, const s2_batch *batch, const s2_update *update,
                          s2_batch_stats *stats, void *workspace, size_t workspace_bytes) {
    s2_arena arena = {.base = workspace};
    const adapter_room room = lay_out(adapter->layout, adapter->rank, batch->count, &arena);
    if (!s2_fits(&arena, workspace_bytes)) {
        return S2_NO_ROOM;
    }
    const s2_status status = s2_batch_check(batch, adapter->layout->n_outputs, update);
    if (status != S2_OK) {
        return status;
    }
    const s2_head_pass head = forward(adapter, batch, &room);
    const s2_loss_pass loss = {.count = batch->count,
                               .n_outputs = head.n_outputs,
                               .lanes = room.lanes,
                               .logits = room.logits,
                               .label = batch->label};
    adapter->kernels->cross_entropy(&loss, stats);
    if (!isfinite(stats->loss)) {
        return S2_NOT_FINITE;
    }
    adapter->kernels->head_update(&head, update);
    for (uint32_t k = 0; k < adapter->layout->n_taps; k++) {
        const s2_tap_pass pass = tap_pass(adapter, batch, k, room.grad_hidden, room.lanes);
        adapter->kernels->tap_update(&pass, update);
    }
    return S2_OK;
}
