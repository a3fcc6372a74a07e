/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Error codes of the library: ES_OK is 0, all others are negative. */
#pragma once

#ifdef __cplusplus
extern "C" {
#endif

enum es_err {
    ES_OK = 0,
    ES_NO_MEMORY = -1,    /* memory is exhausted, or a configured bound is reached */
    ES_AGAIN = -2,        /* nothing to be had now; not a failure */
    ES_CLOSED = -3,       /* the peer has closed, or the object is stopped */
    ES_INVALID = -4,      /* input that breaks the format's rules */
    ES_NOT_FOUND = -5,    /* no such file, name or entry */
    ES_EXISTS = -6,       /* there is one already */
    ES_DENIED = -7,       /* missing rights, or refused credentials */
    ES_IN_USE = -8,       /* the address is taken by another process */
    ES_TIMEOUT = -9,      /* a deadline has passed */
    ES_TOO_LARGE = -10,   /* over a configured or fixed limit */
    ES_UNREACHABLE = -11, /* no connection to the address can be made */
    ES_IO = -12,          /* the operating system failed in another way */
    ES_TLS = -13,         /* the TLS handshake or a record failed */
    ES_UNSUPPORTED = -14, /* understood, but not built into this version */
    ES_FULL = -15,        /* a bounded queue or table has no room */
    ES_FOLDER = -16       /* a folder stands where a file is needed */
};

/* Room for one human-readable report: what was found, where, and what is allowed. */
struct es_error {
    char text[512];
};

/*
 * The sentence for an error code.
 * Returns a static string without a full stop; never NULL. Thread: any.
 */
const char *es_err_text(enum es_err err);

#ifdef __cplusplus
}
#endif
