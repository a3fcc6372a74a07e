/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: the monitor answers from its start to the end of the stop, and says truly whether the
 * server is starting, ready or stopping; its pages show the actors that are there. Method: a
 * runtime with a monitor and actors of the test's own, asked over loopback; one of these actors
 * holds the stop up for as long as the test wants, another one its worker.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <arpa/inet.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "actors/context.h"
#include "actors/monitor.h"
#include "actors/router.h"
#include "base/bytes.h"
#include "base/hashmap.h"
#include "base/own.h"
#include "config/config.h"
#include "runtime/actor.h"
#include "runtime_case.h"

static const uint64_t NS_PER_S = 1000000000;
static const uint64_t LEDGER_BYTES = (uint64_t)1 << 30;

/* --- an actor to be seen --- */

struct guest {
    struct esi_actor actor; /* first */
    struct esi_msg release_msg;
    struct esi_job release_job;
    bool holds_stop;
    sem_t *waits_for; /* in its turn: its worker does nothing else; NULL: it ends */
};

static void keep(struct esi_msg *msg)
{
    (void)msg;
}

static void release_guest(struct esi_actor *actor, struct esi_msg *msg)
{
    struct guest *guest = ESI_CONTAINER_OF(actor, struct guest, actor);

    (void)msg;
    if (guest->waits_for == NULL) {
        esi_actor_finish(actor);
        return;
    }
    while (sem_wait(guest->waits_for) != 0) {
    }
    guest->waits_for = NULL;
}

static void stop_guest(struct esi_actor *actor)
{
    if (!ESI_CONTAINER_OF(actor, struct guest, actor)->holds_stop) {
        esi_actor_finish(actor);
    }
}

static void describe_guest(const struct esi_actor *actor, struct esi_description *description)
{
    (void)actor;
    esi_bytes_append_text(description->text, "says \"hello\"\n<here>");
}

static void free_guest(struct esi_actor *actor)
{
    (void)actor; /* the test's own */
}

static const struct esi_actor_type guest_type = {.name = "guest",
                                                 .stop_phase = STOP_PEERS,
                                                 .handle = release_guest,
                                                 .stop = stop_guest,
                                                 .describe = describe_guest,
                                                 .free = free_guest};

/* --- a small server --- */

struct house {
    struct esi_context context;
    struct esi_config *config;
    struct esi_address bound;
    struct guest guests[3]; /* the first one holds the stop up */
    enum es_err stop_err;
};

static void open_house(struct house *house)
{
    static const char text[] = "monitor: {host: 127.0.0.1, port: 0}\nservice: {name: house}\n";
    const struct esi_config_source source = {.path = "test.yaml",
                                             .text = {.data = text, .len = sizeof text - 1},
                                             .program = CONFIG_EVENT_SERVICE};
    struct esi_context *context = &house->context;
    struct esi_bytes errors;

    *house = (struct house){.stop_err = ES_OK};
    esi_bytes_init(&errors, 0);
    context->env = esi_env_linux();
    case_check(esi_config_parse(context->env, &source, &house->config, &errors) == ES_OK);
    esi_bytes_deinit(&errors);
    context->config = house->config;
    esi_hashmap_seed_once(1);
    memset(context->server_id, 'N', sizeof context->server_id - 1);
    context->start_ns = esi_env_now_ns(context->env);
    context->start_wall_ns = esi_env_wall_ns(context->env);
    context->router_count = 1;
    case_check(esi_subtable_new(1, &context->table) == ES_OK);
    case_check(esi_ledger_new(LEDGER_BYTES, 1, &context->ledger) == ES_OK);
    context->runtime = start_runtime(2);
    case_check(esi_router_new(context->runtime, context->table, 0, ESI_ACCOUNT,
                              &context->routers[0]) == ES_OK);
    struct es_error error;
    case_check(esi_monitor_start(context, &house->bound, &error) == ES_OK);
    for (uint32_t i = 0; i < ESI_COUNT_OF(house->guests); i++) {
        struct guest *guest = &house->guests[i];
        guest->holds_stop = i == 0;
        esi_actor_init(&guest->actor, &guest_type, context->runtime,
                       esi_runtime_worker(context->runtime, i % 2));
        esi_actor_start(&guest->actor);
    }
}

static void *run_stop(void *argument)
{
    struct house *house = argument;

    house->stop_err =
        esi_runtime_stop(house->context.runtime, (uint64_t)CASE_DEADLINE_S * NS_PER_S);
    return NULL;
}

static void run_release(struct esi_job *job)
{
    struct guest *guest = ESI_CONTAINER_OF(job, struct guest, release_job);

    esi_actor_send(&guest->actor, &guest->release_msg);
}

/* From a thread of the runtime, which its end waits for: a sender must be done before it. */
static void release(struct house *house)
{
    struct guest *guest = &house->guests[0];

    guest->release_msg = (struct esi_msg){.free = keep};
    guest->release_job = (struct esi_job){.run = run_release};
    esi_runtime_submit(house->context.runtime, &guest->release_job);
}

static void close_house(struct house *house)
{
    case_check(house->stop_err == ES_OK);
    esi_router_free(house->context.routers[0]);
    esi_monitor_free(house->context.monitor);
    esi_runtime_free(house->context.runtime);
    esi_subtable_free(house->context.table);
    esi_ledger_free(house->context.ledger);
    esi_config_free(house->config);
}

/* --- asking --- */

struct answer {
    int status; /* 0: nobody listens any more */
    char text[64 * 1024];
};

static const struct answer *get(const struct house *house, const char *path)
{
    static struct answer answer;
    char request[256];
    size_t len = 0;
    const struct timeval deadline = {.tv_sec = CASE_DEADLINE_S};
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(house->bound.port)};

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    answer = (struct answer){.status = 0};
    const int sock = socket(AF_INET, SOCK_STREAM, 0);
    case_check(sock >= 0);
    case_check(setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &deadline, sizeof deadline) == 0);
    if (connect(sock, (const struct sockaddr *)(const void *)&address, sizeof address) == 0) {
        const int size = snprintf(request, sizeof request,
                                  "GET %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", path);
        (void)send(sock, request, (size_t)size, MSG_NOSIGNAL);
        ssize_t count;
        while ((count = recv(sock, answer.text + len, sizeof answer.text - 1 - len, 0)) > 0) {
            len += (size_t)count;
        }
        (void)sscanf(answer.text, "HTTP/1.1 %d", &answer.status);
    }
    close(sock);
    return &answer;
}

static void expect(const struct house *house, const char *path, int status, const char *part)
{
    const struct answer *answer = get(house, path);

    if (answer->status != status || strstr(answer->text, part) == NULL) {
        fail_msg("%s: expected %d with %s, got %d: %s", path, status, part, answer->status,
                 answer->text);
    }
}

/* --- the cases --- */

static const char *const pages[] = {"/varz",   "/connz", "/gatewayz", "/actorz",
                                    "/eventz", "/subsz", "/routez"};

static void tells_starting_ready_and_stopping(void **state)
{
    static struct house house;
    pthread_t stopper;
    int status;

    (void)state;
    open_house(&house);
    expect(&house, "/healthz", 503, "{\"status\":\"error\",\"error\":\"server is starting\"}");
    for (size_t i = 0; i < ESI_COUNT_OF(pages); i++) {
        expect(&house, pages[i], 503, "server is starting");
    }
    expect(&house, "/", 200, "healthz");
    /* order: release; as server/assemble.c does. */
    atomic_store_explicit(&house.context.is_ready, true, memory_order_release);
    expect(&house, "/healthz", 200, "{\"status\":\"ok\"}");
    for (size_t i = 0; i < ESI_COUNT_OF(pages); i++) {
        expect(&house, pages[i], 200, "\"server_id\": \"NNNN");
    }

    case_check(pthread_create(&stopper, NULL, run_stop, &house) == 0);
    do {
        status = get(&house, "/healthz")->status; /* until the stop has begun */
    } while (status == 200);
    assert_int_equal(status, 503);
    expect(&house, "/healthz", 503, "{\"status\":\"error\",\"error\":\"server is stopping\"}");
    for (size_t i = 0; i < ESI_COUNT_OF(pages); i++) {
        expect(&house, pages[i], 503, "server is stopping");
    }
    release(&house);
    case_check(pthread_join(stopper, NULL) == 0);
    assert_int_equal(get(&house, "/healthz")->status, 0);
    close_house(&house);
}

static void shows_what_is_there(void **state)
{
    static struct house house;
    pthread_t stopper;

    (void)state;
    open_house(&house);
    /* order: release; as server/assemble.c does. */
    atomic_store_explicit(&house.context.is_ready, true, memory_order_release);
    expect(&house, "/varz", 200, "\"server_name\": \"house\"");
    expect(&house, "/varz", 200, "\"workers\": 2");
    expect(&house, "/varz", 200, "\"/varz\": 3");
    expect(&house, "/connz", 200, "\"connections\": []");
    expect(&house, "/gatewayz", 200, "\"outbound_gateways\": {}");
    expect(&house, "/eventz", 200, "\"events\": null");
    expect(&house, "/eventz?id=e", 200, "\"event\": null");
    expect(&house, "/actorz?type=guest", 200, "\"total\": 3,");
    expect(&house, "/actorz?type=guest", 200,
           "\"description\": \"says \\\"hello\\\"\\u000a\\u003chere\\u003e\"");
    expect(&house, "/actorz?type=guest&limit=1&offset=2", 200, "\"num_actors\": 1,");
    expect(&house, "/actorz?type=none", 200, "\"actors\": []");
    expect(&house, "/actorz", 200, "\"type\": \"router\"");
    expect(&house, "/connz?sort=bogus", 400, "\r\n\r\ninvalid sorting option: bogus");
    expect(&house, "/nope", 404, "404 page not found");
    case_check(pthread_create(&stopper, NULL, run_stop, &house) == 0);
    release(&house);
    case_check(pthread_join(stopper, NULL) == 0);
    close_house(&house);
}

static void end_house(struct house *house)
{
    pthread_t stopper;

    case_check(pthread_create(&stopper, NULL, run_stop, house) == 0);
    release(house);
    case_check(pthread_join(stopper, NULL) == 0);
    close_house(house);
}

static void has_every_metric(void **state)
{
    static struct house house;
    /* Not of a server without TLS, gateway or queue. */
    static const char *const others[] = {"event_service_tls_", "event_service_gateway_",
                                         "event_service_queue_", "event_service_handler_",
                                         "event_service_dead_letters"};
    static const char *const names[] = {
#define METRIC(id, name, type, unit, labels, help) "# HELP " name " " help "\n",
#include "actors/metrics.def"
#undef METRIC
    };

    (void)state;
    open_house(&house);
    /* order: release; as server/assemble.c does. */
    atomic_store_explicit(&house.context.is_ready, true, memory_order_release);
    expect(&house, "/metrics", 200, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    expect(&house, "/metrics", 200, "\n# EOF\n");
    for (size_t i = 0; i < ESI_COUNT_OF(names); i++) {
        bool is_other = false;
        for (size_t j = 0; j < ESI_COUNT_OF(others); j++) {
            is_other |= strncmp(names[i] + strlen("# HELP "), others[j], strlen(others[j])) == 0;
        }
        if (!is_other) {
            expect(&house, "/metrics", 200, names[i]);
        }
    }
    expect(&house, "/metrics", 200, "event_service_actors{type=\"guest\"} 3\n");
    end_house(&house);
}

static void tells_what_is_degraded(void **state)
{
    static struct house house;

    (void)state;
    open_house(&house);
    /* order: release; as server/assemble.c does. */
    atomic_store_explicit(&house.context.is_ready, true, memory_order_release);
    expect(&house, "/healthz", 200, "{\"status\":\"ok\"}");
    struct esi_lease *lease = esi_ledger_lease(house.context.ledger, 0);
    uint64_t taken = 0;
    while (!esi_ledger_is_short(house.context.ledger, MEMORY_LASTING)) {
        case_check(esi_ledger_take(lease, MEMORY_TLS, 1 << 20));
        taken += 1 << 20;
    }
    /* A result that is still fresh may be told once more. */
    while (strstr(get(&house, "/healthz")->text, "\"degraded\"") == NULL) {
    }
    expect(&house, "/healthz", 200,
           "{\"status\":\"ok\",\"degraded\":[\"memory is short (lasting)\"]}");
    expect(&house, "/metrics", 200, "event_service_ready 0\n");
    esi_ledger_give(lease, MEMORY_TLS, taken);
    while (strstr(get(&house, "/healthz")->text, "\"degraded\"") != NULL) {
    }
    expect(&house, "/metrics", 200, "event_service_ready 1\n");
    end_house(&house);
}

/* A worker that hangs is named, and the others' turns go on; so does the server when it is back. */
static void tells_of_a_worker_that_hangs(void **state)
{
    static struct house house;
    sem_t end;

    (void)state;
    sem_init(&end, 0, 0);
    open_house(&house);
    /* order: release; as server/assemble.c does. */
    atomic_store_explicit(&house.context.is_ready, true, memory_order_release);
    expect(&house, "/healthz", 200, "{\"status\":\"ok\"}");
    house.guests[2].waits_for = &end;
    house.guests[2].release_msg = (struct esi_msg){.free = keep};
    esi_actor_send(&house.guests[2].actor, &house.guests[2].release_msg);
    while (get(&house, "/healthz")->status == 200) {
    }
    expect(&house, "/healthz", 503, "{\"status\":\"error\",\"error\":\"worker 0 has not responded");
    sem_post(&end);
    while (get(&house, "/healthz")->status != 200) {
    }
    end_house(&house);
    sem_destroy(&end);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tells_starting_ready_and_stopping),
        cmocka_unit_test(shows_what_is_there),
        cmocka_unit_test(has_every_metric),
        cmocka_unit_test(tells_what_is_degraded),
        cmocka_unit_test(tells_of_a_worker_that_hangs),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
