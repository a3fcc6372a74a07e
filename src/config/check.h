/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The walk along the schema: a node tree becomes a struct esi_draft. Every value is checked for
 * itself (known key, type, range, file); what is only valid together is config/translate.h's
 * affair.
 */
#pragma once

#include "config/config.h"
#include "config/node.h"
#include "config/report.h"
#include "config/schema.h"

/* What the walk needs to know beside the tree. */
struct esi_check_options {
    struct esi_env *env; /* borrowed; may be NULL where without_files */
    enum esi_config_program program;
    bool without_files;
    struct esi_str folder; /* of the file; empty: the current one; else ends with "/" */
};

/* Fills in every default. Errors: ES_NO_MEMORY; the draft must be freed all the same. */
ES_MUST_USE enum es_err esi_check_set_defaults(struct esi_draft *draft,
                                               enum esi_config_program program);

/*
 * Takes every value of the tree into the draft, which holds its defaults. Errors go to the report,
 * all of them. Blocks (files) unless without_files.
 */
void esi_check_fill(const struct esi_check_options *options, const struct esi_node *root,
                    struct esi_draft *draft, struct esi_report *report);

/* Frees what a struct of the group owns (not the struct itself) and wipes its secrets. */
void esi_check_free_fields(enum esi_schema_group group, void *base);
