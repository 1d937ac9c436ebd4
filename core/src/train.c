/* train.c - Algorithm 1: the one loop over epochs' batches, for adapters and networks alike. */
#include "same_bits.h"

#include "arena.h"
#include "codes.h"
#include "flush.h"
#include "polynomials.h"
#include "profile.h"

#include <math.h>
#include <string.h>

/* Samples and rows that together take more than this are beyond the caches: those of the next batch
 * are fetched while this one is trained. Within them asking early only costs. */
#ifndef S2_PREFETCH_BYTES
#if defined(__x86_64__)
#define S2_PREFETCH_BYTES (16u << 20)
#else
#define S2_PREFETCH_BYTES (512u << 10)
#endif
#endif

/* Batches between the announcement of one and its turn. */
#define ANNOUNCED_AHEAD 2

typedef struct {
    uint32_t *order;                  /* (n_samples) */
    const float **x;                  /* (batch_size) */
    const float **row;                /* (batch_size) */
    const float **next_x, **next_row; /* (batch_size), or NULL: nothing is fetched early */
    const uint8_t **codes;            /* (batch_size) rows that are there, of coded ones */
    const uint8_t **next_codes;       /* (batch_size), or NULL */
    int32_t *label;                   /* (batch_size), or NULL */
    const float **target;             /* (batch_size), or NULL */
    float *weight;                    /* (batch_size), or NULL */
    uint32_t *missing;                /* (batch_size) samples the cache lacks */
    float *missing_row;               /* (batch_size, row_stride), behind those that are decoded */
} train_room;

static int prefetches(const s2_job *job) {
    if (job->cache == NULL || job->cache->slots != NULL || job->cache->capacity < job->n_samples) {
        return 0;
    }
    const s2_coded *coded = job->cache->coded;
    const size_t row_bytes =
        coded ? s2_coded_bytes(coded) : s2_times(job->cache->row_stride, sizeof(float));
    const size_t of_sample = s2_plus(s2_times(job->n_features, sizeof(float)), row_bytes);
    return s2_times(job->n_samples, of_sample) > S2_PREFETCH_BYTES;
}

static train_room lay_out(const s2_job *job, s2_arena *arena) {
    train_room room = {0};
    room.order = s2_take(arena, 1, job->n_samples, sizeof *room.order);
    room.x = s2_take(arena, 1, job->batch_size, sizeof *room.x);
    if (job->label != NULL) {
        room.label = s2_take(arena, 1, job->batch_size, sizeof *room.label);
    }
    if (job->target != NULL) {
        room.target = s2_take(arena, 1, job->batch_size, sizeof *room.target);
    }
    if (job->weight != NULL) {
        room.weight = s2_take_floats(arena, 1, job->batch_size);
    }
    const int is_coded = job->cache != NULL && job->cache->coded != NULL;
    if (is_coded) {
        room.codes = s2_take(arena, 1, job->batch_size, sizeof *room.codes);
    }
    if (prefetches(job)) {
        room.next_x = s2_take(arena, 1, job->batch_size, sizeof *room.next_x);
        if (is_coded) {
            room.next_codes = s2_take(arena, 1, job->batch_size, sizeof *room.next_codes);
        } else {
            room.next_row = s2_take(arena, 1, job->batch_size, sizeof *room.next_row);
        }
    }
    if (job->cache != NULL) {
        room.row = s2_take(arena, 1, job->batch_size, sizeof *room.row);
    }
    if (job->cache != NULL && job->forward != NULL) {
        room.missing = s2_take(arena, 1, job->batch_size, sizeof *room.missing);
    }
    if (is_coded || (job->cache != NULL && job->forward != NULL)) {
        room.missing_row = s2_take_floats(arena, job->batch_size, job->cache->row_stride);
    }
    return room;
}

size_t s2_train_workspace_bytes(const s2_job *job) {
    s2_arena arena = {0};
    (void)lay_out(job, &arena);
    return arena.used;
}

/* Where a coded row lies. */
static const uint8_t *codes_of(const s2_coded *coded, uint32_t slot) {
    return coded->rows + slot * s2_coded_bytes(coded);
}

/* Coded rows become floats at the start of the room's rows, those that are missing lie behind them. */
static void decode_rows(const s2_job *job, train_room *room, uint32_t count, uint32_t n_missing,
                        uint32_t n_ahead) {
    const uint32_t stride = job->cache->row_stride;
    const uint32_t n_there = count - n_missing;
    float *decoded = room->missing_row;
    room->missing_row += (size_t)n_there * stride;
    s2_decode_rows(job->cache->coded, n_there, room->codes, room->next_codes, n_ahead, decoded,
                   stride);
    float *missing = room->missing_row;
    for (uint32_t s = 0; s < count; s++) {
        float **next = room->row[s] != NULL ? &decoded : &missing;
        room->row[s] = *next;
        *next += stride;
    }
}

/* Lines 6-7 of Algorithm 1 and lines 2-4 of Algorithm 2: rows from the cache where it has them,
 * forward for the others, *n_missing of them. `ahead` samples follow those of this batch. */
static s2_status find_rows(const s2_job *job, train_room *room, const uint32_t *sample,
                           uint32_t count, uint32_t ahead, uint32_t *n_missing) {
    const s2_cache *cache = job->cache;
    uint32_t n_there = 0;
    *n_missing = 0;
    for (uint32_t s = 0; s < count; s++) {
        const uint32_t slot = s2_cache_slot(cache, sample[s]);
        if (slot == S2_NO_SLOT && job->forward == NULL) {
            return S2_BAD_VALUE;
        }
        if (slot == S2_NO_SLOT) {
            room->row[s] =
                cache->coded ? NULL : room->missing_row + (size_t)*n_missing * cache->row_stride;
            room->missing[(*n_missing)++] = sample[s];
            continue;
        }
        room->row[s] =
            cache->coded ? room->missing_row : cache->rows + (size_t)slot * cache->row_stride;
        if (cache->coded) {
            room->codes[n_there++] = codes_of(cache->coded, slot);
        }
        if (cache->slots != NULL) {
            s2_cache_touch(job->cache, sample[s]);
        }
    }
    if (cache->coded) {
        for (uint32_t s = 0; room->next_codes && s < ahead; s++) {
            room->next_codes[s] = codes_of(cache->coded, sample[count + s]);
        }
        decode_rows(job, room, count, *n_missing, room->next_codes ? ahead : 0);
    }
    return *n_missing == 0
               ? S2_OK
               : job->forward(job->forward_context, room->missing, *n_missing, room->missing_row);
}

/* Line 7 of Algorithm 1, after the step: room for them may be made of rows that it read. */
static void add_rows(const s2_job *job, const train_room *room, uint32_t n_missing) {
    for (uint32_t j = 0; j < n_missing; j++) {
        s2_cache_add(job->cache, room->missing[j],
                     room->missing_row + (size_t)j * job->cache->row_stride);
    }
    if (n_missing > 0) {
        s2_mark(job->profile, S2_PHASE_ROWS);
    }
}

/* Where the samples to come lie, and what else of them will be read. */
static uint32_t look_ahead(const s2_job *job, const train_room *room, const uint32_t *sample,
                           uint32_t count) {
    if (room->next_x == NULL || job->cache == NULL) {
        return 0;
    }
    for (uint32_t s = 0; s < count; s++) {
        room->next_x[s] = job->x + (size_t)sample[s] * job->n_features;
        if (room->next_row != NULL) {
            room->next_row[s] = job->cache->rows + (size_t)sample[s] * job->cache->row_stride;
        }
        if (job->label != NULL) {
            S2_PREFETCH(job->label + sample[s]);
        }
        if (job->weight != NULL) {
            S2_PREFETCH(job->weight + sample[s]);
        }
        S2_PREFETCH(job->cache->filled + sample[s]);
    }
    return count;
}

/* A sum of floats with what it has lost by rounding: as good as one in double, which would be a
 * routine in software on a Cortex-M4F. */
typedef struct {
    float sum, lost;
} exact_sum;

static void add_exactly(exact_sum *to, float x) {
    const float sum = to->sum + x, added = sum - to->sum;
    to->lost += (to->sum - (sum - added)) + (x - added);
    to->sum = sum;
}

/* Samples as a share of the most there may be, so that sums of losses stay in the range of floats. */
#define SHARE_OF_ONE 0x1p-32f

/* The loss in two halves, whose products with the count are exact for up to 4,096 samples. */
static void add_losses(exact_sum *to, float loss, uint32_t count) {
    const float share = (float)count * SHARE_OF_ONE;
    const float high = float_of_bits(bits_of_float(loss) & 0xfffff000u);
    add_exactly(to, high * share);
    add_exactly(to, (loss - high) * share);
}

/* `ahead` samples follow those of this batch. */
static s2_status train_batch(const s2_job *job, train_room of_epoch, const uint32_t *sample,
                             uint32_t count, uint32_t ahead, s2_epoch_stats *stats,
                             exact_sum *losses) {
    train_room *room = &of_epoch;
    for (uint32_t s = 0; s < count; s++) {
        room->x[s] = job->x + (size_t)sample[s] * job->n_features;
    }
    for (uint32_t s = 0; job->label != NULL && s < count; s++) {
        room->label[s] = job->label[sample[s]];
    }
    for (uint32_t s = 0; job->target != NULL && s < count; s++) {
        room->target[s] = job->target + (size_t)sample[s] * job->n_outputs;
    }
    for (uint32_t s = 0; job->weight != NULL && s < count; s++) {
        room->weight[s] = job->weight[sample[s]];
    }
    s2_mark(job->profile, S2_PHASE_REST);
    uint32_t n_missing = 0;
    if (job->cache != NULL) {
        const s2_status status = find_rows(job, room, sample, count, ahead, &n_missing);
        s2_mark(job->profile, S2_PHASE_ROWS);
        if (status != S2_OK) {
            return status;
        }
        stats->n_forward += n_missing;
    }
    const s2_batch batch = {.count = count,
                            .x = room->x,
                            .row = room->row,
                            .label = room->label,
                            .target = room->target,
                            .weight = room->weight,
                            .next_x = room->next_x,
                            .next_row = room->next_row,
                            .n_next = look_ahead(job, room, sample + count, ahead)};
    s2_batch_stats of_batch;
    const uint64_t mode = job->flushes ? s2_flush_begin() : 0;
    const s2_status status = job->step(job->step_context, &batch, &of_batch);
    if (job->flushes) {
        s2_flush_end(mode);
    }
    add_rows(job, room, n_missing);
    if (status != S2_OK) {
        return status;
    }
    stats->n_seen += count;
    add_losses(losses, of_batch.loss, count);
    stats->correct += of_batch.correct;
    stats->n_batches += 1;
    return isfinite(of_batch.loss) ? S2_OK : S2_NOT_FINITE;
}

/* The batch that begins at `at` of the order, if there is one. */
static void announce(const s2_job *job, const uint32_t *order, size_t at) {
    if (job->announce != NULL && at < job->n_samples) {
        const uint32_t left = job->n_samples - (uint32_t)at;
        job->announce(job->forward_context, order + at,
                      left < job->batch_size ? left : job->batch_size);
    }
}

s2_status s2_train_epoch(const s2_job *job, s2_rng *rng, s2_epoch_stats *stats, void *workspace,
                         size_t workspace_bytes) {
    if (job->n_samples == 0 || job->n_samples > INT32_MAX || job->batch_size == 0 ||
        job->batch_size > job->n_samples || job->batch_size > S2_MAX_BATCH ||
        job->smallest_batch > job->batch_size || (job->forward != NULL && job->cache == NULL)) {
        return S2_BAD_SHAPE;
    }
    s2_mark_start(job->profile);
    s2_arena arena = {.base = workspace, .size = workspace_bytes};
    const train_room room = lay_out(job, &arena);
    if (!s2_fits(&arena)) {
        return S2_NO_ROOM;
    }
    if (room.missing_row != NULL) { /* the padding of new rows */
        memset(room.missing_row, 0,
               (size_t)job->batch_size * job->cache->row_stride * sizeof(float));
    }
    for (uint32_t i = 0; i < job->n_samples; i++) {
        /* s2_fits: no part is NULL. NOLINTNEXTLINE(clang-analyzer-core.NullDereference) */
        room.order[i] = i;
    }
    s2_rng_shuffle(rng, room.order, job->n_samples);
    *stats = (s2_epoch_stats){0};
    for (size_t batch = 0; batch < ANNOUNCED_AHEAD; batch++) {
        announce(job, room.order, batch * job->batch_size);
    }
    exact_sum losses = {0.0f, 0.0f};
    s2_status status = S2_OK;
    for (uint32_t at = 0; status == S2_OK && at < job->n_samples; at += job->batch_size) {
        const uint32_t left = job->n_samples - at;
        const uint32_t count = left < job->batch_size ? left : job->batch_size;
        if (count < job->smallest_batch) {
            break;
        }
        announce(job, room.order, at + ANNOUNCED_AHEAD * (size_t)job->batch_size);
        const uint32_t after = left - count;
        const uint32_t ahead = after < job->batch_size ? after : job->batch_size;
        status = train_batch(job, room, room.order + at, count, ahead, stats, &losses);
    }
    if (stats->n_seen > 0) { /* the mean, wherever training stopped */
        stats->loss = ((double)losses.sum + (double)losses.lost) /
                      ((double)stats->n_seen * (double)SHARE_OF_ONE);
    }
    s2_mark(job->profile, S2_PHASE_REST);
    return status;
}
