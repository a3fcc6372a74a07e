/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: options of monitoring pages are taken as nats-server takes them, and bad ones are refused
 * with its texts; no number overflows. Method: whole request heads through the HTTP parser, then
 * what the query says.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "actors/monitor_query.h"
#include "net/http1.h"

struct asked {
    enum es_err err;
    struct esi_monitor_query query;
    char error[ESI_MONITOR_ERROR_MAX];
};

static struct asked ask(const char *target)
{
    char head[2048];
    struct esi_http1_request request;
    unsigned status = 0;
    struct asked asked = {.err = ES_OK};

    const int len = snprintf(head, sizeof head, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", target);
    assert_true(len > 0 && (size_t)len < sizeof head);
    assert_int_equal(esi_http1_parse_head(head, (size_t)len, &request, &status), ES_OK);
    memset(asked.error, 0, sizeof asked.error);
    asked.err = esi_monitor_query_read(&request, &asked.query, asked.error);
    return asked;
}

static struct esi_monitor_query accept(const char *target)
{
    const struct asked asked = ask(target);

    if (asked.err != ES_OK) {
        fail_msg("%s was refused: %s", target, asked.error);
    }
    return asked.query;
}

static void refuse(const char *target, const char *text)
{
    const struct asked asked = ask(target);

    if (asked.err != ES_INVALID) {
        fail_msg("%s was not refused", target);
    }
    assert_string_equal(asked.error, text);
}

static void finds_pages(void **state)
{
    (void)state;
    for (int kind = 0; kind < MONITOR_KIND_COUNT; kind++) {
        assert_int_equal(accept(esi_monitor_query_path((enum esi_monitor_kind)kind)).kind, kind);
    }
    assert_int_equal(ask("/nope").err, ES_NOT_FOUND);
    assert_int_equal(ask("/varz/").err, ES_NOT_FOUND);
    assert_int_equal(ask("/VARZ").err, ES_NOT_FOUND);
}

static void has_defaults(void **state)
{
    const struct esi_monitor_query query = accept("/connz");

    (void)state;
    assert_int_equal(query.sort, SORT_CID);
    assert_int_equal(query.subs, SUBS_NONE);
    assert_int_equal(query.offset, 0);
    assert_int_equal(query.limit, 1024);
    assert_false(query.has_auth);
    assert_false(query.has_cid);
    assert_false(query.matches_nothing);
    assert_string_equal(query.user, "");
}

static void takes_windows(void **state)
{
    struct esi_monitor_query query =
        accept("/connz?offset=9223372036854775807&limit=9223372036854775807");

    (void)state;
    assert_int_equal(query.offset, INT64_MAX);
    assert_int_equal(query.limit, INT64_MAX);
    /* What is negative, zero or empty counts as not given. */
    query = accept("/connz?offset=-1&limit=-9223372036854775807");
    assert_int_equal(query.offset, 0);
    assert_int_equal(query.limit, 1024);
    assert_int_equal(accept("/connz?limit=0").limit, 1024);
    assert_int_equal(accept("/connz?limit=&offset=").limit, 1024);
    assert_int_equal(accept("/connz?limit=%2B7").limit, 7);
    assert_int_equal(accept("/actorz?limit=3&offset=4").offset, 4);
}

static void refuses_bad_numbers(void **state)
{
    (void)state;
    refuse("/connz?limit=abc",
           "Error decoding int for 'limit': strconv.Atoi: parsing \"abc\": invalid syntax");
    refuse("/connz?limit=1.5",
           "Error decoding int for 'limit': strconv.Atoi: parsing \"1.5\": invalid syntax");
    refuse("/connz?offset=-",
           "Error decoding int for 'offset': strconv.Atoi: parsing \"-\": invalid syntax");
    refuse("/connz?offset=9223372036854775808",
           "Error decoding int for 'offset': strconv.Atoi: parsing \"9223372036854775808\": value "
           "out of range");
    refuse("/connz?limit=99999999999999999999",
           "Error decoding int for 'limit': strconv.Atoi: parsing \"99999999999999999999\": value "
           "out of range");
    refuse("/connz?cid=-1",
           "Error decoding uint64 for 'cid': strconv.ParseUint: parsing \"-1\": invalid syntax");
    refuse("/connz?cid=18446744073709551616",
           "Error decoding uint64 for 'cid': strconv.ParseUint: parsing "
           "\"18446744073709551616\": value out of range");
}

static void takes_a_cid(void **state)
{
    struct esi_monitor_query query = accept("/connz?cid=18446744073709551615");

    (void)state;
    assert_true(query.has_cid);
    assert_true(query.cid == UINT64_MAX);
    assert_int_equal(query.limit, 1);
    query = accept("/connz?cid=0");
    assert_false(query.has_cid);
    assert_int_equal(query.limit, 1024);
}

static void takes_sorts(void **state)
{
    (void)state;
    assert_int_equal(accept("/connz?sort=bytes_to").sort, SORT_BYTES_TO);
    assert_int_equal(accept("/connz?sort=").sort, SORT_CID);
    assert_int_equal(accept("/actorz").sort, SORT_ID);
    assert_int_equal(accept("/actorz?sort=depth").sort, SORT_DEPTH);
    refuse("/connz?sort=bogus", "invalid sorting option: bogus");
    refuse("/connz?sort=depth", "invalid sorting option: depth");
    refuse("/actorz?sort=cid", "invalid sorting option: cid");
    refuse("/connz?sort=stop", "sort by stop only valid on closed connections");
    refuse("/connz?sort=reason", "sort by reason only valid on closed connections");
}

static void takes_flags(void **state)
{
    (void)state;
    assert_true(accept("/connz?auth=1").has_auth);
    assert_true(accept("/connz?auth=True").has_auth);
    assert_false(accept("/connz?auth=F").has_auth);
    assert_int_equal(accept("/connz?subs=t").subs, SUBS_LIST);
    assert_int_equal(accept("/connz?subs=0").subs, SUBS_NONE);
    assert_int_equal(accept("/connz?subs=detail").subs, SUBS_DETAIL);
    refuse("/connz?auth=x",
           "Error decoding boolean for 'auth': strconv.ParseBool: parsing \"x\": invalid syntax");
    refuse("/connz?subs=2",
           "Error decoding boolean for 'subs': strconv.ParseBool: parsing \"2\": invalid syntax");
}

static void takes_states(void **state)
{
    (void)state;
    assert_int_equal(accept("/connz").states, STATES_OPEN);
    assert_int_equal(accept("/connz?state=open").states, STATES_OPEN);
    assert_int_equal(accept("/connz?state=2").states, STATES_OPEN | STATES_CLOSED);
    assert_int_equal(accept("/connz?state=ANY").states, STATES_OPEN | STATES_CLOSED);
    assert_int_equal(accept("/connz?state=closed").states, STATES_CLOSED);
    assert_int_equal(accept("/connz?state=1").states, STATES_CLOSED);
    assert_int_equal(accept("/connz?state=closed&sort=stop").sort, SORT_STOP);
    assert_int_equal(accept("/connz?sort=reason&state=closed").sort, SORT_REASON);
    refuse("/connz?sort=stop&state=any", "sort by stop only valid on closed connections");
    refuse("/connz?sort=reason", "sort by reason only valid on closed connections");
    refuse("/connz?state=7", "Error decoding state for 7");
}

static void takes_subsz(void **state)
{
    struct esi_monitor_query query = accept("/subscriptionsz?subs=1&offset=3&limit=5&test=a.b");

    (void)state;
    assert_int_equal(query.kind, MONITOR_SUBSZ);
    assert_int_equal(query.subs, SUBS_LIST);
    assert_int_equal(query.offset, 3);
    assert_int_equal(query.limit, 5);
    assert_string_equal(query.test, "a.b");
    assert_int_equal(accept("/subsz").subs, SUBS_NONE);
    assert_string_equal(accept("/subsz").test, "");
    assert_true(accept("/subsz?acc=other").matches_nothing);
    assert_false(accept("/subsz?acc=$G").matches_nothing);
    refuse("/subsz?test=a.*", "invalid test subject, must be valid publish subject: a.*");
    refuse("/subsz?test=a..b", "invalid test subject, must be valid publish subject: a..b");
    refuse("/subsz?limit=99999999999999999999",
           "Error decoding int for 'limit': strconv.Atoi: parsing \"99999999999999999999\": value "
           "out of range");
}

static struct esi_monitor_query accept_metrics(const char *header)
{
    char head[512];
    struct esi_http1_request request;
    struct esi_monitor_query query;
    char error[ESI_MONITOR_ERROR_MAX];
    unsigned status = 0;

    const int len =
        snprintf(head, sizeof head, "GET /metrics HTTP/1.1\r\nHost: a\r\n%s\r\n", header);
    assert_int_equal(esi_http1_parse_head(head, (size_t)len, &request, &status), ES_OK);
    assert_int_equal(esi_monitor_query_read(&request, &query, error), ES_OK);
    return query;
}

static void takes_a_form_of_metrics(void **state)
{
    (void)state;
    assert_false(accept_metrics("").has_plain_text);
    assert_false(accept_metrics("Accept: */*\r\n").has_plain_text);
    assert_true(accept_metrics("Accept: text/plain;version=0.0.4\r\n").has_plain_text);
    assert_false(accept_metrics("Accept: application/openmetrics-text;version=1.0.0,"
                                "text/plain;version=0.0.4;q=0.5\r\n")
                     .has_plain_text);
}

static void takes_owners(void **state)
{
    struct esi_monitor_query query = accept("/connz?auth=1&user=m%C3%BCller&acc=$G");

    (void)state;
    assert_string_equal(query.user, "m\xc3\xbcller");
    assert_false(query.matches_nothing);
    assert_true(accept("/connz?auth=1&acc=other").matches_nothing);
    refuse("/connz?user=u", "filter by user only allowed with auth option");
    refuse("/connz?acc=a", "filter by account only allowed with auth option");
}

static void bounds_names(void **state)
{
    char target[ESI_MONITOR_NAME_MAX + 64];
    char name[ESI_MONITOR_NAME_MAX + 1];

    (void)state;
    memset(name, 'n', sizeof name);
    name[ESI_MONITOR_NAME_MAX - 1] = '\0';
    snprintf(target, sizeof target, "/eventz?id=%s", name);
    assert_string_equal(accept(target).event, name);
    snprintf(target, sizeof target, "/eventz?id=%sn", name);
    refuse(target, "Error decoding id: too long");
}

static void shows_printable_bytes_only(void **state)
{
    const struct asked asked = ask("/connz?sort=%c3%bcX%ff");

    (void)state;
    assert_int_equal(asked.err, ES_INVALID);
    assert_string_equal(asked.error, "invalid sorting option: ??X?");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_pages),
        cmocka_unit_test(has_defaults),
        cmocka_unit_test(takes_windows),
        cmocka_unit_test(refuses_bad_numbers),
        cmocka_unit_test(takes_a_cid),
        cmocka_unit_test(takes_sorts),
        cmocka_unit_test(takes_flags),
        cmocka_unit_test(takes_states),
        cmocka_unit_test(takes_subsz),
        cmocka_unit_test(takes_a_form_of_metrics),
        cmocka_unit_test(takes_owners),
        cmocka_unit_test(bounds_names),
        cmocka_unit_test(shows_printable_bytes_only),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
