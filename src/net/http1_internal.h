/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the two files behind net/http1.h share beside it. */
#pragma once

#include "net/http1.h"

#include <stdbool.h>

/* May it stand as a header: a token, and a value without bytes that end a line? */
bool esi_http1_is_header(const struct esi_http1_pair *header);
