/* test_net.c - the network that runs a row of compute types a layer: what it refuses, and what it
 * leaves alone. */
#include "network.h"

#define Y     S2_Y
#define W     S2_W
#define B     S2_B
#define X     S2_X
#define STATS S2_STATS

/* Tensor `which` of a layer, by the place it has in s2_layer. */
enum { N_TENSORS = 8 };
static float *tensor_of(const s2_layer *layer, size_t which, size_t *count) {
    const size_t n_in = layer->n_in, n_out = layer->n_out, rank = layer->rank;
    const size_t counts[N_TENSORS] = {n_in * n_out, n_out, n_out,       n_out,
                                      n_out,        n_out, n_in * rank, rank * n_out};
    float *const tensors[N_TENSORS] = {layer->weight, layer->bias, layer->gamma,  layer->beta,
                                       layer->mean,   layer->var,  layer->lora_a, layer->lora_b};
    *count = counts[which];
    return tensors[which];
}

static s2_status step(const network *of, const s2_compute_types *types, const s2_batch *batch,
                      s2_batch_stats *stats, size_t too_small) {
    const size_t room = s2_net_step_workspace_bytes(&of->net, types, batch->count);
    CHECK_EQUAL(room % S2_ALIGN, 0);
    return s2_net_step(&of->net, types, batch, &(s2_update){.rate = 0.5f, .keep = 1}, NULL, stats,
                       guarded(room), room - too_small);
}

/* ---- what the check refuses ------------------------------------------------------------------ */

static void test_check_refuses(void) {
    s2_rng rng;
    s2_rng_seed(&rng, 1, 3);
    network sound, net;
    new_network(&sound, s2_kernels_choose("scalar"), 1, 7, &rng);
#define REFUSES(change)                                                                            \
    net = sound;                                                                                   \
    net.net.layers = net.layers;                                                                   \
    CHECK_EQUAL(s2_net_check(&net.net), S2_OK);                                                    \
    net.change;                                                                                    \
    check_where("%s", #change);                                                                    \
    CHECK_EQUAL(s2_net_check(&net.net), S2_BAD_SHAPE)
    REFUSES(net.n_layers = 0);
    REFUSES(net.n_layers = S2_MAX_LAYERS + 1);
    REFUSES(layers[0].n_in = 0);
    REFUSES(layers[0].n_in = S2_MAX_WIDTH + 1);
    REFUSES(layers[2].n_out = 0);
    REFUSES(layers[2].n_out = S2_MAX_WIDTH + 1);
    REFUSES(layers[0].n_out = 10);
    REFUSES(layers[2].n_in = 18);
    REFUSES(layers[0].weight = NULL);
    REFUSES(layers[2].bias = NULL);
    REFUSES(layers[0].gamma = NULL);
    REFUSES(layers[0].beta = NULL);
    REFUSES(layers[1].mean = NULL);
    REFUSES(layers[1].var = NULL);
    REFUSES(layers[2].mean = sound.layers[1].mean);
    REFUSES(layers[1].rank = widths[1] + 1);
    REFUSES(layers[1].lora_a = NULL);
    REFUSES(layers[1].lora_b = NULL);
#undef REFUSES
    check_where("%s", "");
    release_guarded();
}

static void check_step(const network *of, const s2_compute_types *types, const s2_batch *batch,
                       s2_status expected) {
    s2_batch_stats stats;
    CHECK_EQUAL(step(of, types, batch, &stats, 0), expected);
}

static void test_step_refuses(const s2_kernels *kernels) {
    s2_rng rng;
    s2_rng_seed(&rng, 2, 3);
    network net;
    new_network(&net, kernels, 1, 4, &rng); /* LoRA in the last layer alone */
    const float *x[4];
    new_samples(x, 4, &rng);
    const s2_batch batch = {.count = 4, .x = x, .label = random_labels(&rng, 4, widths[DEPTH])};
    s2_batch one = batch;
    one.count = 1;
    /* a gradient that does not arrive: x is missing above */
    check_step(&net, (s2_compute_types[]){{Y | W, 0, Y}, {Y, 0, Y}, {Y | X, 0, 0}}, &batch,
               S2_BAD_VALUE);
    check_step(&net, (s2_compute_types[]){{Y, 0, Y}, {Y | B, 0, Y}, {Y, 0, 0}}, &batch,
               S2_BAD_VALUE);
    check_step(&net, (s2_compute_types[]){{Y, 0, Y}, {Y, 0, Y | W}, {Y | W | B, 0, 0}}, &batch,
               S2_BAD_VALUE);
    check_step(&net, (s2_compute_types[]){{Y, 0, Y}, {Y, 0, Y | W}, {Y | X, Y | W | X, 0}}, &batch,
               S2_OK);
    /* gx of the adapter is added to that of the layer */
    check_step(&net, (s2_compute_types[]){{Y, 0, Y}, {Y, 0, Y}, {Y, Y | W | X, 0}}, &batch,
               S2_BAD_VALUE);
    check_step(&net, (s2_compute_types[]){{Y, 0, Y}, {Y, 0, Y}, {Y, Y | W, 0}}, &batch, S2_OK);
    /* an adapter that is not there */
    check_step(&net, (s2_compute_types[]){{Y, 0, Y}, {Y, Y | W, Y}, {Y | X, Y | W | X, 0}}, &batch,
               S2_BAD_VALUE);
    /* the statistics of one row */
    check_step(&net, (s2_compute_types[]){{Y, 0, Y | STATS}, {Y, 0, Y}, {Y | W, Y, 0}}, &one,
               S2_BAD_SHAPE);
    check_step(&net, (s2_compute_types[]){{Y, 0, Y | STATS}, {Y, 0, Y}, {Y | W, Y, 0}}, &batch,
               S2_OK);
    check_step(&net, (s2_compute_types[]){{Y, 0, Y}, {Y, 0, Y}, {Y | W, Y, 0}}, &one, S2_OK);
}

/* What a step reads is there, or it says so; one that learns labels needs them. */
static void test_step_refuses_null(const s2_kernels *kernels) {
    s2_rng rng;
    s2_rng_seed(&rng, 6, 3);
    network net;
    new_network(&net, kernels, 1, 0, &rng);
    const float *x[4];
    new_samples(x, 4, &rng);
    const s2_compute_types types[] = {{Y, 0, Y}, {Y, 0, Y}, {Y | W | B, 0, 0}};
    const s2_compute_types nothing[] = {{Y, 0, Y}, {Y, 0, Y}, {Y, 0, 0}};
    const s2_batch batch = {.count = 4, .x = x, .label = random_labels(&rng, 4, widths[DEPTH])};
    s2_batch no_answers = batch, targets = batch, no_samples = batch;
    no_answers.label = NULL;
    targets.label = NULL;
    targets.target = x;
    no_samples.x = NULL;
    check_step(&net, types, &no_answers, S2_BAD_VALUE);
    check_step(&net, types, &targets, S2_BAD_VALUE);
    check_step(&net, types, &no_samples, S2_BAD_VALUE);
    check_step(&net, types, &batch, S2_OK);
    const size_t room = s2_net_step_workspace_bytes(&net.net, types, 4);
    void *workspace = guarded(room);
    s2_batch_stats stats;
    for (s2_rule rule = S2_SGD; rule <= S2_ADAM; rule++) { /* without state */
        const s2_update update = {.rule = rule, .rate = 0.5f, .keep = 1, .eps = 1};
        CHECK_EQUAL(s2_net_step(&net.net, types, &batch, &update, NULL, &stats, workspace, room),
                    rule == S2_SGD ? S2_OK : S2_BAD_VALUE);
        CHECK_EQUAL(s2_net_step(&net.net, nothing, &batch, &update, NULL, &stats, workspace, room),
                    S2_OK); /* where nothing is trained there is none */
    }
    CHECK_EQUAL(s2_net_step(&net.net, types, &batch, &(s2_update){.rate = 0.5f, .keep = 1}, NULL,
                            &stats, NULL, room),
                S2_NO_ROOM);
}

/* ---- what a step leaves alone ---------------------------------------------------------------- */

typedef struct {
    const char *name;
    unsigned lora; /* a bit a layer */
    s2_compute_types types[DEPTH];
} method;

static const method methods[] = {
    {"ft-all",
     0,
     {{Y | W | B, 0, Y | W | STATS}, {Y | W | B | X, 0, Y | W | STATS}, {Y | W | B | X, 0, 0}}},
    {"ft-last", 0, {{Y, 0, Y}, {Y, 0, Y}, {Y | W | B, 0, 0}}},
    {"ft-bias", 0, {{Y | B, 0, Y}, {Y | B | X, 0, Y}, {Y | B | X, 0, 0}}},
    {"ft-all-lora",
     7,
     {{Y | W | B, Y | W, Y | W | STATS},
      {Y | W | B | X, Y | W | X, Y | W | STATS},
      {Y | W | B | X, Y | W | X, 0}}},
    {"lora-all", 7, {{Y, Y | W, Y | STATS}, {Y | X, Y | W | X, Y | STATS}, {Y | X, Y | W | X, 0}}},
    {"lora-last", 4, {{Y, 0, Y}, {Y, 0, Y}, {Y, Y | W, 0}}},
    {"gamma and beta", 0, {{Y, 0, Y | W}, {Y | X, 0, Y | W}, {Y | X, 0, 0}}},
    {"second weight", 0, {{Y, 0, Y}, {Y | W, 0, Y | STATS}, {Y | X, 0, 0}}},
    {"nothing", 7, {{Y, Y, Y}, {Y, Y, Y}, {Y, Y, 0}}},
};
enum { N_METHODS = sizeof methods / sizeof methods[0] };

/* Whether the types train (or update) tensor `which`. */
static int is_asked(const s2_compute_types *types, size_t which) {
    const unsigned flags[N_TENSORS] = {types->fc & W,   types->fc & B,     types->bn & W,
                                       types->bn & W,   types->bn & STATS, types->bn & STATS,
                                       types->lora & W, types->lora & W};
    return flags[which] != 0;
}

static void copy_tensors(const network *of, float *copies[DEPTH][N_TENSORS]) {
    for (size_t k = 0; k < DEPTH; k++) {
        for (size_t which = 0; which < N_TENSORS; which++) {
            size_t count;
            const float *tensor = tensor_of(&of->layers[k], which, &count);
            copies[k][which] = tensor == NULL ? NULL : guarded_floats(count);
            if (tensor != NULL) {
                memcpy(copies[k][which], tensor, count * sizeof *tensor);
            }
        }
    }
}

/* With types, what they ask for must have moved and all else must not; with NULL, nothing may. */
static void compare_tensors(const network *of, float *copies[DEPTH][N_TENSORS],
                            const s2_compute_types *types) {
    for (size_t k = 0; k < DEPTH; k++) {
        for (size_t which = 0; which < N_TENSORS; which++) {
            size_t count;
            const float *tensor = tensor_of(&of->layers[k], which, &count);
            if (tensor == NULL) {
                continue;
            }
            if (types == NULL || !is_asked(&types[k], which)) {
                CHECK_SAME(tensor, copies[k][which], count * sizeof *tensor);
            } else if (which != 1 || !(types[k].bn & STATS)) { /* the mean cancels such a bias */
                CHECK(memcmp(tensor, copies[k][which], count * sizeof *tensor) != 0);
                CHECK(isfinite(tensor[0]) && isfinite(tensor[count - 1]));
            }
        }
    }
}

static void test_frozen_tensors_keep_their_bytes(const s2_kernels *kernels) {
    s2_rng rng;
    s2_rng_seed(&rng, 3, 3);
    for (size_t m = 0; m < N_METHODS; m++) {
        for (uint32_t count = 2; count <= 9; count++) {
            check_where("%s, %s, count %u", s2_kernels_name(kernels), methods[m].name, count);
            network net;
            new_network(&net, kernels, 1, methods[m].lora, &rng);
            const float *x[9];
            new_samples(x, count, &rng);
            const int32_t *label = random_labels(&rng, count, widths[DEPTH]);
            const s2_batch batch = {.count = count, .x = x, .label = label};
            float *before[DEPTH][N_TENSORS];
            copy_tensors(&net, before);
            s2_batch_stats stats;
            CHECK_EQUAL(step(&net, methods[m].types, &batch, &stats, 1), S2_NO_ROOM);
            compare_tensors(&net, before, NULL);
            CHECK_EQUAL(step(&net, methods[m].types, &batch, &stats, 0), S2_OK);
            compare_tensors(&net, before, methods[m].types);
            CHECK(stats.loss > 0.0f && isfinite(stats.loss) && stats.correct <= count);
            release_guarded();
        }
    }
}

static void test_net_without_batch_norm(const s2_kernels *kernels) {
    s2_rng rng;
    s2_rng_seed(&rng, 4, 3);
    network net;
    new_network(&net, kernels, 0, 7, &rng);
    const float *x[4];
    new_samples(x, 4, &rng);
    const s2_batch batch = {.count = 4, .x = x, .label = random_labels(&rng, 4, widths[DEPTH])};
    const s2_compute_types types[] = {
        {Y | W | B, Y | W, 0}, {Y | W | B | X, Y | W | X, 0}, {Y | W | B | X, Y | W | X, 0}};
    float *before[DEPTH][N_TENSORS];
    copy_tensors(&net, before);
    s2_batch_stats stats;
    CHECK_EQUAL(step(&net, types, &batch, &stats, 0), S2_OK);
    compare_tensors(&net, before, types);
}

/* One layer, two classes, weights zero: p is 1/2 and the gradient of the mean exact. */
static void test_step_by_hand(const s2_kernels *kernels) {
    float weight[] = {0, 0, 0, 0}, bias[] = {0, 0};
    const s2_layer layer = {.n_in = 2, .n_out = 2, .weight = weight, .bias = bias};
    const s2_net net = {kernels, 1, &layer, 1e-5f, 0.1f, NULL, S2_SOFTMAX};
    const float *x[] = {(const float[]){1, 2}, (const float[]){3, -4}};
    const s2_batch batch = {.count = 2, .x = x, .label = (int32_t[]){0, 1}};
    const s2_compute_types types[] = {{Y | W | B, 0, 0}};
    const size_t room = s2_net_step_workspace_bytes(&net, types, 2);
    s2_batch_stats stats;
    CHECK_EQUAL(s2_net_step(&net, types, &batch, &(s2_update){.rate = 2.0f, .keep = 1}, NULL,
                            &stats, guarded(room), room),
                S2_OK);
    CHECK_NEAR(stats.loss, 0.69314718, 1e-7);
    CHECK_EQUAL(stats.correct, 1);
    /* gy is -1/4, 1/4 and 1/4, -1/4 */
    CHECK_SAME(weight, ((const float[]){-1, 1, 3, -3}), sizeof weight);
    CHECK_SAME(bias, ((const float[]){0, 0}), sizeof bias);
}

/* The same with targets: of the squared error gy is (y - t)/2, of sigmoid at 1/2 also (1/2 - t)/2. */
static void test_step_on_targets_by_hand(const s2_kernels *kernels) {
    for (s2_loss loss = S2_SIGMOID; loss <= S2_SQUARED; loss++) {
        float weight[] = {0, 0, 0, 0}, bias[] = {0, 0};
        const s2_layer layer = {.n_in = 2, .n_out = 2, .weight = weight, .bias = bias};
        const s2_net net = {kernels, 1, &layer, 1e-5f, 0.1f, NULL, loss};
        const float *x[] = {(const float[]){1, 2}, (const float[]){3, -4}};
        const float *t[] = {(const float[]){1, 0}, (const float[]){0, 1}};
        const s2_batch batch = {.count = 2, .x = x, .target = t};
        const s2_compute_types types[] = {{Y | W | B, 0, 0}};
        const size_t room = s2_net_step_workspace_bytes(&net, types, 2);
        const s2_update update = {.rate = 2.0f, .keep = 1};
        s2_batch_stats stats;
        CHECK_EQUAL(s2_net_step(&net, types,
                                &(s2_batch){.count = 2, .x = x, .label = (int32_t[2]){0}}, &update,
                                NULL, &stats, guarded(room), room),
                    S2_BAD_VALUE); /* labels alone */
        CHECK_EQUAL(s2_net_step(&net, types, &batch, &update, NULL, &stats, guarded(room), room),
                    S2_OK);
        if (loss == S2_SQUARED) {
            CHECK_NEAR(stats.loss, 0.5, 1e-7);
            CHECK_SAME(weight, ((const float[]){1, 3, 2, -4}), sizeof weight);
            CHECK_SAME(bias, ((const float[]){1, 1}), sizeof bias);
        } else {
            CHECK_NEAR(stats.loss, 2 * 0.69314718, 1e-6);
            CHECK_SAME(weight, ((const float[]){-1, 1, 3, -3}), sizeof weight);
            CHECK_SAME(bias, ((const float[]){0, 0}), sizeof bias);
        }
    }
}

int main(void) {
    test_check_refuses();
    with_each_table(test_step_refuses);
    with_each_table(test_step_refuses_null);
    with_each_table(test_frozen_tensors_keep_their_bytes);
    with_each_table(test_net_without_batch_norm);
    with_each_table(test_step_by_hand);
    with_each_table(test_step_on_targets_by_hand);
    return check_report("test_net");
}
