/* device_rows.c - rows that a device keeps in fewer bytes: side by side, without padding. */
#include "device.h"

#include <math.h>
#include <string.h>

static size_t n_numbers(const s2_row_layout *layout) {
    size_t count = 0;
    for (uint32_t k = 0; k < layout->n_taps; k++) {
        count += layout->tap_width[k];
    }
    return count;
}

/* Bytes of a number. */
static size_t size_of(s2_row_type rows) {
    return rows == S2_ROWS_FLOAT32 ? 4u : rows == S2_ROWS_FLOAT16 ? 2u : 1u;
}

size_t s2_device_code_bytes(const s2_row_layout *layout, s2_row_type rows) {
    const size_t scales = rows == S2_ROWS_INT8 ? layout->n_taps : 0u;
    return s2_round_up(n_numbers(layout) * size_of(rows), 4) +
           (scales + layout->n_outputs) * sizeof(float);
}

/* Round to nearest, ties to even. */
static uint16_t half_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    const uint16_t sign = (uint16_t)(bits >> 16 & 0x8000u);
    bits &= 0x7fffffffu;
    if (bits >= 0x477ff000u) { /* what rounds beyond 65504 */
        return (uint16_t)(sign | 0x7bffu);
    }
    if (bits < 0x38800000u) { /* subnormal: multiples of 2^-24 */
        float small;
        memcpy(&small, &bits, sizeof small);
        small += 0.5f; /* whose last place is 2^-24 */
        memcpy(&bits, &small, sizeof bits);
        return (uint16_t)(sign | (bits - 0x3f000000u));
    }
    bits += 0xfffu + (bits >> 13 & 1u);
    return (uint16_t)(sign | ((bits >> 13) - (112u << 10)));
}

static float float_of(uint16_t half) {
    const uint32_t sign = (uint32_t)(half & 0x8000u) << 16, rest = half & 0x7fffu;
    float x;
    if (rest < 0x400u) {
        x = (float)rest * 5.9604644775390625e-8f; /* 2^-24 */
        uint32_t bits;
        memcpy(&bits, &x, sizeof bits);
        bits |= sign;
        memcpy(&x, &bits, sizeof x);
        return x;
    }
    const uint32_t bits = sign | (rest + (112u << 10)) << 13;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* The scale of a tap, by which its numbers become -127 to 127. */
static float encode_int8(uint32_t width, const float *tap, uint8_t *codes) {
    float most = 0.0f;
    for (uint32_t i = 0; i < width; i++) {
        const float size = fabsf(tap[i]);
        most = size > most ? size : most;
    }
    const float scale = most / 127.0f, per = scale > 0.0f ? 1.0f / scale : 0.0f;
    for (uint32_t i = 0; i < width; i++) {
        float code = isfinite(per) ? tap[i] * per : 0.0f;
        code = code > 127.0f ? 127.0f : code < -127.0f ? -127.0f : code;
        codes[i] = (uint8_t)(int8_t)(code < 0.0f ? code - 0.5f : code + 0.5f);
    }
    return scale;
}

void s2_device_encode(const s2_row_layout *layout, s2_row_type rows, const float *row,
                      uint8_t *codes) {
    uint8_t *at = codes, *scales = codes + s2_round_up(n_numbers(layout) * size_of(rows), 4);
    for (uint32_t k = 0; k < layout->n_taps; k++) {
        const uint32_t width = layout->tap_width[k];
        const float *tap = row + layout->tap_offset[k];
        if (rows == S2_ROWS_FLOAT32) {
            memcpy(at, tap, width * sizeof *tap);
        } else if (rows == S2_ROWS_INT8) {
            const float scale = encode_int8(width, tap, at);
            memcpy(scales, &scale, sizeof scale);
            scales += sizeof scale;
        }
        for (uint32_t i = 0; rows == S2_ROWS_FLOAT16 && i < width; i++) {
            const uint16_t half = half_of(tap[i]);
            memcpy(at + i * sizeof half, &half, sizeof half);
        }
        at += width * size_of(rows);
    }
    memcpy(scales, row + layout->logits_offset, layout->n_outputs * sizeof *row);
}

void s2_device_read(const void *context, const float *row, uint32_t tap, uint32_t first,
                    uint32_t count, float *numbers) {
    const s2_device *device = context;
    const s2_row_layout *layout = &device->layout;
    const s2_row_type rows = device->options.rows;
    const uint8_t *at = (const uint8_t *)row, *scales = at + device->code_bytes;
    scales -= (layout->n_taps + layout->n_outputs) * sizeof(float);
    if (tap == layout->n_taps) {
        const uint8_t *logits = at + device->code_bytes - layout->n_outputs * sizeof(float);
        memcpy(numbers, logits + first * sizeof(float), count * sizeof *numbers);
        return;
    }
    at += first * size_of(rows);
    for (uint32_t k = 0; k < tap; k++) {
        at += layout->tap_width[k] * size_of(rows);
    }
    if (rows == S2_ROWS_FLOAT32) {
        memcpy(numbers, at, count * sizeof *numbers);
    } else if (rows == S2_ROWS_INT8) {
        float scale;
        memcpy(&scale, scales + tap * sizeof scale, sizeof scale);
        for (uint32_t i = 0; i < count; i++) {
            numbers[i] = scale * (float)(int8_t)at[i];
        }
    } else {
        for (uint32_t i = 0; i < count; i++) {
            uint16_t half;
            memcpy(&half, at + i * sizeof half, sizeof half);
            numbers[i] = float_of(half);
        }
    }
}
