/* quantize.c - plans the output (which tensor becomes what, in which file), checks the input against its config, then
 * streams tensor by tensor. */
#define _GNU_SOURCE
#include "llama/quantize.h"
#include "llama/config.h"
#include "llama/folder.h"
#include "llama/json.h"
#include "llama/numbers.h"
#include "llama/safetensors.h"
#include "octavo.h"
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MACHINE = -1, INPUT = -2, BLOCK_BYTES = 32 << 20 };

/* A tensor of the output. */
typedef struct {
    const lm_tensor *from;
    char *name;   /* of a scale, owned; otherwise from's */
    int kind;     /* as below */
    int shard;
} item;
enum { COPY, TO_BF16, CODES, SCALE };

typedef struct {
    const char *in;
    const lm_quantize_options *o;
    lm_config config;
    lm_tensors *t;
    item *items;
    int64_t count, total;
    int shards;
    char **kept; /* names of linears that stay */
    int64_t kept_count;
    lm_quantize_result *r;
    char *err;
    size_t errn;
    double done;
} job;

static int stopped(job *j) { return j->o->stop && *j->o->stop ? (lm_fail(j->err, j->errn, "interrupted"), 1) : 0; }

/* ---- Which linear becomes FP8 ---- */

static const char *const linears[] = { "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
                                       "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj" }; /* of a layer */
enum { LINEARS = sizeof linears / sizeof *linears, FEED_FORWARD = 4 /* the first that is */ };

/* 1 when name is "<linear>.weight" of a linear in a layer; module (without .weight) and layer are filled in. */
static int is_linear(const char *name, char *module, size_t n, long *layer, int *feed_forward)
{
    char *end;
    if (strncmp(name, "model.layers.", 13)) return 0;
    *layer = strtol(name + 13, &end, 10);
    if (end == name + 13 || *end != '.') return 0;
    for (int i = 0; i < LINEARS; i++) {
        const size_t len = strlen(linears[i]);
        if (strncmp(end + 1, linears[i], len) || strcmp(end + 1 + len, ".weight")) continue;
        *feed_forward = i >= FEED_FORWARD;
        snprintf(module, n, "%.*s", (int)(strlen(name) - 7), name);
        return 1;
    }
    return 0;
}

static int chosen(const job *j, const char *module, long layer, int feed_forward)
{
    if (!j->o->all && (!feed_forward || layer == 0 || layer == j->config.layers - 1)) return 0;
    for (int i = 0; i < j->o->skip_count; i++)
        if (!fnmatch(j->o->skip[i], module, 0)) return 0;
    return 1;
}

/* ---- The input is what its config says ---- */

static int need(job *j, const char *name, int64_t rows, int64_t cols)
{
    const lm_tensor *s = lm_tensors_find(j->t, name);
    if (!s) return lm_fail(j->err, j->errn, "%s: tensor %s is missing", j->in, name), INPUT;
    if (s->rank != 1 + (cols > 0) || s->shape[0] != rows || (cols && s->shape[1] != cols))
        return lm_fail(j->err, j->errn, "%s: tensor %s has %d dimensions, the first %lld; config.json wants [%lld%s%lld]", s->file, name,
                       s->rank, (long long)s->shape[0], (long long)rows, cols ? ", " : "; rank ", (long long)(cols ? cols : 1)), INPUT;
    if (s->dtype != LM_BF16 && s->dtype != LM_F16 && s->dtype != LM_F32)
        return lm_fail(j->err, j->errn, "%s: tensor %s is %s; BF16, F16 and F32 are supported", s->file, name, lm_dtype_name(s->dtype)), INPUT;
    return 0;
}

static int check_input(job *j)
{
    const lm_config *f = &j->config;
    const int64_t q = f->heads * f->head_dim, kv = f->kv_heads * f->head_dim;
    const struct { int64_t rows, cols; int bias; } shape[LINEARS] = {
        { q, f->hidden, f->attention_bias },        { kv, f->hidden, f->attention_bias },       { kv, f->hidden, f->attention_bias },
        { f->hidden, q, f->attention_bias },        { f->intermediate, f->hidden, f->mlp_bias },
        { f->intermediate, f->hidden, f->mlp_bias }, { f->hidden, f->intermediate, f->mlp_bias },
    };
    char name[160];
    int s = need(j, "model.embed_tokens.weight", f->vocab, f->hidden);
    if (!s) s = need(j, "model.norm.weight", f->hidden, 0);
    if (!s && !f->tied) s = need(j, "lm_head.weight", f->vocab, f->hidden);
    for (int64_t i = 0; i < f->layers && !s; i++) {
        for (int p = 0; p < LINEARS && !s; p++) {
            snprintf(name, sizeof name, "model.layers.%lld.%s.weight", (long long)i, linears[p]);
            s = need(j, name, shape[p].rows, shape[p].cols);
            if (s || !shape[p].bias) continue;
            snprintf(name, sizeof name, "model.layers.%lld.%s.bias", (long long)i, linears[p]);
            s = need(j, name, shape[p].rows, 0);
        }
        snprintf(name, sizeof name, "model.layers.%lld.input_layernorm.weight", (long long)i);
        if (!s) s = need(j, name, f->hidden, 0);
        snprintf(name, sizeof name, "model.layers.%lld.post_attention_layernorm.weight", (long long)i);
        if (!s) s = need(j, name, f->hidden, 0);
    }
    return s;
}

/* ---- The plan ---- */

static int64_t item_bytes(const item *i)
{
    const int64_t n = lm_shape_count(i->from->shape, i->from->rank);
    return i->kind == COPY ? i->from->bytes : i->kind == TO_BF16 ? 2 * n : i->kind == CODES ? n : 4 * i->from->shape[0];
}

static int plan(job *j)
{
    const int64_t n = lm_tensors_count(j->t), limit = j->o->shard_bytes ? j->o->shard_bytes : 5000000000;
    char module[256];
    j->items = calloc((size_t)(2 * n + 1), sizeof *j->items);
    j->kept = calloc((size_t)(n + 1), sizeof *j->kept);
    if (!j->items || !j->kept) return lm_fail(j->err, j->errn, "out of memory"), MACHINE;
    int64_t in_shard = 0;
    for (int64_t i = 0; i < n; i++) {
        const lm_tensor *s = lm_tensors_at(j->t, i);
        const int is_float = s->dtype == LM_F32 || s->dtype == LM_F16;
        item *to = &j->items[j->count++];
        long layer;
        int feed_forward;
        *to = (item){ s, 0, is_float ? TO_BF16 : COPY, 0 };
        j->r->bytes_in += s->bytes;
        if (is_linear(s->name, module, sizeof module, &layer, &feed_forward)) {
            j->r->linears++;
            if (chosen(j, module, layer, feed_forward)) {
                j->r->quantized++;
                to->kind = CODES;
                item *scale = &j->items[j->count++];
                *scale = (item){ s, 0, SCALE, 0 };
                if (asprintf(&scale->name, "%s.weight_scale", module) < 0) scale->name = 0;
                if (!scale->name) return lm_fail(j->err, j->errn, "out of memory"), MACHINE;
            } else if (!(j->kept[j->kept_count++] = strdup(module)))
                return lm_fail(j->err, j->errn, "out of memory"), MACHINE;
        }
        const int64_t bytes = item_bytes(to) + (to->kind == CODES ? item_bytes(to + 1) : 0);
        if (in_shard && in_shard + bytes > limit) { j->shards++; in_shard = 0; }
        in_shard += bytes;
        j->r->bytes_out += bytes;
        to->shard = j->shards;
        if (to->kind == CODES) to[1].shard = j->shards;
    }
    j->shards++;
    j->total = j->r->bytes_in;
    if (j->r->quantized) return 0;
    return lm_fail(j->err, j->errn, "%s: the recipe chooses none of the %lld linears%s", j->in, (long long)j->r->linears,
                   j->o->all ? "; see --skip" : "; --recipe all chooses those of every layer"), INPUT;
}

/* ---- One tensor ---- */

typedef struct { float *wide; uint8_t *codes; float *scale; uint16_t *bf16; int64_t room; } buffers;

static int read_failed(job *j, const lm_tensor *s, int64_t row, int64_t k, const uint8_t *codes)
{
    int64_t c = 0;
    while (c + 1 < k && (codes[c] & 0x7f) != 0x7f) c++;
    return lm_fail(j->err, j->errn, "%s: tensor %s holds NaN or infinity at [%lld, %lld]", s->file, s->name, (long long)row, (long long)c), INPUT;
}

/* Codes and scales of a weight [n, k], a block of rows at a time. */
static int quantize_tensor(job *j, const lm_tensor *s, lm_writer *w, int64_t at, buffers *b)
{
    const int64_t n = s->shape[0], k = s->shape[1], block = k < BLOCK_BYTES / 4 ? BLOCK_BYTES / 4 / (k ? k : 1) : 1;
    float *scale = malloc((size_t)(n ? n : 1) * 4);
    int bad = scale ? 0 : (lm_fail(j->err, j->errn, "out of memory"), MACHINE);
    for (int64_t i = 0; i < n && !bad; i += block) {
        const int64_t rows = n - i < block ? n - i : block;
        const void *x = (const char *)s->data + i * k * lm_dtype_bits(s->dtype) / 8;
        if (s->dtype == LM_F16) {
            for (int64_t e = 0; e < rows * k; e++) b->wide[e] = lm_f16_value(((const uint16_t *)x)[e]);
            x = b->wide;
        }
        const oct_quant_args q = { .size = sizeof q, .on = { .threads = j->o->threads }, .scaling = OCT_SCALE_ROW, .m = rows, .k = k, .x = x,
                                   .x_dtype = s->dtype == LM_BF16 ? OCT_BF16 : OCT_F32, .y = b->codes, .y_dtype = OCT_F8E4M3FN,
                                   .scale = scale + i };
        if (oct_quant(&q)) bad = (lm_fail(j->err, j->errn, "%s: %s", s->name, oct_error_text()), MACHINE);
        for (int64_t e = 0; e < rows * k && !bad; e++)
            if ((b->codes[e] & 0x7f) == 0x7f) bad = read_failed(j, s, i + e / k, k, b->codes + e / k * k);
        if (!bad && lm_writer_append(w, at, b->codes, rows * k, j->err, j->errn)) bad = MACHINE;
        j->done += (double)(rows * k * lm_dtype_bits(s->dtype) / 8);
        if (j->o->progress) j->o->progress(j->done, (double)j->total);
        if (!bad && stopped(j)) bad = MACHINE;
    }
    if (!bad && lm_writer_append(w, at + 1, scale, n * 4, j->err, j->errn)) bad = MACHINE;
    free(scale);
    return bad;
}

static int copy_tensor(job *j, const item *it, lm_writer *w, int64_t at, buffers *b)
{
    const lm_tensor *s = it->from;
    const int64_t elem = it->kind == COPY ? 1 : lm_dtype_bits(s->dtype) / 8, count = s->bytes / elem, block = BLOCK_BYTES / 4;
    int bad = 0;
    for (int64_t i = 0; i < count && !bad; i += block) {
        const int64_t n = count - i < block ? count - i : block;
        const char *x = (const char *)s->data + i * elem;
        if (it->kind == TO_BF16)
            for (int64_t e = 0; e < n; e++)
                b->bf16[e] = lm_bf16(s->dtype == LM_F16 ? lm_f16_value(((const uint16_t *)(const void *)x)[e]) : ((const float *)(const void *)x)[e]);
        if (lm_writer_append(w, at, it->kind == COPY ? x : (const void *)b->bf16, n * (it->kind == COPY ? 1 : 2), j->err, j->errn)) bad = MACHINE;
        j->done += (double)(n * elem);
        if (j->o->progress) j->o->progress(j->done, (double)j->total);
        if (!bad && stopped(j)) bad = MACHINE;
    }
    return bad;
}

static void shard_name(const job *j, int shard, char *name, size_t n)
{
    if (j->shards == 1) snprintf(name, n, "model.safetensors");
    else snprintf(name, n, "model-%05d-of-%05d.safetensors", shard + 1, j->shards);
}

static int write_shard(job *j, const char *dir, int shard, int64_t first, int64_t end, buffers *b)
{
    char name[64];
    int bad = 0;
    lm_tensor *list = calloc((size_t)(end - first), sizeof *list);
    shard_name(j, shard, name, sizeof name);
    char *path = lm_path_join(dir, name);
    lm_writer *w = 0;
    if (!list || !path) bad = (lm_fail(j->err, j->errn, "out of memory"), MACHINE);
    for (int64_t i = first; i < end && !bad; i++) {
        const item *it = &j->items[i];
        lm_tensor *d = &list[i - first];
        *d = *it->from;
        if (it->kind == TO_BF16) d->dtype = LM_BF16;
        if (it->kind == CODES) d->dtype = LM_F8_E4M3;
        if (it->kind == SCALE) {
            d->name = it->name;
            d->dtype = LM_F32;
            d->shape[1] = 1;
        }
    }
    if (!bad && !(w = lm_writer_open(path, list, end - first, j->err, j->errn))) bad = MACHINE;
    for (int64_t i = first; i < end && !bad; i++) {
        const item *it = &j->items[i];
        if (it->kind == SCALE) continue; /* goes with its codes */
        bad = it->kind == CODES ? quantize_tensor(j, it->from, w, i - first, b) : copy_tensor(j, it, w, i - first, b);
        lm_tensors_release(j->t, it->from);
    }
    if (bad) lm_writer_abort(w);
    else if (lm_writer_close(w, j->err, j->errn)) bad = MACHINE;
    free(list);
    free(path);
    return bad;
}

/* ---- The JSON files ---- */

static int write_index(job *j, const char *dir)
{
    char name[64];
    cJSON *o = cJSON_CreateObject(), *meta = cJSON_AddObjectToObject(o, "metadata"), *map = cJSON_AddObjectToObject(o, "weight_map");
    cJSON_AddNumberToObject(meta, "total_size", (double)j->r->bytes_out);
    for (int64_t i = 0; i < j->count; i++) {
        shard_name(j, j->items[i].shard, name, sizeof name);
        cJSON_AddStringToObject(map, j->items[i].name ? j->items[i].name : j->items[i].from->name, name);
    }
    const int bad = lm_write_json(dir, "model.safetensors.index.json", o, j->err, j->errn);
    cJSON_Delete(o);
    return bad ? MACHINE : 0;
}

/* The linears that stay, as a list of that name. */
static void add_kept(const job *j, cJSON *to, const char *name)
{
    cJSON *kept = cJSON_AddArrayToObject(to, name);
    for (int64_t i = 0; i < j->kept_count; i++) cJSON_AddItemToArray(kept, cJSON_CreateString(j->kept[i]));
    cJSON_AddItemToArray(kept, cJSON_CreateString("lm_head"));
}

/* What transformers' FbgemmFp8Config reads. */
static cJSON *fbgemm_config(const job *j)
{
    cJSON *q = cJSON_CreateObject();
    cJSON_AddStringToObject(q, "quant_method", "fbgemm_fp8");
    cJSON_AddNumberToObject(q, "activation_scale_ub", j->o->activation_ub);
    add_kept(j, q, "modules_to_not_convert");
    return q;
}

/* What the package compressed-tensors and vLLM read: a scale a row of the weights, activations quantized token by token. */
static cJSON *compressed_config(const job *j)
{
    static const char *const parts[] = { "weights", "input_activations" }, *const strategies[] = { "channel", "token" };
    cJSON *q = cJSON_CreateObject();
    cJSON_AddStringToObject(q, "quant_method", "compressed-tensors");
    cJSON_AddStringToObject(q, "format", "float-quantized");
    cJSON_AddStringToObject(q, "quantization_status", "compressed");
    cJSON *group = cJSON_AddObjectToObject(cJSON_AddObjectToObject(q, "config_groups"), "group_0");
    cJSON_AddItemToArray(cJSON_AddArrayToObject(group, "targets"), cJSON_CreateString("Linear"));
    for (int i = 0; i < 2; i++) {
        cJSON *part = cJSON_AddObjectToObject(group, parts[i]);
        cJSON_AddNumberToObject(part, "num_bits", 8);
        cJSON_AddStringToObject(part, "type", "float");
        cJSON_AddStringToObject(part, "strategy", strategies[i]);
        cJSON_AddBoolToObject(part, "symmetric", 1);
        cJSON_AddBoolToObject(part, "dynamic", i == 1);
    }
    add_kept(j, q, "ignore");
    return q;
}

static int write_config(job *j, const char *dir)
{
    size_t n;
    char *path = lm_path_join(j->in, "config.json"), *text = path ? lm_read_file(path, 64 << 20, &n, j->err, j->errn) : 0;
    cJSON *o = text ? lm_json_parse(text, n, path, j->err, j->errn) : 0;
    int bad = o ? 0 : INPUT;
    if (o) {
        cJSON_DeleteItemFromObjectCaseSensitive(o, "quantization_config");
        cJSON_AddItemToObject(o, "quantization_config", j->o->compressed_tensors ? compressed_config(j) : fbgemm_config(j));
        const char *const dtype_key = cJSON_HasObjectItem(o, "dtype") ? "dtype" : "torch_dtype";
        cJSON_DeleteItemFromObjectCaseSensitive(o, dtype_key);
        cJSON_AddStringToObject(o, dtype_key, "bfloat16");
        bad = lm_write_json(dir, "config.json", o, j->err, j->errn) ? MACHINE : 0;
    }
    cJSON_Delete(o);
    free(text);
    free(path);
    return bad;
}

/* ---- All of it ---- */

static int write_folder(job *j, const char *dir)
{
    buffers b = { 0, 0, 0, 0, 0 };
    int64_t widest = BLOCK_BYTES / 4, first = 0;
    for (int64_t i = 0; i < j->count; i++) /* a row is never cut */
        if (j->items[i].kind == CODES && j->items[i].from->shape[1] > widest) widest = j->items[i].from->shape[1];
    b.wide = malloc((size_t)widest * 4);
    b.bf16 = (uint16_t *)(void *)b.wide; /* a tensor uses one of them */
    b.codes = malloc((size_t)widest);
    int bad = b.wide && b.codes ? 0 : (lm_fail(j->err, j->errn, "out of memory"), MACHINE);
    for (int s = 0; s < j->shards && !bad; s++) {
        int64_t end = first;
        while (end < j->count && j->items[end].shard == s) end++;
        bad = write_shard(j, dir, s, first, end, &b);
        first = end;
    }
    if (!bad && j->shards > 1) bad = write_index(j, dir);
    if (!bad && lm_folder_copy_texts(j->in, dir, j->err, j->errn)) bad = MACHINE;
    if (!bad) bad = write_config(j, dir); /* last: without it nobody takes the folder for a model */
    free(b.wide);
    free(b.codes);
    return bad;
}

int lm_quantize(const char *in, const char *out, const lm_quantize_options *o, lm_quantize_result *r, char *err, size_t errn)
{
    job j = { .in = in, .o = o, .r = r, .err = err, .errn = errn };
    memset(r, 0, sizeof *r);
    if (lm_config_open(&j.config, in, err, errn)) return INPUT;
    int bad = j.config.f8 ? (lm_fail(err, errn, "%s: the weights are FP8 already (quantization_config)", in), INPUT) : 0;
    if (!bad && !(j.t = lm_tensors_open(in, err, errn))) bad = INPUT;
    if (!bad) bad = check_input(&j);
    if (!bad) bad = plan(&j);
    lm_folder *f = 0;
    if (!bad && !(f = lm_folder_create(out, r->bytes_out + r->bytes_out / 100 + (16 << 20), err, errn))) bad = MACHINE;
    if (!bad) bad = write_folder(&j, lm_folder_path(f));
    if (f && lm_folder_finish(f, !bad, err, errn) && !bad) bad = MACHINE;
    for (int64_t i = 0; i < j.count; i++) free(j.items[i].name);
    for (int64_t i = 0; i < j.kept_count; i++) free(j.kept[i]);
    free(j.items);
    free(j.kept);
    lm_tensors_close(j.t);
    return bad;
}
