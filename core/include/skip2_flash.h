/*
 * skip2_flash.h - a record in flash that outlives a loss of power (flash.c). The rules of skip2.h
 * hold.
 *
 * There are two slots. A record is written to the one that does not have the newest, its header
 * last, so that whenever power is lost, and however many bits of the last write went through, the
 * newest whole record is still found: the one before, or this one. A slot that cannot be read, as
 * chips with error correction have it after a write that power ended, counts as one without a
 * record.
 */
#ifndef SKIP2_FLASH_H
#define SKIP2_FLASH_H

#include "skip2.h"

#ifdef __cplusplus
extern "C" {
#endif

#define S2_FLASH_MAX_UNIT 256u /* bytes */

/* How the firmware reaches its flash. Each function gives S2_OK, or S2_FLASH_FAILED; `at` counts
 * bytes from the start of the slot. */
typedef struct {
    void *context;
    uint32_t slot_bytes; /* of each slot, which is one or more sectors that are erased together */
    uint32_t unit; /* bytes that are written at once: a power of two; what is written begins at a
                            multiple of it and is as long as some of them */
    s2_status (*erase)(void *context, uint32_t slot); /* every byte becomes 0xff */
    s2_status (*write)(void *context, uint32_t slot, uint32_t at, const void *bytes,
                       uint32_t n_bytes); /* nothing was written there since it was erased */
    s2_status (*read)(void *context, uint32_t slot, uint32_t at, void *bytes, uint32_t n_bytes);
} s2_flash;

/* Bytes a slot needs for a record of n_bytes; SIZE_MAX for no power of two up to
 * S2_FLASH_MAX_UNIT. */
size_t s2_flash_slot_bytes(size_t n_bytes, uint32_t unit);
/* Puts a record in place of the older one. S2_NO_ROOM: a slot is too small, nothing was written;
 * S2_BAD_SHAPE: no bytes, or no such unit; S2_FLASH_FAILED: a function said so, or what was written
 * reads otherwise: the record before is still the newest. */
s2_status s2_flash_save(const s2_flash *flash, const void *bytes, size_t n_bytes);
/* The newest whole record into `bytes`, and its size; 0 and S2_OK where there is none. S2_NO_ROOM:
 * it has *n_bytes, more than `size`; S2_FLASH_FAILED: there is none that can be read, and a slot
 * cannot be. */
s2_status s2_flash_load(const s2_flash *flash, void *bytes, size_t size, size_t *n_bytes);

#ifdef __cplusplus
}
#endif

#endif
