/*
 * skip2.h - Skip2-LoRA (Matsutani et al., ASP-DAC 2025) as a portable C core.
 *
 * Equation, algorithm and table numbers are those of the paper.
 *
 * Memory. The caller owns all of it. Where a function needs room, a function of the same name with
 * _bytes says how much; the buffer must be aligned to S2_ALIGN bytes. Where that is more than a
 * size_t can say, _bytes and _floats return SIZE_MAX, and the function returns S2_NO_ROOM whatever
 * it is given. Nothing here allocates, prints, reads a clock or keeps a global variable.
 *
 * Arrays are row-major float32; each is written with its shape. "padded" widths are rounded up to
 * S2_LANES floats.
 *
 * Functions that are given sizes from outside return an s2_status. They trust what s2_net_check and
 * s2_adapter_check found sound, and refuse a NULL pointer to what their loss or method reads.
 */
#ifndef SKIP2_H
#define SKIP2_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define S2_LANES      16u /* floats a padded width is a multiple of */
#define S2_ALIGN      64u /* bytes every buffer is aligned to */
#define S2_MAX_WIDTH  (1u << 24)
#define S2_MAX_LAYERS 64u
#define S2_MAX_BATCH  (1u << 24) /* samples a batch */

typedef enum {
    S2_OK = 0,
    S2_BAD_SHAPE, /* a width, rank, count or offset is 0, too large or does not fit its neighbour */
    S2_BAD_VALUE, /* a label outside 0..n_outputs-1, NULL for what is read */
    S2_NO_ROOM,   /* a buffer is smaller than its _bytes function says */
    S2_NOT_FINITE,     /* the loss, or the rate of a step, became infinite or NaN */
    S2_FORWARD_FAILED, /* the caller's forward function said so */
    S2_BAD_MODEL,      /* bytes that are no network or no adapters of it, or damaged */
    S2_OTHER_VERSION,  /* bytes of another version of the format */
    S2_FULL,           /* no room for one more sample */
    S2_FLASH_FAILED    /* flash cannot be erased, written or read, or reads otherwise */
} s2_status;

/* ---- kernels (dispatch.c) -------------------------------------------------------------------- */

typedef struct s2_kernels s2_kernels; /* a table of kernel functions; see src/kernels.h */
typedef struct s2_coded s2_coded;     /* rows of less precision; see skip2_codes.h */
typedef struct s2_row_reader s2_row_reader;

/* Names of the tables compiled in, best first, ended by NULL. */
const char *const *s2_kernels_names(void);
/* The table of that name, or the best one for NULL; NULL if unknown or this processor lacks it. */
const s2_kernels *s2_kernels_choose(const char *name);
const char *s2_kernels_name(const s2_kernels *kernels);
/* Does independent multiply-adds and returns how many operations that were: their time gives the
 * peak of one core. *result, between 0 and 1, is where they start and becomes a sum of them. */
double s2_kernels_multiply_adds(const s2_kernels *kernels, size_t rounds, float *result);

/* ---- random numbers (rng.c) ------------------------------------------------------------------ */

typedef struct {
    uint64_t state;
    uint64_t increment;
} s2_rng;

enum { S2_STREAM_ORDER = 1, S2_STREAM_ADAPTER = 2 }; /* independent streams of one seed */

void s2_rng_seed(s2_rng *rng, uint64_t seed, uint64_t stream);
uint32_t s2_rng_next(s2_rng *rng);
uint32_t s2_rng_below(s2_rng *rng, uint32_t bound); /* 0..bound-1, without bias; bound >= 1 */
float s2_rng_unit(s2_rng *rng);                     /* [0, 1), 24 bits */
void s2_rng_shuffle(s2_rng *rng, uint32_t *order, uint32_t count);

/* ---- profile --------------------------------------------------------------------------------- */

/* What the time of training goes to (Tables 6 and 7). */
typedef enum {
    S2_PHASE_ROWS,     /* cache look-up, frozen forward of the samples it lacks */
    S2_PHASE_FORWARD,  /* of what is trained, loss included */
    S2_PHASE_BACKWARD, /* of skip adapters with the update, which is one pass with it */
    S2_PHASE_UPDATE,
    S2_PHASE_REST, /* order of the samples, gathering of a batch, statistics */
    S2_N_PHASES
} s2_phase;

/* What a layer's time goes to (Table 2). */
typedef enum { S2_PART_FC, S2_PART_LORA, S2_PART_BN, S2_PART_ACT, S2_N_PARTS } s2_part;

/* Phase timers of whoever owns it; a NULL profile costs one branch a phase. The core reads no clock
 * but the caller's: any unit that grows. Every count since `last` goes to the phase that ends, and
 * to the layer's part if it is one: nothing is left out. s2_train_epoch starts the timer; before a
 * step alone set `last` to now(). */
typedef struct {
    uint64_t (*now)(void);
    uint64_t last;
    uint64_t phase[S2_N_PHASES];
    uint64_t (*part)[2][S2_N_PARTS]; /* (n_layers) of forward, backward; NULL: phases alone */
} s2_profile;

/* ---- layers (skip2_layers.h has them one by one) --------------------------------------------- */

/* Compute types of Table 1 as a set of letters: what of a layer is computed. */
enum {
    S2_Y = 1,     /* y: forward */
    S2_W = 2,     /* gW: gradient of the weights (of gamma and beta for batch norm) */
    S2_B = 4,     /* gb: gradient of the bias */
    S2_X = 8,     /* gx: gradient of the input */
    S2_STATS = 16 /* batch norm only: statistics of the batch, running statistics are updated */
};

typedef struct {
    float loss;       /* mean over the batch, weighted where it has weights */
    uint32_t correct; /* samples whose largest logit is their label's */
} s2_batch_stats;

/* ---- optimisers (optimizer.c) ---------------------------------------------------------------- */

typedef enum {
    S2_SGD = 0,      /* Eqs. 5, 6, 15, 16 */
    S2_MOMENTUM = 1, /* heavy ball, as PyTorch's SGD with momentum */
    S2_ADAM = 2      /* Kingma and Ba 2015; AdamW (Loshchilov and Hutter 2019) with `decoupled` */
} s2_rule;

/* Floats of state of each trained number, all zero at the start: 0, 1 or 2. */
uint32_t s2_optimizer_moments(s2_rule rule);

/* An optimiser and the steps it has made. */
typedef struct {
    s2_rule rule;
    double beta1, beta2; /* beta1 is the momentum */
    double eps, weight_decay;
    int decoupled; /* the decay shrinks the weights and stays out of the moments */
    double beta1_power, beta2_power; /* 1 at the start */
} s2_optimizer;

/* What one step needs of them, the same for every number. */
typedef struct {
    s2_rule rule;
    float rate; /* w = keep * w - rate * direction */
    float keep;
    float decay;           /* g + decay * w is what is followed */
    float beta1, blend1;   /* m = beta1 * m + blend1 * g */
    float beta2, blend2;   /* v = beta2 * v + blend2 * g * g */
    float root_scale, eps; /* direction = m / (sqrt(v) * root_scale + eps) */
} s2_update;

/* S2_BAD_VALUE unless every number is in its range. */
s2_status s2_optimizer_check(const s2_optimizer *optimizer);
/* Counts one step and says how to make it. */
s2_update s2_optimizer_step(s2_optimizer *optimizer, double learning_rate);

/* ---- rows (rows.c): what the frozen layers computed for one sample --------------------------- */

#define S2_TAP_IS_X UINT32_MAX /* this tap is the sample itself and is not copied into the row */

/* Where the taps and the base logits lie in a row. Eq. 17 needs nothing else of the backbone. */
typedef struct {
    uint32_t n_taps;
    uint32_t n_outputs;
    const uint32_t *tap_width;  /* (n_taps) */
    const uint32_t *tap_offset; /* (n_taps) floats from the row's start, or S2_TAP_IS_X */
    uint32_t logits_offset;
    uint32_t row_stride; /* floats, a multiple of S2_LANES */
} s2_row_layout;

/* Fills tap_offset (n_taps) and the layout; tap 0 is the sample itself if first_tap_is_x. */
s2_status s2_row_layout_init(s2_row_layout *layout, uint32_t n_taps, const uint32_t *tap_width,
                             uint32_t n_outputs, int first_tap_is_x, uint32_t *tap_offset);

/* One mini-batch: pointers to the samples, to their rows, and their labels or targets. With weights
 * its loss is sum(weight * loss of a sample) / count: they are to have mean 1 over all samples. */
typedef struct {
    uint32_t count;
    const float *const *x;      /* (count) -> (n_features) */
    const float *const *row;    /* (count) -> (row_stride); NULL where the step needs no rows */
    const int32_t *label;       /* (count); NULL where the loss takes targets */
    const float *const *target; /* (count) -> (n_outputs); NULL where it takes labels */
    const float *weight;        /* (count), finite, 0 or more; NULL: all 1, with the same bits */
    /* What the next batch will read, to fetch it from memory meanwhile; n_next = 0: nothing,
     * next_row NULL: no rows. */
    const float *const *next_x, *const *next_row; /* (n_next) */
    uint32_t n_next;
} s2_batch;

/* S2_OK for a batch with samples, labels in 0..n_outputs-1 and weights in their range where it has
 * them, and a finite update. */
s2_status s2_batch_check(const s2_batch *batch, uint32_t n_outputs, const s2_update *update);

/* ---- Skip-Cache (cache.c; section 4.2) ------------------------------------------------------- */

/* What makes room in a cache that is full. */
typedef enum {
    S2_PIN = 0,  /* nothing: who came first stays; best where every epoch has a fresh order */
    S2_FIFO = 1, /* the sample that was added longest ago goes */
    S2_LRU = 2   /* the sample that was used longest ago goes */
} s2_policy;

#define S2_NO_SLOT UINT32_MAX /* of a sample without a slot, and of a slot without a sample */

/* Which of n_samples samples lie in which of `capacity` slots: tables both ways, and a ring through
 * the slots from the one that is taken next. Every look-up and every change is O(1). */
typedef struct {
    s2_policy policy;
    uint32_t n_samples;
    uint32_t next;            /* the slot that is taken next */
    uint32_t *slot_of;        /* (n_samples), or S2_NO_SLOT */
    uint32_t *sample_of;      /* (capacity), or S2_NO_SLOT */
    uint32_t *before, *after; /* (capacity): a slot's neighbours in the ring */
} s2_slots;

/* uint32_t numbers of the tables and the ring together. */
size_t s2_slots_count(uint32_t n_samples, uint32_t capacity);
/* Sample i has slot i for the first `n_filled`, as many as there are rows already; the others none.
 * `room` holds s2_slots_count numbers. S2_BAD_SHAPE for more filled slots than there are, or
 * samples. */
s2_status s2_slots_init(s2_slots *slots, s2_policy policy, uint32_t n_samples, uint32_t capacity,
                        uint32_t n_filled, uint32_t *room);

/* Slot i has its row at rows + i * row_stride once filled[i] is set: look-up is O(1). Without
 * `slots` sample i has slot i, so that a cache smaller than the data set keeps the first `capacity`
 * samples. Capacity 0 is Skip-LoRA. */
typedef struct {
    float *rows;     /* (capacity, row_stride) */
    uint8_t *filled; /* (capacity) */
    uint32_t capacity;
    uint32_t row_stride;
    s2_slots *slots;       /* of the same capacity, or NULL */
    const s2_coded *coded; /* rows of less precision in place of `rows`, or NULL */
} s2_cache;

/* The slot of the sample's row; S2_NO_SLOT if it is not there. */
static inline uint32_t s2_cache_slot(const s2_cache *cache, uint32_t sample) {
    uint32_t slot = sample;
    if (cache->slots != NULL) {
        slot = sample < cache->slots->n_samples ? cache->slots->slot_of[sample] : S2_NO_SLOT;
    }
    return slot < cache->capacity && cache->filled[slot] ? slot : S2_NO_SLOT;
}
/* The sample's row where rows are not coded; NULL if not there. */
static inline const float *s2_cache_find(const s2_cache *cache, uint32_t sample) {
    const uint32_t slot = s2_cache_slot(cache, sample);
    return slot != S2_NO_SLOT ? cache->rows + (size_t)slot * cache->row_stride : NULL;
}
/* Counts the sample, whose row was just found, as used. */
void s2_cache_touch(s2_cache *cache, uint32_t sample);
/* Keeps a copy of the row if there is room, or the policy makes some. What s2_cache_find gave
 * before may be another sample's row afterwards. */
void s2_cache_add(s2_cache *cache, uint32_t sample, const float *row);

/* ---- skip adapters (adapter.c; Eq. 17) ------------------------------------------------------- */

/* What is learned. */
typedef enum {
    S2_SOFTMAX = 0, /* one of the classes: cross entropy of softmax, labels */
    S2_SIGMOID = 1, /* each class or not: binary cross entropy of sigmoid, targets 0 to 1 */
    S2_SQUARED = 2  /* numbers: half the squared error, targets */
} s2_loss;

/* lora_a of every tap transposed and padded, (rank, padded tap_width) each, side by side, then
 * lora_b of every tap, (rank, n_outputs) each, then the bias (n_outputs), if there is one: one
 * stream for the fused step. */
typedef struct {
    const s2_kernels *kernels;
    const s2_row_layout *layout;
    uint32_t rank;
    int has_bias; /* added to the logits and trained like lora_b of a tap that is always 1 */
    s2_loss loss;
    float *packed;               /* s2_adapter_floats, aligned */
    float *moments[2];           /* the optimiser's, each like packed; NULL where it has none */
    s2_profile *profile;         /* of s2_adapter_step, or NULL */
    const s2_row_reader *reader; /* of rows that do not lie as floats, or NULL */
} s2_adapter;

/* S2_OK for a rank from 1 to the width of the widest tap; for narrower ones it is more than needed.
 * S2_BAD_SHAPE also for adapters of more than 2^32 - 1 hidden values or more bytes than a size_t
 * can say. */
s2_status s2_adapter_check(const s2_row_layout *layout, uint32_t rank);
size_t s2_adapter_floats(const s2_row_layout *layout, uint32_t rank, int has_bias);
/* lora_a uniform in +-1/sqrt(tap_width), lora_b and bias zero. */
void s2_adapter_init(s2_adapter *adapter, uint64_t seed);
/* To and from the plain shapes of one tap: lora_a (tap_width, rank), lora_b (rank, n_outputs). */
void s2_adapter_pack(s2_adapter *adapter, uint32_t tap, const float *lora_a, const float *lora_b);
void s2_adapter_unpack(const s2_adapter *adapter, uint32_t tap, float *lora_a, float *lora_b);

/* The bias (n_outputs), or NULL where there is none. */
float *s2_adapter_bias(const s2_adapter *adapter);

size_t s2_adapter_workspace_bytes(const s2_adapter *adapter, uint32_t count);
/* Eq. 17, and the bias: logits = base logits + sum over taps of tap . lora_a . lora_b. */
s2_status s2_adapter_forward(const s2_adapter *adapter, const s2_batch *batch,
                             float *logits, /* (count, n_outputs) */
                             void *workspace, size_t workspace_bytes);
/* Lines 8-10 of Algorithm 1 as one fused step: forward, loss, backward, update. With S2_NOT_FINITE
 * nothing was updated. */
s2_status s2_adapter_step(s2_adapter *adapter, const s2_batch *batch, const s2_update *update,
                          s2_batch_stats *stats, void *workspace, size_t workspace_bytes);

/* ---- network (net.c) ------------------------------------------------------------------------- */

/* One FC layer with what follows it. Tensors are written only if the compute types train them. */
typedef struct {
    uint32_t n_in, n_out;
    uint32_t rank;                    /* of the layer's own LoRA adapter, 0: none */
    float *weight;                    /* (n_in, n_out) */
    float *bias;                      /* (n_out) */
    float *gamma, *beta, *mean, *var; /* (n_out) each, or all NULL: no batch norm */
    float *lora_a, *lora_b;           /* (rank, n_in), (rank, n_out), or NULL */
    int relu;
} s2_layer;

/* One row of a method: what is computed in this layer. */
typedef struct {
    uint8_t fc, lora, bn; /* sets of S2_Y, S2_W, S2_B, S2_X, S2_STATS */
} s2_compute_types;

typedef struct {
    const s2_kernels *kernels;
    uint32_t n_layers;
    const s2_layer *layers; /* (n_layers) */
    float bn_eps, bn_momentum;
    s2_profile *profile; /* of s2_net_step, or NULL */
    s2_loss loss;
} s2_net;

s2_status s2_net_check(const s2_net *net);

size_t s2_net_forward_workspace_bytes(const s2_net *net, uint32_t count);
/* Frozen forward of `count` samples: taps and base logits into rows laid out by `layout`, whose
 * outputs beyond the network's become 0 and whose taps are the inputs of layers `first_tap`,
 * `first_tap` + 1, ... A row has the same bits for any count and place. */
s2_status s2_net_forward(const s2_net *net, uint32_t count, const float *const *x,
                         const s2_row_layout *layout, uint32_t first_tap,
                         float *rows, /* (count, row_stride) */
                         void *workspace, size_t workspace_bytes);

size_t s2_net_step_workspace_bytes(const s2_net *net, const s2_compute_types *types,
                                   uint32_t count);
/* Room for the optimiser's state of every trained tensor; zero it before the first step. */
size_t s2_net_state_bytes(const s2_net *net, const s2_compute_types *types, s2_rule rule);
/* Forward, loss, backward and update of one batch by one row of compute types a layer. A network
 * learns labels, or targets as its loss says. A layer's own adapter is part of its forward
 * pass whatever its row says. `state` may be NULL for a rule without moments. With S2_NOT_FINITE
 * nothing was updated but running statistics. */
s2_status s2_net_step(const s2_net *net, const s2_compute_types *types, const s2_batch *batch,
                      const s2_update *update, void *state, s2_batch_stats *stats, void *workspace,
                      size_t workspace_bytes);

/* ---- training (train.c; Algorithm 1) --------------------------------------------------------- */

/* Computes the rows of these samples: (count, row_stride). Returns S2_OK or S2_FORWARD_FAILED. */
typedef s2_status (*s2_forward_fn)(void *context, const uint32_t *sample, uint32_t count,
                                   float *rows);
/* Told of the samples of a batch two batches before it: reading from a disk may begin. */
typedef void (*s2_announce_fn)(void *context, const uint32_t *sample, uint32_t count);
/* Forward, loss, backward and update of one batch. */
typedef s2_status (*s2_step_fn)(void *context, const s2_batch *batch, s2_batch_stats *stats);

typedef struct {
    uint32_t n_samples, n_features;
    const float *x;       /* (n_samples, n_features) */
    const int32_t *label; /* (n_samples), or NULL */
    const float *target;  /* (n_samples, n_outputs), or NULL */
    uint32_t n_outputs;   /* of target */
    const float *weight;  /* (n_samples), or NULL */
    uint32_t batch_size;
    uint32_t
        smallest_batch;    /* a shorter last batch is left out: 2 where statistics need two rows */
    s2_forward_fn forward; /* NULL where the cache has all rows, or the step needs none */
    s2_announce_fn announce; /* told of every batch, rows that are there included; or NULL */
    void *forward_context;   /* of both */
    s2_cache *cache;         /* NULL where the step needs no rows; its capacity may be 0 */
    s2_step_fn step;
    void *step_context;
    s2_profile *profile; /* that of the step too, or NULL */
    /* Numbers below FLT_MIN are zero within the step, which is fast; 0: they are numbers, so that
     * the scalar table gives the same bits on every machine. */
    int flushes;
} s2_job;

typedef struct {
    double loss;      /* mean over the samples seen */
    uint32_t correct; /* samples predicted right as they were seen */
    uint32_t n_seen;  /* samples trained on */
    uint32_t n_batches;
    uint32_t n_forward; /* samples whose row was computed because the cache had none */
} s2_epoch_stats;

size_t s2_train_workspace_bytes(const s2_job *job);
/* One epoch of Algorithm 1: a fresh permutation, then batch by batch look-up, forward of what the
 * cache lacks, and the step. */
s2_status s2_train_epoch(const s2_job *job, s2_rng *rng, s2_epoch_stats *stats, void *workspace,
                         size_t workspace_bytes);

#ifdef __cplusplus
}
#endif
#endif
