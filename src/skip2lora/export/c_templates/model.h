/* model.h - the frozen network, in flash: @SUMMARY@ (docs/c-blob.md of skip2lora has the format). */
#ifndef S2_MODEL_H
#define S2_MODEL_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

extern const uint32_t s2_model_words[@MODEL_WORDS@];

#ifdef __cplusplus
}
#endif
#endif
