/* chat.c - see chat.h. */
#define _GNU_SOURCE
#include "chat.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"

#define MAX_TEMPLATE 16000000

/* Defaults of templates in use: SmolLM2's system message, and the dates that Llama 3.1 and later put first. */
#define SMOLLM_SYSTEM "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
#define LLAMA31_MARK "Cutting Knowledge Date: December 2023"
#define LLAMA31_DATES LLAMA31_MARK "\nToday Date: 26 Jul 2024\n\n"

lm_chat_form lm_chat_find(const lm_tokenizer *tk)
{
    if (lm_tokenizer_find(tk, "<|im_start|>") >= 0 && lm_tokenizer_find(tk, "<|im_end|>") >= 0) return LM_CHAT_CHATML;
    if (lm_tokenizer_find(tk, "<|start_header_id|>") >= 0 && lm_tokenizer_find(tk, "<|end_header_id|>") >= 0 &&
        lm_tokenizer_find(tk, "<|eot_id|>") >= 0)
        return LM_CHAT_LLAMA3;
    return LM_CHAT_NONE;
}

/* chat_template is a string, or a list of {name, template}, of which "default" counts. NULL when there is none. */
static const char *template_in(const cJSON *config)
{
    const cJSON *list = lm_json_get(config, "chat_template"), *v;
    if (cJSON_IsArray(list)) {
        cJSON_ArrayForEach(v, list)
        {
            const char *name = lm_json_text(v, "name");
            if (name != NULL && strcmp(name, "default") == 0) return lm_json_text(v, "template");
        }
    }
    return lm_json_text(config, "chat_template");
}

/* The template in tokenizer_config.json. */
static int template_of_config(const char *path, char **text, char *err, size_t errn)
{
    size_t n;
    char *json = lm_read_file(path, MAX_TEMPLATE, &n, err, errn);
    if (json == NULL) return n == SIZE_MAX ? 0 : -1; /* no such file: no template */
    cJSON *top = lm_json_parse(json, n, path, err, errn);
    free(json);
    if (top == NULL) return -1;
    const char *found = template_in(top);
    *text = found != NULL ? strdup(found) : NULL;
    int bad = found != NULL && *text == NULL;
    cJSON_Delete(top);
    return bad ? lm_fail(err, errn, "%s: out of memory", path) : 0;
}

int lm_chat_template(const char *dir, char **text, char *err, size_t errn)
{
    char *jinja = lm_path_join(dir, "chat_template.jinja"), *config = lm_path_join(dir, "tokenizer_config.json");
    size_t n;
    int bad = 0;
    *text = NULL;
    if (jinja == NULL || config == NULL) bad = lm_fail(err, errn, "%s: out of memory", dir);
    else if ((*text = lm_read_file(jinja, MAX_TEMPLATE, &n, err, errn)) == NULL)
        bad = n == SIZE_MAX ? template_of_config(config, text, err, errn) : -1;
    free(jinja);
    free(config);
    return bad;
}

/* One message; first_line stands before its content. */
static void put_message(FILE *f, lm_chat_form form, const char *role, const char *first_line, const char *content)
{
    if (form == LM_CHAT_CHATML) {
        fprintf(f, "<|im_start|>%s\n%s%s<|im_end|>\n", role, first_line, content);
        return;
    }
    /* Llama's template trims each content. */
    const char *space = " \t\n\v\f\r";
    content += strspn(content, space);
    size_t n = strlen(content);
    while (n > 0 && strchr(space, content[n - 1]) != NULL) n--;
    fprintf(f, "<|start_header_id|>%s<|end_header_id|>\n\n%s", role, first_line);
    fwrite(content, 1, n, f);
    fputs("<|eot_id|>", f);
}

int lm_chat_prompt(lm_chat_form form, const char *template_text, const lm_chat_message *messages, size_t count,
                   char **text, char *err, size_t errn)
{
    const char *known = template_text != NULL ? template_text : "";
    *text = NULL;
    if (form == LM_CHAT_NONE)
        return lm_fail(err, errn, "the tokenizer has neither ChatML's nor Llama 3's tokens, so this is no chat model");
    for (size_t i = 0; i < count; i++)
        if (strcmp(messages[i].role, "user") != 0 && strcmp(messages[i].role, "assistant") != 0 &&
            (i > 0 || strcmp(messages[i].role, "system") != 0))
            return lm_fail(err, errn, "message %zu: role %.40s; roles are user, assistant, and first of all system", i,
                           messages[i].role);

    size_t n;
    FILE *f = open_memstream(text, &n);
    if (f == NULL) return lm_fail(err, errn, "out of memory");
    const char *dates = form == LM_CHAT_LLAMA3 && strstr(known, LLAMA31_MARK) != NULL ? LLAMA31_DATES : "";
    if (count == 0 || strcmp(messages[0].role, "system") != 0) {
        if (form == LM_CHAT_CHATML && strstr(known, SMOLLM_SYSTEM) != NULL)
            put_message(f, form, "system", "", SMOLLM_SYSTEM);
        if (*dates != '\0') put_message(f, form, "system", dates, "");
    }
    for (size_t i = 0; i < count; i++)
        put_message(f, form, messages[i].role, strcmp(messages[i].role, "system") == 0 ? dates : "",
                    messages[i].content);
    fputs(form == LM_CHAT_CHATML ? "<|im_start|>assistant\n" : "<|start_header_id|>assistant<|end_header_id|>\n\n", f);
    int bad = ferror(f);
    if (fclose(f) != 0 || bad) {
        free(*text);
        *text = NULL;
        return lm_fail(err, errn, "out of memory");
    }
    return 0;
}
