/* folder.h - a folder that appears complete or not at all. */
#ifndef OCTAVO_LLAMA_FOLDER_H
#define OCTAVO_LLAMA_FOLDER_H
#include <cjson/cJSON.h>
#include <stddef.h>
#include <stdint.h>

typedef struct lm_folder lm_folder;

/* Makes a working folder beside `out`, which must not exist yet, on a disk with `bytes` free. NULL and err on failure. */
lm_folder *lm_folder_create(const char *out, int64_t bytes, char *err, size_t errn);
const char *lm_folder_path(const lm_folder *f); /* where to write */
/* ok: syncs the folder and renames it to `out`; otherwise removes it with what it holds. Frees f. 0, or -1 and err. */
int lm_folder_finish(lm_folder *f, int ok, char *err, size_t errn);

/* Copies tokenizer, generation config and texts: *.json, *.txt, *.model, *.jinja and *.md, but not config.json and
 * not an index of weights. */
int lm_folder_copy_texts(const char *from, const char *to, char *err, size_t errn);
int lm_write_json(const char *dir, const char *name, const cJSON *o, char *err, size_t errn);
#endif
