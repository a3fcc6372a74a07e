/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The effective configuration as YAML: along the schema, so that no key can be forgotten. */
#pragma once

#include "base/bytes.h"
#include "config/schema.h"

/*
 * Appends every key with its value; a secret's is ESI_CONFIG_MASK. What is not set and has no
 * default is a comment. Reading the text again and printing gives the same text. Thread: any.
 * Fails only as esi_bytes does.
 */
void esi_print_write(const struct esi_draft *draft, struct esi_bytes *out);
