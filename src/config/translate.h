/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is only valid, or only known, together: second names of the original become the fields that
 * the server reads, sections that were left out are taken from where the contract says, and
 * combinations that would open what should be closed are refused.
 */
#pragma once

#include "config/report.h"
#include "config/schema.h"

/*
 * Completes a draft that esi_check_fill has filled. report->root must be the tree that it was
 * filled from. Errors go to the report, all of them. Touches no files.
 */
void esi_translate_complete(struct esi_draft *draft, struct esi_report *report);
