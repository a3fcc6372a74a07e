/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reads the command line by two tables: options that are numbers, and the others. */
#include "event_bench/bench_options.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/num.h"
#include "base/own.h"
#include "env/env.h"

static const char help[] =
    "Usage: event-bench SCENARIO [options]\n"
    "\n"
    "Loads a NATS server, checks that every message arrives once and in order, and prints rates,\n"
    "latencies and what a message costs.\n"
    "\n"
    "Scenarios:\n"
    "  pub            M publishers, nobody subscribes, or those of another event-bench do\n"
    "  sub            N subscribers to each of M publishers of another event-bench, which "
    "publishes\n"
    "                 with the same subject, size and number of messages\n"
    "  pub-sub        M publishers on M subjects, N subscribers each (default 1:1)\n"
    "  fan-out        one publisher, N subscribers (default 1:10)\n"
    "  fan-in         M publishers on one subject, each of N subscribers gets all (default 10:1)\n"
    "  queue          the N subscribers of a subject form a queue group (default 1:4)\n"
    "  request-reply  M requesters, N responders each, K requests in flight (default 1:1, 1)\n"
    "  events         M publishers of events, K on their way; the worker service that gets them\n"
    "                 is this program (default 1, 1000; --worker)\n"
    "  connect        connections that come and go, K at a time (default 16)\n"
    "  churn          SUB and UNSUB of new subjects, K at a time (default 100)\n"
    "  idle           N connections (default 1000) with K subscriptions each that say nothing\n"
    "\n"
    "Load:\n"
    "  --messages N        publish N messages in all (default 1000000; request-reply 100000); or\n"
    "                      make N connections, or N SUBs and UNSUBs (default 10000, 1000000)\n"
    "  --duration TIME     publish for that long instead (10s, 500ms)\n"
    "  --warmup TIME       load the server that long before measuring (default 0)\n"
    "  --size BYTES        payload, at least 16, of events 64 (default 128)\n"
    "  --publishers M      publishers or requesters (default 1)\n"
    "  --subscribers N     subscribers or responders of each publisher\n"
    "  --stalled N         so many more, which stop reading (pub-sub, fan-out; default 0)\n"
    "  --subjects K        of each publisher, drawn at random for each message (pub-sub, fan-out,\n"
    "                      queue), or subscriptions of each connection (idle); default 1\n"
    "  --wildcards P       percent of the subjects that are subscribed to by a wildcard (default "
    "0)\n"
    "  --in-flight K       requests or events on their way, a requester or publisher (default 1;\n"
    "                      of events 1000)\n"
    "  --rate R            messages a second in all, open loop: times count from the intended "
    "start\n"
    "  --window BYTES      most bytes on their way, a publisher (default 1MiB)\n"
    "  --sid-mode MODE     same: all subscribers use sid 1 (default); distinct: each its own\n"
    "  --raw               publish what subscribers receive (MSG): for bench-limit relay, 1:1 "
    "only\n"
    "  --check-payload     compare every payload byte, not only head and tail\n"
    "  --threads T         threads of the generator; publishers are spread over them (default 1)\n"
    "  --processes P       processes of the generator, with T threads each (default 1)\n"
    "\n"
    "Server:\n"
    "  --server HOST:PORT  default 127.0.0.1:4222\n"
    "  --subscriber-server HOST:PORT\n"
    "                      of subscribers and responders, where servers are linked\n"
    "  --tls               with --tls-ca FILE; --tls-cert FILE, --tls-key FILE: show this one;\n"
    "                      --tls-name NAME: of the server's certificate; --tls-insecure: believe "
    "all\n"
    "  --user NAME, --password TEXT, --token TEXT\n"
    "                      default: NATS_USER, NATS_PASSWORD, NATS_TOKEN of the environment\n"
    "  --worker HOST:PORT  where event-service finds the worker service for the type of --subject\n"
    "                      (events); this program listens there\n"
    "  --subject PREFIX    default event-bench.RANDOM; the publisher's number follows. Of events "
    "the\n"
    "                      whole subject, default event.bench\n"
    "  --inbox PREFIX      of reply subjects, default _INBOX.RANDOM\n"
    "  --server-pid PID    measure that process too: CPU, context switches, memory; several with\n"
    "                      commas, added up\n"
    "  --timeout TIME      give up after that long without progress (default 5s)\n"
    "\n"
    "Output:\n"
    "  --json FILE         also write everything as JSON; - is standard output, without the text\n"
    "  --csv FILE          also add a line to this file, below a line of headings; - as with "
    "--json\n"
    "  --allow-bottleneck  print figures also when the generator was the bottleneck: rates are "
    "then\n"
    "                      lower bounds, latencies of an open loop upper ones\n"
    "  --progress          show how far it is on standard error: a bar on a terminal, where it is\n"
    "                      the default (else --no-progress), lines otherwise\n"
    "  --help, --version\n"
    "\n"
    "Exit status: 0 good, 1 a failure or a message lost, duplicated, reordered or damaged, 2 "
    "usage,\n"
    "3 no figures because the generator was the bottleneck.\n";

static const char *const scenario_names[] = {
    [BENCH_SUB] = "sub",         [BENCH_PUB] = "pub",
    [BENCH_FAN_IN] = "fan-in",   [BENCH_EVENTS] = "events",
    [BENCH_PUB_SUB] = "pub-sub", [BENCH_FAN_OUT] = "fan-out",
    [BENCH_QUEUE] = "queue",     [BENCH_REQUEST_REPLY] = "request-reply",
    [BENCH_CONNECT] = "connect", [BENCH_CHURN] = "churn",
    [BENCH_IDLE] = "idle",
};
_Static_assert(ESI_COUNT_OF(scenario_names) == BENCH_SCENARIO_COUNT, "a scenario has no name");

const char *esi_bench_options_scenario_name(enum esi_bench_scenario scenario)
{
    return scenario_names[scenario];
}

struct unit {
    const char *name;
    uint64_t factor;
};

static const struct unit times[] = {
    {"us", 1000}, {"ms", 1000000}, {"s", 1000000000}, {"m", UINT64_C(60000000000)}, {NULL, 0}};
static const struct unit sizes[] = {{"", 1},       {"B", 1},         {"k", 1024},    {"K", 1024},
                                    {"KiB", 1024}, {"MiB", 1 << 20}, {"M", 1 << 20}, {NULL, 0}};
static const struct unit counts[] = {{"", 1}, {"k", 1000}, {"K", 1000}, {"M", 1000000}, {NULL, 0}};

/* What takes a number: where it goes, and what is allowed. */
struct number_option {
    const char *name;
    size_t offset; /* of a uint64_t in struct esi_bench_options */
    const struct unit *units;
    uint64_t least;
    uint64_t most;
    const char *allowed;
};

#define NUMBER(name, field, ...)                                                                   \
    {                                                                                              \
        name, offsetof(struct esi_bench_options, field), __VA_ARGS__                               \
    }
static const uint64_t time_max = UINT64_MAX / 4;
static const struct number_option number_options[] = {
    NUMBER("messages", messages, counts, 1, UINT64_C(1) << 40, "1 or more; k or M may follow"),
    NUMBER("duration", duration_ns, times, 1, time_max, "a whole number with us, ms, s or m"),
    NUMBER("warmup", warmup_ns, times, 0, time_max, "a whole number with us, ms, s or m"),
    NUMBER("timeout", timeout_ns, times, 1000000, time_max, "1ms or more, with ms, s or m"),
    NUMBER("size", size_bytes, sizes, BENCH_SIZE_MIN, BENCH_SIZE_MAX,
           "16 to 64MiB; KiB or MiB may follow"),
    NUMBER("window", window_bytes, sizes, 1, 1 << 30, "1 to 1024MiB; KiB or MiB may follow"),
    NUMBER("rate", rate, counts, 1, 1000000000, "messages a second; k or M may follow"),
    NUMBER("publishers", publishers, counts, 1, BENCH_PUBLISHERS_MAX, "1 to 65535"),
    NUMBER("subscribers", subscribers, counts, 1, BENCH_CLIENTS_MAX, "1 to 100000"),
    NUMBER("stalled", stalled, counts, 0, 10000, "0 to 10000"),
    NUMBER("subjects", subjects, counts, 1, BENCH_SUBJECTS_MAX, "1 to 9999999; k or M may follow"),
    NUMBER("wildcards", wildcards, counts, 0, 100, "0 to 100, percent"),
    NUMBER("in-flight", in_flight, counts, 1, 1000000, "1 to 1000000"),
    NUMBER("threads", threads, counts, 1, BENCH_THREADS_MAX, "1 to 256"),
    NUMBER("processes", processes, counts, 1, BENCH_PROCESSES_MAX, "1 to 64"),
};

enum option_id {
    OPTION_NUMBER = 256, /* the first of number_options; the others follow */
    OPTION_SERVER = OPTION_NUMBER + ESI_COUNT_OF(number_options),
    OPTION_SUBSCRIBER_SERVER,
    OPTION_SERVER_PID,
    OPTION_WORKER,
    OPTION_TLS,
    OPTION_TLS_CA,
    OPTION_TLS_CERT,
    OPTION_TLS_KEY,
    OPTION_TLS_NAME,
    OPTION_TLS_INSECURE,
    OPTION_USER,
    OPTION_PASSWORD,
    OPTION_TOKEN,
    OPTION_SUBJECT,
    OPTION_INBOX,
    OPTION_SID_MODE,
    OPTION_CHECK_PAYLOAD,
    OPTION_RAW,
    OPTION_JSON,
    OPTION_CSV,
    OPTION_ALLOW_BOTTLENECK,
    OPTION_PROGRESS,
    OPTION_NO_PROGRESS,
    OPTION_HELP,
    OPTION_VERSION
};

static const struct option text_options[] = {
    {"server", required_argument, NULL, OPTION_SERVER},
    {"subscriber-server", required_argument, NULL, OPTION_SUBSCRIBER_SERVER},
    {"server-pid", required_argument, NULL, OPTION_SERVER_PID},
    {"worker", required_argument, NULL, OPTION_WORKER},
    {"tls", no_argument, NULL, OPTION_TLS},
    {"tls-ca", required_argument, NULL, OPTION_TLS_CA},
    {"tls-cert", required_argument, NULL, OPTION_TLS_CERT},
    {"tls-key", required_argument, NULL, OPTION_TLS_KEY},
    {"tls-name", required_argument, NULL, OPTION_TLS_NAME},
    {"tls-insecure", no_argument, NULL, OPTION_TLS_INSECURE},
    {"user", required_argument, NULL, OPTION_USER},
    {"password", required_argument, NULL, OPTION_PASSWORD},
    {"token", required_argument, NULL, OPTION_TOKEN},
    {"subject", required_argument, NULL, OPTION_SUBJECT},
    {"inbox", required_argument, NULL, OPTION_INBOX},
    {"sid-mode", required_argument, NULL, OPTION_SID_MODE},
    {"raw", no_argument, NULL, OPTION_RAW},
    {"check-payload", no_argument, NULL, OPTION_CHECK_PAYLOAD},
    {"json", required_argument, NULL, OPTION_JSON},
    {"csv", required_argument, NULL, OPTION_CSV},
    {"allow-bottleneck", no_argument, NULL, OPTION_ALLOW_BOTTLENECK},
    {"progress", no_argument, NULL, OPTION_PROGRESS},
    {"no-progress", no_argument, NULL, OPTION_NO_PROGRESS},
    {"help", no_argument, NULL, OPTION_HELP},
    {"version", no_argument, NULL, OPTION_VERSION},
};

static bool fail(const char *option, const char *value, const char *allowed)
{
    fprintf(stderr, "event-bench: --%s: \"%s\" is not allowed: %s\n", option, value, allowed);
    return false;
}

/* A whole number with a unit from the table, within least..most. */
static bool read_number(const char *text, const struct unit *units, uint64_t least, uint64_t most,
                        uint64_t *out)
{
    const size_t digits = strspn(text, "0123456789");
    uint64_t value;

    if (!esi_num_parse(text, digits, 18, &value)) {
        return false;
    }
    for (; units->name != NULL; units++) {
        if (strcmp(text + digits, units->name) == 0) {
            uint64_t product;
            if (__builtin_mul_overflow(value, units->factor, &product) || product < least ||
                product > most) {
                return false;
            }
            *out = product;
            return true;
        }
    }
    return false;
}

static bool set_number(size_t index, const char *value, struct esi_bench_options *options)
{
    const struct number_option *row = &number_options[index];
    uint64_t *field = (uint64_t *)(void *)((char *)options + row->offset);

    return read_number(value, row->units, row->least, row->most, field) ||
           fail(row->name, value, row->allowed);
}

/* HOST:PORT, [V6]:PORT or HOST, with or without nats://. */
static bool read_server(const char *text, struct esi_bench_address *out)
{
    static const char scheme[] = "nats://";
    if (strncmp(text, scheme, sizeof scheme - 1) == 0) {
        text += sizeof scheme - 1;
    }
    const bool is_bracketed = text[0] == '[';
    const char *host = is_bracketed ? text + 1 : text;
    const char *host_end = strchr(host, is_bracketed ? ']' : ':');
    const char *rest = NULL;
    uint64_t port = 4222;
    if (host_end == NULL) {
        if (is_bracketed) {
            return false;
        }
        host_end = host + strlen(host);
        rest = host_end;
    } else {
        rest = is_bracketed ? host_end + 1 : host_end;
    }
    const size_t len = (size_t)(host_end - host);
    if (len == 0 || len >= sizeof out->host || (*rest != '\0' && *rest != ':') ||
        (*rest == ':' && !read_number(rest + 1, counts, 1, UINT16_MAX, &port))) {
        return false;
    }
    memcpy(out->host, host, len);
    out->host[len] = '\0';
    out->port = (uint16_t)port;
    return true;
}

/* Process ids, with commas between. */
static bool read_pids(const char *text, struct esi_bench_options *options)
{
    options->server_pid_count = 0;
    while (options->server_pid_count < BENCH_SERVER_PIDS_MAX) {
        const size_t digits = strspn(text, "0123456789");
        uint64_t pid;
        if (!esi_num_parse(text, digits, 10, &pid) || pid == 0 || pid > INT32_MAX) {
            return false;
        }
        options->server_pids[options->server_pid_count++] = pid;
        if (text[digits] != ',') {
            return text[digits] == '\0';
        }
        text += digits + 1;
    }
    return false;
}

/* Any of them asks for TLS. */
static void set_tls(int id, const char *value, struct esi_bench_tls *tls)
{
    tls->is_on = true;
    switch (id) {
    case OPTION_TLS_CA:
        tls->ca_path = value;
        break;
    case OPTION_TLS_CERT:
        tls->cert_path = value;
        break;
    case OPTION_TLS_KEY:
        tls->key_path = value;
        break;
    case OPTION_TLS_NAME:
        tls->name = value;
        break;
    case OPTION_TLS_INSECURE:
        tls->is_insecure = true;
        break;
    default:
        break;
    }
}

/* A prefix of literal tokens: it goes into control lines as it is. */
static bool read_prefix(const char *text, char *out, size_t capacity)
{
    const size_t len = strlen(text);

    if (len == 0 || len >= capacity || strpbrk(text, " \t\r\n*>") != NULL || text[0] == '.' ||
        text[len - 1] == '.' || strstr(text, "..") != NULL) {
        return false;
    }
    memcpy(out, text, len + 1);
    return true;
}

static bool set_text(int id, const char *value, struct esi_bench_options *options)
{
    switch (id) {
    case OPTION_SERVER:
        return read_server(value, &options->server) || fail("server", value, "HOST:PORT");
    case OPTION_SUBSCRIBER_SERVER:
        return read_server(value, &options->subscriber_server) ||
               fail("subscriber-server", value, "HOST:PORT");
    case OPTION_SERVER_PID:
        return read_pids(value, options) ||
               fail("server-pid", value, "a process id, or several with commas, at most 8");
    case OPTION_WORKER:
        return read_server(value, &options->worker) || fail("worker", value, "HOST:PORT");
    case OPTION_TLS:
    case OPTION_TLS_CA:
    case OPTION_TLS_CERT:
    case OPTION_TLS_KEY:
    case OPTION_TLS_NAME:
    case OPTION_TLS_INSECURE:
        set_tls(id, value, &options->tls);
        return true;
    case OPTION_SUBJECT:
        return read_prefix(value, options->subject, sizeof options->subject) ||
               fail("subject", value, "literal tokens, at most 63 bytes");
    case OPTION_INBOX:
        return read_prefix(value, options->inbox, sizeof options->inbox) ||
               fail("inbox", value, "literal tokens, at most 63 bytes");
    case OPTION_SID_MODE:
        options->is_sid_distinct = strcmp(value, "distinct") == 0;
        return options->is_sid_distinct || strcmp(value, "same") == 0 ||
               fail("sid-mode", value, "same or distinct");
    case OPTION_USER:
        options->user = value;
        return true;
    case OPTION_PASSWORD:
        options->password = value;
        return true;
    case OPTION_TOKEN:
        options->token = value;
        return true;
    case OPTION_JSON:
        options->json_path = value;
        return true;
    case OPTION_CSV:
        options->csv_path = value;
        return true;
    case OPTION_ALLOW_BOTTLENECK:
        options->allow_bottleneck = true;
        return true;
    case OPTION_RAW:
        options->is_raw = true;
        return true;
    case OPTION_CHECK_PAYLOAD:
        options->check_payload = true;
        return true;
    case OPTION_PROGRESS:
    case OPTION_NO_PROGRESS:
        options->show_progress = id == OPTION_PROGRESS;
        return true;
    default: /* getopt has said what is wrong */
        fputs("event-bench: --help shows all scenarios and options\n", stderr);
        return false;
    }
}

/* Eight characters that another run on the same server will not have. */
static void make_random_name(struct esi_env *env, char *out)
{
    static const char alphabet[] = "0123456789abcdefghijklmnopqrstuv";
    unsigned char bytes[8];

    esi_env_random(env, bytes, sizeof bytes);
    for (size_t i = 0; i < sizeof bytes; i++) {
        out[i] = alphabet[bytes[i] % 32];
    }
    out[sizeof bytes] = '\0';
}

static void set_defaults(struct esi_env *env, struct esi_bench_options *options)
{
    char name[9];

    *options = (struct esi_bench_options){
        .server = {.host = "127.0.0.1", .port = 4222},
        .user = getenv("NATS_USER"),
        .password = getenv("NATS_PASSWORD"),
        .token = getenv("NATS_TOKEN"),
        .timeout_ns = UINT64_C(5000000000),
        .subjects = 1,
        .threads = 1,
        .processes = 1,
        .show_progress = isatty(STDERR_FILENO) == 1,
    };
    make_random_name(env, name);
    snprintf(options->inbox, sizeof options->inbox, "_INBOX.%s", name);
}

static bool say(const char *what)
{
    fprintf(stderr, "event-bench: %s\n", what);
    return false;
}

static bool check_events(const struct esi_bench_options *options)
{
    if (options->worker.host[0] == '\0') {
        return say("events need --worker HOST:PORT: where event-service calls the worker service");
    }
    if (options->size_bytes < BENCH_EVENT_SIZE_MIN || options->size_bytes > 1 << 20) {
        return say("--size of events: 64 to 1MiB");
    }
    return (options->subscriber_server.host[0] == '\0' && !options->check_payload) ||
           say("--subscriber-server and --check-payload are not for events");
}

/* What a scenario has no use for is refused: a run with it would look like another one than it is.
 * Before the defaults, so that 0 is what has not been given. */
static bool check_given(const struct esi_bench_options *options)
{
    const enum esi_bench_scenario scenario = options->scenario;
    const bool has_groups = esi_bench_options_has_groups(scenario);

    if (!has_groups && (options->publishers | options->rate | options->size_bytes) != 0) {
        return say("--publishers, --rate and --size are for scenarios with messages");
    }
    if (options->window_bytes != 0 &&
        (!has_groups || scenario == BENCH_REQUEST_REPLY || scenario == BENCH_EVENTS)) {
        return say("--window is for scenarios with messages and without --in-flight");
    }
    if (options->in_flight != 0 && !esi_bench_options_has_in_flight(scenario)) {
        return say("--in-flight is for request-reply, events, connect and churn");
    }
    if (options->subscribers != 0 && (scenario == BENCH_PUB || scenario == BENCH_EVENTS ||
                                      scenario == BENCH_CONNECT || scenario == BENCH_CHURN)) {
        return say("--subscribers is not for pub, events, connect and churn");
    }
    if (options->messages != 0 && scenario == BENCH_IDLE) {
        return say("idle knows only --duration: nothing happens in it that could be counted");
    }
    return options->subscriber_server.host[0] == '\0' ||
           (has_groups && scenario != BENCH_PUB && scenario != BENCH_SUB) ||
           say("--subscriber-server is for publishers and subscribers in one program");
}

static bool check_scenario_options(const struct esi_bench_options *options)
{
    const bool is_plain = options->scenario == BENCH_PUB_SUB || options->scenario == BENCH_FAN_OUT;

    if (options->subjects > 1 && !is_plain && options->scenario != BENCH_QUEUE &&
        options->scenario != BENCH_IDLE) {
        return say("--subjects is for pub-sub, fan-out, queue and idle");
    }
    if (options->stalled > 0 && !is_plain) {
        return say("--stalled is for pub-sub and fan-out");
    }
    if (options->scenario == BENCH_EVENTS && !check_events(options)) {
        return false;
    }
    if (options->is_sid_distinct && options->subjects > 1) {
        return say("with --subjects every subscription has a sid of its own: leave --sid-mode out");
    }
    if (options->is_raw &&
        (options->scenario != BENCH_PUB_SUB || options->publishers != 1 ||
         options->subscribers != 1 || options->subjects != 1 || options->is_sid_distinct)) {
        return say("--raw is for pub-sub 1:1");
    }
    if (options->wildcards > 0 && options->subjects == 1) {
        return say("--wildcards is a share of --subjects, which must be more than 1");
    }
    return true;
}

static bool check_tls(const struct esi_bench_tls *tls)
{
    if (tls->is_on && (tls->ca_path == NULL) == !tls->is_insecure) {
        return say("TLS needs --tls-ca FILE, or else --tls-insecure");
    }
    return (tls->cert_path == NULL) == (tls->key_path == NULL) ||
           say("give --tls-cert and --tls-key together");
}

static uint64_t count_connections(const struct esi_bench_options *options)
{
    switch (options->scenario) {
    case BENCH_PUB:
    case BENCH_EVENTS:
        return options->publishers;
    case BENCH_SUB:
        return options->publishers * options->subscribers;
    case BENCH_FAN_IN:
        return options->publishers + options->subscribers;
    case BENCH_IDLE:
        return options->subscribers;
    case BENCH_PUB_SUB:
    case BENCH_FAN_OUT:
    case BENCH_QUEUE:
    case BENCH_REQUEST_REPLY:
        return options->publishers * (options->subscribers + options->stalled + 1);
    case BENCH_CONNECT:
    case BENCH_CHURN:
    case BENCH_SCENARIO_COUNT:
        break;
    }
    return 0;
}

/* A publisher and its subscribers share a thread: there are not more of these than publishers. */
static bool finish_threads(struct esi_bench_options *options)
{
    if (options->scenario == BENCH_FAN_IN || options->scenario == BENCH_EVENTS) {
        /* Who receives has to do with every publisher. */
        options->threads = 1;
        options->processes = 1;
    } else if (esi_bench_options_has_groups(options->scenario)) {
        const uint64_t publishers = options->publishers;
        if (options->processes > publishers) {
            options->processes = publishers;
        }
        const uint64_t most = (publishers + options->processes - 1) / options->processes;
        options->threads = options->threads < most ? options->threads : most;
    }
    return options->processes * options->threads <= BENCH_THREADS_MAX ||
           say("more than 256 threads in all");
}

/* The last word: what depends on several options. */
static bool finish(struct esi_env *env, struct esi_bench_options *options)
{
    /* What each scenario begins with when nothing else is said. */
    static const struct {
        uint64_t messages;
        uint64_t subscribers;
        uint64_t in_flight;
    } defaults[BENCH_SCENARIO_COUNT] = {
        [BENCH_PUB_SUB] = {1000000, 1, 1},  [BENCH_FAN_OUT] = {1000000, 10, 1},
        [BENCH_QUEUE] = {1000000, 4, 1},    [BENCH_REQUEST_REPLY] = {100000, 1, 1},
        [BENCH_CONNECT] = {10000, 1, 16},   [BENCH_CHURN] = {1000000, 1, 100},
        [BENCH_IDLE] = {0, 1000, 1},        [BENCH_PUB] = {1000000, 1, 1},
        [BENCH_SUB] = {1000000, 1, 1},      [BENCH_FAN_IN] = {1000000, 1, 1},
        [BENCH_EVENTS] = {100000, 1, 1000},
    };

    if (options->messages != 0 && options->duration_ns != 0) {
        return say("give --messages or --duration, not both");
    }
    if (options->scenario == BENCH_SUB && (options->duration_ns != 0 || options->warmup_ns != 0 ||
                                           options->rate != 0 || options->subject[0] == '\0')) {
        return say("sub needs --subject, and knows neither --duration, --warmup nor --rate");
    }
    if (!check_given(options)) {
        return false;
    }
    options->size_bytes = options->size_bytes != 0 ? options->size_bytes : 128;
    options->window_bytes = options->window_bytes != 0 ? options->window_bytes : 1 << 20;
    if (options->publishers == 0) {
        options->publishers = options->scenario == BENCH_FAN_IN ? 10 : 1;
    }
    if (options->subject[0] == '\0') {
        char name[9];
        make_random_name(env, name);
        snprintf(options->subject, sizeof options->subject, "%s%s",
                 options->scenario == BENCH_EVENTS ? "event.bench" : "event-bench.",
                 options->scenario == BENCH_EVENTS ? "" : name);
    }
    if (options->scenario == BENCH_IDLE && options->duration_ns == 0) {
        options->messages = 0;
        options->duration_ns = UINT64_C(5000000000);
    }
    if (options->messages == 0 && options->duration_ns == 0) {
        options->messages = defaults[options->scenario].messages;
    }
    if (options->subscribers == 0) {
        options->subscribers = defaults[options->scenario].subscribers;
    }
    if (options->in_flight == 0) {
        options->in_flight = defaults[options->scenario].in_flight;
    }
    if (count_connections(options) > BENCH_CLIENTS_MAX) {
        return say("more than 100000 connections in all");
    }
    if (options->messages != 0 && options->messages < options->publishers) {
        return say("fewer messages than publishers");
    }
    if (!check_scenario_options(options) || !check_tls(&options->tls)) {
        return false;
    }
    return finish_threads(options);
}

static bool read_scenario(const char *text, struct esi_bench_options *options)
{
    for (size_t i = 0; i < BENCH_SCENARIO_COUNT; i++) {
        if (strcmp(text, scenario_names[i]) == 0) {
            options->scenario = (enum esi_bench_scenario)i;
            return true;
        }
    }
    fprintf(stderr, "event-bench: \"%s\" is no scenario: --help shows all\n", text);
    return false;
}

enum esi_bench_parsed esi_bench_options_parse(struct esi_env *env, int argc, char **argv,
                                              struct esi_bench_options *options)
{
    struct option all[ESI_COUNT_OF(number_options) + ESI_COUNT_OF(text_options) + 1] = {0};
    int id;

    for (size_t i = 0; i < ESI_COUNT_OF(number_options); i++) {
        all[i] = (struct option){.name = number_options[i].name,
                                 .has_arg = required_argument,
                                 .val = OPTION_NUMBER + (int)i};
    }
    memcpy(all + ESI_COUNT_OF(number_options), text_options, sizeof text_options);
    set_defaults(env, options);
    while ((id = getopt_long(argc, argv, "", all, NULL)) != -1) {
        if (id == OPTION_HELP) {
            fputs(help, stdout);
            return BENCH_PARSED_EXIT;
        }
        if (id == OPTION_VERSION) {
            puts("event-bench " ESI_BENCH_VERSION);
            return BENCH_PARSED_EXIT;
        }
        const bool is_good = id >= OPTION_NUMBER && id < (int)OPTION_SERVER
                                 ? set_number((size_t)id - OPTION_NUMBER, optarg, options)
                                 : set_text(id, optarg, options);
        if (!is_good) {
            return BENCH_PARSED_USAGE;
        }
    }
    if (optind + 1 != argc) {
        fputs("event-bench: give one scenario (--help shows all)\n", stderr);
        return BENCH_PARSED_USAGE;
    }
    return read_scenario(argv[optind], options) && finish(env, options) ? BENCH_PARSED_RUN
                                                                        : BENCH_PARSED_USAGE;
}
