/* test_rows.c - how taps and base logits lie in a row. */
#include "guard.h"

static void test_layout(void) {
    const uint32_t widths[] = {33, 17, 8};
    uint32_t offset[3];
    s2_row_layout layout;
    CHECK_EQUAL(s2_row_layout_init(&layout, 3, widths, 6, 1, offset), S2_OK);
    CHECK_EQUAL(offset[0], S2_TAP_IS_X);
    CHECK_EQUAL(offset[1], 0);
    CHECK_EQUAL(offset[2], 32);
    CHECK_EQUAL(layout.logits_offset, 48);
    CHECK_EQUAL(layout.row_stride, 64);
    CHECK_EQUAL(s2_row_layout_init(&layout, 3, widths, 17, 0, offset), S2_OK);
    CHECK_EQUAL(offset[0], 0);
    CHECK_EQUAL(offset[1], 48);
    CHECK_EQUAL(offset[2], 80);
    CHECK_EQUAL(layout.logits_offset, 96);
    CHECK_EQUAL(layout.row_stride, 128);
}

static void test_layout_errors(void) {
    enum { MANY = 128 };
    static uint32_t wide[MANY], offset[MANY];
    s2_row_layout layout;
    for (size_t k = 0; k < MANY; k++) {
        wide[k] = S2_MAX_WIDTH;
    }
    CHECK_EQUAL(s2_row_layout_init(&layout, 0, wide, 3, 0, offset), S2_BAD_SHAPE);
    CHECK_EQUAL(s2_row_layout_init(&layout, 1, wide, 0, 0, offset), S2_BAD_SHAPE);
    CHECK_EQUAL(s2_row_layout_init(&layout, 1, wide, S2_MAX_WIDTH + 1, 0, offset), S2_BAD_SHAPE);
    CHECK_EQUAL(s2_row_layout_init(&layout, 1, wide, S2_MAX_WIDTH, 0, offset), S2_OK);
    CHECK_EQUAL(s2_row_layout_init(&layout, MANY, wide, 3, 0, offset), S2_BAD_SHAPE);
    CHECK_EQUAL(s2_row_layout_init(&layout, MANY, wide, 3, 1, offset), S2_OK);
    wide[1] = 0;
    CHECK_EQUAL(s2_row_layout_init(&layout, 2, wide, 3, 1, offset), S2_BAD_SHAPE);
    wide[1] = S2_MAX_WIDTH + 1;
    CHECK_EQUAL(s2_row_layout_init(&layout, 2, wide, 3, 1, offset), S2_BAD_SHAPE);
    CHECK_EQUAL(s2_row_layout_init(&layout, 1, wide + 1, 3, 1, offset), S2_BAD_SHAPE);
}

int main(void) {
    test_layout();
    test_layout_errors();
    return check_report("test_rows");
}
