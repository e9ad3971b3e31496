#include "folder.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

folder folder_make(void) {
    const char *parent = getenv("TMPDIR");
    folder folder;
    snprintf(folder.path, sizeof folder.path, "%s/kvot-check-XXXXXX", parent ? parent : "/tmp");
    if (!mkdtemp(folder.path)) {
        perror(folder.path);
        abort();
    }
    return folder;
}

file_path folder_file(const folder *folder, const char *name) {
    file_path path;
    snprintf(path.text, sizeof path.text, "%s/%s", folder->path, name);
    return path;
}

/* Counts the files, and removes them if `away`. */
static int each_file(const folder *folder, bool away) {
    int n = 0;
    DIR *open = opendir(folder->path);
    for (struct dirent *entry; open && (entry = readdir(open));) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        n++;
        if (away)
            unlink(folder_file(folder, entry->d_name).text);
    }
    if (open)
        closedir(open);
    return n;
}

int folder_count(const folder *folder) {
    return each_file(folder, false);
}

void folder_remove(const folder *folder) {
    each_file(folder, true);
    rmdir(folder->path);
}

bool files_equal(const char *first, const char *second) {
    FILE *a = fopen(first, "rb"), *b = fopen(second, "rb");
    bool equal = a && b;
    static _Thread_local char left[1 << 16], right[1 << 16];
    for (size_t n = 1; equal && n > 0;) {
        n = fread(left, 1, sizeof left, a);
        equal = fread(right, 1, sizeof right, b) == n && memcmp(left, right, n) == 0;
    }
    if (a)
        fclose(a);
    if (b)
        fclose(b);
    return equal;
}
