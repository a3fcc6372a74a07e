/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Any bytes into the HTTP/1 server side. The first byte chooses how they are cut. The answers must
 * be the same as for bytes that are not cut, and never more than a bound allows.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "net/http1.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int condition)
{
    if (!condition) {
        abort();
    }
}

static void answer(struct esi_http1 *http, const struct esi_http1_request *request)
{
    struct esi_bytes body;

    check(request->path.len > 0 && request->path.data[0] == '/');
    check(request->header_count <= HTTP1_HEADERS_MAX && request->query_count <= HTTP1_QUERY_MAX);
    const struct esi_str limit = esi_http1_query(request, "limit");
    check(limit.data != NULL || limit.len == 0);
    esi_bytes_init(&body, 0);
    esi_bytes_append_str(&body, request->path);
    for (size_t i = 0; i < request->query_count; i++) {
        esi_bytes_append_str(&body, request->query[i].name);
        esi_bytes_append_str(&body, request->query[i].value);
    }
    for (size_t i = 0; i < request->header_count; i++) {
        esi_bytes_append_str(&body, request->headers[i].name);
        esi_bytes_append_str(&body, request->headers[i].value);
    }
    esi_bytes_append_str(&body, request->body);
    struct esi_http1_pair header = {.name = ESI_STR("X-Echo"), .value = request->path};
    esi_http1_respond(http, &(struct esi_http1_response){.status = 200,
                                                         .content_type = "text/plain",
                                                         .body = esi_bytes_str(&body),
                                                         .headers = &header,
                                                         .header_count = 1});
    esi_bytes_deinit(&body);
}

static void run(const uint8_t *data, size_t size, size_t step, struct esi_bytes *out)
{
    const struct esi_http1_limits limits = {.body_bytes_max = 300};
    const struct esi_http1_request *request;
    struct esi_http1 *http;

    if (esi_http1_new(&limits, &http) != ES_OK) {
        return;
    }
    while (size > 0) {
        const size_t room = esi_http1_room(http);
        const size_t taken = esi_http1_feed(http, data, size < step ? size : step);
        check(taken <= room);
        while (esi_http1_next(http, &request) == ES_OK) {
            answer(http, request);
        }
        while (esi_http1_take_output(http, out, 1000) > 0) {
        }
        if (taken == 0) {
            break;
        }
        data += taken;
        size -= taken;
    }
    esi_http1_feed_end(http);
    check(esi_http1_next(http, &request) != ES_OK);
    check(esi_http1_is_done(http) || esi_http1_output_len(http) > 0);
    esi_http1_free(http);
}

/* "100 Continue" is sent only when the body is still missing, so it may depend on the cut. */
static void drop_continue(struct esi_bytes *bytes)
{
    static const char LINE[] = "HTTP/1.1 100 Continue\r\n\r\n";
    char *at = bytes->data;

    while (at != NULL && (at = memmem(at, bytes->len - (size_t)(at - bytes->data), LINE,
                                      sizeof LINE - 1)) != NULL) {
        const size_t rest = bytes->len - (size_t)(at - bytes->data) - (sizeof LINE - 1);
        memmove(at, at + sizeof LINE - 1, rest);
        bytes->len -= sizeof LINE - 1;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct esi_bytes whole;
    struct esi_bytes cut;

    if (size == 0) {
        return 0;
    }
    esi_bytes_init(&whole, 0);
    esi_bytes_init(&cut, 0);
    run(data + 1, size - 1, SIZE_MAX, &whole);
    run(data + 1, size - 1, (size_t)data[0] % 31 + 1, &cut);
    drop_continue(&whole);
    drop_continue(&cut);
    check(whole.len == cut.len && (whole.len == 0 || memcmp(whole.data, cut.data, cut.len) == 0));
    esi_bytes_deinit(&whole);
    esi_bytes_deinit(&cut);
    return 0;
}
