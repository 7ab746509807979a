/* cubins.c - the compiled kernels, as read-only data of the library. The assembler finds them along its include path. */
#define C(name)                                                                                                 \
    __asm__(".pushsection .rodata\n.balign 64\n"                                                                \
            ".hidden oct_cubin_" #name "\n.globl oct_cubin_" #name "\noct_cubin_" #name ":\n"                   \
            ".incbin \"" #name ".cubin\"\n"                                                                     \
            ".hidden oct_cubin_" #name "_end\n.globl oct_cubin_" #name "_end\noct_cubin_" #name "_end:\n"       \
            ".byte 0\n.popsection");
#include "cubins.def"
#undef C
typedef int oct_cubins_not_empty;
