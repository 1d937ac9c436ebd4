/*
 * skip2_device.h - learning on the device: samples come one by one, are passed through the frozen
 * network once, and their rows are kept; adapters are trained on these (device.c, device_rows.c,
 * device_record.c). The rules of skip2.h hold.
 *
 *     static uint8_t arena[S2_ARENA_BYTES] aligned to S2_ALIGN;
 *     s2_model_read(&model, blob, n_bytes);
 *     s2_device_init(&device, &model, &options, arena, sizeof arena);
 *     s2_device_add_sample(&device, x, label);       as samples come
 *     s2_device_train_epoch(&device, &stats);        as often as there is time
 *     s2_device_predict(&device, x, logits);
 */
#ifndef SKIP2_DEVICE_H
#define SKIP2_DEVICE_H

#include "skip2_codes.h"
#include "skip2_flash.h"
#include "skip2_model.h"

#ifdef __cplusplus
extern "C" {
#endif

/* How rows are kept. Rows of a network with a projection have few numbers of each tap. */
typedef enum {
    S2_ROWS_FLOAT32 = 0,
    S2_ROWS_FLOAT16 = 1, /* IEEE half precision; what is beyond its range becomes its largest */
    S2_ROWS_INT8 = 2     /* with a scale a sample and tap: its largest number is 127 */
} s2_row_type;

/* What happens with a sample when there are `capacity` already. */
typedef enum {
    S2_REFUSE = 0,          /* it is not taken: S2_FULL */
    S2_OVERWRITE_OLDEST = 1 /* it takes the place of the oldest */
} s2_when_full;

/* Of firmware that runs the frozen network itself: taps[k] (tap_width[k]) and base logits
 * (n_outputs) of one sample, of which x is whatever s2_device_add_sample or s2_device_predict was
 * given. S2_OK, or S2_FORWARD_FAILED. */
typedef s2_status (*s2_taps_fn)(void *context, const float *x, float *const *taps,
                                float *base_logits);

typedef struct {
    uint32_t capacity; /* samples that are kept */
    s2_row_type rows;
    s2_when_full when_full;
    uint32_t rank; /* of the adapters; 0: that of the adapters inside the network, else 4 */
    int has_bias;  /* where the network has no adapters inside */
    uint32_t batch_size;
    double learning_rate;
    s2_rule rule; /* momentum 0.9; Adam 0.9, 0.999, 1e-8 */
    uint64_t seed;
    const char *kernels; /* name of the table; NULL: the best one */
    s2_taps_fn taps;     /* required of a network without layers; else NULL, or in their place */
    void *taps_context;
} s2_device_options;

/* Read what is here, write nothing of it but through the functions below. It has pointers into
 * itself: it stays where it was initialised. */
typedef struct {
    const s2_model *model;
    s2_device_options options;
    uint32_t n_samples;  /* that are kept */
    uint32_t n_rejected; /* samples with NaN or infinity, or whose row had it */
    uint32_t n_epochs;
    size_t arena_bytes; /* that s2_device_init found needed */
    uint32_t next;      /* slot of the next sample */
    s2_row_layout layout;
    s2_adapter adapter;
    s2_optimizer optimizer;
    s2_rng order;
    float *x;       /* (capacity, n_features) where rows have no copy of it */
    float *rows;    /* (capacity, row_stride), or NULL */
    uint8_t *codes; /* (capacity, code_bytes), or NULL */
    size_t code_bytes;
    s2_row_reader reader; /* of codes */
    int32_t *label;       /* (capacity) */
    uint8_t *filled;      /* (capacity) */
    float *row;           /* (row_stride): of the sample at hand */
    uint32_t tap_width[S2_MODEL_MAX_TAPS], tap_offset[S2_MODEL_MAX_TAPS]; /* of layout */
    float *tap[S2_MODEL_MAX_TAPS]; /* where options.taps writes */
    void *room;                    /* of whatever runs */
    size_t room_bytes;
} s2_device;

/* Bytes of the arena; SIZE_MAX for options that s2_device_init refuses. */
size_t s2_device_bytes(const s2_model *model, const s2_device_options *options);
/* Begins, without samples, with the adapters inside the network, or fresh ones that change nothing.
 * The arena, aligned to S2_ALIGN, the network and options.taps_context stay the device's.
 * S2_NO_ROOM: it is too small, device->arena_bytes says what is needed;
 * S2_BAD_SHAPE or S2_BAD_VALUE: options out of range, an arena that is not aligned, or no such
 * kernels. Nothing can be done with the device then. */
s2_status s2_device_init(s2_device *device, const s2_model *model, const s2_device_options *options,
                         void *arena, size_t arena_bytes);

/* Passes x (n_features) through the network and keeps its row. S2_BAD_VALUE: a label outside
 * 0..n_outputs-1; S2_NOT_FINITE: NaN or infinity, in x or in its row, which is counted in
 * n_rejected, also with a full store; S2_FULL. The sample is kept with S2_OK alone. */
s2_status s2_device_add_sample(s2_device *device, const float *x, int32_t label);
/* Logits (n_outputs) with the adapters as they are. S2_NOT_FINITE: NaN or infinity. */
s2_status s2_device_predict(s2_device *device, const float *x, float *logits);
/* One epoch of Algorithm 1 over the samples that are kept. S2_BAD_SHAPE: there are none;
 * S2_NOT_FINITE: the loss became infinite or NaN: read adapters that were good, or begin again. */
s2_status s2_device_train_epoch(s2_device *device, s2_epoch_stats *stats);
/* Forgets the samples, not what was learned. */
void s2_device_forget(s2_device *device);

/* The adapters as a record for flash: it says of which network it is, and has a checksum. */
size_t s2_device_adapters_bytes(const s2_device *device);
/* Writes a record to `record`, at an address divisible by 4. S2_NO_ROOM; S2_NOT_FINITE: they have
 * NaN or infinity, which would outlive what went wrong. */
s2_status s2_device_adapters_write(const s2_device *device, void *record, size_t record_bytes);
/* Takes the adapters of a record; the optimizer begins again. S2_BAD_MODEL: damaged, of another
 * network, rank or bias; S2_OTHER_VERSION. They are as they were then. */
s2_status s2_device_adapters_read(s2_device *device, const void *record, size_t record_bytes);

/* The same to and from flash, in memory of the device (device_flash.c): whenever power is lost, the
 * adapters of before or these are there. As s2_flash_save; a slot holds
 * s2_flash_slot_bytes(s2_device_adapters_bytes(device), flash->unit). */
s2_status s2_device_save(s2_device *device, const s2_flash *flash);
/* *is_there: whether flash had a whole record; without one nothing is changed. As s2_flash_load and
 * s2_device_adapters_read. */
s2_status s2_device_restore(s2_device *device, const s2_flash *flash, int *is_there);

#ifdef __cplusplus
}
#endif
#endif
