/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Addresses and TCP sockets of the Linux environment: file descriptors, non-blocking and
 * close-on-exec. What the calls promise is said in env/env.h, at the one of the same name; they
 * stand in its table, which is why they take an environment, and need none.
 */
#pragma once

#include "env/env.h"

ES_MUST_USE enum es_err esi_env_sockets_resolve(struct esi_env *env, const char *host,
                                                uint16_t port, struct esi_address *addresses,
                                                size_t capacity, size_t *count);
ES_MUST_USE enum es_err esi_env_sockets_listen(struct esi_env *env, const char *host, uint16_t port,
                                               int *sock, struct esi_address *bound);
ES_MUST_USE enum es_err esi_env_sockets_accept(struct esi_env *env, int listener, int *sock,
                                               struct esi_address *peer);
ES_MUST_USE enum es_err esi_env_sockets_connect(struct esi_env *env,
                                                const struct esi_address *address,
                                                const struct esi_address *source, int *sock);
ES_MUST_USE enum es_err esi_env_sockets_connect_result(struct esi_env *env, int sock);
ES_MUST_USE enum es_err esi_env_sockets_local_address(struct esi_env *env, int sock,
                                                      struct esi_address *local);
ES_MUST_USE enum es_err esi_env_sockets_read(struct esi_env *env, int sock, void *buffer,
                                             size_t capacity, size_t *count);
ES_MUST_USE enum es_err esi_env_sockets_writev(struct esi_env *env, int sock,
                                               const struct iovec *parts, size_t part_count,
                                               size_t *count);
void esi_env_sockets_shutdown_write(struct esi_env *env, int sock);
void esi_env_sockets_close(struct esi_env *env, int sock);
