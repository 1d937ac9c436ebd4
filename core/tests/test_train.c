/* test_train.c - Algorithm 1: the order of samples, their batches, and what fails. */
#include "training.h"

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
    test_forward_fails();
    test_loss_not_finite();
    test_refuses();
    test_small_numbers();
    return check_report("test_train");
}
