/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A reader of the few parts of X.509 (RFC 5280) that are needed, in DER. All reads go through
 * take_value(), which never passes the end; no recursion: the depth is that of the code. Text is
 * gathered in one bounded buffer, with offsets instead of pointers until its final place is known.
 */
#include "net/certificate.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/bytes.h"
#include "base/own.h"
#include "base/str.h"

enum der_tag {
    DER_OID = 0x06,
    DER_UTF8_STRING = 0x0c,
    DER_PRINTABLE_STRING = 0x13,
    DER_T61_STRING = 0x14,
    DER_IA5_STRING = 0x16,
    DER_UTC_TIME = 0x17,
    DER_GENERALIZED_TIME = 0x18,
    DER_BOOLEAN = 0x01,
    DER_OCTET_STRING = 0x04,
    DER_SEQUENCE = 0x30,
    DER_SET = 0x31,
    DER_VERSION = 0xa0,    /* [0] of the certificate */
    DER_EXTENSIONS = 0xa3, /* [3] of the certificate */
    DER_NAME_DNS = 0x82,   /* [2] of a GeneralName */
    DER_NAME_IP = 0x87     /* [7] of a GeneralName */
};

enum { TEXT_BYTES_MAX = 32768, IPV4_BYTES = 4, IPV6_BYTES = 16, HOST_NAME_MAX_BYTES = 253 };

/* Gathers what the certificate says while it is read. */
struct gathering {
    struct esi_bytes text; /* all strings, each ended by NUL */
    uint32_t name_offsets[ESI_CERTIFICATE_NAMES_MAX];
    bool name_is_ip[ESI_CERTIFICATE_NAMES_MAX];
    size_t name_count;
    size_t ip_count;
    uint32_t common_name_offset; /* 0: the empty string at the front */
    uint32_t subject_offset;
    int64_t not_before_s;
    int64_t not_after_s;
    bool is_authority;
};

/* Takes the next value of any tag. Lengths of up to 3 bytes: a certificate in TLS is at most 16
 * MiB. */
static bool take_any(struct esi_str *from, unsigned *tag, struct esi_str *value)
{
    const uint8_t *bytes = (const uint8_t *)from->data;
    size_t header = 2;
    size_t len;

    if (from->len < 2 || (bytes[0] & 0x1f) == 0x1f) {
        return false;
    }
    len = bytes[1];
    if (len >= 0x80) {
        const size_t count = len & 0x7f;
        if (count == 0 || count > 3 || from->len < 2 + count) {
            return false;
        }
        len = 0;
        for (size_t i = 0; i < count; i++) {
            len = len << 8 | bytes[2 + i];
        }
        header += count;
    }
    if (from->len - header < len) {
        return false;
    }
    *tag = bytes[0];
    *value = (struct esi_str){.data = from->data + header, .len = len};
    from->data += header + len;
    from->len -= header + len;
    return true;
}

/* Takes the next value if it has this tag; else takes nothing. */
static bool take_value(struct esi_str *from, enum der_tag tag, struct esi_str *value)
{
    struct esi_str rest = *from;
    struct esi_str found;
    unsigned found_tag;

    if (!take_any(&rest, &found_tag, &found) || found_tag != (unsigned)tag) {
        return false;
    }
    *from = rest;
    *value = found;
    return true;
}

/* Takes the next value, whatever it is. */
static bool skip_value(struct esi_str *from)
{
    struct esi_str value;
    unsigned tag;

    return take_any(from, &tag, &value);
}

/* True for text without control bytes; 8-bit bytes only where allowed. */
static bool is_printable(struct esi_str text, bool allow_8bit)
{
    for (size_t i = 0; i < text.len; i++) {
        const uint8_t c = (uint8_t)text.data[i];
        if (c < 0x20 || c == 0x7f || (c >= 0x80 && !allow_8bit)) {
            return false;
        }
    }
    return true;
}

/* True for the string types whose bytes are text as they stand. */
static bool is_text_tag(unsigned tag)
{
    return tag == DER_UTF8_STRING || tag == DER_PRINTABLE_STRING || tag == DER_IA5_STRING ||
           tag == DER_T61_STRING;
}

/* Reads count decimal digits. */
static bool read_digits(const char *text, size_t count, int *out)
{
    int value = 0;

    for (size_t i = 0; i < count; i++) {
        if (text[i] < '0' || text[i] > '9') {
            return false;
        }
        value = value * 10 + (text[i] - '0');
    }
    *out = value;
    return true;
}

/* Days from 1970-01-01 to a date of the Gregorian calendar. */
static int64_t count_days(int year, int month, int day)
{
    /* Years that begin in March put the leap day last, so that every month has a fixed place. */
    const int64_t y = month <= 2 ? year - 1 : year;
    const int64_t month_from_march = (month + 9) % 12;
    const int64_t day_of_year = (153 * month_from_march + 2) / 5 + day - 1;

    return y * 365 + y / 4 - y / 100 + y / 400 + day_of_year - 719468;
}

/* Takes a UTCTime or GeneralizedTime in the forms of RFC 5280 (seconds given, ends with Z). */
static bool take_time(struct esi_str *from, int64_t *out)
{
    struct esi_str text;
    const char *rest;
    int year;
    int part[5]; /* month, day, hour, minute, second */

    if (take_value(from, DER_UTC_TIME, &text)) {
        if (text.len != 13 || !read_digits(text.data, 2, &year)) {
            return false;
        }
        year += year < 50 ? 2000 : 1900;
        rest = text.data + 2;
    } else {
        if (!take_value(from, DER_GENERALIZED_TIME, &text) || text.len != 15 ||
            !read_digits(text.data, 4, &year)) {
            return false;
        }
        rest = text.data + 4;
    }
    for (size_t i = 0; i < ESI_COUNT_OF(part); i++) {
        if (!read_digits(rest + 2 * i, 2, &part[i])) {
            return false;
        }
    }
    if (rest[10] != 'Z' || part[0] < 1 || part[0] > 12 || part[1] < 1 || part[1] > 31) {
        return false;
    }
    *out = count_days(year, part[0], part[1]) * 86400 + part[2] * 3600 + part[3] * 60 + part[4];
    return true;
}

/* Begins a string in the text; it is ended by end_text. */
static uint32_t begin_text(const struct gathering *found)
{
    return (uint32_t)found->text.len;
}

static void end_text(struct gathering *found)
{
    esi_bytes_append(&found->text, "", 1);
}

/* The short name of an attribute of a subject, or NULL. */
static const char *name_attribute(struct esi_str oid)
{
    static const struct {
        struct esi_str oid;
        const char *name;
    } rows[] = {
        {ESI_STR("\x55\x04\x03"), "CN"},
        {ESI_STR("\x55\x04\x05"), "serialNumber"},
        {ESI_STR("\x55\x04\x06"), "C"},
        {ESI_STR("\x55\x04\x07"), "L"},
        {ESI_STR("\x55\x04\x08"), "ST"},
        {ESI_STR("\x55\x04\x0a"), "O"},
        {ESI_STR("\x55\x04\x0b"), "OU"},
        {ESI_STR("\x09\x92\x26\x89\x93\xf2\x2c\x64\x01\x19"), "DC"},
        {ESI_STR("\x09\x92\x26\x89\x93\xf2\x2c\x64\x01\x01"), "UID"},
        {ESI_STR("\x2a\x86\x48\x86\xf7\x0d\x01\x09\x01"), "emailAddress"},
    };

    for (size_t i = 0; i < ESI_COUNT_OF(rows); i++) {
        if (esi_str_equal(rows[i].oid, oid)) {
            return rows[i].name;
        }
    }
    return NULL;
}

/* Appends a value with the escapes of RFC 4514. */
static void append_escaped(struct esi_bytes *out, struct esi_str value)
{
    for (size_t i = 0; i < value.len; i++) {
        const char c = value.data[i];
        if (strchr(",+\"\\<>;=", c) != NULL || ((i == 0 || i + 1 == value.len) && c == ' ') ||
            (i == 0 && c == '#')) {
            esi_bytes_append(out, "\\", 1);
        }
        esi_bytes_append(out, &c, 1);
    }
}

/* One attribute of the subject: type and value. */
static bool read_attribute(struct esi_str attribute, struct gathering *found,
                           struct esi_str *common)
{
    struct esi_str oid;
    struct esi_str value;
    unsigned tag;
    const char *name;

    if (!take_value(&attribute, DER_OID, &oid) || !take_any(&attribute, &tag, &value)) {
        return false;
    }
    name = name_attribute(oid);
    if (name == NULL || !is_text_tag(tag)) {
        /* An attribute of no use for us, or in UTF-16 or -32: named, not shown. */
        esi_bytes_printf(&found->text, "%s=?", name != NULL ? name : "OID");
        return true;
    }
    if (!is_printable(value, tag != DER_IA5_STRING)) {
        return false;
    }
    esi_bytes_printf(&found->text, "%s=", name);
    append_escaped(&found->text, value);
    if (strcmp(name, "CN") == 0) {
        *common = value; /* of several the last, which is the most specific */
    }
    return true;
}

/* The subject: a sequence of sets of attributes. */
static bool read_subject(struct esi_str subject, struct gathering *found)
{
    struct esi_str common = {0};
    struct esi_str set;
    struct esi_str attribute;
    bool is_first = true;

    found->subject_offset = begin_text(found);
    while (subject.len > 0) {
        if (!take_value(&subject, DER_SET, &set)) {
            return false;
        }
        for (bool is_first_of_set = true; set.len > 0; is_first_of_set = false) {
            if (!take_value(&set, DER_SEQUENCE, &attribute)) {
                return false;
            }
            if (!is_first) {
                esi_bytes_append(&found->text, is_first_of_set ? "," : "+", 1);
            }
            is_first = false;
            if (!read_attribute(attribute, found, &common)) {
                return false;
            }
        }
    }
    end_text(found);
    if (common.len > 0) {
        found->common_name_offset = begin_text(found);
        esi_bytes_append_str(&found->text, common);
        end_text(found);
    }
    return true;
}

/* One DNS name or address of the subjectAltName. */
static enum es_err add_name(struct gathering *found, bool is_ip, struct esi_str value)
{
    char address[INET6_ADDRSTRLEN];

    if (found->name_count == ESI_CERTIFICATE_NAMES_MAX) {
        return ES_TOO_LARGE;
    }
    if (is_ip) {
        if (value.len != IPV4_BYTES && value.len != IPV6_BYTES) {
            return ES_INVALID;
        }
        if (inet_ntop(value.len == IPV4_BYTES ? AF_INET : AF_INET6, value.data, address,
                      sizeof(address)) == NULL) {
            return ES_INVALID;
        }
        value = esi_str_from(address);
        found->ip_count++;
    } else if (!is_printable(value, false)) {
        return ES_INVALID;
    }
    found->name_offsets[found->name_count] = begin_text(found);
    found->name_is_ip[found->name_count] = is_ip;
    found->name_count++;
    esi_bytes_append_str(&found->text, value);
    end_text(found);
    return ES_OK;
}

/* The subjectAltName's content. Names of other kinds (mail, URI, directory) name no host or service
 * here. */
static enum es_err read_alternative_names(struct esi_str content, struct gathering *found)
{
    struct esi_str names;
    struct esi_str value;
    unsigned tag;

    if (!take_value(&content, DER_SEQUENCE, &names)) {
        return ES_INVALID;
    }
    while (names.len > 0) {
        if (!take_any(&names, &tag, &value)) {
            return ES_INVALID;
        }
        if (tag == DER_NAME_DNS || tag == DER_NAME_IP) {
            const enum es_err err = add_name(found, tag == DER_NAME_IP, value);
            if (err != ES_OK) {
                return err;
            }
        }
    }
    return ES_OK;
}

/* The basicConstraints' content: a sequence that begins with "cA TRUE", or holds no such value. */
static bool is_authority(struct esi_str content)
{
    struct esi_str constraints;
    struct esi_str value;

    return take_value(&content, DER_SEQUENCE, &constraints) &&
           take_value(&constraints, DER_BOOLEAN, &value) && value.len == 1 && value.data[0] != 0;
}

/* The extensions: looks for the subjectAltName and the basicConstraints. */
static enum es_err read_extensions(struct esi_str content, struct gathering *found)
{
    static const struct esi_str alternative_names = ESI_STR("\x55\x1d\x11");
    static const struct esi_str basic_constraints = ESI_STR("\x55\x1d\x13");
    struct esi_str list;
    struct esi_str extension;
    struct esi_str oid;
    struct esi_str value;

    if (!take_value(&content, DER_SEQUENCE, &list)) {
        return ES_INVALID;
    }
    while (list.len > 0) {
        if (!take_value(&list, DER_SEQUENCE, &extension) ||
            !take_value(&extension, DER_OID, &oid)) {
            return ES_INVALID;
        }
        (void)take_value(&extension, DER_BOOLEAN, &value); /* critical or not: there or not */
        if (!take_value(&extension, DER_OCTET_STRING, &value)) {
            return ES_INVALID;
        }
        if (esi_str_equal(oid, alternative_names)) {
            const enum es_err err = read_alternative_names(value, found);
            if (err != ES_OK) {
                return err;
            }
        } else if (esi_str_equal(oid, basic_constraints)) {
            found->is_authority = is_authority(value);
        }
    }
    return ES_OK;
}

/* The whole certificate, down to the extensions. */
static enum es_err read_certificate(struct esi_str der, struct gathering *found)
{
    struct esi_str certificate;
    struct esi_str signed_part;
    struct esi_str value;
    struct esi_str extensions;

    if (!take_value(&der, DER_SEQUENCE, &certificate) ||
        !take_value(&certificate, DER_SEQUENCE, &signed_part)) {
        return ES_INVALID;
    }
    (void)take_value(&signed_part, DER_VERSION, &value); /* absent in version 1 */
    /* serial number, signature algorithm, issuer */
    if (!skip_value(&signed_part) || !skip_value(&signed_part) || !skip_value(&signed_part)) {
        return ES_INVALID;
    }
    if (!take_value(&signed_part, DER_SEQUENCE, &value) ||
        !take_time(&value, &found->not_before_s) || !take_time(&value, &found->not_after_s)) {
        return ES_INVALID;
    }
    if (!take_value(&signed_part, DER_SEQUENCE, &value) || !read_subject(value, found)) {
        return ES_INVALID;
    }
    /* the public key, then up to two unique ids before the extensions */
    for (int i = 0; i < 3 && signed_part.len > 0; i++) {
        if (take_value(&signed_part, DER_EXTENSIONS, &extensions)) {
            return read_extensions(extensions, found);
        }
        if (!skip_value(&signed_part)) {
            return ES_INVALID;
        }
    }
    if (take_value(&signed_part, DER_EXTENSIONS, &extensions)) {
        return read_extensions(extensions, found);
    }
    return ES_OK;
}

/* Puts what was gathered into one block: the struct, the pointers, the text. */
static struct esi_peer_identity *build(const struct gathering *found)
{
    const size_t pointers_bytes = found->name_count * sizeof(char *);
    struct esi_peer_identity *identity;
    const char **names;
    char *text;
    size_t dns_index = 0;
    size_t ip_index = found->name_count - found->ip_count;

    identity = malloc(sizeof(*identity) + pointers_bytes + found->text.len);
    if (identity == NULL) {
        return NULL;
    }
    names = (const char **)(identity + 1);
    text = (char *)(names + found->name_count);
    memcpy(text, found->text.data, found->text.len);
    for (size_t i = 0; i < found->name_count; i++) {
        names[found->name_is_ip[i] ? ip_index++ : dns_index++] = text + found->name_offsets[i];
    }
    *identity = (struct esi_peer_identity){
        .common_name = text + found->common_name_offset,
        .subject = text + found->subject_offset,
        .dns_names = names,
        .ip_names = names + dns_index,
        .dns_name_count = dns_index,
        .ip_name_count = found->ip_count,
        .not_before_s = found->not_before_s,
        .not_after_s = found->not_after_s,
        .is_authority = found->is_authority,
    };
    return identity;
}

enum es_err esi_certificate_read(const void *der, size_t len, struct esi_peer_identity **out)
{
    struct gathering found = {0};
    struct esi_peer_identity *identity = NULL;
    enum es_err err;

    esi_bytes_init(&found.text, TEXT_BYTES_MAX);
    end_text(&found); /* the empty string at offset 0 */
    err = read_certificate((struct esi_str){.data = der, .len = len}, &found);
    if (err == ES_OK && found.text.failed) {
        err = ES_TOO_LARGE;
    }
    if (err == ES_OK) {
        identity = build(&found);
        err = identity != NULL ? ES_OK : ES_NO_MEMORY;
    }
    esi_bytes_deinit(&found.text);
    if (err == ES_OK) {
        *out = identity;
    }
    return err;
}

void esi_certificate_free(struct esi_peer_identity *identity)
{
    free(identity);
}

/* True when host, without its final dot, is the pattern, or "*." in the pattern stands for host's
 * first label. */
static bool matches_dns_name(const char *pattern, struct esi_str host)
{
    struct esi_str wanted = esi_str_from(pattern);

    if (wanted.len > 2 && wanted.data[0] == '*' && wanted.data[1] == '.') {
        const char *dot = memchr(host.data, '.', host.len);
        /* "*.com" would speak for too many: what follows the star must have a dot itself. */
        if (dot == NULL || dot == host.data ||
            memchr(wanted.data + 2, '.', wanted.len - 2) == NULL) {
            return false;
        }
        host.len -= (size_t)(dot - host.data);
        host.data = dot;
        wanted.data++;
        wanted.len--;
    }
    return wanted.len == host.len && strncasecmp(wanted.data, host.data, host.len) == 0;
}

/* The text form of inet_ntop for a numeric address; false for a name. */
static bool normalise_address(const char *host, char out[INET6_ADDRSTRLEN])
{
    uint8_t bytes[IPV6_BYTES];
    int family = AF_INET;

    if (inet_pton(AF_INET, host, bytes) != 1) {
        family = AF_INET6;
        if (inet_pton(AF_INET6, host, bytes) != 1) {
            return false;
        }
    }
    return inet_ntop(family, bytes, out, INET6_ADDRSTRLEN) != NULL;
}

bool esi_certificate_is_for_host(const struct esi_peer_identity *identity, const char *host)
{
    char address[INET6_ADDRSTRLEN];
    struct esi_str name = esi_str_from(host);

    if (normalise_address(host, address)) {
        for (size_t i = 0; i < identity->ip_name_count; i++) {
            if (strcmp(identity->ip_names[i], address) == 0) {
                return true;
            }
        }
        return false;
    }
    if (name.len > 0 && name.data[name.len - 1] == '.') {
        name.len--;
    }
    if (name.len == 0 || name.len > HOST_NAME_MAX_BYTES) {
        return false;
    }
    for (size_t i = 0; i < identity->dns_name_count; i++) {
        if (matches_dns_name(identity->dns_names[i], name)) {
            return true;
        }
    }
    return identity->dns_name_count == 0 && identity->ip_name_count == 0 &&
           matches_dns_name(identity->common_name, name);
}

bool esi_certificate_has_name(const struct esi_peer_identity *identity, const char *name)
{
    char address[INET6_ADDRSTRLEN];

    if (name[0] == '\0') {
        return false;
    }
    if (strcasecmp(identity->common_name, name) == 0) {
        return true;
    }
    for (size_t i = 0; i < identity->dns_name_count; i++) {
        if (strcasecmp(identity->dns_names[i], name) == 0) {
            return true;
        }
    }
    return normalise_address(name, address) && esi_certificate_is_for_host(identity, name);
}
