/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Assertions. ESI_REQUIRE: the caller broke the contract. ESI_ASSERT: we broke our own invariant.
 * Both stay on in release. ESI_DEBUG_ASSERT is for the path of a message, and is off where NDEBUG
 * is defined. Bad input from outside is never an assertion.
 */
#pragma once

/* Prints the place, the condition and a backtrace, and aborts. Thread: any. Does not return. */
__attribute__((noreturn, cold)) void esi_assert_failed(const char *kind, const char *condition,
                                                       const char *file, int line);

#define ESI_REQUIRE(x) ((x) ? (void)0 : esi_assert_failed("requirement", #x, __FILE__, __LINE__))
#define ESI_ASSERT(x) ((x) ? (void)0 : esi_assert_failed("assertion", #x, __FILE__, __LINE__))
#ifdef NDEBUG
#define ESI_DEBUG_ASSERT(x) ((void)0)
#else
#define ESI_DEBUG_ASSERT(x) ESI_ASSERT(x)
#endif
