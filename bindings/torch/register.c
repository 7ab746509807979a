/* register.c - the operators of ops.def become operators of torch. */
#include "ops.h"
#include <stdio.h>
#include <string.h>

static const struct {
    int also, devices;
    const char *name, *schema;
    kernel *run;
} ops[] = {
#define OP(also, devices, name, schema) { also, devices, #name, schema, op_##name },
#include "ops.def"
#undef OP
};

/* The encoding of slots that this speaks, torch 2.10's: a constant, never the running version. */
static const uint64_t encoding = 0x020A000000000000u;

/* Defines the operators of one namespace that nobody has defined yet, of which `taken` tells by the qualified name: torch would
 * refuse them, too, but prints a trace before 2.13. Calls `added` with each new name. 0; or negative, and why in `text`:
 * -1 no torch in this process, -2 an unsupported one, -3 it refused.
 * torch's handles are kept: deleting one takes its operators away. */
__attribute__((visibility("default"))) int octavo_torch_register(const char *ns, int (*taken)(const char *), void (*added)(const char *),
                                                                 char *text, int64_t n);
int octavo_torch_register(const char *ns, int (*taken)(const char *), void (*added)(const char *), char *text, int64_t n)
{
    static const struct {
        const char *name;
        int bit;
    } namespaces[] = { { "fbgemm", FBGEMM }, { "mslk", MSLK } }, keys[] = { { "CPU", CPU }, { "CUDA", CUDA } };
    const char *missing = "";
    int bit = 0;
    const int bad = torch_bind(&missing);
    if (bad) {
        snprintf(text, (size_t)n, bad == -1 ? "torch is not loaded%s" : "this torch lacks %s", missing);
        return bad;
    }
    for (int i = 0; i < 2; i++)
        if (!strcmp(ns, namespaces[i].name)) bit = namespaces[i].bit;
    handle definitions = 0, library[2] = { 0 };
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++) {
        char line[1024];
        if (bit && !(ops[i].also & bit)) continue;
        snprintf(line, sizeof line, "%s::%s", ns, ops[i].name);
        if (taken(line)) continue;
        snprintf(line, sizeof line, "%s%s", ops[i].name, ops[i].schema);
        int refused = (!definitions && torch.aoti_torch_library_init_fragment(ns, "octavo", 0, &definitions)) ||
                      torch.aoti_torch_library_def(definitions, line);
        for (int k = 0; k < 2 && !refused; k++)
            if (ops[i].devices & keys[k].bit)
                refused = (!library[k] && torch.aoti_torch_library_init_impl(ns, keys[k].name, "octavo", 0, &library[k])) ||
                          torch.torch_library_impl(library[k], ops[i].name, ops[i].run, encoding);
        snprintf(line, sizeof line, "%s::%s", ns, ops[i].name);
        if (refused) {
            snprintf(text, (size_t)n, "torch refused %s", line);
            return -3;
        }
        added(line);
    }
    return 0;
}
