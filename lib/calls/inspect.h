/* An open file: what kvot_open gives. */
#ifndef KVOT_INSPECT_H
#define KVOT_INSPECT_H

#include "../cache/plan.h"
#include "../file/reader.h"

struct kvot_file {
    reader reader; /* its input is the file, also where it is an engine's */
    plan plan;     /* of an engine's file */
    kvot_info info;
    kvot_plane *planes;
};

/* Opens a file as kvot_open does. Takes `in` over, also on failure. */
kvot_status file_open(input *in, kvot_file **file, kvot_error *error);

#endif
