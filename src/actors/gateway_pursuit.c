/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reaching the remote clusters. Each has one outbound link at most; how it comes about:
 *
 * State     | event                     | next
 * WAITING   | its timer                 | a round begins: its addresses, configured ones first;
 *           |                           | RESOLVING
 * RESOLVING | an address of the host    | DIALLING
 *           | no such host              | the round's next address (RESOLVING), or WAITING
 * DIALLING  | the link is open          | LINKED
 *           | not reached, or refused   | the round's next address (RESOLVING), or WAITING
 *           | by either side            |
 * LINKED    | the link has ended        | WAITING
 *
 * A round that fails is followed by a pause that doubles up to a bound. A learned remote that
 * cannot be reached, and that has no link to us either, is forgotten after some rounds. Any state:
 * forgotten or stopping, answers that are on their way are told by the number of the remote, and
 * ignored.
 *
 * Peers may name hosts that no name server knows; a look-up takes a service thread, which others
 * need, for seconds. So few of those are under way at once; the rest wait their turn (RESOLVING).
 */
#include "actors/context.h"
#include "actors/gateway_internal.h"
#include "actors/gateway_link.h"
#include "base/assert.h"
#include "base/log.h"
#include "config/config.h"
#include "config/value.h"
#include "runtime/runtime.h"

#include <stdlib.h>
#include <string.h>

enum {
    ADDRESSES_MAX = 16, /* of one host name */
    FORGOTTEN_AFTER_ROUNDS = 5,
    BACKOFF_DOUBLINGS_MAX = 16,
    LEARNED_LOOKUPS_MAX = 1 /* at once, of names that peers have told */
};

static const uint64_t PAUSE_NS =
    1000000000; /* as nats-server: between rounds, and before an explicit redial */
static const uint64_t PAUSE_NS_MAX = 10000000000;
static const uint64_t BRIEF_NS =
    1000000000; /* a link that was open for less has failed, in effect */

/* A host name being looked up by a service thread. */
struct lookup {
    struct esi_job job; /* first */
    struct esi_msg msg;
    struct esi_gateway *gateway;
    uint64_t remote_id;
    uint32_t url_index;
    bool is_learned_name; /* counted in learned_lookups */
    char host[ESI_GATEWAY_HOST_MAX];
    uint16_t port;
    enum es_err err;
    struct esi_address addresses[ADDRESSES_MAX];
    size_t address_count;
};

static uint64_t now_ns(const struct esi_gateway *self)
{
    return esi_actor_now_ns(&self->actor);
}

static struct gateway_pursuit *find(const struct esi_gateway *self, uint64_t remote_id)
{
    const struct esi_gateway_remote *remote = esi_gateway_remotes_by_id(&self->remotes, remote_id);

    return remote != NULL ? pursuit_of(remote) : NULL;
}

static void wait_for(struct esi_gateway *self, struct gateway_pursuit *pursuit, uint64_t delay_ns)
{
    pursuit->state = PURSUIT_WAITING;
    esi_actor_timer_set(&pursuit->timer, now_ns(self) + delay_ns);
}

void esi_gateway_pursuit_free(struct gateway_pursuit *pursuit)
{
    free(pursuit->order);
    free(pursuit);
}

static void forget(struct esi_gateway *self, struct gateway_pursuit *pursuit)
{
    struct esi_gateway_remote *remote = pursuit->remote;

    ESI_REQUIRE(pursuit->state == PURSUIT_WAITING);
    esi_log(LOG_GATEWAY_REMOTE_FORGOTTEN, ESI_LOG_TEXT("gateway", remote->name));
    esi_actor_timer_cancel(&pursuit->timer);
    esi_gateway_pursuit_free(pursuit);
    esi_gateway_remotes_remove(&self->remotes, remote);
}

static bool is_worth_pursuing(const struct esi_gateway *self, const struct gateway_pursuit *pursuit)
{
    return pursuit->remote->config != NULL ||
           esi_gateway_gossip_count_inbound(self, esi_str_from(pursuit->remote->name)) > 0;
}

/* A round has come to nothing. */
static void end_round(struct esi_gateway *self, struct gateway_pursuit *pursuit)
{
    pursuit->failures++;
    const uint32_t doublings = pursuit->failures - 1 < BACKOFF_DOUBLINGS_MAX
                                   ? pursuit->failures - 1
                                   : BACKOFF_DOUBLINGS_MAX;
    uint64_t delay_ns = PAUSE_NS << doublings;
    if (delay_ns > PAUSE_NS_MAX) {
        delay_ns = PAUSE_NS_MAX;
    }
    wait_for(self, pursuit, delay_ns + esi_gateway_random(self, delay_ns / 10));
    if (pursuit->failures >= FORGOTTEN_AFTER_ROUNDS && !is_worth_pursuing(self, pursuit)) {
        forget(self, pursuit);
    }
}

/* --- looking up --- */

static void free_lookup(struct esi_msg *msg)
{
    free(ESI_CONTAINER_OF(msg, struct lookup, msg));
}

static void run_lookup(struct esi_job *job)
{
    struct lookup *lookup = ESI_CONTAINER_OF(job, struct lookup, job);

    lookup->err = esi_env_resolve(lookup->gateway->context->env, lookup->host, lookup->port,
                                  lookup->addresses, ADDRESSES_MAX, &lookup->address_count);
    lookup->msg = (struct esi_msg){.kind = GATEWAY_RESOLVED, .free = free_lookup};
    esi_actor_send(&lookup->gateway->actor, &lookup->msg);
}

/* Starts to look up the address at order_next. */
static bool start_lookup(struct esi_gateway *self, struct gateway_pursuit *pursuit)
{
    const uint32_t index = pursuit->order[pursuit->order_next];
    const struct esi_gateway_remote *remote = pursuit->remote;
    struct lookup *lookup = index < remote->url_count ? malloc(sizeof *lookup) : NULL;

    if (lookup == NULL) {
        return false; /* out of memory, or the address was replaced meanwhile */
    }
    const struct esi_gateway_url *url = &remote->urls[index];
    *lookup = (struct lookup){.job = {.run = run_lookup},
                              .gateway = self,
                              .remote_id = remote->id,
                              .url_index = index,
                              .is_learned_name = index >= remote->configured_count &&
                                                 !esi_value_is_numeric(url->host),
                              .port = url->port};
    memcpy(lookup->host, url->host, sizeof lookup->host);
    pursuit->order_next++;
    self->learned_lookups += lookup->is_learned_name;
    esi_runtime_submit(self->context->runtime, &lookup->job);
    return true;
}

static bool must_wait(const struct esi_gateway *self, const struct gateway_pursuit *pursuit)
{
    const struct esi_gateway_remote *remote = pursuit->remote;
    const uint32_t index = pursuit->order[pursuit->order_next];

    return self->learned_lookups >= LEARNED_LOOKUPS_MAX && index >= remote->configured_count &&
           index < remote->url_count && !esi_value_is_numeric(remote->urls[index].host);
}

/* Tries the round's next address. */
static void try_next(struct esi_gateway *self, struct gateway_pursuit *pursuit)
{
    if (pursuit->order_next >= pursuit->order_count) {
        end_round(self, pursuit);
        return;
    }
    pursuit->state = PURSUIT_RESOLVING;
    if (must_wait(self, pursuit)) {
        esi_list_append(&self->lookups_waiting, &pursuit->in_lookups);
    } else if (!start_lookup(self, pursuit)) {
        end_round(self, pursuit);
    }
}

/* A look-up has ended: the one that has waited longest is next. */
static void start_waiting(struct esi_gateway *self)
{
    while (self->learned_lookups < LEARNED_LOOKUPS_MAX &&
           !esi_list_is_empty(&self->lookups_waiting)) {
        struct esi_list *first = self->lookups_waiting.next;
        struct gateway_pursuit *pursuit =
            ESI_CONTAINER_OF(first, struct gateway_pursuit, in_lookups);
        esi_list_remove(first);
        if (!start_lookup(self, pursuit)) {
            end_round(self, pursuit);
        }
    }
}

void esi_gateway_pursuit_start_round(struct esi_gateway *self, struct gateway_pursuit *pursuit)
{
    const uint32_t count = pursuit->remote->url_count;
    uint32_t *order = count > 0 ? realloc(pursuit->order, count * sizeof *order) : NULL;

    esi_actor_timer_cancel(&pursuit->timer);
    pursuit->round_ns = now_ns(self);
    pursuit->order_next = 0;
    pursuit->order_count = 0;
    if (order != NULL) {
        pursuit->order = order;
        pursuit->order_count = count;
        esi_gateway_remotes_shuffle(pursuit->remote, self->context->env, order);
    }
    try_next(self, pursuit);
}

/* --- dialling --- */

static void dial(struct esi_gateway *self, struct gateway_pursuit *pursuit,
                 const struct lookup *lookup)
{
    const struct esi_gateway_remote *remote = pursuit->remote;
    const struct esi_gateway_url *url = &remote->urls[lookup->url_index];
    const struct esi_gateway_link_options options = {
        .remote_id = remote->id,
        .name = remote->name,
        .is_configured = remote->config != NULL,
        /* One of the host's addresses at random: those that fail are found by later rounds. */
        .address = lookup->addresses[esi_gateway_random(self, lookup->address_count)],
        .user = url->user,
        .password = url->password,
        .tls = pursuit->tls,
        .tls_name = esi_gateway_remotes_tls_name(remote, lookup->url_index),
    };

    pursuit->state = PURSUIT_DIALLING;
    if (esi_gateway_link_dial(self->context, &options, &pursuit->link_id) != ES_OK) {
        end_round(self, pursuit);
    }
}

static void use_lookup(struct esi_gateway *self, struct gateway_pursuit *pursuit,
                       const struct lookup *lookup)
{
    /* Newly learned addresses may have taken the place of the one that was looked up. */
    const struct esi_gateway_remote *remote = pursuit->remote;
    const bool is_still_there = lookup->url_index < remote->url_count &&
                                strcmp(remote->urls[lookup->url_index].host, lookup->host) == 0 &&
                                remote->urls[lookup->url_index].port == lookup->port;

    if (lookup->err != ES_OK) {
        esi_log(LOG_GATEWAY_UNKNOWN_HOST, ESI_LOG_TEXT("gateway", remote->name),
                ESI_LOG_TEXT("host", lookup->host), ESI_LOG_ERR(lookup->err));
    }
    if (lookup->err != ES_OK || !is_still_there) {
        try_next(self, pursuit);
        return;
    }
    dial(self, pursuit, lookup);
}

void esi_gateway_pursuit_on_resolved(struct esi_gateway *self, struct esi_msg *msg)
{
    const struct lookup *lookup = ESI_CONTAINER_OF(msg, struct lookup, msg);
    struct gateway_pursuit *pursuit = find(self, lookup->remote_id);

    self->learned_lookups -= lookup->is_learned_name;
    start_waiting(self);
    if (pursuit != NULL && pursuit->state == PURSUIT_RESOLVING) {
        use_lookup(self, pursuit, lookup);
    }
}

/* --- links --- */

void esi_gateway_pursuit_on_opened(struct esi_gateway *self, const struct gateway_news *news)
{
    struct gateway_pursuit *pursuit = find(self, news->remote_id);

    if (pursuit == NULL) {
        return;
    }
    esi_gateway_remotes_relearn(pursuit->remote, &news->info);
    if (pursuit->state == PURSUIT_DIALLING) {
        pursuit->state = PURSUIT_LINKED;
        pursuit->failures = 0;
        pursuit->linked_ns = now_ns(self);
        pursuit->was_linked = true;
    }
}

static void on_lost(struct esi_gateway *self, struct gateway_pursuit *pursuit)
{
    const bool was_brief = now_ns(self) - pursuit->linked_ns < BRIEF_NS;
    const uint64_t pause_ns = pursuit->remote->config != NULL || was_brief ? PAUSE_NS : 0;

    wait_for(self, pursuit, pause_ns + esi_gateway_random(self, GATEWAY_JITTER_NS));
}

void esi_gateway_pursuit_on_ended(struct esi_gateway *self,
                                  const struct esi_gateway_ended_msg *ended)
{
    struct gateway_pursuit *pursuit = find(self, ended->remote_id);

    if (pursuit == NULL || pursuit->link_id != ended->link_id ||
        (pursuit->state != PURSUIT_DIALLING && pursuit->state != PURSUIT_LINKED)) {
        return;
    }
    switch (ended->ending) {
    case ENDING_UNREACHED:
    case ENDING_REFUSED:
        /* What answers there may be another cluster by now, or one that only calls itself so. */
        try_next(self, pursuit);
        break;
    case ENDING_LOST:
        on_lost(self, pursuit);
        break;
    }
}

void esi_gateway_pursuit_hurry(struct esi_gateway *self, struct gateway_pursuit *pursuit)
{
    if (pursuit->state != PURSUIT_WAITING || pursuit->failures == 0) {
        return;
    }
    /* One that links to us again and again makes us dial no more often than once a pause. */
    const uint64_t passed_ns = now_ns(self) - pursuit->round_ns;
    const uint64_t rest_ns = passed_ns < PAUSE_NS ? PAUSE_NS - passed_ns : 0;
    wait_for(self, pursuit, rest_ns + esi_gateway_random(self, GATEWAY_JITTER_NS));
}

/* --- which clusters --- */

static struct esi_tls_context *tls_of(const struct esi_gateway *self,
                                      const struct esi_config_remote *config)
{
    return config == NULL ? self->client_tls
                          : self->remote_tls[config - esi_gateway_config(self)->remotes];
}

struct gateway_pursuit *esi_gateway_pursuit_new(struct esi_gateway *self, struct esi_str name,
                                                const struct esi_config_remote *config)
{
    struct esi_gateway_remote *remote = NULL;
    struct gateway_pursuit *pursuit = calloc(1, sizeof *pursuit);

    if (pursuit == NULL ||
        esi_gateway_remotes_add(&self->remotes, name, config, &remote) != ES_OK) {
        free(pursuit);
        return NULL;
    }
    remote->owner = pursuit;
    pursuit->remote = remote;
    pursuit->tls = tls_of(self, config);
    pursuit->state = PURSUIT_WAITING;
    esi_list_init(&pursuit->in_lookups);
    esi_actor_timer_init(&self->actor, &pursuit->timer);
    return pursuit;
}

bool esi_gateway_pursuit_make_room(struct esi_gateway *self)
{
    struct gateway_pursuit *worst = NULL;

    for (struct esi_list *at = self->remotes.list.next; at != &self->remotes.list; at = at->next) {
        struct gateway_pursuit *pursuit =
            pursuit_of(ESI_CONTAINER_OF(at, struct esi_gateway_remote, link));
        const bool is_failing =
            pursuit->state == PURSUIT_WAITING && pursuit->failures > 0 && !pursuit->was_linked;
        if (is_failing && (worst == NULL || pursuit->failures > worst->failures) &&
            !is_worth_pursuing(self, pursuit)) {
            worst = pursuit;
        }
    }
    if (worst != NULL) {
        forget(self, worst);
    }
    return worst != NULL;
}

const char *esi_gateway_pursuit_state_name(enum gateway_pursuit_state state)
{
    static const char *const names[] = {[PURSUIT_WAITING] = "waiting",
                                        [PURSUIT_RESOLVING] = "resolving",
                                        [PURSUIT_DIALLING] = "dialling",
                                        [PURSUIT_LINKED] = "linked"};

    return names[state];
}
