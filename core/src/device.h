/* device.h - what the parts of the device share: rows with their codes. */
#ifndef S2_DEVICE_H
#define S2_DEVICE_H

#include "skip2_device.h"

#include "arena.h"

/* Bytes of one row's codes: numbers of all taps, a scale a tap of int8, base logits. */
size_t s2_device_code_bytes(const s2_row_layout *layout, s2_row_type rows);
void s2_device_encode(const s2_row_layout *layout, s2_row_type rows, const float *row,
                      uint8_t *codes);
/* The padding of `row` stays as it is. */
void s2_device_decode(const s2_row_layout *layout, s2_row_type rows, const uint8_t *codes,
                      float *row);

/* The optimizer as at the beginning: moments are of other adapters. */
void s2_device_rest(s2_device *device);
int s2_all_finite(const float *numbers, size_t count);

#endif
