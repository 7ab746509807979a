/* check_main.c - the harness alone: `check [--filter TEXT] [--seed N] [--extra N] [--quick] [--exact] [--backend NAME]
 * [--bench [--shape TEXT] [--csv FILE] [--peers SCRIPT] [--threads N] [--seconds S]]`. */
#include "check.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
    ck_options o = { .threads = 1, .seconds = 1 };
    int bench = 0;
    for (int i = 1; i < argc; i++) {
        const char *v = i + 1 < argc ? argv[i + 1] : "";
        if (!strcmp(argv[i], "--quick")) o.quick = 1;
        else if (!strcmp(argv[i], "--bench")) bench = 1;
        else if (!strcmp(argv[i], "--exact")) o.exact = 1;
        else if (!strcmp(argv[i], "--backend")) o.backend = v, i++;
        else if (!strcmp(argv[i], "--filter")) o.filter = v, i++;
        else if (!strcmp(argv[i], "--seed")) o.seed = strtoull(v, 0, 10), i++;
        else if (!strcmp(argv[i], "--shape")) o.shape = v, i++;
        else if (!strcmp(argv[i], "--csv")) o.csv = v, i++;
        else if (!strcmp(argv[i], "--peers")) o.peers = v, i++;
        else if (!strcmp(argv[i], "--extra")) o.extra = atoi(v), i++;
        else if (!strcmp(argv[i], "--threads")) o.threads = atoi(v), i++;
        else if (!strcmp(argv[i], "--seconds")) o.seconds = atof(v), i++;
        else {
            fprintf(stderr, "check: unknown argument %s\n", argv[i]);
            return 2;
        }
    }
    return bench ? ck_bench_all(&o) : ck_check_all(&o);
}
