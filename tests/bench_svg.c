/* bench_svg.c - see bench_svg.h. The height is known only at the end, so bars are gathered first. */
#include "bench_svg.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct ck_svg {
    FILE *f;
    struct { char label[96], limit[8]; double share; } *bars;
    int count, room;
};

ck_svg *ck_svg_open(const char *path)
{
    ck_svg *s = calloc(1, sizeof *s);
    if (s && !(s->f = fopen(path, "w"))) { free(s); s = 0; }
    return s;
}

void ck_svg_bar(ck_svg *s, const char *kernel, const char *shape, double of_limit, const char *limit)
{
    if (s->count == s->room) {
        void *more = realloc(s->bars, (size_t)(s->room = s->room ? 2 * s->room : 32) * sizeof *s->bars);
        if (!more) return;
        s->bars = more;
    }
    snprintf(s->bars[s->count].label, sizeof s->bars->label, "%s  %s", kernel, shape);
    snprintf(s->bars[s->count].limit, sizeof s->bars->limit, "%s", limit);
    s->bars[s->count++].share = of_limit;
}

int ck_svg_close(ck_svg *s)
{
    enum { ROW = 20, LEFT = 420, FULL = 400, TOP = 40 };
    fprintf(s->f, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" font-family=\"sans-serif\" font-size=\"12\">\n"
                  "<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n<text x=\"8\" y=\"22\" font-size=\"15\">octavo bench: share of the machine's limit</text>\n",
            LEFT + FULL + 120, TOP + ROW * s->count + 20);
    for (int i = 0; i < s->count; i++) {
        const double share = s->bars[i].share > 1 ? 1 : s->bars[i].share;
        const int y = TOP + ROW * i;
        fprintf(s->f, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text><rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"14\" fill=\"#ddd\"/>"
                      "<rect x=\"%d\" y=\"%d\" width=\"%.0f\" height=\"14\" fill=\"%s\"/><text x=\"%d\" y=\"%d\">%.0f %% of %s</text>\n",
                LEFT - 8, y + 12, s->bars[i].label, LEFT, y, FULL, LEFT, y, share * FULL,
                strcmp(s->bars[i].limit, "read") ? "#4c78a8" : "#59a14f", LEFT + FULL + 8, y + 12, 100 * s->bars[i].share, s->bars[i].limit);
    }
    fprintf(s->f, "</svg>\n");
    const int bad = ferror(s->f) | fclose(s->f);
    free(s->bars);
    free(s);
    return bad != 0;
}
