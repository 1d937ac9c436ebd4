/*
 * model_slots.h - where vectors wait while another branch of a network runs (model_slots.c). A build
 * without them has S2_WITHOUT_SLOTS, and refuses blocks that have such layers.
 */
#ifndef S2_MODEL_SLOTS_H
#define S2_MODEL_SLOTS_H

#include "model_layers.h"

#ifdef S2_WITHOUT_SLOTS
enum { S2_SLOTS_OF_BUILD = 1 };

static inline int s2_slots_are_sound(const s2_model *model) {
    (void)model;
    return 1;
}

static inline void s2_slots_lay_out(const s2_model *model, s2_arena *arena, float **slot) {
    (void)model;
    (void)arena;
    (void)slot;
}

static inline void s2_slots_pass(s2_layer_pass *pass, float *const *slot) {
    (void)pass;
    (void)slot;
}
#else
enum { S2_SLOTS_OF_BUILD = S2_MODEL_MAX_SLOTS };

/* Whether each layer finds slots as it needs them, and none is full at the end; of a network whose
 * layers are sound one by one. */
int s2_slots_are_sound(const s2_model *model);
/* slot (S2_MODEL_MAX_SLOTS): each with room for the widest vector that it ever has. */
void s2_slots_lay_out(const s2_model *model, s2_arena *arena, float **slot);

/* For the layers. */
static inline void s2_slots_pass(s2_layer_pass *pass, float *const *slot) {
    pass->slot = slot;
}
#endif

#endif
