/* run.c - `octavo run`: text from a prompt. */
#define _GNU_SOURCE
#include "cli/cli.h"
#include "cli/model.h"
#include "llama/chat.h"
#include "llama/json.h"
#include "llama/sample.h"
#include "llama/tokenizer.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *model, *prompt, *chat, *system;
    int threads, act, print_ids;
    int32_t kv;
    int64_t max_tokens, ctx;
    lm_sampler sampler;
} options;

enum { CHAT = 256, SYSTEM, CTX, TOP_P, SEED, KV, ACT, IDS };

static const struct argp_option option_list[] = {
    { "model", 'm', "DIR", 0, "The model folder", 0 },
    { "prompt", 'p', "TEXT", 0, "The text to go on from; - is standard input", 0 },
    { "chat", CHAT, "TEXT", 0, "Instead: a message to an instruction-tuned model, in its chat template (ChatML, Llama 3)", 0 },
    { "system", SYSTEM, "TEXT", 0, "The system message of --chat", 0 },
    { "max-tokens", 'n', "N", 0, "Tokens to generate at most (default 256); generation stops at the end token", 0 },
    { "ctx", CTX, "N", 0, "Tokens that prompt and answer may have (default: 4096, or what the model was made for)", 0 },
    { "temperature", 't', "T", 0, "0 (default): always the most probable token; larger: more varied", 0 },
    { "top-p", TOP_P, "P", 0, "Sample among the most probable tokens that together have probability P (default 1)", 0 },
    { "seed", SEED, "N", 0, "Seed of the sampling (default 1)", 0 },
    { "kv", KV, "FORMAT", 0, "Cache: bf16 (default), f8, i4", 0 },
    { "act", ACT, "TYPE", 0, "Activations that FP8 weights meet: f8 (default), bf16", 0 },
    { "threads", 'j', "N", 0, "Threads (default: all)", 0 },
    { "print-ids", IDS, 0, 0, "Print token ids instead of text", 0 },
    { 0 } };

static error_t parse(int key, char *arg, struct argp_state *state)
{
    options *o = state->input;
    switch (key) {
    case 'm': o->model = arg; return 0;
    case 'p': o->prompt = arg; return 0;
    case CHAT: o->chat = arg; return 0;
    case SYSTEM: o->system = arg; return 0;
    case 'n': o->max_tokens = cli_number(state, "max-tokens", arg, 1, INT32_MAX); return 0;
    case CTX: o->ctx = cli_number(state, "ctx", arg, 2, 1 << 24); return 0;
    case 't': o->sampler.temperature = (float)cli_real(state, "temperature", arg, 0, 100); return 0;
    case TOP_P: o->sampler.top_p = (float)cli_real(state, "top-p", arg, 0, 1); return 0;
    case SEED: o->sampler.state = (uint64_t)cli_number(state, "seed", arg, 0, INT64_MAX); return 0;
    case 'j': o->threads = (int)cli_number(state, "threads", arg, 1, 1024); return 0;
    case IDS: o->print_ids = 1; return 0;
    case KV: return kv_option(state, arg, &o->kv);
    case ACT: return act_option(state, arg, &o->act);
    case ARGP_KEY_ARG: argp_error(state, "%s: unexpected; a prompt is given with --prompt TEXT", arg); return EINVAL;
    case ARGP_KEY_END:
        if (!o->model || !o->prompt == !o->chat) argp_error(state, "--model DIR and one of --prompt TEXT, --chat TEXT are needed");
        if (o->system && !o->chat) argp_error(state, "--system goes with --chat");
        return 0;
    }
    return ARGP_ERR_UNKNOWN;
}

static const struct argp parser = { option_list, parse, 0,
    "Generate text. It appears on standard output as it comes; the speed on standard error at the end.\v"
    "Examples:\n  octavo run --model SmolLM2-135M-Instruct --prompt 'The capital of France is' --max-tokens 20\n"
    "  octavo run --model SmolLM2-135M-Instruct-FP8 --chat 'Why is the sky blue?' --kv i4 --temperature 0.7 --top-p 0.9\n\n"
    "Exit codes: 0 done, 1 failed, 2 wrong command line, 3 an input is missing, damaged or not supported.\n", 0, 0, 0 };

/* The prompt's tokens. */
static int prompt_ids(const options *o, const lm_tokenizer *tk, int32_t **ids, size_t *count)
{
    char err[512] = "out of memory", *text = 0, *template_text = 0;
    const char *given = o->prompt ? o->prompt : o->chat;
    size_t n = strlen(given);
    int code = CLI_OK;
    if (!strcmp(given, "-") && !(text = cli_read("-", &n))) return CLI_INPUT;
    if (o->chat) {
        const lm_chat_message messages[] = { { "system", o->system }, { "user", text ? text : given } };
        const lm_chat_form form = lm_chat_find(tk);
        const int skip = !o->system;
        char *chat = 0;
        if (form == LM_CHAT_NONE)
            code = cli_error(CLI_INPUT, "%s: no chat template: the tokenizer has the tokens of neither ChatML nor Llama 3; use --prompt", o->model);
        else if (lm_chat_template(o->model, &template_text, err, sizeof err) ||
                 lm_chat_prompt(form, template_text, messages + skip, 2 - (size_t)skip, &chat, err, sizeof err))
            code = cli_error(CLI_INPUT, "%s", err);
        free(text);
        free(template_text);
        given = text = chat;
        n = chat ? strlen(chat) : 0;
    } else if (text)
        given = text;
    if (!code && lm_tokenizer_encode(tk, given, n, 1, ids, count, err, sizeof err)) code = cli_error(CLI_INPUT, "%s", err);
    free(text);
    if (!code && !*count) code = cli_error(CLI_INPUT, "the prompt is empty");
    return code;
}

static int is_end(const lm_config *f, int32_t id)
{
    for (int i = 0; i < f->eos_count; i++)
        if (f->eos[i] == id) return 1;
    return 0;
}

static int generate(const options *o, lm_model *m, lm_cache *c, const lm_tokenizer *tk, const int32_t *ids, size_t count)
{
    const lm_config *f = lm_model_config(m);
    lm_sampler s = o->sampler;
    char err[512];
    float *logits = malloc((size_t)f->vocab * 4);
    int32_t *lane = calloc(count, 4), last = (int32_t)count - 1, token = 0, made = 0;
    s.room = malloc((size_t)f->vocab * sizeof *s.room);
    int code = logits && lane && s.room ? CLI_OK : cli_error(CLI_FAIL, "out of memory");
    const double start = cli_now();
    if (!code && lm_forward(m, c, (int64_t)count, ids, lane, 1, &last, logits, err, sizeof err)) code = cli_error(CLI_FAIL, "%s", err);
    const double first = cli_now();
    const char *why = "token limit";
    while (!code) {
        token = lm_sample(&s, logits, f->vocab);
        if (is_end(f, token)) { why = "end token"; break; }
        size_t n;
        const char *bytes = lm_tokenizer_bytes(tk, token, &n);
        if (o->print_ids) printf("%s%d", made ? " " : "", token);
        else fwrite(bytes, 1, n, stdout);
        if (fflush(stdout)) { code = cli_error(CLI_FAIL, "cannot write to standard output"); break; }
        if (++made == o->max_tokens) break;
        if (lm_cache_length(c, 0) == o->ctx) { why = "context full"; break; }
        const int32_t zero = 0;
        if (lm_forward(m, c, 1, &token, lane, 1, &zero, logits, err, sizeof err)) code = cli_error(CLI_FAIL, "%s", err);
    }
    const double end = cli_now();
    if (!code) {
        putchar('\n');
        fflush(stdout);
        fprintf(stderr, "prompt %zu tokens, %.1f tokens/s; generated %d tokens, %.1f tokens/s; stopped: %s\n", count,
                (double)count / (first - start), made, made > 1 ? (made - 1) / (end - first) : 0.0, why);
    }
    free(logits); free(lane); free(s.room);
    return code;
}

int cmd_run(int argc, char **argv)
{
    options o = { .max_tokens = 256, .kv = OCT_KV_BF16, .sampler = { .top_p = 1, .state = 1 } };
    cli_parse(&parser, "run", argc, argv, &o);
    char err[512] = "out of memory";
    int32_t *ids = 0;
    size_t count = 0;
    lm_model *m = 0;
    lm_cache *c = 0;
    char *path = lm_path_join(o.model, "tokenizer.json");
    lm_tokenizer *tk = path ? lm_tokenizer_open(path, err, sizeof err) : 0;
    int code = tk ? prompt_ids(&o, tk, &ids, &count) : cli_error(CLI_INPUT, "%s", err);
    if (!code) code = open_model(o.model, o.threads, o.act, &m);
    if (!code) {
        const int64_t made_for = lm_model_config(m)->max_positions;
        if (!o.ctx) o.ctx = made_for < 4096 ? made_for : 4096;
        if ((int64_t)count >= o.ctx)
            code = cli_error(CLI_INPUT, "the prompt has %zu tokens; --ctx %lld leaves no room for an answer", count, (long long)o.ctx);
    }
    if (!code) code = open_cache(m, 1, o.ctx, o.kv, &c);
    if (!code) code = generate(&o, m, c, tk, ids, count);
    lm_cache_close(c);
    lm_model_close(m);
    lm_tokenizer_close(tk);
    free(path);
    free(ids);
    return code;
}
