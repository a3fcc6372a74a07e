/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The table of config/schema.def as data: what keys there are, of which kind, where their values
 * go. Immutable; any thread may read.
 */
#pragma once

#include "config/config.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * A configuration while it is being made: what is translated into other fields stands beside it.
 * Every struct esi_config is the first member of one.
 */
struct esi_draft {
    struct esi_config config; /* first: esi_config_free gets back to the draft by it */
    uint16_t service_gateway_port;
    struct {
        bool is_set;
        uint16_t port;
        uint16_t gateway_port;
    } internal_messaging;
    struct {
        bool is_set;
        char *host;
        uint16_t gateway_port;
    } internal_event_service;
};

enum esi_schema_group {
#define GROUP(group, type) GROUP_##group,
#define KEY(...)
#define CHOICE(...)
#define PART(...)
#define PART_FLAG(...)
#define SECTION(...)
#define SECTION_FLAG(...)
#define LIST(...)
#define MAP(...)
#define SHORTHAND(...)
#define NAME(...)
#define ALIAS(...)
#define LATER(...)
#include "config/schema.def"
#include "config/schema_undef.h"
    GROUP_COUNT
};

/* What a row of the table is. */
enum esi_schema_role {
    ROW_KEY,
    ROW_SECTION,
    ROW_LIST,
    ROW_MAP,
    ROW_SHORTHAND,
    ROW_NAME,
    ROW_ALIAS,
    ROW_LATER
};

/* What a value is, and the type of its field. */
enum esi_schema_kind {
    KIND_NONE,
    KIND_TEXT,           /* char *, without control characters */
    KIND_SECRET,         /* char *; never shown; KEY_file names a file that holds it */
    KIND_PATH,           /* char *, a file that must be readable */
    KIND_NEW_PATH,       /* char *, a file that may not be there yet; its folder must be */
    KIND_HOST,           /* char * */
    KIND_HOST_PORT,      /* char *, both together */
    KIND_PORT,           /* uint16_t */
    KIND_COUNT,          /* uint32_t */
    KIND_SIZE,           /* uint64_t, bytes */
    KIND_SIZE_32,        /* uint32_t, bytes */
    KIND_DURATION,       /* uint64_t, ns */
    KIND_FLAG,           /* bool */
    KIND_CHOICE,         /* an enum */
    KIND_TEXTS,          /* struct esi_config_texts */
    KIND_URLS,           /* struct esi_config_url *, and its count in the next field */
    KIND_HANDLER_ADDRESS /* host, port and is_tls of a struct esi_config_handler */
};

enum { SCHEMA_NO_OFFSET = -1, SCHEMA_SERVICE = 1, SCHEMA_GATEWAY = 2, SCHEMA_BOTH = 3 };

struct esi_schema_row {
    enum esi_schema_group group;
    enum esi_schema_role role;
    const char *name; /* NULL: shorthand, name */
    enum esi_schema_kind kind;
    ptrdiff_t
        offset; /* of the field in the group's struct; of a section: where its own struct begins */
    ptrdiff_t
        count_offset; /* LIST, MAP, KIND_URLS: of the size_t that counts; else SCHEMA_NO_OFFSET */
    ptrdiff_t flag_offset;        /* SECTION: of the bool that says "given", or SCHEMA_NO_OFFSET */
    enum esi_schema_group target; /* SECTION, LIST, MAP: the keys below */
    uint64_t least;
    uint64_t most;
    const char *defaults[2]; /* by enum esi_config_program; NULL: none */
    const char *words;       /* CHOICE: the words; ALIAS: the first name */
    uint32_t programs;       /* bits SCHEMA_* */
    const char *description;
};

/* The rows in the order of the table; those of a group stand together. */
extern const struct esi_schema_row esi_schema_rows[];
extern const size_t esi_schema_row_count;

/* The group's name in the table: "SERVICE". */
const char *esi_schema_group_name(enum esi_schema_group group);

/* The size of a group's struct, for the items of lists. */
size_t esi_schema_group_bytes(enum esi_schema_group group);

/* The next row of the group after `row` (NULL: the first), or NULL. */
const struct esi_schema_row *esi_schema_next(enum esi_schema_group group,
                                             const struct esi_schema_row *row);

/* The row of that name in the group (KEY, CHOICE, SECTION, LIST, MAP, ALIAS, LATER), or NULL. */
const struct esi_schema_row *esi_schema_find(enum esi_schema_group group, const char *name);

/* The group's row of that role, or NULL. */
const struct esi_schema_row *esi_schema_find_role(enum esi_schema_group group,
                                                  enum esi_schema_role role);

/* The key of the group that looks most like `name`, for a hint; NULL when none does. */
const char *esi_schema_nearest(enum esi_schema_group group, const char *name);

/* The field of a row in its struct. */
static inline void *esi_schema_field(const struct esi_schema_row *row, void *base)
{
    return (char *)base + row->offset;
}

static inline const void *esi_schema_field_const(const struct esi_schema_row *row, const void *base)
{
    return (const char *)base + row->offset;
}
