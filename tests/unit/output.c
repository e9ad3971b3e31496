#include "unit.h"

#include "../../lib/io/direct.h"
#include "../../lib/io/io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { NOBODY = 65534 };

static const char text[] = "what is written";

/* Writes an output with these permissions, 0 for those of what is replaced. What is wrong, NULL if nothing is. */
static const char *write_output(const char *path, unsigned mode, unsigned expected) {
    kvot_run run = {.overwrite = true};
    output out;
    struct stat about;
    if (output_open(&out, path, mode, &run, false, NULL) != KVOT_OK)
        return "cannot be opened";
    if (fstat(out.fd, &about) != 0 || (about.st_mode & 077 & ~expected) != 0)
        return "others may do more before it is complete";
    int direct = direct_open(out.fd, O_WRONLY);
    if (direct < 0 && errno == EACCES)
        return "cannot be opened again";
    close(direct);
    if (output_append(&out, text, sizeof text, NULL) != KVOT_OK || output_commit(&out, NULL) != KVOT_OK)
        return "cannot be written";
    output_close(&out);
    if (stat(path, &about) != 0 || (about.st_mode & 07777) != expected || about.st_size != sizeof text)
        return "is not what it should be";
    return NULL;
}

static const char *write_outputs(void) {
    const char *path = unit_path("output");
    const char *wrong = NULL;
    umask(022);
    static const unsigned modes[] = {0600, 0644, 0640, 0400, 0444, 0200, 0001};
    for (size_t i = 0; i < sizeof modes / sizeof *modes && !wrong; i++) {
        wrong = write_output(path, modes[i], modes[i]); /* a new one has those of the input */
        if (!wrong)
            wrong = write_output(path, 0777, modes[i]); /* one that replaces it keeps them */
        unlink(path);
    }
    if (!wrong)
        wrong = write_output(path, 0, 0644);
    unlink(path);
    return wrong;
}

/* As a user to whom they say something. */
static void outputs_have_their_permissions(void) {
    pid_t child = fork();
    CU_ASSERT_TRUE_FATAL(child >= 0);
    if (child == 0) {
        if (geteuid() == 0 && setuid(NOBODY) != 0)
            _exit(2);
        const char *wrong = write_outputs();
        if (wrong)
            dprintf(STDOUT_FILENO, "an output %s\n", wrong);
        _exit(wrong != NULL);
    }
    int status = -1;
    CU_ASSERT_EQUAL(waitpid(child, &status, 0), child);
    CU_ASSERT_EQUAL(status, 0);
}

/* With a pool: what is put reaches the file with output_commit, and what is read later was read on opening. */
static void small_files_move_at_once(void) {
    const char *path = unit_path("small");
    kvot_run run = {0};
    output out;
    input in;
    struct stat about;
    char read[sizeof text];
    CU_ASSERT_EQUAL_FATAL(kvot_pool_open(1, 0, &run.pool, NULL), KVOT_OK);
    unlink(path);
    CU_ASSERT_EQUAL_FATAL(output_open(&out, path, 0600, &run, true, NULL), KVOT_OK);
    output_hold(&out, sizeof text);
    CU_ASSERT_EQUAL(output_put(&out, 4, text + 4, sizeof text - 4, NULL), KVOT_OK);
    CU_ASSERT_EQUAL(output_put(&out, 0, text, 4, NULL), KVOT_OK);
    CU_ASSERT_TRUE(fstat(out.fd, &about) == 0 && about.st_size == 0);
    CU_ASSERT_EQUAL(output_commit(&out, NULL), KVOT_OK);
    output_close(&out);
    CU_ASSERT_EQUAL_FATAL(input_open(&in, path, &run, NULL), KVOT_OK);
    CU_ASSERT_EQUAL(in.bytes, sizeof text);
    CU_ASSERT_EQUAL(truncate(path, 0), 0);
    CU_ASSERT_EQUAL(input_read(&in, 1, read, sizeof read - 1, NULL), KVOT_OK);
    CU_ASSERT_EQUAL(memcmp(read, text + 1, sizeof read - 1), 0);
    CU_ASSERT_EQUAL(input_read(&in, 1, read, sizeof read, NULL), KVOT_E_DAMAGED);
    input_close(&in);
    kvot_pool_close(run.pool);
    unlink(path);
}

const unit_test output_tests[] = {{"outputs have their permissions", outputs_have_their_permissions},
                                  {"small files move at once", small_files_move_at_once},
                                  {NULL, NULL}};
