/* test_flash.c - a record in flash: power lost at every byte, every bit turned over, odd flashes. */
#include "guard.h"

#include "skip2_flash.h"
#include "skip2_model.h"

enum { RECORD = 77, SLOT = 512, FOREVER = 1 << 30 };

/* Flash as the chip has it: a write only clears bits, and power ends after `left` bytes more, in the
 * middle of one. */
typedef struct {
    uint8_t slot[2][SLOT];
    int left;
    uint8_t torn; /* bits of the last byte that still came through */
    uint32_t unit;
    int deaf;     /* writes are answered with S2_OK and lost */
    int corrects; /* what was not written or erased to its end cannot be read */
    uint8_t torn_off[2][SLOT];
} chip;

static int passes(chip *of, uint8_t *byte, uint8_t becomes) {
    if (of->left == 0) {
        return 0;
    }
    if (--of->left == 0) {
        *byte = (uint8_t)((*byte & ~of->torn) | (becomes & of->torn));
        return of->torn == 0xff;
    }
    *byte = becomes;
    return 1;
}

static s2_status clear(void *context, uint32_t slot) {
    chip *of = context;
    for (size_t i = 0; i < SLOT; i++) {
        of->torn_off[slot][i] = 0;
        if (!passes(of, &of->slot[slot][i], 0xff)) {
            memset(of->torn_off[slot], of->corrects, SLOT);
            return S2_FLASH_FAILED;
        }
    }
    return S2_OK;
}

static s2_status put(void *context, uint32_t slot, uint32_t at, const void *bytes,
                     uint32_t n_bytes) {
    chip *of = context;
    const uint8_t *from = bytes;
    CHECK_EQUAL(at % of->unit, 0);
    CHECK_EQUAL(n_bytes % of->unit, 0);
    CHECK(at + n_bytes <= SLOT);
    uint8_t erased = 0xff;
    for (size_t i = 0; i < n_bytes; i++) {
        erased &= of->slot[slot][at + i];
    }
    CHECK_EQUAL(erased, 0xff);
    for (size_t i = 0; !of->deaf && i < n_bytes; i++) {
        if (!passes(of, &of->slot[slot][at + i], from[i])) {
            memset(of->torn_off[slot] + (at + i) / of->unit * of->unit, of->corrects, of->unit);
            return S2_FLASH_FAILED;
        }
    }
    return S2_OK;
}

static s2_status get(void *context, uint32_t slot, uint32_t at, void *bytes, uint32_t n_bytes) {
    const chip *of = context;
    CHECK(at + n_bytes <= SLOT);
    memcpy(bytes, of->slot[slot] + at, n_bytes);
    const int is_torn = memchr(of->torn_off[slot] + at, 1, n_bytes) != NULL;
    return of->left == 0 || is_torn ? S2_FLASH_FAILED : S2_OK;
}

static s2_flash flash_of(chip *of) {
    return (s2_flash){of, SLOT, of->unit, clear, put, get};
}

static void new_chip(chip *of, uint32_t unit) {
    memset(of, 0, sizeof *of); /* not erased */
    of->left = FOREVER;
    of->torn = 0xff;
    of->unit = unit;
}

/* Record number `which`: other bytes, and another length. */
static size_t fill(uint8_t *record, unsigned which) {
    for (size_t i = 0; i < RECORD; i++) {
        record[i] = (uint8_t)(which * 31 + i * 7);
    }
    return RECORD - which % 3;
}

static s2_status save(chip *of, unsigned which) {
    uint8_t record[RECORD];
    const size_t size = fill(record, which);
    const s2_flash flash = flash_of(of);
    return s2_flash_save(&flash, record, size);
}

/* Whether the newest record is number `which`. */
static int has(chip *of, unsigned which) {
    uint8_t record[RECORD], there[RECORD];
    const size_t size = fill(record, which);
    const s2_flash flash = flash_of(of);
    size_t n_bytes;
    const s2_status status = s2_flash_load(&flash, there, sizeof there, &n_bytes);
    CHECK_EQUAL(status, status == S2_FLASH_FAILED && of->corrects ? S2_FLASH_FAILED : S2_OK);
    return status == S2_OK && n_bytes == size && memcmp(record, there, size) == 0;
}

static void check_saves(uint32_t unit) {
    chip of;
    new_chip(&of, unit);
    check_where("unit %u", unit);
    uint8_t byte;
    size_t n_bytes = 9;
    const s2_flash flash = flash_of(&of);
    CHECK_EQUAL(s2_flash_load(&flash, &byte, 1, &n_bytes), S2_OK);
    CHECK_EQUAL(n_bytes, 0);
    for (unsigned which = 0; which < 5; which++) {
        CHECK_EQUAL(save(&of, which), S2_OK);
        CHECK(has(&of, which));
    }
    CHECK_EQUAL(s2_flash_load(&flash, &byte, 1, &n_bytes), S2_NO_ROOM);
    CHECK_EQUAL(n_bytes, RECORD - 1);
}

/* Power is lost after every byte of a save, with none, some and all bits of it. What is there is the
 * record before, or the new one where that was whole, and the next save succeeds. */
static void check_power_loss(uint32_t unit, unsigned n_before, int corrects) {
    static const uint8_t torn[] = {0x00, 0x5a, 0xff};
    chip before;
    new_chip(&before, unit);
    before.corrects = corrects;
    for (unsigned which = 0; which < n_before; which++) {
        CHECK_EQUAL(save(&before, which), S2_OK);
    }
    for (size_t t = 0; t < sizeof torn; t++) {
        int ended = 0, new_ones = 0;
        for (int cut = 1; !ended; cut++) {
            check_where("unit %u, %u before, cut at byte %d, bits %02x", unit, n_before, cut,
                        torn[t]);
            chip of = before;
            of.left = cut;
            of.torn = torn[t];
            const s2_status status = save(&of, n_before);
            ended = of.left > 0;
            CHECK_EQUAL(status, ended ? S2_OK : S2_FLASH_FAILED);
            of.left = FOREVER;
            const int is_new = has(&of, n_before);
            new_ones += is_new;
            if (!is_new && n_before > 0) {
                CHECK(has(&of, n_before - 1));
            }
            CHECK(!ended || is_new);
            CHECK_EQUAL(save(&of, n_before + 1), S2_OK);
            CHECK(has(&of, n_before + 1));
        }
        CHECK(new_ones > 0);
    }
    check_where("%s", "");
}

/* With any bit of the newest record turned over it is the one before that counts. */
static void check_bit_flips(void) {
    chip of;
    new_chip(&of, 8);
    CHECK_EQUAL(save(&of, 0), S2_OK);
    CHECK_EQUAL(save(&of, 1), S2_OK);
    const size_t used = 16 + RECORD - 1;
    for (size_t bit = 0; bit < 8 * used; bit++) {
        check_where("bit %zu", bit);
        of.slot[1][bit / 8] ^= (uint8_t)(1u << bit % 8);
        CHECK(has(&of, 0));
        of.slot[1][bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    check_where("%s", "");
    CHECK(has(&of, 1));
    memset(of.slot, 0xff, sizeof of.slot);
    uint8_t there[RECORD];
    size_t n_bytes;
    const s2_flash flash = flash_of(&of);
    CHECK_EQUAL(s2_flash_load(&flash, there, sizeof there, &n_bytes), S2_OK);
    CHECK_EQUAL(n_bytes, 0);
}

/* A sequence number that starts again from 0 is newer than the largest. */
static void check_sequence(void) {
    chip of;
    new_chip(&of, 1);
    CHECK_EQUAL(save(&of, 0), S2_OK);
    CHECK_EQUAL(save(&of, 1), S2_OK);
    for (uint32_t last = UINT32_MAX - 1, slot = 0; slot < 2; slot++, last++) {
        uint8_t record[RECORD];
        const size_t size = fill(record, slot);
        uint32_t head[4];
        memcpy(head, of.slot[slot], sizeof head);
        head[1] = last;
        head[3] = s2_crc32(s2_crc32(0, head, 12), record, size);
        memcpy(of.slot[slot], head, sizeof head);
    }
    CHECK(has(&of, 1));
    for (unsigned which = 2; which < 5; which++) {
        CHECK_EQUAL(save(&of, which), S2_OK);
        CHECK(has(&of, which));
    }
}

static void check_refusals(void) {
    static uint8_t record[SLOT];
    chip of;
    new_chip(&of, 8);
    CHECK_EQUAL(save(&of, 0), S2_OK);
    const chip before = of;
    s2_flash flash = flash_of(&of);
    CHECK_EQUAL(s2_flash_slot_bytes(1, 8), 24);
    CHECK_EQUAL(s2_flash_slot_bytes(SLOT - 16, 8), SLOT);
    CHECK_EQUAL(s2_flash_slot_bytes(SIZE_MAX, 8), SIZE_MAX);
    CHECK_EQUAL(s2_flash_save(&flash, record, SLOT - 15), S2_NO_ROOM);
    CHECK_EQUAL(s2_flash_save(&flash, record, 0), S2_BAD_SHAPE);
    static const uint32_t bad_units[] = {0, 3, 12, 512, UINT32_MAX};
    for (size_t i = 0; i < sizeof bad_units / sizeof bad_units[0]; i++) {
        size_t n_bytes;
        flash.unit = bad_units[i];
        CHECK_EQUAL(s2_flash_slot_bytes(1, flash.unit), SIZE_MAX);
        CHECK_EQUAL(s2_flash_save(&flash, record, 1), S2_BAD_SHAPE);
        CHECK_EQUAL(s2_flash_load(&flash, record, SLOT, &n_bytes), S2_BAD_SHAPE);
    }
    CHECK_SAME(&of, &before, sizeof of);
    of.deaf = 1;
    CHECK_EQUAL(save(&of, 1), S2_FLASH_FAILED);
    CHECK(has(&of, 0));
    of.left = 0;
    size_t n_bytes;
    flash.unit = 8;
    CHECK_EQUAL(s2_flash_load(&flash, record, SLOT, &n_bytes), S2_FLASH_FAILED);
    CHECK_EQUAL(save(&of, 1), S2_FLASH_FAILED);
}

int main(void) {
    static const uint32_t units[] = {1, 8, 256};
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        check_saves(units[i]);
        for (unsigned n_before = 0; n_before < 3; n_before++) {
            check_power_loss(units[i], n_before, 0);
            check_power_loss(units[i], n_before, 1);
        }
    }
    check_bit_flips();
    check_sequence();
    check_refusals();
    return check_report("test_flash");
}
