/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The first record that a TLS client sends, read before the TLS library sees it: is it TLS, and for
 * which server name? Hand-written, because the library's own look at a hello reads up to two bytes
 * past the end of a broken one.
 */
#pragma once

#include "base/err.h"
#include "base/str.h"

enum { ESI_CLIENT_HELLO_RECORD_MAX = 5 + 16384 };

/*
 * Looks at the first bytes from a client.
 *   *server_name   borrowed from data; empty when the client names none
 * ES_OK; ES_AGAIN: the record is not complete; ES_INVALID: no TLS, known from the first byte on;
 * ES_UNSUPPORTED: TLS, but what follows cannot be read (split over records, broken): the library
 * decides. Thread: any.
 */
ES_MUST_USE enum es_err esi_client_hello_read(struct esi_str data, struct esi_str *server_name);
