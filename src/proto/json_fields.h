/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The fields of one JSON object, read as Go's encoding/json reads them into a struct, because that
 * is what clients were written against: names match in any (ASCII) case, every duplicate is looked
 * at in order, so that the last one wins, null leaves the value, unknown names are ignored whatever
 * they hold, invalid UTF-8 and lone surrogates in strings become U+FFFD. (A general JSON library
 * keeps one value a name and refuses such strings, so it cannot do this.)
 *
 * The whole text is checked before the first field is given. No recursion; depth and size are
 * bounded. Allocates only for the strings that are asked for. Thread: any.
 */
#pragma once

#include "base/err.h"
#include "base/str.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Containers inside each other, the object itself included. */
enum { ESI_JSON_FIELDS_DEPTH_MAX = 128, ESI_JSON_FIELDS_NAME_MAX = 40 };

enum esi_json_type {
    JSON_FIELD_NULL,
    JSON_FIELD_BOOL,
    JSON_FIELD_NUMBER,
    JSON_FIELD_STRING,
    JSON_FIELD_ARRAY,
    JSON_FIELD_OBJECT
};

/* A value as it stands in the text; borrowed. */
struct esi_json_value {
    enum esi_json_type type;
    struct esi_str raw; /* strings with their quotes */
};

struct esi_json_field {
    char name[ESI_JSON_FIELDS_NAME_MAX +
              1]; /* lower case, ended by NUL; empty for names that are longer */
    struct esi_json_value value;
};

/* A walk over the fields of an object or the items of an array. */
struct esi_json_fields {
    const char *at;  /* borrowed */
    const char *end; /* behind the closing bracket */
};

/*
 * Checks the text, which must be one object, or null (no fields), with nothing but white space
 * around it.
 *   json    borrowed while the walk lasts
 *   fields  written only on success
 * Errors: ES_INVALID.
 */
ES_MUST_USE enum es_err esi_json_fields_open(struct esi_str json, struct esi_json_fields *fields);
/* Gives the next field; false at the end. */
bool esi_json_fields_next(struct esi_json_fields *fields, struct esi_json_field *field);
/* Starts a walk over an array's items; ES_INVALID for another type; null is an empty array. */
ES_MUST_USE enum es_err esi_json_fields_items(const struct esi_json_value *value,
                                              struct esi_json_fields *items);
/* Gives the next item; false at the end. */
bool esi_json_fields_next_item(struct esi_json_fields *items, struct esi_json_value *value);

/* Reads a bool; null changes nothing. ES_INVALID: another type. */
ES_MUST_USE enum es_err esi_json_fields_read_bool(const struct esi_json_value *value, bool *out);
/* Reads a whole number of 64 bits; null changes nothing. ES_INVALID: another type, a fraction, an
 * exponent, too large. */
ES_MUST_USE enum es_err esi_json_fields_read_i64(const struct esi_json_value *value, int64_t *out);
/*
 * Reads a string. null is ES_OK with nothing changed.
 *   out  on success owned by the caller (free the data); ended by NUL behind len, may hold NUL
 *        inside
 * Errors: ES_INVALID (another type), ES_NO_MEMORY.
 */
ES_MUST_USE enum es_err esi_json_fields_read_str(const struct esi_json_value *value,
                                                 struct esi_str *out);
