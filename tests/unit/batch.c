/* Journals and plans of kvot batch. */
#include "../../cli/batch/journal.h"
#include "../../cli/batch/record.h"
#include "../../cli/batch/shard.h"

#include <CUnit/Basic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[] = "/tmp/kvot-batch-XXXXXX";

static void record_keeps_any_name(void) {
    char name[256], line[2048];
    record record;
    for (int i = 0; i < 255; i++)
        name[i] = (char)(i + 1);
    name[255] = 0;
    char *text = record_line("kind", name, "%d\n%s", 7, "rest");
    size_t n = strlen(text);
    CU_ASSERT_EQUAL(strcspn(text, "\n"), n - 1);
    CU_ASSERT_FATAL(n < sizeof line);
    strcpy(line, text);
    CU_ASSERT_FATAL(record_read(line, n, &record));
    CU_ASSERT_STRING_EQUAL(record.kind, "kind");
    CU_ASSERT_STRING_EQUAL(record.name, name);
    CU_ASSERT_STRING_EQUAL(record.rest, "7?rest");
    unsigned taken = 0;
    for (size_t i = 0; i < n; i++) { /* changed, and cut short, with and without an end of line */
        strcpy(line, text);
        line[i] ^= 1;
        taken += record_read(line, strlen(line), &record);
        strcpy(line, text);
        line[i] = 0;
        taken += record_read(line, i, &record);
        strcpy(line, text);
        strcpy(line + i, i + 1 < n ? "\n" : "");
        taken += record_read(line, strlen(line), &record);
    }
    CU_ASSERT_EQUAL(taken, 0);
    free(text);
}

/* Appends the lines, and frees them. */
static void put(char **text, char *const *lines) {
    for (; *lines; lines++) {
        char *old = *text;
        *text = batch_text("%s%s", old ? old : "", *lines);
        free(old);
        free(*lines);
    }
}

static uint64_t read_text(history *history, const char *text, size_t n, const char *parameters) {
    past_run last;
    FILE *from = fmemopen((void *)text, n, "r");
    CU_ASSERT_PTR_NOT_NULL_FATAL(from);
    uint64_t end = history_read(history, from, parameters, &last);
    fclose(from);
    past_run_free(&last);
    return end;
}

static char *run_line(const char *parameters) {
    return record_line("run", parameters, "1 compress 1/1 4 1000 77 here");
}

static void history_knows_how_it_ended(void) {
    char *text = NULL;
    put(&text, (char *[]){run_line("a"),
                          record_line("begin", "done", "5 6"),
                          record_line("begin", "begun", "5 6"),
                          record_line("begin", "failed", "5 6"),
                          record_line("done", "done", "5 -6 7 -8"),
                          record_line("failed", "failed", "KVOT_E_IO why"),
                          record_line("left", "left", "unknown"),
                          record_line("failed", "there", "KVOT_E_EXISTS exists"),
                          record_line("begin", "came", "5 6"),
                          record_line("failed", "came", "KVOT_E_EXISTS exists"),
                          record_line("done", "again", "1 2 3 4"),
                          record_line("begin", "again", "1 2"),
                          record_line("failed", "again", "KVOT_E_EXISTS exists"),
                          record_line("done", "others", "1 2 3 4"),
                          record_line("failed", "others", "KVOT_E_EXISTS exists"),
                          record_line("begin", "bad", "5 6"),
                          record_line("failed", "bad", "KVOT_E_DAMAGED why"),
                          record_line("begin", "unknown", "5 6"),
                          record_line("left", "unknown", "unknown"),
                          NULL});
    history history = {0};
    CU_ASSERT_EQUAL(read_text(&history, text, strlen(text), "a"), strlen(text));
    past *past = history_find(&history, "done");
    CU_ASSERT_PTR_NOT_NULL_FATAL(past);
    CU_ASSERT(past->state == PAST_DONE && past->ours && past->bytes == 5 && past->modified == -6 && past->output == 7 &&
              past->made == -8);
    static const struct {
        const char *name;
        past_state state;
        bool ours;
    } others[] = {{"begun", PAST_BEGUN, true},    {"failed", PAST_FAILED, true}, {"left", PAST_LEFT, false},
                  {"there", PAST_FAILED, false},  {"came", PAST_FAILED, false},  {"again", PAST_FAILED, true},
                  {"others", PAST_FAILED, false}, {"bad", PAST_FAILED, false},   {"unknown", PAST_LEFT, false}};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        past = history_find(&history, others[i].name);
        CU_ASSERT_PTR_NOT_NULL_FATAL(past);
        CU_ASSERT_EQUAL(past->state, others[i].state);
        CU_ASSERT_EQUAL(past->ours, others[i].ours);
    }
    CU_ASSERT_PTR_NULL(history_find(&history, "other"));
    history_free(&history);
    free(text);
}

static past_state state_of(const char *text, const char *name, const char *parameters) {
    history history = {0};
    read_text(&history, text, strlen(text), parameters);
    const past *past = history_find(&history, name);
    CU_ASSERT_PTR_NOT_NULL_FATAL(past);
    past_state state = past->state;
    history_free(&history);
    return state;
}

static void other_parameters_undo(void) {
    char *text = NULL;
    put(&text, (char *[]){run_line("a"), record_line("done", "x", "1 2 3 4"), NULL});
    CU_ASSERT_EQUAL(state_of(text, "x", "a"), PAST_DONE);
    CU_ASSERT_EQUAL(state_of(text, "x", NULL), PAST_DONE);
    CU_ASSERT_EQUAL(state_of(text, "x", "b"), PAST_BEGUN);
    put(&text, (char *[]){run_line("a"), NULL});
    CU_ASSERT_EQUAL(state_of(text, "x", "a"), PAST_DONE);
    put(&text, (char *[]){run_line("b"), record_line("done", "y", "1 2 3 4"), NULL});
    CU_ASSERT_EQUAL(state_of(text, "x", "b"), PAST_BEGUN);
    CU_ASSERT_EQUAL(state_of(text, "y", "b"), PAST_DONE);
    CU_ASSERT_EQUAL(state_of(text, "x", "a"), PAST_BEGUN); /* its output was replaced, or may have been */
    free(text);
}

static void torn_records_do_not_count(void) {
    char *text = NULL;
    put(&text, (char *[]){run_line("a"), record_line("done", "x", "1 2 3 4"), NULL});
    size_t whole = strlen(text);
    put(&text, (char *[]){record_line("done", "y", "1 2 3 4"), NULL});
    for (size_t n = whole; n < strlen(text); n++) {
        history history = {0};
        CU_ASSERT_EQUAL(read_text(&history, text, n, "a"), whole);
        CU_ASSERT_PTR_NULL(history_find(&history, "y"));
        history_free(&history);
    }
    text[whole - 2] ^= 1; /* of x; what comes behind is good */
    history history = {0};
    CU_ASSERT_EQUAL(read_text(&history, text, strlen(text), "a"), strlen(text));
    CU_ASSERT_PTR_NULL(history_find(&history, "x"));
    CU_ASSERT_PTR_NOT_NULL(history_find(&history, "y"));
    history_free(&history);
    free(text);
}

static batch_job job_of(const cli_options *options, const char *name, unsigned shard, unsigned shards) {
    return (batch_job){.options = options,
                       .operation = BATCH_COMPRESS,
                       .shard = shard,
                       .shards = shards,
                       .directory = batch_text("%s/%s", folder, name),
                       .parameters = "a"};
}

static int open_and_close(const batch_job *job, size_t *known) {
    journal journal;
    history history = {0};
    int exit_code = journal_open(&journal, job, &history);
    *known = 0;
    for (const past *past = history.first; past; past = past->next)
        ++*known;
    if (exit_code == EXIT_DONE)
        journal_close(&journal);
    history_free(&history);
    return exit_code;
}

static void journal_is_one_run_s(void) {
    cli_options options = {0};
    batch_job job = job_of(&options, "one", 1, 2), other = job, more = job, restore = job, changed = job;
    other.shard = 2;
    more.shards = 3;
    restore.operation = BATCH_RESTORE;
    changed.parameters = "b";
    journal journal;
    history history = {0};
    size_t known;
    CU_ASSERT_EQUAL_FATAL(journal_open(&journal, &job, &history), EXIT_DONE);
    batch_file file = {.key = "x y", .bytes = 9, .modified = 8};
    journal_run(&journal, &job, 2, 18);
    journal_begin(&journal, (const batch_file *const[]){&file}, 1);
    journal_done(&journal, &file, &(converted){.bytes_in = 9, .bytes_out = 4, .made = 8});
    CU_ASSERT_EQUAL(journal_error(&journal), 0);
    CU_ASSERT_EQUAL(open_and_close(&other, &known), EXIT_DONE);
    CU_ASSERT_EQUAL(known, 1);
    CU_ASSERT_EQUAL(open_and_close(&job, &known), EXIT_FAILED);
    CU_ASSERT_EQUAL(open_and_close(&more, &known), EXIT_FAILED);
    CU_ASSERT_EQUAL(open_and_close(&restore, &known), EXIT_FAILED);
    options.run.overwrite = true;
    other.parameters = "b";
    CU_ASSERT_EQUAL(open_and_close(&other, &known), EXIT_FAILED);
    options.run.overwrite = false;
    CU_ASSERT_EQUAL(write(journal.fd, "done z 1 2", 10), 10); /* a crash */
    journal_close(&journal);
    history_free(&history);
    CU_ASSERT_EQUAL(open_and_close(&more, &known), EXIT_DONE);
    CU_ASSERT_EQUAL(open_and_close(&restore, &known), EXIT_DONE);
    CU_ASSERT_EQUAL(known, 0);
    CU_ASSERT_EQUAL(open_and_close(&changed, &known), EXIT_FAILED); /* other parameters */
    options.run.overwrite = true;
    CU_ASSERT_EQUAL(open_and_close(&changed, &known), EXIT_DONE);
    CU_ASSERT_EQUAL_FATAL(journal_open(&journal, &job, &history), EXIT_DONE);
    journal_done(&journal, &(batch_file){.key = "z"}, &(converted){.bytes_in = 1, .bytes_out = 3});
    journal_close(&journal);
    history_free(&history);
    CU_ASSERT_EQUAL(open_and_close(&job, &known), EXIT_DONE);
    CU_ASSERT_EQUAL(known, 2); /* the torn record did not take the one behind it along */
    free(job.directory);
}

enum { FILES = 1000, SHARDS = 7 };

static void fill(batch_file *files, char names[][16]) {
    for (size_t i = 0; i < FILES; i++) {
        snprintf(names[i], sizeof names[i], "file %zu", i);
        files[i] = (batch_file){.key = names[i], .bytes = i * i * 1000 % 77777777};
    }
}

static void shards_are_balanced_and_stable(void) {
    static batch_file files[FILES], later[FILES];
    static char names[FILES][16];
    cli_options options = {0};
    batch_job job = job_of(&options, "plan", 1, SHARDS);
    uint64_t loads[SHARDS] = {0}, least = UINT64_MAX, most = 0, largest = 0;
    CU_ASSERT_FATAL(batch_make_directory(job.directory, NULL, 0));
    fill(files, names);
    CU_ASSERT_FATAL(shard_assign(&job, files, FILES - 100));
    for (size_t i = 0; i < FILES - 100; i++) {
        CU_ASSERT_FATAL(files[i].shard >= 1 && files[i].shard <= SHARDS);
        loads[files[i].shard - 1] += files[i].bytes + (1 << 20);
        largest = files[i].bytes > largest ? files[i].bytes : largest;
    }
    for (size_t i = 0; i < SHARDS; i++) {
        least = loads[i] < least ? loads[i] : least;
        most = loads[i] > most ? loads[i] : most;
    }
    CU_ASSERT(most - least <= largest + (1 << 20));
    CU_ASSERT((double)most <= 1.02 * (double)least);

    /* Another shard sees half of the files gone, others grown, and new ones. */
    size_t n = 0, moved = 0, hits[SHARDS] = {0};
    for (size_t i = FILES; i-- > 0;)
        if (i % 2 || i >= FILES - 100)
            later[n++] = (batch_file){.key = names[i], .bytes = i};
    job.shard = 2;
    CU_ASSERT_FATAL(shard_assign(&job, later, n));
    for (size_t i = 0; i < n; i++) {
        size_t number = (size_t)atoi(later[i].key + 5);
        moved += number < FILES - 100 && later[i].shard != files[number].shard;
        if (number >= FILES - 100)
            hits[later[i].shard - 1]++;
    }
    CU_ASSERT_EQUAL(moved, 0);
    for (size_t i = 0; i < SHARDS; i++)
        CU_ASSERT(hits[i] > 0 && hits[i] < 50);

    char *path = batch_text("%s/compress-of-%d.plan", job.directory, SHARDS);
    CU_ASSERT_EQUAL(truncate(path, 1000), 0);
    CU_ASSERT_FALSE(shard_assign(&job, later, n));
    free(path);
    free(job.directory);
}

static void names_are_told_apart(void) {
    char operation[16];
    unsigned shard, shards;
    CU_ASSERT(journal_parse_name("recompress-12-of-345.journal", operation, &shard, &shards));
    CU_ASSERT(strcmp(operation, "recompress") == 0 && shard == 12 && shards == 345);
    CU_ASSERT_FALSE(journal_parse_name("compress-of-3.plan", operation, &shard, &shards));
    CU_ASSERT_FALSE(journal_parse_name("compress-1-of-1.journal~", operation, &shard, &shards));
    CU_ASSERT(batch_is_kvot("a/b.kvot"));
    CU_ASSERT_FALSE(batch_is_kvot("a/.kvot"));
    CU_ASSERT_FALSE(batch_is_kvot("a.kvot/b"));
}

int main(void) {
    static const struct {
        const char *name;
        CU_TestFunc test;
    } tests[] = {{"record_keeps_any_name", record_keeps_any_name},
                 {"history_knows_how_it_ended", history_knows_how_it_ended},
                 {"other_parameters_undo", other_parameters_undo},
                 {"torn_records_do_not_count", torn_records_do_not_count},
                 {"journal_is_one_run_s", journal_is_one_run_s},
                 {"shards_are_balanced_and_stable", shards_are_balanced_and_stable},
                 {"names_are_told_apart", names_are_told_apart}};
    if (!mkdtemp(folder) || CU_initialize_registry() != CUE_SUCCESS)
        return 2;
    CU_pSuite suite = CU_add_suite("batch", NULL, NULL);
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
        CU_add_test(suite, tests[i].name, tests[i].test);
    CU_basic_run_tests();
    unsigned failures = CU_get_number_of_failures();
    CU_cleanup_registry();
    char *command = batch_text("rm -r %s", folder);
    int removed = system(command);
    free(command);
    return failures > 0 || removed != 0;
}
