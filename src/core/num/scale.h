/* scale.h - the rules of octavo.h: from amax to the scale that is stored and the factor that makes the codes. Every
 * line is one f32 operation. */
#ifndef OCTAVO_CORE_NUM_SCALE_H
#define OCTAVO_CORE_NUM_SCALE_H
#include "core/num/f8.h"
#include "octavo.h"
#include <math.h>

#define OCT_SCALE_MIN (1.0f / (OCT_F8E4M3FN_MAX * 512.0f))
#define OCT_AMAX_MIN 1e-12f

/* *factor: MIN: code = sat(x / factor); EPS: code = sat(x * factor). */
static inline float oct_scale_of(int32_t rule, float amax, float ub, float *factor)
{
    if (ub == ub && ub < amax) amax = ub;
    if (rule == OCT_RULE_MIN) {
        const float s = amax / OCT_F8E4M3FN_MAX;
        return *factor = s > OCT_SCALE_MIN ? s : OCT_SCALE_MIN;
    }
    *factor = OCT_F8E4M3FN_MAX / (amax > OCT_AMAX_MIN ? amax : OCT_AMAX_MIN);
    return 1.0f / *factor;
}
#endif
