/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Unary gRPC over one HTTP/2 connection: what its two sides, grpc_client.h and grpc_server.h, have
 * in common.
 *
 * Both are bytes in and bytes out, without sockets or a clock: the time comes with each call, in
 * nanoseconds of any clock that never goes back. Use: feed what was read; poll next until it says
 * no; make or answer calls; take the output and write it; call tick when deadline says so. Nothing
 * is called back.
 *
 * Memory of one connection, beyond that of http2.h: for each call in flight 64 KiB, which its peer
 * may send unasked; inbound_bytes_max for longer messages, shared: a message is let in as a whole
 * when its length fits there, in order of arrival, so that halves of many never block each other;
 * bounded texts (GRPC_STATUS_TEXT_MAX) and metadata (the header list bound). Messages are not
 * compressed, and a compressed one is refused.
 */
#pragma once

#include "base/str.h"

#include <stdbool.h>

enum { GRPC_STATUS_TEXT_MAX = 256, GRPC_PATH_MAX = 512, GRPC_CALLS_MAX = 65535 };

/* The status codes of gRPC; the numbers are the wire's. */
enum esi_grpc_status {
    GRPC_OK = 0,
    GRPC_CANCELLED = 1,
    GRPC_UNKNOWN = 2,
    GRPC_INVALID_ARGUMENT = 3,
    GRPC_DEADLINE_EXCEEDED = 4,
    GRPC_NOT_FOUND = 5,
    GRPC_ALREADY_EXISTS = 6,
    GRPC_PERMISSION_DENIED = 7,
    GRPC_RESOURCE_EXHAUSTED = 8,
    GRPC_FAILED_PRECONDITION = 9,
    GRPC_ABORTED = 10,
    GRPC_OUT_OF_RANGE = 11,
    GRPC_UNIMPLEMENTED = 12,
    GRPC_INTERNAL = 13,
    GRPC_UNAVAILABLE = 14,
    GRPC_DATA_LOSS = 15,
    GRPC_UNAUTHENTICATED = 16
};

/* The code's name, as "DEADLINE_EXCEEDED"; never NULL. Thread: any. */
const char *esi_grpc_status_name(enum esi_grpc_status status);

/* A metadata header. Names are lower case; values visible ASCII and spaces. */
struct esi_grpc_metadata {
    struct esi_str name;
    struct esi_str value;
    bool is_secret; /* a token: kept out of compression tables */
};
