/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a peer must not do without end: resets, frames that carry nothing, CONTINUATIONs. Read from
 * the bytes, before the library works on them.
 */
#include "net/http2_internal.h"

#include <string.h>

enum { FRAMES_A_WORK_FRAME = 4 /* idle frames forgiven for a frame with headers or a body */ };

void esi_http2_flood_roll(struct esi_http2 *http2, uint64_t now_ns)
{
    http2->now_ns = now_ns;
    if (now_ns - http2->window_start_ns >= http2->limits.window_ns) {
        http2->window_start_ns = now_ns;
        http2->work_frames = 0;
        http2->idle_frames = 0;
        http2->resets = 0;
    }
}

bool esi_http2_flood_count_reset(struct esi_http2 *http2)
{
    return http2->role == HTTP2_CLIENT || ++http2->resets <= http2->limits.resets_max;
}

/* Counts one frame of the peer. Returns false when it is over a bound. */
static bool count_frame(struct esi_http2 *http2, uint8_t type, uint8_t flags, size_t len)
{
    if (type == NGHTTP2_CONTINUATION) {
        return ++http2->continuations <= http2->limits.continuations_max;
    }
    http2->continuations = 0;
    if (type == NGHTTP2_RST_STREAM) {
        return esi_http2_flood_count_reset(http2);
    }
    if (type == NGHTTP2_HEADERS ||
        (type == NGHTTP2_DATA && (len > 0 || (flags & NGHTTP2_FLAG_END_STREAM) != 0))) {
        http2->work_frames++;
        return true;
    }
    http2->idle_frames++;
    return http2->idle_frames <=
           http2->limits.idle_frames_max + FRAMES_A_WORK_FRAME * http2->work_frames;
}

bool esi_http2_flood_count_frames(struct esi_http2 *http2, const uint8_t *data, size_t len)
{
    struct frame_scan *scan = &http2->scan;

    while (len > 0) {
        size_t step;
        if (scan->skip > 0) {
            step = len < scan->skip ? len : scan->skip;
            scan->skip -= step;
        } else {
            const size_t missing = HTTP2_FRAME_HEADER_BYTES - scan->header_len;
            step = len < missing ? len : missing;
            memcpy(scan->header + scan->header_len, data, step);
            scan->header_len += step;
            if (scan->header_len == HTTP2_FRAME_HEADER_BYTES) {
                const uint8_t *h = scan->header;
                scan->skip = ((size_t)h[0] << 16) | ((size_t)h[1] << 8) | h[2];
                scan->header_len = 0;
                if (!count_frame(http2, h[3], h[4], scan->skip)) {
                    return false;
                }
            }
        }
        data += step;
        len -= step;
    }
    return true;
}
