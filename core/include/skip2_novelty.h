/*
 * skip2_novelty.h - whether rows still come from where a reference came from: how far a row lies
 * from the reference (novelty.c), and evidence of a change added up over rows (change.c). The rules
 * of skip2.h hold.
 */
#ifndef SKIP2_NOVELTY_H
#define SKIP2_NOVELTY_H

#include "skip2.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- how far a row lies from a reference (novelty.c) ----------------------------------------- */

#define S2_NEIGHBOURS 5u /* the novelty of a row is the distance to the 5th nearest */

typedef struct {
    uint32_t n_rows;  /* of the reference, more than S2_NEIGHBOURS */
    uint32_t width;   /* of a row */
    uint32_t n_modes; /* operating states, 1..n_rows */
} s2_novelty_shape;

/* Column c is compared as (x - mean[c]) * scale[c], within +-1e6; a scale of 0 leaves it out. */
typedef struct {
    const float *rows;    /* (n_rows, width) */
    const float *mean;    /* (width) */
    const float *scale;   /* (width), 1 / deviation, not negative */
    const float *centres; /* (n_modes, width): a row belongs to the nearest */
} s2_reference;

/* What s2_novelty_open made of a reference, in the caller's memory. */
typedef struct {
    const s2_kernels *kernels;
    s2_novelty_shape shape;
    float *mean, *scale;   /* (padded) */
    float *scaled;         /* (n_modes + n_rows, padded): centres, then rows */
    const float **vectors; /* (n_modes + n_rows): where they start */
    double *squares;       /* (n_modes + n_rows): their squared lengths */
    double *products;      /* (n_modes + n_rows) of the row that is judged */
    double (*near)[2];     /* (n_rows): squared distances to the 4th and the 5th nearest other */
    uint32_t *mode;        /* (n_rows) */
    float *row;            /* (padded): the row that is judged */
} s2_novelty;

typedef struct {
    double novelty; /* distance to the S2_NEIGHBOURS-th nearest row of the reference */
    double p;       /* p-value among the rows of the reference in the same mode */
    double p_all;   /* among all of them */
    uint32_t mode;
} s2_judged;

size_t s2_novelty_bytes(const s2_novelty_shape *shape);
/* Copies what it needs of the reference; S2_BAD_VALUE where a number of it is not finite. */
s2_status s2_novelty_open(s2_novelty *novelty, const s2_kernels *kernels,
                          const s2_novelty_shape *shape, const s2_reference *reference,
                          void *memory, size_t size);
/* Judges row (width), one call at a time; S2_BAD_VALUE where it has a number that is not finite.
 *
 * p = (r + 1) / (n + 1), a conformal p-value (Vovk, Gammerman and Shafer 2005): of the n rows of
 * the reference in the row's mode, r are as novel or more. Their novelty is to the other rows and
 * this one together, so that all n + 1 are judged alike; p_all likewise of all rows. Rows that are
 * exchangeable with these, given mean, scale and centres, have p <= a with a probability of at most
 * a; equal novelties count against a change. */
s2_status s2_novelty_judge(const s2_novelty *novelty, const float *row, s2_judged *judged);

/* ---- evidence of a change (change.c) --------------------------------------------------------- */

#define S2_NOVEL  0.05 /* a row with a smaller p-value counts as novel */
#define S2_RECENT 50u  /* rows of which the novel ones are counted */

/* All zeros to begin with. Rows are numbered from 1. */
typedef struct {
    uint64_t n_rows; /* added */
    uint64_t since;  /* the first of those that speak for a change; 0: none do */
    uint64_t alarm;  /* the first with which the statistic reached the limit; 0: none yet */
    uint64_t recent; /* bit k: the k-th last was novel */
    double statistic;
    double rise; /* logarithm of the evidence since `since` */
} s2_change;

/* Adds the p-values of one more row; S2_BAD_VALUE unless 0 < p <= 1, 0 < p_all <= 1 and 0 < limit.
 *
 * A bet, the mean of k * p^(k - 1) over k = .1 .3 .5 .7 .9, has a mean of at most 1 while p-values
 * are uniform, and so has e = (2 bets on p + 1 on p_all) / 3 (a mean of e-values is one, however
 * they depend on each other: Vovk and Wang 2021). Among all rows p_all can be smaller, which tells
 * sooner; p forgives a row of a state whose rows are all novel.
 *
 * The statistic is Shiryaev-Roberts': (1 + statistic) * e, at most 1e300. Where each bet has that
 * mean given those before it, the mean number of rows to a false alarm is at least the limit (Shin,
 * Ramdas and Rinaldo 2022). `since` is the start of the highest product of bets that ends here, as
 * in Page's CUSUM: the most likely change point. The alarm holds it. */
s2_status s2_change_add(s2_change *change, double p, double p_all, double limit);
/* Of the last S2_RECENT rows, or of all if they are fewer, the share that was novel; 0 of none. */
double s2_change_share(const s2_change *change);

#ifdef __cplusplus
}
#endif

#endif
