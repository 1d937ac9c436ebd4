/*
 * main.c - an example: adapts on rows of features and a label, with commas, from standard input,
 * which may be that of a debugger (semihosting).
 *
 *     ./example < data.csv                        says how well it does before and after
 *     ./example adapters.bin < data.csv           the same, and writes what it learned
 *     ./example --predict adapters.bin < data.csv prints the class and the logits of each row
 *
 * A first row that has words where numbers are expected is a heading. A label is a number from 0, or
 * one of S2_CLASS_NAMES. No other file here reads, prints or allocates.
 */
#include "s2_config.h"
@INCLUDE_MODEL@
#include <stdio.h>
#include <stdlib.h>

#define LINE_BYTES (40u * (S2_N_FEATURES + 1u) + 64u)

static uint8_t arena[S2_ARENA_BYTES] __attribute__((aligned(S2_ALIGN)));
static uint32_t record[S2_RECORD_BYTES / 4];
@MODEL_ROOM@static const char *const class_names[] = S2_CLASS_NAMES;
static char line[LINE_BYTES];
static float x[S2_N_FEATURES], logits[S2_N_OUTPUTS];
static s2_model model;
static s2_device device;

static int refused(const char *what, s2_status status) {
    fprintf(stderr, "%s: status %d\n", what, (int)status);
    return 2;
}

/* The label that a word says; -1: none. */
static int32_t label_of(const char *word) {
    size_t length = strcspn(word, "\r\n,");
    while (length > 0 && word[length - 1] == ' ') {
        length--;
    }
    for (int32_t label = 0; label < (int32_t)S2_N_OUTPUTS; label++) {
        const char *name = class_names[label];
        if (strlen(name) == length && strncmp(word, name, length) == 0) {
            return label;
        }
    }
    char *end;
    const double number = strtod(word, &end);
    return end != word && number >= 0 && number < S2_N_OUTPUTS ? (int32_t)number : -1;
}

/* Reads features into x; where the label stands, or NULL where the line has too few numbers. */
static const char *features_of(const char *text) {
    for (uint32_t i = 0; i < S2_N_FEATURES; i++) {
        char *end;
        x[i] = strtof(text, &end);
        if (end == text) {
            return NULL;
        }
        text = end + strspn(end, " ");
        text += *text == ',';
    }
    return text + strspn(text, " ");
}

static uint32_t largest(void) {
    uint32_t best = 0;
    for (uint32_t o = 1; o < S2_N_OUTPUTS; o++) {
        best = logits[o] > logits[best] ? o : best;
    }
    return best;
}
@OWN_TAPS@
static int begin(void) {
    s2_device_options options = s2_config();
@SET_TAPS@@READ_MODEL@    if (status != S2_OK) {
        return refused("the network", status);
    }
    status = s2_device_init(&device, &model, &options, arena, sizeof arena);
    if (status == S2_NO_ROOM) {
        fprintf(stderr, "the arena has %lu bytes, S2_ARENA_BYTES must be %lu\n",
                (unsigned long)sizeof arena, (unsigned long)device.arena_bytes);
    }
    return status == S2_OK ? 0 : refused("the device", status);
}

/* Reads rows to the end: they are kept, or predicted; how many were right. */
static int read_rows(int predicting, uint32_t *n_rows, uint32_t *n_right) {
    uint32_t number = 0;
    *n_rows = *n_right = 0;
    while (fgets(line, sizeof line, stdin) != NULL) {
        number++;
        const char *word = features_of(line);
        const int32_t label = word == NULL ? -1 : label_of(word);
        if (word == NULL || (label < 0 && !predicting)) {
            if (number == 1 || line[strspn(line, " \r\n")] == '\0') {
                continue; /* a heading, an empty line */
            }
            fprintf(stderr, "row %lu: expected %u numbers and a label\n", (unsigned long)number,
                    (unsigned)S2_N_FEATURES);
            return 2;
        }
        s2_status status = s2_device_predict(&device, x, logits);
        const uint32_t answer = status == S2_OK ? largest() : 0;
        *n_right += label >= 0 && status == S2_OK && answer == (uint32_t)label;
        *n_rows += 1;
        if (predicting) {
            printf("%s", status == S2_OK ? class_names[answer] : "none");
            for (uint32_t o = 0; status == S2_OK && o < S2_N_OUTPUTS; o++) {
                printf(",%.9g", (double)logits[o]);
            }
            printf("\n");
            continue;
        }
        status = s2_device_add_sample(&device, x, label);
        if (status == S2_FULL) {
            fprintf(stderr, "row %lu: the store is full with %lu samples, it was not kept\n",
                    (unsigned long)number, (unsigned long)device.n_samples);
        } else if (status != S2_OK && status != S2_NOT_FINITE) {
            return refused("a sample", status);
        }
    }
    return 0;
}

static int adapt(void) {
    uint32_t n_rows, n_right;
    if (read_rows(0, &n_rows, &n_right) != 0) {
        return 2;
    }
    printf("%lu samples, %lu rejected\n", (unsigned long)device.n_samples,
           (unsigned long)device.n_rejected);
    if (device.n_samples == 0) {
        return refused("no samples", S2_BAD_SHAPE);
    }
    printf("before: %.1f %% right\n", 100.0 * n_right / n_rows);
    s2_epoch_stats stats;
    for (uint32_t epoch = 0; epoch < S2_EPOCHS; epoch++) {
        const s2_status status = s2_device_train_epoch(&device, &stats);
        if (status != S2_OK) {
            return refused("training", status);
        }
    }
    printf("after %u epochs: %.1f %% right, loss %.4f\n", (unsigned)S2_EPOCHS,
           100.0 * stats.correct / stats.n_seen, stats.loss);
    return 0;
}

static int move_record(const char *path, const char *mode) {
    FILE *file = fopen(path, mode);
    if (file == NULL) {
        fprintf(stderr, "cannot open %s\n", path);
        return 2;
    }
    const size_t done = mode[0] == 'w' ? fwrite(record, 1, sizeof record, file)
                                       : fread(record, 1, sizeof record, file);
    const int closed = fclose(file);
    if (done != sizeof record || closed != 0) {
        fprintf(stderr, "%s has %lu bytes, expected %lu\n", path, (unsigned long)done,
                (unsigned long)sizeof record);
        return 2;
    }
    return 0;
}

int main(int argc, char **argv) {
    if (begin() != 0) {
        return 2;
    }
    if (argc == 3 && strcmp(argv[1], "--predict") == 0) {
        uint32_t n_rows, n_right;
        if (move_record(argv[2], "rb") != 0) {
            return 2;
        }
        const s2_status status = s2_device_adapters_read(&device, record, sizeof record);
        return status == S2_OK ? read_rows(1, &n_rows, &n_right) : refused(argv[2], status);
    }
    if (argc > 2) {
        fprintf(stderr, "usage: example [[--predict] adapters.bin] < data.csv\n");
        return 2;
    }
    if (adapt() != 0) {
        return 2;
    }
    if (argc == 2) {
        const s2_status status = s2_device_adapters_write(&device, record, sizeof record);
        return status == S2_OK ? move_record(argv[1], "wb") : refused("the record", status);
    }
    return 0;
}
