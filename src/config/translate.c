/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * In this order: ports and sections under the original's names, hosts and TLS that are taken from
 * elsewhere, then the checks. Every check fails closed: where a combination could be meant in two
 * ways, it is refused with both in words.
 */
#include "config/translate.h"

#include "base/assert.h"
#include "base/crypto.h"
#include "base/hashmap.h"
#include "base/own.h"
#include "config/check.h"
#include "config/set.h"
#include "config/value.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of handlers: what the registry of events can hold. */
enum {
    KEY_BYTES = 256,
    HANDLER_NAME_BYTES_MAX = 64,
    HANDLERS_MAX = 64,
    MEMORY_BYTES_MIN = 32 * 1024 * 1024
};

struct translation {
    struct esi_draft *draft;   /* borrowed */
    struct esi_config *config; /* the draft's */
    struct esi_report *report; /* borrowed */
};

static bool is_given(const struct translation *self, const char *key)
{
    bool is_exact = false;

    (void)esi_node_at(self->report->root, key, &is_exact);
    return is_exact;
}

/* Copies a text into *out, replacing it; NULL stays NULL. */
static void copy_text(struct translation *self, const char *text, char **out)
{
    char *copy = text != NULL ? esi_str_dup(esi_str_from(text)) : NULL;

    if (text != NULL && copy == NULL) {
        self->report->is_out_of_memory = true;
    }
    esi_crypto_free_text(*out);
    *out = copy;
}

static void copy_texts(struct translation *self, const struct esi_config_texts *from,
                       struct esi_config_texts *out)
{
    *out = (struct esi_config_texts){.is_given = from->is_given};
    if (from->count == 0) {
        return;
    }
    out->items = calloc(from->count, sizeof *out->items);
    if (out->items == NULL) {
        self->report->is_out_of_memory = true;
        return;
    }
    out->count = from->count;
    for (size_t i = 0; i < from->count; i++) {
        copy_text(self, from->items[i], &out->items[i]);
    }
}

/* Appends one text to a list that has room for none: lists of defaults are made so. */
static void set_only_text(struct translation *self, const char *text, struct esi_config_texts *out)
{
    char *item = (char *)(uintptr_t)text;
    const struct esi_config_texts one = {.items = &item, .count = 1, .is_given = true};

    copy_texts(self, &one, out);
}

/* Under the original's names the other side is known, and so is the name in its certificate. */
static void expect_name(struct translation *self, const char *name)
{
    struct esi_config *config = self->config;

    if ((config->tls.is_set || config->gateway.tls.is_set) &&
        !is_given(self, "gateway.allowed_names")) {
        set_only_text(self, name, &config->gateway.allowed_names);
    }
}

/* Ports under several names. */

/* A second name's port, which must not contradict the first name's. */
static void take_port(struct translation *self, const char *second, uint16_t value,
                      const char *first, uint16_t *port, bool is_first_set)
{
    if (is_first_set && *port != value) {
        esi_report_add_key(self->report, second,
                           "%u was found, but %s says %u; one of both is allowed", (unsigned)value,
                           first, (unsigned)*port);
        return;
    }
    *port = value;
}

static void translate_ports(struct translation *self)
{
    struct esi_config *config = self->config;
    const struct esi_draft *draft = self->draft;
    bool is_gateway_port_set = is_given(self, "gateway.port");

    if (is_given(self, "service.gateway_port")) {
        take_port(self, "service.gateway_port", draft->service_gateway_port, "gateway.port",
                  &config->gateway.port, is_gateway_port_set);
        is_gateway_port_set = true;
        config->gateway.is_on = true;
    }
    if (!draft->internal_messaging.is_set) {
        return;
    }
    config->gateway.is_on = true;
    if (is_given(self, "internal_messaging.gateway_port")) {
        take_port(self, "internal_messaging.gateway_port", draft->internal_messaging.gateway_port,
                  "gateway.port", &config->gateway.port, is_gateway_port_set);
    }
    if (is_given(self, "internal_messaging.port")) {
        /* As in the original's packaged file: NATS is served here, and service.port is the one for
         * gRPC. */
        if (is_given(self, "service.port") || !is_given(self, "grpc.port")) {
            take_port(self, "service.port", config->service.port, "grpc.port", &config->grpc.port,
                      is_given(self, "grpc.port"));
        }
        config->service.port = draft->internal_messaging.port;
    }
    expect_name(self, "event-gateway");
}

/* internal_event_service: the one remote of event-gateway. */
static void translate_remote(struct translation *self)
{
    struct esi_config_gateway *gateway = &self->config->gateway;
    const struct esi_draft *draft = self->draft;

    if (!draft->internal_event_service.is_set) {
        return;
    }
    gateway->is_on = true;
    if (gateway->remote_count > 0) {
        esi_report_add_key(self->report, "internal_event_service",
                           "gateway.remotes is given too; one of both is allowed");
        return;
    }
    struct esi_config_remote *remote = calloc(1, sizeof *remote);
    struct esi_config_url *url = calloc(1, sizeof *url);
    if (remote == NULL || url == NULL) {
        free(remote);
        free(url);
        self->report->is_out_of_memory = true;
        return;
    }
    const char *host = draft->internal_event_service.host;
    copy_text(self, "event-service", &remote->name);
    copy_text(self, esi_value_is_any(host) ? "127.0.0.1" : host, &url->host);
    url->port = draft->internal_event_service.gateway_port;
    remote->urls = url;
    remote->url_count = 1;
    gateway->remotes = remote;
    gateway->remote_count = 1;
    expect_name(self, "event-service");
}

/* What is taken from elsewhere. */

static void copy_tls(struct translation *self, const struct esi_config_tls *from,
                     struct esi_config_tls *out)
{
    esi_check_free_fields(GROUP_TLS, out);
    *out = *from;
    out->cert_path = NULL;
    out->key_path = NULL;
    out->root_ca_path = NULL;
    copy_text(self, from->cert_path, &out->cert_path);
    copy_text(self, from->key_path, &out->key_path);
    copy_text(self, from->root_ca_path, &out->root_ca_path);
    copy_texts(self, &from->allowed_names, &out->allowed_names);
}

/* NATS lets one list of remotes stand in the files of all sides: a gateway leaves itself out. */
static void leave_out_own_name(struct translation *self)
{
    struct esi_config_gateway *gateway = &self->config->gateway;
    size_t kept = 0;

    for (size_t i = 0; i < gateway->remote_count; i++) {
        struct esi_config_remote *remote = &gateway->remotes[i];
        if (remote->name != NULL && strcmp(remote->name, gateway->name) == 0) {
            esi_check_free_fields(GROUP_REMOTE, remote);
            continue;
        }
        gateway->remotes[kept++] = *remote;
    }
    gateway->remote_count = kept;
}

static void take_from_elsewhere(struct translation *self)
{
    struct esi_config *config = self->config;
    struct esi_config_gateway *gateway = &config->gateway;

    if (gateway->host == NULL) {
        copy_text(self, config->service.host, &gateway->host);
    }
    if (config->grpc.host == NULL) {
        copy_text(self, config->service.host, &config->grpc.host);
    }
    if (!gateway->tls.is_set && config->tls.is_set) {
        copy_tls(self, &config->tls, &gateway->tls);
    }
    for (size_t i = 0; i < gateway->remote_count; i++) {
        if (!gateway->remotes[i].tls.is_set && gateway->tls.is_set) {
            copy_tls(self, &gateway->tls, &gateway->remotes[i].tls);
        }
    }
    config->clients_use_tls =
        config->program == CONFIG_EVENT_SERVICE
            ? config->tls.is_set
            : config->frontend_tls_count > 0 && !config->service.disable_frontend_tls;
}

/* TLS. */

static void check_certificate(struct translation *self, const char *key, const char *cert_path,
                              const char *key_path)
{
    if (cert_path == NULL || key_path == NULL) {
        esi_report_add_key(self->report, key,
                           "%s is missing; both cert_path and key_path are needed",
                           cert_path == NULL ? "cert_path" : "key_path");
    }
}

static void check_tls_section(struct translation *self, const char *key,
                              const struct esi_config_tls *tls)
{
    if (!tls->is_set) {
        return;
    }
    check_certificate(self, key, tls->cert_path, tls->key_path);
    if (tls->allowed_names.count > 0 && tls->root_ca_path == NULL) {
        esi_report_add_key(self->report, key,
                           "allowed_names without root_ca_path: no certificate would be asked for");
    }
}

static void check_link_tls(struct translation *self, const char *key,
                           const struct esi_config_tls *tls)
{
    if (tls->root_ca_path == NULL) {
        esi_report_add_key(
            self->report, key,
            "root_ca_path is missing; both sides of a gateway link check certificates");
    }
}

static void check_all_tls(struct translation *self)
{
    const struct esi_config *config = self->config;
    const struct esi_config_gateway *gateway = &config->gateway;
    char key[KEY_BYTES];

    check_tls_section(self, "tls", &config->tls);
    check_tls_section(self, "monitor.tls", &config->monitor.tls);
    if (is_given(self, "gateway.tls")) {
        check_tls_section(self, "gateway.tls", &gateway->tls);
    }
    if (gateway->is_on && gateway->tls.is_set) {
        check_link_tls(self, is_given(self, "gateway.tls") ? "gateway.tls" : "tls", &gateway->tls);
    }
    if (gateway->is_on && is_given(self, "gateway.allowed_names") && !gateway->tls.is_set) {
        esi_report_add_key(self->report, "gateway.allowed_names",
                           "there is no certificate to check without a tls section");
    }
    for (size_t i = 0; i < config->frontend_tls_count; i++) {
        snprintf(key, sizeof key, "frontend_tls[%zu]", i);
        check_certificate(self, key, config->frontend_tls[i].cert_path,
                          config->frontend_tls[i].key_path);
    }
}

/* Refuses a plain listener that others than this machine can reach. */
static void check_listener(struct translation *self, const char *key, const char *host,
                           bool is_plain, const char *remedy)
{
    if (is_plain && !self->config->service.insecure && !esi_value_is_loopback(host)) {
        esi_report_add_key(
            self->report, key,
            "%s is not a loopback address, and connections there would be plain; %s, or "
            "set service.insecure: true",
            host, remedy);
    }
}

static void check_plain_listeners(struct translation *self)
{
    const struct esi_config *config = self->config;
    const bool is_service = config->program == CONFIG_EVENT_SERVICE;

    check_listener(self, "service.host", config->service.host,
                   !config->clients_use_tls && !config->service.disable_frontend_tls,
                   is_service ? "give a tls section" : "give frontend_tls");
    if (config->gateway.is_on) {
        check_listener(self, is_given(self, "gateway.host") ? "gateway.host" : "service.host",
                       config->gateway.host, !config->gateway.tls.is_set, "give a tls section");
    }
    if (config->grpc.port != 0) {
        check_listener(self, is_given(self, "grpc.host") ? "grpc.host" : "service.host",
                       config->grpc.host, !config->tls.is_set, "give a tls section");
    }
    if (config->monitor.port != 0) {
        check_listener(self, "monitor.host", config->monitor.host, !config->monitor.tls.is_set,
                       "give monitor.tls, or use 127.0.0.1");
    }
}

struct listener {
    const char *key;
    const char *host;
    uint16_t port;
};

static void check_same_ports(struct translation *self)
{
    const struct esi_config *config = self->config;
    const struct listener listeners[] = {
        {"service.port", config->service.host, config->service.port},
        {"gateway.port", config->gateway.host, config->gateway.is_on ? config->gateway.port : 0},
        {"grpc.port", config->grpc.host, config->grpc.port},
        {"monitor.port", config->monitor.host, config->monitor.port},
    };

    for (size_t i = 0; i < ESI_COUNT_OF(listeners); i++) {
        for (size_t j = i + 1; j < ESI_COUNT_OF(listeners); j++) {
            if (listeners[i].port != 0 && listeners[i].port == listeners[j].port &&
                strcmp(listeners[i].host, listeners[j].host) == 0) {
                esi_report_add_key(self->report, listeners[j].key, "%u is the port of %s too",
                                   (unsigned)listeners[j].port, listeners[i].key);
            }
        }
    }
}

/* Authentication. */

static void check_users(struct translation *self)
{
    const struct esi_config_auth *auth = &self->config->auth;
    struct esi_hashmap names;
    char key[KEY_BYTES];

    esi_hashmap_init(&names);
    for (size_t i = 0; i < auth->user_count; i++) {
        const struct esi_config_user *user = &auth->users[i];
        snprintf(key, sizeof key, "auth.users[%zu]", i);
        if (user->user == NULL || user->password == NULL) {
            esi_report_add_key(self->report, key, "%s is missing",
                               user->user == NULL ? "user" : "password");
        }
        if (user->user == NULL) {
            continue;
        }
        const struct esi_str name = esi_str_from(user->user);
        if (esi_hashmap_find(&names, name) != NULL) {
            esi_report_add_key(self->report, key, "the user \"%s\" is given twice", user->user);
        } else if (esi_hashmap_insert(&names, name, (void *)(uintptr_t)user) != ES_OK) {
            self->report->is_out_of_memory = true;
            break;
        }
    }
    if (auth->no_auth_user != NULL &&
        esi_hashmap_find(&names, esi_str_from(auth->no_auth_user)) == NULL) {
        esi_report_add_key(self->report, "auth.no_auth_user", "\"%s\" is none of auth.users",
                           auth->no_auth_user);
    }
    esi_hashmap_deinit(&names);
}

static void check_auth(struct translation *self)
{
    const struct esi_config_auth *auth = &self->config->auth;

    check_users(self);
    /* Counted as given, not as read: a broken entry has its own message. */
    const bool has_credentials = is_given(self, "auth.token") ||
                                 is_given(self, "auth.token_file") || auth->token != NULL ||
                                 auth->user_count > 0;
    if (self->config->program == CONFIG_EVENT_GATEWAY && !has_credentials) {
        esi_report_add_key(
            self->report, "auth",
            "event-gateway must know who may connect: give token_file, users or token");
        return;
    }
    /* Without credentials everybody may do everything: not what these keys were written for. */
    static const char *const restricting[] = {"auth.users", "auth.default_permissions"};
    for (size_t i = 0; i < ESI_COUNT_OF(restricting) && !has_credentials; i++) {
        if (is_given(self, restricting[i])) {
            esi_report_add_key(self->report, restricting[i],
                               "restricts nobody without a user, token or token_file");
        }
    }
}

/* Gateway. */

static bool has_blank(const char *text)
{
    return strchr(text, ' ') != NULL;
}

static void check_remote(struct translation *self, size_t index)
{
    const struct esi_config_gateway *gateway = &self->config->gateway;
    const struct esi_config_remote *remote = &gateway->remotes[index];
    char key[KEY_BYTES / 2];
    char tls_key[KEY_BYTES];

    snprintf(key, sizeof key, "gateway.remotes[%zu]", index);
    if (remote->name == NULL || has_blank(remote->name)) {
        esi_report_add_key(self->report, key, "a remote needs a name without blanks");
    }
    for (size_t i = 0; i < index && remote->name != NULL; i++) {
        if (gateway->remotes[i].name != NULL &&
            strcmp(gateway->remotes[i].name, remote->name) == 0) {
            esi_report_add_key(self->report, key, "the remote \"%s\" is given twice", remote->name);
            break;
        }
    }
    if (remote->url_count == 0 && !is_given(self, "internal_event_service")) {
        esi_report_add_key(self->report, key, "a remote needs urls");
    }
    snprintf(tls_key, sizeof tls_key, "%s.tls", key);
    if (is_given(self, tls_key)) {
        check_tls_section(self, tls_key, &remote->tls);
        check_link_tls(self, tls_key, &remote->tls);
    }
    for (size_t i = 0; i < remote->url_count; i++) {
        if (!remote->tls.is_set && !self->config->service.insecure &&
            !esi_value_is_loopback(remote->urls[i].host)) {
            esi_report_add_key(
                self->report, key,
                "%s is not a loopback address, and the link there would be plain; give a "
                "tls section, or set service.insecure: true",
                remote->urls[i].host);
        }
    }
}

static void check_gateway(struct translation *self)
{
    const struct esi_config_gateway *gateway = &self->config->gateway;
    /* One remote looks at those before it: bounded, so that a long list is not quadratic work. */
    const size_t remotes_max = 1000;

    if (has_blank(gateway->name)) {
        esi_report_add_key(self->report, "gateway.name", "a name without blanks is allowed");
    }
    if ((gateway->user == NULL) != (gateway->password == NULL)) {
        esi_report_add_key(self->report, "gateway", "%s is missing; user and password go together",
                           gateway->user == NULL ? "user" : "password");
    }
    if (gateway->remote_count > remotes_max) {
        esi_report_add_key(self->report, "gateway.remotes", "at most %zu remotes are allowed",
                           remotes_max);
        return;
    }
    for (size_t i = 0; i < gateway->remote_count; i++) {
        check_remote(self, i);
    }
}

/* Events and handlers. */

static bool is_plain_name(const char *name)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";

    return strlen(name) <= HANDLER_NAME_BYTES_MAX && name[strspn(name, allowed)] == '\0';
}

static void check_handler_tls(struct translation *self, const char *key,
                              const struct esi_config_handler *handler)
{
    const struct esi_config_tls *tls = &self->config->tls;

    if (!handler->is_tls) {
        return;
    }
    if (!tls->is_set) {
        esi_report_add_key(
            self->report, key,
            "%s means mutual TLS, which is not possible without a tls section; write "
            "grpc://HOST:PORT for a plain connection",
            handler->is_bare ? "HOST:PORT" : "grpcs://HOST:PORT");
    } else if (tls->root_ca_path == NULL) {
        esi_report_add_key(self->report, key,
                           "the worker's certificate cannot be checked without tls.root_ca_path");
    }
}

static void check_handler(struct translation *self, const struct esi_config_handler *handler)
{
    char key[KEY_BYTES];

    if (handler->name == NULL) {
        return;
    }
    snprintf(key, sizeof key, "handlers.%s", handler->name);
    if (!is_plain_name(handler->name)) {
        esi_report_add_key(self->report, key,
                           "a name of at most %d letters, digits, _ and - is allowed",
                           HANDLER_NAME_BYTES_MAX);
        return;
    }
    if (handler->host == NULL) {
        const struct esi_node *node = esi_node_at(self->report->root, key, NULL);
        if (node->kind == NODE_MAP && esi_node_find(node, ESI_STR("address")) == NULL) {
            esi_report_add_key(self->report, key, "address is missing");
        }
        return;
    }
    check_handler_tls(self, key, handler);
    if (handler->retry.delay_ns > handler->retry.delay_max_ns) {
        esi_report_add_key(self->report, key, "retry.delay is longer than retry.delay_max");
    }
}

static void check_registry(struct translation *self)
{
    const struct esi_config_events *events = &self->config->events;

    for (size_t i = 0; i < events->route_count; i++) {
        const char *pattern = events->registry[i].pattern;
        if (pattern == NULL) {
            continue;
        }
        if (has_blank(pattern)) {
            esi_report_add_key(self->report, "events.registry",
                               "\"%.64s\" was found, a type or a pattern without blanks is allowed",
                               pattern);
        }
    }
    const char *prefix = events->subject_prefix;
    if (strpbrk(prefix, " *>") != NULL || prefix[0] == '.' || strstr(prefix, "..") != NULL ||
        prefix[strlen(prefix) - 1] != '.') {
        esi_report_add_key(self->report, "events.subject_prefix",
                           "a subject without wildcards that ends with a dot is allowed");
    }
}

static void check_events(struct translation *self)
{
    struct esi_config *config = self->config;

    if (config->handler_count > HANDLERS_MAX) {
        esi_report_add_key(self->report, "handlers", "at most %d handlers are allowed",
                           HANDLERS_MAX);
    }
    for (size_t i = 0; i < config->handler_count; i++) {
        check_handler(self, &config->handlers[i]);
    }
    check_registry(self);
}

static void check_limits(struct translation *self)
{
    const struct esi_config_limits *limits = &self->config->limits;

    if (limits->max_pending_bytes < limits->max_payload_bytes) {
        esi_report_add_key(
            self->report,
            is_given(self, "limits.max_pending") ? "limits.max_pending" : "limits.max_payload",
            "max_pending (%llu bytes) is less than max_payload (%u bytes): the largest "
            "message could never be delivered",
            (unsigned long long)limits->max_pending_bytes, limits->max_payload_bytes);
    }
    if (limits->memory_bytes > 0 && limits->memory_bytes < MEMORY_BYTES_MIN) {
        esi_report_add_key(self->report, "limits.memory",
                           "memory (%llu bytes) is less than 32MiB, or 0 for a share of what the "
                           "process may use",
                           (unsigned long long)limits->memory_bytes);
    }
}

/* A number of a core, as the system has it. */
static bool is_core(const char *text)
{
    const size_t len = strspn(text, "0123456789");

    return len > 0 && len <= 4 && text[len] == '\0';
}

static void check_threads(struct translation *self)
{
    const struct esi_config_threads *threads = &self->config->threads;
    const struct esi_config_texts *pin = &threads->pin;
    const bool is_word = pin->count == 1 && (strcmp(pin->items[0], "none") == 0 ||
                                             strcmp(pin->items[0], "cores") == 0);

    if (threads->authenticators > 1) {
        esi_report_add_key(self->report, "threads.authenticators",
                           "this version has one authenticator: it decides from memory, and what "
                           "takes time (bcrypt) is done by threads.service threads");
    }
    for (size_t i = 0; !is_word && i < pin->count; i++) {
        if (!is_core(pin->items[i])) {
            esi_report_add_key(self->report, "threads.pin",
                               "\"%s\" is none of none, cores and a list of core numbers",
                               pin->items[i]);
        }
    }
}

void esi_translate_complete(struct esi_draft *draft, struct esi_report *report)
{
    struct translation self = {.draft = draft, .config = &draft->config, .report = report};

    ESI_REQUIRE(report->root != NULL);
    translate_ports(&self);
    translate_remote(&self);
    take_from_elsewhere(&self);
    check_all_tls(&self);
    check_plain_listeners(&self);
    check_same_ports(&self);
    check_auth(&self);
    check_gateway(&self);
    check_events(&self);
    check_limits(&self);
    check_threads(&self);
    leave_out_own_name(&self);
}
