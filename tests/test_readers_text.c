/* test_readers_text.c - the readers of config.json and tokenizer.json, fed with hostile input; encoding of invalid
 * UTF-8; chat prompts. Like test_readers.c: a line a case, then "N passed, N failed". The ids themselves are compared
 * with the `tokenizers` package by py/test_tokenizer.py. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "llama/chat.h"
#include "llama/config.h"
#include "llama/tokenizer.h"
#include "readers.h"

/* base with the first occurrence of from replaced by to, to free. */
static char *changed(const char *base, const char *from, const char *to)
{
    const char *at = strstr(base, from);
    char *text = malloc(strlen(base) + strlen(to) + 1);
    if (text == NULL || at == NULL) {
        fprintf(stderr, "test_readers_text: %s is not in the text that a case changes\n", from);
        exit(2);
    }
    sprintf(text, "%.*s%s%s", (int)(at - base), base, to, at + strlen(from));
    return text;
}

static const char config[] =
    "{\"architectures\":[\"LlamaForCausalLM\"],\"hidden_size\":64,\"intermediate_size\":96,\"num_hidden_layers\":2,"
    "\"num_attention_heads\":4,\"num_key_value_heads\":2,\"vocab_size\":100,\"max_position_embeddings\":512,"
    "\"rms_norm_eps\":1e-5,\"rope_theta\":500000.0,\"hidden_act\":\"silu\",\"bos_token_id\":1,\"eos_token_id\":2,"
    "\"rope_scaling\":null,\"quantization_config\":null,\"tie_word_embeddings\":false}";

static int parses(lm_config *c, const char *text, size_t n, const char *generation)
{
    char *copy = exact(text, n);
    int ok = lm_config_parse(c, copy, n, generation, generation != NULL ? strlen(generation) : 0, err, sizeof err) == 0;
    free(copy);
    return ok;
}

#define COMPRESSED(strategy, dynamic)                                                                                  \
    "{\"quant_method\":\"compressed-tensors\",\"format\":\"float-quantized\",\"config_groups\":{\"group_0\":{"              \
    "\"weights\":{\"num_bits\":8,\"type\":\"float\",\"strategy\":\"" strategy "\",\"dynamic\":false},"                     \
    "\"input_activations\":{\"num_bits\":8,\"type\":\"float\",\"strategy\":\"token\",\"dynamic\":" dynamic "}}}}"

static void test_config_refusals(void)
{
    static const struct {
        const char *what, *from, *to, *wanted;
    } cases[] = {
        { "as it is", "{", "{", NULL },
        { "another architecture", "LlamaForCausalLM", "MistralForCausalLM",
          "MistralForCausalLM is not supported; LlamaForCausalLM is" },
        { "no architecture", "\"architectures\"", "\"x\"", "names no architecture" },
        { "model_type only", "\"architectures\":[\"LlamaForCausalLM\"]", "\"model_type\":\"llama\"", NULL },
        { "another model_type", "\"architectures\":[\"LlamaForCausalLM\"]", "\"model_type\":\"gpt2\"", "gpt2" },
        { "another activation", "silu", "gelu", "gelu" },
        { "no hidden_size", "\"hidden_size\"", "\"x\"", "hidden_size is missing" },
        { "hidden_size 0", "\"hidden_size\":64", "\"hidden_size\":0", "hidden_size must" },
        { "hidden_size 1e30", "\"hidden_size\":64", "\"hidden_size\":1e30", "hidden_size must" },
        { "hidden_size text", "\"hidden_size\":64", "\"hidden_size\":\"64\"", "hidden_size must" },
        { "hidden_size twice, the last counts", "\"hidden_size\":64", "\"hidden_size\":7,\"hidden_size\":64", NULL },
        { "heads 0", "heads\":4", "heads\":0", "num_attention_heads must" },
        { "heads -1", "heads\":4", "heads\":-1", "num_attention_heads must" },
        { "hidden not a multiple of heads", "\"hidden_size\":64", "\"hidden_size\":66", "not a multiple" },
        { "heads not a multiple of kv heads", "value_heads\":2", "value_heads\":3", "not a multiple" },
        { "odd head size", "\"hidden_size\":64", "\"hidden_size\":64,\"head_dim\":15", "odd" },
        { "own head size", "\"hidden_size\":64", "\"hidden_size\":66,\"head_dim\":32", NULL },
        { "layers 1.5", "layers\":2", "layers\":1.5", "num_hidden_layers must" },
        { "theta 0", "500000.0", "0", "rope_theta must" },
        { "theta NaN", "500000.0", "NaN", "not JSON" },
        { "theta infinite", "500000.0", "1e999", "rope_theta must" },
        { "eps 2", "1e-5", "2", "rms_norm_eps must" },
        { "eps true", "1e-5", "true", "rms_norm_eps must" },
        { "tied is a number", "embeddings\":false", "embeddings\":1", "true or false" },
        { "bos beyond the vocabulary", "bos_token_id\":1", "bos_token_id\":100", "bos_token_id must" },
        { "eos beyond the vocabulary", "eos_token_id\":2", "eos_token_id\":[2,100]", "eos_token_id must" },
        { "17 eos", "eos_token_id\":2", "eos_token_id\":[2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2]", "eos_token_id must" },
        { "linear rope", "scaling\":null", "scaling\":{\"type\":\"linear\",\"factor\":2}", "rope_type linear" },
        { "rope without type", "scaling\":null", "scaling\":{\"factor\":2}", "(none)" },
        { "rope is a list", "scaling\":null", "scaling\":[]", "must be an object" },
        { "llama3 rope without factor", "scaling\":null", "scaling\":{\"rope_type\":\"llama3\"}", "factor is missing" },
        { "llama3 rope, factors swapped", "scaling\":null",
          "scaling\":{\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":4,\"high_freq_factor\":1,"
          "\"original_max_position_embeddings\":8192}",
          "high_freq_factor must" },
        { "default rope", "scaling\":null", "scaling\":{\"rope_type\":\"default\"}", NULL },
        { "another quantization", "config\":null", "config\":{\"quant_method\":\"gptq\"}",
          "gptq is not supported; fbgemm_fp8" },
        { "quantization without method", "config\":null", "config\":{}", "(none)" },
        { "compressed-tensors", "config\":null", "config\":" COMPRESSED("channel", "true"), NULL },
        { "compressed-tensors, a scale a group", "config\":null", "config\":" COMPRESSED("group", "true"), "strategy channel" },
        { "compressed-tensors, static activations", "config\":null", "config\":" COMPRESSED("channel", "false"), "dynamic token" },
        { "compressed-tensors without groups", "config\":null",
          "config\":{\"quant_method\":\"compressed-tensors\",\"format\":\"float-quantized\"}", "float-quantized with" },
        { "upper bound 0", "config\":null", "config\":{\"quant_method\":\"fbgemm_fp8\",\"activation_scale_ub\":0}",
          "scale_ub must" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char what[128], *text = changed(config, cases[i].from, cases[i].to);
        lm_config c;
        snprintf(what, sizeof what, "config: %s", cases[i].what);
        int ok = parses(&c, text, strlen(text), NULL);
        check(as_wanted(ok, cases[i].wanted), what);
        free(text);
    }
    lm_config c;
    int opened = 0;
    for (size_t cut = 0; cut < sizeof config - 1; cut++) opened += parses(&c, config, cut, NULL);
    check(opened == 0, "config: truncated at every byte");
}

static void test_config_values(void)
{
    lm_config c;
    check(parses(&c, config, sizeof config - 1, "{\"eos_token_id\":[5,6],\"bos_token_id\":null}") && c.hidden == 64 &&
              c.head_dim == 16 && c.kv_heads == 2 && c.rope_theta == 500000 && c.rope == LM_ROPE_PLAIN && c.bos == 1 &&
              c.eos_count == 2 && c.eos[1] == 6 && !c.f8 && !c.tied,
          "config: values, and generation_config wins");
    check(!parses(&c, config, sizeof config - 1, "{\"eos_token_id\":[5,600]}") &&
              strstr(err, "generation_config") != NULL,
          "config: bad generation_config");
    char *text =
        changed(config, "\"rope_scaling\":null",
                "\"rope_parameters\":{\"rope_theta\":7,\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":1,"
                "\"high_freq_factor\":4,\"original_max_position_embeddings\":8192}");
    check(parses(&c, text, strlen(text), NULL) && c.rope == LM_ROPE_LLAMA3 && c.rope_theta == 7 && c.rope_factor == 8 &&
              c.rope_low_freq == 1 && c.rope_high_freq == 4 && c.rope_original_positions == 8192,
          "config: rope_parameters");
    free(text);
    text = changed(config, "config\":null",
                   "config\":{\"quant_method\":\"fbgemm_fp8\",\"modules_to_not_convert\":[\"a\",\"b\"]}");
    check(parses(&c, text, strlen(text), NULL) && c.f8 && c.activation_scale_ub == 1200,
          "config: fbgemm_fp8");
    free(text);
}

/* A tokenizer of seven one-byte tokens and two merges; the last three bytes are those of U+FFFD. */
static const char tokenizer[] =
    "{\"added_tokens\":[{\"id\":9,\"content\":\"<s>\",\"special\":true},{\"id\":10,\"content\":\"<|im_start|>\","
    "\"special\":true},"
    "{\"id\":11,\"content\":\"<|im_end|>\",\"special\":true}],\"normalizer\":null,"
    "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a|\\\\s+"
    "\"},"
    "\"behavior\":\"Isolated\",\"invert\":false},{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true}"
    "]},"
    "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\",\"type_id\":0}},"
    "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}],\"special_tokens\":{\"<s>\":{\"id\":\"<s>\",\"ids\":[9],\"tokens\":["
    "\"<s>\"]}}},"
    "\"decoder\":{\"type\":\"ByteLevel\"},\"model\":{\"type\":\"BPE\",\"dropout\":null,\"vocab\":{\"a\":0,\"b\":1,"
    "\"c\":2,"
    "\"\xc4\xa0\":3,\"\xc3\xaf\":4,\"\xc2\xbf\":5,\"\xc2\xbd\":6,\"bc\":7,\"\xc3\xaf\xc2\xbf\":8},"
    "\"merges\":[\"b c\",[\"\xc3\xaf\",\"\xc2\xbf\"]]}}";

static lm_tokenizer *open_tokenizer(const char *text, size_t n)
{
    char *copy = exact(text, n);
    lm_tokenizer *tk = lm_tokenizer_open_mem(copy, n, "tokenizer.json", err, sizeof err);
    free(copy);
    return tk;
}

static void test_tokenizer_refusals(void)
{
    static const struct {
        const char *what, *from, *to, *wanted;
    } cases[] = {
        { "as it is", "{", "{", NULL },
        { "another model", "\"BPE\"", "\"Unigram\"", "Unigram" },
        { "no vocab", "\"vocab\"", "\"x\"", "no vocab" },
        { "no merges", "\"merges\"", "\"x\"", "no merges" },
        { "normalizer NFC", "normalizer\":null", "normalizer\":{\"type\":\"NFC\"}", "NFC" },
        { "empty normalizer", "normalizer\":null", "normalizer\":{\"type\":\"Sequence\",\"normalizers\":[]}", NULL },
        { "another decoder", "decoder\":{\"type\":\"ByteLevel\"", "decoder\":{\"type\":\"WordPiece\"", "WordPiece" },
        { "byte_fallback", "\"dropout\":null", "\"byte_fallback\":true", "byte_fallback" },
        { "dropout", "\"dropout\":null", "\"dropout\":0.1", "dropout" },
        { "id twice", "\"b\":1", "\"b\":0", "twice" },
        { "token twice", "\"b\":1", "\"a\":1", "twice" },
        { "id negative", "\"b\":1", "\"b\":-1", "no whole number" },
        { "id huge", "\"b\":1", "\"b\":4194304", "no whole number" },
        { "id is text", "\"b\":1", "\"b\":\"1\"", "no whole number" },
        { "ids with holes", "\"a\":0", "\"a\":4000000", NULL },
        { "merge of an unknown token", "b c", "b d", "lacks" },
        { "merge to an unknown token", "b c", "c b", "lacks" },
        { "merge without a space", "b c", "bc", "neither" },
        { "merge with two spaces", "b c", "b c ", "neither" },
        { "merge is a number", "\"b c\"", "1", "neither" },
        { "merge is a list of one", "\"b c\"", "[\"b\"]", "neither" },
        { "added id taken", "\"id\":9,", "\"id\":0,", "taken" },
        { "added without id", "\"id\":9,", "", "added token" },
        { "added is a number", "{\"id\":9,\"content\":\"<s>\",\"special\":true}", "9", "added token" },
        { "added in the vocab, its id wins", "\"<|im_end|>\"", "\"a\"", NULL },
        { "empty pre-tokenizers", "\"pretokenizers\":[", "\"pretokenizers\":[],\"x\":[", "empty" },
        { "another pre-tokenizer", "\"Split\"", "\"Whitespace\"", "Whitespace" },
        { "another behavior", "Isolated", "Removed", "Removed" },
        { "inverted", "invert\":false", "invert\":true", "inverted" },
        { "pattern malformed", "a|", "(a|", "pattern" },
        { "pattern with \\\\K", "a|", "a\\\\Kb|", "escape" },
        { "pattern with \\\\w", "a|", "\\\\w|", "escape" },
        { "pattern with a verb", "a|", "(*SKIP)|", "not supported" },
        { "pattern with recursion", "a|", "(?R)|", "group" },
        { "pattern with a callout", "a|", "(?C)|", "group" },
        { "pattern matches nothing", "a|", "|", NULL },
        { "pattern not UTF-8", "a|", "\xff|", "pattern" },
        { "pattern is a string", "{\"Regex\":\"a|\\\\s+\"}", "{\"String\":\"(a\"}", NULL },
        { "another post-processor", "TemplateProcessing", "BertProcessing", "BertProcessing" },
        { "template with an unknown token", "\"SpecialToken\":{\"id\":\"<s>\"", "\"SpecialToken\":{\"id\":\"<t>\"",
          "no ids" },
        { "template id beyond the vocabulary", "\"ids\":[9]", "\"ids\":[12]", "outside" },
        { "template without text", "{\"Sequence\":{", "{\"SpecialToken\":{\"id\":\"<s>\"},\"x\":{",
          "without the text" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char what[128], *text = changed(tokenizer, cases[i].from, cases[i].to);
        snprintf(what, sizeof what, "tokenizer: %s", cases[i].what);
        lm_tokenizer *tk = open_tokenizer(text, strlen(text));
        int32_t *ids = NULL;
        size_t n;
        int ok = tk != NULL && lm_tokenizer_encode(tk, "xaab bc <s>", 11, 1, &ids, &n, err, sizeof err) == 0;
        check(as_wanted(ok, cases[i].wanted), what);
        free(ids);
        lm_tokenizer_close(tk);
        free(text);
    }
    int opened = 0;
    for (size_t cut = 0; cut < sizeof tokenizer - 1; cut++) {
        lm_tokenizer *tk = open_tokenizer(tokenizer, cut);
        opened += tk != NULL;
        lm_tokenizer_close(tk);
    }
    check(opened == 0, "tokenizer: truncated at every byte");
}

/* 1 when the text gives the ids, which are written as digits: "078" is {0, 7, 8}. */
static int gives(const lm_tokenizer *tk, const char *text, size_t n, int add_special, const char *want)
{
    int32_t *ids;
    size_t count;
    char *copy = exact(text, n);
    int ok = lm_tokenizer_encode(tk, copy, n, add_special, &ids, &count, err, sizeof err) == 0 && count == strlen(want);
    for (size_t i = 0; ok && i < count; i++) ok = ids[i] == want[i] - '0';
    free(ids);
    free(copy);
    return ok;
}

static void test_encoding(const lm_tokenizer *tk)
{
    static const struct {
        const char *what, *text, *ids; /* 86 is U+FFFD */
    } cases[] = {
        { "empty", "", "" },
        { "merge", "abc", "07" },
        { "words", "a bc", "037" },
        { "bytes without a token are dropped", "xay", "0" },
        { "special", "a<s>a", "090" },
        { "special, cut short", "<s", "" },
        { "lone continuation", "a\x80", "086" },
        { "lead byte at the end", "a\xe2", "086" },
        { "two of three bytes", "a\xe2\x82", "086" },
        { "two of three bytes, then text", "\xe2\x82\x61", "860" },
        { "three of four bytes", "\xf0\x9f\x98\x61", "860" },
        { "surrogate is three", "\xed\xa0\x80", "868686" },
        { "overlong is two", "\xc0\xaf", "8686" },
        { "overlong of three is three", "\xe0\x80\x80", "868686" },
        { "beyond U+10FFFF is four", "\xf4\x90\x80\x80", "86868686" },
        { "0xff", "\xff\xff", "8686" },
        { "U+FFFD itself", "\xef\xbf\xbd", "86" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char what[128];
        snprintf(what, sizeof what, "encode: %s", cases[i].what);
        check(gives(tk, cases[i].text, strlen(cases[i].text), 0, cases[i].ids), what);
    }
    check(gives(tk, "a\0a", 3, 0, "00"), "encode: NUL");
    check(gives(tk, "a", 1, 1, "90") && gives(tk, "", 0, 1, "9"), "encode: beginning of text");
    int32_t ids[] = { 9, 0, 7, 1000, -1 };
    char *text;
    size_t n;
    check(lm_tokenizer_decode(tk, ids, 5, 0, &text, &n) == 0 && n == 6 && strcmp(text, "<s>abc") == 0, "decode");
    free(text);
    check(lm_tokenizer_decode(tk, ids, 5, 1, &text, &n) == 0 && strcmp(text, "abc") == 0,
          "decode: without special tokens");
    free(text);
}

enum { LONG_TEXT = 1000000 };

/* A thread's work: one long word, which is quick only if merging is. Returns NULL when all is right. */
static void *encode_long(void *tokenizer_to_use)
{
    const lm_tokenizer *tk = tokenizer_to_use;
    char *text = malloc(LONG_TEXT), why[128];
    int32_t *ids = NULL;
    size_t n = 0;
    if (text == NULL) return tokenizer_to_use;
    for (int i = 0; i < LONG_TEXT; i++) text[i] = "bc"[i % 2];
    int ok = lm_tokenizer_encode(tk, text, LONG_TEXT, 0, &ids, &n, why, sizeof why) == 0 && n == LONG_TEXT / 2;
    for (size_t i = 0; ok && i < n; i++) ok = ids[i] == 7;
    free(ids);
    free(text);
    return ok ? NULL : tokenizer_to_use;
}

static void test_threads(lm_tokenizer *tk)
{
    pthread_t threads[4];
    int ok = 1;
    for (int i = 0; i < 4; i++)
        if (pthread_create(&threads[i], NULL, encode_long, tk) != 0) exit(2);
    for (int i = 0; i < 4; i++) {
        void *bad;
        pthread_join(threads[i], &bad);
        ok &= bad == NULL;
    }
    check(ok, "encode: a word of 1000000 letters, in four threads at once");
}

static void test_chat(const lm_tokenizer *tk)
{
    lm_chat_message hello[] = { { "system", "Be brief." }, { "user", "  Hi \n" } };
    char *text;
    check(lm_chat_find(tk) == LM_CHAT_CHATML, "chat: form by the tokens");
    check(lm_chat_prompt(LM_CHAT_CHATML, NULL, hello, 2, &text, err, sizeof err) == 0 &&
              strcmp(text, "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n  Hi "
                           "\n<|im_end|>\n<|im_start|>assistant\n") == 0,
          "chat: ChatML");
    free(text);
    check(lm_chat_prompt(LM_CHAT_CHATML, "... named SmolLM, trained ...", hello + 1, 1, &text, err, sizeof err) == 0 &&
              strncmp(text, "<|im_start|>user\n", 17) == 0,
          "chat: no default system message");
    free(text);
    check(lm_chat_prompt(LM_CHAT_CHATML, "{'You are a helpful AI assistant named SmolLM, trained by Hugging Face'}",
                         hello + 1, 1, &text, err, sizeof err) == 0 &&
              strstr(text, "system\nYou are a helpful AI") != NULL,
          "chat: the template's default system message");
    free(text);
    check(lm_chat_prompt(LM_CHAT_LLAMA3, NULL, hello + 1, 1, &text, err, sizeof err) == 0 &&
              strcmp(text, "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
                           "<|start_header_id|>assistant<|end_header_id|>\n\n") == 0,
          "chat: Llama 3");
    free(text);
    check(lm_chat_prompt(LM_CHAT_LLAMA3, "Cutting Knowledge Date: December 2023", hello, 2, &text, err, sizeof err) ==
                  0 &&
              strstr(text,
                     "system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"
                     "Be brief.<|eot_id|>") != NULL,
          "chat: Llama 3.1");
    free(text);
    hello[0].role = "tool";
    check(lm_chat_prompt(LM_CHAT_LLAMA3, NULL, hello, 2, &text, err, sizeof err) != 0 && strstr(err, "tool") != NULL,
          "chat: role");
}

int main(void)
{
    test_config_refusals();
    test_config_values();
    test_tokenizer_refusals();
    lm_tokenizer *tk = open_tokenizer(tokenizer, sizeof tokenizer - 1);
    if (tk == NULL) {
        fprintf(stderr, "test_readers_text: %s\n", err);
        return 1;
    }
    test_encoding(tk);
    test_threads(tk);
    test_chat(tk);
    lm_tokenizer_close(tk);
    printf("%d passed, %d failed\n", passed, failed);
    return failed > 0;
}
