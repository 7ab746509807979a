/* attn_avx2.c - softmax(q K) V by panels of the cache that are decoded once for many queries.
 *
 * A task has some consecutive tokens and the query heads of one KV head: its rows. It walks the cache in tiles of 64
 * tokens: panels of K, transposed, give scores; these become weights (online softmax, with 2^x and log2 e folded into
 * the scale); panels of V are added up with them. Every score is one chain of FMAs over the elements, every output one
 * chain over the tokens, so that a row's bits do not depend on which rows share its task. After each chunk of 256
 * tokens (more, in long lanes) a row starts anew and is merged, in order, into its total: so chunks can as well be
 * tasks of their own, for a call with few tokens, and still give the same bits. */
#include "core/core.h"
#include "core/kernel.h"
#include "isa/avx2/kv.h"
#include "isa/avx2/math.h"
#include <float.h>

enum {
    TILE = 64,        /* tokens */
    K_STEP = 64,      /* elements of a K panel */
    MAX_ROWS = 48,
    POOL = 12288,     /* floats of the stack for rows */
    CHUNK = 256,      /* tokens */
    MAX_CHUNKS = 32,  /* of a lane; longer chunks beyond */
    FEW_TASKS = 64    /* below this many, chunks become tasks */
};

typedef struct job {
    const oct_attn_args *a;
    oct_kv kv;
    int64_t group;  /* query heads of a KV head */
    int64_t heads;  /* of them in a task */
    int64_t pieces; /* tasks a KV head */
    int64_t tokens; /* of a task */
    int64_t blocks; /* of tokens */
    int64_t splits; /* chunks as tasks of their own, whose parts meet in scratch: the most that a lane can have; 0: not so */
    int64_t width;  /* d rounded up to 16 */
    int64_t row_bytes;
    float scale;    /* of q, log2 e included */
} job;

/* Tokens of a chunk; the caller's splits, if there are some, are the chunks. */
static int64_t chunk_of(const oct_attn_args *a, int64_t len)
{
    int64_t n = CHUNK;
    if (a->splits) return oct_max(1, oct_cdiv(len, a->splits));
    while (n * MAX_CHUNKS < len) n *= 2;
    return n;
}

static job plan(const oct_attn_args *a)
{
    job j = { .a = a, .kv = oct_kv_full(a->kv) };
    const int64_t room = j.kv.page_table ? j.kv.ld_page_table * j.kv.page_size : j.kv.page_size;
    j.width = oct_cdiv(a->d, 16) * 16;
    j.row_bytes = oct_kv_row_bytes(a->kv);
    int64_t rows = oct_min(MAX_ROWS, POOL / (a->d + 2 * j.width + TILE));
    if (rows > 6) rows -= rows % 6;
    j.group = a->heads / j.kv.heads;
    j.pieces = oct_cdiv(j.group, rows);
    j.heads = oct_cdiv(j.group, j.pieces);
    j.tokens = a->lane ? rows / j.heads : 1;
    j.blocks = oct_cdiv(a->t, j.tokens);
    j.splits = a->t * j.kv.heads * j.pieces < FEW_TASKS ? oct_min(MAX_CHUNKS, oct_cdiv(room, CHUNK)) : 0;
    if (j.splits == 1) j.splits = 0;
    if (a->splits) j.splits = a->splits;
    j.scale = (float)((double)a->scale * 1.4426950408889634);
    return j;
}

/* A part: numerators, then the largest score and the denominator. */
static int64_t part_floats(const job *j) { return j->width + 8; }

int oct_attn_avx2_fits(const oct_attn_args *a, oct_fit *fit)
{
    const job j = plan(a);
    fit->scratch = a->t * a->heads * j.splits * part_floats(&j) * 4;
    return 1;
}

/* ---- The product of rows with a panel ---- */

/* out[r][c] (+)= sum_i x[r][i] panel[i][c] for R rows and 8 W columns, i ascending. */
INLINE void kernel(int R, int W, const float *panel, int64_t n, const float *x, int64_t ldx, float *out, int64_t ldo, int first)
{
    __m256 acc[6][4];
#pragma GCC unroll 6
    for (int r = 0; r < R; r++)
#pragma GCC unroll 4
        for (int w = 0; w < W; w++) acc[r][w] = first ? _mm256_setzero_ps() : _mm256_loadu_ps(out + r * ldo + 8 * w);
    for (int64_t i = 0; i < n; i++) { /* what is fewer, rows or columns, waits in registers: all fits in 16 */
        __m256 few[4];
        if (R < W) {
#pragma GCC unroll 3
            for (int r = 0; r < R; r++) few[r] = _mm256_broadcast_ss(x + r * ldx + i);
#pragma GCC unroll 4
            for (int w = 0; w < W; w++) {
                const __m256 k = _mm256_loadu_ps(panel + i * KV_PANEL + 8 * w);
#pragma GCC unroll 3
                for (int r = 0; r < R; r++) acc[r][w] = _mm256_fmadd_ps(few[r], k, acc[r][w]);
            }
        } else {
#pragma GCC unroll 2
            for (int w = 0; w < W; w++) few[w] = _mm256_loadu_ps(panel + i * KV_PANEL + 8 * w);
#pragma GCC unroll 6
            for (int r = 0; r < R; r++) {
                const __m256 b = _mm256_broadcast_ss(x + r * ldx + i);
#pragma GCC unroll 2
                for (int w = 0; w < W; w++) acc[r][w] = _mm256_fmadd_ps(b, few[w], acc[r][w]);
            }
        }
    }
#pragma GCC unroll 6
    for (int r = 0; r < R; r++)
#pragma GCC unroll 4
        for (int w = 0; w < W; w++) _mm256_storeu_ps(out + r * ldo + 8 * w, acc[r][w]);
}

/* cols is 16 or 32. */
static void multiply(const float *panel, int64_t n, int cols, const float *x, int64_t ldx, int64_t rows, float *out, int64_t ldo, int first)
{
    while (rows > 0) {
        const int64_t r = rows > 8 ? 6 : rows > 6 ? 4 : rows;
        if (r <= 3 && cols == 32) switch (r) {
            case 1: kernel(1, 4, panel, n, x, ldx, out, ldo, first); break;
            case 2: kernel(2, 4, panel, n, x, ldx, out, ldo, first); break;
            case 3: kernel(3, 4, panel, n, x, ldx, out, ldo, first); break;
            }
        else
            for (int c = 0; c < cols; c += 16) switch (r) {
                case 1: kernel(1, 2, panel + c, n, x, ldx, out + c, ldo, first); break;
                case 2: kernel(2, 2, panel + c, n, x, ldx, out + c, ldo, first); break;
                case 3: kernel(3, 2, panel + c, n, x, ldx, out + c, ldo, first); break;
                case 4: kernel(4, 2, panel + c, n, x, ldx, out + c, ldo, first); break;
                case 5: kernel(5, 2, panel + c, n, x, ldx, out + c, ldo, first); break;
                case 6: kernel(6, 2, panel + c, n, x, ldx, out + c, ldo, first); break;
                }
        rows -= r;
        x += r * ldx;
        out += r * ldo;
    }
}

/* ---- Softmax ---- */

static float exp2_one(float x) { return _mm256_cvtss_f32(exp2_nonpositive(_mm256_set1_ps(x))); }

static float sum_lanes(__m256 v)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
static float max_lanes(__m256 v)
{
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}

static void scale_row(float *x, int64_t n, float by)
{
    for (int64_t i = 0; i < n; i += 8) _mm256_storeu_ps(x + i, _mm256_mul_ps(_mm256_loadu_ps(x + i), _mm256_set1_ps(by)));
}

/* Scores [0, n) of a tile become weights 2^(s - max); those behind n up to a multiple of 8 become 0. When the largest
 * score grows, what was summed up before shrinks. */
static void soften(float *s, int64_t n, float *max, float sum[8], float *acc, int64_t width)
{
    __m256 m = _mm256_set1_ps(-INFINITY), total = _mm256_loadu_ps(sum);
    if (n % 8) {
        float *last = s + n / 8 * 8;
        _mm256_storeu_ps(last, _mm256_blendv_ps(m, _mm256_loadu_ps(last), _mm256_castsi256_ps(first_lanes(n % 8))));
    }
    for (int64_t i = 0; i < n; i += 8) m = _mm256_max_ps(m, _mm256_loadu_ps(s + i));
    const float largest = max_lanes(m);
    if (largest > *max) {
        const float by = exp2_one(*max - largest);
        if (*max > -FLT_MAX) {
            scale_row(acc, width, by);
            total = _mm256_mul_ps(total, _mm256_set1_ps(by));
        }
        *max = largest;
    }
    for (int64_t i = 0; i < n; i += 8) {
        const __m256 p = exp2_nonpositive(_mm256_sub_ps(_mm256_loadu_ps(s + i), _mm256_set1_ps(*max)));
        total = _mm256_add_ps(total, p);
        _mm256_storeu_ps(s + i, p);
    }
    _mm256_storeu_ps(sum, total);
}

/* Adds a part, whose tokens follow, to a total. */
static void merge(float *total, float *max, float *sum, const float *part, float part_max, float part_sum, int64_t width)
{
    const float m = *max > part_max ? *max : part_max, f = exp2_one(*max - m), g = exp2_one(part_max - m);
    for (int64_t i = 0; i < width; i += 8)
        _mm256_storeu_ps(total + i, _mm256_fmadd_ps(_mm256_loadu_ps(part + i), _mm256_set1_ps(g),
                                                    _mm256_mul_ps(_mm256_loadu_ps(total + i), _mm256_set1_ps(f))));
    *sum = fmaf(part_sum, g, *sum * f);
    *max = m;
}

static void write_row(const oct_attn_args *a, int64_t i, int64_t h, const float *total, float sum)
{
    const int64_t at = i * a->ldy + h * a->head_y;
    const __m256 inv = _mm256_set1_ps(1.0f / sum);
    for (int64_t e = 0; e < a->d; e += 8) {
        const __m256 v = total ? _mm256_mul_ps(_mm256_loadu_ps(total + e), inv) : _mm256_setzero_ps();
        if (a->y_dtype == OCT_BF16) store_first((uint16_t *)a->y + at + e, OCT_BF16, 0, v, a->d - e);
        else if (a->d - e >= 8) _mm256_storeu_ps((float *)a->y + at + e, v);
        else _mm256_maskstore_ps((float *)a->y + at + e, first_lanes(a->d - e), v);
    }
}

/* ---- A task ---- */

/* Rows: consecutive tokens of one lane, each with the same heads. */
typedef struct rows {
    int64_t count;
    int64_t len[MAX_ROWS];
    float *q, *s;                    /* [count][d], [count][TILE] */
    float *part, *total;             /* [count][width] */
    float part_max[MAX_ROWS], max[MAX_ROWS], part_sum[MAX_ROWS][8], sum[MAX_ROWS];
    float panel[K_STEP * KV_PANEL];  /* of K, [e][token]; of V, [token][e]: TILE = K_STEP */
    float pool[POOL];
} rows;

/* Where rows [t, t + n) of a lane begin, in k and in v; repeats the last one up to a whole panel. */
static void find_rows(const oct_kv *kv, int64_t lane, int64_t g, int64_t t, int64_t n, int64_t *at)
{
    int64_t left = 0, next = 0;
    for (int64_t i = 0; i < n; i++, left--, next += kv->token_bytes) {
        if (!left) {
            next = oct_kv_offset(kv, oct_kv_page(kv, lane, t + i), t + i, g);
            left = kv->page_size - (t + i) % kv->page_size;
        }
        at[i] = next;
    }
    for (int64_t i = n; i % KV_PANEL; i++) at[i] = at[n - 1];
}

/* Asks for rows of the cache that are needed soon, into L2: into L1 it is no faster warm and slower cold. */
INLINE void prefetch(const void *data, const int64_t *at, int64_t n, int64_t bytes)
{
    for (int64_t i = 0; i < n; i++)
        for (int64_t b = 0; b < bytes; b += 64) _mm_prefetch((const char *)data + at[i] + b, _MM_HINT_T1);
}

/* One tile: n tokens from t, whose rows lie at `at`; those of the next tile, next_n tokens, at `next`. While scores are
 * computed V is on its way, and while V is added up the next K. */
INLINE void tile(const job *j, const oct_kv *kv, rows *r, int64_t t, int64_t n, const int64_t *at, int64_t next_n, const int64_t *next)
{
    const int64_t d = kv->d, panels = oct_cdiv(d, KV_PANEL), bytes = j->row_bytes;
    for (int64_t i = 0; i < n; i += KV_PANEL) {
        for (int64_t e = 0; e < d; e += K_STEP) {
            const int64_t m = oct_min(K_STEP, d - e);
            for (int k = 0; k < KV_PANEL; k += 8) {
                const uint8_t *row[8];
                if (e == 0) prefetch(kv->v, at + i + k, 8, bytes);
                for (int l = 0; l < 8; l++) row[l] = (const uint8_t *)kv->k + at[i + k + l];
                kv_load_8_rows(kv, row, e, m, r->panel + k);
            }
            multiply(r->panel, m, KV_PANEL, r->q + e, d, r->count, r->s + i, TILE, e == 0);
        }
    }
    for (int64_t i = 0; i < r->count; i++)
        if (r->len[i] > t) soften(r->s + i * TILE, oct_min(n, r->len[i] - t), &r->part_max[i], r->part_sum[i], r->part + i * j->width, j->width);
    for (int64_t p = 0; p < panels; p++) {
        const int64_t e = p * KV_PANEL, m = oct_min(KV_PANEL, d - e);
        prefetch(kv->k, next + next_n * p / panels, next_n * (p + 1) / panels - next_n * p / panels, bytes);
        kv_load_columns(kv, kv->v, at, n, e, m, r->panel);
        for (int64_t i = 0, end; i < r->count; i = end) { /* rows that see as many tokens of the tile */
            const int64_t seen = oct_min(n, r->len[i] - t);
            for (end = i + 1; end < r->count && oct_min(n, r->len[end] - t) == seen;) end++;
            if (seen > 0)
                multiply(r->panel, seen, m > 16 ? 32 : 16, r->s + i * TILE, TILE, end - i, r->part + i * j->width + e, j->width, 0);
        }
    }
}

/* Tokens [t, end) of the cache into the rows' parts. The format is a constant in each copy. */
static void chunk(const job *j, rows *r, int64_t lane, int64_t g, int64_t t, int64_t end)
{
    oct_kv kv = j->kv;
    for (int64_t i = 0; i < r->count; i++) {
        r->part_max[i] = -FLT_MAX;
        memset(r->part_sum[i], 0, sizeof r->part_sum[i]);
        memset(r->part + i * j->width, 0, (size_t)j->width * 4);
    }
    int64_t at[2][TILE], n = oct_min(TILE, end - t), next;
    find_rows(&kv, lane, g, t, n, at[0]);
    for (int i = 0; t < end; t += TILE, n = next, i = !i) {
        next = oct_max(0, oct_min(TILE, end - t - TILE));
        find_rows(&kv, lane, g, t + TILE, next, at[!i]);
        switch (kv.format) {
        case OCT_KV_BF16:     kv.format = OCT_KV_BF16; tile(j, &kv, r, t, n, at[i], next, at[!i]); break;
        case OCT_KV_F8_TOKEN: kv.format = OCT_KV_F8_TOKEN; tile(j, &kv, r, t, n, at[i], next, at[!i]); break;
        default:              kv.format = OCT_KV_I4; tile(j, &kv, r, t, n, at[i], next, at[!i]); break;
        }
    }
}

/* Tokens [from, to) of one lane and one length of chunks, heads [h, h + heads), split (-1: all). */
static void run_of(const job *j, rows *r, int64_t from, int64_t to, int64_t g, int64_t h, int64_t heads, int64_t split)
{
    const oct_attn_args *a = j->a;
    const int64_t lane = a->lane ? a->lane[from] : from, d = a->d, width = j->width;
    int64_t longest = 0;
    r->count = (to - from) * heads;
    r->q = r->pool;
    r->s = r->q + r->count * d;
    r->part = r->s + r->count * TILE;
    r->total = r->part + r->count * width;
    for (int64_t i = 0; i < r->count; i++) {
        const int64_t token = from + i / heads;
        const uint16_t *q = (const uint16_t *)a->q + token * a->ldq + (h + i % heads) * a->head_q;
        r->len[i] = a->len[token];
        longest = oct_max(longest, r->len[i]);
        for (int64_t e = 0; e < d; e += 8) {
            const __m256 v = _mm256_mul_ps(load_first(q + e, OCT_BF16, 0, d - e), _mm256_set1_ps(j->scale));
            if (d - e >= 8) _mm256_storeu_ps(r->q + i * d + e, v);
            else _mm256_maskstore_ps(r->q + i * d + e, first_lanes(d - e), v);
        }
    }
    const int64_t step = chunk_of(a, longest);
    for (int64_t c = oct_max(split, 0), t = c * step; t < longest; c++, t += step) {
        chunk(j, r, lane, g, t, oct_min(longest, t + step));
        for (int64_t i = 0; i < r->count; i++) {
            const float *part = r->part + i * width, part_sum = sum_lanes(_mm256_loadu_ps(r->part_sum[i]));
            if (r->len[i] <= t) continue;
            if (split >= 0) {
                float *out = (float *)a->on.scratch + (((from + i / heads) * a->heads + h + i % heads) * j->splits + split) * part_floats(j);
                memcpy(out, part, (size_t)width * 4);
                out[width] = r->part_max[i];
                out[width + 1] = part_sum;
            } else if (c == 0) {
                memcpy(r->total + i * width, part, (size_t)width * 4);
                r->max[i] = r->part_max[i];
                r->sum[i] = part_sum;
            } else
                merge(r->total + i * width, &r->max[i], &r->sum[i], part, r->part_max[i], part_sum, width);
        }
        if (split >= 0) return;
    }
    if (split < 0)
        for (int64_t i = 0; i < r->count; i++)
            write_row(a, from + i / heads, h + i % heads, r->len[i] ? r->total + i * width : 0, r->len[i] ? r->sum[i] : 1.0f);
}

static void task(void *p, int64_t index)
{
    const job *j = p;
    const oct_attn_args *a = j->a;
    const int64_t each = oct_max(1, j->splits), split = j->splits ? index % each : -1, piece = index / each % (j->kv.heads * j->pieces);
    const int64_t block = j->blocks - 1 - index / each / (j->kv.heads * j->pieces); /* causal: the longest first */
    const int64_t g = piece / j->pieces, first = piece % j->pieces * j->heads, heads = oct_min(j->heads, j->group - first);
    const int64_t last = oct_min(a->t, (block + 1) * j->tokens);
    rows r;
    for (int64_t i = block * j->tokens, end; i < last; i = end) {
        const int64_t step = chunk_of(a, a->len[i]);
        for (end = i + 1; end < last && a->lane && a->lane[end] == a->lane[i] && chunk_of(a, a->len[end]) == step;) end++;
        if (heads > 0) run_of(j, &r, i, end, g, g * j->group + first, heads, split);
    }
}

/* A part as split j of the caller; NULL: it has no tokens. */
static void write_split(const job *j, int64_t i, int64_t h, int64_t split, const float *part)
{
    const oct_attn_args *a = j->a;
    const int64_t at = split * a->heads + h;
    const int none = !part || part[j->width] == -FLT_MAX; /* or no score above -infinity */
    float *y = a->y_split ? a->y_split + (i * a->splits * a->heads + at) * a->d : 0;
    if (a->y_max) a->y_max[i * a->ld_split + at] = none ? -INFINITY : (float)((double)part[j->width] * 0.6931471805599453);
    if (a->y_sum) a->y_sum[i * a->ld_split + at] = none ? 0 : part[j->width + 1];
    for (int64_t e = 0; y && e < a->d; e++) y[e] = none ? 0 : part[e];
}

/* Merges a token's parts. */
static void finish(void *p, int64_t i)
{
    const job *j = p;
    const oct_attn_args *a = j->a;
    const int64_t len = a->len[i], chunks = oct_cdiv(len, chunk_of(a, len));
    for (int64_t h = 0; h < a->heads; h++) {
        float *part = (float *)a->on.scratch + (i * a->heads + h) * j->splits * part_floats(j), *total = part;
        for (int64_t s = 0; s < a->splits; s++) write_split(j, i, h, s, s < chunks ? part + s * part_floats(j) : 0);
        for (int64_t c = 1; c < chunks; c++) {
            part += part_floats(j);
            merge(total, &total[j->width], &total[j->width + 1], part, part[j->width], part[j->width + 1], j->width);
        }
        write_row(a, i, h, len ? total : 0, len ? total[j->width + 1] : 1.0f);
    }
}

oct_status oct_attn_avx2(const oct_attn_args *a)
{
    job j = plan(a);
    oct_parallel(&a->on, j.blocks * j.kv.heads * j.pieces * oct_max(1, j.splits), task, &j);
    if (j.splits) oct_parallel(&a->on, a->t, finish, &j);
    return OCT_OK;
}
