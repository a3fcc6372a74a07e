/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Goal: only a peer with the right certificate, name, role and version gets in, everybody else is
 * told why, and the good one still gets in afterwards. Files that are not in order make no context.
 * Method: both ends over loopback with certificates of scripts/make-certs, good and bad; raw bytes
 * where a peer is no TLS.
 */
#include "stream_pair.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/own.h"

enum { SHAKES_A_THREAD = 8 };

static const struct pair_wish good_server = {
    .role = TLS_SERVER, .certificates = {"event-service"}, .authority = "ca"};
static const struct pair_wish good_client = {
    .role = TLS_CLIENT, .certificates = {"event-gateway"}, .authority = "ca"};

static int set_up(void **state)
{
    (void)state;
    (void)pair_env_reset();
    return 0;
}

/* A good pair gets in and exchanges data. */
static void expect_good(struct pair_wish server_wish, struct pair_wish client_wish,
                        const char *name)
{
    struct esi_tls_context *server = pair_context(server_wish);
    struct esi_tls_context *client = pair_context(client_wish);
    struct stream_pair pair;

    pair_marry(&pair, server, client, name);
    pair_expect_text(pair.client, pair.server, "PING");
    pair_expect_text(pair.server, pair.client, "PONG");
    pair_close(&pair);
    esi_tls_context_unref(client);
    esi_tls_context_unref(server);
}

/* Expects one side to refuse the other with a reason that has these words, and the refused side to
 * fail too. */
static void expect_refusal(struct pair_wish server_wish, struct pair_wish client_wish,
                           const char *name, bool server_refuses, const char *words)
{
    struct esi_tls_context *server = pair_context(server_wish);
    struct esi_tls_context *client = pair_context(client_wish);
    struct stream_pair pair;
    enum es_err server_err;
    enum es_err client_err;
    const char *reason;
    char byte;
    size_t count = 0;
    uint64_t start_ns = 0;

    pair_open(&pair);
    assert_int_equal(esi_stream_start_tls_server(pair.server, server), ES_OK);
    assert_int_equal(esi_stream_start_tls_client(pair.client, client, name), ES_OK);
    pair_shake(&pair, &client_err, &server_err);
    reason = esi_stream_failure(server_refuses ? pair.server : pair.client);
    assert_int_equal(server_refuses ? server_err : client_err, ES_TLS);
    if (strstr(reason, words) == NULL) {
        print_error("expected '%s' in '%s'\n", words, reason);
    }
    assert_non_null(strstr(reason, words));
    assert_null(esi_stream_peer(server_refuses ? pair.server : pair.client));
    /* In TLS 1.3 a client is done before the server has judged it: it hears of it with its first
     * read. */
    while (server_refuses && client_err == ES_OK) {
        assert_true(pair_has_time(&start_ns));
        const enum es_err err = esi_stream_read(pair.client, &byte, 1, &count);
        assert_int_not_equal(err, ES_OK);
        client_err = err == ES_AGAIN ? ES_OK : err;
    }
    assert_true(server_err == ES_TLS || server_err == ES_CLOSED);
    assert_true(client_err == ES_TLS || client_err == ES_CLOSED);
    /* Nothing gets through a refused stream. */
    assert_int_not_equal(esi_stream_read(pair.server, &byte, 1, &count), ES_OK);
    assert_int_not_equal(
        esi_stream_writev(pair.server, &(struct iovec){.iov_base = &byte, .iov_len = 1}, 1, &count),
        ES_OK);
    pair_close(&pair);
    esi_tls_context_unref(client);
    esi_tls_context_unref(server);
}

static void both_sides_know_each_other(void **state)
{
    struct esi_tls_context *server = pair_context(good_server);
    struct esi_tls_context *client = pair_context(good_client);
    struct stream_pair pair;
    const struct esi_peer_identity *peer;

    (void)state;
    pair_marry(&pair, server, client, "event-service");
    assert_string_equal(esi_stream_tls_version(pair.server), "TLSv1.3");
    assert_string_equal(esi_stream_tls_version(pair.client), "TLSv1.3");
    assert_string_equal(esi_stream_tls_cipher(pair.server), "TLS_AES_128_GCM_SHA256");
    assert_string_equal(esi_stream_tls_alpn(pair.server), "");
    peer = esi_stream_peer(pair.server);
    assert_non_null(peer);
    assert_string_equal(peer->common_name, "event-gateway");
    assert_string_equal(peer->subject, "O=event-service development,CN=event-gateway");
    assert_int_equal(peer->dns_name_count, 2);
    assert_string_equal(peer->dns_names[0], "event-gateway");
    assert_string_equal(peer->dns_names[1], "localhost");
    assert_int_equal(peer->ip_name_count, 2);
    assert_string_equal(peer->ip_names[0], "127.0.0.1");
    assert_string_equal(peer->ip_names[1], "::1");
    peer = esi_stream_peer(pair.client);
    assert_non_null(peer);
    assert_string_equal(peer->common_name, "event-service");
    pair_expect_text(pair.client, pair.server, "PING");
    pair_close(&pair);
    esi_tls_context_unref(client);
    esi_tls_context_unref(server);
}

static void tls_1_3_can_be_demanded(void **state)
{
    struct pair_wish server = good_server;
    struct pair_wish client = good_client;

    (void)state;
    server.min_version = TLS_VERSION_1_3;
    client.min_version = TLS_VERSION_1_3;
    expect_good(server, client, "event-service");
    expect_good(good_server, client, "event-service");
    expect_good(server, good_client, "event-service");
}

static void server_may_ask_for_no_certificate(void **state)
{
    struct pair_wish server = good_server;
    struct pair_wish client = good_client;
    struct esi_tls_context *contexts[2];
    struct stream_pair pair;

    (void)state;
    server.authority = NULL;
    client.certificates[0] = NULL;
    contexts[0] = pair_context(server);
    contexts[1] = pair_context(client);
    pair_marry(&pair, contexts[0], contexts[1], "localhost");
    assert_null(esi_stream_peer(pair.server));
    assert_non_null(esi_stream_peer(pair.client));
    assert_false(esi_tls_context_is_verifying(contexts[0]));
    pair_close(&pair);
    esi_tls_context_unref(contexts[0]);
    esi_tls_context_unref(contexts[1]);
}

/* Each bad client in turn, a good one after each, against one kind of server. */
static void bad_clients_are_refused(void **state)
{
    static const struct {
        const char *certificate;
        const char *words;
    } rows[] = {
        {NULL, "showed no certificate"},
        {"bad/expired", "has expired"},
        {"bad/not-yet-valid", "not valid yet"},
        {"bad/unknown-ca", "unknown authority"},
        {"bad/server-auth-only", "not for this role"},
        {"bad/leaf-signed", "authority"},
    };

    (void)state;
    for (size_t i = 0; i < ESI_COUNT_OF(rows); i++) {
        struct pair_wish client = good_client;
        client.certificates[0] = rows[i].certificate;
        expect_refusal(good_server, client, "event-service", true, rows[i].words);
        expect_good(good_server, good_client, "event-service");
    }
}

static void bad_servers_are_refused(void **state)
{
    static const struct {
        const char *certificate;
        const char *words;
    } rows[] = {
        {"bad/expired", "has expired"},
        {"bad/not-yet-valid", "not valid yet"},
        {"bad/unknown-ca", "unknown authority"},
        {"bad/wrong-name", "not for event-service but for somebody-else, somebody-else.example"},
        {"bad/client-auth-only", "not for this role"},
        {"bad/leaf-signed", "authority"},
    };

    (void)state;
    for (size_t i = 0; i < ESI_COUNT_OF(rows); i++) {
        struct pair_wish server = good_server;
        server.certificates[0] = rows[i].certificate;
        expect_refusal(server, good_client, "event-service", false, rows[i].words);
        expect_good(good_server, good_client, "event-service");
    }
}

/* The name is checked against DNS and IP names; none given, none checked. */
static void server_names_are_checked(void **state)
{
    (void)state;
    expect_good(good_server, good_client, "event-service");
    expect_good(good_server, good_client, "EVENT-Service");
    expect_good(good_server, good_client, "localhost");
    expect_good(good_server, good_client, "127.0.0.1");
    expect_good(good_server, good_client, "::1");
    expect_good(good_server, good_client, "0:0:0:0:0:0:0:1");
    expect_good(good_server, good_client, NULL);
    expect_refusal(good_server, good_client, "127.0.0.2", false, "not for 127.0.0.2");
    expect_refusal(good_server, good_client, "event-service.example", false,
                   "not for event-service.example");
    expect_refusal(good_server, good_client, "event-gateway", false, "not for event-gateway");
}

/* Allowed names are checked on either side; a client's then take the place of the server's name. */
static void allowed_names_are_checked(void **state)
{
    struct pair_wish server = good_server;
    struct pair_wish client = good_client;

    (void)state;
    server.allowed[0] = "nobody";
    server.allowed[1] = "event-gateway";
    expect_good(server, good_client, "event-service");
    server.allowed[1] = NULL;
    expect_refusal(server, good_client, "event-service", true, "none of the allowed names: nobody");
    server.allowed[0] = "127.0.0.1";
    expect_good(server, good_client, "event-service");
    server.allowed[0] = "*";
    expect_refusal(server, good_client, "event-service", true, "allowed names: *");

    client.allowed[0] = "event-service";
    expect_good(good_server, client, "192.0.2.7");
    expect_good(good_server, client, NULL);
    client.allowed[0] = "event-gateway";
    client.allowed[1] = "somebody";
    expect_refusal(good_server, client, "event-service", false,
                   "(event-service) has none of the allowed names: event-gateway, somebody");
}

/* Whom the server shows for each name asked for: by SNI among three, the first where none fits. */
static void certificate_is_chosen_by_sni(void **state)
{
    static const struct {
        const char *wanted;
        const char *shown;
    } rows[] = {
        {"event-service", "event-service"},
        {"event-gateway", "event-gateway"},
        {"CLIENT", "client"},
        {"localhost", "event-service"},
        {"127.0.0.1", "event-service"},
        {"unknown.example", "event-service"},
        {NULL, "event-service"},
    };
    struct pair_wish server_wish = {.role = TLS_SERVER,
                                    .certificates = {"event-service", "event-gateway", "client"}};
    struct pair_wish client_wish = {.role = TLS_CLIENT,
                                    .authority = "ca",
                                    .allowed = {"event-service", "event-gateway", "client"}};
    struct esi_tls_context *server = pair_context(server_wish);
    struct esi_tls_context *client = pair_context(client_wish);

    (void)state;
    for (size_t i = 0; i < ESI_COUNT_OF(rows); i++) {
        struct stream_pair pair;
        pair_marry(&pair, server, client, rows[i].wanted);
        assert_string_equal(esi_stream_peer(pair.client)->common_name, rows[i].shown);
        pair_expect_text(pair.client, pair.server, "PING");
        pair_close(&pair);
    }
    esi_tls_context_unref(client);
    esi_tls_context_unref(server);
}

static void alpn_is_agreed_but_not_demanded(void **state)
{
    struct pair_wish with = good_server;
    struct pair_wish client_with = good_client;
    struct esi_tls_context *server;
    struct esi_tls_context *client;
    struct stream_pair pair;

    (void)state;
    with.alpn = "h2";
    client_with.alpn = "h2";
    server = pair_context(with);
    client = pair_context(client_with);
    pair_marry(&pair, server, client, "event-service");
    assert_string_equal(esi_stream_tls_alpn(pair.server), "h2");
    assert_string_equal(esi_stream_tls_alpn(pair.client), "h2");
    pair_close(&pair);
    esi_tls_context_unref(client);
    esi_tls_context_unref(server);

    expect_good(with, good_client, "event-service");
    expect_good(good_server, client_with, "event-service");
    client_with.alpn = "http/1.1";
    expect_good(with, client_with, "event-service");
}

/* --- OpenSSL's program as the peer: TLS 1.2, and certificates that our own contexts would not load
 * ------------------ */

struct openssl_peer {
    pid_t pid;
    int input; /* what we write here it sends */
    int output;
};

/* How chatty OpenSSL's client is: "-quiet" also takes every line for data. */
static const char *option_quiet = "-quiet";

/* Starts the openssl program with its input and output on pipes. The last argument is NULL. */
static void start_openssl(struct openssl_peer *peer, const char *const *arguments)
{
    int input[2];
    int output[2];

    assert_int_equal(pipe2(input, O_CLOEXEC), 0);
    assert_int_equal(pipe2(output, O_CLOEXEC), 0);
    peer->pid = fork();
    assert_true(peer->pid >= 0);
    if (peer->pid == 0) {
        dup2(input[0], STDIN_FILENO);
        dup2(output[1], STDOUT_FILENO);
        dup2(output[1], STDERR_FILENO);
        execvp("openssl", (char *const *)(uintptr_t)arguments);
        _exit(127);
    }
    close(input[0]);
    close(output[1]);
    peer->input = input[1];
    peer->output = output[0];
}

static void stop_openssl(struct openssl_peer *peer)
{
    close(peer->input);
    close(peer->output);
    kill(peer->pid, SIGTERM);
    assert_int_equal(waitpid(peer->pid, NULL, 0), peer->pid);
}

/* Reads what the program prints until these words have come; the text after them stays in *rest. */
static void await_words(struct openssl_peer *peer, const char *words, char *rest, size_t capacity)
{
    char text[16384];
    size_t len = 0;
    const char *found = NULL;

    while (found == NULL) {
        assert_true(pair_await(peer->output, POLL_READ));
        const ssize_t count = read(peer->output, text + len, sizeof(text) - 1 - len);
        text[len + (count > 0 ? (size_t)count : 0)] = '\0';
        if (count <= 0) {
            print_error("openssl ended without '%s': %s\n", words, text);
        }
        assert_true(count > 0);
        len += (size_t)count;
        found = strstr(text, words);
        /* A line that is not complete yet may go on. */
        found = found != NULL && strchr(found, '\n') != NULL ? found : NULL;
    }
    snprintf(rest, capacity, "%s", found + strlen(words));
}

/* Steps one side's handshake until it ends. */
static enum es_err shake_alone(struct esi_stream *stream)
{
    enum es_err err = ES_AGAIN;
    uint64_t start_ns = 0;

    while (err == ES_AGAIN) {
        assert_true(pair_has_time(&start_ns));
        err = pair_step(stream, ES_AGAIN);
        if (err == ES_AGAIN) {
            assert_true(pair_await(esi_stream_socket(stream), esi_stream_wants(stream)));
        }
    }
    return err;
}

/* Reads from a stream until this text has come. */
static void expect_text(struct esi_stream *stream, const char *text)
{
    char got[256];
    size_t len = 0;

    while (len < strlen(text)) {
        size_t count = 0;
        const enum es_err err = esi_stream_read(stream, got + len, sizeof(got) - len, &count);
        assert_true(err == ES_OK || err == ES_AGAIN);
        len += err == ES_OK ? count : 0;
        if (err == ES_AGAIN) {
            assert_true(pair_await(esi_stream_socket(stream), POLL_READ));
        }
    }
    assert_int_equal(len, strlen(text));
    assert_memory_equal(got, text, len);
}

/* Our server, OpenSSL's client with this certificate and option. Returns the handshake's end, the
 * stream in *out. */
static enum es_err serve_openssl(struct openssl_peer *peer, const char *certificate,
                                 const char *option, struct esi_stream **out)
{
    struct esi_env *env = esi_env_linux();
    struct esi_tls_context *context = pair_context(good_server);
    struct esi_address address;
    struct esi_address from;
    char port[64];
    int listener = ESI_ENV_NO_SOCKET;
    int sock = ESI_ENV_NO_SOCKET;
    enum es_err err;

    assert_int_equal(esi_env_listen(env, "127.0.0.1", 0, &listener, &address), ES_OK);
    snprintf(port, sizeof(port), "127.0.0.1:%u", (unsigned)address.port);
    start_openssl(peer, (const char *const[]){"openssl", "s_client", "-connect", port, option_quiet,
                                              "-verify_return_error", "-verify_hostname",
                                              "event-service", "-CAfile", pair_path("ca", ".crt"),
                                              "-cert", pair_path(certificate, ".crt"), "-key",
                                              pair_path(certificate, ".key"), option, NULL});
    assert_true(pair_await(listener, POLL_READ));
    assert_int_equal(esi_env_accept(env, listener, &sock, &from), ES_OK);
    esi_env_close(env, listener);
    assert_int_equal(esi_stream_new(env, sock, out), ES_OK);
    assert_int_equal(esi_stream_start_tls_server(*out, context), ES_OK);
    esi_tls_context_unref(context);
    err = shake_alone(*out);
    return err;
}

/* Our client, OpenSSL's server, which demands our certificate and sends each line back reversed. */
static enum es_err visit_openssl(struct openssl_peer *peer, const char *certificate,
                                 const char *option, struct esi_stream **out)
{
    struct esi_env *env = esi_env_linux();
    struct esi_tls_context *context = pair_context(good_client);
    struct esi_address address = {.host = "127.0.0.1"};
    char port[256];
    int sock = ESI_ENV_NO_SOCKET;
    enum es_err err;

    start_openssl(peer, (const char *const[]){"openssl", "s_server", "-accept", "127.0.0.1:0",
                                              "-rev", "-Verify", "1", "-verify_return_error",
                                              "-CAfile", pair_path("ca", ".crt"), "-cert",
                                              pair_path(certificate, ".crt"), "-key",
                                              pair_path(certificate, ".key"), option, NULL});
    await_words(peer, "ACCEPT 127.0.0.1:", port, sizeof(port));
    address.port = (uint16_t)strtoul(port, NULL, 10);
    assert_int_equal(esi_env_connect(env, &address, &sock), ES_OK);
    assert_true(pair_await(sock, POLL_WRITE));
    assert_int_equal(esi_env_connect_result(env, sock), ES_OK);
    assert_int_equal(esi_stream_new(env, sock, out), ES_OK);
    assert_int_equal(esi_stream_start_tls_client(*out, context, "event-service"), ES_OK);
    esi_tls_context_unref(context);
    err = shake_alone(*out);
    return err;
}

static void openssl_clients_get_in(void **state)
{
    static const struct {
        const char *option;
        const char *version;
    } rows[] = {{"-tls1_2", "TLSv1.2"}, {"-tls1_3", "TLSv1.3"}};

    (void)state;
    for (size_t i = 0; i < ESI_COUNT_OF(rows); i++) {
        struct openssl_peer peer;
        struct esi_stream *stream = NULL;
        size_t count = 0;
        char rest[64];

        assert_int_equal(serve_openssl(&peer, "event-gateway", rows[i].option, &stream), ES_OK);
        assert_string_equal(esi_stream_tls_version(stream), rows[i].version);
        assert_non_null(strstr(esi_stream_tls_cipher(stream), "AES"));
        assert_string_equal(esi_stream_peer(stream)->common_name, "event-gateway");
        assert_int_equal(write(peer.input, "PING\n", 5), 5);
        expect_text(stream, "PING\n");
        assert_int_equal(
            esi_stream_writev(stream, &(struct iovec){.iov_base = (char[]){"PONG\n"}, .iov_len = 5},
                              1, &count),
            ES_OK);
        assert_int_equal(count, 5);
        await_words(&peer, "PONG", rest, sizeof(rest));
        esi_stream_free(stream);
        stop_openssl(&peer);
    }
}

/* OpenSSL's program takes a line "K" for: change the keys, and ask the peer to do so too. */
static void keys_are_changed_on_demand(void **state)
{
    static const char text[] = "K\n";
    struct openssl_peer peer;
    struct esi_stream *stream = NULL;
    size_t count = 0;
    char rest[64];

    (void)state;
    option_quiet = "-no_ign_eof";
    assert_int_equal(serve_openssl(&peer, "event-gateway", "-tls1_3", &stream), ES_OK);
    option_quiet = "-quiet";
    await_words(&peer, "Verify return code", rest, sizeof(rest));
    for (int i = 0; i < 3; i++) {
        assert_int_equal(write(peer.input, text, sizeof(text) - 1), sizeof(text) - 1);
        await_words(&peer, "KEYUPDATE", rest, sizeof(rest));
        assert_int_equal(write(peer.input, "PING\n", 5), 5);
        expect_text(stream, "PING\n");
        assert_int_equal(
            esi_stream_writev(stream, &(struct iovec){.iov_base = (char[]){"PONG\n"}, .iov_len = 5},
                              1, &count),
            ES_OK);
        await_words(&peer, "PONG", rest, sizeof(rest));
    }
    esi_stream_free(stream);
    stop_openssl(&peer);
}

static void openssl_servers_are_believed(void **state)
{
    static const struct {
        const char *option;
        const char *version;
    } rows[] = {{"-tls1_2", "TLSv1.2"}, {"-tls1_3", "TLSv1.3"}};

    (void)state;
    for (size_t i = 0; i < ESI_COUNT_OF(rows); i++) {
        struct openssl_peer peer;
        struct esi_stream *stream = NULL;
        size_t count = 0;

        assert_int_equal(visit_openssl(&peer, "event-service", rows[i].option, &stream), ES_OK);
        assert_string_equal(esi_stream_tls_version(stream), rows[i].version);
        assert_string_equal(esi_stream_peer(stream)->common_name, "event-service");
        assert_int_equal(
            esi_stream_writev(stream, &(struct iovec){.iov_base = (char[]){"PING\n"}, .iov_len = 5},
                              1, &count),
            ES_OK);
        expect_text(stream, "GNIP\n");
        esi_stream_free(stream);
        stop_openssl(&peer);
    }
}

static void bad_openssl_peers_are_refused_in_both_versions(void **state)
{
    static const struct {
        const char *certificate;
        const char *as_client; /* NULL: it may */
        const char *as_server;
    } rows[] = {
        {"bad/expired", "has expired", "has expired"},
        {"bad/not-yet-valid", "not valid yet", "not valid yet"},
        {"bad/unknown-ca", "unknown authority", "unknown authority"},
        {"bad/nul-name", "cannot be read", "cannot be read"},
        {"bad/server-auth-only", "not for this role", NULL},
        {"bad/client-auth-only", NULL, "not for this role"},
        {"bad/wrong-name", NULL, "not for event-service"},
    };
    static const char *const options[] = {"-tls1_2", "-tls1_3"};

    (void)state;
    for (size_t i = 0; i < ESI_COUNT_OF(rows) * ESI_COUNT_OF(options); i++) {
        const char *certificate = rows[i / 2].certificate;
        struct openssl_peer peer;
        struct esi_stream *stream = NULL;

        if (rows[i / 2].as_client != NULL) {
            assert_int_equal(serve_openssl(&peer, certificate, options[i % 2], &stream), ES_TLS);
            assert_non_null(strstr(esi_stream_failure(stream), rows[i / 2].as_client));
            esi_stream_free(stream);
            stop_openssl(&peer);
        }
        if (rows[i / 2].as_server != NULL) {
            assert_int_equal(visit_openssl(&peer, certificate, options[i % 2], &stream), ES_TLS);
            assert_non_null(strstr(esi_stream_failure(stream), rows[i / 2].as_server));
            esi_stream_free(stream);
            stop_openssl(&peer);
        }
    }
}

/* Writes raw bytes to a server and expects its handshake to fail with a reason that has these
 * words. */
static void expect_raw_refusal(const void *bytes, size_t len, const char *words)
{
    struct esi_tls_context *context = pair_context(good_server);
    const struct iovec part = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = len};
    struct stream_pair pair;
    enum es_err err = ES_AGAIN;
    uint64_t start_ns = 0;
    size_t count = 0;

    pair_open(&pair);
    assert_int_equal(esi_stream_start_tls_server(pair.server, context), ES_OK);
    assert_int_equal(esi_stream_writev(pair.client, &part, 1, &count), ES_OK);
    assert_int_equal(count, len);
    while (err == ES_AGAIN) {
        assert_true(pair_has_time(&start_ns));
        err = esi_stream_handshake(pair.server);
    }
    assert_int_equal(err, ES_TLS);
    if (strstr(esi_stream_failure(pair.server), words) == NULL) {
        print_error("expected '%s' in '%s'\n", words, esi_stream_failure(pair.server));
    }
    assert_non_null(strstr(esi_stream_failure(pair.server), words));
    pair_close(&pair);
    esi_tls_context_unref(context);
}

static void plain_text_is_told_from_tls(void **state)
{
    (void)state;
    expect_raw_refusal("CONNECT {}\r\nPING\r\n", 18, "plain text instead of TLS");
    expect_raw_refusal("G", 1, "plain text instead of TLS");
    expect_raw_refusal("\x16 but no TLS", 13, "plain text instead of TLS");
    expect_good(good_server, good_client, "event-service");
}

/* A server that speaks plain text to a TLS client. */
static void plain_text_from_a_server_is_told_too(void **state)
{
    struct esi_tls_context *context = pair_context(good_client);
    struct stream_pair pair;
    const struct iovec part = {.iov_base = (void *)(uintptr_t) "INFO {}\r\n", .iov_len = 9};
    enum es_err err = ES_AGAIN;
    uint64_t start_ns = 0;
    size_t count = 0;

    (void)state;
    pair_open(&pair);
    assert_int_equal(esi_stream_start_tls_client(pair.client, context, "event-service"), ES_OK);
    assert_int_equal(esi_stream_writev(pair.server, &part, 1, &count), ES_OK);
    while (err == ES_AGAIN) {
        assert_true(pair_has_time(&start_ns));
        err = esi_stream_handshake(pair.client);
    }
    assert_int_equal(err, ES_TLS);
    assert_non_null(strstr(esi_stream_failure(pair.client), "plain text"));
    pair_close(&pair);
    esi_tls_context_unref(context);
}

/* A hello of TLS 1.1 with the suites of its time, then one of a TLS 1.2 client with static RSA
 * suites alone. */
static void old_versions_are_refused(void **state)
{
    static const unsigned char hello[] = {
        22, 3,  1,  0,    47,                               /* record */
        1,  0,  0,  43,   3,    2,                          /* hello, TLS 1.1 */
        1,  2,  3,  4,    5,    6,    7,    8,  9,  10, 11, /* random */
        12, 13, 14, 15,   16,   17,   18,   19, 20, 21, 22, /* random */
        23, 24, 25, 26,   27,   28,   29,   30, 31, 32,     /* random */
        0,  0,  4,  0xc0, 0x13, 0x00, 0x2f, 1,  0};         /* session, suites, null */
    unsigned char other[sizeof(hello)];

    (void)state;
    expect_raw_refusal(hello, sizeof(hello), "version is too old");
    memcpy(other, hello, sizeof(hello));
    other[10] = 3;
    expect_raw_refusal(other, sizeof(other), "no cipher suite in common");
    expect_good(good_server, good_client, "event-service");
}

/* Expects that no context is made, with words in the report. */
static void expect_no_context(struct pair_wish wish, enum es_err expected, const char *words)
{
    struct esi_tls_context *context = NULL;
    struct es_error error = {0};
    const enum es_err err = pair_try_context(&wish, &context, &error);

    if (err != expected || strstr(error.text, words) == NULL) {
        print_error("expected %d with '%s', got %d with '%s'\n", expected, words, err, error.text);
    }
    assert_int_equal(err, expected);
    assert_non_null(strstr(error.text, words));
    assert_null(context);
}

static void bad_files_make_no_context(void **state)
{
    struct pair_wish wish = good_server;

    (void)state;
    wish.certificates[0] = "missing";
    expect_no_context(wish, ES_NOT_FOUND, "missing.crt: cannot be read");
    wish.certificates[0] = "bad/key-mismatch";
    expect_no_context(wish, ES_INVALID, "does not belong to the certificate");
    wish.certificates[0] = "bad/empty";
    expect_no_context(wish, ES_INVALID, "empty.crt: the file is empty");
    wish.certificates[0] = "bad/garbage";
    expect_no_context(wish, ES_INVALID, "garbage.crt: holds no PEM certificate");

    wish = good_server;
    wish.certificates[1] = "bad/key-mismatch";
    expect_no_context(wish, ES_INVALID, "key-mismatch.key: the key does not belong");

    wish = good_server;
    wish.authority = "missing";
    expect_no_context(wish, ES_NOT_FOUND, "missing.crt: cannot be read");
    wish.authority = "bad/empty";
    expect_no_context(wish, ES_INVALID, "empty.crt: the file is empty");
    wish.authority = "bad/garbage";
    expect_no_context(wish, ES_INVALID, "garbage.crt: holds no PEM certificate");
    wish.authority = "bad/expired-ca";
    expect_no_context(wish, ES_INVALID, "all authorities in it have expired");
    wish.authority = "event-gateway";
    expect_no_context(wish, ES_INVALID, "certificate 1 is not an authority's");
}

static void write_file(const char *path, const char *text)
{
    assert_int_equal(esi_env_file_replace(esi_env_linux(), path, text, strlen(text), 0600), ES_OK);
}

/* An authority file of several: all must be in order, but an expired one is left out while another
 * is valid. */
static void bundles_of_authorities_are_read_whole(void **state)
{
    struct esi_bytes good;
    struct esi_bytes expired;
    struct esi_bytes bundle;
    struct pair_wish wish = good_server;

    (void)state;
    esi_bytes_init(&good, 0);
    esi_bytes_init(&expired, 0);
    esi_bytes_init(&bundle, 0);
    assert_int_equal(esi_env_file_read(esi_env_linux(), pair_path("ca", ".crt"), 65536, &good),
                     ES_OK);
    assert_int_equal(
        esi_env_file_read(esi_env_linux(), pair_path("bad/expired-ca", ".crt"), 65536, &expired),
        ES_OK);
    esi_bytes_printf(&bundle, "# comment\n%.*s%.*s", (int)expired.len, expired.data, (int)good.len,
                     good.data);
    esi_bytes_append(&bundle, "", 1);
    write_file(pair_path("bundle", ".crt"), bundle.data);
    wish.authority = "bundle";
    expect_good(wish, good_client, "event-service");

    esi_bytes_clear(&bundle);
    esi_bytes_printf(&bundle, "%.*s-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                     (int)good.len, good.data);
    esi_bytes_append(&bundle, "", 1);
    write_file(pair_path("bundle", ".crt"), bundle.data);
    expect_no_context(wish, ES_INVALID, "bundle.crt: certificate 2 is broken");

    esi_bytes_clear(&bundle);
    esi_bytes_printf(&bundle, "%.*s-----BEGIN CERTIFICATE-----\nMIIB", (int)good.len, good.data);
    esi_bytes_append(&bundle, "", 1);
    write_file(pair_path("bundle", ".crt"), bundle.data);
    expect_no_context(wish, ES_INVALID, "bundle.crt: certificate 2 is broken");
    esi_bytes_deinit(&good);
    esi_bytes_deinit(&expired);
    esi_bytes_deinit(&bundle);
}

static void keys_with_a_pass_phrase_are_refused(void **state)
{
    char command[512];
    struct pair_wish wish = good_server;

    (void)state;
    snprintf(command, sizeof(command),
             "cp %s/client.crt %s/locked.crt && openssl pkey -in %s/client.key -aes128 -passout "
             "pass:secret -out %s/locked.key",
             pair_folder, pair_folder, pair_folder, pair_folder);
    assert_int_equal(system(command), 0);
    wish.certificates[0] = "locked";
    expect_no_context(wish, ES_INVALID, "locked.key: the key has a pass phrase");
}

static void contradicting_options_make_no_context(void **state)
{
    struct pair_wish wish = {.role = TLS_SERVER, .authority = "ca"};
    struct esi_tls_options options = {.role = TLS_CLIENT};
    struct esi_tls_context *context = NULL;
    struct es_error error;

    (void)state;
    expect_no_context(wish, ES_INVALID, "a server needs cert_path");
    wish = (struct pair_wish){.role = TLS_CLIENT};
    expect_no_context(wish, ES_INVALID, "a client needs root_ca_path");
    wish = (struct pair_wish){.role = TLS_CLIENT, .authority = "ca", .insecure = true};
    expect_no_context(wish, ES_INVALID, "a client needs root_ca_path");
    wish = (struct pair_wish){
        .role = TLS_SERVER, .certificates = {"event-service"}, .allowed = {"event-gateway"}};
    expect_no_context(wish, ES_INVALID, "allowed_names need root_ca_path");
    options.root_ca_path = pair_path("ca", ".crt");
    assert_int_equal(esi_tls_context_new(&pair_env.env, &options, &context, &error), ES_INVALID);
    assert_null(context);
}

/* Said explicitly, a client believes anybody. */
static void an_insecure_client_believes_anybody(void **state)
{
    struct pair_wish server = {.role = TLS_SERVER, .certificates = {"bad/expired"}};
    struct pair_wish client = {.role = TLS_CLIENT, .insecure = true};

    (void)state;
    expect_good(server, client, "somebody.example");
}

/* A pinned certificate is believed whoever signed it and whatever it is called; no other is. */
static void a_pinned_certificate_alone_is_believed(void **state)
{
    static const char *const believed[] = {"event-service", "bad/unknown-ca", "bad/leaf-signed",
                                           "self-signed"};
    struct pair_wish server = good_server;
    struct pair_wish client = {.role = TLS_CLIENT};
    char command[1024];

    (void)state;
    snprintf(command, sizeof command,
             "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "
             "%s/self-signed.key -out %s/self-signed.crt -subj /CN=me -days 2 >%s/log 2>&1",
             pair_folder, pair_folder, pair_folder);
    assert_int_equal(system(command), 0);
    for (size_t i = 0; i < 2 * ESI_COUNT_OF(believed); i++) {
        server = (struct pair_wish){.role = TLS_SERVER, .certificates = {believed[i / 2]}};
        client.pinned = believed[i / 2];
        client.min_version = i % 2 == 0 ? TLS_VERSION_1_2 : TLS_VERSION_1_3;
        expect_good(server, client, NULL);
        expect_good(server, client, "somebody.example");
    }
    /* The same authority, and the same name, is not the same certificate. */
    server.certificates[0] = "event-gateway";
    client.pinned = "event-service";
    client.min_version = TLS_VERSION_1_2;
    expect_refusal(server, client, "event-gateway", false, "another certificate than the pinned");
    server.certificates[0] = "bad/unknown-ca";
    expect_refusal(server, client, NULL, false, "another certificate than the pinned");
    client.authority = "ca";
    expect_no_context(client, ES_INVALID, "a pinned certificate is for clients, and alone");
    client.authority = NULL;
    client.pinned = "bad/garbage";
    expect_no_context(client, ES_INVALID, "garbage.crt: holds no PEM certificate");
    client.pinned = "no-such-file";
    expect_no_context(client, ES_NOT_FOUND, "no-such-file.crt");
}

static void short_keys_are_refused(void **state)
{
    struct pair_wish server = good_server;
    struct esi_tls_context *context = NULL;
    struct es_error error = {0};

    (void)state;
    /* Where the server's own library takes the key at all, the client must not. */
    server.certificates[0] = "bad/short-key";
    if (pair_try_context(&server, &context, &error) == ES_OK) {
        esi_tls_context_unref(context);
        expect_refusal(server, good_client, "event-service", false, "shorter than 2048");
    } else {
        assert_non_null(strstr(error.text, "short-key"));
    }
}

static void the_first_end_of_certificates_is_known(void **state)
{
    struct pair_wish wish = {.role = TLS_SERVER, .certificates = {"event-service", "bad/expired"}};
    struct esi_tls_context *context = pair_context(wish);
    struct esi_tls_context *client =
        pair_context((struct pair_wish){.role = TLS_CLIENT, .authority = "ca"});

    (void)state;
    assert_int_equal(esi_tls_context_not_after_s(context), 1609459200); /* 2021-01-01 */
    assert_int_equal(esi_tls_context_not_after_s(client), 0);
    esi_tls_context_unref(context);
    esi_tls_context_unref(client);
    context = pair_context(good_server);
    assert_true(esi_tls_context_not_after_s(context) >
                esi_env_wall_ns(esi_env_linux()) / 1000000000 + 800 * 86400);
    esi_tls_context_unref(context);
}

/* A context lives as long as a stream uses it: reload drops the old one while connections go on. */
static void a_replaced_context_serves_its_streams_on(void **state)
{
    struct esi_tls_context *server = pair_context(good_server);
    struct esi_tls_context *client = pair_context(good_client);
    struct stream_pair pair;

    (void)state;
    pair_marry(&pair, server, client, "event-service");
    esi_tls_context_unref(client);
    esi_tls_context_unref(server);
    pair_expect_text(pair.client, pair.server, "PING");
    pair_expect_text(pair.server, pair.client, "PONG");
    pair_close(&pair);
}

/* What one thread of the next test works with and finds. */
struct shaker {
    struct esi_thread *thread;
    struct esi_tls_context *server;
    struct esi_tls_context *client;
    struct stream_pair pairs[SHAKES_A_THREAD];
    size_t good_count;
};

/* No cmocka check in here: they belong to the main thread. */
static void shake_in_thread(void *argument)
{
    struct shaker *shaker = argument;

    for (size_t i = 0; i < SHAKES_A_THREAD; i++) {
        struct stream_pair *pair = &shaker->pairs[i];
        enum es_err client = esi_stream_start_tls_client(pair->client, shaker->client, "localhost");
        enum es_err server = esi_stream_start_tls_server(pair->server, shaker->server);
        uint64_t start_ns = 0;

        if (client != ES_OK || server != ES_OK) {
            return;
        }
        client = ES_AGAIN;
        server = ES_AGAIN;
        while ((client == ES_AGAIN || server == ES_AGAIN) && pair_has_time(&start_ns)) {
            client = client == ES_AGAIN ? esi_stream_handshake(pair->client) : client;
            server = server == ES_AGAIN ? esi_stream_handshake(pair->server) : server;
        }
        shaker->good_count += client == ES_OK && server == ES_OK;
    }
}

/* Workers share the contexts: handshakes in several threads at once. */
static void threads_share_contexts(void **state)
{
    struct esi_env *env = esi_env_linux();
    struct shaker shakers[3] = {0};
    struct esi_tls_context *server = pair_context(good_server);
    struct esi_tls_context *client = pair_context(good_client);

    (void)state;
    for (size_t i = 0; i < ESI_COUNT_OF(shakers); i++) {
        shakers[i].server = server;
        shakers[i].client = client;
        for (size_t j = 0; j < SHAKES_A_THREAD; j++) {
            struct stream_pair *pair = &shakers[i].pairs[j];
            pair_connect(pair);
            assert_int_equal(esi_stream_new(env, pair->server_sock, &pair->server), ES_OK);
            assert_int_equal(esi_stream_new(env, pair->client_sock, &pair->client), ES_OK);
            pair->server_sock = ESI_ENV_NO_SOCKET;
            pair->client_sock = ESI_ENV_NO_SOCKET;
        }
    }
    for (size_t i = 0; i < ESI_COUNT_OF(shakers); i++) {
        assert_int_equal(
            esi_env_thread_start(env, "shaker", shake_in_thread, &shakers[i], &shakers[i].thread),
            ES_OK);
    }
    for (size_t i = 0; i < ESI_COUNT_OF(shakers); i++) {
        esi_env_thread_join(env, shakers[i].thread);
        assert_int_equal(shakers[i].good_count, SHAKES_A_THREAD);
    }
    esi_tls_context_unref(server);
    esi_tls_context_unref(client);
    for (size_t i = 0; i < ESI_COUNT_OF(shakers); i++) {
        for (size_t j = 0; j < SHAKES_A_THREAD; j++) {
            pair_close(&shakers[i].pairs[j]);
        }
    }
}

static void the_build_is_named_and_measured(void **state)
{
    const char *name = esi_tls_build_name();

    (void)state;
    assert_true(strncmp(name, "private 5.", 10) == 0 || strncmp(name, "system 5.", 9) == 0);
    assert_true(esi_tls_measure(esi_env_linux()) > 1);
    print_message("%s, %u MB/s\n", name, esi_tls_measure(esi_env_linux()));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(both_sides_know_each_other, set_up),
        cmocka_unit_test_setup(tls_1_3_can_be_demanded, set_up),
        cmocka_unit_test_setup(server_may_ask_for_no_certificate, set_up),
        cmocka_unit_test_setup(bad_clients_are_refused, set_up),
        cmocka_unit_test_setup(bad_servers_are_refused, set_up),
        cmocka_unit_test_setup(server_names_are_checked, set_up),
        cmocka_unit_test_setup(allowed_names_are_checked, set_up),
        cmocka_unit_test_setup(certificate_is_chosen_by_sni, set_up),
        cmocka_unit_test_setup(alpn_is_agreed_but_not_demanded, set_up),
        cmocka_unit_test_setup(openssl_clients_get_in, set_up),
        cmocka_unit_test_setup(keys_are_changed_on_demand, set_up),
        cmocka_unit_test_setup(openssl_servers_are_believed, set_up),
        cmocka_unit_test_setup(bad_openssl_peers_are_refused_in_both_versions, set_up),
        cmocka_unit_test_setup(plain_text_is_told_from_tls, set_up),
        cmocka_unit_test_setup(plain_text_from_a_server_is_told_too, set_up),
        cmocka_unit_test_setup(old_versions_are_refused, set_up),
        cmocka_unit_test_setup(bad_files_make_no_context, set_up),
        cmocka_unit_test_setup(bundles_of_authorities_are_read_whole, set_up),
        cmocka_unit_test_setup(keys_with_a_pass_phrase_are_refused, set_up),
        cmocka_unit_test_setup(contradicting_options_make_no_context, set_up),
        cmocka_unit_test_setup(an_insecure_client_believes_anybody, set_up),
        cmocka_unit_test_setup(a_pinned_certificate_alone_is_believed, set_up),
        cmocka_unit_test_setup(short_keys_are_refused, set_up),
        cmocka_unit_test_setup(the_first_end_of_certificates_is_known, set_up),
        cmocka_unit_test_setup(a_replaced_context_serves_its_streams_on, set_up),
        cmocka_unit_test_setup(threads_share_contexts, set_up),
        cmocka_unit_test_setup(the_build_is_named_and_measured, set_up),
    };

    return cmocka_run_group_tests(tests, pair_make_certificates, pair_remove_certificates);
}
