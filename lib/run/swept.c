#include "swept.h"

#include <search.h>
#include <stdlib.h>
#include <sys/stat.h>

typedef struct swept_directory {
    dev_t device;
    ino_t number;
} swept_directory;

static int by_number(const void *left, const void *right) {
    const swept_directory *a = left, *b = right;
    if (a->number != b->number)
        return a->number < b->number ? -1 : 1;
    return a->device < b->device ? -1 : a->device > b->device;
}

bool swept_see(swept *swept, int directory) {
    struct stat about;
    swept_directory *new = fstat(directory, &about) == 0 ? malloc(sizeof *new) : NULL;
    if (!new)
        return true;
    *new = (swept_directory){about.st_dev, about.st_ino};
    pthread_mutex_lock(&swept->lock);
    swept_directory **known = tsearch(new, &swept->directories, by_number);
    bool first = !known || *known == new;
    pthread_mutex_unlock(&swept->lock);
    if (!known || *known != new)
        free(new);
    return first;
}

void swept_open(swept *swept) {
    *swept = (struct swept){NULL};
    pthread_mutex_init(&swept->lock, NULL);
}

void swept_close(swept *swept) {
    tdestroy(swept->directories, free);
    pthread_mutex_destroy(&swept->lock);
}
