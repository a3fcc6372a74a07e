/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: what users do through the C client of NATS works against the server, over every way to
 * connect. Method: each scenario is one function that gets two fresh connections of one way, uses
 * the client's public interface only, and says what it expected where something else came.
 *
 * usage: nats_c [--ca FILE] [--cert FILE --key FILE] WAY=URL...
 *   ways that run all scenarios: plain, token, user, tls, mutual (shows the certificate)
 *   restricted=URL   a user who may not publish to "secret"
 *   refused=URL      the server must refuse this URL's credentials
 *   untrusted=URL    a TLS server whose certificate our authority did not sign, or that demands one
 *   restart=URL      prints "restart" and expects the server to be ended and started again
 *
 * A subscription's queue is looked at only after a flush of its connection: PONG comes behind all
 * messages, so an empty queue then proves that nothing came, without waiting for time.
 */
#include <nats/nats.h>

#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SUBS_MAX = 4, DEADLINE_MS = 10000, MIB = 1 << 20, FAULT_SIZE = 512 };

struct files {
    const char *ca, *cert, *key; /* NULL: none */
};

/* What the client's own threads report; waited for with a deadline. */
struct signal {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    natsStatus error; /* the last asynchronous error */
    int errors, reconnects, closes, messages;
};

/* One scenario's world. The harness opens and closes all of it. */
struct scene {
    const struct files *files;
    const char *way, *url;
    natsConnection *publisher, *listener;
    natsSubscription *subs[SUBS_MAX];
    int sub_count;
    int opened;   /* connections, each of which reports its close in signal.closes */
    natsMsg *msg; /* the last one received; the next replaces it */
    struct signal signal;
    char fault[FAULT_SIZE];
};

typedef bool (*scenario_fn)(struct scene *scene);

/* --- small verbs: false with the fault noted where the expectation did not come true -----------
 */

__attribute__((format(printf, 2, 3))) static bool fail(struct scene *scene, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(scene->fault, sizeof scene->fault, format, args);
    va_end(args);
    return false;
}

static bool succeed(struct scene *scene, natsStatus status, const char *what)
{
    return status == NATS_OK ||
           fail(scene, "%s: expected OK, got %s", what, natsStatus_GetText(status));
}

static bool expect_status(struct scene *scene, natsStatus got, natsStatus wanted, const char *what)
{
    return got == wanted || fail(scene, "%s: expected %s, got %s", what, natsStatus_GetText(wanted),
                                 natsStatus_GetText(got));
}

static bool expect_count(struct scene *scene, int64_t got, int64_t wanted, const char *what)
{
    return got == wanted ||
           fail(scene, "%s: expected %" PRId64 ", got %" PRId64, what, wanted, got);
}

/* Subscribes on the listener (queue may be NULL) and has it in force. */
static natsSubscription *subscribe(struct scene *scene, const char *subject, const char *queue)
{
    natsSubscription *sub = NULL;
    natsStatus status =
        queue != NULL ? natsConnection_QueueSubscribeSync(&sub, scene->listener, subject, queue)
                      : natsConnection_SubscribeSync(&sub, scene->listener, subject);

    if (status == NATS_OK) {
        scene->subs[scene->sub_count++] = sub;
        status = natsConnection_FlushTimeout(scene->listener, DEADLINE_MS);
    }
    return succeed(scene, status, subject) ? sub : NULL;
}

/* Everything sent by the publisher has reached the listener's queues. */
static bool settle(struct scene *scene)
{
    return succeed(scene, natsConnection_FlushTimeout(scene->publisher, DEADLINE_MS),
                   "flush of the publisher") &&
           succeed(scene, natsConnection_FlushTimeout(scene->listener, DEADLINE_MS),
                   "flush of the listener");
}

static bool next(struct scene *scene, natsSubscription *sub)
{
    natsMsg_Destroy(scene->msg);
    scene->msg = NULL;
    return succeed(scene, natsSubscription_NextMsg(&scene->msg, sub, DEADLINE_MS), "next message");
}

static bool expect_data(struct scene *scene, const char *subject, const char *data, int len)
{
    const char *got = natsMsg_GetSubject(scene->msg);

    if (strcmp(got, subject) != 0) {
        return fail(scene, "subject: expected %s, got %s", subject, got);
    }
    if (natsMsg_GetDataLength(scene->msg) != len) {
        return fail(scene, "length: expected %d, got %d", len, natsMsg_GetDataLength(scene->msg));
    }
    return len == 0 || memcmp(natsMsg_GetData(scene->msg), data, (size_t)len) == 0 ||
           fail(scene, "%d payload bytes: expected the same, got others", len);
}

static bool expect_next(struct scene *scene, natsSubscription *sub, const char *subject,
                        const char *text)
{
    return next(scene, sub) && expect_data(scene, subject, text, (int)strlen(text));
}

/* Call after settle(). */
static bool expect_queued(struct scene *scene, natsSubscription *sub, int wanted)
{
    uint64_t queued = 0;

    return succeed(scene, natsSubscription_QueuedMsgs(sub, &queued), "queued messages") &&
           expect_count(scene, (int64_t)queued, wanted, natsSubscription_GetSubject(sub));
}

static bool publish(struct scene *scene, const char *subject, const char *text)
{
    return succeed(scene, natsConnection_PublishString(scene->publisher, subject, text), subject);
}

/* Waits until *counter (under the signal's lock) is at least wanted. */
static bool await(struct scene *scene, const int *counter, int wanted, const char *what)
{
    struct signal *signal = &scene->signal;
    struct timespec end;
    int failed = 0;

    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += DEADLINE_MS / 1000;
    pthread_mutex_lock(&signal->lock);
    while (*counter < wanted && failed == 0) {
        failed = pthread_cond_timedwait(&signal->changed, &signal->lock, &end);
    }
    pthread_mutex_unlock(&signal->lock);
    return failed == 0 || fail(scene, "%s: expected within %d ms", what, DEADLINE_MS);
}

/* --- connections ------------------------------------------------------------------------------ */

static void raise_signal(struct signal *signal, int *counter)
{
    pthread_mutex_lock(&signal->lock);
    ++*counter;
    pthread_cond_broadcast(&signal->changed);
    pthread_mutex_unlock(&signal->lock);
}

static void on_error(natsConnection *nc, natsSubscription *sub, natsStatus error, void *closure)
{
    struct signal *signal = closure;

    (void)nc;
    (void)sub;
    pthread_mutex_lock(&signal->lock);
    signal->error = error;
    pthread_mutex_unlock(&signal->lock);
    raise_signal(signal, &signal->errors);
}

static void on_reconnect(natsConnection *nc, void *closure)
{
    struct signal *signal = closure;

    (void)nc;
    raise_signal(signal, &signal->reconnects);
}

static void on_close(natsConnection *nc, void *closure)
{
    struct signal *signal = closure;

    (void)nc;
    raise_signal(signal, &signal->closes);
}

static natsStatus set_options(struct scene *scene, natsOptions *options, bool echo)
{
    const bool tls = strncmp(scene->url, "tls:", 4) == 0;
    natsStatus status = natsOptions_SetURL(options, scene->url);

    if (status == NATS_OK && tls && scene->files->ca != NULL) {
        status = natsOptions_LoadCATrustedCertificates(options, scene->files->ca);
    }
    if (status == NATS_OK && strcmp(scene->way, "mutual") == 0) {
        status = natsOptions_LoadCertificatesChain(options, scene->files->cert, scene->files->key);
    }
    if (status == NATS_OK) {
        status = natsOptions_SetNoEcho(options, !echo);
    }
    if (status == NATS_OK) {
        status = natsOptions_SetTimeout(options, DEADLINE_MS);
    }
    if (status == NATS_OK) {
        status = natsOptions_SetReconnectWait(options, 50);
    }
    if (status == NATS_OK) {
        status = natsOptions_SetErrorHandler(options, on_error, &scene->signal);
    }
    if (status == NATS_OK) {
        status = natsOptions_SetReconnectedCB(options, on_reconnect, &scene->signal);
    }
    if (status == NATS_OK) {
        status = natsOptions_SetClosedCB(options, on_close, &scene->signal);
    }
    return status;
}

static natsStatus open_connection(struct scene *scene, natsConnection **out, bool echo)
{
    natsOptions *options = NULL;
    natsStatus status = natsOptions_Create(&options);

    if (status == NATS_OK) {
        status = set_options(scene, options, echo);
    }
    if (status == NATS_OK) {
        status = natsConnection_Connect(out, options);
    }
    scene->opened += status == NATS_OK;
    natsOptions_Destroy(options);
    return status;
}

/* --- scenarios -------------------------------------------------------------------------------- */

static bool server_is_described(struct scene *scene)
{
    char id[128] = "";
    char *ip = NULL;
    uint64_t one = 0;
    uint64_t two = 0;
    bool good =
        succeed(scene, natsConnection_GetConnectedServerId(scene->listener, id, sizeof id), "id") &&
        expect_count(scene, (int64_t)strlen(id), 56, "length of the server id") &&
        expect_count(scene, natsConnection_GetMaxPayload(scene->listener), MIB, "max payload") &&
        succeed(scene, natsConnection_HasHeaderSupport(scene->listener), "header support") &&
        succeed(scene, natsConnection_GetClientID(scene->publisher, &one), "client id") &&
        succeed(scene, natsConnection_GetClientID(scene->listener, &two), "client id") &&
        (one != two || fail(scene, "client ids: expected two, got %" PRIu64 " twice", one)) &&
        succeed(scene, natsConnection_GetClientIP(scene->listener, &ip), "client ip") &&
        (strcmp(ip, "127.0.0.1") == 0 || fail(scene, "client ip: expected 127.0.0.1, got %s", ip));

    free(ip);
    return good;
}

static bool bytes_arrive_unchanged(struct scene *scene)
{
    static const char data[] = "a\r\nPING\r\n\0b\xff\xfe";
    const int len = (int)sizeof data;
    natsSubscription *sub = subscribe(scene, "bytes", NULL);

    return sub != NULL &&
           succeed(scene, natsConnection_Publish(scene->publisher, "bytes", data, len),
                   "publish") &&
           next(scene, sub) && expect_data(scene, "bytes", data, len) &&
           publish(scene, "bytes", "") && next(scene, sub) && expect_data(scene, "bytes", "", 0) &&
           settle(scene) && expect_queued(scene, sub, 0);
}

static bool order_is_kept(struct scene *scene)
{
    enum { COUNT = 10000 };
    char text[16];
    natsSubscription *sub = subscribe(scene, "order", NULL);
    bool good = sub != NULL;

    for (int i = 0; good && i < COUNT; i++) {
        snprintf(text, sizeof text, "%d", i);
        good = publish(scene, "order", text);
    }
    for (int i = 0; good && i < COUNT; i++) {
        snprintf(text, sizeof text, "%d", i);
        good = expect_next(scene, sub, "order", text);
    }
    return good && settle(scene) && expect_queued(scene, sub, 0);
}

static bool wildcards_match(struct scene *scene)
{
    natsSubscription *star = subscribe(scene, "w.*.z", NULL);
    natsSubscription *full = subscribe(scene, "w.>", NULL);

    return star != NULL && full != NULL && publish(scene, "w.a.z", "1") &&
           publish(scene, "w.a.b.z", "2") && publish(scene, "w", "3") &&
           expect_next(scene, star, "w.a.z", "1") && expect_next(scene, full, "w.a.z", "1") &&
           expect_next(scene, full, "w.a.b.z", "2") && settle(scene) &&
           expect_queued(scene, star, 0) && expect_queued(scene, full, 0);
}

static bool queue_group_shares(struct scene *scene)
{
    enum { COUNT = 200 };
    natsSubscription *one = subscribe(scene, "job", "workers");
    natsSubscription *two = subscribe(scene, "job", "workers");
    natsSubscription *all = subscribe(scene, "job", NULL);
    uint64_t first = 0;
    uint64_t second = 0;
    bool good = one != NULL && two != NULL && all != NULL;

    for (int i = 0; good && i < COUNT; i++) {
        good = publish(scene, "job", "x");
    }
    good = good && settle(scene) && expect_queued(scene, all, COUNT) &&
           succeed(scene, natsSubscription_QueuedMsgs(one, &first), "first member") &&
           succeed(scene, natsSubscription_QueuedMsgs(two, &second), "second member") &&
           expect_count(scene, (int64_t)(first + second), COUNT, "messages to the group");
    /* Fifty of two hundred is seven standard deviations away from the half. */
    return good && ((first >= 50 && second >= 50) ||
                    fail(scene, "shares: expected about half, got %" PRIu64 " and %" PRIu64, first,
                         second));
}

static bool send_with_headers(struct scene *scene)
{
    natsMsg *msg = NULL;
    bool good = succeed(scene, natsMsg_Create(&msg, "head", NULL, "body", 4), "create") &&
                succeed(scene, natsMsgHeader_Set(msg, "Color", "red"), "header") &&
                succeed(scene, natsMsgHeader_Add(msg, "Color", "dark blue"), "header") &&
                succeed(scene, natsMsgHeader_Set(msg, "Size", "0"), "header") &&
                succeed(scene, natsConnection_PublishMsg(scene->publisher, msg), "publish");

    natsMsg_Destroy(msg);
    return good;
}

static bool headers_arrive(struct scene *scene)
{
    natsSubscription *sub = subscribe(scene, "head", NULL);
    const char **values = NULL;
    const char *size = "unset";
    int count = 0;
    bool good = sub != NULL && send_with_headers(scene) && expect_next(scene, sub, "head", "body");

    good = good &&
           succeed(scene, natsMsgHeader_Values(scene->msg, "Color", &values, &count), "values") &&
           expect_count(scene, count, 2, "values of Color") &&
           ((strcmp(values[0], "red") == 0 && strcmp(values[1], "dark blue") == 0) ||
            fail(scene, "Color: expected red, dark blue, got %s, %s", values[0], values[1])) &&
           succeed(scene, natsMsgHeader_Get(scene->msg, "Size", &size), "value of Size") &&
           (strcmp(size, "0") == 0 || fail(scene, "Size: expected 0, got %s", size));
    free((void *)values);
    return good;
}

static void on_request(natsConnection *nc, natsSubscription *sub, natsMsg *msg, void *closure)
{
    struct scene *scene = closure;

    (void)sub;
    if (natsConnection_Publish(nc, natsMsg_GetReply(msg), natsMsg_GetData(msg),
                               natsMsg_GetDataLength(msg)) != NATS_OK) {
        raise_signal(&scene->signal, &scene->signal.errors);
    }
    natsMsg_Destroy(msg);
}

static bool request_is_answered(struct scene *scene)
{
    natsSubscription *sub = NULL;
    natsStatus status = natsConnection_Subscribe(&sub, scene->listener, "echo", on_request, scene);

    if (!succeed(scene, status, "subscribe")) {
        return false;
    }
    scene->subs[scene->sub_count++] = sub;
    bool good = succeed(scene, natsConnection_FlushTimeout(scene->listener, DEADLINE_MS), "flush");
    for (int i = 0; good && i < 20; i++) {
        char text[16];
        natsMsg_Destroy(scene->msg);
        scene->msg = NULL;
        snprintf(text, sizeof text, "request %d", i);
        good = succeed(scene,
                       natsConnection_RequestString(&scene->msg, scene->publisher, "echo", text,
                                                    DEADLINE_MS),
                       "request") &&
               expect_data(scene, natsMsg_GetSubject(scene->msg), text, (int)strlen(text));
    }
    return good;
}

static bool nobody_answers(struct scene *scene)
{
    natsStatus status = natsConnection_RequestString(&scene->msg, scene->publisher, "nobody.here",
                                                     "x", DEADLINE_MS);

    return expect_status(scene, status, NATS_NO_RESPONDERS, "request to nobody");
}

static bool unsubscribe_ends(struct scene *scene)
{
    natsSubscription *limited = subscribe(scene, "u", NULL);
    natsSubscription *ended = subscribe(scene, "u", NULL);
    natsSubscription *kept = subscribe(scene, "u", NULL);
    bool good = limited != NULL && ended != NULL && kept != NULL &&
                succeed(scene, natsSubscription_AutoUnsubscribe(limited, 3), "auto-unsubscribe") &&
                succeed(scene, natsSubscription_Unsubscribe(ended), "unsubscribe") && settle(scene);

    for (int i = 0; good && i < 5; i++) {
        good = publish(scene, "u", "x");
    }
    good = good && settle(scene) && expect_queued(scene, kept, 5);
    for (int i = 0; good && i < 3; i++) {
        good = expect_next(scene, limited, "u", "x");
    }
    return good && expect_status(scene,
                                 natsSubscription_NextMsg(&scene->msg, limited, 0) == NATS_OK
                                     ? NATS_OK
                                     : NATS_MAX_DELIVERED_MSGS,
                                 NATS_MAX_DELIVERED_MSGS, "a fourth message of three");
}

static bool mebibyte_arrives(struct scene *scene)
{
    natsSubscription *sub = subscribe(scene, "large", NULL);
    char *data = malloc(MIB + 1);
    bool good = sub != NULL && data != NULL;

    for (int i = 0; good && i <= MIB; i++) {
        data[i] = (char)(i * 31 % 251);
    }
    for (int i = 0; good && i < 5; i++) {
        good =
            succeed(scene, natsConnection_Publish(scene->publisher, "large", data, MIB), "publish");
    }
    for (int i = 0; good && i < 5; i++) {
        good = next(scene, sub) && expect_data(scene, "large", data, MIB);
    }
    /* One byte more is refused by the client itself, from the server's INFO. */
    good = good &&
           expect_status(scene, natsConnection_Publish(scene->publisher, "large", data, MIB + 1),
                         NATS_MAX_PAYLOAD, "1 MiB and a byte");
    free(data);
    return good && settle(scene) && expect_queued(scene, sub, 0);
}

static bool no_echo_is_kept(struct scene *scene)
{
    natsConnection *silent = NULL;
    natsSubscription *own = NULL;
    natsSubscription *other = subscribe(scene, "quiet", NULL);
    uint64_t queued = 1;
    bool good = other != NULL &&
                succeed(scene, open_connection(scene, &silent, false), "connect") &&
                succeed(scene, natsConnection_SubscribeSync(&own, silent, "quiet"), "subscribe") &&
                succeed(scene, natsConnection_PublishString(silent, "quiet", "x"), "publish") &&
                succeed(scene, natsConnection_FlushTimeout(silent, DEADLINE_MS), "flush") &&
                expect_next(scene, other, "quiet", "x") &&
                succeed(scene, natsSubscription_QueuedMsgs(own, &queued), "queued") &&
                expect_count(scene, (int64_t)queued, 0, "own messages");

    natsSubscription_Destroy(own);
    natsConnection_Destroy(silent);
    return good;
}

enum { DRAIN_COUNT = 500 };

static void on_drained_message(natsConnection *nc, natsSubscription *sub, natsMsg *msg,
                               void *closure)
{
    struct scene *scene = closure;

    (void)nc;
    (void)sub;
    natsMsg_Destroy(msg);
    raise_signal(&scene->signal, &scene->signal.messages);
}

/* The listener's new subscription, with DRAIN_COUNT messages on their way; NULL on a fault. */
static natsSubscription *fill_queue(struct scene *scene)
{
    natsSubscription *sub = NULL;
    natsStatus status =
        natsConnection_Subscribe(&sub, scene->listener, "drain", on_drained_message, scene);

    if (!succeed(scene, status, "subscribe")) {
        return NULL;
    }
    scene->subs[scene->sub_count++] = sub;
    bool good = settle(scene);
    for (int i = 0; good && i < DRAIN_COUNT; i++) {
        good = publish(scene, "drain", "x");
    }
    good =
        good && succeed(scene, natsConnection_FlushTimeout(scene->publisher, DEADLINE_MS), "flush");
    return good ? sub : NULL;
}

/* What was published before the drain is delivered, what comes after it is not. */
static bool drain_loses_nothing(struct scene *scene)
{
    natsSubscription *sub = fill_queue(scene);

    return sub != NULL && succeed(scene, natsSubscription_Drain(sub), "drain") && settle(scene) &&
           publish(scene, "drain", "late") && settle(scene) &&
           succeed(scene, natsSubscription_WaitForDrainCompletion(sub, DEADLINE_MS), "drained") &&
           expect_count(scene, scene->signal.messages, DRAIN_COUNT, "messages");
}

static bool connection_drains_and_closes(struct scene *scene)
{
    return fill_queue(scene) != NULL &&
           succeed(scene, natsConnection_Drain(scene->listener), "drain") &&
           await(scene, &scene->signal.closes, 1, "closed after drain") &&
           expect_count(scene, scene->signal.messages, DRAIN_COUNT, "messages");
}

/* A user who may not publish to "secret" is told so and goes on. */
static bool violation_is_told(struct scene *scene)
{
    natsSubscription *sub = subscribe(scene, ">", NULL);
    const char *text = NULL;

    if (sub == NULL || !publish(scene, "secret", "x") ||
        !await(scene, &scene->signal.errors, 1, "an asynchronous error") ||
        !expect_status(scene, scene->signal.error, NATS_NOT_PERMITTED, "the error")) {
        return false;
    }
    natsConnection_GetLastError(scene->publisher, &text);
    return (strstr(text, "Permissions Violation for Publish to \"secret\"") != NULL ||
            fail(scene, "error text: got %s", text)) &&
           publish(scene, "open", "x") && expect_next(scene, sub, "open", "x");
}

/* A restarted server gets the same subscriptions again. */
static bool restart_is_survived(struct scene *scene)
{
    natsSubscription *sub = subscribe(scene, "again", NULL);

    if (sub == NULL) {
        return false;
    }
    printf("restart\n");
    fflush(stdout);
    return await(scene, &scene->signal.reconnects, 2, "both connections reconnect") &&
           settle(scene) && publish(scene, "again", "x") && expect_next(scene, sub, "again", "x");
}

/* --- harness ---------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    scenario_fn run;
} scenarios[] = {
    {"the server is described in INFO", server_is_described},
    {"bytes arrive unchanged", bytes_arrive_unchanged},
    {"order is kept over 10000 messages", order_is_kept},
    {"wildcards match", wildcards_match},
    {"a queue group shares, others get all", queue_group_shares},
    {"headers arrive", headers_arrive},
    {"a request is answered", request_is_answered},
    {"a request to nobody fails at once", nobody_answers},
    {"unsubscribe and auto-unsubscribe end", unsubscribe_ends},
    {"1 MiB arrives, a byte more is refused", mebibyte_arrives},
    {"no echo is kept", no_echo_is_kept},
    {"a subscription's drain loses nothing", drain_loses_nothing},
    {"a connection drains and closes", connection_drains_and_closes},
};

static void close_scene(struct scene *scene)
{
    natsMsg_Destroy(scene->msg);
    for (int i = 0; i < scene->sub_count; i++) {
        natsSubscription_Destroy(scene->subs[i]);
    }
    natsConnection_Close(scene->publisher);
    natsConnection_Close(scene->listener);
    /* The callbacks use this scene: they are over when every connection has reported. */
    await(scene, &scene->signal.closes, scene->opened, "closed");
    natsConnection_Destroy(scene->publisher);
    natsConnection_Destroy(scene->listener);
}

static bool run_scenario(const struct files *files, const char *way, const char *url,
                         const char *name, scenario_fn run)
{
    struct scene scene = {.files = files, .way = way, .url = url};

    pthread_mutex_init(&scene.signal.lock, NULL);
    pthread_cond_init(&scene.signal.changed, NULL);
    bool good = succeed(&scene, open_connection(&scene, &scene.publisher, true), "connect") &&
                succeed(&scene, open_connection(&scene, &scene.listener, true), "connect") &&
                run(&scene);
    printf("%sok %s: %s%s%s\n", good ? "" : "not ", way, name, good ? "" : ": ",
           good ? "" : scene.fault);
    fflush(stdout);
    close_scene(&scene);
    return good;
}

/* The connection must fail, with `wanted` if that is not NATS_OK. */
static bool run_refusal(const struct files *files, const char *way, const char *url,
                        natsStatus wanted)
{
    struct scene scene = {.files = files, .way = way, .url = url};

    pthread_mutex_init(&scene.signal.lock, NULL);
    pthread_cond_init(&scene.signal.changed, NULL);
    natsStatus got = open_connection(&scene, &scene.publisher, true);
    const bool good = got != NATS_OK && (wanted == NATS_OK || got == wanted);
    printf("%sok %s: the connection is refused (%s)\n", good ? "" : "not ", way,
           natsStatus_GetText(got));
    fflush(stdout);
    close_scene(&scene);
    return good;
}

static void run_way(const struct files *files, const char *way, const char *url, int counts[2])
{
    if (strcmp(way, "restricted") == 0) {
        counts[run_scenario(files, way, url, "a violation is told", violation_is_told)]++;
    } else if (strcmp(way, "restart") == 0) {
        counts[run_scenario(files, way, url, "a restart is survived", restart_is_survived)]++;
    } else if (strcmp(way, "refused") == 0) {
        counts[run_refusal(files, way, url, NATS_CONNECTION_AUTH_FAILED)]++;
    } else if (strcmp(way, "untrusted") == 0) {
        counts[run_refusal(files, way, url, NATS_OK)]++;
    } else {
        for (size_t i = 0; i < sizeof scenarios / sizeof scenarios[0]; i++) {
            counts[run_scenario(files, way, url, scenarios[i].name, scenarios[i].run)]++;
        }
    }
}

int main(int argc, char **argv)
{
    struct files files = {NULL, NULL, NULL};
    int counts[2] = {0, 0}; /* failed, passed */

    for (int i = 1; i < argc; i++) {
        const char **file = strcmp(argv[i], "--ca") == 0     ? &files.ca
                            : strcmp(argv[i], "--cert") == 0 ? &files.cert
                            : strcmp(argv[i], "--key") == 0  ? &files.key
                                                             : NULL;
        char *url = strchr(argv[i], '=');
        if (file != NULL && i + 1 < argc) {
            *file = argv[++i];
        } else if (url != NULL) {
            *url = '\0';
            run_way(&files, argv[i], url + 1, counts);
        } else {
            fprintf(stderr, "usage: nats_c [--ca FILE] [--cert FILE --key FILE] WAY=URL...\n");
            return 2;
        }
    }
    nats_Close();
    printf("%d passed, %d failed\n", counts[1], counts[0]);
    return counts[0] == 0 && counts[1] > 0 ? 0 : 1;
}
