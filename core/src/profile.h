/* profile.h - the marks at the end of phases and of a layer's parts; see s2_profile. */
#ifndef S2_PROFILE_H
#define S2_PROFILE_H

#include "skip2.h"

static inline void s2_mark_start(s2_profile *profile) {
    if (profile != NULL) {
        profile->last = profile->now();
    }
}

/* Here `phase` ends. */
static inline void s2_mark(s2_profile *profile, s2_phase phase) {
    if (profile != NULL) {
        const uint64_t now = profile->now();
        profile->phase[phase] += now - profile->last;
        profile->last = now;
    }
}

/* Here begins the first part, if parts are asked for: what came before is the phase's alone. */
static inline void s2_mark_parts_start(s2_profile *profile, s2_phase phase) {
    if (profile != NULL && profile->part != NULL) {
        s2_mark(profile, phase);
    }
}

/* Here a part of this layer ends, in S2_PHASE_FORWARD or S2_PHASE_BACKWARD. */
static inline void s2_mark_part(s2_profile *profile, s2_phase phase, uint32_t layer, s2_part part) {
    if (profile != NULL && profile->part != NULL) {
        const uint64_t before = profile->last;
        s2_mark(profile, phase);
        profile->part[layer][phase - S2_PHASE_FORWARD][part] += profile->last - before;
    }
}

#endif
