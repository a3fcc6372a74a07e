/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * RFC 8446, 4.1.2 and 5.1; RFC 6066, 3. All reads go through take(), which never passes the end.
 */
#include "net/client_hello.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum {
    RECORD_HEADER_BYTES = 5,
    RECORD_LENGTH_OFFSET = 3,
    RECORD_HANDSHAKE = 22,
    MESSAGE_CLIENT_HELLO = 1,
    VERSION_AND_RANDOM_BYTES = 34,
    EXTENSION_SERVER_NAME = 0,
    NAME_IS_HOST = 0
};

/* Takes count bytes from the front of *from, or says that there are too few and takes nothing. */
static bool take(struct esi_str *from, size_t count, struct esi_str *out)
{
    if (from->len < count) {
        return false;
    }
    *out = (struct esi_str){.data = from->data, .len = count};
    from->data += count;
    from->len -= count;
    return true;
}

/* Takes a big-endian number of 1 to 3 bytes. */
static bool take_number(struct esi_str *from, size_t byte_count, uint32_t *out)
{
    struct esi_str bytes;
    uint32_t value = 0;

    if (!take(from, byte_count, &bytes)) {
        return false;
    }
    for (size_t i = 0; i < byte_count; i++) {
        value = value << 8 | (uint8_t)bytes.data[i];
    }
    *out = value;
    return true;
}

/* Takes a vector that begins with its length, or takes nothing. */
static bool take_vector(struct esi_str *from, size_t length_bytes, struct esi_str *out)
{
    struct esi_str rest = *from;
    uint32_t len;

    if (!take_number(&rest, length_bytes, &len) || !take(&rest, len, out)) {
        return false;
    }
    *from = rest;
    return true;
}

/* The first host name of a server_name extension. */
static bool find_host_name(struct esi_str extension, struct esi_str *server_name)
{
    struct esi_str list;
    struct esi_str name;
    uint32_t kind;

    if (!take_vector(&extension, 2, &list)) {
        return false;
    }
    while (list.len > 0) {
        if (!take_number(&list, 1, &kind) || !take_vector(&list, 2, &name)) {
            return false;
        }
        if (kind == NAME_IS_HOST) {
            *server_name = name;
            return true;
        }
    }
    return true;
}

/* Goes over the hello's parts to its extensions. False: broken. */
static bool find_server_name(struct esi_str hello, struct esi_str *server_name)
{
    struct esi_str skipped;
    struct esi_str extensions;
    struct esi_str extension;
    uint32_t kind;

    if (!take(&hello, VERSION_AND_RANDOM_BYTES, &skipped) || !take_vector(&hello, 1, &skipped) ||
        !take_vector(&hello, 2, &skipped) || !take_vector(&hello, 1, &skipped)) {
        return false;
    }
    if (hello.len == 0) {
        return true; /* TLS 1.2 without extensions */
    }
    if (!take_vector(&hello, 2, &extensions)) {
        return false;
    }
    while (extensions.len > 0) {
        if (!take_number(&extensions, 2, &kind) || !take_vector(&extensions, 2, &extension)) {
            return false;
        }
        if (kind == EXTENSION_SERVER_NAME) {
            return find_host_name(extension, server_name);
        }
    }
    return true;
}

enum es_err esi_client_hello_read(struct esi_str data, struct esi_str *server_name)
{
    struct esi_str name = {0};
    struct esi_str record;
    struct esi_str hello;
    uint32_t number;

    /* Told from the first bytes, so that somebody who speaks plain text hears of it at once and not
     * after a timeout. */
    if (data.len > 0 && data.data[0] != RECORD_HANDSHAKE) {
        return ES_INVALID;
    }
    if (data.len > 1 && data.data[1] != 3) {
        return ES_INVALID;
    }
    if (data.len < RECORD_HEADER_BYTES) {
        return ES_AGAIN;
    }
    data.data += RECORD_LENGTH_OFFSET;
    data.len -= RECORD_LENGTH_OFFSET;
    if (!take_vector(&data, 2, &record)) {
        const size_t record_len = (size_t)(uint8_t)data.data[0] << 8 | (uint8_t)data.data[1];
        return record_len > ESI_CLIENT_HELLO_RECORD_MAX - RECORD_HEADER_BYTES ? ES_UNSUPPORTED
                                                                              : ES_AGAIN;
    }
    if (!take_number(&record, 1, &number) || number != MESSAGE_CLIENT_HELLO ||
        !take_vector(&record, 3, &hello) || !find_server_name(hello, &name)) {
        return ES_UNSUPPORTED;
    }
    *server_name = name;
    return ES_OK;
}
