/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: connections that have ended are kept with all that was known of them, the newest of them
 * within bounds of number and memory. Method: entries of made-up connections, small and as large as
 * a peer can make them, then a look at what is left.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "actors/connection.h"
#include "actors/monitor_closed.h"
#include "base/own.h"
#include "net/certificate.h"

static const struct esi_address peer = {.host = "127.0.0.1", .port = 4711};
static char long_text[100000];

static struct esi_connection_info connection(uint64_t cid)
{
    return (struct esi_connection_info){.cid = cid, .peer = &peer, .tls_version = ""};
}

static struct esi_monitor_closed_entry *entry_of(struct esi_list *link)
{
    return ESI_CONTAINER_OF(link, struct esi_monitor_closed_entry, link);
}

static void assert_text(struct esi_str text, const char *wanted)
{
    /* Ended by NUL, too. */
    assert_string_equal(text.data, wanted);
    assert_int_equal(text.len, strlen(wanted));
}

static void keeps_what_was_known(void **state)
{
    const struct esi_peer_identity identity = {.subject = "CN=client"};
    const struct esi_monitor_slow slow = {.subject = ESI_STR("a.b"), .stalled_ns = 7};
    struct esi_connection_info info = connection(9);

    (void)state;
    info.name = ESI_STR("n");
    info.lang = ESI_STR("c");
    info.version = ESI_STR("3");
    info.authorized_user = "u";
    info.tls_version = "TLSv1.3";
    info.tls_cipher = "X";
    info.identity = &identity;
    info.out_msgs = 5;
    info.pending_bytes = 6;
    info.dropped_msgs = 9;
    struct esi_monitor_closed_entry *entry =
        esi_monitor_closed_entry_new(&info, "Slow Consumer (Pending Bytes)", &slow, 1234);
    assert_non_null(entry);
    assert_int_equal(entry->cid, 9);
    assert_int_equal(entry->peer.port, 4711);
    assert_int_equal(entry->stop_ns, 1234);
    assert_int_equal(entry->out_msgs, 5);
    assert_int_equal(entry->pending_bytes, 6);
    assert_int_equal(entry->dropped_msgs, 9);
    assert_true(entry->is_slow);
    assert_int_equal(entry->stalled_ns, 7);
    assert_text(entry->name, "n");
    assert_text(entry->lang, "c");
    assert_text(entry->version, "3");
    assert_text(entry->user, "u");
    assert_text(entry->tls_version, "TLSv1.3");
    assert_text(entry->tls_cipher, "X");
    assert_text(entry->certificate, "CN=client");
    assert_text(entry->slow_subject, "a.b");
    /* Nobody has kept it: who has the message frees it. */
    entry->msg.free(&entry->msg);
}

static void keeps_the_newest(void **state)
{
    struct esi_monitor_closed closed;
    const uint64_t count = ESI_MONITOR_CLOSED_MAX + 10;

    (void)state;
    esi_monitor_closed_init(&closed);
    for (uint64_t cid = 1; cid <= count; cid++) {
        const struct esi_connection_info info = connection(cid);
        struct esi_monitor_closed_entry *entry =
            esi_monitor_closed_entry_new(&info, "Client Closed", NULL, cid);
        assert_non_null(entry);
        esi_monitor_closed_add(&closed, entry);
        /* As the runtime does after the reaction: it is the ring's now. */
        entry->msg.free(&entry->msg);
    }
    assert_int_equal(closed.count, ESI_MONITOR_CLOSED_MAX);
    assert_int_equal(closed.added, count);
    assert_int_equal(entry_of(closed.entries.next)->cid, 11);
    assert_int_equal(entry_of(closed.entries.prev)->cid, count);
    assert_int_equal(entry_of(closed.entries.prev)->number, count);
    esi_monitor_closed_deinit(&closed);
    assert_int_equal(closed.count, 0);
    assert_int_equal(closed.bytes, 0);
    esi_monitor_closed_deinit(&closed);
}

static void bounds_memory(void **state)
{
    struct esi_monitor_closed closed;
    struct esi_connection_info info = connection(1);

    (void)state;
    memset(long_text, 'x', sizeof long_text - 1);
    info.name = (struct esi_str){.data = long_text, .len = sizeof long_text - 1};
    info.lang = info.name;
    info.version = info.name;
    info.authorized_user = long_text;
    esi_monitor_closed_init(&closed);
    for (uint64_t i = 0; i < ESI_MONITOR_CLOSED_MAX; i++) {
        struct esi_monitor_closed_entry *entry =
            esi_monitor_closed_entry_new(&info, "Client Closed", NULL, 1);
        assert_non_null(entry);
        assert_true(entry->bytes < 4096);
        esi_monitor_closed_add(&closed, entry);
    }
    assert_true(closed.bytes <= (size_t)8 * 1024 * 1024);
    assert_true(closed.count > 1000);
    assert_true(closed.count < ESI_MONITOR_CLOSED_MAX);
    esi_monitor_closed_deinit(&closed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_what_was_known),
        cmocka_unit_test(keeps_the_newest),
        cmocka_unit_test(bounds_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
