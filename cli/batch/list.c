#include "list.h"

#include "record.h"

#include <errno.h>
#include <fts.h>
#include <glob.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>

/* What is left alone, and what fails before it is a file, is in no plan. Each shard counts its part of that, so that
 * their sums are right. */
static bool is_mine(const batch_list *list, const char *path) {
    return record_hash(path, strlen(path)) % list->job->shards == list->job->shard - 1;
}

static void leave(batch_list *list, const char *path, report_count count) {
    if (is_mine(list, path))
        report_add(list->report, count);
}

/* What goes away while it is listed was never there. */
static void fail(batch_list *list, const char *path, int why) {
    if (why != ENOENT && is_mine(list, path))
        report_failed_file(list->report, path, KVOT_E_IO, "cannot read it: %s", strerror(why));
}

/* ".NAME.kvot-" and six letters: an output that is being written, or was left behind by a crash. */
static bool is_temporary(const char *name) {
    static const char mark[] = ".kvot-", letters[] = "abcdefghijklmnopqrstuvwxyz012345";
    size_t n = strlen(name), end = sizeof mark - 1 + 6;
    return *name == '.' && n > end && strncmp(name + n - end, mark, sizeof mark - 1) == 0 &&
           strspn(name + n - 6, letters) == 6;
}

/* Two ways to name one output: they have the same place. */
static char *place_of(const batch_job *job, const batch_file *file) {
    if (job->options->output)
        return batch_text("%s", file->name);
    char *copy = batch_text("%s", file->path), *real = realpath(dirname(copy), NULL);
    char *place = batch_text("%s/%s", real ? real : copy, batch_base(file->path));
    free(copy);
    free(real);
    return place;
}

/* Takes over `name`. */
static void add(batch_list *list, const char *path, char *name, const struct stat *about) {
    const batch_job *job = list->job;
    bool kvot = batch_is_kvot(name);
    if (is_temporary(batch_base(path)) || kvot != (job->operation != BATCH_COMPRESS)) {
        if (!is_temporary(batch_base(path)))
            leave(list, path, REPORT_UNKNOWN);
        free(name);
        return;
    }
    if (list->count == list->room) {
        list->room = list->room ? 2 * list->room : 256;
        list->files = batch_memory(list->files, list->room * sizeof *list->files);
    }
    batch_file *file = &list->files[list->count++];
    *file = (batch_file){.path = batch_text("%s", path), .name = name, .missing = !about, .number = list->count};
    file->key = job->options->output || job->one_tree ? file->name : file->path;
    file->place = place_of(job, file);
    if (about) {
        file->bytes = (uint64_t)about->st_size;
        file->modified = batch_modified(about);
    }
}

static void take_entry(batch_list *list, FTS *tree, FTSENT *entry, const char *name) {
    const char *path = entry->fts_path;
    switch (entry->fts_info) {
    case FTS_D:
        if (entry->fts_level > 0 && (strcmp(entry->fts_name, BATCH_DIRECTORY) == 0 ||
                                     (list->job->options->output && entry->fts_dev == list->output.st_dev &&
                                      entry->fts_ino == list->output.st_ino)))
            fts_set(tree, entry, FTS_SKIP);
        break;
    case FTS_F:
        add(list, path, batch_text("%s", name), entry->fts_statp);
        break;
    case FTS_SL:
    case FTS_SLNONE:
    case FTS_DC: /* a link that leads back up */
        leave(list, path, REPORT_LINKS);
        break;
    case FTS_DEFAULT:
        leave(list, path, REPORT_SPECIAL);
        break;
    case FTS_DNR:
    case FTS_ERR:
    case FTS_NS:
        fail(list, path, entry->fts_errno);
        break;
    default: /* a directory's end */
        break;
    }
}

static int by_fts_name(const FTSENT **a, const FTSENT **b) {
    return strcmp((*a)->fts_name, (*b)->fts_name);
}

static void walk(batch_list *list, const char *given) {
    char *root = batch_text("%s", given);
    size_t n = strlen(root);
    while (n > 1 && root[n - 1] == '/')
        root[--n] = 0;
    int how = FTS_NOCHDIR | FTS_COMFOLLOW | (list->job->options->follow_links ? FTS_LOGICAL : FTS_PHYSICAL);
    FTS *tree = fts_open((char *[]){root, NULL}, how, by_fts_name);
    for (FTSENT *entry; tree && !cli_interrupted() && (errno = 0, entry = fts_read(tree));) {
        const char *below = entry->fts_path + n;
        take_entry(list, tree, entry, *below == '/' ? below + 1 : below);
    }
    if (!tree || (errno != 0 && !cli_interrupted()))
        fail(list, root, errno);
    if (tree)
        fts_close(tree);
    free(root);
}

/* `path` without a "/" at the start and with "." and ".." resolved; NULL if it leads out. */
static char *clean(const char *path) {
    char *copy = batch_text("%s", path), *name = batch_memory(NULL, strlen(path) + 2), *end = name, *rest = copy;
    for (char *part; (part = strsep(&rest, "/"));) {
        if (strcmp(part, "..") == 0) {
            if (end == name) {
                free(copy);
                free(name);
                return NULL;
            }
            while (end > name && *--end != '/')
                ;
        } else if (*part && strcmp(part, ".") != 0)
            end = stpcpy(end == name ? end : stpcpy(end, "/"), part);
    }
    *end = 0;
    free(copy);
    return name;
}

static void add_named(batch_list *list, const char *path, const struct stat *about) {
    char *name = clean(path);
    /* To the library "-" is standard input, or output. */
    char *safe = *path == '-' && !strchr(path, '/') ? batch_text("./%s", path) : batch_text("%s", path);
    if (name)
        add(list, safe, name, about);
    else if (is_mine(list, path))
        report_failed_file(list->report, path, KVOT_E_ARGUMENT, "its name leads out of the output directory");
    free(safe);
}

static void take_path(batch_list *list, const char *path, bool may_be_pattern);

static void take_pattern(batch_list *list, const char *pattern) {
    glob_t found = {0};
    int result = glob(pattern, 0, NULL, &found);
    for (size_t i = 0; result == 0 && i < found.gl_pathc; i++)
        take_path(list, found.gl_pathv[i], false);
    if (result == GLOB_NOMATCH && list->job->options->in_place) /* it may have been done, and removed, before */
        add_named(list, pattern, NULL);
    else if (result == GLOB_NOMATCH && is_mine(list, pattern))
        report_failed_file(list->report, pattern, KVOT_E_IO, BATCH_MISSING);
    else if (result != 0 && result != GLOB_NOMATCH)
        fail(list, pattern, result == GLOB_NOSPACE ? ENOMEM : EIO);
    globfree(&found);
}

static void take_path(batch_list *list, const char *path, bool may_be_pattern) {
    struct stat about, link;
    if (lstat(path, &link) < 0) {
        if (may_be_pattern && (errno == ENOENT || errno == ENOTDIR))
            take_pattern(list, path);
        else
            fail(list, path, errno);
    } else if (stat(path, &about) == 0 && S_ISDIR(about.st_mode))
        walk(list, path); /* also through a link: it was named */
    else if (S_ISLNK(link.st_mode) && (!list->job->options->follow_links || stat(path, &about) < 0))
        leave(list, path, REPORT_LINKS);
    else if (S_ISREG(about.st_mode))
        add_named(list, path, &about);
    else
        leave(list, path, REPORT_SPECIAL);
}

static bool take_list(batch_list *list) {
    const cli_options *options = list->job->options;
    bool standard = strcmp(options->list, "-") == 0;
    FILE *from = standard ? stdin : fopen(options->list, "re");
    int delimiter = options->null ? 0 : '\n';
    char *line = NULL;
    size_t room = 0;
    for (ssize_t n; from && !cli_interrupted() && (n = getdelim(&line, &room, delimiter, from)) > 0;) {
        if (line[n - 1] == delimiter)
            line[n - 1] = 0;
        if (*line)
            take_path(list, line, true);
    }
    free(line);
    bool good = from && !ferror(from);
    if (!good)
        batch_fail("%s: cannot read it: %s", cli_name(options->list, "standard input"), strerror(errno));
    if (from && !standard)
        fclose(from);
    return good;
}

static int by_place(const void *a, const void *b) {
    const batch_file *first = a, *second = b;
    int order = strcmp(first->place, second->place);
    return order ? order : (first->number > second->number) - (first->number < second->number);
}

static void file_free(batch_file *file) {
    free(file->path);
    free(file->name);
    free(file->place);
}

static bool same_file(const char *a, const char *b) {
    struct stat first, second;
    return strcmp(a, b) == 0 || (stat(a, &first) == 0 && stat(b, &second) == 0 && first.st_dev == second.st_dev &&
                                 first.st_ino == second.st_ino);
}

/* Leaves each file once, and one file for each output. Where the output is beside the file, one place is one file. */
static void drop_twins(batch_list *list) {
    size_t kept = 0;
    if (list->count > 0)
        qsort(list->files, list->count, sizeof *list->files, by_place);
    for (size_t i = 0; i < list->count; i++) {
        batch_file *file = &list->files[i], *last = kept > 0 ? &list->files[kept - 1] : NULL;
        if (!last || strcmp(last->place, file->place) != 0) {
            list->files[kept++] = *file;
            continue;
        }
        if (list->job->options->output && !same_file(last->path, file->path) && is_mine(list, file->path)) {
            report_failed_file(list->report, file->path, KVOT_E_EXISTS, "has the same output as %s", last->path);
            list->twins++;
        }
        file_free(file);
    }
    list->count = kept;
}

bool list_find(batch_list *list, const batch_job *job, report *report) {
    const cli_options *options = job->options;
    *list = (batch_list){.job = job, .report = report};
    if (options->output && stat(options->output, &list->output) < 0)
        return batch_fail("%s: cannot read it: %s", options->output, strerror(errno)), false;
    for (int i = 0; i < options->n_files && !cli_interrupted(); i++)
        take_path(list, options->files[i], true);
    if (options->list && !take_list(list))
        return false;
    drop_twins(list);
    return true;
}

void list_free(batch_list *list) {
    for (size_t i = 0; i < list->count; i++)
        file_free(&list->files[i]);
    free(list->files);
    *list = (batch_list){0};
}
