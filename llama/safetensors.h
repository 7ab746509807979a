/* safetensors.h - the weights of a Hugging Face model folder: read by mmap, and written as a stream.
 *
 * A safetensors file is: 8 bytes little-endian header length, that many bytes of JSON
 * {"name": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [begin, end]}, ...}, then the data, without holes.
 * Nothing in a file is believed: lengths, offsets, shapes and names are all checked before the first use.
 */
#ifndef OCTAVO_LLAMA_SAFETENSORS_H
#define OCTAVO_LLAMA_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#define LM_MAX_RANK 8

/* Every dtype that the format names. lm_dtype_name and lm_dtype_bits describe one. */
typedef enum {
    LM_BOOL,
    LM_U8,
    LM_I8,
    LM_I16,
    LM_U16,
    LM_I32,
    LM_U32,
    LM_I64,
    LM_U64,
    LM_F64,
    LM_F32,
    LM_F16,
    LM_BF16,
    LM_C64,
    LM_F8_E4M3,
    LM_F8_E5M2,
    LM_F8_E8M0,
    LM_F8_E4M3FNUZ,
    LM_F8_E5M2FNUZ,
    LM_F6_E2M3,
    LM_F6_E3M2,
    LM_F4,
    LM_DTYPES
} lm_dtype;

typedef struct {
    const char *name;
    lm_dtype dtype;
    int rank;                   /* 0 is a scalar */
    int64_t shape[LM_MAX_RANK]; /* row-major; entries from rank on are 0 */
    const void *data;           /* bytes bytes, aligned to the element, read-only, until lm_tensors_close */
    int64_t bytes;
    const char *file; /* the file's path, for messages */
} lm_tensor;

typedef struct lm_tensors lm_tensors;

const char *lm_dtype_name(lm_dtype dtype); /* "BF16" */
int lm_dtype_bits(lm_dtype dtype);         /* 16 */
lm_dtype lm_dtype_find(const char *name);  /* LM_DTYPES when there is none of that name */

/* Elements of a shape, or -1 when an extent is negative or the product leaves int64_t. */
int64_t lm_shape_count(const int64_t *shape, int rank);

/* Opens DIR/model.safetensors, or else the shards that DIR/model.safetensors.index.json names. NULL and err on
 * failure. The files are mapped, so opening costs no memory; if someone truncates one while it is open, touching
 * the lost part raises SIGBUS. A file whose tensors do not lie at multiples of their element size (some writers
 * do not pad the header) is read into memory instead. Thread-safe after opening. */
lm_tensors *lm_tensors_open(const char *dir, char *err, size_t errn);

/* The same for the bytes of one file, which the caller keeps alive; name stands for its path in messages. */
lm_tensors *lm_tensors_open_mem(const void *bytes, size_t n, const char *name, char *err, size_t errn);

void lm_tensors_close(lm_tensors *t); /* NULL is allowed */

int64_t lm_tensors_count(const lm_tensors *t);
const lm_tensor *lm_tensors_at(const lm_tensors *t, int64_t i);          /* i-th in order of the names */
const lm_tensor *lm_tensors_find(const lm_tensors *t, const char *name); /* NULL when there is none */

/* Gives the tensor's pages back, so that one who reads tensor after tensor needs memory for one only. It may be
 * read again later. */
void lm_tensors_release(const lm_tensors *t, const lm_tensor *tensor);

/* The writer. All tensors are declared first (name, dtype, rank and shape of each entry; the rest is ignored) and
 * the header is written at once; then the data of any tensor is appended in pieces, tensors in any order. In the
 * file, larger elements come first, so that every tensor is aligned. The path is created or overwritten; make the
 * result appear atomically by writing into a temporary folder and renaming that.
 * All return 0, or -1 and err; after an error only lm_writer_abort is of use. */
typedef struct lm_writer lm_writer;

lm_writer *lm_writer_open(const char *path, const lm_tensor *list, int64_t count, char *err, size_t errn);
int lm_writer_append(lm_writer *w, int64_t i, const void *data, int64_t bytes, char *err, size_t errn);

/* Checks that every tensor is complete, syncs to the disk and closes; frees w in any case. */
int lm_writer_close(lm_writer *w, char *err, size_t errn);

/* Closes and deletes the unfinished file. NULL is allowed. */
void lm_writer_abort(lm_writer *w);

#endif
