/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Collects the errors of one run, one line each: "FILE:LINE:COLUMN: key: what was found, what is
 * allowed". A file with very many errors is one error: after REPORT_LINES_MAX lines the rest is
 * only counted. One thread at a time.
 */
#pragma once

#include "base/bytes.h"
#include "base/err.h"
#include "config/node.h"

enum { REPORT_LINES_MAX = 100 };

struct esi_report {
    const char *file;            /* borrowed; as the user named it */
    const struct esi_node *root; /* borrowed; NULL until the file is read */
    struct esi_bytes *out;       /* borrowed */
    size_t count;                /* errors so far */
    bool is_out_of_memory;       /* beside the errors: something could not be made at all */
};

void esi_report_init(struct esi_report *report, const char *file, struct esi_bytes *out);
/* Adds an error at a place; key: what it is about (a path of keys), or NULL. */
void esi_report_add(struct esi_report *report, struct esi_position at, const char *key,
                    const char *format, ...) ESI_PRINTF(4, 5);
/* Adds an error about a key, at its value if it is in the file, else where its section begins. */
void esi_report_add_key(struct esi_report *report, const char *key, const char *format, ...)
    ESI_PRINTF(3, 4);
/* Says how many errors were left out. To be called once, at the end. */
void esi_report_finish(struct esi_report *report);
/* Appends text in quotes for a message: escaped, and cut when long. */
void esi_report_quote(const char *text, struct esi_bytes *out);
/*
 * Writes the text of an error about a key that stands in the file before: its name, the problem
 * ("is given twice") and where it stands first. first: what stands there; it has a key. The error's
 * place is left as it is.
 */
void esi_report_repeated(const struct esi_node *first, const char *problem,
                         struct esi_node_error *error);
