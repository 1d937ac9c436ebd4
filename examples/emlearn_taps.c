/*
 * emlearn_taps.c - a board that runs its network in a runtime of its own, here emlearn
 * (pip install emlearn: headers of C), and learns with skip2lora what that network lacks.
 *
 *     skip2lora export model.safetensors --to c -o board --taps-only --epochs 60
 *     gcc -Iboard/src -I$(python -c 'import emlearn; print(emlearn.includedir)') emlearn_taps.c board/src/[a-z]*.c -lm
 *
 * network.h has the layers as emlearn writes them: `layers`, an array of EmlNetLayer. A runtime that
 * shows the outputs of its layers (LiteRT Micro, CMSIS-NN) takes the place of eml_net_layer_forward.
 */
#include "eml_net.h"
#include "network.h"

#include "model.h"
#include "s2_config.h"

#define N_LAYERS   (sizeof layers / sizeof layers[0])
#define N_FEATURES (layers[0].n_inputs)

static uint8_t arena[S2_ARENA_BYTES] __attribute__((aligned(S2_ALIGN)));
static float x[4096], logits[S2_N_OUTPUTS];

/* A layer's output is what the next one reads: its tap. That of the last one are the logits. */
static s2_status run(void *context, const float *sample, float *const *taps, float *base_logits) {
    (void)context;
    memcpy(taps[0], sample, (size_t)N_FEATURES * sizeof *sample);
    for (size_t k = 0; k < N_LAYERS; k++) {
        float *out = k + 1 < N_LAYERS ? taps[k + 1] : base_logits;
        if (eml_net_layer_forward(&layers[k], taps[k], layers[k].n_inputs, out,
                                  layers[k].n_outputs) != EmlOk) {
            return S2_FORWARD_FAILED;
        }
    }
    return S2_OK;
}

static int read_row(int *label) {
    for (int32_t i = 0; i < N_FEATURES; i++) {
        if (scanf("%f,", &x[i]) != 1) {
            return 0;
        }
    }
    return scanf("%d", label) == 1;
}

int main(void) {
    static s2_model model;
    static s2_device device;
    s2_device_options options = s2_config();
    options.taps = run;
    if (s2_model_read(&model, s2_model_words, S2_MODEL_BYTES) != S2_OK ||
        s2_device_init(&device, &model, &options, arena, sizeof arena) != S2_OK) {
        return 2;
    }
    int label;
    while (read_row(&label)) {
        if (s2_device_add_sample(&device, x, label) != S2_OK) {
            return 2;
        }
    }
    s2_epoch_stats stats;
    for (unsigned epoch = 0; epoch < S2_EPOCHS; epoch++) {
        if (s2_device_train_epoch(&device, &stats) != S2_OK) {
            return 2;
        }
    }
    printf("%lu samples, loss %.6f\n", (unsigned long)device.n_samples, stats.loss);
    if (s2_device_predict(&device, x, logits) != S2_OK) { /* the last one again */
        return 2;
    }
    for (unsigned o = 0; o < S2_N_OUTPUTS; o++) {
        printf("%.9g\n", (double)logits[o]);
    }
    return 0;
}
