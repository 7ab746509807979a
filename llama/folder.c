/* folder.c - see folder.h. */
#define _GNU_SOURCE
#include "llama/folder.h"
#include "llama/json.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

struct lm_folder {
    char *out, *work, *parent;
};

static void drop(lm_folder *f)
{
    if (!f) return;
    free(f->out);
    free(f->work);
    free(f->parent);
    free(f);
}

lm_folder *lm_folder_create(const char *out, int64_t bytes, char *err, size_t errn)
{
    struct stat st;
    struct statvfs fs;
    lm_folder *f = calloc(1, sizeof *f);
    char *copy = strdup(out);
    size_t n = strlen(out);
    while (n > 1 && out[n - 1] == '/') n--;
    if (f) {
        f->out = strndup(out, n);
        f->parent = copy ? strdup(dirname(copy)) : 0;
        if (!f->out || asprintf(&f->work, "%s.%ld.partial", f->out, (long)getpid()) < 0) f->work = 0;
    }
    free(copy);
    if (!f || !f->parent || !f->work) lm_fail(err, errn, "out of memory");
    else if (!*out) lm_fail(err, errn, "the output folder has no name");
    else if (!lstat(f->out, &st)) lm_fail(err, errn, "%s exists already; remove it or give another name", f->out);
    else if (statvfs(f->parent, &fs)) lm_fail(err, errn, "%s: %s", f->parent, strerror(errno));
    else if ((double)fs.f_bavail * (double)fs.f_frsize < (double)bytes)
        lm_fail(err, errn, "%s: %.1f MB are needed, %.1f MB are free on its disk", f->out, (double)bytes * 1e-6,
                (double)fs.f_bavail * (double)fs.f_frsize * 1e-6);
    else if (mkdir(f->work, 0777)) lm_fail(err, errn, "%s: cannot create: %s", f->work, strerror(errno));
    else return f;
    drop(f);
    return 0;
}

const char *lm_folder_path(const lm_folder *f) { return f->work; }

static int sync_folder(const char *path)
{
    const int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const int bad = fd < 0 || fsync(fd);
    if (fd >= 0) close(fd);
    return bad;
}

static void remove_folder(const char *path)
{
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));)
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..")) unlinkat(dirfd(d), e->d_name, 0);
    if (d) closedir(d);
    rmdir(path);
}

int lm_folder_finish(lm_folder *f, int ok, char *err, size_t errn)
{
    int bad = 0;
    if (ok && (sync_folder(f->work) || renameat2(AT_FDCWD, f->work, AT_FDCWD, f->out, RENAME_NOREPLACE) || sync_folder(f->parent)))
        bad = lm_fail(err, errn, "%s: cannot create: %s", f->out, strerror(errno));
    if (!ok || bad) remove_folder(f->work);
    drop(f);
    return bad;
}

static int write_file(const char *path, const char *text, size_t n, char *err, size_t errn)
{
    FILE *f = fopen(path, "wb");
    if (f && fwrite(text, 1, n, f) == n && !fflush(f) && !fsync(fileno(f))) return fclose(f) ? lm_fail(err, errn, "%s: %s", path, strerror(errno)) : 0;
    lm_fail(err, errn, "%s: cannot write: %s", path, strerror(errno));
    if (f) fclose(f);
    return -1;
}

int lm_write_json(const char *dir, const char *name, const cJSON *o, char *err, size_t errn)
{
    char *path = lm_path_join(dir, name), *text = cJSON_Print(o);
    const int bad = path && text ? write_file(path, text, strlen(text), err, errn) : lm_fail(err, errn, "out of memory");
    free(path);
    cJSON_free(text);
    return bad;
}

int lm_folder_copy_texts(const char *from, const char *to, char *err, size_t errn)
{
    static const char *const endings[] = { ".json", ".txt", ".model", ".jinja", ".md" };
    int bad = 0;
    DIR *d = opendir(from);
    if (!d) return lm_fail(err, errn, "%s: %s", from, strerror(errno));
    for (struct dirent *e; !bad && (e = readdir(d));) {
        const char *dot = strrchr(e->d_name, '.');
        int take = 0;
        for (size_t i = 0; dot && i < sizeof endings / sizeof *endings; i++) take |= !strcmp(dot, endings[i]);
        if (!take || e->d_name[0] == '.' || !strcmp(e->d_name, "config.json") || strstr(e->d_name, ".index.json")) continue;
        size_t n;
        char *a = lm_path_join(from, e->d_name), *b = lm_path_join(to, e->d_name);
        char *text = a && b ? lm_read_file(a, (size_t)1 << 30, &n, err, errn) : 0;
        struct stat st;
        if (!text) bad = a && !stat(a, &st) && !S_ISREG(st.st_mode) ? 0 : -1; /* a folder of such a name is no text */
        else bad = write_file(b, text, n, err, errn);
        free(a);
        free(b);
        free(text);
    }
    closedir(d);
    return bad;
}
