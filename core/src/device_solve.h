/* device_solve.h - what the exact solver of a device (device_solve.c) hands on to whoever makes adapters
 * of its solution (device_settle.c). */
#ifndef S2_DEVICE_SOLVE_H
#define S2_DEVICE_SOLVE_H

#include "device.h"
#include "skip2_device_solve.h"
#include "skip2_primal.h"

typedef struct {
    const s2_device *device;
    uint32_t n_samples, n_learned, width; /* of all taps */
    size_t lanes;
    s2_solver solver;
    s2_row_layout rows_are;                    /* where taps lie in `rows` */
    const float *rows;                         /* (n_samples, row_stride) */
    float *decoded;                            /* the same, of rows that need it */
    uint32_t *learned;                         /* (n_outputs): the classes that have samples */
    s2_columns *columns;                       /* (n_taps) */
    float *mean, *scale;                       /* (width) */
    float *target, *offset, *logits, *weight;  /* (n_learned, lanes); (lanes) */
    float *coefficients;                       /* (n_learned, lanes or width) */
    float *bias;                               /* (n_learned) */
    double *total;                             /* (n_outputs): the bias of all classes */
    double *sums, *squares, *of_mean, *of_var; /* (widest) */
    float *margin;                             /* (n_samples) */
    float *weights;                            /* (widest, n_learned) */
    float *lora_a, *lora_b;                    /* (widest, rank), (rank, n_outputs) */
    float *gram;
    void *factor, *room;
    size_t room_bytes;
} s2_solving;

static inline const float *s2_base_logits(const s2_solving *of, size_t sample) {
    return of->rows + sample * of->rows_are.row_stride + of->rows_are.logits_offset;
}

/* The solution as adapters of the device. */
s2_status s2_device_settle(const s2_solving *of);

#endif
