/* Which directories were swept already. */
#ifndef KVOT_SWEPT_H
#define KVOT_SWEPT_H

#include <pthread.h>
#include <stdbool.h>

/* The directories that calls have swept: where what killed processes left behind was looked for (io/temporary.h). Any
 * thread. */
typedef struct swept {
    void *directories; /* tsearch */
    pthread_mutex_t lock;
} swept;

void swept_open(swept *swept);
void swept_close(swept *swept);

/* Whether a directory is to be swept: the first time that it is seen, or if there is no memory to know. */
bool swept_see(swept *swept, int directory);

#endif
