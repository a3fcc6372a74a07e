/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: no request harms the reader of the monitor's options, and what comes out is in range.
 * Method: the input is the head of a request, as HTTP/1 hands it on.
 */
#include "actors/monitor_query.h"
#include "net/http1.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition) {
        abort();
    }
}

static void check(const struct esi_monitor_query *query)
{
    require(query->kind >= 0 && query->kind < MONITOR_KIND_COUNT);
    require(query->offset <= INT64_MAX && query->limit >= 1 && query->limit <= INT64_MAX);
    require(strnlen(query->user, sizeof query->user) < sizeof query->user);
    require(strnlen(query->type, sizeof query->type) < sizeof query->type);
    require(strnlen(query->event, sizeof query->event) < sizeof query->event);
    require(strnlen(query->gateway, sizeof query->gateway) < sizeof query->gateway);
    require(strnlen(query->test, sizeof query->test) < sizeof query->test);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char end[] = " HTTP/1.1\r\nHost: a\r\n\r\n";
    struct esi_http1_request request;
    struct esi_monitor_query query;
    char error[ESI_MONITOR_ERROR_MAX];
    unsigned status = 0;

    if (size > 4096) {
        return 0;
    }
    char *head = malloc(size + sizeof end + 5);
    require(head != NULL);
    memcpy(head, "GET /", 5);
    memcpy(head + 5, data, size);
    memcpy(head + 5 + size, end, sizeof end - 1);
    if (esi_http1_parse_head(head, size + 5 + sizeof end - 1, &request, &status) == ES_OK) {
        memset(error, 'x', sizeof error);
        if (esi_monitor_query_read(&request, &query, error) == ES_OK) {
            check(&query);
        } else {
            require(strnlen(error, sizeof error) < sizeof error);
        }
    } else {
        require(status >= 400);
    }
    free(head);
    return 0;
}
