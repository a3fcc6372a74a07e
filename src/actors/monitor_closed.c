/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One allocation an entry: the struct and its strings. */
#include "actors/monitor_closed.h"
#include "actors/connection.h"
#include "base/assert.h"
#include "base/own.h"
#include "net/certificate.h"

#include <stdlib.h>
#include <string.h>

enum {
    TEXT_BYTES_MAX = 256, /* of a string; peers choose some of them */
    BYTES_MAX = 8 * 1024 * 1024
};

static struct esi_str cut(struct esi_str text)
{
    return (struct esi_str){.data = text.data,
                            .len = text.len < TEXT_BYTES_MAX ? text.len : TEXT_BYTES_MAX};
}

static struct esi_str text_of(const char *text)
{
    return text != NULL ? esi_str_from(text) : ESI_STR("");
}

static void free_message(struct esi_msg *msg)
{
    struct esi_monitor_closed_entry *entry = (struct esi_monitor_closed_entry *)(void *)msg;

    if (!entry->is_kept) {
        free(entry);
    }
}

static void fill(struct esi_monitor_closed_entry *entry, const struct esi_connection_info *info)
{
    entry->msg.free = free_message;
    entry->cid = info->cid;
    entry->peer = *info->peer;
    entry->start_wall_ns = info->start_wall_ns;
    entry->start_ns = info->start_ns;
    entry->last_activity_ns = info->last_activity_ns;
    entry->rtt_ns = info->rtt_ns;
    entry->pending_bytes = info->pending_bytes;
    entry->dropped_msgs = info->dropped_msgs;
    entry->in_msgs = info->in_msgs;
    entry->in_bytes = info->in_bytes;
    entry->out_msgs = info->out_msgs;
    entry->out_bytes = info->out_bytes;
    entry->subscriptions = info->subscriptions;
    entry->worker = info->worker;
}

struct esi_monitor_closed_entry *
esi_monitor_closed_entry_new(const struct esi_connection_info *info, const char *reason,
                             const struct esi_monitor_slow *slow, uint64_t stop_ns)
{
    const struct esi_str texts[] = {
        cut(info->name),
        cut(info->lang),
        cut(info->version),
        cut(text_of(info->authorized_user)),
        cut(text_of(info->tls_version)),
        cut(text_of(info->tls_cipher)),
        cut(text_of(info->identity != NULL ? info->identity->subject : NULL)),
        cut(slow != NULL ? slow->subject : ESI_STR("")),
    };
    size_t bytes = sizeof(struct esi_monitor_closed_entry);

    for (size_t i = 0; i < ESI_COUNT_OF(texts); i++) {
        bytes += texts[i].len + 1;
    }
    struct esi_monitor_closed_entry *entry = calloc(1, bytes);
    if (entry == NULL) {
        return NULL;
    }
    fill(entry, info);
    entry->bytes = bytes;
    entry->reason = reason;
    entry->stop_ns = stop_ns;
    entry->is_slow = slow != NULL;
    entry->stalled_ns = slow != NULL ? slow->stalled_ns : 0;
    struct esi_str *const copies[] = {
        &entry->name,        &entry->lang,       &entry->version,     &entry->user,
        &entry->tls_version, &entry->tls_cipher, &entry->certificate, &entry->slow_subject,
    };
    _Static_assert(ESI_COUNT_OF(copies) == ESI_COUNT_OF(texts), "each string has its place");
    char *at = (char *)(entry + 1);
    for (size_t i = 0; i < ESI_COUNT_OF(texts); i++) {
        if (texts[i].len > 0) {
            memcpy(at, texts[i].data, texts[i].len);
        }
        *copies[i] = (struct esi_str){.data = at, .len = texts[i].len};
        at += texts[i].len + 1;
    }
    return entry;
}

void esi_monitor_closed_init(struct esi_monitor_closed *closed)
{
    *closed = (struct esi_monitor_closed){.bytes_max = BYTES_MAX};
    esi_list_init(&closed->entries);
}

static void drop_oldest(struct esi_monitor_closed *closed)
{
    struct esi_monitor_closed_entry *entry =
        ESI_CONTAINER_OF(closed->entries.next, struct esi_monitor_closed_entry, link);

    closed->count--;
    closed->bytes -= entry->bytes;
    esi_list_remove(&entry->link);
    ESI_ASSERT(closed->entries.next != &entry->link);
    free(entry);
}

void esi_monitor_closed_deinit(struct esi_monitor_closed *closed)
{
    while (closed->count > 0) {
        drop_oldest(closed);
    }
}

void esi_monitor_closed_add(struct esi_monitor_closed *closed,
                            struct esi_monitor_closed_entry *entry)
{
    while (closed->count > 0 && (closed->count >= ESI_MONITOR_CLOSED_MAX ||
                                 closed->bytes + entry->bytes > closed->bytes_max)) {
        drop_oldest(closed);
    }
    entry->is_kept = true;
    entry->number = ++closed->added;
    esi_list_init(&entry->link);
    esi_list_append(&closed->entries, &entry->link);
    closed->count++;
    closed->bytes += entry->bytes;
}
