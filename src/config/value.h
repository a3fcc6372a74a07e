/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the texts of a configuration mean: numbers, sizes, durations, hosts, addresses, environment
 * variables. */
#pragma once

#include "base/bytes.h"
#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

/* All of these take a NUL-ended text, write *out only on success, and return false for anything
 * else. Thread: any. */

/* Decimal digits without a sign or a leading zero. */
bool esi_value_read_number(const char *text, uint64_t *out);
/* A number of bytes, with B, KB, MB, GB (powers of 1000) or KiB, MiB, GiB (of 1024), in any case.
 */
bool esi_value_read_size(const char *text, uint64_t *bytes);
/* Seconds, or numbers with ns, us, ms, s, m, h, d one after another: 90, 2s, 1h30m. */
bool esi_value_read_duration(const char *text, uint64_t *ns);
bool esi_value_read_flag(const char *text, bool *out);

/* Appends the shortest text that reads back as the same value. */
void esi_value_print_size(uint64_t bytes, struct esi_bytes *out);
void esi_value_print_duration(uint64_t ns, struct esi_bytes *out);

/* A host name, or a numeric address of IPv4 or (without brackets) IPv6. */
bool esi_value_is_host(const char *text);
/* A numeric address. */
bool esi_value_is_numeric(const char *host);
/* "localhost", 127.0.0.0/8 or ::1: reachable from this machine only. */
bool esi_value_is_loopback(const char *host);
/* 0.0.0.0 or ::: every address of this machine. */
bool esi_value_is_any(const char *host);

/*
 * Splits HOST:PORT; an IPv6 address stands in brackets.
 *   host   owned by the caller, without brackets
 *   port   1 to 65535
 * Errors: ES_INVALID, ES_NO_MEMORY.
 */
ES_MUST_USE enum es_err esi_value_split_address(struct esi_str text, char **host, uint16_t *port);

/*
 * Appends text with every ${NAME} replaced by the environment's variable; "$${" stands for "${".
 * Errors: ES_NOT_FOUND (a variable is not set), ES_INVALID (no closing brace, or no name); *name
 * then tells which part of the text it was. Thread: any, as long as nobody calls setenv.
 */
ES_MUST_USE enum es_err esi_value_expand(const char *text, struct esi_bytes *out,
                                         struct esi_str *name);
