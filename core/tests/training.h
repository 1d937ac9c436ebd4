/* training.h - samples in small batches, and what backbone and adapter are given of them, noted. */
#ifndef S2_TRAINING_H
#define S2_TRAINING_H

#include "guard.h"

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

static inline float half_of_least(void) {
    volatile float least = FLT_MIN;
    return least * 0.5f;
}

static inline s2_status note_forward(void *context, const uint32_t *sample, uint32_t count,
                                     float *rows) {
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

static inline s2_status note_step(void *context, const s2_batch *batch, s2_batch_stats *stats) {
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

static inline void new_training(training *made, uint32_t n_samples, uint32_t batch,
                                uint32_t capacity) {
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

static inline s2_status epoch(training *of, s2_epoch_stats *stats) {
    const size_t room = s2_train_workspace_bytes(&of->job);
    CHECK_EQUAL(room % S2_ALIGN, 0);
    return s2_train_epoch(&of->job, &of->rng, stats, guarded(room), room);
}

#endif
