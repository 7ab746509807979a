/* config.c - see config.h. Whatever a model could want that the decoder does not do is refused here, by name. */
#include "config.h"

#include <float.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"

#define MAX_CONFIG 16000000

/* What is being read, and where its error goes. */
typedef struct {
    const cJSON *top;
    const char *what;
    char *err;
    size_t errn;
} reader;

/* A whole number in [low, high]; fallback < 0 means that it must be there. */
static int whole(const reader *r, const cJSON *o, const char *key, int64_t low, int64_t high, int64_t fallback,
                 int64_t *out)
{
    const cJSON *v = lm_json_get(o, key);
    if (v == NULL && fallback >= 0) {
        *out = fallback;
        return 0;
    }
    if (v == NULL) return lm_fail(r->err, r->errn, "%s: %s is missing", r->what, key);
    *out = lm_json_whole(v);
    if (*out < low || *out > high)
        return lm_fail(r->err, r->errn, "%s: %s must be a whole number from %lld to %lld", r->what, key, (long long)low,
                       (long long)high);
    return 0;
}

/* A number in [low, high]; NULL fallback means that it must be there. */
static int real(const reader *r, const cJSON *o, const char *key, double low, double high, const double *fallback,
                double *out)
{
    const cJSON *v = lm_json_get(o, key);
    if (v == NULL && fallback != NULL) {
        *out = *fallback;
        return 0;
    }
    if (v == NULL) return lm_fail(r->err, r->errn, "%s: %s is missing", r->what, key);
    *out = cJSON_IsNumber(v) ? v->valuedouble : -1;
    if (!(*out >= low && *out <= high))
        return lm_fail(r->err, r->errn, "%s: %s must be a number from %g to %g", r->what, key, low, high);
    return 0;
}

static int flag(const reader *r, const char *key, int fallback, int *out)
{
    const cJSON *v = lm_json_get(r->top, key);
    if (v != NULL && !cJSON_IsBool(v)) return lm_fail(r->err, r->errn, "%s: %s must be true or false", r->what, key);
    *out = lm_json_true(r->top, key, fallback);
    return 0;
}

static int check_architecture(const reader *r)
{
    const cJSON *list = lm_json_get(r->top, "architectures"), *first = cJSON_IsArray(list) ? list->child : NULL;
    const char *name = cJSON_IsString(first) ? first->valuestring : NULL, *type = lm_json_text(r->top, "model_type");
    if (name == NULL && type == NULL)
        return lm_fail(r->err, r->errn, "%s: names no architecture; LlamaForCausalLM is supported", r->what);
    if (name != NULL ? strcmp(name, "LlamaForCausalLM") != 0 : strcmp(type, "llama") != 0)
        return lm_fail(r->err, r->errn, "%s: architecture %.100s is not supported; LlamaForCausalLM is", r->what,
                       name != NULL ? name : type);
    const char *act = lm_json_text(r->top, "hidden_act");
    if (act != NULL && strcmp(act, "silu") != 0)
        return lm_fail(r->err, r->errn, "%s: hidden_act %.100s is not supported; silu is", r->what, act);
    return 0;
}

static int read_shapes(const reader *r, lm_config *c)
{
    const cJSON *o = r->top;
    if (whole(r, o, "hidden_size", 1, 1 << 20, -1, &c->hidden) ||
        whole(r, o, "intermediate_size", 1, 1 << 22, -1, &c->intermediate) ||
        whole(r, o, "num_hidden_layers", 1, 4096, -1, &c->layers) ||
        whole(r, o, "num_attention_heads", 1, 1 << 16, -1, &c->heads) ||
        whole(r, o, "num_key_value_heads", 1, 1 << 16, c->heads, &c->kv_heads) ||
        whole(r, o, "head_dim", 2, 1 << 14, c->hidden / c->heads, &c->head_dim) ||
        whole(r, o, "vocab_size", 1, 1 << 24, -1, &c->vocab) ||
        whole(r, o, "max_position_embeddings", 1, 1 << 30, 2048, &c->max_positions))
        return -1;
    if (lm_json_get(o, "head_dim") == NULL && c->hidden % c->heads != 0)
        return lm_fail(r->err, r->errn, "%s: hidden_size %lld is not a multiple of num_attention_heads %lld", r->what,
                       (long long)c->hidden, (long long)c->heads);
    if (c->heads % c->kv_heads != 0)
        return lm_fail(r->err, r->errn, "%s: num_attention_heads %lld is not a multiple of num_key_value_heads %lld",
                       r->what, (long long)c->heads, (long long)c->kv_heads);
    if (c->head_dim < 2 || c->head_dim % 2 != 0)
        return lm_fail(r->err, r->errn, "%s: head_dim %lld is odd; rotary embedding needs pairs", r->what,
                       (long long)c->head_dim);
    return 0;
}

/* Both spellings: rope_theta and rope_scaling beside each other, or one rope_parameters object with both. */
static int read_rope(const reader *r, lm_config *c)
{
    static const double theta = 10000;
    const cJSON *both = lm_json_get(r->top, "rope_parameters"), *s = both;
    if (both == NULL) s = lm_json_get(r->top, "rope_scaling");
    if (s != NULL && !cJSON_IsObject(s))
        return lm_fail(r->err, r->errn, "%s: rope_scaling or rope_parameters must be an object", r->what);
    const cJSON *home = lm_json_get(both, "rope_theta") != NULL ? both : r->top;
    if (real(r, home, "rope_theta", 1, 1e12, &theta, &c->rope_theta)) return -1;
    const char *type = lm_json_text(s, "rope_type");
    if (type == NULL) type = lm_json_text(s, "type");
    if (s == NULL || (type == NULL && both != NULL) || (type != NULL && strcmp(type, "default") == 0)) return 0;
    if (type == NULL || strcmp(type, "llama3") != 0)
        return lm_fail(r->err, r->errn, "%s: rope_type %.100s is not supported; default and llama3 are", r->what,
                       type != NULL ? type : "(none)");
    c->rope = LM_ROPE_LLAMA3;
    if (real(r, s, "factor", 1, 1e6, NULL, &c->rope_factor) ||
        real(r, s, "low_freq_factor", 1e-3, 1e6, NULL, &c->rope_low_freq) ||
        real(r, s, "high_freq_factor", 1e-3, 1e6, NULL, &c->rope_high_freq) ||
        whole(r, s, "original_max_position_embeddings", 1, 1 << 30, -1, &c->rope_original_positions))
        return -1;
    if (c->rope_high_freq <= c->rope_low_freq)
        return lm_fail(r->err, r->errn, "%s: high_freq_factor must be above low_freq_factor", r->what);
    return 0;
}

/* Whether compressed-tensors means what octavo does: weights with a scale a row, activations quantized token by token. */
static int is_rowwise(const cJSON *q)
{
    const cJSON *groups = lm_json_get(q, "config_groups"), *group = cJSON_IsObject(groups) ? groups->child : NULL;
    const char *format = lm_json_text(q, "format");
    static const char *const parts[] = { "weights", "input_activations" }, *const strategies[] = { "channel", "token" };
    if (group == NULL || group->next != NULL || format == NULL || strcmp(format, "float-quantized") != 0) return 0;
    for (int i = 0; i < 2; i++) {
        const cJSON *part = lm_json_get(group, parts[i]);
        const char *type = lm_json_text(part, "type"), *strategy = lm_json_text(part, "strategy");
        if (type == NULL || strcmp(type, "float") != 0 || strategy == NULL || strcmp(strategy, strategies[i]) != 0 ||
            lm_json_whole(lm_json_get(part, "num_bits")) != 8 || lm_json_true(part, "dynamic", 0) != i)
            return 0;
    }
    return 1;
}

static int read_quantization(const reader *r, lm_config *c)
{
    static const double ub = 1200;
    const cJSON *q = lm_json_get(r->top, "quantization_config");
    if (q == NULL) return 0;
    const char *method = lm_json_text(q, "quant_method");
    c->f8 = 1; /* of which linears, their tensors say: modules_to_not_convert and ignore are not needed */
    if (method != NULL && strcmp(method, "compressed-tensors") == 0) {
        if (!is_rowwise(q))
            return lm_fail(r->err, r->errn, "%s: of compressed-tensors, float-quantized with 8 bits, strategy channel for weights and dynamic "
                           "token for activations is supported", r->what);
        c->activation_scale_ub = FLT_MAX; /* none */
        return 0;
    }
    if (method == NULL || strcmp(method, "fbgemm_fp8") != 0)
        return lm_fail(r->err, r->errn, "%s: quant_method %.100s is not supported; fbgemm_fp8 and compressed-tensors are, and no quantization",
                       r->what, method != NULL ? method : "(none)");
    return real(r, q, "activation_scale_ub", 1e-12, 1e30, &ub, &c->activation_scale_ub) ? -1 : 0;
}

/* bos_token_id and eos_token_id (a number or a list) of either file; what is absent stays as it is. */
static int read_ends(const reader *r, lm_config *c)
{
    const cJSON *bos = lm_json_get(r->top, "bos_token_id"), *eos = lm_json_get(r->top, "eos_token_id");
    int is_list = cJSON_IsArray(eos);
    if (bos != NULL && whole(r, r->top, "bos_token_id", 0, c->vocab - 1, -1, &c->bos)) return -1;
    if (eos == NULL) return 0;
    c->eos_count = 0;
    for (const cJSON *v = is_list ? eos->child : eos; v != NULL; v = is_list ? v->next : NULL) {
        int64_t id = lm_json_whole(v);
        if (id < 0 || id >= c->vocab || c->eos_count == LM_MAX_EOS)
            return lm_fail(r->err, r->errn, "%s: eos_token_id must be one or up to %d ids below vocab_size %lld",
                           r->what, LM_MAX_EOS, (long long)c->vocab);
        c->eos[c->eos_count++] = id;
    }
    return 0;
}

static int parse_config(const reader *r, lm_config *c)
{
    static const double eps = 1e-6;
    if (check_architecture(r) || read_shapes(r, c) || real(r, r->top, "rms_norm_eps", 0, 1, &eps, &c->rms_eps) ||
        read_rope(r, c) || flag(r, "tie_word_embeddings", 0, &c->tied) ||
        flag(r, "attention_bias", 0, &c->attention_bias) || flag(r, "mlp_bias", 0, &c->mlp_bias) ||
        read_quantization(r, c))
        return -1;
    return read_ends(r, c);
}

/* Parses one of the two files and hands it to read. */
static int with_json(lm_config *c, const char *text, size_t n, const char *what,
                     int (*read)(const reader *, lm_config *), char *err, size_t errn)
{
    cJSON *top = lm_json_parse(text, n, what, err, errn);
    if (top == NULL) return -1;
    reader r = { top, what, err, errn };
    int bad = read(&r, c);
    cJSON_Delete(top);
    return bad;
}

/* Both texts; names for messages. */
static int parse_both(lm_config *c, const char *config, size_t n, const char *what, const char *generation,
                      size_t generation_n, const char *generation_what, char *err, size_t errn)
{
    memset(c, 0, sizeof *c);
    c->bos = -1;
    int bad = with_json(c, config, n, what, parse_config, err, errn);
    if (!bad && generation != NULL) bad = with_json(c, generation, generation_n, generation_what, read_ends, err, errn);
    return bad;
}

int lm_config_parse(lm_config *c, const char *config, size_t n, const char *generation, size_t generation_n, char *err,
                    size_t errn)
{ return parse_both(c, config, n, "config.json", generation, generation_n, "generation_config.json", err, errn); }

int lm_config_open(lm_config *c, const char *dir, char *err, size_t errn)
{
    char *path = lm_path_join(dir, "config.json"), *path2 = lm_path_join(dir, "generation_config.json");
    char *text = NULL, *text2 = NULL;
    size_t n = 0, n2 = 0;
    int bad = -1;
    memset(c, 0, sizeof *c);
    if (path == NULL || path2 == NULL) lm_fail(err, errn, "%s: out of memory", dir);
    else if ((text = lm_read_file(path, MAX_CONFIG, &n, err, errn)) != NULL) {
        text2 = lm_read_file(path2, MAX_CONFIG, &n2, err, errn);
        if (text2 != NULL || n2 == SIZE_MAX) /* it may be missing, but not unreadable */
            bad = parse_both(c, text, n, path, text2, n2, path2, err, errn);
    }
    free(text);
    free(text2);
    free(path);
    free(path2);
    return bad;
}
