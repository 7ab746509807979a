/* tokenizer.h - text to token ids and back, as the `tokenizers` package does it for byte-level BPE.
 *
 * Reads tokenizer.json. Supported: model BPE; no normalizer; pre-tokenizer ByteLevel, or a Sequence of Split
 * (Isolated), Digits and a final ByteLevel (GPT-2, SmolLM, Llama 3); added tokens with lstrip, rstrip, single_word
 * and normalized; post-processor TemplateProcessing or ByteLevel; decoder ByteLevel. Anything else is refused by
 * name when the file is opened.
 *
 * Text is UTF-8. Each maximal invalid sequence of bytes counts as one U+FFFD, as in Python's
 * bytes.decode("utf-8", errors="replace"). NUL is a character like others.
 *
 * After opening, every function may be called from several threads at once.
 */
#ifndef OCTAVO_LLAMA_TOKENIZER_H
#define OCTAVO_LLAMA_TOKENIZER_H

#include <stddef.h>
#include <stdint.h>

typedef struct lm_tokenizer lm_tokenizer;

/* path is the tokenizer.json itself. NULL and err on failure. */
lm_tokenizer *lm_tokenizer_open(const char *path, char *err, size_t errn);

/* The same from n bytes in memory, which are not kept; what names them in messages. */
lm_tokenizer *lm_tokenizer_open_mem(const char *json, size_t n, const char *what, char *err, size_t errn);

void lm_tokenizer_close(lm_tokenizer *tk); /* NULL is allowed */

/* One more than the largest id. */
int64_t lm_tokenizer_size(const lm_tokenizer *tk);

/* Encodes n bytes of text. *ids is for the caller to free; it is allocated even when *count is 0. add_special: the
 * post-processor's tokens, such as Llama 3's <|begin_of_text|>, are put around. Added tokens, special ones
 * included, are recognised in the text. 0, or -1 and err. */
int lm_tokenizer_encode(const lm_tokenizer *tk, const char *text, size_t n, int add_special, int32_t **ids,
                        size_t *count, char *err, size_t errn);

/* The bytes that one id stands for, for streaming: a character may be spread over several ids, so only the
 * concatenation is UTF-8. An id that the vocabulary lacks has none. */
const char *lm_tokenizer_bytes(const lm_tokenizer *tk, int32_t id, size_t *n);

/* All bytes of count ids; *text is for the caller to free and has a NUL behind its *n bytes. skip_special leaves
 * special tokens out. 0, or -1 when memory is out. */
int lm_tokenizer_decode(const lm_tokenizer *tk, const int32_t *ids, size_t count, int skip_special, char **text,
                        size_t *n);

/* The id of a token by its text as tokenizer.json spells it, such as "<|im_end|>"; -1 when there is none. */
int32_t lm_tokenizer_find(const lm_tokenizer *tk, const char *token);

/* That text; NULL when the id is unused. */
const char *lm_tokenizer_token(const lm_tokenizer *tk, int32_t id);

/* 1 when the id is a special added token. */
int lm_tokenizer_is_special(const lm_tokenizer *tk, int32_t id);

#endif
