/*
 * model_slots.h - where vectors wait while another branch of a network runs (model_slots.c). A build
 * without them has S2_WITHOUT_SLOTS, and refuses blocks that have such layers.
 */
#ifndef S2_MODEL_SLOTS_H
#define S2_MODEL_SLOTS_H

#include "model_layers.h"

/* slot (S2_MODEL_MAX_SLOTS): each gets room for the widest vector that it ever has. Returns whether
 * each layer finds slots as it needs them, and none is full at the end, which arena NULL asks alone;
 * of a network whose layers are sound one by one. */
int s2_slots_lay_out(const s2_model *model, s2_arena *arena, float **slot);

/* NULL where a build has none: no network that it reads has such layers then. */
extern int (*const s2_slots_if_any)(const s2_model *model, s2_arena *arena, float **slot);

#endif
