/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: what the contract says of keys together holds: the original's names, what is taken from
 * elsewhere, what is refused. Method: whole texts; the fields or the exact error lines that they
 * must give.
 */
#include "config/translate.h"

#include "config_case.h"

#define TLS "tls: {cert_path: a.crt, key_path: a.key, root_ca_path: ca.crt}\n"

static void a_small_file_is_a_plain_nats_server(void **state)
{
    (void)state;
    struct esi_config *config =
        expect_good("f.yaml", CONFIG_EVENT_SERVICE, "service: {host: 127.0.0.1, port: 4222}\n");
    assert_string_equal(config->service.host, "127.0.0.1");
    assert_int_equal(config->service.port, 4222);
    assert_false(config->clients_use_tls);
    assert_false(config->tls.is_set);
    assert_false(config->gateway.is_on);
    assert_int_equal(config->grpc.port, 0);
    assert_int_equal(config->monitor.port, 0);
    assert_int_equal(config->limits.max_payload_bytes, 1 << 20);
    assert_int_equal(config->limits.max_pending_bytes, 64 << 20);
    assert_int_equal(config->limits.ping_interval_ns, UINT64_C(120000000000));
    assert_int_equal(config->service.event_limit, 100000);
    assert_int_equal(config->service.listener_limit, 10000);
    esi_config_free(config);
}

static void the_program_decides_a_few_defaults(void **state)
{
    (void)state;
    struct esi_config *service = expect_good("f.yaml", CONFIG_EVENT_SERVICE, "gateway: {}\n");
    struct esi_config *gateway =
        expect_good("f.yaml", CONFIG_EVENT_GATEWAY, "gateway: {}\nauth: {token: t}\n");
    assert_string_equal(service->service.name, "event-service");
    assert_string_equal(gateway->service.name, "event-gateway");
    assert_string_equal(service->gateway.name, "event-service");
    assert_string_equal(gateway->gateway.name, "event-gateway");
    assert_int_equal(service->service.port, 10132);
    assert_int_equal(gateway->service.port, 4222);
    assert_int_equal(service->gateway.port, 10147);
    assert_int_equal(gateway->gateway.port, 10148);
    assert_true(service->gateway.is_on && gateway->gateway.is_on);
    esi_config_free(service);
    esi_config_free(gateway);
}

static void the_packaged_file_moves_ports(void **state)
{
    (void)state;
    struct esi_config *config =
        expect_good("f.yaml", CONFIG_EVENT_SERVICE,
                    "service: {host: localhost, port: \"10132\"}\n"
                    "internal_messaging: {port: \"10140\", gateway_port: 10150}\n" TLS);
    assert_int_equal(config->service.port, 10140);
    assert_int_equal(config->grpc.port, 10132);
    assert_string_equal(config->grpc.host, "localhost");
    assert_true(config->gateway.is_on);
    assert_int_equal(config->gateway.port, 10150);
    assert_int_equal(config->gateway.allowed_names.count, 1);
    assert_string_equal(config->gateway.allowed_names.items[0], "event-gateway");
    esi_config_free(config);

    config =
        expect_good("f.yaml", CONFIG_EVENT_SERVICE, "internal_messaging: {gateway_port: 10151}\n");
    assert_int_equal(config->service.port, 10132);
    assert_int_equal(config->grpc.port, 0);
    assert_int_equal(config->gateway.port, 10151);
    esi_config_free(config);

    config = expect_good("f.yaml", CONFIG_EVENT_SERVICE,
                         "internal_messaging: {port: 1}\ngrpc: {port: 2}\n");
    assert_int_equal(config->service.port, 1);
    assert_int_equal(config->grpc.port, 2);
    assert_int_equal(config->gateway.port, 10147);
    esi_config_free(config);

    config = expect_good("f.yaml", CONFIG_EVENT_SERVICE, "service: {gateway_port: 10149}\n");
    assert_true(config->gateway.is_on);
    assert_int_equal(config->gateway.port, 10149);
    esi_config_free(config);

    expect_errors(
        "f.yaml", CONFIG_EVENT_SERVICE,
        "service: {port: 1, gateway_port: 2}\n"
        "gateway: {port: 3}\n"
        "internal_messaging: {port: 4, gateway_port: 5}\n"
        "grpc: {port: 6}\n",
        "f.yaml:1:34: service.gateway_port: 2 was found, but gateway.port says 3; one of both is "
        "allowed\n"
        "f.yaml:3:45: internal_messaging.gateway_port: 5 was found, but gateway.port says 3; one "
        "of both is allowed\n"
        "f.yaml:1:17: service.port: 1 was found, but grpc.port says 6; one of both is allowed\n");
}

static void event_gateway_knows_its_one_remote(void **state)
{
    (void)state;
    struct esi_config *config = expect_good("f.yaml", CONFIG_EVENT_GATEWAY,
                                            "internal_event_service: {host: 0.0.0.0}\n"
                                            "auth: {token: t}\n" TLS);
    assert_true(config->gateway.is_on);
    assert_int_equal(config->gateway.remote_count, 1);
    const struct esi_config_remote *remote = &config->gateway.remotes[0];
    assert_string_equal(remote->name, "event-service");
    assert_int_equal(remote->url_count, 1);
    assert_string_equal(remote->urls[0].host, "127.0.0.1");
    assert_int_equal(remote->urls[0].port, 10147);
    assert_true(remote->tls.is_set);
    assert_string_equal(remote->tls.key_path, "a.key");
    assert_string_equal(config->gateway.tls.root_ca_path, "ca.crt");
    assert_string_equal(config->gateway.allowed_names.items[0], "event-service");
    /* The main section is that of the link: clients are not shown it. */
    assert_false(config->clients_use_tls);
    esi_config_free(config);

    expect_errors(
        "f.yaml", CONFIG_EVENT_GATEWAY,
        "internal_event_service: {gateway_port: 5}\n"
        "gateway: {remotes: [{name: x, urls: \"h:1\", tls: {cert_path: a, key_path: b, "
        "root_ca_path: c}}]}\n"
        "auth: {token: t}\n",
        "f.yaml:1:1: internal_event_service: gateway.remotes is given too; one of both is "
        "allowed\n");
}

static void sections_of_tls_are_taken_over(void **state)
{
    (void)state;
    struct esi_config *config = expect_good(
        "f.yaml", CONFIG_EVENT_SERVICE,
        TLS "gateway:\n"
            "  name: me\n"
            "  tls: {cert_path: g.crt, key_path: g.key, root_ca_path: g.ca, allowed_names: [n]}\n"
            "  remotes:\n"
            "    - {name: me, urls: \"h:1\"}\n"
            "    - {name: a, urls: [\"h:1\", \"h:2\"]}\n"
            "    - {name: b, urls: \"h:1\", tls: {cert_path: r.crt, key_path: r.key, "
            "root_ca_path: r.ca}}\n");
    assert_true(config->clients_use_tls);
    assert_string_equal(config->gateway.tls.cert_path, "g.crt");
    /* A list for all sides: its own name is left out. */
    assert_int_equal(config->gateway.remote_count, 2);
    assert_string_equal(config->gateway.remotes[0].name, "a");
    assert_int_equal(config->gateway.remotes[0].url_count, 2);
    assert_string_equal(config->gateway.remotes[0].tls.cert_path, "g.crt");
    assert_string_equal(config->gateway.remotes[0].tls.allowed_names.items[0], "n");
    assert_string_equal(config->gateway.remotes[1].tls.cert_path, "r.crt");
    esi_config_free(config);
}

static void tls_sections_are_complete(void **state)
{
    (void)state;
    expect_errors(
        "f.yaml", CONFIG_EVENT_GATEWAY,
        "auth: {token: t}\n"
        "tls: {cert_path: a, allowed_names: [x]}\n"
        "frontend_tls:\n"
        "  - {cert_path: a}\n"
        "  - {cert_path: a, key_path: b}\n"
        "  - {}\n"
        "gateway:\n"
        "  remotes: [{name: r, urls: \"h:1\", tls: {}}]\n",
        "f.yaml:2:1: tls: key_path is missing; both cert_path and key_path are needed\n"
        "f.yaml:2:1: tls: allowed_names without root_ca_path: no certificate would be asked for\n"
        "f.yaml:2:1: tls: root_ca_path is missing; both sides of a gateway link check "
        "certificates\n"
        "f.yaml:4:5: frontend_tls[0]: key_path is missing; both cert_path and key_path are "
        "needed\n"
        "f.yaml:6:5: frontend_tls[2]: cert_path is missing; both cert_path and key_path are "
        "needed\n"
        "f.yaml:8:36: gateway.remotes[0].tls: cert_path is missing; both cert_path and key_path "
        "are needed\n"
        "f.yaml:8:36: gateway.remotes[0].tls: root_ca_path is missing; both sides of a gateway "
        "link check certificates\n");
}

#define REACHABLE(host, remedy)                                                                    \
    host " is not a loopback address, and connections there would be plain; " remedy               \
         ", or set service.insecure: true\n"
/* Names, since clang-format cannot lay several calls out side by side. */
#define SERVICE_REACHABLE "f.yaml:1:17: service.host: " REACHABLE("0.0.0.0", "give a tls section")
#define GATEWAY_REACHABLE "f.yaml:2:17: gateway.host: " REACHABLE("10.0.0.1", "give a tls section")
#define GRPC_REACHABLE SERVICE_REACHABLE /* it listens on the same address */
#define MONITOR_REACHABLE                                                                          \
    "f.yaml:4:17: monitor.host: " REACHABLE("::", "give monitor.tls, or use 127.0.0.1")
#define ALL_REACHABLE SERVICE_REACHABLE GATEWAY_REACHABLE GRPC_REACHABLE MONITOR_REACHABLE

static void plain_listeners_stay_on_loopback(void **state)
{
    (void)state;
    expect_errors("f.yaml", CONFIG_EVENT_SERVICE,
                  "service: {host: 0.0.0.0}\n"
                  "gateway: {host: 10.0.0.1}\n"
                  "grpc: {port: 5}\n"
                  "monitor: {host: \"::\", port: 8222}\n",
                  ALL_REACHABLE);
    expect_errors("f.yaml", CONFIG_EVENT_GATEWAY,
                  "service: {host: 0.0.0.0}\nauth: {token: t}\n" TLS,
                  "f.yaml:1:17: service.host: " REACHABLE("0.0.0.0", "give frontend_tls"));
    esi_config_free(expect_good("f.yaml", CONFIG_EVENT_SERVICE, "service: {host: 0.0.0.0}\n" TLS));
    esi_config_free(
        expect_good("f.yaml", CONFIG_EVENT_SERVICE, "service: {host: 0.0.0.0, insecure: true}\n"));
    esi_config_free(expect_good("f.yaml", CONFIG_EVENT_SERVICE, "service: {host: localhost}\n"));
    esi_config_free(expect_good("f.yaml", CONFIG_EVENT_GATEWAY,
                                "service: {host: 0.0.0.0, disable_frontend_tls: true}\n"
                                "auth: {token: t}\n"));
    struct esi_config *config = expect_good("f.yaml", CONFIG_EVENT_GATEWAY,
                                            "service: {host: 0.0.0.0}\nauth: {token: t}\n"
                                            "frontend_tls: [{cert_path: a, key_path: b}]\n");
    assert_true(config->clients_use_tls);
    esi_config_free(config);
}

static void ports_are_not_used_twice(void **state)
{
    (void)state;
    expect_errors("f.yaml", CONFIG_EVENT_SERVICE,
                  "service: {port: 5}\ngateway: {port: 5}\nmonitor: {port: 5, host: \"::1\"}\n",
                  "f.yaml:2:17: gateway.port: 5 is the port of service.port too\n");
    esi_config_free(
        expect_good("f.yaml", CONFIG_EVENT_SERVICE, "service: {port: 0}\ngateway: {port: 0}\n"));
}

/* Somebody meant to restrict access: a slip must not open it to everybody. */
static void restrictions_restrict_somebody(void **state)
{
    (void)state;
    expect_errors("f.yaml", CONFIG_EVENT_SERVICE, "auth: {users: []}\n",
                  "f.yaml:1:8: auth.users: restricts nobody without a user, token or token_file\n");
    expect_errors("f.yaml", CONFIG_EVENT_SERVICE, "auth:\n  default_permissions: {publish: [a]}\n",
                  "f.yaml:2:3: auth.default_permissions: restricts nobody without a user, token or "
                  "token_file\n");
    esi_config_free(expect_good("f.yaml", CONFIG_EVENT_SERVICE, "auth: {timeout: 3s}\n"));
    esi_config_free(expect_good("f.yaml", CONFIG_EVENT_SERVICE,
                                "auth: {token: t, default_permissions: {publish: [a]}}\n"));
}

static void event_gateway_must_know_who_comes_in(void **state)
{
    (void)state;
    expect_errors(
        "f.yaml", CONFIG_EVENT_GATEWAY, "service: {port: 1}\nauth: {timeout: 3s}\n",
        "f.yaml:2:1: auth: event-gateway must know who may connect: give token_file, users or "
        "token\n");
    expect_errors(
        "f.yaml", CONFIG_EVENT_GATEWAY, "auth: {users: []}\n",
        "f.yaml:1:1: auth: event-gateway must know who may connect: give token_file, users or "
        "token\n");
    esi_config_free(expect_good("f.yaml", CONFIG_EVENT_GATEWAY, "auth: {token_file: t}\n"));
    esi_config_free(
        expect_good("f.yaml", CONFIG_EVENT_GATEWAY, "auth: {users: [{user: a, password: b}]}\n"));
}

static void users_and_permissions_are_read(void **state)
{
    (void)state;
    struct esi_config *config = expect_good(
        "f.yaml", CONFIG_EVENT_GATEWAY,
        "auth:\n"
        "  no_auth_user: b\n"
        "  default_permissions: {publish: foo, subscribe: [a, b]}\n"
        "  users:\n"
        "    - {user: a, password: x, permissions: {publish: {allow: [], deny: d}, "
        "allow_responses: true}}\n"
        "    - {user: b, password: 123, permissions: {allow_responses: {max: 5, expires: 1s}}}\n"
        "    - {user: c, password: y, permissions: {allow_responses: false}}\n"
        "    - {user: d, password: y}\n");
    const struct esi_config_auth *auth = &config->auth;
    assert_int_equal(auth->user_count, 4);
    assert_string_equal(auth->no_auth_user, "b");
    assert_string_equal(auth->default_permissions.publish.allow.items[0], "foo");
    assert_int_equal(auth->default_permissions.subscribe.allow.count, 2);
    const struct esi_config_permissions *a = &auth->users[0].permissions;
    assert_true(a->is_set && a->publish.allow.is_given);
    assert_int_equal(a->publish.allow.count, 0);
    assert_string_equal(a->publish.deny.items[0], "d");
    assert_false(a->subscribe.allow.is_given);
    assert_true(a->responses.is_allowed);
    assert_int_equal(a->responses.max, 1);
    assert_int_equal(a->responses.expires_ns, UINT64_C(120000000000));
    assert_true(auth->users[1].permissions.responses.is_allowed);
    assert_int_equal(auth->users[1].permissions.responses.max, 5);
    assert_string_equal(auth->users[1].password, "123");
    assert_false(auth->users[2].permissions.responses.is_allowed);
    assert_true(auth->users[2].permissions.is_set);
    assert_false(auth->users[3].permissions.is_set);
    esi_config_free(config);

    expect_errors(
        "f.yaml", CONFIG_EVENT_SERVICE,
        "auth:\n  no_auth_user: x\n  users: [{user: a, password: b}, {user: a, password: c}, "
        "{password: d}]\n",
        "f.yaml:3:35: auth.users[1]: the user \"a\" is given twice\n"
        "f.yaml:3:59: auth.users[2]: user is missing\n"
        "f.yaml:2:17: auth.no_auth_user: \"x\" is none of auth.users\n");
}

static void gateways_are_checked(void **state)
{
    (void)state;
    expect_errors(
        "f.yaml", CONFIG_EVENT_SERVICE,
        "gateway:\n"
        "  name: a b\n"
        "  user: u\n"
        "  allowed_names: [x]\n"
        "  remotes:\n"
        "    - {name: r, urls: \"10.0.0.1:1\"}\n"
        "    - {name: r, urls: \"127.0.0.1:1\"}\n"
        "    - {urls: \"127.0.0.1:1\"}\n"
        "    - {name: s}\n",
        "f.yaml:4:3: gateway.allowed_names: there is no certificate to check without a tls "
        "section\n"
        "f.yaml:2:9: gateway.name: a name without blanks is allowed\n"
        "f.yaml:1:1: gateway: password is missing; user and password go together\n"
        "f.yaml:6:7: gateway.remotes[0]: 10.0.0.1 is not a loopback address, and the link there "
        "would be plain; give a tls section, or set service.insecure: true\n"
        "f.yaml:7:7: gateway.remotes[1]: the remote \"r\" is given twice\n"
        "f.yaml:8:7: gateway.remotes[2]: a remote needs a name without blanks\n"
        "f.yaml:9:7: gateway.remotes[3]: a remote needs urls\n");
}

static void handlers_need_what_their_scheme_means(void **state)
{
    (void)state;
    struct esi_config *config = expect_good(
        "f.yaml", CONFIG_EVENT_SERVICE,
        "handlers:\n"
        "  feed: grpc://0.0.0.0:1\n"
        "  x: {address: \"grpc://w.example:2\", timeout: 1s, in_flight_max: 3, tls_name: n,\n"
        "      retry: {attempts_max: 4, delay: 1s, delay_max: 1m}}\n"
        "events: {subject_prefix: ev., registry: {\"a*\": [x, feed], b: x}}\n");
    assert_int_equal(config->handler_count, 2);
    assert_string_equal(config->handlers[0].name, "feed");
    assert_string_equal(config->handlers[0].host, "127.0.0.1");
    assert_int_equal(config->handlers[0].timeout_ns, UINT64_C(30000000000));
    assert_null(config->handlers[0].tls_name);
    assert_string_equal(config->handlers[1].tls_name, "n");
    assert_int_equal(config->handlers[1].in_flight_max, 3);
    assert_int_equal(config->handlers[1].retry.attempts_max, 4);
    assert_int_equal(config->events.route_count, 2);
    assert_string_equal(config->events.registry[0].pattern, "a*");
    assert_string_equal(config->events.registry[0].handlers.items[1], "feed");
    assert_int_equal(config->events.registry[1].handlers.count, 1);
    esi_config_free(config);

    expect_errors(
        "f.yaml", CONFIG_EVENT_SERVICE,
        "handlers:\n"
        "  feed: 0.0.0.0:10121\n"
        "  x: grpcs://w.example:1\n"
        "  y: {timeout: 1s}\n"
        "  a.b: grpc://w.example:1\n"
        "  z: {address: \"grpc://w.example:1\", retry: {delay: 5m}}\n"
        "events: {subject_prefix: \"ev.*.\", registry: {\"a b\": x}}\n",
        "f.yaml:2:9: handlers.feed: HOST:PORT means mutual TLS, which is not possible without a "
        "tls section; "
        "write grpc://HOST:PORT for a plain connection\n"
        "f.yaml:3:6: handlers.x: grpcs://HOST:PORT means mutual TLS, which is not possible without "
        "a tls "
        "section; write grpc://HOST:PORT for a plain connection\n"
        "f.yaml:4:3: handlers.y: address is missing\n"
        "f.yaml:1:1: handlers.a.b: a name of at most 64 letters, digits, _ and - is allowed\n"
        "f.yaml:6:3: handlers.z: retry.delay is longer than retry.delay_max\n"
        "f.yaml:7:35: events.registry: \"a b\" was found, a type or a pattern without blanks is "
        "allowed\n"
        "f.yaml:7:26: events.subject_prefix: a subject without wildcards that ends with a dot is "
        "allowed\n");
    expect_errors("f.yaml", CONFIG_EVENT_SERVICE,
                  "tls: {cert_path: a, key_path: b}\nhandlers: {feed: \"w:1\"}\n",
                  "f.yaml:2:18: handlers.feed: the worker's certificate cannot be checked without "
                  "tls.root_ca_path\n");
}

static void the_largest_message_must_fit(void **state)
{
    (void)state;
    expect_errors(
        "f.yaml", CONFIG_EVENT_SERVICE, "limits: {max_pending: 64KB}\n",
        "f.yaml:1:23: limits.max_pending: max_pending (64000 bytes) is less than max_payload "
        "(1048576 bytes): the largest message could never be delivered\n");
    esi_config_free(expect_good("f.yaml", CONFIG_EVENT_SERVICE,
                                "limits: {max_pending: 64KB, max_payload: 64000}\n"));
    expect_errors(
        "f.yaml", CONFIG_EVENT_SERVICE, "limits: {memory: 1MiB}\n",
        "f.yaml:1:18: limits.memory: memory (1048576 bytes) is less than 32MiB, or 0 for a share "
        "of what the process may use\n");
    esi_config_free(expect_good("f.yaml", CONFIG_EVENT_SERVICE,
                                "limits: {memory: 32MiB, slow_consumer: block}\n"));
}

static void threads_are_checked(void **state)
{
    (void)state;
    expect_errors("f.yaml", CONFIG_EVENT_SERVICE, "threads: {pin: [1, x, none]}\n",
                  "f.yaml:1:11: threads.pin: \"x\" is none of none, cores and a list of core "
                  "numbers\n"
                  "f.yaml:1:11: threads.pin: \"none\" is none of none, cores and a list of core "
                  "numbers\n");
    expect_errors("f.yaml", CONFIG_EVENT_SERVICE, "threads: {authenticators: 2}\n",
                  "f.yaml:1:27: threads.authenticators: this version has one authenticator: it "
                  "decides from memory, and what takes time (bcrypt) is done by threads.service "
                  "threads\n");
    struct esi_config *config =
        expect_good("f.yaml", CONFIG_EVENT_SERVICE,
                    "threads: {pin: [3, 1], placement: spread, rebalance: 0, authenticators: 1}\n");
    assert_int_equal(config->threads.pin.count, 2);
    assert_string_equal(config->threads.pin.items[0], "3");
    assert_int_equal(config->threads.placement, CONFIG_PLACEMENT_SPREAD);
    assert_int_equal(config->threads.rebalance_ns, 0);
    esi_config_free(config);
    config = expect_good("f.yaml", CONFIG_EVENT_SERVICE, "threads: {pin: cores}\n");
    assert_string_equal(config->threads.pin.items[0], "cores");
    assert_int_equal(config->threads.rebalance_ns, 250000000);
    esi_config_free(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_small_file_is_a_plain_nats_server),
        cmocka_unit_test(the_program_decides_a_few_defaults),
        cmocka_unit_test(the_packaged_file_moves_ports),
        cmocka_unit_test(event_gateway_knows_its_one_remote),
        cmocka_unit_test(sections_of_tls_are_taken_over),
        cmocka_unit_test(tls_sections_are_complete),
        cmocka_unit_test(plain_listeners_stay_on_loopback),
        cmocka_unit_test(ports_are_not_used_twice),
        cmocka_unit_test(restrictions_restrict_somebody),
        cmocka_unit_test(event_gateway_must_know_who_comes_in),
        cmocka_unit_test(users_and_permissions_are_read),
        cmocka_unit_test(gateways_are_checked),
        cmocka_unit_test(handlers_need_what_their_scheme_means),
        cmocka_unit_test(the_largest_message_must_fit),
        cmocka_unit_test(threads_are_checked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
