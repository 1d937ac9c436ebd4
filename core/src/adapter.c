/*
 * adapter.c - the skip adapters: from every layer's input to the last layer's output (Eq. 17), and
 * lines 8-10 of Algorithm 1 as one fused step on cached rows.
 */
#include "same_bits.h"

#include "adapter_parts.h"
#include "profile.h"

#include <math.h>
#include <string.h>

/* Floats of lora_a of one tap; they follow each other, then come the lora_b. */
static size_t packed_floats(const s2_row_layout *layout, uint32_t rank, uint32_t tap) {
    return s2_times(rank, s2_padded(layout->tap_width[tap]));
}

/* Where lora_a of this tap starts; with tap = n_taps, where the lora_b start. */
static size_t packed_offset(const s2_row_layout *layout, uint32_t rank, uint32_t tap) {
    size_t offset = 0;
    for (uint32_t k = 0; k < tap; k++) {
        offset = s2_plus(offset, packed_floats(layout, rank, k));
    }
    return offset;
}

size_t s2_adapter_floats(const s2_row_layout *layout, uint32_t rank, int has_bias) {
    const size_t units = s2_plus(s2_times(layout->n_taps, rank), has_bias != 0);
    return s2_plus(packed_offset(layout, rank, layout->n_taps), s2_times(units, layout->n_outputs));
}

s2_status s2_adapter_check(const s2_row_layout *layout, uint32_t rank) {
    uint32_t widest = 0;
    for (uint32_t k = 0; k < layout->n_taps; k++) {
        widest = layout->tap_width[k] > widest ? layout->tap_width[k] : widest;
    }
    const int some = rank > 0 && rank <= widest;
    return some && (uint64_t)layout->n_taps * rank < UINT32_MAX &&
                   s2_times(s2_adapter_floats(layout, rank, 1), sizeof(float)) < SIZE_MAX
               ? S2_OK
               : S2_BAD_SHAPE;
}

static float *packed_b(const s2_adapter *adapter) {
    return adapter->packed + packed_offset(adapter->layout, adapter->rank, adapter->layout->n_taps);
}

float *s2_adapter_bias(const s2_adapter *adapter) {
    const s2_row_layout *layout = adapter->layout;
    return adapter->has_bias
               ? packed_b(adapter) + (size_t)layout->n_taps * adapter->rank * layout->n_outputs
               : NULL;
}

/* The moments that belong to a part of `packed`, or NULL. */
static float *moments_of(const s2_adapter *adapter, int which, const float *part) {
    return adapter->moments[which] ? adapter->moments[which] + (part - adapter->packed) : NULL;
}

void s2_adapter_init(s2_adapter *adapter, uint64_t seed) {
    const s2_row_layout *layout = adapter->layout;
    s2_rng rng;
    s2_rng_seed(&rng, seed, S2_STREAM_ADAPTER);
    /* lora_b and bias start at zero, so the first output equals the backbone's. */
    memset(adapter->packed, 0,
           s2_adapter_floats(layout, adapter->rank, adapter->has_bias) * sizeof(float));
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

void s2_adapter_pack(s2_adapter *adapter, uint32_t tap, const float *lora_a, const float *lora_b) {
    const s2_row_layout *layout = adapter->layout;
    const size_t rank = adapter->rank, width = layout->tap_width[tap];
    const size_t padded = s2_padded((uint32_t)width);
    float *a = adapter->packed + packed_offset(layout, adapter->rank, tap);
    memset(a, 0, rank * padded * sizeof *a);
    for (size_t i = 0; i < width; i++) {
        for (size_t r = 0; r < rank; r++) {
            a[r * padded + i] = lora_a[i * rank + r];
        }
    }
    memcpy(packed_b(adapter) + tap * rank * layout->n_outputs, lora_b,
           rank * layout->n_outputs * sizeof *lora_b);
}

void s2_adapter_unpack(const s2_adapter *adapter, uint32_t tap, float *lora_a, float *lora_b) {
    const s2_row_layout *layout = adapter->layout;
    const size_t rank = adapter->rank, width = layout->tap_width[tap];
    const float *a = adapter->packed + packed_offset(layout, adapter->rank, tap);
    for (size_t i = 0; i < width; i++) {
        for (size_t r = 0; r < rank; r++) {
            lora_a[i * rank + r] = a[r * s2_padded((uint32_t)width) + i];
        }
    }
    memcpy(lora_b, packed_b(adapter) + tap * rank * layout->n_outputs,
           rank * layout->n_outputs * sizeof *lora_b);
}

/* What one batch computes. Few outputs: samples in lanes, (unit, lanes). Many outputs: (sample, unit)
 * of (count, n_outputs) and (count, n_hidden). */
typedef struct {
    int few;
    uint32_t n_hidden; /* n_taps * rank, and one that is always 1 for the bias */
    size_t lanes;      /* samples, padded where they lie in lanes */
    float *logits, *hidden, *grad_hidden;
    float *grad_b; /* (n_hidden, n_outputs) */
    row_parts parts;
} adapter_room;

static adapter_room lay_out(const s2_adapter *adapter, uint32_t count, s2_arena *arena) {
    const s2_row_layout *layout = adapter->layout;
    const size_t n_hidden =
        s2_plus(s2_times(layout->n_taps, adapter->rank), adapter->has_bias != 0);
    const size_t units = n_hidden > UINT32_MAX ? SIZE_MAX : n_hidden; /* then nothing fits */
    adapter_room room = {.few = adapter->loss == S2_SOFTMAX && layout->n_outputs <= S2_FEW_OUTPUTS,
                         .n_hidden = (uint32_t)units};
    room.lanes = room.few ? s2_round_up(count, adapter->kernels->lanes) : count;
    room.logits = s2_take_floats(arena, layout->n_outputs, room.lanes);
    room.hidden = s2_take_floats(arena, units, room.lanes);
    room.grad_hidden = s2_take_floats(arena, units, room.lanes);
    room.grad_b = s2_take_floats(arena, units, layout->n_outputs);
    if (adapter->reader != NULL) {
        room.parts = take_parts(adapter->layout, count, arena);
    }
    return room;
}

size_t s2_adapter_workspace_bytes(const s2_adapter *adapter, uint32_t count) {
    s2_arena arena = {0};
    (void)lay_out(adapter, count, &arena);
    return arena.used;
}

/* The pass over the first tap. */
static s2_tap_pass first_pass(const s2_adapter *adapter, const s2_batch *batch,
                              const adapter_room *room, float *hidden) {
    return (s2_tap_pass){.count = batch->count,
                         .rank = adapter->rank,
                         .a = adapter->packed,
                         .m = adapter->moments[0],
                         .v = adapter->moments[1],
                         .hidden = hidden,
                         .h_rank = room->few ? room->lanes : 1,
                         .h_sample = room->few ? 1 : room->n_hidden};
}

/* Points the pass at tap k: the sample itself or a part of its row. */
static void enter_tap(const s2_adapter *adapter, const s2_batch *batch, uint32_t k,
                      s2_tap_pass *pass) {
    const s2_row_layout *layout = adapter->layout;
    const int is_x = layout->tap_offset[k] == S2_TAP_IS_X;
    pass->width = layout->tap_width[k];
    pass->a_row = s2_padded(pass->width);
    pass->row = is_x ? batch->x : batch->row;
    pass->ahead = is_x ? batch->next_x : batch->next_row;
    pass->n_ahead = pass->ahead ? batch->n_next : 0;
    pass->offset = is_x ? 0 : layout->tap_offset[k];
}

/* Moves on to what the next tap reads and writes. */
static void leave_tap(const s2_adapter *adapter, uint32_t k, s2_tap_pass *pass) {
    const size_t size = packed_floats(adapter->layout, adapter->rank, k);
    pass->a += size;
    pass->m = pass->m ? pass->m + size : NULL;
    pass->v = pass->v ? pass->v + size : NULL;
    pass->hidden += adapter->rank * pass->h_rank;
}

static s2_head_pass head_pass(const s2_adapter *adapter, const adapter_room *room) {
    return (s2_head_pass){.n_hidden = room->n_hidden,
                          .n_outputs = adapter->layout->n_outputs,
                          .lanes = room->lanes,
                          .lora_b = packed_b(adapter),
                          .hidden = room->hidden,
                          .grad_hidden = room->grad_hidden,
                          .grad_b = room->grad_b,
                          .logits = room->logits};
}

/* The base logits, where the adapters' part will be added. */
static void start_logits(const s2_adapter *adapter, const s2_batch *batch,
                         const adapter_room *room) {
    const s2_row_layout *layout = adapter->layout;
    const size_t of_output = room->few ? room->lanes : 1;
    const size_t of_sample = room->few ? 1 : layout->n_outputs;
    if (room->lanes != batch->count) { /* lanes without a sample hold zeros */
        memset(room->logits, 0, layout->n_outputs * room->lanes * sizeof(float));
        memset(room->hidden, 0, room->n_hidden * room->lanes * sizeof(float));
    }
    for (size_t s = 0; s < batch->count; s++) {
        for (uint32_t o = 0; o < layout->n_outputs; o++) {
            float *logit = room->logits + o * of_output + s * of_sample;
            if (adapter->reader != NULL) {
                adapter->reader->read(adapter->reader->context, batch->row[s], layout->n_taps, o, 1,
                                      logit);
            } else {
                *logit = batch->row[s][layout->logits_offset + o];
            }
        }
    }
}

/* The hidden value behind the bias: the last one, 1 for every sample. */
static void start_bias(const s2_batch *batch, const adapter_room *room) {
    const size_t last = room->n_hidden - 1;
    for (size_t s = 0; s < batch->count; s++) {
        room->hidden[room->few ? last * room->lanes + s : s * room->n_hidden + last] = 1.0f;
    }
}

/* Whether the tap must be read. */
static int is_read(const s2_adapter *adapter, uint32_t k) {
    return adapter->reader != NULL && adapter->layout->tap_offset[k] != S2_TAP_IS_X;
}

/* Eq. 17. */
static void forward(const s2_adapter *adapter, const s2_batch *batch, const adapter_room *room) {
    const uint32_t n_outputs = adapter->layout->n_outputs;
    s2_tap_pass tap = first_pass(adapter, batch, room, room->hidden);
    start_logits(adapter, batch, room);
    if (adapter->has_bias) {
        start_bias(batch, room);
    }
    for (uint32_t k = 0; k < adapter->layout->n_taps; k++) { /* Eq. 7 for each tap */
        enter_tap(adapter, batch, k, &tap);
        if (is_read(adapter, k)) {
            forward_parts(adapter, batch, &room->parts, k, &tap);
        } else {
            adapter->kernels->tap_forward(&tap);
        }
        leave_tap(adapter, k, &tap);
    }
    if (room->few) { /* Eqs. 8, 9 for all taps */
        const s2_head_pass head = head_pass(adapter, room);
        adapter->kernels->head_forward(&head);
    } else {
        s2_multiply_add(adapter->kernels, batch->count, n_outputs, room->n_hidden, room->hidden,
                        packed_b(adapter), room->logits);
    }
}

/* Whether there is all that the forward pass reads. */
static int has_rows(const s2_adapter *adapter, const s2_batch *batch) {
    const int reads_x = adapter->layout->tap_offset[0] == S2_TAP_IS_X; /* no other tap may be x */
    const int ahead = batch->n_next == 0 || batch->next_x || !reads_x;
    return batch->row != NULL && (batch->x != NULL || !reads_x) && ahead;
}

/* Whether there is all that the step reads besides: answers, the optimiser's state. */
static int has_answers(const s2_adapter *adapter, const s2_batch *batch, s2_rule rule) {
    const void *answers = batch->target;
    for (uint32_t m = 0; m < s2_optimizer_moments(rule); m++) {
        if (adapter->moments[m] == NULL) {
            return 0;
        }
    }
    return (adapter->loss == S2_SOFTMAX ? batch->label : answers) != NULL;
}

s2_status s2_adapter_forward(const s2_adapter *adapter, const s2_batch *batch, float *logits,
                             void *workspace, size_t workspace_bytes) {
    s2_arena arena = {.base = workspace, .size = workspace_bytes};
    const adapter_room room = lay_out(adapter, batch->count, &arena);
    if (!s2_fits(&arena)) {
        return S2_NO_ROOM;
    }
    if (!has_rows(adapter, batch)) {
        return S2_BAD_VALUE;
    }
    forward(adapter, batch, &room);
    const size_t n_outputs = adapter->layout->n_outputs;
    const size_t of_output = room.few ? room.lanes : 1, of_sample = room.few ? 1 : n_outputs;
    for (size_t s = 0; s < batch->count; s++) {
        for (size_t o = 0; o < n_outputs; o++) {
            /* s2_fits: no part is NULL. NOLINTNEXTLINE(clang-analyzer-core.NullDereference) */
            logits[s * n_outputs + o] = room.logits[o * of_output + s * of_sample];
        }
    }
    return S2_OK;
}

/* The loss; its gradient replaces the logits. */
static void loss(const s2_adapter *adapter, const s2_batch *batch, const adapter_room *room,
                 s2_batch_stats *stats) {
    const s2_loss_pass pass = {.count = batch->count,
                               .n_outputs = adapter->layout->n_outputs,
                               .lanes = room->lanes,
                               .logits = room->logits,
                               .label = batch->label,
                               .weight = batch->weight};
    if (adapter->loss != S2_SOFTMAX) {
        s2_loss_targets(adapter->kernels, adapter->loss, batch->count, adapter->layout->n_outputs,
                        batch->target, batch->weight, room->logits, stats);
    } else if (room->few) {
        adapter->kernels->loss_lanes(&pass, stats);
    } else {
        adapter->kernels->loss_rows(&pass, stats);
    }
}

/* Eqs. 10 to 12 of every tap, each followed by its update (Eqs. 15, 16). */
static void backward(const s2_adapter *adapter, const s2_batch *batch, const adapter_room *room,
                     const s2_update *update) {
    const s2_kernels *kernels = adapter->kernels;
    const uint32_t n_outputs = adapter->layout->n_outputs;
    float *lora_b = packed_b(adapter);
    if (room->few) {
        const s2_head_pass head = head_pass(adapter, room);
        kernels->head_backward(&head);
    } else {
        s2_multiply_second_transposed(kernels, batch->count, room->n_hidden, n_outputs,
                                      room->logits, lora_b, room->grad_hidden); /* Eq. 11 */
        s2_multiply_first_transposed(kernels, room->n_hidden, n_outputs, batch->count, room->hidden,
                                     room->logits, room->grad_b); /* Eq. 10 */
    }
    kernels->descend((size_t)room->n_hidden * n_outputs, update, room->grad_b,
                     moments_of(adapter, 0, lora_b), moments_of(adapter, 1, lora_b), lora_b);
    s2_tap_pass tap = first_pass(adapter, batch, room, room->grad_hidden);
    for (uint32_t k = 0; k < adapter->layout->n_taps; k++) { /* Eqs. 12 and 15 in one */
        enter_tap(adapter, batch, k, &tap);
        if (is_read(adapter, k)) {
            update_parts(adapter, batch, &room->parts, k, &tap, update);
        } else {
            kernels->tap_update(&tap, update);
        }
        leave_tap(adapter, k, &tap);
    }
}

s2_status s2_adapter_step(s2_adapter *adapter, const s2_batch *batch, const s2_update *update,
                          s2_batch_stats *stats, void *workspace, size_t workspace_bytes) {
    s2_arena arena = {.base = workspace, .size = workspace_bytes};
    const adapter_room room = lay_out(adapter, batch->count, &arena);
    if (!s2_fits(&arena)) {
        return S2_NO_ROOM;
    }
    const s2_status status = s2_batch_check(batch, adapter->layout->n_outputs, update);
    if (status != S2_OK) {
        return status;
    }
    if (!has_rows(adapter, batch) || !has_answers(adapter, batch, update->rule)) {
        return S2_BAD_VALUE;
    }
    forward(adapter, batch, &room);
    loss(adapter, batch, &room, stats);
    s2_mark(adapter->profile, S2_PHASE_FORWARD);
    if (!isfinite(stats->loss)) {
        return S2_NOT_FINITE;
    }
    backward(adapter, batch, &room, update);
    s2_mark(adapter->profile, S2_PHASE_BACKWARD);
    return S2_OK;
}
