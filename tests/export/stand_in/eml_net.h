/* eml_net.h - what examples/emlearn_taps.c uses of emlearn, where that package is not there: the same
 * types, names and order of numbers. */
#ifndef EML_NET_H
#define EML_NET_H

#include <stdint.h>
#include <stdio.h>

typedef enum { EmlNetActivationIdentity = 0, EmlNetActivationRelu } EmlNetActivationFunction;
typedef enum { EmlOk = 0, EmlSizeMismatch } EmlError;

typedef struct {
    int32_t n_outputs;
    int32_t n_inputs;
    const float *weights;
    const float *biases;
    EmlNetActivationFunction activation;
} EmlNetLayer;

static EmlError eml_net_layer_forward(const EmlNetLayer *layer, const float *in, int32_t in_length,
                                      float *out, int32_t out_length) {
    if (in_length < layer->n_inputs || out_length < layer->n_outputs) {
        return EmlSizeMismatch;
    }
    for (int32_t o = 0; o < layer->n_outputs; o++) {
        float sum = 0.0f;
        for (int32_t i = 0; i < layer->n_inputs; i++) {
            sum += layer->weights[o + i * layer->n_outputs] * in[i];
        }
        sum += layer->biases[o];
        out[o] = layer->activation == EmlNetActivationRelu && sum <= 0.0f ? 0.0f : sum;
    }
    return EmlOk;
}

#endif
