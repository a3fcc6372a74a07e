/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Points in time as RFC 3339 text, in the range of google.protobuf.Timestamp: the years 1 to 9999.
 */
#pragma once

#include "base/bytes.h"
#include "base/str.h"

#include <stdbool.h>
#include <stdint.h>

/*
 * Reads a time such as 2020-02-29T12:00:00.5Z or 2020-02-29T14:00:00+02:00: capital T and Z, 1 to 9
 * decimals, no leap second, nothing before or behind.
 *   seconds   since 1970, UTC; written on success, as nanos (0 to 999,999,999)
 * Returns false when it is no such time. Thread: any.
 */
bool esi_timestamp_read(struct esi_str text, int64_t *seconds, uint32_t *nanos);

/* Appends the time with 0, 3, 6 or 9 decimals and Z. It must be in the range above. Thread: any. */
void esi_timestamp_append(struct esi_bytes *out, int64_t seconds, uint32_t nanos);
