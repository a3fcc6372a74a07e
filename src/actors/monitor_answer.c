/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Answers carry nosniff and no-store: what they hold comes partly from peers, and is old at
 * once. */
#include "actors/monitor_answer.h"
#include "actors/monitor_client.h"
#include "base/bytes.h"
#include "base/json_writer.h"
#include "base/own.h"
#include "net/http1.h"

static void respond(struct esi_monitor_client *client, unsigned status, const char *content_type,
                    struct esi_str body)
{
    struct esi_http1_pair headers[] = {
        {.name = ESI_STR("X-Content-Type-Options"), .value = ESI_STR("nosniff")},
        {.name = ESI_STR("Cache-Control"), .value = ESI_STR("no-store")},
        {.name = ESI_STR("WWW-Authenticate"), .value = ESI_STR("Bearer")},
    };
    /* The last one is for refusals. */
    const size_t header_count = ESI_COUNT_OF(headers) - (status == 401 ? 0 : 1);

    esi_monitor_client_respond(client, &(struct esi_http1_response){.status = status,
                                                                    .content_type = content_type,
                                                                    .body = body,
                                                                    .headers = headers,
                                                                    .header_count = header_count});
}

void esi_monitor_answer(struct esi_monitor_client *client, unsigned status,
                        const char *content_type, struct esi_str body)
{
    respond(client, status, content_type != NULL ? content_type : "application/json", body);
}

void esi_monitor_answer_text(struct esi_monitor_client *client, unsigned status, const char *text)
{
    respond(client, status, "text/plain; charset=utf-8", esi_str_from(text));
}

void esi_monitor_answer_refusal(struct esi_monitor_client *client)
{
    esi_monitor_answer_text(client, 401, "Unauthorized\n");
}

void esi_monitor_answer_index(struct esi_monitor_client *client)
{
    static const char text[] =
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head><title>event-service</title></head>\n<body>\n"
        "<ul>\n"
        "<li><a href=\"varz\">varz</a>: the server</li>\n"
        "<li><a href=\"connz\">connz</a>: client connections</li>\n"
        "<li><a href=\"subsz\">subsz</a>: subscriptions</li>\n"
        "<li><a href=\"routez\">routez</a>: routes: there are none</li>\n"
        "<li><a href=\"gatewayz\">gatewayz</a>: links to other clusters</li>\n"
        "<li><a href=\"actorz\">actorz</a>: workers and actors</li>\n"
        "<li><a href=\"eventz\">eventz</a>: queue, handlers, dead letters</li>\n"
        "<li><a href=\"healthz\">healthz</a>: ready or not</li>\n"
        "<li><a href=\"metrics\">metrics</a>: figures for Prometheus, in OpenMetrics text</li>\n"
        "</ul>\n</body>\n</html>\n";

    respond(client, 200, "text/html; charset=utf-8", ESI_STR(text));
}

void esi_monitor_answer_health(struct esi_monitor_client *client, const char *failure,
                               struct esi_str degraded)
{
    struct esi_json_writer json;
    struct esi_bytes body;

    esi_bytes_init(&body, 0);
    esi_json_writer_init(&json, &body, false);
    esi_json_writer_object_start(&json);
    esi_json_writer_field_text(&json, "status", failure == NULL ? "ok" : "error");
    if (failure != NULL) {
        esi_json_writer_field_text(&json, "error", failure);
    }
    if (degraded.len > 0) {
        esi_json_writer_key(&json, "degraded");
        esi_json_writer_raw(&json, degraded);
    }
    esi_json_writer_object_end(&json);
    esi_monitor_answer(client, failure == NULL ? 200 : 503, NULL, esi_bytes_str(&body));
    esi_bytes_deinit(&body);
}
