/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * INFO lines: written for clients and gateways, read from gateways. Field order is nats-server's.
 * Thread: any.
 */
#pragma once

#include "base/bytes.h"
#include "base/err.h"
#include "base/str.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ESI_INFO_URLS_MAX = 64 };

/* What a client is told. Strings are borrowed; empty ones and false booleans are left out where
 * nats-server does. */
struct esi_client_info {
    struct esi_str server_id;
    struct esi_str server_name; /* empty: server_id */
    struct esi_str version;     /* of the protocol that we follow */
    struct esi_str product;     /* our own version, field "event_service"; empty: left out */
    struct esi_str host;
    struct esi_str client_ip;
    struct esi_str nonce;
    struct esi_str cluster;
    const struct esi_str *connect_urls; /* "host:port" */
    size_t connect_url_count;
    uint64_t client_id;
    int64_t max_payload; /* bytes; -1: no limit */
    uint16_t port;
    bool headers;
    bool auth_required;
    bool tls_required;
    bool tls_verify;
    bool tls_available;
    bool lame_duck;
};

/* Appends one line "INFO {...} \r\n". */
void esi_info_write_client(struct esi_bytes *out, const struct esi_client_info *info);

enum esi_gateway_cmd {
    GATEWAY_CMD_NONE = 0,
    GATEWAY_CMD_GOSSIP = 1,      /* another cluster is known */
    GATEWAY_CMD_ALL_START = 2,   /* an account's switch to interest-only begins */
    GATEWAY_CMD_ALL_COMPLETE = 3 /* and is complete */
};

/*
 * A gateway's INFO. To write one, fill it with borrowed strings and leave `owned` NULL. One that
 * was read owns the memory of its strings: esi_info_gateway_deinit.
 */
struct esi_gateway_info {
    struct esi_str server_id;
    struct esi_str server_name;
    struct esi_str version;
    struct esi_str host;
    struct esi_str gateway; /* name; empty: not a gateway */
    struct esi_str
        gateway_urls[ESI_INFO_URLS_MAX]; /* "host:port"; what a peer sends beyond that is ignored */
    size_t gateway_url_count;
    struct esi_str gateway_url;
    struct esi_str account; /* cmd 2 and 3, decoded; data is NULL when absent */
    int64_t cmd;            /* enum esi_gateway_cmd, or what the peer sent */
    int64_t proto;
    int64_t max_payload;
    uint16_t port;
    bool headers;
    bool auth_required;
    bool tls_required;
    bool tls_verify;
    bool reply_prefix_new; /* gateway_nrp: "_GR_." instead of "$GR." */
    bool interest_only;    /* gateway_iom: never send optimistically on this link */
    void *owned;           /* owned; NULL when the strings are borrowed */
};

/*
 * Appends one line "INFO {...}\r\n". In a cmd INFO the fields that nats-server always writes
 * (server_id to max_payload) are written with what the caller left in them: zero values, except
 * server_id for cmd 1.
 */
void esi_info_write_gateway(struct esi_bytes *out, const struct esi_gateway_info *info);
/*
 * Reads the JSON of a gateway's INFO. Go's JSON rules (proto/json_fields.h): unknown names ignored,
 * names in any case, a known name with a wrong type is ES_INVALID. gateway_cmd_payload that is not
 * base64 is ES_INVALID.
 *   json   the line's argument; borrowed for the call
 *   info   written only on success; owned by the caller: esi_info_gateway_deinit
 * Errors: ES_INVALID, ES_NO_MEMORY.
 */
ES_MUST_USE enum es_err esi_info_read_gateway(struct esi_str json, struct esi_gateway_info *info);
/* Frees what a read INFO owns; zeroed and borrowed ones are accepted. */
void esi_info_gateway_deinit(struct esi_gateway_info *info);
