/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * libeventservice: a NATS server inside your program. Configure it, start it, stop it. Several
 * servers may live in one process. The library sets no signal handler, never exits, and leaves no
 * thread behind after es_server_stop.
 */
#pragma once

#include <eventservice/err.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct es_config;
struct es_server;

/* Whose defaults and keys a configuration has: the internal server's, or the one for outside
 * clients. */
enum es_program { ES_EVENT_SERVICE, ES_EVENT_GATEWAY };

/*
 * Reads and checks a configuration file (YAML or TOML).
 *   path     borrowed
 *   out      owned by the caller: es_config_free, after every server that uses it was freed
 *   errors   on failure: every error found, one a line ("FILE:LINE:COLUMN: ...", or "FILE: ..."
 *            for a rule that cannot be made), owned by the caller (free); may be NULL
 * Errors: ES_INVALID, ES_NOT_FOUND, ES_DENIED, ES_IO, ES_TOO_LARGE, ES_NO_MEMORY. Thread: any.
 * Blocks (files).
 */
enum es_err es_config_load(const char *path, enum es_program program, struct es_config **out,
                           char **errors);
/* The same from memory; name stands in error texts and tells the format by its ending. */
enum es_err es_config_parse(const char *name, const char *text, size_t len, enum es_program program,
                            struct es_config **out, char **errors);
/* The effective configuration as YAML, secrets masked, with its digest as a comment; owned by the
 * caller (free); NULL when memory is exhausted. */
char *es_config_print(const struct es_config *config);
/* Every key of a program's configuration, one a paragraph: default, what it is for, what is
 * allowed. Owned by the caller (free); NULL when memory is exhausted. */
char *es_config_keys(enum es_program program);
/* NULL is accepted. */
void es_config_free(struct es_config *config);

/*
 * Makes a server and opens its doors; it runs on threads of its own from here on.
 *   config  borrowed until es_server_free
 *   out     owned by the caller
 *   error   on failure: what is wrong and what to do, in one line; may be NULL
 * Errors: ES_IN_USE (a port is taken), ES_DENIED, ES_NOT_FOUND, ES_INVALID, ES_IO, ES_NO_MEMORY;
 * ES_UNSUPPORTED: a secret is masked, as es_config_print writes it. Thread: any. Blocks.
 */
enum es_err es_server_start(const struct es_config *config, struct es_server **out,
                            struct es_error *error);
/*
 * Closes the doors, lets what was accepted be written, brings queued events to their workers, ends
 * all threads. Blocks, at most about timeout_ms for each of four phases, and queue.drain_timeout
 * more where events are queued. Returns ES_OK, or ES_TIMEOUT when peers had to be cut off.
 * Idempotent. Thread: not one of the server's.
 */
enum es_err es_server_stop(struct es_server *server, uint32_t timeout_ms);
/* Frees a server, stopping it first where that was not done; NULL is accepted. */
void es_server_free(struct es_server *server);

/* The real ports (a configured port 0 means any free one); 0 when that door is closed. */
uint16_t es_server_client_port(const struct es_server *server);
uint16_t es_server_gateway_port(const struct es_server *server);
uint16_t es_server_monitor_port(const struct es_server *server);

/* Opens the log file of the configuration again, after it was rotated. Thread: any. */
enum es_err es_log_reopen(void);

/* The version of this library: "0.1.0". Static. */
const char *es_version(void);

#ifdef __cplusplus
}
#endif
