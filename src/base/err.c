/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The sentences of the error codes. No default: the compiler names a code without one. */
#include "base/err.h"

ES_API const char *es_err_text(enum es_err err)
{
    switch (err) {
    case ES_OK:
        return "success";
    case ES_NO_MEMORY:
        return "out of memory";
    case ES_AGAIN:
        return "nothing available now";
    case ES_CLOSED:
        return "closed by the peer";
    case ES_INVALID:
        return "malformed input";
    case ES_NOT_FOUND:
        return "not found";
    case ES_EXISTS:
        return "exists already";
    case ES_DENIED:
        return "permission denied";
    case ES_IN_USE:
        return "address already in use";
    case ES_TIMEOUT:
        return "timed out";
    case ES_TOO_LARGE:
        return "too large";
    case ES_UNREACHABLE:
        return "unreachable";
    case ES_IO:
        return "input/output error";
    case ES_TLS:
        return "TLS failure";
    case ES_UNSUPPORTED:
        return "not supported by this version";
    case ES_FULL:
        return "full";
    case ES_FOLDER:
        return "it is a folder, not a file";
    }
    return "unknown error";
}
