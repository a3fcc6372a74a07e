/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The line was written by ourselves (broker/batch.c); its numbers are checked all the same, so that
 * a message that was cut where memory ran out is never read beyond its end.
 */
#include "actors/queue_record.h"
#include "base/num.h"
#include "broker/batch.h"

#include <string.h>

enum { SIZE_DIGITS_MAX = 10 };

/* Takes the number at the start of *rest and the byte behind it. */
static bool take_number(struct esi_str *rest, char end, size_t *number)
{
    const char *at = memchr(rest->data, end, rest->len);
    uint64_t value = 0;

    if (at == NULL ||
        !esi_num_parse(rest->data, (size_t)(at - rest->data), SIZE_DIGITS_MAX, &value)) {
        return false;
    }
    rest->len -= (size_t)(at - rest->data) + 1;
    rest->data = at + 1;
    *number = (size_t)value;
    return true;
}

/* Reads the line; *rest is left behind its CR LF, the sizes are written. */
static bool read_line(const struct esi_slice *slice, struct esi_str sid,
                      struct esi_queue_record *record, struct esi_str *rest, size_t *header_len,
                      size_t *total_len)
{
    const bool has_header = slice->len > 0 && slice->data[0] == 'H';
    const size_t op_len = has_header ? 5 : 4; /* "HMSG " or "MSG " */
    const size_t fixed_len = op_len + 1 + sid.len + 1;
    size_t at = slice->reply_offset;

    if (at > slice->len || at <= fixed_len || slice->reply_len > slice->len - at) {
        return false;
    }
    record->subject = (struct esi_str){.data = slice->data + op_len, .len = at - fixed_len};
    record->reply = (struct esi_str){.data = slice->data + at, .len = slice->reply_len};
    at += slice->reply_len > 0 ? slice->reply_len + 1 : 0;
    *rest = (struct esi_str){.data = slice->data + at, .len = slice->len - at};
    *header_len = 0;
    if (at > slice->len || (has_header && !take_number(rest, ' ', header_len)) ||
        !take_number(rest, '\r', total_len) || rest->len == 0) {
        return false;
    }
    rest->data++;
    rest->len--;
    return *header_len <= *total_len;
}

enum es_err esi_queue_record_read(const struct esi_slice *slices, uint32_t count,
                                  struct esi_str sid, struct esi_queue_record *record,
                                  uint32_t *used)
{
    const struct esi_slice *slice = &slices[0];
    struct esi_str rest;
    size_t header_len = 0;
    size_t total_len = 0;

    *used = slice->is_continued && count > 1 ? 2 : 1;
    *record = (struct esi_queue_record){.is_from_gateway = slice->is_from_gateway};
    if (!slice->is_record || !read_line(slice, sid, record, &rest, &header_len, &total_len)) {
        return ES_INVALID;
    }
    if (slice->is_continued) {
        if (*used < 2 || slices[1].is_record) {
            *used = 1;
            return ES_INVALID;
        }
        rest = (struct esi_str){.data = slices[1].data, .len = slices[1].len};
    }
    if (rest.len < total_len) {
        return ES_INVALID;
    }
    if (slice->extra_len > 0) {
        record->mapped =
            (struct esi_str){.data = slice->data - slice->extra_len, .len = slice->extra_len};
    }
    record->header = (struct esi_str){.data = rest.data, .len = header_len};
    record->payload =
        (struct esi_str){.data = rest.data + header_len, .len = total_len - header_len};
    return ES_OK;
}
