/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The error codes for use inside; the list itself is public. */
#pragma once

#include <eventservice/err.h>

/* The result must be looked at. */
#define ES_MUST_USE __attribute__((warn_unused_result))
/* printf-like: the format is parameter f, its arguments start at a. */
#define ESI_PRINTF(f, a) __attribute__((format(printf, f, a)))
/* Part of the shared library's interface. */
#define ES_API __attribute__((visibility("default")))
