/* tokenize.c - `octavo tokenize`: text to token ids, and back. */
#define _GNU_SOURCE
#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "llama/json.h"
#include "llama/tokenizer.h"

typedef struct {
    const char *model, *text;
    int decode, lines, special;
} options;

enum { OPT_LINES = 256, OPT_NO_SPECIAL };

static const struct argp_option option_list[] = {
    { "model", 'm', "DIR", 0, "The model folder; its tokenizer.json is read", 0 },
    { "text", 't', "FILE", 0, "The text to encode, or with --decode the ids; - is standard input", 0 },
    { "decode", 'd', NULL, 0, "Turn ids (numbers between white space) back into text", 0 },
    { "lines", OPT_LINES, NULL, 0, "Take each line of FILE as a text of its own: a line in, a line out", 0 },
    { "no-special", OPT_NO_SPECIAL, NULL, 0,
      "Encode: do not add the tokens that the model wants around a text, such as <|begin_of_text|>. Decode: leave "
      "special tokens out",
      0 },
    { 0 },
};

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    options *o = state->input;
    switch (key) {
    case 'm': o->model = arg; return 0;
    case 't': o->text = arg; return 0;
    case 'd': o->decode = 1; return 0;
    case OPT_LINES: o->lines = 1; return 0;
    case OPT_NO_SPECIAL: o->special = 0; return 0;
    case ARGP_KEY_ARG: argp_error(state, "%s: unexpected; a file is given with --text FILE", arg); return EINVAL;
    case ARGP_KEY_END:
        if (o->model == NULL || o->text == NULL) argp_error(state, "--model DIR and --text FILE are needed");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp parser = {
    option_list,
    parse_option,
    NULL,
    "Print the token ids of a text, or the text of token ids.\v"
    "The ids stand on one line of standard output, with spaces between them. The text is UTF-8; bytes that are not "
    "count as U+FFFD. Special tokens written in the text, such as <|im_start|>, become their ids.\n\n"
    "Example, there and back:\n"
    "  echo 'Hello, world' > hello.txt\n"
    "  octavo tokenize --model SmolLM2-135M-Instruct --text hello.txt > ids.txt\n"
    "  octavo tokenize --model SmolLM2-135M-Instruct --text ids.txt --decode\n\n"
    "Exit codes: 0 done, 1 cannot write, 2 wrong command line, 3 a file is missing, damaged or not supported.",
    NULL,
    NULL,
    NULL,
};

static int encode(const lm_tokenizer *tk, const options *o, const char *text, size_t n)
{
    char err[512];
    int32_t *ids;
    size_t count;
    if (lm_tokenizer_encode(tk, text, n, o->special, &ids, &count, err, sizeof err) != 0)
        return cli_error(CLI_FAIL, "%s: %s", cli_name(o->text), err);
    for (size_t i = 0; i < count; i++) printf("%s%d", i > 0 ? " " : "", (int)ids[i]);
    putchar('\n');
    free(ids);
    return CLI_OK;
}

static int decode(const lm_tokenizer *tk, const options *o, const char *text, size_t n)
{
    const char *space = " \t\r\n";
    for (size_t at = 0; at < n;) {
        if (memchr(space, text[at], 4) != NULL) {
            at++;
            continue;
        }
        int64_t id = 0;
        size_t begin = at;
        while (at < n && text[at] >= '0' && text[at] <= '9' && id < lm_tokenizer_size(tk))
            id = 10 * id + (text[at++] - '0');
        if ((at < n && memchr(space, text[at], 4) == NULL) || id >= lm_tokenizer_size(tk)) {
            int shown = 0; /* of the word, what can be printed */
            while (shown < 30 && begin + (size_t)shown < n && text[begin + (size_t)shown] > ' ' &&
                   text[begin + (size_t)shown] < 0x7f)
                shown++;
            return cli_error(CLI_INPUT, "%s: byte %zu: \"%.*s\" is no token id; ids are numbers from 0 to %lld",
                             cli_name(o->text), begin + 1, shown, text + begin, (long long)lm_tokenizer_size(tk) - 1);
        }
        size_t len;
        const char *bytes = lm_tokenizer_bytes(tk, (int32_t)id, &len);
        if (o->special || !lm_tokenizer_is_special(tk, (int32_t)id)) fwrite(bytes, 1, len, stdout);
    }
    if (o->lines) putchar('\n');
    return CLI_OK;
}

int cmd_tokenize(int argc, char **argv)
{
    options o = { .special = 1 };
    cli_parse(&parser, "tokenize", argc, argv, &o);

    char err[512] = "out of memory";
    char *path = lm_path_join(o.model, "tokenizer.json");
    lm_tokenizer *tk = path != NULL ? lm_tokenizer_open(path, err, sizeof err) : NULL;
    free(path);
    if (tk == NULL) return cli_error(CLI_INPUT, "%s", err);
    size_t n;
    char *text = cli_read(o.text, &n);
    if (text == NULL) {
        lm_tokenizer_close(tk);
        return CLI_INPUT;
    }

    int (*convert)(const lm_tokenizer *, const options *, const char *, size_t) = o.decode ? decode : encode;
    int code = CLI_OK;
    if (!o.lines) code = convert(tk, &o, text, n);
    for (size_t at = 0; o.lines && at < n && code == CLI_OK;) {
        const char *newline = memchr(text + at, '\n', n - at);
        size_t end = newline != NULL ? (size_t)(newline - text) : n;
        code = convert(tk, &o, text + at, end - at);
        at = end + 1;
    }
    free(text);
    lm_tokenizer_close(tk);
    if (fflush(stdout) != 0 || ferror(stdout))
        return cli_error(CLI_FAIL, "cannot write the output: %s", strerror(errno));
    return code;
}
