/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: what peers say of where a cluster can be reached is taken only when it can be an address,
 * is bounded, replaces older words of peers and never the configuration. Method: INFOs with
 * addresses of all kinds; the addresses kept are compared.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "actors/gateway_remotes.h"
#include "config/config.h"
#include "env/env.h"

static struct esi_gateway_info info_of(const char *const *urls, size_t count)
{
    struct esi_gateway_info info = {.gateway = ESI_STR("F")};

    for (size_t i = 0; i < count; i++) {
        info.gateway_urls[info.gateway_url_count++] = esi_str_from(urls[i]);
    }
    return info;
}

static void assert_urls(const struct esi_gateway_remote *remote, const char *expected)
{
    char all[4096] = "";
    char text[ESI_GATEWAY_URL_TEXT_MAX];
    size_t len = 0;

    for (uint32_t i = 0; i < remote->url_count; i++) {
        esi_gateway_remotes_write_url(remote->urls[i].host, remote->urls[i].port, text);
        len += (size_t)snprintf(all + len, sizeof all - len, "%s ", text);
    }
    assert_string_equal(all, expected);
}

static int set_up(void **state)
{
    struct esi_gateway_remotes *remotes = malloc(sizeof *remotes);

    esi_gateway_remotes_init(remotes);
    *state = remotes;
    return 0;
}

static int tear_down(void **state)
{
    esi_gateway_remotes_deinit(*state);
    free(*state);
    return 0;
}

static struct esi_gateway_remote *add(struct esi_gateway_remotes *remotes, const char *name,
                                      const struct esi_config_remote *config)
{
    struct esi_gateway_remote *remote = NULL;

    assert_int_equal(esi_gateway_remotes_add(remotes, esi_str_from(name), config, &remote), ES_OK);
    return remote;
}

static void only_addresses_are_learned(void **state)
{
    static const char *const urls[] = {
        "127.0.0.1:7222", "gw.example:1",   "[::1]:7222", "nats://other.example:65535",
        "no-port",        "host:0",         "host:65536", "host:12x",
        ":7222",          "::1:7222",       "a b:1",      "host:1/../../etc",
        "[]:1",           "tls://",         "",           "127.0.0.1:7222",
        "GW.example:1",   "%41.example:80", "host:",      "1.2.3:5",
    };
    struct esi_gateway_remote *remote = add(*state, "F", NULL);
    const struct esi_gateway_info info = info_of(urls, sizeof urls / sizeof urls[0]);

    esi_gateway_remotes_learn(remote, &info);
    assert_urls(remote, "127.0.0.1:7222 gw.example:1 [::1]:7222 other.example:65535 ");
}

static void bytes_that_end_a_string_are_refused(void **state)
{
    struct esi_gateway_remote *remote = add(*state, "F", NULL);
    struct esi_gateway_info info = {.gateway_url_count = 1};

    info.gateway_urls[0] = ESI_STR("host\0.evil:1");
    assert_false(esi_gateway_remotes_has_urls(&info));
    esi_gateway_remotes_learn(remote, &info);
    assert_urls(remote, "");
}

static void configured_ones_stay(void **state)
{
    struct esi_config_url configured[] = {{.host = (char *)(uintptr_t) "one.example", .port = 1}};
    const struct esi_config_remote config = {.urls = configured, .url_count = 1};
    static const char *const first[] = {"two.example:2", "one.example:1"};
    static const char *const later[] = {"three.example:3"};
    struct esi_gateway_remote *remote = add(*state, "F", &config);
    const struct esi_gateway_info infos[] = {info_of(first, 2), info_of(later, 1),
                                             info_of(NULL, 0)};

    esi_gateway_remotes_relearn(remote, &infos[0]);
    assert_urls(remote, "one.example:1 two.example:2 ");
    esi_gateway_remotes_relearn(remote, &infos[1]);
    assert_urls(remote, "one.example:1 three.example:3 ");
    esi_gateway_remotes_relearn(remote, &infos[2]);
    assert_urls(remote, "one.example:1 three.example:3 ");
}

static void learned_addresses_are_bounded(void **state)
{
    struct esi_gateway_remote *remote = add(*state, "F", NULL);
    char text[32];

    for (int i = 0; i < ESI_GATEWAY_URLS_MAX * 2; i++) {
        snprintf(text, sizeof text, "h%d.example:1", i);
        const char *urls[] = {text};
        const struct esi_gateway_info info = info_of(urls, 1);
        esi_gateway_remotes_learn(remote, &info);
    }
    assert_int_equal(remote->url_count, ESI_GATEWAY_URLS_MAX);
    /* The newest stay: false ones that came first cannot keep the true one out. */
    snprintf(text, sizeof text, "h%d.example", ESI_GATEWAY_URLS_MAX * 2 - 1);
    assert_string_equal(remote->urls[ESI_GATEWAY_URLS_MAX - 1].host, text);
    snprintf(text, sizeof text, "h%d.example", ESI_GATEWAY_URLS_MAX);
    assert_string_equal(remote->urls[0].host, text);
}

static void learned_addresses_displace_no_configured_one(void **state)
{
    struct esi_config_url configured[] = {{.host = (char *)(uintptr_t) "one.example", .port = 1}};
    const struct esi_config_remote config = {.urls = configured, .url_count = 1};
    struct esi_gateway_remote *remote = add(*state, "F", &config);
    char text[32];

    for (int i = 0; i < ESI_GATEWAY_URLS_MAX * 2; i++) {
        snprintf(text, sizeof text, "h%d.example:1", i);
        const char *urls[] = {text};
        const struct esi_gateway_info info = info_of(urls, 1);
        uint32_t order[ESI_GATEWAY_URLS_MAX + 1];
        esi_gateway_remotes_learn(remote, &info);
        esi_gateway_remotes_shuffle(remote, esi_env_linux(), order);
        assert_int_equal(order[0], 0);
    }
    assert_int_equal(remote->url_count, ESI_GATEWAY_URLS_MAX + 1);
    assert_string_equal(remote->urls[0].host, "one.example");
}

static void names_are_judged(void **state)
{
    struct esi_gateway_remote *remote = NULL;
    char name[ESI_GATEWAY_NAME_MAX + 1];

    memset(name, 'n', sizeof name);
    assert_true(esi_gateway_remotes_is_name(ESI_STR("A")));
    assert_true(esi_gateway_remotes_is_name(ESI_STR("with a blank")));
    assert_true(esi_gateway_remotes_is_name(ESI_STR("\xc3\xa4")));
    assert_true(
        esi_gateway_remotes_is_name((struct esi_str){.data = name, .len = ESI_GATEWAY_NAME_MAX}));
    assert_false(esi_gateway_remotes_is_name((struct esi_str){.data = name, .len = sizeof name}));
    assert_false(esi_gateway_remotes_is_name(ESI_STR("")));
    assert_false(esi_gateway_remotes_is_name(ESI_STR("a\0b")));
    assert_false(esi_gateway_remotes_is_name(ESI_STR("a\nb")));
    assert_false(esi_gateway_remotes_is_name(ESI_STR("\x7f")));
    assert_int_equal(esi_gateway_remotes_add(*state, ESI_STR("a\tb"), NULL, &remote), ES_INVALID);
}

static void configured_remotes_take_no_learned_place(void **state)
{
    const struct esi_config_remote config = {.url_count = 0};
    struct esi_gateway_remotes *remotes = *state;
    struct esi_gateway_remote *remote = NULL;
    char name[32];

    for (int i = 0; i < ESI_GATEWAY_REMOTES_MAX; i++) {
        snprintf(name, sizeof name, "configured-%d", i);
        (void)add(remotes, name, &config);
        snprintf(name, sizeof name, "learned-%d", i);
        (void)add(remotes, name, NULL);
    }
    assert_int_equal(esi_gateway_remotes_add(remotes, ESI_STR("more"), NULL, &remote), ES_FULL);
    esi_gateway_remotes_remove(remotes, esi_gateway_remotes_find(remotes, ESI_STR("learned-0")));
    (void)add(remotes, "more", NULL);
}

static void learned_remotes_are_bounded(void **state)
{
    struct esi_gateway_remotes *remotes = *state;
    struct esi_gateway_remote *remote = NULL;
    char name[ESI_GATEWAY_NAME_MAX + 2];

    for (int i = 0; i < ESI_GATEWAY_REMOTES_MAX; i++) {
        snprintf(name, sizeof name, "cluster-%d", i);
        (void)add(remotes, name, NULL);
    }
    assert_int_equal(esi_gateway_remotes_add(remotes, ESI_STR("more"), NULL, &remote), ES_FULL);
    esi_gateway_remotes_remove(remotes, esi_gateway_remotes_find(remotes, ESI_STR("cluster-7")));
    assert_null(esi_gateway_remotes_find(remotes, ESI_STR("cluster-7")));
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    assert_int_equal(esi_gateway_remotes_add(remotes, esi_str_from(name), NULL, &remote),
                     ES_INVALID);
    remote = add(remotes, "more", NULL);
    assert_ptr_equal(esi_gateway_remotes_by_id(remotes, remote->id), remote);
}

static void order_holds_each_address_once(void **state)
{
    static const char *const urls[] = {"a.x:1", "b.x:1", "c.x:1", "d.x:1", "e.x:1"};
    const struct esi_gateway_info info = info_of(urls, 5);
    struct esi_gateway_remote *remote = add(*state, "F", NULL);
    bool is_first[5] = {false};

    esi_gateway_remotes_learn(remote, &info);
    for (int round = 0; round < 1000; round++) {
        uint32_t order[5];
        uint32_t seen = 0;
        esi_gateway_remotes_shuffle(remote, esi_env_linux(), order);
        for (int i = 0; i < 5; i++) {
            seen |= 1U << order[i];
        }
        assert_int_equal(seen, 31);
        is_first[order[0]] = true;
    }
    for (int i = 0; i < 5; i++) {
        assert_true(is_first[i]);
    }
}

static void numbers_are_checked_by_the_first_name(void **state)
{
    static const char *const numbers[] = {"127.0.0.1:1", "[::1]:1"};
    static const char *const mixed[] = {"127.0.0.1:1", "name.example:1", "other.example:1"};
    const struct esi_gateway_info first = info_of(numbers, 2);
    const struct esi_gateway_info second = info_of(mixed, 3);
    struct esi_gateway_remote *remote = add(*state, "F", NULL);

    esi_gateway_remotes_relearn(remote, &first);
    assert_string_equal(esi_gateway_remotes_tls_name(remote, 0), "127.0.0.1");
    assert_string_equal(esi_gateway_remotes_tls_name(remote, 1), "::1");
    esi_gateway_remotes_relearn(remote, &second);
    assert_string_equal(esi_gateway_remotes_tls_name(remote, 0), "name.example");
    assert_string_equal(esi_gateway_remotes_tls_name(remote, 2), "other.example");
}

static void a_learned_name_is_not_good_for_a_configured_number(void **state)
{
    struct esi_config_url configured[] = {{.host = (char *)(uintptr_t) "127.0.0.1", .port = 1}};
    const struct esi_config_remote config = {.urls = configured, .url_count = 1};
    static const char *const told[] = {"evil.example:1", "127.0.0.2:1"};
    const struct esi_gateway_info info = info_of(told, 2);
    struct esi_gateway_remote *remote = add(*state, "F", &config);

    esi_gateway_remotes_learn(remote, &info);
    assert_string_equal(esi_gateway_remotes_tls_name(remote, 0), "127.0.0.1");
    assert_string_equal(esi_gateway_remotes_tls_name(remote, 2), "evil.example");
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(only_addresses_are_learned),
        CASE(bytes_that_end_a_string_are_refused),
        CASE(configured_ones_stay),
        CASE(learned_addresses_are_bounded),
        CASE(learned_addresses_displace_no_configured_one),
        CASE(names_are_judged),
        CASE(configured_remotes_take_no_learned_place),
        CASE(learned_remotes_are_bounded),
        CASE(order_holds_each_address_once),
        CASE(numbers_are_checked_by_the_first_name),
        CASE(a_learned_name_is_not_good_for_a_configured_number),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
