/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The monitor itself cannot be told: it is stopped last, and must answer until then. */
#include "actors/monitor_sentinel.h"
#include "base/own.h"
#include "runtime/actor.h"

#include <stdlib.h>

struct sentinel {
    struct esi_actor actor;    /* first */
    struct esi_actor *monitor; /* a reference */
    struct esi_msg *stopping;  /* borrowed from the monitor */
};

static struct sentinel *self_of(struct esi_actor *actor)
{
    return ESI_CONTAINER_OF(actor, struct sentinel, actor);
}

static void handle(struct esi_actor *actor, struct esi_msg *msg)
{
    (void)actor;
    (void)msg; /* nobody sends to it */
}

static void stop(struct esi_actor *actor)
{
    struct sentinel *self = self_of(actor);

    esi_actor_send(self->monitor, self->stopping);
    esi_actor_finish(actor);
}

static void describe(const struct esi_actor *actor, struct esi_description *description)
{
    (void)actor;
    esi_bytes_append_text(description->text, "tells the monitor of the stop");
}

static void free_sentinel(struct esi_actor *actor)
{
    struct sentinel *self = self_of(actor);

    esi_actor_unref(self->monitor);
    free(self);
}

static const struct esi_actor_type sentinel_type = {
    .name = "monitor_sentinel",
    .stop_phase = STOP_DOORS,
    .handle = handle,
    .stop = stop,
    .describe = describe,
    .free = free_sentinel,
};

enum es_err esi_monitor_sentinel_start(struct esi_actor *monitor, struct esi_msg *stopping)
{
    struct sentinel *self = aligned_alloc(ESI_CACHE_LINE, sizeof *self);

    if (self == NULL) {
        return ES_NO_MEMORY;
    }
    *self = (struct sentinel){.monitor = monitor, .stopping = stopping};
    esi_actor_ref(monitor);
    esi_actor_init(&self->actor, &sentinel_type, monitor->runtime, esi_actor_home(monitor));
    esi_actor_start(&self->actor);
    return ES_OK;
}
