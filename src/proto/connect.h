/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * CONNECT: what a client or a dialling gateway says of itself. A struct is kept for the life of a
 * connection, since a second CONNECT overwrites only the fields that it names. Holds secrets: they
 * are wiped before they are freed, and must never be logged. One thread at a time.
 */
#pragma once

#include "base/bytes.h"
#include "base/err.h"
#include "base/str.h"

#include <stdbool.h>
#include <stdint.h>

enum esi_connect_kind { CONNECT_CLIENT, CONNECT_GATEWAY };

/* Strings are owned, never NULL after init (len 0: absent or empty), ended by NUL, and may hold any
 * byte. */
struct esi_connect {
    struct esi_str user;
    struct esi_str pass;       /* secret */
    struct esi_str auth_token; /* secret */
    struct esi_str nkey;
    struct esi_str sig; /* secret */
    struct esi_str jwt; /* secret */
    struct esi_str name;
    struct esi_str lang;
    struct esi_str version;
    struct esi_str account;
    struct esi_str remote_account;
    struct esi_str cluster; /* gateways only */
    struct esi_str gateway; /* gateways only: the dialler's gateway name */
    int64_t protocol;       /* 0 or 1; others must be refused by the caller */
    bool verbose;
    bool pedantic;
    bool echo;
    bool tls_required;
    bool headers;
    bool no_responders;
    bool new_account;
};

/* The defaults before any CONNECT: verbose, pedantic and echo are true, all else false or empty.
 * Allocates nothing. */
void esi_connect_init(struct esi_connect *connect);
/* Wipes and frees all strings, and leaves the defaults. */
void esi_connect_deinit(struct esi_connect *connect);
/*
 * Reads a CONNECT's JSON into connect by Go's rules (proto/json_fields.h): names in any case, the
 * last duplicate wins, null changes nothing, unknown names are ignored, fields absent keep their
 * value; invalid UTF-8 becomes U+FFFD.
 *   json     the line's argument, borrowed
 *   kind     CONNECT_GATEWAY reads gateway and cluster as well; for clients these are unknown names
 *   connect  changed only on success
 * Errors: ES_INVALID (close without -ERR), ES_NO_MEMORY.
 */
ES_MUST_USE enum es_err esi_connect_read(struct esi_str json, enum esi_connect_kind kind,
                                         struct esi_connect *connect);
/*
 * Appends the line "CONNECT {...}\r\n" of a dialling gateway: user and pass are left out when
 * empty; name is the server id; of the rest only tls_required and gateway are looked at. out then
 * holds a secret.
 */
void esi_connect_write_gateway(struct esi_bytes *out, const struct esi_connect *connect);
