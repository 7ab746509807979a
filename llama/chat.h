/* chat.h - the prompt of a conversation, in the two forms that Llama models are trained on.
 *
 * Templates in tokenizer_config.json are Jinja programs; nothing here runs them. The form follows from the special
 * tokens that the tokenizer has, and the template is only searched for the few sentences that models of one form
 * differ in. */
#ifndef OCTAVO_LLAMA_CHAT_H
#define OCTAVO_LLAMA_CHAT_H

#include <stddef.h>

#include "tokenizer.h"

typedef enum {
    LM_CHAT_NONE,   /* the tokenizer has the tokens of neither: a base model */
    LM_CHAT_CHATML, /* <|im_start|>role \n content<|im_end|> \n */
    LM_CHAT_LLAMA3  /* <|start_header_id|>role<|end_header_id|> \n\n content<|eot_id|> */
} lm_chat_form;

typedef struct {
    const char *role; /* "system" (first only), "user" or "assistant" */
    const char *content;
} lm_chat_message;

lm_chat_form lm_chat_find(const lm_tokenizer *tk);

/* The model's chat template, from DIR/chat_template.jinja or tokenizer_config.json, to free. *text is NULL when
 * the folder has none. 0, or -1 and err. */
int lm_chat_template(const char *dir, char **text, char *err, size_t errn);

/* The text that asks the model for its next answer, to free; encode it with add_special = 1, which adds the token
 * that begins a text where the model wants one. template_text may be NULL. Where there is no system message, the
 * one that the template has as its default is put in. Special tokens in a content keep their meaning. 0, or -1 and
 * err. */
int lm_chat_prompt(lm_chat_form form, const char *template_text, const lm_chat_message *messages, size_t count,
                   char **text, char *err, size_t errn);

#endif
