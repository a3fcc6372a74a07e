/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The order matters: what an actor uses is made before it, doors open last. The stop goes the other
 * way, and is also the clean-up of a start that failed: everything accepts what was never made.
 */
#include "server/assemble.h"
#include "actors/authenticator.h"
#include "actors/connection.h"
#include "actors/credentials.h"
#include "actors/gateway.h"
#include "actors/grpc_connection.h"
#include "actors/listener.h"
#include "actors/monitor.h"
#include "actors/queue.h"
#include "actors/router.h"
#include "actors/tls_section.h"
#include "base/hashmap.h"
#include "base/log.h"
#include "env/env.h"
#include "event/registry.h"
#include "net/tls.h"
#include "proto/reply_map.h"
#include "runtime/runtime.h"
#include "server/identity.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    LINKS_MAX = 4096, /* target slots beside those of clients */
    BLOCK_CHAIN = 16,
    BLOCK_CHAINS_MAX = 64,
    DELIVERY_CHAIN = 64,
    DELIVERY_CHAINS_MAX = 256,
    KEPT_SHARE = 16 /* one part in so many of limits.memory may wait in a depot */
};

/* What a worker's own blocks and spare chunks need, several times over. */
static const uint64_t MEMORY_BYTES_A_WORKER = 16 * 1024 * 1024;
static const uint64_t MEMORY_BYTES_DEFAULT = 1024 * 1024 * 1024;

static const char *door_advice(enum es_err err)
{
    switch (err) {
    case ES_IN_USE:
        return "another process has this port: stop it, or choose another port";
    case ES_DENIED:
        return "no right to listen there: choose a port of 1024 or more, or grant "
               "CAP_NET_BIND_SERVICE";
    case ES_NOT_FOUND:
        return "this machine has no such address";
    case ES_OK:
    case ES_NO_MEMORY:
    case ES_AGAIN:
    case ES_CLOSED:
    case ES_INVALID:
    case ES_EXISTS:
    case ES_TIMEOUT:
    case ES_TOO_LARGE:
    case ES_UNREACHABLE:
    case ES_IO:
    case ES_TLS:
    case ES_UNSUPPORTED:
    case ES_FULL:
    case ES_FOLDER:
        break;
    }
    return es_err_text(err);
}

static enum es_err fail_door(struct es_error *error, enum es_err err, const char *what,
                             const char *host, uint16_t port)
{
    snprintf(error->text, sizeof error->text, "cannot listen for %s on %s:%u: %s", what, host, port,
             door_advice(err));
    return err;
}

static enum es_err make_client_tls(struct esi_context *context, struct es_error *error)
{
    const struct esi_config *config = context->config;

    if (!config->clients_use_tls) {
        return ES_OK;
    }
    const bool is_frontend = config->program == CONFIG_EVENT_GATEWAY;
    const size_t count = is_frontend ? config->frontend_tls_count : 1;
    struct esi_tls_certificate *certificates = calloc(count, sizeof *certificates);
    if (certificates == NULL) {
        return ES_NO_MEMORY;
    }
    struct esi_tls_options options = esi_tls_section_options(
        &config->tls, TLS_SERVER, is_frontend ? NULL : &config->tls.allowed_names, certificates);
    if (is_frontend) {
        /* Clients of an event-gateway show tokens, no certificates. */
        for (size_t i = 0; i < count; i++) {
            certificates[i] =
                (struct esi_tls_certificate){.cert_path = config->frontend_tls[i].cert_path,
                                             .key_path = config->frontend_tls[i].key_path};
        }
        options.certificate_count = count;
        options.root_ca_path = NULL;
        options.verify_peer = false;
    }
    const enum es_err err =
        esi_tls_context_new(context->env, &options, &context->client_tls, error);
    free(certificates);
    return err;
}

/* The ceiling of all memory: as configured, else half of what the process may use, so that there is
 * room for what is not counted. */
static enum es_err make_ledger(struct esi_context *context, struct es_error *error)
{
    const struct esi_config *config = context->config;
    const uint32_t workers =
        config->threads.workers != 0 ? config->threads.workers : esi_env_core_count(context->env);
    const uint64_t needed_bytes = workers * MEMORY_BYTES_A_WORKER;
    uint64_t bytes = config->limits.memory_bytes;

    if (bytes == 0) {
        const uint64_t usable_bytes = esi_env_memory_bytes(context->env);
        bytes = usable_bytes > 0 ? usable_bytes / 2 : MEMORY_BYTES_DEFAULT;
        bytes = bytes > needed_bytes ? bytes : needed_bytes;
    }
    if (bytes < needed_bytes) {
        snprintf(error->text, sizeof error->text,
                 "limits.memory is %llu bytes, too little for %u workers: at least %llu",
                 (unsigned long long)bytes, workers, (unsigned long long)needed_bytes);
        return ES_INVALID;
    }
    return esi_ledger_new(bytes, workers, &context->ledger);
}

/* A depot keeps up to chains_max chains, as far as they are a small part of the ceiling. */
static void init_depot(const struct esi_context *context, struct esi_pool_depot *depot,
                       const struct esi_pool_depot *plan)
{
    const uint64_t chain_bytes = plan->chain_length * (uint64_t)plan->object_bytes;
    const uint64_t fitting = context->ledger->limit_bytes / KEPT_SHARE / chain_bytes;

    esi_pool_depot_init(depot, plan->object_bytes, plan->chain_length,
                        fitting < plan->chain_count_max ? (uint32_t)fitting
                                                        : plan->chain_count_max);
    depot->owner = plan->owner;
}

static enum es_err make_broker(struct esi_context *context)
{
    const struct esi_config *config = context->config;

    init_depot(context, &context->block_depot,
               &(struct esi_pool_depot){.object_bytes = ESI_BLOCK_OBJECT_BYTES,
                                        .owner = MEMORY_BLOCKS,
                                        .chain_length = BLOCK_CHAIN,
                                        .chain_count_max = BLOCK_CHAINS_MAX});
    init_depot(context, &context->delivery_depot,
               &(struct esi_pool_depot){.object_bytes = sizeof(struct esi_delivery),
                                        .owner = MEMORY_DELIVERIES,
                                        .chain_length = DELIVERY_CHAIN,
                                        .chain_count_max = DELIVERY_CHAINS_MAX});
    context->router_count = config->threads.routers;
    enum es_err err = esi_subtable_new(context->router_count, &context->table);
    if (err == ES_OK) {
        /* Refused connections need a slot too, for the time of being told so. */
        err = esi_targets_new(config->limits.max_connections * 2 + LINKS_MAX, &context->targets);
    }
    return err;
}

static enum esi_placement placement_of(enum esi_config_placement placement)
{
    switch (placement) {
    case CONFIG_PLACEMENT_FILL:
        return PLACEMENT_FILL;
    case CONFIG_PLACEMENT_SPREAD:
        return PLACEMENT_SPREAD;
    case CONFIG_PLACEMENT_SHUFFLE:
        return PLACEMENT_SHUFFLE;
    }
    return PLACEMENT_FILL;
}

/* The configuration's texts as numbers; returns how many there are. */
static uint32_t read_pin(const struct esi_config_texts *pin, enum esi_pin *kind, uint32_t *cores)
{
    const uint32_t count =
        pin->count < ESI_RUNTIME_WORKERS_MAX ? (uint32_t)pin->count : ESI_RUNTIME_WORKERS_MAX;

    *kind = PIN_NONE;
    if (count == 0 || strcmp(pin->items[0], "none") == 0) {
        return 0;
    }
    *kind = PIN_CORES;
    if (strcmp(pin->items[0], "cores") == 0) {
        return 0;
    }
    *kind = PIN_LIST;
    for (uint32_t i = 0; i < count; i++) {
        cores[i] = (uint32_t)strtoul(pin->items[i], NULL, 10);
    }
    return count;
}

static enum es_err make_runtime(struct esi_context *context, struct es_error *error)
{
    const struct esi_config *config = context->config;
    uint32_t pin_cores[ESI_RUNTIME_WORKERS_MAX];
    enum esi_pin pin = PIN_NONE;
    const uint32_t pin_core_count = read_pin(&config->threads.pin, &pin, pin_cores);
    const struct esi_runtime_options options = {
        .env = context->env,
        .worker_count = config->threads.workers,
        .service_count = config->threads.service,
        .work_bound = config->threads.work_bound,
        .pin = pin,
        .pin_cores = pin_cores,
        .pin_core_count = pin_core_count,
        .placement = placement_of(config->threads.placement),
        .rebalance_ns = config->threads.rebalance_ns,
        .gather_ns = config->threads.gather_ns,
        .full_permille = config->threads.spread_above * 10,
        .drain_ns = config->queue.drain_timeout_ns,
        .local_new = esi_context_local_new,
        .local_free = esi_context_local_free,
        .local_argument = context,
    };
    enum es_err err = esi_runtime_new(&options, &context->runtime);
    if (err == ES_NOT_FOUND) {
        snprintf(error->text, sizeof error->text,
                 "threads.pin names a core that this process may not use");
    }

    for (uint32_t i = 0; err == ES_OK && i < context->router_count; i++) {
        err =
            esi_router_new(context->runtime, context->table, i, ESI_ACCOUNT, &context->routers[i]);
    }
    return err;
}

static bool has_clients_secrets(const struct esi_config_auth *auth)
{
    return auth->token != NULL || auth->user_count > 0 || auth->token_file != NULL;
}

static enum es_err make_services(struct esi_assembly *assembly, struct es_error *error)
{
    struct esi_context *context = &assembly->context;
    const struct esi_config *config = context->config;
    enum es_err err = ES_OK;

    context->judges_clients = has_clients_secrets(&config->auth);
    context->auth_required = context->judges_clients && config->auth.no_auth_user == NULL;
    if (context->judges_clients || (config->gateway.is_on && config->gateway.user != NULL)) {
        err = esi_authenticator_new(context, &context->authenticator, error);
    }
    if (err == ES_OK && config->program == CONFIG_EVENT_SERVICE) {
        err = esi_queue_new(context, &context->queue, error);
    }
    return err;
}

static enum es_err open_doors(struct esi_assembly *assembly, struct es_error *error)
{
    struct esi_context *context = &assembly->context;
    const struct esi_config *config = context->config;
    struct esi_address bound;
    enum es_err err;

    if (config->monitor.port != 0) {
        err = esi_monitor_start(context, &bound, error);
        if (err != ES_OK) {
            return error->text[0] != '\0' ? err
                                          : fail_door(error, err, "monitoring",
                                                      config->monitor.host, config->monitor.port);
        }
        assembly->monitor_port = bound.port;
    }
    if (config->program == CONFIG_EVENT_SERVICE && config->grpc.port != 0) {
        err = esi_grpc_connection_listen(context, &bound, error);
        if (err != ES_OK) {
            return error->text[0] != '\0'
                       ? err
                       : fail_door(error, err, "gRPC", config->grpc.host, config->grpc.port);
        }
        assembly->grpc_port = bound.port;
    }
    err = esi_listener_start(context, config->service.host, config->service.port,
                             esi_connection_start, &context->client_bound);
    if (err != ES_OK) {
        return fail_door(error, err, "clients", config->service.host, config->service.port);
    }
    assembly->client_port = context->client_bound.port;
    esi_log(LOG_SERVER_LISTENING, ESI_LOG_TEXT("host", context->client_bound.host),
            ESI_LOG_U64("port", context->client_bound.port));
    if (config->gateway.is_on) {
        err = esi_gateway_new(context, &context->gateway, error);
        if (err != ES_OK) {
            return error->text[0] != '\0' ? err
                                          : fail_door(error, err, "gateways", config->gateway.host,
                                                      config->gateway.port);
        }
        assembly->gateway_port = esi_gateway_port(context->gateway);
    }
    return ES_OK;
}

static void log_start(const struct esi_context *context)
{
    esi_log(LOG_SERVER_STARTING, ESI_LOG_TEXT("name", context->config->service.name),
            ESI_LOG_TEXT("version", ESI_VERSION), ESI_LOG_TEXT("server_id", context->server_id),
            ESI_LOG_TEXT("config_digest", context->config->digest),
            ESI_LOG_U64("workers", esi_runtime_worker_count(context->runtime)),
            ESI_LOG_TEXT("tls_library", esi_tls_build_name()),
            ESI_LOG_U64("tls_mb_s", esi_tls_measure(context->env)));
}

enum es_err esi_assemble_check(struct esi_env *env, const struct esi_config *config,
                               struct es_error *error)
{
    struct esi_credentials *credentials = NULL;
    struct esi_registry *registry = NULL;
    struct es_error reason = {.text = ""};
    enum es_err err = esi_credentials_new(config, env, &credentials, error);

    if (err == ES_OK && config->program == CONFIG_EVENT_SERVICE) {
        err = esi_queue_make_registry(config, &registry, &reason);
        if (err != ES_OK) {
            snprintf(error->text, sizeof error->text, "events.registry: %.400s", reason.text);
        }
    }
    esi_credentials_free(credentials);
    esi_registry_free(registry);
    return err;
}

enum es_err esi_assemble_start(struct esi_assembly *assembly, struct esi_env *env,
                               const struct esi_config *config, struct es_error *error)
{
    struct esi_context *context = &assembly->context;
    uint64_t seed = 0;

    memset(assembly, 0, sizeof *assembly);
    error->text[0] = '\0';
    context->env = env;
    context->config = config;
    context->start_ns = esi_env_now_ns(context->env);
    context->start_wall_ns = esi_env_wall_ns(context->env);
    esi_env_random(context->env, &seed, sizeof seed);
    esi_hashmap_seed_once(seed);
    esi_identity_new(context->env, context->server_id);
    context->cluster_hash = esi_reply_map_hash(esi_str_from(config->gateway.name));
    context->server_hash = esi_reply_map_hash(esi_str_from(context->server_id));
    esi_log_configure(config->log.format, config->log.level);
    enum es_err err = esi_log_open(config->log.file);
    if (err != ES_OK) {
        snprintf(error->text, sizeof error->text, "cannot open the log file %s: %s",
                 config->log.file, es_err_text(err));
    }
    if (err == ES_OK) {
        err = make_client_tls(context, error);
    }
    if (err == ES_OK) {
        err = make_ledger(context, error);
    }
    if (err == ES_OK) {
        err = make_broker(context);
    }
    if (err == ES_OK) {
        err = make_runtime(context, error);
    }
    if (err == ES_OK) {
        log_start(context);
        err = make_services(assembly, error);
    }
    if (err == ES_OK) {
        err = open_doors(assembly, error);
    }
    if (err != ES_OK) {
        if (error->text[0] == '\0') {
            snprintf(error->text, sizeof error->text, "cannot start: %s", es_err_text(err));
        }
        (void)esi_assemble_stop(assembly, 1000000000);
        return err;
    }
    /* order: release; pairs with the acquire of the monitor, which then sees the ports and the
     * gateway. */
    atomic_store_explicit(&context->is_ready, true, memory_order_release);
    esi_log(LOG_SERVER_READY, ESI_LOG_U64("port", assembly->client_port),
            ESI_LOG_U64("gateway_port", assembly->gateway_port),
            ESI_LOG_U64("monitor_port", assembly->monitor_port));
    return ES_OK;
}

enum es_err esi_assemble_stop(struct esi_assembly *assembly, uint64_t timeout_ns)
{
    struct esi_context *context = &assembly->context;
    bool has_forced = false;
    enum es_err err = ES_OK;

    if (context->runtime != NULL) {
        /* order: relaxed; a counter. */
        const uint32_t connections =
            atomic_load_explicit(&context->counters.connections, memory_order_relaxed);
        esi_log(LOG_SERVER_STOPPING, ESI_LOG_U64("connections", connections));
        err = esi_runtime_stop(context->runtime, timeout_ns);
        has_forced = esi_runtime_has_forced(context->runtime);
    }
    for (uint32_t i = 0; i < context->router_count; i++) {
        esi_router_free(context->routers[i]);
    }
    esi_queue_free(context->queue);
    esi_monitor_free(context->monitor);
    esi_grpc_connection_free_door(context->grpc_door);
    esi_runtime_free(context->runtime);
    esi_gateway_free(context->gateway);
    if (!has_forced) {
        esi_subtable_free(context->table);
    }
    esi_targets_free(context->targets);
    esi_tls_context_unref(context->client_tls);
    if (context->targets != NULL) {
        esi_pool_depot_deinit(&context->block_depot);
        esi_pool_depot_deinit(&context->delivery_depot);
    }
    esi_ledger_free(context->ledger);
    esi_log(LOG_SERVER_STOPPED);
    memset(assembly, 0, sizeof *assembly);
    return err;
}
