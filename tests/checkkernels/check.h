/* Runs a kernel of every level on the same input, and compares what comes out with what the scalar one gives. */
#ifndef CHECK_CHECK_H
#define CHECK_CHECK_H

#include "../../kernels/kernels.h"

#include <stdbool.h>
#include <stddef.h>

/* Takes the levels to check: all that this processor has, or only one. False if there is none. */
bool check_start(const char *only);
/* Says what ran; the exit code. */
int check_end(void);

/* What the next messages say of the input. */
void check_describe(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Drops the inputs of the case before. */
void check_new_case(void);
/* Memory for an input of the case; to be filled before check_kernel. Kernels may not change it. */
void *check_input(const char *name, size_t bytes, size_t element);

typedef struct check_output {
    const char *name;
    size_t bytes, element;
} check_output;

enum { CHECK_OUTPUTS = 4 };

/* Calls `call` for the scalar table, then for each level, with memory for the outputs; these must be equal in every
 * byte. They are full of other garbage for each, so a byte that is not written differs too. */
void check_kernel(const char *kernel, const check_output *outputs, int n_outputs,
                  void (*call)(const kernel_table *table, const void *context, void *const *outputs),
                  const void *context);
/* An output of the scalar kernel in the last check_kernel. */
const void *check_expected(int output);

/* The checks, a file each. */
void check_chunks(void);
void check_choose(void);
void check_compare(void);
void check_all_halves(void);

#endif
