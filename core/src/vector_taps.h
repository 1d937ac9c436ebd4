/* vector_taps.h - the passes over cached rows; included by kernels_vector.h. */

/* ---- forward: sums along the tap ------------------------------------------------------------- */

INLINE void forward_tile(const s2_tap_pass *pass, size_t sample, size_t rank, const size_t samples,
                         const size_t ranks) {
    const float *tap[TAP_SAMPLES];
    float totals[TAP_RANKS][TAP_SAMPLES];
    UNROLL for (size_t s = 0; s < samples; s++) {
        tap[s] = pass->row[sample + s] + pass->offset;
    }
    dot_tile(tap, pass->a + rank * pass->a_row, pass->a_row, pass->width, samples, ranks, totals);
    UNROLL for (size_t r = 0; r < ranks; r++) {
        float *hidden = pass->hidden + (rank + r) * pass->h_rank + sample * pass->h_sample;
        if (pass->h_sample == 1) {
            memcpy(hidden, totals[r], samples * sizeof *hidden);
            continue;
        }
        UNROLL for (size_t s = 0; s < samples; s++) {
            hidden[s * pass->h_sample] = totals[r][s];
        }
    }
}

#ifdef V_FACTOR
/* The full tiles of taps that are wide enough, with nothing that the other cases need; returns the
 * samples that are done. */
static __attribute__((noinline)) size_t full_dots(const s2_tap_pass *pass, size_t rank) {
    const s2_tap_pass local = *pass; /* no store can change it */
    const float *a = local.a + rank * local.a_row;
    const size_t rounds = local.width / DOT_COLUMNS;
    size_t sample = 0;
    for (; sample + TAP_SAMPLES <= local.count; sample += TAP_SAMPLES) {
        V sum[TAP_RANKS][TAP_SAMPLES];
        float totals[TAP_RANKS][TAP_SAMPLES];
        dot_rounds(local.row + sample, local.offset, a, local.a_row, rounds, sum);
        for (size_t i = rounds * DOT_COLUMNS; i < local.width; i += V_WIDTH) {
            const size_t left = local.width - i, part = left < V_WIDTH ? left : V_WIDTH;
            V tap[TAP_SAMPLES];
            UNROLL for (size_t s = 0; s < TAP_SAMPLES; s++) {
                tap[s] = load_part(local.row[sample + s] + local.offset + i, part);
            }
            UNROLL for (size_t r = 0; r < TAP_RANKS; r++) {
                const V column = V_LOAD(a + r * local.a_row + i); /* zero beyond the width */
                UNROLL for (size_t s = 0; s < TAP_SAMPLES; s++) {
                    sum[r][s] = V_FMA(tap[s], column, sum[r][s]);
                }
            }
        }
        V_SUM_TILE(totals, sum);
        UNROLL for (size_t r = 0; r < TAP_RANKS; r++) {
            float *hidden = local.hidden + (rank + r) * local.h_rank + sample * local.h_sample;
            if (local.h_sample == 1) {
                memcpy(hidden, totals[r], sizeof totals[r]);
                continue;
            }
            UNROLL for (size_t s = 0; s < TAP_SAMPLES; s++) {
                hidden[s * local.h_sample] = totals[r][s];
            }
        }
    }
    return sample;
}
#endif

INLINE void forward_ranks(const s2_tap_pass *pass, size_t rank, const size_t ranks) {
    size_t sample = 0;
#ifdef V_FACTOR
    if (ranks == TAP_RANKS && pass->width >= DOT_COLUMNS) {
        sample = full_dots(pass, rank);
    }
#endif
    for (; sample + TAP_SAMPLES <= pass->count; sample += TAP_SAMPLES) {
        forward_tile(pass, sample, rank, TAP_SAMPLES, ranks);
    }
    for (; sample + 2 <= pass->count; sample += 2) {
        forward_tile(pass, sample, rank, 2, ranks);
    }
    for (; sample < pass->count; sample++) {
        forward_tile(pass, sample, rank, 1, ranks);
    }
}

static void vector_tap_forward(const s2_tap_pass *pass) {
#define RANKS(n) forward_ranks(pass, first, n)
    IN_FOURS(pass->rank, RANKS);
#undef RANKS
}

/* ---- update: sums along the batch, then one move of lora_a ----------------------------------- */

/* Asks for the columns of a row to come that stand where those of a tile do. */
INLINE void prefetch_columns(const float *row, const size_t vectors) {
    UNROLL for (size_t line = 0; line < vectors * V_WIDTH * sizeof *row; line += S2_ALIGN) {
        S2_PREFETCH((const char *)row + line);
    }
}

/* Gradients of the first samples by all of TAP_RANKS ranks, laid out for V_FACTOR. */
typedef struct {
    const float *at; /* (count, FACTOR_FLOATS) */
    size_t count;
} rank_fours;

/* `vectors` x `ranks` at column i. */
INLINE void update_tile(const s2_tap_pass *pass, const s2_update *update, const rank_fours *fours,
                        size_t i, size_t rank, const size_t vectors, const size_t ranks,
                        const size_t part) {
    V sum[TAP_VECTORS][TAP_RANKS];
#define PART_OF(v) ((v) + 1 == vectors ? part : V_WIDTH)
    UNROLL for (size_t v = 0; v < vectors; v++) {
        UNROLL for (size_t r = 0; r < ranks; r++) {
            sum[v][r] = V_ZERO();
        }
    }
    const float *grad = pass->hidden + rank * pass->h_rank;
    const size_t n_ahead = rank == 0 ? pass->n_ahead : 0; /* once is enough */
    size_t s = 0;
#define ADD_SAMPLE(factor_of)                                                                      \
    do {                                                                                           \
        const float *tap = pass->row[s] + pass->offset + i;                                        \
        if (s < n_ahead) {                                                                         \
            prefetch_columns(pass->ahead[s] + pass->offset + i, vectors);                          \
        }                                                                                          \
        V x[TAP_VECTORS];                                                                          \
        UNROLL for (size_t v = 0; v < vectors; v++) {                                              \
            x[v] = load_part(tap + v * V_WIDTH, PART_OF(v));                                       \
        }                                                                                          \
        UNROLL for (size_t r = 0; r < ranks; r++) {                                                \
            const V factor = factor_of(r);                                                         \
            UNROLL for (size_t v = 0; v < vectors; v++) {                                          \
                sum[v][r] = V_FMA(factor, x[v], sum[v][r]);                                        \
            }                                                                                      \
        }                                                                                          \
    } while (0)
#ifdef V_FACTOR
    if (vectors == TAP_VECTORS && ranks == TAP_RANKS && fours->count >= UPDATE_SAMPLES) {
        s = fours->count - fours->count % UPDATE_SAMPLES;
        for (size_t next = 0; next < n_ahead && next < s; next++) {
            prefetch_columns(pass->ahead[next] + pass->offset + i, vectors);
        }
        update_rounds(pass->row, pass->offset + i, fours->at, s / UPDATE_SAMPLES, sum);
    }
#define OF_RANK(r) V_FACTOR(at, r)
    for (const float *at = fours->at + s * FACTOR_FLOATS; s < fours->count; s++) {
        ADD_SAMPLE(OF_RANK);
        at += FACTOR_FLOATS;
    }
#undef OF_RANK
#else
    (void)fours;
#endif
#define STRIDED(r) V_SET(grad[(r) * pass->h_rank + s * pass->h_sample])
    for (; s < pass->count; s++) {
        ADD_SAMPLE(STRIDED);
    }
#undef STRIDED
#undef ADD_SAMPLE
    const int plain = is_plain(update);
    UNROLL for (size_t r = 0; r < ranks; r++) {
        UNROLL for (size_t v = 0; v < vectors; v++) { /* lora_a is padded: whole vectors */
            const size_t at = (rank + r) * pass->a_row + i + v * V_WIDTH;
            if (plain) {
                move_vector(update, 1, V_WIDTH, sum[v][r], NULL, NULL, pass->a + at);
            } else {
                move_vector(update, 0, V_WIDTH, sum[v][r], pass->m ? pass->m + at : NULL,
                            pass->v ? pass->v + at : NULL, pass->a + at);
            }
        }
    }
#undef PART_OF
}

#ifdef V_FACTOR
/* The full tiles of a batch in pairs by gradient descent, with nothing that the other cases need;
 * returns the columns that are done. Not inlined: what those keep in registers is saved once. */
static __attribute__((noinline)) size_t plain_tiles(const s2_tap_pass *pass, float rate,
                                                    const float *factors, size_t rank) {
    const s2_tap_pass local = *pass; /* no store can change it */
    const size_t n_ahead = rank == 0 ? local.n_ahead : 0, rounds = local.count / UPDATE_SAMPLES;
    const V against = V_SET(-rate);
    float *a = local.a + rank * local.a_row;
    size_t i = 0;
    for (; i + TAP_VECTORS * V_WIDTH <= local.width; i += TAP_VECTORS * V_WIDTH) {
        V sum[TAP_VECTORS][TAP_RANKS];
        for (size_t s = 0; s < n_ahead; s++) {
            prefetch_columns(local.ahead[s] + local.offset + i, TAP_VECTORS);
        }
        update_rounds(local.row, local.offset + i, factors, rounds, sum);
        UNROLL for (size_t r = 0; r < TAP_RANKS; r++) {
            float *moved = a + r * local.a_row + i;
            V old[TAP_VECTORS];
            UNROLL for (size_t v = 0; v < TAP_VECTORS; v++) {
                old[v] = V_LOAD(moved + v * V_WIDTH);
            }
            UNROLL for (size_t v = 0; v < TAP_VECTORS; v++) {
                V_STORE(moved + v * V_WIDTH, V_FMA(against, sum[v][r], old[v]));
            }
        }
    }
    return i;
}
#endif

INLINE void update_ranks(const s2_tap_pass *pass, const s2_update *update, size_t rank,
                         const size_t ranks) {
    rank_fours fours = {0};
    size_t i = 0;
#ifdef V_FACTOR
    enum { MOST = 64 }; /* samples that are laid out; more are read as they lie */
    /* cppcheck-suppress variableScope; `fours` points at it */
    float factors[MOST * FACTOR_FLOATS];
    if (ranks == TAP_RANKS) {
        fours = (rank_fours){factors, pass->count < MOST ? pass->count : MOST};
        lay_out_factors(pass->hidden + rank * pass->h_rank, pass->h_rank, pass->h_sample,
                        fours.count, factors);
        if (is_plain(update) && pass->count == fours.count && pass->count % UPDATE_SAMPLES == 0) {
            i = plain_tiles(pass, update->rate, factors, rank);
        }
    }
#endif
    for (; i + TAP_VECTORS * V_WIDTH <= pass->width; i += TAP_VECTORS * V_WIDTH) {
        update_tile(pass, update, &fours, i, rank, TAP_VECTORS, ranks, V_WIDTH);
    }
    for (; i + 2 * V_WIDTH <= pass->width; i += 2 * V_WIDTH) {
        update_tile(pass, update, &fours, i, rank, 2, ranks, V_WIDTH);
    }
    for (; i + V_WIDTH <= pass->width; i += V_WIDTH) {
        update_tile(pass, update, &fours, i, rank, 1, ranks, V_WIDTH);
    }
    if (i < pass->width) {
        update_tile(pass, update, &fours, i, rank, 1, ranks, pass->width - i);
    }
}

static void vector_tap_update(const s2_tap_pass *pass, const s2_update *update) {
    const s2_update constants = *update; /* no store can change them */
    const s2_tap_pass local = *pass;
#define RANKS(n) update_ranks(&local, &constants, first, n)
    IN_FOURS(pass->rank, RANKS);
#undef RANKS
}
