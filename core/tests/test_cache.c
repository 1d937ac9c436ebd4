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

static const char *const policy_name[] = {"pin", "fifo", "lru"};

/* A cache of any `capacity` of n_samples. */
static s2_cache slotted(s2_slots *slots, s2_policy policy, uint32_t n_samples, uint32_t capacity,
                        uint32_t n_filled) {
    s2_cache cache = new_cache(capacity);
    uint32_t *room = guarded(s2_slots_count(n_samples, capacity) * sizeof *room);
    CHECK_EQUAL(s2_slots_init(slots, policy, n_samples, capacity, n_filled, room), S2_OK);
    cache.slots = slots;
    memset(cache.filled, 1, n_filled);
    return cache;
}

/* Against a list of samples from the one that goes next to the last, searched and shifted. */
static void check_policy(s2_policy policy, uint32_t n_samples, uint32_t capacity,
                         uint32_t n_filled) {
    enum { MOST = 16 };
    uint32_t list[MOST], n_listed = 0, wrong = 0, n_hits = 0;
    float *row = guarded_floats(STRIDE);
    s2_slots slots;
    s2_cache cache = slotted(&slots, policy, n_samples, capacity, n_filled);
    for (; n_listed < n_filled; n_listed++) {
        memcpy(cache.rows + n_listed * STRIDE, row_of(n_listed, row), STRIDE * sizeof *row);
        list[n_listed] = n_listed;
    }
    s2_rng rng;
    s2_rng_seed(&rng, policy, capacity);
    for (uint32_t use = 0; use < 2000; use++) {
        const uint32_t sample = s2_rng_below(&rng, n_samples);
        uint32_t at = 0;
        while (at < n_listed && list[at] != sample) {
            at++;
        }
        const float *there = s2_cache_find(&cache, sample);
        wrong += (there != NULL) != (at < n_listed);
        if (there != NULL) {
            n_hits++;
            wrong += memcmp(there, row_of(sample, row), STRIDE * sizeof *row) != 0;
            s2_cache_touch(&cache, sample);
        } else {
            s2_cache_add(&cache, sample, row_of(sample, row));
        }
        const int is_there = at < n_listed;
        if (is_there ? policy != S2_LRU : capacity == 0) {
            continue;
        }
        if (!is_there && n_listed == capacity) {
            if (policy == S2_PIN) {
                continue;
            }
            at = 0;
        }
        if (at < n_listed) { /* goes, from wherever it stands */
            memmove(list + at, list + at + 1, (--n_listed - at) * sizeof *list);
        }
        list[n_listed++] = sample;
    }
    CHECK_EQUAL(wrong, 0);
    CHECK(capacity == 0 ? n_hits == 0 : n_hits > 0);
    CHECK(s2_cache_find(&cache, n_samples) == NULL);
    CHECK(s2_cache_find(&cache, UINT32_MAX) == NULL);
    s2_cache_add(&cache, n_samples, row); /* of a stream that is longer than was said */
    s2_cache_add(&cache, UINT32_MAX, row);
    CHECK(s2_cache_find(&cache, n_samples) == NULL);
    release_guarded();
}

static void test_policies(void) {
    for (s2_policy policy = S2_PIN; policy <= S2_LRU; policy++) {
        for (uint32_t capacity = 0; capacity <= 9; capacity++) {
            for (uint32_t n_filled = 0; n_filled <= capacity; n_filled += 3) {
                check_where("%s, capacity %u, %u filled", policy_name[policy], capacity, n_filled);
                check_policy(policy, 11, capacity, n_filled);
            }
        }
        check_where("%s, more slots than samples", policy_name[policy]);
        check_policy(policy, 5, 9, 5);
    }
    check_where("%s", "");
}

/* A row that a caller took out comes again, into the same slot, and nobody gets another's. */
static void test_refill_of_slots(void) {
    for (s2_policy policy = S2_PIN; policy <= S2_LRU; policy++) {
        check_where("%s", policy_name[policy]);
        float *row = guarded_floats(STRIDE);
        s2_slots slots;
        s2_cache cache = slotted(&slots, policy, 6, 2, 0);
        s2_cache_add(&cache, 4, row_of(4, row));
        s2_cache_add(&cache, 2, row_of(2, row));
        memset(cache.filled, 0, 2);
        CHECK(s2_cache_find(&cache, 4) == NULL);
        s2_cache_add(&cache, 4, row_of(9, row)); /* with other values */
        CHECK_SAME(s2_cache_find(&cache, 4), row_of(9, row), STRIDE * sizeof(float));
        s2_cache_add(&cache, 5, row_of(5, row));
        CHECK_EQUAL(s2_cache_find(&cache, 5) != NULL, policy != S2_PIN);
        CHECK(s2_cache_find(&cache, 2) == NULL);
        release_guarded();
    }
    check_where("%s", "");
}

static void test_refused_slots(void) {
    uint32_t room[64];
    s2_slots slots;
    CHECK_EQUAL(s2_slots_init(&slots, S2_PIN, 9, 3, 4, room), S2_BAD_SHAPE);
    CHECK_EQUAL(s2_slots_init(&slots, S2_LRU, 2, 5, 3, room), S2_BAD_SHAPE);
    CHECK_EQUAL(s2_slots_init(&slots, (s2_policy)3, 9, 3, 0, room), S2_BAD_SHAPE);
    CHECK_EQUAL(s2_slots_count(9, 3), 18);
    CHECK(s2_slots_count(UINT32_MAX, UINT32_MAX) >= UINT32_MAX); /* SIZE_MAX on 32 bits */
}

int main(void) {
    test_look_up();
    test_capacity_zero();
    test_part_and_out_of_range();
    test_refill();
    test_policies();
    test_refill_of_slots();
    test_refused_slots();
    return check_report("test_cache");
}
