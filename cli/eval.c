/* eval.c - `octavo eval`: perplexity of a text, and its logits. */
#define _GNU_SOURCE
#include "cli/cli.h"
#include "cli/model.h"
#include "llama/json.h"
#include "llama/sample.h"
#include "llama/tokenizer.h"
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct {
    const char *model, *text, *ids, *logits, *next;
    int threads, act, json;
    int32_t kv;
    int64_t ctx, limit, batch;
} options;

enum { IDS = 256, CTX, LIMIT, BATCH, JSON, LOGITS, NEXT, KV, ACT };

static const struct argp_option option_list[] = {
    { "model", 'm', "DIR", 0, "The model folder", 0 },
    { "text", 't', "FILE", 0, "The text; - is standard input", 0 },
    { "ids", IDS, "FILE", 0, "Instead of a text: token ids between white space", 0 },
    { "ctx", CTX, "N", 0, "Tokens a window (default 2048); windows do not overlap, the first token of each is not scored", 0 },
    { "limit", LIMIT, "N", 0, "Only the first N tokens", 0 },
    { "batch", BATCH, "N", 0, "Windows that run side by side (default 2)", 0 },
    { "kv", KV, "FORMAT", 0, "Cache: bf16 (default), f8, i4", 0 },
    { "act", ACT, "TYPE", 0, "Activations that FP8 weights meet: f8 (default), bf16", 0 },
    { "threads", 'j', "N", 0, "Threads (default: all)", 0 },
    { "json", JSON, 0, 0, "Print one JSON object", 0 },
    { "logits", LOGITS, "FILE", 0, "Write all logits to FILE, a NumPy array of f32 [tokens, vocabulary]", 0 },
    { "next", NEXT, "FILE", 0, "Write the most probable next token after each token to FILE", 0 },
    { 0 } };

static error_t parse(int key, char *arg, struct argp_state *state)
{
    options *o = state->input;
    switch (key) {
    case 'm': o->model = arg; return 0;
    case 't': o->text = arg; return 0;
    case IDS: o->ids = arg; return 0;
    case CTX: o->ctx = cli_number(state, "ctx", arg, 2, 1 << 24); return 0;
    case LIMIT: o->limit = cli_number(state, "limit", arg, 2, INT32_MAX); return 0;
    case BATCH: o->batch = cli_number(state, "batch", arg, 1, 256); return 0;
    case 'j': o->threads = (int)cli_number(state, "threads", arg, 1, 1024); return 0;
    case JSON: o->json = 1; return 0;
    case LOGITS: o->logits = arg; return 0;
    case NEXT: o->next = arg; return 0;
    case KV: return kv_option(state, arg, &o->kv);
    case ACT: return act_option(state, arg, &o->act);
    case ARGP_KEY_ARG: argp_error(state, "%s: unexpected; a text is given with --text FILE", arg); return EINVAL;
    case ARGP_KEY_END:
        if (!o->model || !o->text == !o->ids) argp_error(state, "--model DIR and one of --text FILE, --ids FILE are needed");
        return 0;
    }
    return ARGP_ERR_UNKNOWN;
}

static const struct argp parser = { option_list, parse, 0,
    "Print the perplexity of a text: exp of the mean negative log-likelihood of each token given those before it in its "
    "window.\v"
    "Example:\n  octavo eval --model SmolLM2-135M-Instruct --text book.txt --limit 8192 --kv f8\n\n"
    "Exit codes: 0 done, 1 failed, 2 wrong command line, 3 an input is missing, damaged or not supported.\n", 0, 0, 0 };

/* ---- Tokens ---- */

static int parse_ids(const options *o, const char *text, int32_t **ids, size_t *count)
{
    size_t room = 1024;
    *count = 0;
    *ids = malloc(room * sizeof **ids);
    for (const char *at = text; *ids;) {
        char *end;
        errno = 0;
        const long v = strtol(at, &end, 10);
        if (end == at) {
            at += strspn(at, " \t\r\n");
            if (!*at) return CLI_OK;
            return cli_error(CLI_INPUT, "%s: \"%.20s\" is no token id", o->ids, at);
        }
        if (errno || v < 0 || v > INT32_MAX) return cli_error(CLI_INPUT, "%s: %ld is no token id", o->ids, v);
        if (*count == room) {
            int32_t *more = realloc(*ids, (room *= 2) * sizeof *more);
            if (!more) break;
            *ids = more;
        }
        (*ids)[(*count)++] = (int32_t)v;
        at = end;
    }
    return cli_error(CLI_FAIL, "out of memory");
}

static int read_tokens(const options *o, int32_t **ids, size_t *count)
{
    char err[512] = "out of memory";
    size_t n;
    char *text = cli_read(o->text ? o->text : o->ids, &n);
    int code = text ? CLI_OK : CLI_INPUT;
    if (text && o->ids) code = parse_ids(o, text, ids, count);
    else if (text) {
        char *path = lm_path_join(o->model, "tokenizer.json");
        lm_tokenizer *tk = path ? lm_tokenizer_open(path, err, sizeof err) : 0;
        if (!tk || lm_tokenizer_encode(tk, text, n, 1, ids, count, err, sizeof err)) code = cli_error(CLI_INPUT, "%s", err);
        lm_tokenizer_close(tk);
        free(path);
    }
    free(text);
    if (!code && o->limit && *count > (size_t)o->limit) *count = (size_t)o->limit;
    if (!code && *count < 2) code = cli_error(CLI_INPUT, "%s holds %zu tokens; 2 are needed", o->text ? o->text : o->ids, *count);
    return code;
}

/* ---- The logits file: written beside its place, and moved there when complete ---- */

typedef struct { int fd; char part[4096]; int64_t head; } npy;

static int npy_open(npy *f, const char *path, int64_t rows, int64_t cols)
{
    char head[192];
    const int n = snprintf(head + 10, sizeof head - 10, "{'descr': '<f4', 'fortran_order': False, 'shape': (%lld, %lld), }",
                           (long long)rows, (long long)cols);
    f->head = (10 + n + 1 + 63) / 64 * 64;
    memcpy(head, "\x93NUMPY\1", 8);
    head[7] = 0;
    head[8] = (char)(f->head - 10);
    head[9] = 0;
    memset(head + 10 + n, ' ', (size_t)(f->head - 10 - n));
    head[f->head - 1] = '\n';
    snprintf(f->part, sizeof f->part, "%s.part", path);
    f->fd = open(f->part, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0666);
    if (f->fd >= 0 && pwrite(f->fd, head, (size_t)f->head, 0) == f->head) return CLI_OK;
    return cli_error(CLI_FAIL, "%s: cannot write: %s", f->part, strerror(errno));
}

static int npy_rows(npy *f, int64_t first, int64_t rows, int64_t cols, const float *p)
{
    int64_t at = f->head + first * cols * 4, left = rows * cols * 4;
    for (const char *c = (const char *)p; left > 0;) {
        const ssize_t n = pwrite(f->fd, c, (size_t)(left < 1 << 30 ? left : 1 << 30), at);
        if (n <= 0) return cli_error(CLI_FAIL, "%s: cannot write: %s", f->part, strerror(errno));
        c += n; at += n; left -= n;
    }
    return CLI_OK;
}

static int npy_close(npy *f, const char *path, int ok)
{
    if (f->fd < 0) return CLI_OK;
    if (close(f->fd) || (ok && rename(f->part, path))) return cli_error(CLI_FAIL, "%s: cannot write: %s", path, strerror(errno));
    if (!ok) unlink(f->part);
    return CLI_OK;
}

/* ---- Windows ---- */

static double log_sum_exp(const float *x, int64_t n)
{
    float max = x[0];
    double sum = 0;
    for (int64_t i = 1; i < n; i++) max = x[i] > max ? x[i] : max;
    for (int64_t i = 0; i < n; i += 256) { /* f32 sums of short runs, added in double */
        float part = 0;
        for (int64_t j = i; j < n && j < i + 256; j++) part += expf(x[j] - max);
        sum += (double)part;
    }
    return (double)max + log(sum);
}

typedef struct { double nll, seconds; int64_t scored, cache_bytes; int code; } result;

/* Windows run side by side, `batch` at a time: each pass takes a run of tokens of every one of them. */
static result windows(const options *o, lm_model *m, const int32_t *ids, int64_t count, npy *f, int32_t *next)
{
    result r = { 0, 0, 0, 0, CLI_OK };
    char err[512];
    const int64_t vocab = lm_model_config(m)->vocab, total = (count + o->ctx - 1) / o->ctx, lanes = o->batch < total ? o->batch : total;
    const int64_t fit = (64 << 20) / vocab < 512 ? (64 << 20) / vocab : 512, pass = fit > lanes ? fit : lanes, run = pass / lanes;
    float *logits = malloc((size_t)(pass * vocab) * 4);
    int32_t *token = malloc((size_t)pass * 4), *lane = malloc((size_t)pass * 4), *want = malloc((size_t)pass * 4), *at = malloc((size_t)pass * 4);
    lm_cache *c = 0;
    r.code = open_cache(m, lanes, o->ctx < count ? o->ctx : count, o->kv, &c);
    if (!r.code && (!logits || !token || !lane || !want || !at)) r.code = cli_error(CLI_FAIL, "out of memory");
    for (int64_t w = 0; w < total && !r.code; w += lanes) {
        for (int64_t i = 0; i < lanes; i++) lm_cache_clear(c, i);
        for (int64_t from = 0; from < o->ctx && !r.code; from += run) {
            int64_t n = 0;
            for (int64_t i = 0; i < lanes && w + i < total; i++)
                for (int64_t j = (w + i) * o->ctx + from; j < count && j < (w + i + 1) * o->ctx && j < (w + i) * o->ctx + from + run; j++) {
                    token[n] = ids[j]; lane[n] = (int32_t)i; want[n] = (int32_t)n; at[n++] = (int32_t)j;
                }
            if (!n) break;
            const double t = cli_now();
            if (lm_forward(m, c, n, token, lane, n, want, logits, err, sizeof err)) { r.code = cli_error(CLI_FAIL, "%s", err); break; }
            r.seconds += cli_now() - t;
            for (int64_t j = 0; j < n && !r.code; j++) {
                const float *x = logits + j * vocab;
                if (next) next[at[j]] = lm_argmax(x, vocab);
                if (f->fd >= 0) r.code = npy_rows(f, at[j], 1, vocab, x);
                if ((at[j] + 1) % o->ctx == 0 || at[j] + 1 >= count) continue; /* the next token begins another window */
                r.nll += log_sum_exp(x, vocab) - (double)x[ids[at[j] + 1]];
                r.scored++;
            }
            cli_progress("evaluating", (double)(w * o->ctx + (from + run) * lanes), (double)(total * o->ctx));
        }
    }
    if (!r.code) {
        cli_progress("evaluating", 1, 1);
        r.cache_bytes = lm_cache_token_bytes(c);
    }
    free(logits); free(token); free(lane); free(want); free(at);
    lm_cache_close(c);
    return r;
}

static int write_next(const char *path, const int32_t *next, int64_t n)
{
    FILE *f = fopen(path, "w");
    for (int64_t i = 0; f && i < n; i++) fprintf(f, "%d%c", next[i], i + 1 < n ? ' ' : '\n');
    if (f && !ferror(f) && !fclose(f)) return CLI_OK;
    return cli_error(CLI_FAIL, "%s: cannot write: %s", path, strerror(errno));
}

int cmd_eval(int argc, char **argv)
{
    options o = { .ctx = 2048, .batch = 2, .kv = OCT_KV_BF16 };
    cli_parse(&parser, "eval", argc, argv, &o);
    int32_t *ids = 0, *next = 0;
    size_t count = 0;
    lm_model *m = 0;
    npy f = { -1, "", 0 };
    int code = read_tokens(&o, &ids, &count);
    if (!code) code = open_model(o.model, o.threads, o.act, &m);
    if (!code && o.ctx > lm_model_config(m)->max_positions)
        cli_error(0, "note: the model was made for %lld tokens; windows of %lld go beyond", (long long)lm_model_config(m)->max_positions, (long long)o.ctx);
    if (!code && o.logits) code = npy_open(&f, o.logits, (int64_t)count, lm_model_config(m)->vocab);
    if (!code && o.next && !(next = malloc(count * 4))) code = cli_error(CLI_FAIL, "out of memory");
    if (!code) {
        const result r = windows(&o, m, ids, (int64_t)count, &f, next);
        code = r.code;
        if (!code && o.next) code = write_next(o.next, next, (int64_t)count);
        if (!code) {
            const double mean = r.scored ? r.nll / (double)r.scored : NAN;
            if (o.json)
                printf("{\"perplexity\": %.9g, \"nll\": %.9g, \"tokens\": %zu, \"scored\": %lld, \"ctx\": %lld, \"weight_bytes\": %lld, "
                       "\"cache_bytes_per_token\": %lld, \"tokens_per_second\": %.6g}\n",
                       exp(mean), mean, count, (long long)r.scored, (long long)o.ctx, (long long)lm_model_bytes(m), (long long)r.cache_bytes,
                       (double)count / r.seconds);
            else
                printf("perplexity %.4f over %lld tokens (windows of %lld); %.1f tokens/s\n", exp(mean), (long long)r.scored,
                       (long long)o.ctx, (double)count / r.seconds);
        }
    }
    const int closed = npy_close(&f, o.logits, !code);
    free(ids); free(next);
    lm_model_close(m);
    return code ? code : closed;
}
