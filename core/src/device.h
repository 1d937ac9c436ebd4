/* device.h - what the parts of the device share: rows with their codes. */
#ifndef S2_DEVICE_H
#define S2_DEVICE_H

#include "skip2_device.h"

#include "arena.h"

/* Bytes of one row's codes: numbers of all taps, a scale a tap of int8, base logits. */
size_t s2_device_code_bytes(const s2_row_layout *layout, s2_row_type rows);
void s2_device_encode(const s2_row_layout *layout, s2_row_type rows, const float *row,
                      uint8_t *codes);
/* Of s2_row_reader: of a device, of codes that lie at `row`. */
void s2_device_read(const void *device, const float *row, uint32_t tap, uint32_t first,
                    uint32_t count, float *numbers);

/* The optimizer as at the beginning: moments are of other adapters. */
void s2_device_rest(s2_device *device);
int s2_all_finite(const float *numbers, size_t count);

#endif
