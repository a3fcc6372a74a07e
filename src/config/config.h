/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The checked configuration: one plain struct, filled from YAML or TOML by one schema
 * (config/schema.def). Whoever holds a struct esi_config may trust it: every value is in its range,
 * every default is filled in, second names and short forms are translated, and what is only valid
 * together has been checked.
 *
 * Strings and arrays are owned by the struct and freed by esi_config_free alone; a string that was
 * not given and has no default is NULL. Times end in _ns (nanoseconds), sizes in _bytes. Secrets
 * are wiped before they are freed. Immutable after loading: any thread may read.
 */
#pragma once

#include "base/bytes.h"
#include "base/err.h"
#include "base/log.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct esi_env;

/* What stands for a secret where a configuration is printed. */
#define ESI_CONFIG_MASK "******"

enum { ESI_CONFIG_DIGEST_BYTES = 72 };

/* Whose configuration it is: decides a few defaults, and which keys have a meaning. */
enum esi_config_program { CONFIG_EVENT_SERVICE, CONFIG_EVENT_GATEWAY };

enum esi_config_slow_consumer { CONFIG_SLOW_DISCONNECT, CONFIG_SLOW_DROP_NEW, CONFIG_SLOW_BLOCK };
enum esi_config_tls_version { CONFIG_TLS_1_2, CONFIG_TLS_1_3 };
enum esi_config_when_full { CONFIG_FULL_REJECT, CONFIG_FULL_HOLD };
enum esi_config_storage { CONFIG_STORAGE_MEMORY };
enum esi_config_placement {
    CONFIG_PLACEMENT_FILL,
    CONFIG_PLACEMENT_SPREAD,
    CONFIG_PLACEMENT_SHUFFLE
};

/* A list of NUL-ended strings. */
struct esi_config_texts {
    char **items; /* owned, each item too; NULL when count is 0 */
    size_t count;
    bool is_given; /* the key stood in the file: an empty list that was given is not the same as
                      none */
};

struct esi_config_service {
    char *name;    /* the server's name in INFO; default: the program's name */
    char *host;    /* clients; default 127.0.0.1 */
    uint16_t port; /* NATS clients (translated: see internal_messaging in the schema); 0: any free
                      port */
    uint32_t event_limit;
    uint32_t listener_limit;
    char *health_check_credentials_file; /* event-gateway; may be NULL; its folder exists */
    bool disable_frontend_tls; /* event-gateway: clients speak plainly, TLS ends before us */
    bool insecure;             /* plain connections on addresses that are not loopback are wanted */
};

struct esi_config_limits {
    uint32_t max_connections;
    uint32_t max_handshakes; /* a door */
    uint32_t max_payload_bytes;
    uint32_t max_control_line_bytes;
    uint64_t max_pending_bytes;       /* >= max_payload_bytes */
    uint32_t max_subscriptions;       /* a connection; 0: no limit */
    uint32_t max_subscription_tokens; /* of a subject; 0: no limit */
    uint64_t ping_interval_ns;
    uint32_t ping_max;
    uint64_t write_deadline_ns;
    enum esi_config_slow_consumer slow_consumer;
    uint64_t memory_bytes; /* 0: a share of what the process may use */
};

/* A TLS section. Files exist and are readable. */
struct esi_config_tls {
    bool is_set;     /* there is such a section; else nothing here has a meaning but the defaults */
    char *cert_path; /* set when is_set */
    char *key_path;  /* set when is_set */
    char *root_ca_path; /* set: the peer must show a certificate that chains to it; NULL: none is
                           asked for */
    struct esi_config_texts
        allowed_names;   /* the peer's CN or SAN must be one of these; none: any */
    uint64_t timeout_ns; /* of the handshake */
    enum esi_config_tls_version min_version;
    bool allow_plain; /* plain clients too, told by their first bytes */
};

/* A certificate chosen by SNI; the first of a list where no name matches. */
struct esi_config_certificate {
    char *cert_path;
    char *key_path;
};

/* allow_responses: a subscriber may answer on the reply subjects of what it was sent. */
struct esi_config_responses {
    bool is_allowed;
    uint32_t max;        /* answers a request */
    uint64_t expires_ns; /* after the request */
};

/* One direction. allow.is_given false: everything but deny. allow.is_given with no items: nothing.
 */
struct esi_config_permission {
    struct esi_config_texts allow; /* subjects; for subscribe also "subject queue" */
    struct esi_config_texts deny;
};

struct esi_config_permissions {
    bool is_set; /* a permissions map was given; else the user has the default permissions */
    struct esi_config_permission publish;
    struct esi_config_permission subscribe;
    struct esi_config_responses responses;
};

struct esi_config_user {
    char *user;
    char *password; /* secret: plain, or a bcrypt hash ("$2...") */
    struct esi_config_permissions permissions;
};

struct esi_config_auth {
    char *token;                   /* secret: plain, or a bcrypt hash ("$2..."); NULL: none */
    struct esi_config_user *users; /* names are unique */
    size_t user_count;
    struct esi_config_permissions default_permissions; /* of users, and of auth.token */
    char *no_auth_user;       /* one of users, for clients without credentials; NULL: none */
    uint64_t timeout_ns;      /* from connecting to a valid CONNECT */
    char *token_file;         /* NULL: none; the file itself may not be there yet */
    uint64_t cache_ttl_ns;    /* of a positive verdict; 0: no cache */
    uint32_t concurrency_max; /* checks under way at once */
};

/* An address to connect to: nats://USER:PASSWORD@HOST:PORT. */
struct esi_config_url {
    char *host; /* a name or a numeric address, without brackets */
    uint16_t port;
    char *user;     /* NULL: none */
    char *password; /* secret; NULL: none */
};

struct esi_config_remote {
    char *name;
    struct esi_config_url *urls; /* at least one */
    size_t url_count;
    struct esi_config_tls tls; /* complete: the remote's own, else the gateway's, else the main one;
                                  is_set: use TLS */
};

struct esi_config_gateway {
    bool is_on; /* listen for gateway connections, and connect to the remotes */
    char *name; /* default: the program's name */
    char *host; /* default: service.host */
    uint16_t port;
    char *advertise; /* HOST:PORT that others are told; NULL: the real one */
    char *user;
    char *password;            /* secret */
    struct esi_config_tls tls; /* complete: its own, else the main one */
    struct esi_config_texts
        allowed_names;     /* of the peer's certificate; replaces the check of a URL's host */
    uint32_t max_interest; /* a linked cluster: subjects and queue groups */
    bool reject_unknown;
    struct esi_config_remote *remotes; /* names are unique */
    size_t remote_count;
};

struct esi_config_grpc {
    char *host;    /* default: service.host */
    uint16_t port; /* 0: off */
};

/* Events whose type matches go to these handlers. */
struct esi_config_route {
    char *pattern; /* a type; one "*" in it stands for any run of characters */
    struct esi_config_texts
        handlers; /* names; one without an address is dead-lettered by the server */
};

struct esi_config_events {
    char *subject_prefix; /* "event." */
    struct esi_config_route
        *registry; /* as given, in the file's order; defaults: event/registry.h */
    size_t route_count;
};

struct esi_config_queue {
    enum esi_config_storage storage;
    enum esi_config_when_full when_full;
    uint64_t hold_timeout_ns;  /* how long a publisher is held back before it is told "full" */
    uint64_t drain_timeout_ns; /* how long a stop waits for queued events; 0: not at all */
};

struct esi_config_retry {
    uint32_t attempts_max; /* calls in all; then the event is dead-lettered */
    uint64_t delay_ns;     /* before the second attempt; doubles from then on */
    uint64_t delay_max_ns;
};

struct esi_config_handler {
    char *name;
    bool is_tls;  /* grpcs (mutual TLS with the main tls section), else plain grpc */
    bool is_bare; /* written as HOST:PORT without a scheme, as in the original */
    char *host;
    uint16_t port;
    char *tls_name; /* the name its certificate must have; NULL: the default of event/registry.h */
    uint64_t timeout_ns;
    uint32_t in_flight_max;
    struct esi_config_retry retry;
};

struct esi_config_threads {
    uint32_t workers; /* 0: as many as the cores that the process may use */
    uint32_t routers;
    uint32_t authenticators;
    uint32_t service;
    enum esi_config_placement placement;
    uint64_t rebalance_ns; /* how often workers look whether connections should move; 0: never */
    uint64_t gather_ns;    /* how long a stream gathers before a worker looks; 0: not at all */
    uint32_t spread_above; /* percent of a worker's time: busier ones share with others */
    uint32_t work_bound;   /* messages that an actor handles in one turn */
    struct esi_config_texts pin; /* "none", "cores", or numbers of cores; empty: "none" */
};

struct esi_config_monitor {
    char *host;
    uint16_t port;             /* 0: off */
    char *token;               /* secret; NULL: pages are for everybody */
    struct esi_config_tls tls; /* is_set: HTTPS. allow_plain has no meaning here */
};

struct esi_config_log {
    enum esi_log_format format;
    enum esi_log_level level;
    char *file; /* NULL: standard error; its folder exists */
};

struct esi_config {
    enum esi_config_program program;
    char *path; /* the file it came from */
    /*
     * Of all values, secrets excepted, as they were printed: two servers with one digest behave
     * alike. "sha256:" and 64 hexadecimal digits.
     */
    char digest[ESI_CONFIG_DIGEST_BYTES];
    /* A secret reads ESI_CONFIG_MASK: this came from a printed configuration, and may be looked at
     * but not run. */
    bool has_masked_secret;
    struct esi_config_service service;
    struct esi_config_limits limits;
    /*
     * The main TLS section. event-service: of client connections, gRPC and handlers. event-gateway:
     * of the gateway link alone; its clients are shown frontend_tls, with timeout, min_version and
     * allow_plain of this section.
     */
    struct esi_config_tls tls;
    struct esi_config_certificate
        *frontend_tls; /* event-gateway only; no client certificate is asked for */
    size_t frontend_tls_count;
    bool clients_use_tls; /* the client port speaks TLS: event-service with tls, event-gateway with
                             frontend_tls */
    struct esi_config_auth auth;
    struct esi_config_gateway gateway;
    struct esi_config_grpc grpc;
    struct esi_config_events events;
    struct esi_config_queue queue;
    struct esi_config_handler *handlers; /* event-service only; names are unique */
    size_t handler_count;
    struct esi_config_threads threads;
    struct esi_config_monitor monitor;
    struct esi_config_log log;
};

/* What esi_config_parse reads, and how. */
struct esi_config_source {
    const char *path; /* borrowed; names the format (.toml, .yaml, .yml; else told by the content)
                         and the folder */
    struct esi_str text; /* borrowed; the file's content */
    enum esi_config_program program;
    bool without_files; /* do not look at files that the text names, and read no secret from them */
};

/*
 * Reads and checks a configuration file.
 *   env      borrowed: files are read through it
 *   path     borrowed
 *   out      on success: owned by the caller, free with esi_config_free
 *   errors   borrowed; on failure every error found is appended, one line each,
 *            "FILE:LINE:COLUMN: key: text"
 * Blocks (files): at start and on service threads only. Errors: ES_INVALID (the errors say why),
 * ES_NOT_FOUND, ES_DENIED, ES_IO, ES_TOO_LARGE (the file itself), ES_NO_MEMORY; each leaves at
 * least one line in errors, as far as memory allows.
 */
ES_MUST_USE enum es_err esi_config_load(struct esi_env *env, const char *path,
                                        enum esi_config_program program, struct esi_config **out,
                                        struct esi_bytes *errors);

/*
 * The same from memory. With without_files it touches nothing outside but environment variables,
 * and env may be NULL. Errors: ES_INVALID, ES_TOO_LARGE, ES_NO_MEMORY.
 */
ES_MUST_USE enum es_err esi_config_parse(struct esi_env *env,
                                         const struct esi_config_source *source,
                                         struct esi_config **out, struct esi_bytes *errors);

/* Frees everything and wipes secrets; NULL is accepted. Thread: any, when no other thread reads it
 * any more. */
void esi_config_free(struct esi_config *config);

/*
 * Appends the effective configuration as YAML, every key with its value, and the digest as a
 * comment. Secrets are masked; read again it is the same configuration but for these. Thread: any.
 * Fails only as esi_bytes does.
 */
void esi_config_print(const struct esi_config *config, struct esi_bytes *out);
