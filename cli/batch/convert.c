#include "convert.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static kvot_status fail(kvot_error *error, kvot_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static kvot_status fail(kvot_error *error, kvot_status status, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    error->status = status;
    vsnprintf(error->text, sizeof error->text, format, arguments);
    va_end(arguments);
    return status;
}

static int look(const batch_job *job, const char *path, struct stat *about) {
    return fstatat(AT_FDCWD, path, about, job->options->follow_links ? 0 : AT_SYMLINK_NOFOLLOW);
}

static bool is_gone(int why) {
    return why == ENOENT || why == ENOTDIR;
}

/* The time of change, which nobody can set, tells more than that of modification; but it changes, too, when the file
 * gets a name more or less. */
static bool is_same(const struct stat *now, const struct stat *before) {
    bool changed = now->st_ctim.tv_sec != before->st_ctim.tv_sec || now->st_ctim.tv_nsec != before->st_ctim.tv_nsec;
    return now->st_dev == before->st_dev && now->st_ino == before->st_ino && now->st_size == before->st_size &&
           batch_modified(now) == batch_modified(before) && (!changed || now->st_nlink != before->st_nlink);
}

/* What is gone has not changed: what was read of it was whole. */
static kvot_status check_unchanged(const batch_job *job, const batch_file *file, const struct stat *before,
                                   kvot_error *error) {
    struct stat now;
    if (look(job, file->path, &now) < 0 ? is_gone(errno) : is_same(&now, before))
        return KVOT_OK;
    return fail(error, KVOT_E_DIFFERENT, "changed while it was being converted");
}

/* Whether recompressing would change nothing about how K and V are stored. */
static bool is_already(const batch_job *job, const char *path) {
    const kvot_compress_options *wanted = &job->options->compress;
    kvot_file *file;
    if (kvot_open(path, &file, NULL) != KVOT_OK)
        return false;
    const kvot_info *info = kvot_file_info(file);
    bool same = info->compressed;
    for (size_t p = 0; p < info->n_planes && same; p++) {
        const kvot_plane *plane = &info->planes[p];
        bool quantized =
            wanted->codec == KVOT_OTT && plane->kind != KVOT_STATE &&
            (strcmp(plane->type, "f32") == 0 || strcmp(plane->type, "f16") == 0 || strcmp(plane->type, "bf16") == 0);
        same = quantized ? plane->codec == KVOT_OTT && plane->bits == wanted->bits && plane->group == wanted->group &&
                               plane->outliers == wanted->outliers
                         : plane->codec == KVOT_LOSSLESS;
    }
    kvot_close(file);
    return same;
}

/* Makes the directories of a mirrored output, as private as the source's are. */
static bool make_directories(const batch_job *job, const batch_file *file, const char *output) {
    unsigned depth = 0;
    size_t path = strlen(file->path), name = strlen(file->name);
    if (!job->options->output)
        return true;
    for (const char *c = file->name; *c; c++)
        depth += *c == '/';
    bool mirrors = path >= name && strcmp(file->path + path - name, file->name) == 0;
    char *copy = batch_text("%s", output), *like = batch_text("%s", file->path);
    bool made = batch_make_directory(dirname(copy), dirname(like), mirrors ? depth : 0);
    free(copy);
    free(like);
    return made;
}

static kvot_status verify(const batch_job *job, const batch_file *file, const char *output, const kvot_run *run,
                          kvot_error *error) {
    bool compressed = job->operation == BATCH_COMPRESS;
    return kvot_verify(compressed ? output : file->path, compressed ? file->path : output, run, NULL, error);
}

static kvot_status verify_against(const batch_job *job, const batch_file *file, const kvot_run *run,
                                  kvot_error *error) {
    const char *against = job->options->against;
    size_t n = strlen(file->name) - strlen(".kvot");
    char *original = against ? batch_text("%s/%.*s", against, (int)n, file->name) : NULL;
    kvot_status status = kvot_verify(file->path, original, run, NULL, error);
    free(original);
    return status;
}

static kvot_status call(const batch_job *job, const batch_file *file, const char *output, const kvot_run *run,
                        kvot_error *error) {
    switch (job->operation) {
    case BATCH_COMPRESS:
        return kvot_compress(file->path, output, &job->options->compress, run, NULL, error);
    case BATCH_RESTORE:
        return kvot_restore(file->path, output, NULL, run, NULL, error);
    case BATCH_RECOMPRESS:
        return kvot_recompress(file->path, output, &job->options->compress, run, NULL, error);
    default:
        return verify_against(job, file, run, error);
    }
}

/* Converts, and in place verifies. An output that cannot be trusted goes. */
static kvot_status make(const batch_job *job, const batch_file *file, const char *output, const kvot_run *run,
                        const struct stat *source, kvot_error *error) {
    bool goes = job->options->in_place && job->operation != BATCH_RECOMPRESS; /* the source */
    if (file->only_removal && verify(job, file, output, run, error) == KVOT_OK)
        return check_unchanged(job, file, source, error);
    kvot_status status = call(job, file, output, run, error);
    if (status != KVOT_OK || !goes)
        return status;
    status = verify(job, file, output, run, error);
    if (status == KVOT_OK)
        status = check_unchanged(job, file, source, error);
    if (status != KVOT_OK && status != KVOT_E_CANCELLED)
        unlink(output);
    return status;
}

/* What would be found out only when all work is done, or never: written to, a FIFO keeps us waiting for a reader. */
static kvot_status check_output(const char *output, const struct stat *source, kvot_error *error) {
    struct stat about;
    if (stat(output, &about) < 0)
        return errno == ENAMETOOLONG ? fail(error, KVOT_E_IO, "%s: %s", output, strerror(errno)) : KVOT_OK;
    if (about.st_dev == source->st_dev && about.st_ino == source->st_ino)
        return fail(error, KVOT_E_ARGUMENT, "%s is the same file", output);
    return S_ISREG(about.st_mode) ? KVOT_OK : fail(error, KVOT_E_IO, "%s: is no file", output);
}

static kvot_status convert_to(const batch_job *job, const batch_file *file, const char *output, const kvot_run *run,
                              converted *result, kvot_error *error) {
    struct stat source, made;
    bool replaces_itself = job->options->in_place && job->operation == BATCH_RECOMPRESS;
    if (look(job, file->path, &source) < 0) {
        result->vanished = is_gone(errno);
        return result->vanished ? KVOT_OK : fail(error, KVOT_E_IO, "cannot read it: %s", strerror(errno));
    }
    result->special = !S_ISREG(source.st_mode);
    result->already = !result->special && replaces_itself && is_already(job, file->path);
    if (result->special || result->already)
        return KVOT_OK;
    if (output && !make_directories(job, file, output))
        return fail(error, KVOT_E_IO, "cannot make the directory of %s: %s", output, strerror(errno));
    kvot_status status = output && !replaces_itself ? check_output(output, &source, error) : KVOT_OK;
    if (status != KVOT_OK)
        return status;
    status = make(job, file, output, run, &source, error);
    if (status == KVOT_OK && output && stat(output, &made) < 0)
        status = fail(error, KVOT_E_IO, "%s: cannot find it again: %s", output, strerror(errno));
    if (status == KVOT_E_IO && access(file->path, F_OK) < 0 && is_gone(errno)) {
        result->vanished = true;
        return KVOT_OK;
    }
    if (status != KVOT_OK)
        return status;
    result->source = source;
    result->bytes_in = (uint64_t)source.st_size;
    if (output) {
        result->bytes_out = (uint64_t)made.st_size;
        result->made = batch_modified(&made);
    }
    return KVOT_OK;
}

kvot_status convert(const batch_job *job, const batch_file *file, const kvot_run *run, converted *result,
                    kvot_error *error) {
    char *output = batch_output(job, file);
    *result = (converted){0};
    kvot_status status = convert_to(job, file, output, run, result, error);
    free(output);
    return status;
}

kvot_status convert_remove(const batch_job *job, const batch_file *file, const converted *result, kvot_error *error) {
    if (!job->options->in_place || job->operation == BATCH_RECOMPRESS)
        return KVOT_OK;
    kvot_status status = check_unchanged(job, file, &result->source, error);
    if (status != KVOT_OK || unlink(file->path) == 0 || is_gone(errno))
        return status;
    return fail(error, KVOT_E_IO, "cannot remove it: %s", strerror(errno));
}
