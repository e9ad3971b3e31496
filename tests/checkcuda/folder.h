/* A temporary folder for the files of a test. */
#ifndef KVOT_CHECK_FOLDER_H
#define KVOT_CHECK_FOLDER_H

#include <stdbool.h>

typedef struct folder {
    char path[256];
} folder;

/* Aborts if it cannot be made. */
folder folder_make(void);
/* With all files in it. */
void folder_remove(const folder *folder);

typedef struct file_path {
    char text[512];
} file_path;

file_path folder_file(const folder *folder, const char *name);
/* How many files are in it. */
int folder_count(const folder *folder);
/* True if both are there and hold the same bytes. */
bool files_equal(const char *first, const char *second);

#endif
