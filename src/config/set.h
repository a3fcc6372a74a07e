/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One value: from the text that stands in the file (variables already replaced) to the field that
 * its schema row names. Also the ends of a field's life: replacing, freeing, wiping. One thread at
 * a time.
 */
#pragma once

#include "config/schema.h"

/*
 * Reads the text as what the row says and stores it in the struct at base, freeing what stood
 * there. Lists (KIND_TEXTS, KIND_URLS) get one more item. Errors: ES_INVALID (not of this kind),
 * ES_TOO_LARGE (out of range), ES_UNSUPPORTED (a word or scheme that is not yet built),
 * ES_NO_MEMORY; then nothing is changed.
 */
ES_MUST_USE enum es_err esi_set_text(const struct esi_schema_row *row, void *base,
                                     const char *text);

/* Makes a list of the row empty and marks it as given. */
void esi_set_empty_list(const struct esi_schema_row *row, void *base);

/* Frees what the row's field owns, wiped, and leaves it empty. Only for rows that hold a value. */
void esi_set_clear(const struct esi_schema_row *row, void *base);

/* Appends what the row allows, for a message: "a port from 0 to 65535". */
void esi_set_describe(const struct esi_schema_row *row, struct esi_bytes *out);
