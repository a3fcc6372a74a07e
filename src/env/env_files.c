/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A file is replaced by writing a new one beside it, synced before it takes the name: after a crash
 * there is the old content or the new one, never a part. */
#include "env/env_files.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { READ_STEP_BYTES = 65536 };

#define NS_PER_S INT64_C(1000000000)

enum es_err esi_env_files_map_error(int error)
{
    switch (error) {
    case EAGAIN:
        return ES_AGAIN;
    case ENOMEM:
    case ENOBUFS:
        return ES_NO_MEMORY;
    case EMFILE:
    case ENFILE:
    case ENOSPC:
    case EDQUOT:
        return ES_FULL;
    case EACCES:
    case EPERM:
    case EROFS:
        return ES_DENIED;
    case ENOENT:
    case ENOTDIR:
    case EADDRNOTAVAIL:
        return ES_NOT_FOUND;
    case EEXIST:
        return ES_EXISTS;
    case EISDIR:
        return ES_FOLDER;
    case EADDRINUSE:
        return ES_IN_USE;
    case EFBIG:
    case EOVERFLOW:
        return ES_TOO_LARGE;
    case ENAMETOOLONG:
    case EINVAL:
        return ES_INVALID;
    case EAFNOSUPPORT:
        return ES_UNSUPPORTED;
    default:
        return ES_IO;
    }
}

/* Reads to the end of fd; *out keeps what it had when this fails. */
static enum es_err read_to_end(int fd, size_t size_max, struct esi_bytes *out)
{
    const size_t len_before = out->len;
    struct stat status;
    enum es_err err = ES_OK;

    if (fstat(fd, &status) != 0) {
        return esi_env_files_map_error(errno);
    }
    /* One byte more than there should be: the end is then seen without growing (and copying a
     * secret) again. */
    size_t step = status.st_size > 0 && (uint64_t)status.st_size < size_max
                      ? (size_t)status.st_size + 1
                      : READ_STEP_BYTES;
    for (;;) {
        char *room = esi_bytes_reserve(out, step);
        if (room == NULL) {
            err = ES_NO_MEMORY;
            break;
        }
        const ssize_t count = read(fd, room, step);
        if (count < 0 && errno == EINTR) {
            continue;
        }
        if (count < 0) {
            err = esi_env_files_map_error(errno);
            break;
        }
        if (count == 0) {
            return ES_OK;
        }
        out->len += (size_t)count;
        if (out->len - len_before > size_max) {
            err = ES_TOO_LARGE;
            break;
        }
        step = step > (size_t)count ? step - (size_t)count : READ_STEP_BYTES;
    }
    out->len = len_before;
    return err;
}

enum es_err esi_env_files_read(const char *path, size_t size_max, struct esi_bytes *out)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return esi_env_files_map_error(errno);
    }
    const enum es_err err = read_to_end(fd, size_max, out);
    close(fd);
    return err;
}

static enum es_err write_all(int fd, const char *data, size_t len)
{
    while (len > 0) {
        const ssize_t count = write(fd, data, len);
        if (count < 0 && errno == EINTR) {
            continue;
        }
        if (count < 0) {
            return esi_env_files_map_error(errno);
        }
        data += count;
        len -= (size_t)count;
    }
    return ES_OK;
}

/* Opens the folder of a file; as open(2). */
static int open_folder(const char *path)
{
    char folder[PATH_MAX];
    const char *slash = strrchr(path, '/');

    const size_t len = slash == NULL ? 0 : (size_t)(slash - path);
    if (len >= sizeof folder) {
        errno = ENAMETOOLONG;
        return -1;
    }
    snprintf(folder, sizeof folder, "%.*s", (int)len, path);
    const char *name = slash == NULL ? "." : len == 0 ? "/" : folder;
    return open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* Makes a rename in the file's folder survive a crash. Some file systems cannot; the content is
 * safe even so. */
static void sync_folder(const char *path)
{
    const int fd = open_folder(path);
    if (fd >= 0) {
        (void)fsync(fd);
        close(fd);
    }
}

/* Rights as asked for (whatever the umask), and the owner of the file that is replaced, where we
 * may give it. */
static enum es_err set_rights(int fd, const char *path, uint32_t mode)
{
    struct stat old;

    if (fchmod(fd, (mode_t)mode) != 0) {
        return esi_env_files_map_error(errno);
    }
    if (stat(path, &old) == 0 && old.st_uid != geteuid()) {
        const int failed = fchown(fd, old.st_uid, old.st_gid);
        (void)failed;
    }
    return ES_OK;
}

enum es_err esi_env_files_replace(const char *path, struct esi_str data, uint32_t mode,
                                  uint64_t suffix)
{
    char temporary[PATH_MAX];

    if (snprintf(temporary, sizeof temporary, "%s.%016llx", path, (unsigned long long)suffix) >=
        (int)sizeof temporary) {
        return ES_INVALID;
    }
    const int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        return esi_env_files_map_error(errno);
    }
    enum es_err err = set_rights(fd, path, mode);
    if (err == ES_OK) {
        err = write_all(fd, data.data, data.len);
    }
    if (err == ES_OK && fsync(fd) != 0) {
        err = esi_env_files_map_error(errno);
    }
    if (close(fd) != 0 && err == ES_OK) {
        err = esi_env_files_map_error(errno);
    }
    if (err == ES_OK && rename(temporary, path) != 0) {
        err = esi_env_files_map_error(errno);
    }
    if (err != ES_OK) {
        (void)unlink(temporary);
        return err;
    }
    sync_folder(path);
    return ES_OK;
}

enum es_err esi_env_files_info(const char *path, struct esi_file_info *info)
{
    struct stat status;

    if (stat(path, &status) != 0) {
        return esi_env_files_map_error(errno);
    }
    *info = (struct esi_file_info){
        .size_bytes = (uint64_t)status.st_size,
        .modified_ns = (int64_t)status.st_mtim.tv_sec * NS_PER_S + status.st_mtim.tv_nsec,
        .inode = (uint64_t)status.st_ino,
        .mode = (uint32_t)(status.st_mode & 07777),
    };
    return ES_OK;
}

enum es_err esi_env_files_lock(const char *path, int *lock)
{
    const int fd = open_folder(path);

    if (fd < 0) {
        return esi_env_files_map_error(errno);
    }
    while (flock(fd, LOCK_EX) != 0) {
        if (errno != EINTR) {
            /* Network file systems: some lock no folders. */
            const bool is_strange =
                errno == EBADF || errno == EINVAL || errno == ENOTSUP || errno == ENOLCK;
            const enum es_err err = is_strange ? ES_UNSUPPORTED : esi_env_files_map_error(errno);
            close(fd);
            return err;
        }
    }
    *lock = fd;
    return ES_OK;
}

void esi_env_files_unlock(int lock)
{
    close(lock);
}
