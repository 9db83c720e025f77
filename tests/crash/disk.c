/* Stands between a process and the disk (LD_PRELOAD), for tests.
 *
 * What happens to files below DISK_ROOT is written to the file DISK_TRACE, in the order in which it happened,
 * together with what goes out on sockets: so a test knows what had been promised when the power went. Syncs are
 * noted and not carried out; nobody pulls a plug here. The file DISK_CONTROL, which a test writes to, makes
 * chosen calls fail.
 *
 * A record: op (1 byte), flags (1), length of the name (2), number of the file (8), offset (8), length of the
 * data (8), all little-endian, then name and data. Names are relative to DISK_ROOT.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define FDS 65536
#define SOCKET_BYTES 4096 /* of what goes out at once: an answer is at its beginning */

enum { NONE, FILE_BELOW, FOLDER_BELOW, SOCKET, OTHER };

/* Which calls fail: `countdown` counts matching calls; at 0 the call fails, and with `sticky` all later ones. */
struct control {
    int32_t mask, countdown, error, sticky, partial, failed, seen;
};

static struct { uint8_t kind; uint64_t number; char *name; } fds[FDS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char root[PATH_MAX];
static size_t root_length;
static int trace = -1;
static volatile struct control *control;
static struct control idle;

enum { M_WRITE = 1, M_SYNC = 2, M_OPEN = 4, M_TRUNCATE = 8, M_NAME = 16 };

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

__attribute__((constructor)) static void begin(void) {
    const char *folder = getenv("DISK_ROOT"), *out = getenv("DISK_TRACE"), *orders = getenv("DISK_CONTROL");
    control = &idle;
    if (folder) {
        root_length = (size_t)snprintf(root, sizeof root, "%s/", folder);
    }
    if (out) trace = (int)syscall(SYS_openat, AT_FDCWD, out, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (orders) {
        int fd = (int)syscall(SYS_openat, AT_FDCWD, orders, O_RDWR | O_CLOEXEC, 0);
        if (fd >= 0) {
            void *shared = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
            if (shared != MAP_FAILED) control = shared;
            syscall(SYS_close, fd);
        }
    }
}

/* The name below the root, or NULL; shared memory of SQLite is no file of ours: it does not outlive the boot. */
static const char *below(const char *path) {
    if (!root_length || !path) return NULL;
    if (strlen(path) == root_length - 1 && !strncmp(path, root, root_length - 1)) return "";
    if (strncmp(path, root, root_length)) return NULL;
    size_t length = strlen(path);
    if (length > 4 && !strcmp(path + length - 4, "-shm")) return NULL;
    return path + root_length;
}

static void note(char op, uint8_t flags, const char *name, size_t name_length, uint64_t number, uint64_t offset,
                 const void *data, uint64_t length) {
    if (trace < 0) return;
    uint8_t head[28] = {(uint8_t)op, flags};
    uint16_t named = (uint16_t)name_length;
    memcpy(head + 2, &named, 2);
    memcpy(head + 4, &number, 8);
    memcpy(head + 12, &offset, 8);
    memcpy(head + 20, &length, 8);
    struct iovec parts[3] = {{head, sizeof head}, {(void *)name, name_length}, {(void *)data, data ? length : 0}};
    syscall(SYS_writev, trace, parts, 3);
}

static void note_names(char op, const char *one, const char *other) {
    char both[2 * PATH_MAX];
    int length = snprintf(both, sizeof both, "%s%c%s", one, 0, other);
    note(op, 0, both, (size_t)length, 0, 0, NULL, 0);
}

/* Whether the call is to fail; sets errno. */
static int refused(int kind) {
    volatile struct control *orders = control;
    if (!(orders->mask & kind)) return 0;
    __sync_fetch_and_add(&orders->seen, 1);
    int left = __sync_sub_and_fetch(&orders->countdown, 1);
    if (left == 0 || (left < 0 && orders->sticky)) {
        __sync_fetch_and_add(&orders->failed, 1);
        errno = orders->error;
        return 1;
    }
    return 0;
}

static int kind_of(int fd) {
    if (fd < 0 || fd >= FDS) return OTHER;
    if (fds[fd].kind == NONE) {
        struct stat status;
        int saved = errno;
        fds[fd].kind = !fstat(fd, &status) && S_ISSOCK(status.st_mode) ? SOCKET : OTHER;
        errno = saved;
    }
    return fds[fd].kind;
}

static void forget(int fd) {
    if (fd >= 0 && fd < FDS) {
        free(fds[fd].name);
        fds[fd].name = NULL;
        fds[fd].kind = NONE;
    }
}

static int opened(const char *path, int flags, mode_t mode) {
    const char *name = below(path);
    if (!name) {
        int fd = (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
        pthread_mutex_lock(&lock);
        forget(fd);
        pthread_mutex_unlock(&lock);
        return fd;
    }
    pthread_mutex_lock(&lock);
    int existed = syscall(SYS_faccessat, AT_FDCWD, path, F_OK) == 0;
    int fd = -1;
    if (!((flags & O_CREAT) && refused(M_OPEN))) fd = (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
    if (fd >= 0 && fd < FDS) {
        struct stat status;
        fstat(fd, &status);
        forget(fd);
        fds[fd].kind = S_ISDIR(status.st_mode) ? FOLDER_BELOW : FILE_BELOW;
        fds[fd].number = status.st_ino;
        fds[fd].name = strdup(name);
        uint8_t how = (uint8_t)((existed ? 0 : 1) | (flags & O_TRUNC ? 2 : 0));
        if (fds[fd].kind == FILE_BELOW) note('O', how, name, strlen(name), status.st_ino, 0, NULL, 0);
    }
    pthread_mutex_unlock(&lock);
    return fd;
}

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        mode_t mode = 0; \
        if (flags & (O_CREAT | O_TMPFILE)) { va_list rest; va_start(rest, flags); mode = va_arg(rest, mode_t); va_end(rest); } \
        return opened(path, flags, mode); \
    }
OPEN(open)
OPEN(open64)
int __open_2(const char *path, int flags) { return opened(path, flags, 0); }
int __open64_2(const char *path, int flags) { return opened(path, flags, 0); }

int close(int fd) {
    pthread_mutex_lock(&lock);
    forget(fd);
    int result = (int)syscall(SYS_close, fd);
    pthread_mutex_unlock(&lock);
    return result;
}

static size_t total(const struct iovec *parts, int count) {
    size_t length = 0;
    for (int i = 0; i < count; i++) length += parts[i].iov_len;
    return length;
}

static char *joined(const struct iovec *parts, int count, size_t most, size_t *length) {
    size_t left = total(parts, count) < most ? total(parts, count) : most;
    char *all = malloc(left ? left : 1), *to = all;
    *length = left;
    for (int i = 0; i < count && left; i++) {
        size_t some = parts[i].iov_len < left ? parts[i].iov_len : left;
        memcpy(to, parts[i].iov_base, some);
        to += some;
        left -= some;
    }
    return all;
}

/* Write at an offset, or where the file stands (-1). */
static ssize_t written(int fd, const struct iovec *parts, int count, off_t offset) {
    pthread_mutex_lock(&lock);
    int kind = kind_of(fd);
    if (kind == FILE_BELOW && refused(M_WRITE)) {
        size_t length;
        if (control->partial && total(parts, count) > 1) {
            /* The disk takes the first half, then no more. */
            char *all = joined(parts, count, total(parts, count) / 2, &length);
            if (offset < 0) offset = lseek(fd, 0, fcntl(fd, F_GETFL) & O_APPEND ? SEEK_END : SEEK_CUR);
            ssize_t done = syscall(SYS_pwrite64, fd, all, length, offset);
            if (done > 0) note('W', 0, NULL, 0, fds[fd].number, (uint64_t)offset, all, (uint64_t)done);
            free(all);
            errno = control->error;
        }
        pthread_mutex_unlock(&lock);
        return -1;
    }
    int recorded = trace >= 0 && (kind == FILE_BELOW || kind == SOCKET);
    size_t length = 0;
    char *all = recorded ? joined(parts, count, kind == SOCKET ? SOCKET_BYTES : SIZE_MAX, &length) : NULL;
    off_t at = offset;
    if (kind == FILE_BELOW && at < 0) at = lseek(fd, 0, fcntl(fd, F_GETFL) & O_APPEND ? SEEK_END : SEEK_CUR);
    /* An answer is noted before it can be read: nobody has been promised more than the trace says. */
    if (kind == SOCKET && recorded) note('N', 0, NULL, 0, (uint64_t)fd, 0, all, length);
    ssize_t done = offset < 0 ? syscall(SYS_writev, fd, parts, count)
                              : syscall(SYS_pwritev, fd, parts, count, (long)offset, 0L);
    if (done > 0 && kind == FILE_BELOW && recorded)
        note('W', 0, NULL, 0, fds[fd].number, (uint64_t)at, all, (uint64_t)done);
    int saved = errno;
    free(all);
    errno = saved;
    pthread_mutex_unlock(&lock);
    return done;
}

static ssize_t written_one(int fd, const void *data, size_t length, off_t offset) {
    struct iovec part = {(void *)data, length};
    return written(fd, &part, 1, offset);
}

ssize_t write(int fd, const void *data, size_t length) { return written_one(fd, data, length, -1); }
ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) { return written_one(fd, data, length, offset); }
ssize_t pwrite64(int fd, const void *data, size_t length, off_t offset) { return written_one(fd, data, length, offset); }
ssize_t writev(int fd, const struct iovec *parts, int count) { return written(fd, parts, count, -1); }
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) { return written(fd, parts, count, offset); }
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off_t offset) { return written(fd, parts, count, offset); }
/* What Python's os.pwritev calls; the flags ask for nothing that these tests rely on. */
ssize_t pwritev2(int fd, const struct iovec *parts, int count, off_t offset, int flags) { (void)flags; return written(fd, parts, count, offset); }
ssize_t pwritev64v2(int fd, const struct iovec *parts, int count, off_t offset, int flags) { (void)flags; return written(fd, parts, count, offset); }

ssize_t send(int fd, const void *data, size_t length, int flags) {
    REAL(ssize_t, send, int, const void *, size_t, int);
    pthread_mutex_lock(&lock);
    note('N', 0, NULL, 0, (uint64_t)fd, 0, data, length < SOCKET_BYTES ? length : SOCKET_BYTES);
    pthread_mutex_unlock(&lock);
    return real(fd, data, length, flags);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
    REAL(ssize_t, sendmsg, int, const struct msghdr *, int);
    size_t length;
    char *all = joined(message->msg_iov, (int)message->msg_iovlen, SOCKET_BYTES, &length);
    pthread_mutex_lock(&lock);
    note('N', 0, NULL, 0, (uint64_t)fd, 0, all, length);
    pthread_mutex_unlock(&lock);
    free(all);
    return real(fd, message, flags);
}

static int synced(int fd, long call) {
    pthread_mutex_lock(&lock);
    int kind = kind_of(fd), result = 0;
    if (kind != FILE_BELOW && kind != FOLDER_BELOW) {
        pthread_mutex_unlock(&lock);
        return (int)syscall(call, fd);
    }
    if (refused(M_SYNC)) {
        result = -1;
        int saved = errno;
        if (kind == FILE_BELOW) note('F', 0, NULL, 0, fds[fd].number, 0, NULL, 0);
        errno = saved;
    }
    else if (kind == FILE_BELOW) note('S', 0, NULL, 0, fds[fd].number, 0, NULL, 0);
    else note('D', 0, fds[fd].name, strlen(fds[fd].name), 0, 0, NULL, 0);
    pthread_mutex_unlock(&lock);
    return result;
}

int fsync(int fd) { return synced(fd, SYS_fsync); }
int fdatasync(int fd) { return synced(fd, SYS_fdatasync); }

static int cut(int fd, off_t length) {
    pthread_mutex_lock(&lock);
    int ours = kind_of(fd) == FILE_BELOW, result = -1;
    if (!(ours && refused(M_TRUNCATE))) result = (int)syscall(SYS_ftruncate, fd, length);
    if (!result && ours) note('T', 0, NULL, 0, fds[fd].number, (uint64_t)length, NULL, 0);
    pthread_mutex_unlock(&lock);
    return result;
}

int ftruncate(int fd, off_t length) { return cut(fd, length); }
int ftruncate64(int fd, off_t length) { return cut(fd, length); }

/* Calls that change names: carried out and noted in one. */
static int named(char op, const char *one, const char *other, int (*call)(const char *, const char *)) {
    const char *name = below(other);
    if (!name) return call(one, other);
    pthread_mutex_lock(&lock);
    int result = refused(M_NAME) ? -1 : call(one, other);
    if (!result) note_names(op, op == 'Y' ? one : below(one) ? below(one) : "", name);
    pthread_mutex_unlock(&lock);
    return result;
}

static int raw_rename(const char *one, const char *other) { return (int)syscall(SYS_renameat, AT_FDCWD, one, AT_FDCWD, other); }
static int raw_link(const char *one, const char *other) { return (int)syscall(SYS_linkat, AT_FDCWD, one, AT_FDCWD, other, 0); }
static int raw_symlink(const char *one, const char *other) { return (int)syscall(SYS_symlinkat, one, AT_FDCWD, other); }
static int raw_unlink(const char *one, const char *other) { (void)other; return (int)syscall(SYS_unlinkat, AT_FDCWD, one, 0); }

int rename(const char *one, const char *other) { return named('R', one, other, raw_rename); }
int link(const char *one, const char *other) { return named('L', one, other, raw_link); }
int symlink(const char *target, const char *path) { return named('Y', target, path, raw_symlink); }
int unlink(const char *path) {
    if (!below(path)) return raw_unlink(path, NULL);
    pthread_mutex_lock(&lock);
    int result = refused(M_NAME) ? -1 : raw_unlink(path, NULL);
    if (!result) note_names('U', below(path), "");
    pthread_mutex_unlock(&lock);
    return result;
}
