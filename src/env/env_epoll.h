/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The poller of the Linux environment. What the calls promise is said in env/env.h, at
 * esi_env_poller_...; they stand in its table, which is why they take an environment, and need
 * none.
 */
#pragma once

#include "env/env.h"

ES_MUST_USE enum es_err esi_env_epoll_new(struct esi_env *env, struct esi_poller **out);
void esi_env_epoll_free(struct esi_env *env, struct esi_poller *poller);
ES_MUST_USE enum es_err esi_env_epoll_add(struct esi_env *env, struct esi_poller *poller, int sock,
                                          uint32_t events, void *tag);
void esi_env_epoll_change(struct esi_env *env, struct esi_poller *poller, int sock, uint32_t events,
                          void *tag);
void esi_env_epoll_remove(struct esi_env *env, struct esi_poller *poller, int sock);
size_t esi_env_epoll_wait(struct esi_env *env, struct esi_poller *poller, int64_t timeout_ns,
                          struct esi_poll_ready *ready, size_t capacity);
void esi_env_epoll_wake(struct esi_env *env, struct esi_poller *poller);
