/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A monitoring page as a user reads it: it parses, and its figures add up. */
#pragma once

#include "sim_world.h"

#include "base/str.h"
#include "proto/json_fields.h"

/*
 * Checks a whole answer of a server to GET path: status line, headers and body. In a world where
 * memory is short, and while a server stops, an answer may be a refusal (503).
 * Returns the body; empty where it was refused.
 */
struct esi_str sim_page_check(const struct sim_world *world, const struct sim_server *server,
                              const char *path, struct esi_str answer);
/* A value by its path of names, "a.b.c", in a page that is an object. False: there is none. */
bool sim_page_find(struct esi_str page, const char *path, struct esi_json_value *value);
/* The same, a whole number that must be there. */
uint64_t sim_page_number(const struct sim_world *world, struct esi_str page, const char *path);
/* The sum of a number that each object of a list has. */
uint64_t sim_page_sum(const struct sim_world *world, struct esi_str page, const char *list,
                      const char *name);
