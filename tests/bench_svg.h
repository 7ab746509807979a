/* bench_svg.h - a picture of a bench run: a bar a row and shape, as its share of the machine's limit. */
#ifndef OCTAVO_TESTS_BENCH_SVG_H
#define OCTAVO_TESTS_BENCH_SVG_H
typedef struct ck_svg ck_svg;
ck_svg *ck_svg_open(const char *path);
void ck_svg_bar(ck_svg *s, const char *kernel, const char *shape, double of_limit, const char *limit);
int ck_svg_close(ck_svg *s); /* 0: written */
#endif
