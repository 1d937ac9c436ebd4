/* rows.c - what is known of one sample (its row) and of one mini-batch of them. */
#include "kernels.h"

#include <math.h>

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

s2_status s2_batch_check(const s2_batch *batch, uint32_t n_outputs, const s2_update *update) {
    if (batch->count == 0 || batch->count > S2_MAX_BATCH) {
        return S2_BAD_SHAPE;
    }
    for (uint32_t s = 0; batch->label != NULL && s < batch->count; s++) {
        if (batch->label[s] < 0 || (uint32_t)batch->label[s] >= n_outputs) {
            return S2_BAD_VALUE;
        }
    }
    for (uint32_t s = 0; batch->weight != NULL && s < batch->count; s++) {
        if (!isfinite(batch->weight[s]) || batch->weight[s] < 0.0f) {
            return S2_BAD_VALUE;
        }
    }
    return isfinite(update->rate) && isfinite(update->keep) ? S2_OK : S2_NOT_FINITE;
}
