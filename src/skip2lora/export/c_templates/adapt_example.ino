/*
 * adapt_example.ino - learns from samples that come over the serial line, and predicts others.
 *
 * A line of @N_FEATURES@ numbers and a label, with commas, is a sample to learn; every S2_CAPACITY / 4 of
 * them, and when a line says "t", the board trains. A line that ends after the numbers is predicted. A
 * real device reads its own sensor instead: s2_device_add_sample and s2_device_predict take floats.
 */
#include <Arduino.h>
#include <model.h>
#include <s2_config.h>

static uint8_t arena[S2_ARENA_BYTES] __attribute__((aligned(S2_ALIGN)));
static const char *const class_names[] = S2_CLASS_NAMES;
static float x[S2_N_FEATURES], logits[S2_N_OUTPUTS];
static s2_model model;
static s2_device device;
static uint32_t n_new = 0;

/* Says what is wrong, for ever: there is nothing to go on with. */
static void stop(const char *what, s2_status status) {
    for (;;) {
        Serial.print(what);
        Serial.print(": status ");
        Serial.println((unsigned long)status);
        delay(1000);
    }
}

void setup() {
    Serial.begin(115200);
    Serial.setTimeout(10000);
    const s2_device_options options = s2_config();
    s2_status status = s2_model_read(&model, s2_model_words, S2_MODEL_BYTES);
    if (status != S2_OK) {
        stop("the network", status);
    }
    status = s2_device_init(&device, &model, &options, arena, sizeof arena);
    if (status != S2_OK) {
        stop("the device", status);
    }
}

static void train() {
    s2_epoch_stats stats;
    const unsigned long began = millis();
    for (uint32_t epoch = 0; epoch < S2_EPOCHS; epoch++) {
        const s2_status status = s2_device_train_epoch(&device, &stats);
        if (status != S2_OK) {
            stop("training", status);
        }
    }
    n_new = 0;
    Serial.print("trained on ");
    Serial.print((unsigned long)device.n_samples);
    Serial.print(" samples, ms: ");
    Serial.println(millis() - began);
}

static void predict() {
    if (s2_device_predict(&device, x, logits) != S2_OK) {
        Serial.println("none");
        return;
    }
    uint32_t best = 0;
    for (uint32_t o = 1; o < S2_N_OUTPUTS; o++) {
        best = logits[o] > logits[best] ? o : best;
    }
    Serial.println(class_names[best]);
}

void loop() {
    if (!Serial.available()) {
        return;
    }
    if (Serial.peek() == 't') {
        Serial.read();
        train();
        return;
    }
    for (uint32_t i = 0; i < S2_N_FEATURES; i++) {
        x[i] = Serial.parseFloat();
    }
    if (Serial.peek() != ',') {
        predict();
    } else {
        const s2_status status = s2_device_add_sample(&device, x, (int32_t)Serial.parseInt());
        Serial.println((unsigned long)status);
        n_new += status == S2_OK;
        if (n_new >= (S2_CAPACITY + 3) / 4) {
            train();
        }
    }
    while (Serial.available() && (Serial.peek() == '\r' || Serial.peek() == '\n')) {
        Serial.read();
    }
}
