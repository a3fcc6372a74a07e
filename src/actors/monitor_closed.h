/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the monitor keeps of client connections that have ended: the last ones, within bounds of
 * number and memory; the newest stands last. An entry is made by the connection, on its worker, and
 * travels to the monitor as a message; the ring is the monitor's.
 */
#pragma once

#include "base/list.h"
#include "base/msg.h"
#include "base/str.h"
#include "env/env.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct esi_connection_info;

enum { ESI_MONITOR_CLOSED_MAX = 10000 /* as nats-server */ };

struct esi_monitor_closed_entry {
    struct esi_msg msg; /* first */
    struct esi_list link;
    bool is_kept; /* the ring's; else whoever has the message frees it */
    size_t bytes;
    uint64_t cid;
    struct esi_address peer;
    int64_t start_wall_ns;
    uint64_t start_ns; /* these are monotonic */
    uint64_t stop_ns;
    uint64_t last_activity_ns;
    uint64_t rtt_ns;
    uint64_t pending_bytes;
    uint64_t dropped_msgs;
    uint64_t in_msgs;
    uint64_t in_bytes;
    uint64_t out_msgs;
    uint64_t out_bytes;
    uint64_t subscriptions;
    uint32_t worker;
    const char *reason;  /* static */
    uint64_t stalled_ns; /* a slow consumer: since when it had taken nothing; else 0 */
    bool is_slow;
    uint64_t number; /* the ring's: rises by one */
    /* these lie behind the struct, ended by NUL; empty: unknown */
    struct esi_str name;
    struct esi_str lang;
    struct esi_str version;
    struct esi_str user;
    struct esi_str tls_version;
    struct esi_str tls_cipher;
    struct esi_str certificate;
    struct esi_str slow_subject;
};

/* What a slow consumer did not take. */
struct esi_monitor_slow {
    struct esi_str subject; /* of the oldest message that waits whole; empty: it cannot be told */
    uint64_t stalled_ns;
};

struct esi_monitor_closed {
    struct esi_list entries;
    size_t bytes_max;
    uint32_t count;
    size_t bytes;
    uint64_t added; /* since the start */
};

/*
 * An entry, owned by the caller (free), with copies of the strings, each cut to a bound.
 *   reason   static
 *   slow     NULL: it was no slow consumer
 * NULL when memory is exhausted.
 */
struct esi_monitor_closed_entry *
esi_monitor_closed_entry_new(const struct esi_connection_info *info, const char *reason,
                             const struct esi_monitor_slow *slow, uint64_t stop_ns);

/* The bound of bytes is 8 MiB; the owner may lower bytes_max before the first entry. */
void esi_monitor_closed_init(struct esi_monitor_closed *closed);
void esi_monitor_closed_deinit(struct esi_monitor_closed *closed);
/* Keeps an entry, taken; the oldest ones make room. */
void esi_monitor_closed_add(struct esi_monitor_closed *closed,
                            struct esi_monitor_closed_entry *entry);
