/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * When who is told of the health: at once where the last look's result is still fresh, else when
 * the next look has ended, or has not ended in time. What is looked at: monitor_health.h.
 */
#include "actors/context.h"
#include "actors/monitor_answer.h"
#include "actors/monitor_client.h"
#include "actors/monitor_internal.h"

const char *esi_monitor_healthz_why_not_ready(const struct esi_monitor *self)
{
    if (self->is_stopping) {
        return "server is stopping";
    }
    /* order: acquire; pairs with the release at the end of the start: ports and gateway are then to
     * be seen. */
    if (!atomic_load_explicit(&self->context->is_ready, memory_order_acquire)) {
        return "server is starting";
    }
    return NULL;
}

static void tell_health(struct esi_monitor *self, struct esi_monitor_client *client,
                        bool is_trusted)
{
    const struct esi_monitor_health *health = &self->health;

    esi_monitor_answer_health(
        client, health->failure[0] != '\0' ? health->failure : NULL,
        is_trusted && health->degraded_count > 0 ? esi_bytes_str(&health->degraded) : ESI_STR(""));
}

static void look_at_health(struct esi_monitor *self)
{
    esi_monitor_health_begin(&self->health, esi_actor_now_ns(&self->actor), self->asked);
    esi_actor_timer_set(&self->health_timer, esi_monitor_health_deadline_ns(&self->health));
}

void esi_monitor_healthz_answer(struct esi_monitor *self, struct esi_monitor_client *client,
                                const struct esi_monitor_query *query)
{
    const uint64_t now_ns = esi_actor_now_ns(&self->actor);
    char text[ESI_MONITOR_HEALTH_TEXT_MAX];

    if (esi_monitor_healthz_why_not_ready(self) != NULL) {
        esi_monitor_answer_health(client, esi_monitor_healthz_why_not_ready(self), ESI_STR(""));
    } else if (esi_monitor_health_is_stalled(&self->health, now_ns, text)) {
        esi_monitor_answer_health(client, text, ESI_STR(""));
    } else if (now_ns < self->health.fresh_until_ns) {
        tell_health(self, client, query->is_trusted);
    } else {
        esi_monitor_client_await_page(client, query, self->asked++);
        if (!self->health.is_looking) {
            look_at_health(self);
        }
    }
}

/* Answers who has asked before the look began; those who came later have one of their own. */
static void end_health(struct esi_monitor *self)
{
    struct esi_monitor_client *client;

    esi_actor_timer_cancel(&self->health_timer);
    self->facts.is_degraded = self->health.degraded_count > 0 || self->health.failure[0] != '\0';
    while ((client = esi_monitor_client_next_for_health(&self->clients, self->health.asked_end)) !=
           NULL) {
        tell_health(self, client, client->query.is_trusted);
        esi_monitor_serve(self, client);
    }
    if (!self->is_ended && !self->health.is_looking &&
        esi_monitor_client_count_waiting(&self->clients, true) > 0) {
        look_at_health(self);
    }
}

void esi_monitor_healthz_visited(struct esi_monitor *self)
{
    if (esi_monitor_health_visited(&self->health, esi_actor_now_ns(&self->actor))) {
        end_health(self);
    }
}

void esi_monitor_healthz_reported(struct esi_monitor *self, const struct esi_queue_report *report)
{
    esi_monitor_health_reported(&self->health, report, esi_actor_now_ns(&self->actor));
    end_health(self);
}

void esi_monitor_healthz_stalled(struct esi_monitor *self)
{
    struct esi_monitor_client *client;
    char text[ESI_MONITOR_HEALTH_TEXT_MAX];

    if (!esi_monitor_health_is_stalled(&self->health, esi_actor_now_ns(&self->actor), text)) {
        return;
    }
    self->facts.is_degraded = true;
    while ((client = esi_monitor_client_next_for_health(&self->clients, UINT64_MAX)) != NULL) {
        esi_monitor_answer_health(client, text, ESI_STR(""));
        esi_monitor_serve(self, client);
    }
}
