/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writes JSON into a byte buffer, indented by two spaces (as nats-server's monitoring) or compact.
 * Commas and nesting are kept here; strings are escaped and invalid UTF-8 is replaced by U+FFFD.
 */
#pragma once

#include "base/bytes.h"
#include "base/str.h"

#include <stdbool.h>
#include <stdint.h>

struct esi_json_writer {
    struct esi_bytes *out; /* borrowed */
    bool is_indented;
    uint32_t depth;
    bool has_items[32]; /* by depth */
    bool after_key;
};

void esi_json_writer_init(struct esi_json_writer *json, struct esi_bytes *out, bool is_indented);
/*
 * Begins a value by itself, to be put later at this depth of an indented document: as a member of
 * an object or array at depth `depth` (the outermost one has depth 1).
 */
void esi_json_writer_init_part(struct esi_json_writer *json, struct esi_bytes *out, uint32_t depth);
void esi_json_writer_object_start(struct esi_json_writer *json);
void esi_json_writer_object_end(struct esi_json_writer *json);
void esi_json_writer_array_start(struct esi_json_writer *json);
void esi_json_writer_array_end(struct esi_json_writer *json);
void esi_json_writer_key(struct esi_json_writer *json, const char *key);
void esi_json_writer_str(struct esi_json_writer *json, struct esi_str value);
void esi_json_writer_u64(struct esi_json_writer *json, uint64_t value);
void esi_json_writer_i64(struct esi_json_writer *json, int64_t value);
void esi_json_writer_double(struct esi_json_writer *json, double value);
void esi_json_writer_bool(struct esi_json_writer *json, bool value);
void esi_json_writer_null(struct esi_json_writer *json);
/* A value that is JSON text already, copied as it is. */
void esi_json_writer_raw(struct esi_json_writer *json, struct esi_str value);
/* Key and value in one call. */
void esi_json_writer_field_str(struct esi_json_writer *json, const char *key, struct esi_str value);
void esi_json_writer_field_text(struct esi_json_writer *json, const char *key, const char *value);
void esi_json_writer_field_u64(struct esi_json_writer *json, const char *key, uint64_t value);
void esi_json_writer_field_i64(struct esi_json_writer *json, const char *key, int64_t value);
void esi_json_writer_field_double(struct esi_json_writer *json, const char *key, double value);
void esi_json_writer_field_bool(struct esi_json_writer *json, const char *key, bool value);
