/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: no bytes of a body harm the reader of gRPC messages, and how they are cut makes no
 * difference; texts of headers come out printable and bounded. Method: the input is fed whole and
 * in pieces, with room for long messages and without.
 */
#include "net/grpc_internal.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MESSAGE_MAX = 100000, POOL_BYTES = 80000 };

static void require(bool condition)
{
    if (!condition) {
        abort();
    }
}

struct result {
    enum esi_grpc_status status;
    bool is_complete;
    size_t len;
    char *message;
};

static struct result feed(const char *data, size_t size, size_t step)
{
    struct esi_grpc_pool pool;
    struct esi_grpc_reader reader;
    struct result result = {.status = GRPC_OK};

    esi_grpc_pool_init(&pool, NULL, POOL_BYTES);
    esi_grpc_reader_init(&reader, NULL);
    require(esi_grpc_reader_is_empty(&reader));
    for (size_t at = 0; at < size && result.status == GRPC_OK; at += step) {
        const size_t len = size - at < step ? size - at : step;
        const char *why = NULL;
        char *copy = malloc(len);
        require(copy != NULL);
        memcpy(copy, data + at, len);
        result.status = esi_grpc_reader_feed(
            &reader, &pool, (struct esi_str){.data = copy, .len = len}, MESSAGE_MAX, &why);
        free(copy);
        require(result.status == GRPC_OK || why != NULL);
        require(reader.received_len <= reader.message_len || result.status != GRPC_OK);
    }
    result.is_complete = result.status == GRPC_OK && esi_grpc_reader_is_complete(&reader);
    if (result.is_complete) {
        result.len = reader.received_len;
        result.message = malloc(result.len + 1);
        require(result.message != NULL && result.len <= MESSAGE_MAX);
        if (result.len > 0) {
            memcpy(result.message, reader.message, result.len);
        }
    }
    esi_grpc_reader_deinit(&reader, &pool);
    require(pool.bytes_reserved == 0);
    return result;
}

static void check_texts(struct esi_str text)
{
    char encoded[3 * GRPC_STATUS_TEXT_MAX + 1];
    char decoded[GRPC_STATUS_TEXT_MAX];
    uint64_t timeout_ns = 0;

    esi_grpc_encode_text(text, encoded);
    require(strlen(encoded) <= 3 * (size_t)GRPC_STATUS_TEXT_MAX);
    for (const char *at = encoded; *at != '\0'; at++) {
        require(*at >= 0x20 && *at <= 0x7e);
    }
    size_t len = esi_grpc_decode_text(esi_str_from(encoded), decoded);
    require(len <= GRPC_STATUS_TEXT_MAX);
    len = esi_grpc_decode_text(text, decoded);
    for (size_t i = 0; i < len; i++) {
        require(decoded[i] >= 0x20 && decoded[i] <= 0x7e);
    }
    if (esi_grpc_parse_timeout(text, &timeout_ns)) {
        require(text.len >= 2 && text.len <= 9);
    }
    require(esi_grpc_parse_status(text) <= GRPC_UNAUTHENTICATED);
    (void)esi_grpc_is_content_type(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1) {
        return 0;
    }
    const char *body = (const char *)data + 1;
    const struct result whole = feed(body, size - 1, size);
    const struct result pieces = feed(body, size - 1, (size_t)data[0] % 50 + 1);

    require(whole.is_complete == pieces.is_complete && whole.len == pieces.len);
    require(whole.len == 0 || memcmp(whole.message, pieces.message, whole.len) == 0);
    free(whole.message);
    free(pieces.message);
    check_texts((struct esi_str){.data = body, .len = size - 1});
    return 0;
}
