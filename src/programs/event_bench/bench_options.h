/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The command line of event-bench: one struct, filled and checked once, read by everybody
 * afterwards. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct esi_env;

enum esi_bench_scenario {
    BENCH_PUB,           /* M publishers, nobody subscribes */
    BENCH_SUB,           /* N subscribers to each of M publishers of another event-bench */
    BENCH_PUB_SUB,       /* M publishers on M subjects, N subscribers a subject */
    BENCH_FAN_OUT,       /* the same with one publisher and 10 subscribers by default */
    BENCH_FAN_IN,        /* M publishers on one subject, each of N subscribers gets all of it */
    BENCH_QUEUE,         /* the N subscribers of a subject form one queue group */
    BENCH_EVENTS,        /* M publishers of events, which come back to a worker service of ours */
    BENCH_REQUEST_REPLY, /* M requesters, N responders a subject, K requests in flight */
    BENCH_CONNECT,       /* connections, K at a time */
    BENCH_CHURN,         /* SUB and UNSUB of K subjects at a time */
    BENCH_IDLE,          /* N connections that say nothing */
    BENCH_SCENARIO_COUNT
};

enum {
    BENCH_SIZE_MIN = 16,               /* publisher, sequence number and send time */
    BENCH_EVENT_SIZE_MIN = 64,         /* the same in hexadecimal digits, in an event */
    BENCH_SIZE_MAX = 64 * 1024 * 1024, /* the largest max_payload that nats-server allows */
    BENCH_PUBLISHERS_MAX = 65535,      /* the payload has 16 bits for it */
    BENCH_CLIENTS_MAX = 100000,
    BENCH_SUBJECTS_MAX = 9999999, /* the number is seven digits of the subject */
    BENCH_SERVER_PIDS_MAX = 8,
    BENCH_THREADS_MAX = 256, /* of all processes */
    BENCH_PROCESSES_MAX = 64
};

struct esi_bench_address {
    char host[256]; /* name or numeric address */
    uint16_t port;
};

/* Paths and name are borrowed from argv. */
struct esi_bench_tls {
    bool is_on;
    bool is_insecure;
    const char *ca_path;
    const char *cert_path; /* with its key: for servers that ask for one */
    const char *key_path;
    const char *name; /* what the server's certificate must be made out to; NULL: the host */
};

struct esi_bench_options {
    enum esi_bench_scenario scenario;
    struct esi_bench_address server;
    struct esi_bench_address subscriber_server; /* of the subscribers; host "": the same */
    const char *user; /* credentials are borrowed from argv or the process's environment */
    const char *password;
    const char *token;
    uint64_t messages;    /* published in all, after the warm-up; 0: by duration */
    uint64_t duration_ns; /* 0: by messages */
    uint64_t warmup_ns;
    uint64_t timeout_ns;   /* without any progress so long, the run has failed */
    uint64_t rate;         /* messages a second in all; 0: as fast as it goes */
    uint64_t size_bytes;   /* payload */
    uint64_t window_bytes; /* most bytes on their way, a publisher */
    uint64_t publishers;
    uint64_t subscribers; /* a publisher */
    uint64_t stalled;     /* more subscribers of each publisher, which never read */
    uint64_t subjects;    /* a publisher; drawn at random for each message */
    uint64_t wildcards;   /* percent of the subjects that are subscribed to by a wildcard */
    uint64_t in_flight;
    uint64_t threads; /* of each process */
    uint64_t processes;
    uint64_t server_pids[BENCH_SERVER_PIDS_MAX];
    size_t server_pid_count; /* 0: not known */
    bool is_sid_distinct;    /* every subscriber has a sid of its own, else all have sid 1 */
    bool is_raw;             /* publish MSG lines: for a server that only passes bytes on */
    bool allow_bottleneck;   /* print figures also where the generator was what limited them */
    bool check_payload;      /* compare every byte, not only head and tail */
    bool show_progress;
    char subject[64]; /* prefix; the publisher's number follows */
    char inbox[64];   /* prefix of reply subjects */
    struct esi_bench_tls tls;
    struct esi_bench_address worker; /* of events: where the worker service is to listen */
    const char *json_path;           /* NULL: no JSON; "-": standard output */
    const char *csv_path;            /* the same */
};

enum esi_bench_parsed { BENCH_PARSED_RUN, BENCH_PARSED_EXIT, BENCH_PARSED_USAGE };

/*
 * Reads argv. Prints help or version to standard output, what is wrong to standard error.
 * Returns BENCH_PARSED_RUN with *options filled; BENCH_PARSED_EXIT (status 0) after help or
 * version; BENCH_PARSED_USAGE (status 2) after a fault. Thread: main, before others start.
 */
enum esi_bench_parsed esi_bench_options_parse(struct esi_env *env, int argc, char **argv,
                                              struct esi_bench_options *options);

/* Whether publishers and what comes of their messages are what the scenario is about. */
static inline bool esi_bench_options_has_groups(enum esi_bench_scenario scenario)
{
    return scenario <= BENCH_REQUEST_REPLY;
}

/* Whether a number of requests, events, connections or subjects is on its way at a time. */
static inline bool esi_bench_options_has_in_flight(enum esi_bench_scenario scenario)
{
    return scenario == BENCH_REQUEST_REPLY || scenario == BENCH_EVENTS ||
           scenario == BENCH_CONNECT || scenario == BENCH_CHURN;
}

/* Whether every subscriber gets the messages of all publishers. */
static inline bool esi_bench_options_is_fan_in(enum esi_bench_scenario scenario)
{
    return scenario == BENCH_FAN_IN;
}

/* The scenario's name on the command line, a literal. */
const char *esi_bench_options_scenario_name(enum esi_bench_scenario scenario);
