/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * When a delivery is tried again, and when it is given up. Pure functions.
 *
 * An outcome falls into a class; the class says whether the event itself may be at fault. Only such
 * failures count against attempts_max: while a worker is down, overloaded or refuses our
 * certificate, its events wait in the queue (whose share then fills and tells publishers) and do
 * not drain into the dead letters.
 *
 * A worker that is lost with calls under way may have died of one of them, or for reasons of its
 * own. Such a loss counts only against an event that was with it alone. After RETRY_LOSSES_MAX
 * losses with others an event is therefore called alone: one that kills its worker ends in the dead
 * letters, and those that stood beside it are delivered.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum esi_retry_class {
    RETRY_DELIVERED,    /* the worker has it */
    RETRY_LATER,        /* the worker failed on it: try again, up to attempts_max */
    RETRY_POISON,       /* the worker will never take it: to the dead letters at once */
    RETRY_OVERLOADED,   /* the worker is up and wants less: try again, send fewer at once */
    RETRY_UNREACHABLE,  /* the worker did not get it: no connection, no TLS */
    RETRY_LOST,         /* the connection was lost before the answer, with other calls under way */
    RETRY_CRASHED,      /* the same, and this was the only call: the event may kill the worker */
    RETRY_UNAUTHORIZED, /* the worker refuses us: an operator must act; try again at the slowest
                           pace */
    RETRY_UNIMPLEMENTED /* the worker lacks the call: try the older name, then as RETRY_UNAUTHORIZED
                         */
};

/* gRPC's status codes, by their numbers on the wire. */
enum esi_retry_grpc_status {
    RETRY_GRPC_OK = 0,
    RETRY_GRPC_CANCELLED = 1,
    RETRY_GRPC_UNKNOWN = 2,
    RETRY_GRPC_INVALID_ARGUMENT = 3,
    RETRY_GRPC_DEADLINE_EXCEEDED = 4,
    RETRY_GRPC_NOT_FOUND = 5,
    RETRY_GRPC_ALREADY_EXISTS = 6,
    RETRY_GRPC_PERMISSION_DENIED = 7,
    RETRY_GRPC_RESOURCE_EXHAUSTED = 8,
    RETRY_GRPC_FAILED_PRECONDITION = 9,
    RETRY_GRPC_ABORTED = 10,
    RETRY_GRPC_OUT_OF_RANGE = 11,
    RETRY_GRPC_UNIMPLEMENTED = 12,
    RETRY_GRPC_INTERNAL = 13,
    RETRY_GRPC_UNAVAILABLE = 14,
    RETRY_GRPC_DATA_LOSS = 15,
    RETRY_GRPC_UNAUTHENTICATED = 16
};

/* Whom a failure is laid to. */
enum esi_retry_blame {
    RETRY_BLAME_WORKER, /* it does not count against attempts_max */
    RETRY_BLAME_OPEN,   /* nor does this, but it is counted too */
    RETRY_BLAME_EVENT   /* it counts */
};

enum { RETRY_LOSSES_MAX = 2 /* with others; then the event is called alone */ };

struct esi_retry_policy {
    uint64_t delay_ns;     /* the ceiling of the first delay */
    uint64_t delay_max_ns; /* the ceiling of all delays */
    uint32_t attempts_max; /* counted attempts before giving up; 0: never give up */
};

enum esi_retry_verdict {
    RETRY_VERDICT_DONE,   /* delivered */
    RETRY_VERDICT_AGAIN,  /* after the delay */
    RETRY_VERDICT_GIVE_UP /* to the dead letters */
};

struct esi_retry_outcome {
    enum esi_retry_class failure;
    uint32_t attempts; /* made so far, this one included */
    uint32_t counted;  /* of these, failures that count against attempts_max, this one included */
};

/*
 * The class of a worker's answer.
 *   status    as received; codes that gRPC does not name count as UNKNOWN
 *   success   EventResponse.Success; looked at for status OK only
 */
enum esi_retry_class esi_retry_classify(uint32_t status, bool success);

/* Whom a failure of this class is laid to. */
enum esi_retry_blame esi_retry_blame(enum esi_retry_class failure);

/*
 * What follows an attempt.
 *   random     64 unpredictable bits, for the jitter
 *   delay_ns   written for RETRY_VERDICT_AGAIN: from now
 */
enum esi_retry_verdict esi_retry_decide(const struct esi_retry_policy *policy,
                                        struct esi_retry_outcome outcome, uint64_t random,
                                        uint64_t *delay_ns);

/*
 * The delay before attempt number attempts + 1: full jitter, that is evenly between 0 and
 * min(delay_max, delay * 2^(attempts - 1)), so that many that failed together do not come back
 * together.
 *   attempts   made so far, at least 1
 */
uint64_t esi_retry_delay_ns(const struct esi_retry_policy *policy, uint32_t attempts,
                            uint64_t random);
