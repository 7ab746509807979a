/* error.c - status codes, dtypes and the thread's last error in words. */
#include "core/core.h"
#include <stdarg.h>
#include <stdio.h>

static _Thread_local char text[512];

oct_status oct_fail(oct_status s, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return s;
}

const char *oct_error_text(void) { return text; }

const char *oct_version(void) { return OCT_VERSION; }

const char *oct_status_str(oct_status s)
{
    switch (s) {
    case OCT_OK:            return "ok";
    case OCT_E_NULL:        return "null pointer";
    case OCT_E_SHAPE:       return "bad shape or stride";
    case OCT_E_DTYPE:       return "bad dtype";
    case OCT_E_ALIGN:       return "misaligned pointer";
    case OCT_E_UNSUPPORTED: return "not supported";
    case OCT_E_DEVICE:      return "device error";
    case OCT_E_SCRATCH:     return "scratch missing or too small";
    case OCT_E_VALUE:       return "bad value";
    }
    return "unknown status";
}

static const struct { const char *name; int32_t bits; } dtypes[] = {
    [OCT_F32] = { "f32", 32 },       [OCT_F16] = { "f16", 16 },         [OCT_BF16] = { "bf16", 16 },
    [OCT_F8E4M3FN] = { "f8e4m3fn", 8 }, [OCT_F8E4M3FNUZ] = { "f8e4m3fnuz", 8 }, [OCT_F8E5M2] = { "f8e5m2", 8 },
    [OCT_F8E5M2FNUZ] = { "f8e5m2fnuz", 8 }, [OCT_F8E8M0FNU] = { "f8e8m0fnu", 8 }, [OCT_F4E2M1FN] = { "f4e2m1fn", 4 },
    [OCT_I8] = { "i8", 8 },          [OCT_I4] = { "i4", 4 },            [OCT_U8] = { "u8", 8 },
    [OCT_I32] = { "i32", 32 },
};

static int known(int32_t d) { return d >= 0 && d < (int32_t)(sizeof dtypes / sizeof *dtypes) && dtypes[d].name; }
const char *oct_dtype_str(int32_t d) { return known(d) ? dtypes[d].name : "?"; }
int32_t oct_dtype_bits(int32_t d) { return known(d) ? dtypes[d].bits : 0; }
