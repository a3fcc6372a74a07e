/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reads YAML into a node tree: one document, no anchors, aliases, tags, merge keys or duplicate
 * keys. */
#pragma once

#include "base/err.h"
#include "config/node.h"

/*
 * Fills an empty tree; its root is a map (also for an empty document).
 *   error   filled on failure: where and why, without a value's text
 * Errors: ES_INVALID, ES_TOO_LARGE (depth, nodes), ES_NO_MEMORY; the tree must be deinitialised all
 * the same.
 */
ES_MUST_USE enum es_err esi_yaml_reader_read(struct esi_str text, struct esi_node_tree *tree,
                                             struct esi_node_error *error);
