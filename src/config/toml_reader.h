/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reads TOML 1.0 into a node tree: tables, arrays of tables, dotted and quoted keys, basic and
 * literal strings, decimal integers, floats, booleans, arrays, inline tables, comments. What a
 * configuration has no use for is refused by name: dates, multi-line strings, numbers in other
 * bases.
 */
#pragma once

#include "base/err.h"
#include "config/node.h"

/*
 * Fills an empty tree; its root is a map. Integers are kept as plain decimal digits (no "_", no
 * "+").
 *   error   filled on failure: where and why, without a value's text
 * Errors: ES_INVALID, ES_TOO_LARGE (depth, nodes), ES_NO_MEMORY; the tree must be deinitialised all
 * the same.
 */
ES_MUST_USE enum es_err esi_toml_reader_read(struct esi_str text, struct esi_node_tree *tree,
                                             struct esi_node_error *error);
