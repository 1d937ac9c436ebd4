/* test_train.c - Algorithm 1: the order of samples, what is computed, what the cache gives. */
#include "guard.h"

#include "skip2_codes.h"

#include <float.h>

enum { N_SAMPLES = 23, N_FEATURES = 3, BATCH = 5, STRIDE = 16, MOST_BATCHES = 64 };

/* Stands for backbone and adapter: notes what it is given. */
typedef struct {
    unsigned seen[N_SAMPLES], computed[N_SAMPLES]; /* times */
    uint32_t order[MOST_BATCHES * BATCH], count[MOST_BATCHES];
    uint32_t n_seen, n_batches, n_calls;
    unsigned wrong;                 /* x, row, label, weight or announced x of another sample */
    const float *next_x[BATCH * 4]; /* announced by the batch before */
    uint32_t n_next, n_announced;
    int weighted;
    uint32_t failing;    /* call of forward that fails, from 1; 0: none */
    uint32_t nan_batch;  /* batch whose loss is NaN, from 1; 0: none */
    s2_status step_says; /* from the second batch on */
    float half[2];       /* of the least normal number, as forward and step compute it */
} recorder;

static float half_of_least(void) {
    volatile float least = FLT_MIN;
    return least * 0.5f;
}

static s2_status note_forward(void *context, const uint32_t *sample, uint32_t count, float *rows) {
    recorder *notes = context;
    notes->half[0] = half_of_least();
    if (++notes->n_calls == notes->failing) {
        return S2_FORWARD_FAILED;
    }
    for (uint32_t i = 0; i < count; i++) {
        notes->computed[sample[i]]++;
        rows[i * STRIDE] = (float)sample[i];
    }
    return S2_OK;
}

static s2_status note_step(void *context, const s2_batch *batch, s2_batch_stats *stats) {
    recorder *notes = context;
    notes->half[1] = half_of_least();
    for (uint32_t i = 0; i < batch->count; i++) {
        const uint32_t sample = (uint32_t)batch->x[i][0];
        notes->wrong += batch->label[i] != (int32_t)(sample % 4);
        notes->wrong += batch->row != NULL && batch->row[i][0] != (float)sample;
        notes->wrong += (batch->weight != NULL) != notes->weighted;
        notes->wrong += batch->weight != NULL && batch->weight[i] != (float)sample;
        notes->order[notes->n_seen++] = sample;
        notes->seen[sample]++;
        notes->wrong += i < notes->n_next && notes->next_x[i] != batch->x[i];
    }
    notes->wrong += notes->n_next > 0 && notes->n_next != batch->count;
    notes->n_next = batch->n_next;
    notes->n_announced += batch->n_next;
    for (uint32_t i = 0; i < batch->n_next; i++) {
        notes->next_x[i] = batch->next_x[i];
    }
    notes->count[notes->n_batches++] = batch->count;
    stats->loss = notes->n_batches == notes->nan_batch ? (float)NAN : (float)batch->count;
    stats->correct = 1;
    return notes->n_batches > 1 ? notes->step_says : S2_OK;
}

typedef struct {
    recorder notes;
    s2_cache cache;
    s2_job job;
    s2_rng rng;
} training;

static void new_training(training *made, uint32_t n_samples, uint32_t batch, uint32_t capacity) {
    memset(made, 0, sizeof *made);
    float *x = guarded_floats((size_t)n_samples * N_FEATURES);
    float *weight = guarded_floats(n_samples);
    int32_t *label = guarded(n_samples * sizeof *label);
    for (uint32_t i = 0; i < n_samples; i++) {
        x[i * N_FEATURES] = weight[i] = (float)i;
        label[i] = (int32_t)(i % 4);
    }
    made->cache = (s2_cache){.rows = guarded_floats((size_t)capacity * STRIDE),
                             .filled = guarded(capacity),
                             .capacity = capacity,
                             .row_stride = STRIDE};
    memset(made->cache.filled, 0, capacity);
    made->job = (s2_job){.n_samples = n_samples,
                         .n_features = N_FEATURES,
                         .x = x,
                         .label = label,
                         .weight = n_samples % 2 ? weight : NULL,
                         .batch_size = batch,
                         .smallest_batch = 1,
                         .forward = note_forward,
                         .forward_context = &made->notes,
                         .cache = &made->cache,
                         .step = note_step,
                         .step_context = &made->notes};
    made->notes.weighted = made->job.weight != NULL;
    s2_rng_seed(&made->rng, 4, S2_STREAM_ORDER);
}

static s2_status epoch(training *of, s2_epoch_stats *stats) {
    const size_t room = s2_train_workspace_bytes(&of->job);
    CHECK_EQUAL(room % S2_ALIGN, 0);
    return s2_train_epoch(&of->job, &of->rng, stats, guarded(room), room);
}

/* What was announced, and which batch was running. */
typedef struct {
    recorder notes; /* first: all share one context */
    uint32_t sample[N_SAMPLES], at_batch[N_SAMPLES], n;
} listener;

static void note_announced(void *context, const uint32_t *sample, uint32_t count) {
    listener *of = context;
    for (uint32_t i = 0; i < count; i++, of->n++) {
        of->sample[of->n] = sample[i];
        of->at_batch[of->n] = of->notes.n_batches;
    }
}

/* Every batch is announced once, two batches before its turn, whatever the cache has. */
static void test_announced_two_batches_ahead(void) {
    for (uint32_t capacity = 0; capacity <= N_SAMPLES; capacity += N_SAMPLES) {
        training of;
        listener heard = {.n = 0};
        new_training(&of, N_SAMPLES, BATCH, capacity);
        heard.notes = of.notes;
        of.job.announce = note_announced;
        of.job.forward_context = of.job.step_context = &heard;
        s2_epoch_stats stats;
        CHECK_EQUAL(epoch(&of, &stats), S2_OK);
        CHECK_EQUAL(heard.n, N_SAMPLES);
        for (uint32_t i = 0; i < N_SAMPLES; i++) {
            CHECK_EQUAL(heard.sample[i], heard.notes.order[i]);
            CHECK_EQUAL(heard.at_batch[i], i / BATCH < 2 ? 0 : i / BATCH - 2);
        }
        CHECK_EQUAL(heard.notes.wrong, 0);
        release_guarded();
    }
}

/* A clock that counts its looks. */
static uint64_t looks;
static uint64_t look(void) {
    return ++looks;
}

/* Order and gathering are the rest, then look-up; what follows the last batch is the rest again. */
static void test_phases(void) {
    for (uint32_t with_rows = 0; with_rows < 2; with_rows++) {
        check_where("%s rows", with_rows ? "with" : "without");
        training of;
        new_training(&of, N_SAMPLES, BATCH, N_SAMPLES);
        of.job.forward = with_rows ? of.job.forward : NULL;
        of.job.cache = with_rows ? of.job.cache : NULL;
        s2_profile profile = {.now = look};
        of.job.profile = &profile;
        looks = 100; /* time before the epoch is nobody's */
        s2_epoch_stats stats;
        const uint32_t n_batches = (N_SAMPLES + BATCH - 1) / BATCH;
        for (uint32_t e = 1; e <= 2; e++) {
            CHECK_EQUAL(epoch(&of, &stats), S2_OK);
            CHECK_EQUAL(profile.phase[S2_PHASE_REST], e * (n_batches + 1));
            /* In the first epoch all are computed, and added after the step. */
            const uint32_t of_rows = with_rows * (e + 1) * n_batches;
            CHECK_EQUAL(profile.phase[S2_PHASE_ROWS], of_rows);
            CHECK_EQUAL(looks, 100 + e * (1 + n_batches + 1) + of_rows);
        }
        CHECK_EQUAL(profile.phase[S2_PHASE_FORWARD], 0); /* the step's to mark */
        CHECK_EQUAL(profile.phase[S2_PHASE_BACKWARD] + profile.phase[S2_PHASE_UPDATE], 0);
        release_guarded();
    }
    check_where("%s", "");
}

/* Every sample once an epoch with its own row and label; the last batch is short. */
static void test_every_sample_once(void) {
    for (uint32_t n_samples = 1; n_samples <= N_SAMPLES; n_samples++) {
        for (uint32_t batch = 1; batch <= n_samples; batch = batch * 2 + 1) {
            check_where("%u samples, batch size %u", n_samples, batch);
            training of;
            new_training(&of, n_samples, batch, n_samples);
            s2_epoch_stats stats;
            CHECK_EQUAL(epoch(&of, &stats), S2_OK);
            unsigned not_once = 0, wrong_size = 0;
            double loss = 0.0;
            for (uint32_t i = 0; i < n_samples; i++) {
                not_once += of.notes.seen[i] != 1 || of.notes.computed[i] != 1;
            }
            const uint32_t n_batches = (n_samples + batch - 1) / batch;
            for (uint32_t i = 0; i < n_batches; i++) {
                const uint32_t left = n_samples - i * batch, size = left < batch ? left : batch;
                wrong_size += of.notes.count[i] != size;
                loss += (double)size * size / n_samples; /* the recorder's loss is the size */
            }
            CHECK_EQUAL(not_once, 0);
            CHECK_EQUAL(wrong_size, 0);
            CHECK_EQUAL(of.notes.wrong, 0);
            /* All but the first batch, where the build fetches early whatever the size. */
            CHECK_EQUAL(of.notes.n_announced, n_samples - of.notes.count[0]);
            CHECK_EQUAL(of.notes.n_batches, n_batches);
            CHECK_EQUAL(stats.n_batches, n_batches);
            CHECK_EQUAL(stats.n_seen, n_samples);
            CHECK_EQUAL(stats.n_forward, n_samples);
            CHECK_EQUAL(stats.correct, n_batches);
            CHECK_NEAR(stats.loss, loss, 1e-12);
            release_guarded();
        }
    }
    check_where("%s", "");
}

/* The order of an epoch is s2_rng_shuffle of 0, 1, 2, ...; the next epoch has another. */
static void test_order(void) {
    training of;
    new_training(&of, N_SAMPLES, BATCH, 0);
    s2_rng rng = of.rng;
    for (uint32_t e = 0; e < 3; e++) {
        uint32_t order[N_SAMPLES];
        for (uint32_t i = 0; i < N_SAMPLES; i++) {
            order[i] = i;
        }
        s2_rng_shuffle(&rng, order, N_SAMPLES);
        s2_epoch_stats stats;
        CHECK_EQUAL(epoch(&of, &stats), S2_OK);
        CHECK_SAME(of.notes.order + e * N_SAMPLES, order, sizeof order);
    }
    CHECK(memcmp(of.notes.order, of.notes.order + N_SAMPLES, N_SAMPLES * sizeof(uint32_t)) != 0);
    release_guarded();
}

static void test_smallest_batch(void) {
    training of;
    s2_epoch_stats stats;
    new_training(&of, 21, BATCH, 21); /* 5 5 5 5 1 */
    of.job.smallest_batch = 2;
    CHECK_EQUAL(epoch(&of, &stats), S2_OK);
    CHECK_EQUAL(stats.n_seen, 20);
    CHECK_EQUAL(stats.n_batches, 4);
    CHECK_EQUAL(stats.n_forward, 20); /* none for the sample that is left out */
    CHECK_NEAR(stats.loss, 5.0, 1e-12);
    new_training(&of, 22, BATCH, 22); /* 5 5 5 5 2 */
    of.job.smallest_batch = 2;
    CHECK_EQUAL(epoch(&of, &stats), S2_OK);
    CHECK_EQUAL(stats.n_seen, 22);
    release_guarded();
}

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

/* What forward could not compute is not in the cache, what it computed before is. */
static void test_forward_fails(void) {
    training of;
    new_training(&of, N_SAMPLES, BATCH, N_SAMPLES);
    of.notes.failing = 2;
    s2_epoch_stats stats;
    CHECK_EQUAL(epoch(&of, &stats), S2_FORWARD_FAILED);
    CHECK_EQUAL(of.notes.n_batches, 1);
    CHECK_EQUAL(stats.n_seen, BATCH);
    unsigned filled = 0;
    for (uint32_t i = 0; i < N_SAMPLES; i++) {
        CHECK_EQUAL(of.cache.filled[i], of.notes.seen[i]);
        filled += of.cache.filled[i];
    }
    CHECK_EQUAL(filled, BATCH);
    of.notes.failing = 0; /* and the next epoch goes on from there, in another order */
    of.notes.n_next = 0;
    CHECK_EQUAL(epoch(&of, &stats), S2_OK);
    CHECK_EQUAL(stats.n_forward, N_SAMPLES - BATCH);
    CHECK_EQUAL(of.notes.wrong, 0);
    release_guarded();
}

static void test_loss_not_finite(void) {
    training of;
    new_training(&of, N_SAMPLES, BATCH, N_SAMPLES);
    of.notes.nan_batch = 3;
    s2_epoch_stats stats;
    CHECK_EQUAL(epoch(&of, &stats), S2_NOT_FINITE);
    CHECK_EQUAL(of.notes.n_batches, 3);
    new_training(&of, N_SAMPLES, BATCH, N_SAMPLES);
    of.notes.step_says = S2_BAD_VALUE; /* whatever the step says comes back */
    CHECK_EQUAL(epoch(&of, &stats), S2_BAD_VALUE);
    CHECK_EQUAL(of.notes.n_batches, 2);
    CHECK_EQUAL(stats.n_batches, 1);
    release_guarded();
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

static void test_refuses(void) {
    training of;
    s2_epoch_stats stats;
    new_training(&of, N_SAMPLES, BATCH, N_SAMPLES);
    const size_t room = s2_train_workspace_bytes(&of.job);
    void *workspace = guarded(room);
    CHECK_EQUAL(s2_train_epoch(&of.job, &of.rng, &stats, workspace, room - 1), S2_NO_ROOM);
    of.job.batch_size = N_SAMPLES + 1;
    CHECK_EQUAL(s2_train_epoch(&of.job, &of.rng, &stats, workspace, room), S2_BAD_SHAPE);
    of.job.batch_size = 0;
    CHECK_EQUAL(s2_train_epoch(&of.job, &of.rng, &stats, workspace, room), S2_BAD_SHAPE);
    of.job.batch_size = BATCH;
    of.job.n_samples = 0;
    CHECK_EQUAL(s2_train_epoch(&of.job, &of.rng, &stats, workspace, room), S2_BAD_SHAPE);
    of.job.n_samples = N_SAMPLES;
    of.job.cache = NULL;
    CHECK_EQUAL(s2_train_epoch(&of.job, &of.rng, &stats, workspace, room), S2_BAD_SHAPE);
    CHECK_EQUAL(of.notes.n_batches + of.notes.n_calls, 0);
    of.job.forward = NULL; /* a step that needs no rows needs no cache either */
    CHECK_EQUAL(epoch(&of, &stats), S2_OK);
    CHECK_EQUAL(stats.n_forward, 0);
    CHECK_EQUAL(stats.n_seen, N_SAMPLES);
    CHECK_EQUAL(of.notes.n_calls, 0);
    release_guarded();
}

/* Numbers below the least normal one are zero in a step alone where asked: not in rows, nor
 * afterwards. */
static void test_small_numbers(void) {
    training of;
    new_training(&of, N_SAMPLES, BATCH, N_SAMPLES);
    s2_epoch_stats stats;
    CHECK_EQUAL(epoch(&of, &stats), S2_OK);
    CHECK_EQUAL(of.notes.half[1] > 0.0f, 1);
    of.job.flushes = 1;
    CHECK_EQUAL(epoch(&of, &stats), S2_OK);
#if defined(__SSE__) || defined(__aarch64__)
    CHECK_EQUAL(of.notes.half[1] == 0.0f, 1);
#endif
    CHECK_EQUAL(of.notes.half[0] > 0.0f, 1);
    CHECK_EQUAL(half_of_least() > 0.0f, 1);
    release_guarded();
}

int main(void) {
    test_every_sample_once();
    test_order();
    test_announced_two_batches_ahead();
    test_phases();
    test_smallest_batch();
    test_forwards_are_counted();
    test_policies();
    test_coded_rows();
    test_forward_fails();
    test_loss_not_finite();
    test_full_cache();
    test_refuses();
    test_small_numbers();
    return check_report("test_train");
}
