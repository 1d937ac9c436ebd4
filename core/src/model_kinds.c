/* model_kinds.c - what a build has of networks beside fully connected layers. */
#include "model_derived.h"

#ifdef S2_WITHOUT_DERIVED
int (*const s2_derive_if_any)(const s2_derived *, uint32_t, const float *, float *) = NULL;
#else
int (*const s2_derive_if_any)(const s2_derived *, uint32_t, const float *, float *) = s2_derive;
#endif
