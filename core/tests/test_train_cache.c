/* test_train_cache.c - Algorithm 1: what is computed, and what the cache gives. */
#include "training.h"

#include "skip2_codes.h"

/* How many rows each of three epochs computes: all at first, then those the cache cannot keep. */
static void test_forwards_are_counted(void) {
    static const uint32_t capacities[] = {0, 1, 7, N_SAMPLES - 1, N_SAMPLES, N_SAMPLES + 5};
    for (size_t c = 0; c < sizeof capacities / sizeof capacities[0]; c++) {
        const uint32_t capacity = capacities[c];
        check_where("capacity %u", capacity);
        training of;
        new_training(&of, N_SAMPLES, BATCH, capacity);
        const uint32_t kept = capacity < N_SAMPLES ? capacity : N_SAMPLES;
        for (uint32_t e = 0; e < 3; e++) {
            s2_epoch_stats stats;
            CHECK_EQUAL(epoch(&of, &stats), S2_OK);
            CHECK_EQUAL(stats.n_forward, e == 0 ? N_SAMPLES : N_SAMPLES - kept);
        }
        CHECK_EQUAL(of.notes.wrong, 0);
        for (uint32_t i = 0; i < N_SAMPLES; i++) {
            CHECK_EQUAL(of.notes.computed[i], i < kept ? 1 : 3);
            CHECK_EQUAL(of.notes.seen[i], 3);
            CHECK_EQUAL(s2_cache_find(&of.cache, i) != NULL, i < kept);
        }
        release_guarded();
    }
    check_where("%s", "");
}

/* A bounded cache with a table, whatever its policy: every row is the sample's own, even where one
 * batch has more samples than the cache, and what is kept for good is computed once. */
static void test_policies(void) {
    for (s2_policy policy = S2_PIN; policy <= S2_LRU; policy++) {
        for (uint32_t capacity = 0; capacity <= N_SAMPLES; capacity++) {
            check_where("policy %d, capacity %u", policy, capacity);
            training of;
            new_training(&of, N_SAMPLES, BATCH, capacity);
            s2_slots slots;
            uint32_t *room = guarded(s2_slots_count(N_SAMPLES, capacity) * sizeof *room);
            s2_slots_init(&slots, policy, N_SAMPLES, capacity, 0, room);
            of.cache.slots = &slots;
            uint32_t n_forward = 0;
            for (uint32_t e = 0; e < 3; e++) {
                s2_epoch_stats stats;
                CHECK_EQUAL(epoch(&of, &stats), S2_OK);
                n_forward += stats.n_forward;
                CHECK_EQUAL(stats.n_seen, N_SAMPLES);
            }
            const uint32_t pinned = capacity + 3 * (N_SAMPLES - capacity);
            CHECK(policy == S2_PIN ? n_forward == pinned : n_forward >= N_SAMPLES);
            CHECK_EQUAL(of.notes.wrong, 0);
            unsigned n_computed = 0, n_there = 0;
            for (uint32_t i = 0; i < N_SAMPLES; i++) {
                n_computed += of.notes.computed[i];
                n_there += s2_cache_find(&of.cache, i) != NULL;
            }
            CHECK_EQUAL(n_computed, n_forward);
            CHECK_EQUAL(n_there, capacity);
            release_guarded();
        }
    }
    check_where("%s", "");
}

/* Coded rows come as floats in every batch, beside rows that were computed for it. Whole numbers up to
 * 22 have codes of their own, but in int4. */
static void test_coded_rows(void) {
    const float one[STRIDE] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    const float zero[STRIDE] = {0};
    for (s2_dtype dtype = S2_CODE_FLOAT16; dtype <= S2_CODE_INT8; dtype++) {
        for (uint32_t capacity = 0; capacity <= N_SAMPLES; capacity++) {
            check_where("dtype %d, capacity %u", dtype, capacity);
            training of;
            new_training(&of, N_SAMPLES, BATCH, capacity);
            s2_coded coded = {.kernels = s2_kernels_choose(NULL),
                              .dtype = dtype,
                              .n_columns = STRIDE,
                              .scale = one,
                              .offset = zero};
            coded.rows = guarded(capacity * s2_coded_bytes(&coded));
            of.cache.rows = NULL;
            of.cache.coded = &coded;
            for (uint32_t e = 0; e < 3; e++) {
                s2_epoch_stats stats;
                CHECK_EQUAL(epoch(&of, &stats), S2_OK);
                CHECK_EQUAL(stats.n_forward, e == 0 ? N_SAMPLES : N_SAMPLES - capacity);
            }
            CHECK_EQUAL(of.notes.wrong, 0);
            for (uint32_t i = 0; i < capacity; i++) {
                float row[STRIDE];
                CHECK_EQUAL(s2_cache_slot(&of.cache, i), i);
                s2_coded_decode(&coded, NULL, i, 1, row, STRIDE);
                CHECK(row[0] == (float)i && row[1] == 0.0f);
            }
            CHECK_EQUAL(s2_cache_slot(&of.cache, capacity), S2_NO_SLOT);
            release_guarded();
        }
    }
    check_where("%s", "");
}

/* A cache that has all rows needs no forward, and no room for what it lacks. */
static void test_full_cache(void) {
    training of;
    s2_epoch_stats stats;
    new_training(&of, N_SAMPLES, BATCH, N_SAMPLES);
    const size_t room = s2_train_workspace_bytes(&of.job);
    const s2_forward_fn computes = of.job.forward;
    of.job.forward = NULL;
    CHECK_EQUAL(epoch(&of, &stats), S2_BAD_VALUE);
    CHECK_EQUAL(of.notes.n_batches, 0);
    of.job.forward = computes;
    CHECK_EQUAL(epoch(&of, &stats), S2_OK);
    of.job.forward = NULL;
    const size_t less = (size_t)BATCH * of.cache.row_stride * sizeof(float);
    CHECK(s2_train_workspace_bytes(&of.job) + less <= room);
    const uint32_t n_calls = of.notes.n_calls;
    CHECK_EQUAL(epoch(&of, &stats), S2_OK);
    CHECK_EQUAL(stats.n_seen, N_SAMPLES);
    CHECK_EQUAL(stats.n_forward, 0);
    CHECK_EQUAL(of.notes.n_calls, n_calls);
    release_guarded();
}

int main(void) {
    test_forwards_are_counted();
    test_policies();
    test_coded_rows();
    test_full_cache();
    return check_report("test_train_cache");
}
