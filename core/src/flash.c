/* flash.c - a record in one of two slots of flash, whole whenever power is lost. */
#include "skip2_flash.h"

#include "kernels.h"
#include "skip2_model.h"

#include <string.h>

enum { MAGIC = 0x46325053, CHUNK = 64 }; /* "SP2F" */

/* The first unit or units of a slot, the record behind it. Written last: its checksum holds once
 * everything is there. */
typedef struct {
    uint32_t magic, sequence, n_bytes;
    uint32_t checksum; /* CRC-32 of the numbers before and of the record */
} header;

/* What one slot has. */
typedef struct {
    int is_whole;
    uint32_t sequence, n_bytes;
} record;

static int unit_is_sound(uint32_t unit) {
    return unit > 0 && unit <= S2_FLASH_MAX_UNIT && (unit & (unit - 1u)) == 0;
}

static size_t header_bytes(uint32_t unit) {
    return s2_round_up(sizeof(header), unit);
}

size_t s2_flash_slot_bytes(size_t n_bytes, uint32_t unit) {
    return unit_is_sound(unit) ? s2_plus(header_bytes(unit), s2_round_up(n_bytes, unit)) : SIZE_MAX;
}

static s2_status look_at(const s2_flash *flash, uint32_t slot, record *there) {
    header head;
    uint8_t chunk[CHUNK];
    *there = (record){0};
    s2_status status = flash->read(flash->context, slot, 0, &head, sizeof head);
    if (status != S2_OK || head.magic != MAGIC || head.n_bytes == 0 ||
        s2_flash_slot_bytes(head.n_bytes, flash->unit) > flash->slot_bytes) {
        return status;
    }
    uint32_t crc = s2_crc32(0, &head, offsetof(header, checksum));
    for (uint32_t at = 0; status == S2_OK && at < head.n_bytes; at += CHUNK) {
        const uint32_t left = head.n_bytes - at, count = left < CHUNK ? left : CHUNK;
        status = flash->read(flash->context, slot, (uint32_t)header_bytes(flash->unit) + at, chunk,
                             count);
        crc = s2_crc32(crc, chunk, count);
    }
    *there = (record){status == S2_OK && crc == head.checksum, head.sequence, head.n_bytes};
    return status;
}

/* What both slots have. A chip with error correction does not read what was half written: such a
 * slot has no record, as one that was never written. */
typedef struct {
    record newest; /* if any is whole */
    uint32_t slot; /* of it, else the one that cannot be read, else 0 */
    uint32_t n_unreadable;
} slots;

static slots find(const s2_flash *flash) {
    record of[2];
    const int fails[2] = {look_at(flash, 0, &of[0]) != S2_OK, look_at(flash, 1, &of[1]) != S2_OK};
    /* the sequence may pass 2^32 */
    const int second =
        of[1].is_whole && (!of[0].is_whole || of[1].sequence - of[0].sequence < UINT32_MAX / 2);
    return (slots){.newest = of[second],
                   .slot = of[second].is_whole ? (uint32_t)second : (uint32_t)fails[1],
                   .n_unreadable = (uint32_t)(fails[0] + fails[1])};
}

/* What does not fill a unit goes with bytes as erased. */
static s2_status write_padded(const s2_flash *flash, uint32_t slot, size_t at, const void *bytes,
                              size_t n_bytes) {
    const uint8_t *from = bytes;
    const size_t rest = n_bytes & (flash->unit - 1u), whole = n_bytes - rest;
    s2_status status = S2_OK;
    if (whole > 0) {
        status = flash->write(flash->context, slot, (uint32_t)at, from, (uint32_t)whole);
    }
    if (status == S2_OK && rest > 0) {
        uint8_t unit[S2_FLASH_MAX_UNIT];
        memset(unit, 0xff, sizeof unit);
        memcpy(unit, from + whole, rest);
        status = flash->write(flash->context, slot, (uint32_t)(at + whole), unit, flash->unit);
    }
    return status;
}

s2_status s2_flash_save(const s2_flash *flash, const void *bytes, size_t n_bytes) {
    if (n_bytes == 0 || !unit_is_sound(flash->unit)) {
        return S2_BAD_SHAPE;
    }
    if (s2_flash_slot_bytes(n_bytes, flash->unit) > flash->slot_bytes) {
        return S2_NO_ROOM;
    }
    const slots before = find(flash);
    const int is_whole = before.newest.is_whole;
    const uint32_t slot = is_whole ? 1u - before.slot : before.slot;
    record after;
    header head = {MAGIC, is_whole ? before.newest.sequence + 1u : 0, (uint32_t)n_bytes, 0};
    head.checksum = s2_crc32(s2_crc32(0, &head, offsetof(header, checksum)), bytes, n_bytes);
    s2_status status = before.n_unreadable == 2 ? S2_FLASH_FAILED : S2_OK;
    if (status == S2_OK) {
        status = flash->erase(flash->context, slot);
    }
    if (status == S2_OK) {
        status = write_padded(flash, slot, header_bytes(flash->unit), bytes, n_bytes);
    }
    if (status == S2_OK) {
        status = write_padded(flash, slot, 0, &head, sizeof head);
    }
    if (status == S2_OK) {
        status = look_at(flash, slot, &after);
    }
    if (status != S2_OK) {
        return status;
    }
    return after.is_whole && after.sequence == head.sequence ? S2_OK : S2_FLASH_FAILED;
}

s2_status s2_flash_load(const s2_flash *flash, void *bytes, size_t size, size_t *n_bytes) {
    *n_bytes = 0;
    if (!unit_is_sound(flash->unit)) {
        return S2_BAD_SHAPE;
    }
    const slots of = find(flash);
    if (!of.newest.is_whole) {
        return of.n_unreadable > 0 ? S2_FLASH_FAILED : S2_OK;
    }
    *n_bytes = of.newest.n_bytes;
    if (of.newest.n_bytes > size) {
        return S2_NO_ROOM;
    }
    return flash->read(flash->context, of.slot, (uint32_t)header_bytes(flash->unit), bytes,
                       of.newest.n_bytes);
}
