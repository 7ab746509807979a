/* info.c - `octavo info`, `octavo list`: what this machine has, and what octavo has for it. */
#define _GNU_SOURCE
#include "cli/cli.h"
#include "octavo.h"
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const struct argp info_parser = { 0, 0, 0,
    "Print this machine's features, the backends that octavo found, and what each needs.\v"
    "Example:\n  octavo info\n", 0, 0, 0 };

static void cpu_name(char *name, size_t n)
{
    char line[256];
    FILE *f = fopen("/proc/cpuinfo", "r");
    snprintf(name, n, "unknown CPU");
    while (f && fgets(line, sizeof line, f)) {
        const char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) || !colon) continue;
        snprintf(name, n, "%.*s", (int)strcspn(colon + 2, "\n"), colon + 2);
        break;
    }
    if (f) fclose(f);
}

int cmd_info(int argc, char **argv)
{
    char name[128];
    cli_parse(&info_parser, "info", argc, argv, 0);
    const uint32_t cpu = oct_cpu_features();
    const struct { uint32_t bit; const char *name; } features[] = {
        { OCT_CPU_AVX2, "avx2+fma+f16c" }, { OCT_CPU_AVX512, "avx512 f bw vl dq" }, { OCT_CPU_AVX512_BF16, "avx512_bf16" },
        { OCT_CPU_AVX512_VBMI, "avx512_vbmi" }, { OCT_CPU_AMX_BF16, "amx_bf16" } };
    cpu_name(name, sizeof name);
    printf("octavo    %s\nmachine   %s, %ld CPUs\nfeatures ", oct_version(), name, sysconf(_SC_NPROCESSORS_ONLN));
    for (size_t i = 0; i < sizeof features / sizeof *features; i++)
        if (cpu & features[i].bit) printf(" %s;", features[i].name);
    static const char *const backend[] = { "ref", "avx2", "avx512", "sm90" };
    int rows[4] = { 0 }, here[4] = { 0 };
    for (int32_t i = 0; i < oct_kernel_count(); i++) {
        oct_kernel_info_t k;
        oct_kernel_info(i, &k);
        for (int j = 0; j < 4; j++) {
            if (strcmp(k.backend, backend[j])) continue;
            rows[j]++;
            here[j] |= k.runs_here;
        }
    }
    oct_cuda_info_t gpu;
    const oct_status found = oct_cuda_info(0, &gpu);
    if (found == OCT_OK)
        printf("\nGPU       %s, %d multiprocessors, compute capability %d.%d, %.0f GB, CUDA driver %d.%d", gpu.name, gpu.sms, gpu.major,
               gpu.minor, (double)gpu.memory * 1e-9, gpu.driver / 1000, gpu.driver % 1000 / 10);
    else printf("\nGPU       %s", oct_error_text());
    printf("\n\nbackend   kernels  here  needs\n");
    printf("sm90      %7d  %-4s  %s\n", rows[3], here[3] ? "yes" : "no",
           gpu.built_in ? "an NVIDIA Hopper GPU and its driver" : "a build with nvcc, which this is not, and an NVIDIA Hopper GPU");
    printf("avx512    %7d  %-4s  AVX-512 with VBMI and BF16: AMD Zen 4, Intel Sapphire Rapids or later\n", rows[2],
           here[2] ? "yes" : "no");
    printf("avx2      %7d  %-4s  an x86-64 CPU with AVX2, FMA and F16C\n", rows[1], here[1] ? "yes" : "no");
    printf("ref       %7d  yes   nothing; the numeric specification, slow\n", rows[0]);
    printf("\nAMX and gfx942 (AMD MI300X) have no kernels in this version.\n");
    return CLI_OK;
}

static const struct argp list_parser = { 0, 0, 0,
    "Print the table of kernels: op, kernel, backend, and whether this machine can run it.\v"
    "Kernels of an op stand in order of preference; the first that runs here and takes the arguments is chosen.\n\n"
    "Example:\n  octavo list | grep gemm\n", 0, 0, 0 };

int cmd_list(int argc, char **argv)
{
    cli_parse(&list_parser, "list", argc, argv, 0);
    printf("%-16s %-28s %-8s %-8s %s\n", "op", "kernel", "backend", "needs", "here");
    for (int32_t i = 0; i < oct_kernel_count(); i++) {
        oct_kernel_info_t k;
        oct_kernel_info(i, &k);
        printf("%-16s %-28s %-8s %-8s %s\n", k.op, k.name, k.backend, *k.needs ? k.needs : "-", k.runs_here ? "yes" : "no");
    }
    return CLI_OK;
}
