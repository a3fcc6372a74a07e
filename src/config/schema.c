/* SPDX-License-Identifier: GPL-2.0-or-later */
/* config/schema.def, expanded into rows; and the search in them, which also finds the name that was
 * probably meant. */
#include "config/schema.h"

#include <string.h>

/* "tls.cert_path" style members of nested structs are GNU C's offsetof, which takes any member
 * designator. */
#define FIELD(group, field) (ptrdiff_t) offsetof(STRUCT_##group, field)

#define STRUCT_ROOT struct esi_draft
#define STRUCT_SERVICE struct esi_draft
#define STRUCT_LIMITS struct esi_draft
#define STRUCT_TLS struct esi_config_tls
#define STRUCT_CERTIFICATE struct esi_config_certificate
#define STRUCT_AUTH struct esi_draft
#define STRUCT_USER struct esi_config_user
#define STRUCT_PERMISSIONS struct esi_config_permissions
#define STRUCT_PERMISSION struct esi_config_permission
#define STRUCT_RESPONSES struct esi_config_responses
#define STRUCT_GATEWAY struct esi_draft
#define STRUCT_REMOTE struct esi_config_remote
#define STRUCT_INTERNAL_MESSAGING struct esi_draft
#define STRUCT_INTERNAL_EVENT_SERVICE struct esi_draft
#define STRUCT_GRPC struct esi_draft
#define STRUCT_EVENTS struct esi_draft
#define STRUCT_ROUTE struct esi_config_route
#define STRUCT_QUEUE struct esi_draft
#define STRUCT_HANDLER struct esi_config_handler
#define STRUCT_RETRY struct esi_config_retry
#define STRUCT_THREADS struct esi_draft
#define STRUCT_MONITOR struct esi_draft
#define STRUCT_LOG struct esi_draft

/* The field's size must be what its kind says. */
enum {
    BYTES_KIND_TEXT = sizeof(char *),
    BYTES_KIND_SECRET = sizeof(char *),
    BYTES_KIND_PATH = sizeof(char *),
    BYTES_KIND_NEW_PATH = sizeof(char *),
    BYTES_KIND_HOST = sizeof(char *),
    BYTES_KIND_HOST_PORT = sizeof(char *),
    BYTES_KIND_PORT = sizeof(uint16_t),
    BYTES_KIND_COUNT = sizeof(uint32_t),
    BYTES_KIND_SIZE = sizeof(uint64_t),
    BYTES_KIND_SIZE_32 = sizeof(uint32_t),
    BYTES_KIND_DURATION = sizeof(uint64_t),
    BYTES_KIND_FLAG = sizeof(bool),
    BYTES_KIND_TEXTS = sizeof(struct esi_config_texts),
    BYTES_KIND_URLS = sizeof(struct esi_config_url *),
    BYTES_KIND_HANDLER_ADDRESS = sizeof(char *)
};
#define SIZE_CHECK(group, field, bytes)                                                            \
    _Static_assert(sizeof(((STRUCT_##group *)0)->field) == (bytes), "schema: size of " #field);
#define GROUP(group, type)                                                                         \
    _Static_assert(sizeof(STRUCT_##group) == sizeof(type), "schema: struct of " #group);
#define KEY(group, name, kind, field, ...) SIZE_CHECK(group, field, BYTES_##kind)
#define CHOICE(group, name, field, ...) SIZE_CHECK(group, field, sizeof(unsigned))
#define PART(...)
#define PART_FLAG(group, name, flag, ...) SIZE_CHECK(group, flag, sizeof(bool))
#define SECTION(group, name, field, section, ...) SIZE_CHECK(group, field, sizeof(STRUCT_##section))
#define SECTION_FLAG(group, name, field, flag, section, ...)                                       \
    SIZE_CHECK(group, field, sizeof(STRUCT_##section))
#define LIST(group, name, field, count, ...) SIZE_CHECK(group, count, sizeof(size_t))
#define MAP(group, name, field, count, ...) SIZE_CHECK(group, count, sizeof(size_t))
#define SHORTHAND(group, kind, field, text) SIZE_CHECK(group, field, BYTES_##kind)
#define NAME(group, field) SIZE_CHECK(group, field, sizeof(char *))
#define ALIAS(...)
#define LATER(...)
#include "config/schema.def"
#include "config/schema_undef.h"

#define ROW(g, r, n) .group = GROUP_##g, .role = (r), .name = (n)
#define MEMBERS(count, flag) .count_offset = (count), .flag_offset = (flag)

const struct esi_schema_row esi_schema_rows[] = {
#define GROUP(group, type)
#define KEY(group, name, value_kind, field, l, m, service, gateway, who, text)                     \
    {ROW(group, ROW_KEY, name),                                                                    \
     .kind = (value_kind),                                                                         \
     .offset = FIELD(group, field),                                                                \
     MEMBERS(SCHEMA_NO_OFFSET, SCHEMA_NO_OFFSET),                                                  \
     .least = (l),                                                                                 \
     .most = (m),                                                                                  \
     .defaults = {service, gateway},                                                               \
     .programs = SCHEMA_##who,                                                                     \
     .description = (text)},
#define CHOICE(group, name, field, choices, value, who, text)                                      \
    {ROW(group, ROW_KEY, name),     .kind = KIND_CHOICE,                                           \
     .offset = FIELD(group, field), MEMBERS(SCHEMA_NO_OFFSET, SCHEMA_NO_OFFSET),                   \
     .defaults = {value, value},    .words = (choices),                                            \
     .programs = SCHEMA_##who,      .description = (text)},
#define PART(group, name, section, who, text)                                                      \
    {ROW(group, ROW_SECTION, name), MEMBERS(SCHEMA_NO_OFFSET, SCHEMA_NO_OFFSET),                   \
     .target = GROUP_##section, .programs = SCHEMA_##who, .description = (text)},
#define PART_FLAG(group, name, flag, section, who, text)                                           \
    {ROW(group, ROW_SECTION, name), MEMBERS(SCHEMA_NO_OFFSET, FIELD(group, flag)),                 \
     .target = GROUP_##section, .programs = SCHEMA_##who, .description = (text)},
#define SECTION(group, name, field, section, who, text)                                            \
    {ROW(group, ROW_SECTION, name),                                                                \
     .offset = FIELD(group, field),                                                                \
     MEMBERS(SCHEMA_NO_OFFSET, SCHEMA_NO_OFFSET),                                                  \
     .target = GROUP_##section,                                                                    \
     .programs = SCHEMA_##who,                                                                     \
     .description = (text)},
#define SECTION_FLAG(group, name, field, flag, section, who, text)                                 \
    {ROW(group, ROW_SECTION, name),                                                                \
     .offset = FIELD(group, field),                                                                \
     MEMBERS(SCHEMA_NO_OFFSET, FIELD(group, flag)),                                                \
     .target = GROUP_##section,                                                                    \
     .programs = SCHEMA_##who,                                                                     \
     .description = (text)},
#define LIST(group, name, field, count, item, who, text)                                           \
    {ROW(group, ROW_LIST, name),                                                                   \
     .offset = FIELD(group, field),                                                                \
     MEMBERS(FIELD(group, count), SCHEMA_NO_OFFSET),                                               \
     .target = GROUP_##item,                                                                       \
     .programs = SCHEMA_##who,                                                                     \
     .description = (text)},
#define MAP(group, name, field, count, item, who, text)                                            \
    {ROW(group, ROW_MAP, name),                                                                    \
     .offset = FIELD(group, field),                                                                \
     MEMBERS(FIELD(group, count), SCHEMA_NO_OFFSET),                                               \
     .target = GROUP_##item,                                                                       \
     .programs = SCHEMA_##who,                                                                     \
     .description = (text)},
#define SHORTHAND(group, value_kind, field, text)                                                  \
    {ROW(group, ROW_SHORTHAND, NULL),                                                              \
     .kind = (value_kind),                                                                         \
     .offset = FIELD(group, field),                                                                \
     MEMBERS(SCHEMA_NO_OFFSET, SCHEMA_NO_OFFSET),                                                  \
     .least = 1,                                                                                   \
     .most = 1024,                                                                                 \
     .programs = SCHEMA_BOTH,                                                                      \
     .description = (text)},
#define NAME(group, field)                                                                         \
    {ROW(group, ROW_NAME, NULL),                                                                   \
     .kind = KIND_TEXT,                                                                            \
     .offset = FIELD(group, field),                                                                \
     MEMBERS(SCHEMA_NO_OFFSET, SCHEMA_NO_OFFSET),                                                  \
     .least = 1,                                                                                   \
     .most = 128,                                                                                  \
     .programs = SCHEMA_BOTH,                                                                      \
     .description = "a name"},
#define ALIAS(group, second, first)                                                                \
    {ROW(group, ROW_ALIAS, second), MEMBERS(SCHEMA_NO_OFFSET, SCHEMA_NO_OFFSET), .words = (first), \
     .programs = SCHEMA_BOTH},
#define LATER(group, name)                                                                         \
    {ROW(group, ROW_LATER, name), MEMBERS(SCHEMA_NO_OFFSET, SCHEMA_NO_OFFSET),                     \
     .programs = SCHEMA_BOTH},
#include "config/schema.def"
#include "config/schema_undef.h"
};

const size_t esi_schema_row_count = sizeof esi_schema_rows / sizeof esi_schema_rows[0];

const char *esi_schema_group_name(enum esi_schema_group group)
{
    static const char *const names[GROUP_COUNT] = {
#define GROUP(group, type) [GROUP_##group] = #group,
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
    };

    return names[group];
}

size_t esi_schema_group_bytes(enum esi_schema_group group)
{
    static const size_t bytes[GROUP_COUNT] = {
#define GROUP(group, type) [GROUP_##group] = sizeof(type),
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
    };

    return bytes[group];
}

const struct esi_schema_row *esi_schema_next(enum esi_schema_group group,
                                             const struct esi_schema_row *row)
{
    size_t i = row == NULL ? 0 : (size_t)(row - esi_schema_rows) + 1;

    while (i < esi_schema_row_count && esi_schema_rows[i].group != group) {
        i++;
    }
    return i < esi_schema_row_count ? &esi_schema_rows[i] : NULL;
}

const struct esi_schema_row *esi_schema_find(enum esi_schema_group group, const char *name)
{
    const struct esi_schema_row *row = esi_schema_next(group, NULL);

    while (row != NULL && (row->name == NULL || strcmp(row->name, name) != 0)) {
        row = esi_schema_next(group, row);
    }
    return row;
}

const struct esi_schema_row *esi_schema_find_role(enum esi_schema_group group,
                                                  enum esi_schema_role role)
{
    const struct esi_schema_row *row = esi_schema_next(group, NULL);

    while (row != NULL && row->role != role) {
        row = esi_schema_next(group, row);
    }
    return row;
}

enum { HINT_NAME_BYTES_MAX = 48 };

static size_t least_of(size_t a, size_t b, size_t c)
{
    const size_t ab = a < b ? a : b;

    return ab < c ? ab : c;
}

/* How many characters must be put in, taken out or changed to make a into b. Both at most
 * HINT_NAME_BYTES_MAX. */
static size_t edit_distance(const char *a, size_t a_len, const char *b, size_t b_len)
{
    size_t row[HINT_NAME_BYTES_MAX + 1];

    for (size_t j = 0; j <= b_len; j++) {
        row[j] = j;
    }
    for (size_t i = 1; i <= a_len; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b_len; j++) {
            const size_t above = row[j];
            row[j] = least_of(above + 1, row[j - 1] + 1, diagonal + (a[i - 1] == b[j - 1] ? 0 : 1));
            diagonal = above;
        }
    }
    return row[b_len];
}

const char *esi_schema_nearest(enum esi_schema_group group, const char *name)
{
    const size_t len = strlen(name);
    const char *nearest = NULL;

    if (len > HINT_NAME_BYTES_MAX) {
        return NULL;
    }
    /* A third of the word may be wrong, two characters at least: "prot" is meant to be "port". */
    size_t bound = len / 3 > 2 ? len / 3 : 2;
    for (const struct esi_schema_row *row = esi_schema_next(group, NULL); row != NULL;
         row = esi_schema_next(group, row)) {
        if (row->name == NULL || row->role == ROW_LATER ||
            strlen(row->name) > HINT_NAME_BYTES_MAX) {
            continue;
        }
        /* A name that was cut short is as near as one with two wrong characters. */
        const bool is_prefix = len >= 3 && strncmp(row->name, name, len) == 0;
        const size_t distance =
            is_prefix ? 2 : edit_distance(name, len, row->name, strlen(row->name));
        if (distance <= bound && distance < len && distance < strlen(row->name)) {
            nearest = row->name;
            bound = distance > 0 ? distance - 1 : 0;
        }
    }
    return nearest;
}
