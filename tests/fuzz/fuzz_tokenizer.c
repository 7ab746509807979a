/* fuzz_tokenizer.c - libFuzzer target. Two kinds of input:
 * a NUL, then text for a fixed tokenizer with Llama 3's pattern, whose ids must give the text back;
 * a tokenizer.json; behind a NUL there may be a text. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "llama/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* Every byte is a token, and so are some pairs. */
static lm_tokenizer *fixed_tokenizer(void)
{
    static const char head[] =
        "{\"added_tokens\":[{\"id\":300,\"content\":\"<s>\",\"special\":true},{\"id\":301,\"content\":\"<l>\","
        "\"lstrip\":true},"
        "{\"id\":302,\"content\":\"ab\",\"single_word\":true,\"rstrip\":true}],"
        "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"behavior\":\"Isolated\","
        "\"pattern\":"
        "{\"Regex\":\"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}{1,3}| "
        "?[^\\\\s\\\\p{L}\\\\p{N}]+"
        "[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+\"}},{\"type\":\"ByteLevel\",\"use_regex\":false,"
        "\"add_prefix_space\":false}]},\"decoder\":{\"type\":\"ByteLevel\"},\"model\":{\"type\":\"BPE\",\"ignore_"
        "merges\":true,"
        "\"merges\":[\"a a\",\"aa a\",\"a b\",\"\xc4\xa0 a\"],\"vocab\":{\"aa\":256,\"aaa\":257,\"ab\":258,\"\xc4\xa0"
        "a\":259";
    char *text = NULL, err[256];
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    if (f == NULL) abort();
    fputs(head, f);
    for (unsigned byte = 0, next = 256; byte < 256; byte++) {
        int shown = (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte != 0xad); /* GPT-2's alphabet */
        fprintf(f, ",\"\\u%04x\":%u", shown ? byte : next, byte);
        next += !shown;
    }
    fputs("}}}", f);
    fclose(f);
    lm_tokenizer *tk = lm_tokenizer_open_mem(text, n, "fuzz", err, sizeof err);
    if (tk == NULL) {
        fprintf(stderr, "fuzz_tokenizer: %s\n", err);
        abort();
    }
    free(text);
    return tk;
}

/* Encodes and decodes; same: the text must come back, unless it was repaired or an added token took spaces in. */
static void there_and_back(const lm_tokenizer *tk, const char *text, size_t n, int same)
{
    char err[256], *back;
    int32_t *ids;
    size_t count, back_n;
    if (lm_tokenizer_encode(tk, text, n, 1, &ids, &count, err, sizeof err) != 0) return;
    if (lm_tokenizer_decode(tk, ids, count, 0, &back, &back_n) != 0) abort();
    for (size_t i = 0; i < n; i++) same &= (unsigned char)text[i] < 0x80 && text[i] != '<' && text[i] != 'b';
    if (same && (back_n != n || memcmp(back, text, n) != 0)) abort();
    free(ids);
    free(back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static lm_tokenizer *fixed;
    char err[256];
    if (fixed == NULL) fixed = fixed_tokenizer();
    const char *json = (const char *)data, *text = n > 0 ? memchr(json, 0, n) : NULL;
    size_t json_n = text != NULL ? (size_t)(text - json) : n;
    text = text != NULL ? text + 1 : "";
    size_t text_n = json_n < n ? n - json_n - 1 : 0;
    if (json_n == 0 && n > 0) {
        there_and_back(fixed, text, text_n, 1);
        return 0;
    }
    lm_tokenizer *tk = lm_tokenizer_open_mem(json, json_n, "fuzz", err, sizeof err);
    if (tk != NULL) {
        there_and_back(tk, text, text_n, 0);
        there_and_back(tk, "a<s> 12\xff\xe2\x82", 10, 0);
    }
    lm_tokenizer_close(tk);
    return 0;
}
