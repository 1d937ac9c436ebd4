/* test_cache.c - Skip-Cache: look-up, a cache smaller than the data, none at all, refill. */
#include "guard.h"

enum { STRIDE = 16 };

static s2_cache new_cache(uint32_t capacity) {
    s2_cache cache = {.rows = guarded_floats((size_t)capacity * STRIDE),
                      .filled = guarded(capacity),
                      .capacity = capacity,
                      .row_stride = STRIDE};
    memset(cache.filled, 0, capacity);
    return cache;
}

/* A row that tells which sample and which float of it this is. */
static const float *row_of(uint32_t sample, float *row) {
    for (uint32_t i = 0; i < STRIDE; i++) {
        row[i] = (float)(100 * sample + i);
    }
    return row;
}

static void test_look_up(void) {
    float *row = guarded_floats(STRIDE);
    s2_cache cache = new_cache(5);
    for (uint32_t sample = 0; sample < 5; sample++) {
        CHECK(s2_cache_find(&cache, sample) == NULL);
    }
    s2_cache_add(&cache, 3, row_of(3, row));
    s2_cache_add(&cache, 0, row_of(0, row));
    for (uint32_t sample = 0; sample < 5; sample++) {
        const float *found = s2_cache_find(&cache, sample);
        if (sample == 0 || sample == 3) {
            CHECK(found == cache.rows + sample * STRIDE);
            CHECK_SAME(found, row_of(sample, row), STRIDE * sizeof(float));
        } else {
            CHECK(found == NULL);
            CHECK(isnan(cache.rows[sample * STRIDE])); /* nobody wrote there */
        }
    }
    release_guarded();
}

static void test_capacity_zero(void) {
    float *row = guarded_floats(STRIDE);
    s2_cache none = {.rows = NULL, .filled = NULL, .capacity = 0, .row_stride = STRIDE};
    for (uint32_t sample = 0; sample < 3; sample++) {
        s2_cache_add(&none, sample, row_of(sample, row));
        CHECK(s2_cache_find(&none, sample) == NULL);
    }
    CHECK(s2_cache_find(&none, UINT32_MAX) == NULL);
    release_guarded();
}

/* The first `capacity` samples are kept; guarded memory would end the program beyond them. */
static void test_part_and_out_of_range(void) {
    float *row = guarded_floats(STRIDE);
    s2_cache cache = new_cache(4);
    for (uint32_t sample = 0; sample < 9; sample++) {
        s2_cache_add(&cache, sample, row_of(sample, row));
    }
    s2_cache_add(&cache, UINT32_MAX, row);
    for (uint32_t sample = 0; sample < 9; sample++) {
        const float *found = s2_cache_find(&cache, sample);
        CHECK_EQUAL(found != NULL, sample < 4);
        if (found != NULL) {
            CHECK_SAME(found, row_of(sample, row), STRIDE * sizeof(float));
        }
    }
    CHECK(s2_cache_find(&cache, UINT32_MAX) == NULL);
    release_guarded();
}

static void test_refill(void) {
    float *row = guarded_floats(STRIDE);
    s2_cache cache = new_cache(3);
    for (uint32_t sample = 0; sample < 3; sample++) {
        s2_cache_add(&cache, sample, row_of(sample, row));
    }
    s2_cache_add(&cache, 1, row_of(7, row)); /* again, with other values */
    CHECK_SAME(s2_cache_find(&cache, 1), row_of(7, row), STRIDE * sizeof(float));
    CHECK_SAME(s2_cache_find(&cache, 2), row_of(2, row), STRIDE * sizeof(float));
    memset(cache.filled, 0, 3); /* how a caller empties it */
    CHECK(s2_cache_find(&cache, 1) == NULL);
    s2_cache_add(&cache, 1, row_of(8, row));
    CHECK_SAME(s2_cache_find(&cache, 1), row_of(8, row), STRIDE * sizeof(float));
    CHECK(s2_cache_find(&cache, 0) == NULL);
    CHECK(s2_cache_find(&cache, 2) == NULL);
    release_guarded();
}

int main(void) {
    test_look_up();
    test_capacity_zero();
    test_part_and_out_of_range();
    test_refill();
    return check_report("test_cache");
}
