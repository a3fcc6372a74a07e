/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The TLS library as a whole: which one it is, what it must be able to do, what it leaves behind.
 *
 * wolfSSL stands behind net/tls.h in these files: this one, tls_context.c, tls_files.c,
 * tls_verify.c and tls_session.c. wolfssl/options.h comes before any other header of it: the layout
 * of its structs depends on how it was built.
 */
#include "net/tls.h"
#include "net/tls_internal.h"

#include <malloc.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <wolfssl/options.h>
#include <wolfssl/ssl.h>
#include <wolfssl/wolfcrypt/aes.h>
#include <wolfssl/wolfcrypt/ecc.h>

#include "base/ledger.h"
#include "env/env.h"

#if !defined(WOLFSSL_ALWAYS_VERIFY_CB) || !defined(OPENSSL_EXTRA) || !defined(HAVE_SNI) ||         \
    !defined(HAVE_ALPN) || !defined(WOLFSSL_TLS13) || !defined(HAVE_ECC)
/* Without WOLFSSL_ALWAYS_VERIFY_CB no name would be checked. */
#error "this wolfSSL lacks a part that is needed: see scripts/build-wolfssl"
#endif

#ifdef FP_ECC
#define free_curve_cache wc_ecc_fp_free
#else
static void free_curve_cache(void)
{
}
#endif

enum { MEASURED_BYTES = 1 << 20 };

_Static_assert(TLS_LIBRARY_TEXT_BYTES >= WOLFSSL_MAX_ERROR_SZ, "room for the library's sentences");

enum es_err esi_tls_refuse(struct es_error *error, enum es_err err, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(error->text, sizeof(error->text), format, args);
    va_end(args);
    return err;
}

const char *esi_tls_library_text(int code, char text[TLS_LIBRARY_TEXT_BYTES])
{
    wolfSSL_ERR_error_string((unsigned long)code, text);
    return text;
}

/*
 * Debian's build keeps points of curves for each thread, up to 12 MB, and leaves them behind where
 * the thread ends without a word to the library.
 */
static pthread_once_t thread_end_once = PTHREAD_ONCE_INIT;
static pthread_key_t thread_end;
static bool has_thread_end;

static void end_thread(void *mark)
{
    (void)mark;
    free_curve_cache();
}

static void make_thread_end(void)
{
    /* Fails only where a process has made a thousand of them; then memory is left as before. */
    has_thread_end = pthread_key_create(&thread_end, end_thread) == 0;
}

void esi_tls_note_thread(void)
{
    (void)pthread_once(&thread_end_once, make_thread_end);
    if (has_thread_end) {
        (void)pthread_setspecific(thread_end, &thread_end);
    }
}

/* --- memory --- */

/* What the library has taken on this thread, less what it has given back. */
static _Thread_local int64_t thread_bytes;

static void *allocate(size_t len)
{
    void *memory = malloc(len);

    if (memory != NULL) {
        thread_bytes += (int64_t)esi_ledger_heap_bytes(malloc_usable_size(memory));
    }
    return memory;
}

static void release(void *memory)
{
    if (memory != NULL) {
        thread_bytes -= (int64_t)esi_ledger_heap_bytes(malloc_usable_size(memory));
    }
    free(memory);
}

static void *reallocate(void *memory, size_t len)
{
    const size_t before = memory != NULL ? malloc_usable_size(memory) : 0;
    void *moved = realloc(memory, len);

    if (moved != NULL) {
        thread_bytes += (int64_t)esi_ledger_heap_bytes(malloc_usable_size(moved));
        thread_bytes -= memory != NULL ? (int64_t)esi_ledger_heap_bytes(before) : 0;
    }
    return moved;
}

/* Sets the library's allocators, which are the process's. */
static pthread_once_t memory_once = PTHREAD_ONCE_INIT;

static void count_memory(void)
{
    (void)wolfSSL_SetAllocators(allocate, release, reallocate);
}

void esi_tls_count_memory(void)
{
    (void)pthread_once(&memory_once, count_memory);
}

int64_t esi_tls_thread_bytes(void)
{
    return thread_bytes;
}

const char *esi_tls_build_name(void)
{
    return ESI_WOLFSSL_BUILD " " LIBWOLFSSL_VERSION_STRING;
}

uint32_t esi_tls_measure(struct esi_env *env)
{
    static const uint8_t key[16] = {1};
    uint8_t nonce[12] = {0};
    uint8_t tag[16];
    uint8_t *record = calloc(1, ESI_TLS_RECORD_MAX);
    Aes *aes = calloc(1, sizeof(*aes)); /* with its tables too large for a stack */
    uint64_t took_ns = 0;

    if (record != NULL && aes != NULL && wc_AesInit(aes, NULL, INVALID_DEVID) == 0) {
        if (wc_AesGcmSetKey(aes, key, sizeof(key)) == 0) {
            const uint64_t start_ns = esi_env_now_ns(env);
            for (int i = 0; i < MEASURED_BYTES / ESI_TLS_RECORD_MAX; i++) {
                nonce[0] = (uint8_t)i;
                (void)wc_AesGcmEncrypt(aes, record, record, ESI_TLS_RECORD_MAX, nonce,
                                       sizeof(nonce), tag, sizeof(tag), NULL, 0);
            }
            took_ns = esi_env_now_ns(env) - start_ns;
            took_ns += took_ns == 0;
        }
        wc_AesFree(aes);
    }
    free(record);
    free(aes);
    return took_ns == 0 ? 0 : (uint32_t)((uint64_t)MEASURED_BYTES * 1000 / took_ns);
}
