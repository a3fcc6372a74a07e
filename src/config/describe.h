/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The schema in words: for people at a terminal, and as JSON for the generator of the documents
 * (scripts/generate-docs). Both follow the table row by row, so that no key can be missing.
 */
#pragma once

#include "base/bytes.h"
#include "config/config.h"

/*
 * Appends every key that the program has, a paragraph each: path and default, what it is for, what
 * is allowed. Thread: any. Fails only as esi_bytes does.
 */
void esi_describe_keys(enum esi_config_program program, struct esi_bytes *out);

/*
 * Appends the whole table as one JSON object: each group of keys by its name, its rows in order.
 * Thread: any. Fails only as esi_bytes does.
 */
void esi_describe_json(struct esi_bytes *out);
