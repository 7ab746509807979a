/* api.h - what test_api knows of an op's public interface: a good call, and every field with its bad values. */
#ifndef OCTAVO_TESTS_API_H
#define OCTAVO_TESTS_API_H
#include "octavo.h"
#include <stddef.h>
#include <stdint.h>

/* Memory of one call, all of it compared before and after a call that must change nothing. */
typedef struct api_arena {
    _Alignas(64) unsigned char at[1 << 20];
    int64_t used;
    oct_kv kv; /* a descriptor holds addresses: not compared */
} api_arena;
/* Zero-free bytes that are harmless numbers in every dtype; aligned to 64. */
void *api_mem(api_arena *m, int64_t bytes);

typedef enum api_kind {
    API_DTYPE,   /* int32: bits of `a` are the allowed values; others give DTYPE */
    API_CHOICE,  /* int32: 0 <= v < a, else VALUE; bits of b are the values not supported yet: UNSUPPORTED */
    API_FLAGS,   /* int32: bits of a are known, others give VALUE (those of b: UNSUPPORTED) */
    API_EXTENT,  /* int64: v >= a, else SHAPE; INT64_MAX must give SHAPE too where b is 1 */
    API_STRIDE,  /* int64, bad: a - 1 and everything below (but 0, and -1 where b is 1); INT64_MAX overflows. SHAPE */
    API_PTR,     /* aligned to a; NULL gives NULL where b is 1 */
    API_PTR_NOT_YET, /* anything but NULL: UNSUPPORTED */
    API_I64_NOT_YET, /* anything but 0: UNSUPPORTED */
    API_I32_NOT_YET
} api_kind;

typedef struct api_field {
    api_kind kind;
    const char *name; /* as the error text says it */
    size_t at;
    int64_t a, b;
} api_field;

typedef struct api_op {
    const char *name;
    int64_t size, on, reserved;
    oct_status (*run)(const void *args);
    oct_status (*check)(const void *args, char *why, int64_t n);
    oct_status (*choice)(const void *args, char *text, int64_t n);
    int64_t (*scratch)(const void *args);
    void (*good)(void *args, api_arena *m); /* args is zeroed; fills in a call that works, of several tasks */
    void (*more)(void);                     /* what the fields cannot say; NULL: nothing */
    const api_field *fields;
    int field_count;
} api_op;

extern const api_op api_ops[];
extern const int api_op_count;
const api_op *api_find(const char *name);

/* For `more`: args must be refused by all four entry points with this status, and the text holds op and all parts
 * (NULL ends the list); nothing is written. Pointers: 1 where only the run can know (pointers are not looked at dry). */
void api_refuse(const api_op *op, const void *args, api_arena *m, oct_status want, int pointers, const char *const *parts);
/* args must run. */
void api_accept(const api_op *op, const void *args, const char *what);
void api_expect(int ok, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
#endif
