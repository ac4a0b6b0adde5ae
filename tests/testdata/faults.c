/* Makes the system calls of a program fail or be its last, and its clock run elsewhere; writes down what it does to files: loaded by
 * LD_PRELOAD beside a program under test.
 *
 * What fails stands in the file that FAULTS names, which the test writes while the program runs:
 *   offset  0  errno of write, 0 for none        offset  4  errno of fsync and fdatasync
 *   offset  8  errno of ftruncate and fallocate   offset 12  calls that still succeed before the failures begin
 *   offset 16  seconds to add to the wall clock   offset 24  how many calls have failed (written here)
 *   offset 32  part of the path that is concerned, with a closing NUL
 *   offset 124 errno of rename, link, unlink and mkdir
 *   offset 128 seconds at which the wall clock stands still, 0 for a clock that runs
 *   offset 136 errno of open for writing
 * An errno of -9 is no failure: the process is killed instead of the call.
 *
 * With FAULTS_TRACE every call that changes a file or a name below the directory FAULTS_BELOW is appended to that file, in the order in
 * which they were made: a header, the path or the data, and the second path (tests/src/power.rs reads them).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

struct faults {
    _Atomic int32_t write_errno, sync_errno, length_errno, spare;
    _Atomic int64_t seconds;
    _Atomic uint64_t failed;
    char path[92];
    _Atomic int32_t name_errno;
    _Atomic int64_t frozen;
    _Atomic int32_t open_errno;
};

static struct faults none, *faults = &none;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* The trace. */
enum { CREATE = 1, WRITE, LENGTH, SYNC, RENAME, LINK, UNLINK, MKDIR, RMDIR };

struct record {
    uint32_t kind, error;
    uint64_t inode, at, first_len, second_len;
};

static int trace = -1;
static char below[512];
/* A call and its record are one step. */
static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;

__attribute__((constructor)) static void begin(void)
{
    const char *name = getenv("FAULTS"), *file = getenv("FAULTS_TRACE"), *dir = getenv("FAULTS_BELOW");
    if (file && dir) {
        snprintf(below, sizeof below, "%s/", dir);
        trace = REAL(open)(file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    }
    int fd = name ? REAL(open)(name, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *shared = mmap(NULL, sizeof *faults, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (shared != MAP_FAILED)
        faults = shared;
    close(fd);
}

/* The errno with which a call on this file is to fail, or 0. */
static int fault_at(const char *path, int wanted)
{
    if (!strstr(path, faults->path))
        return 0;
    if (atomic_load(&faults->spare) > 0 && atomic_fetch_sub(&faults->spare, 1) > 0)
        return 0;
    atomic_fetch_add(&faults->failed, 1);
    if (wanted == -SIGKILL)
        kill(getpid(), SIGKILL);
    return wanted;
}

static int path_of(int fd, char *path, size_t room)
{
    char link[40];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, path, room - 1);
    if (len < 0)
        return 0;
    path[len] = 0;
    return 1;
}

/* The same for a descriptor. */
static int fault(int fd, _Atomic int32_t *kind)
{
    int wanted = atomic_load(kind);
    char path[512];
    return wanted && path_of(fd, path, sizeof path) ? fault_at(path, wanted) : 0;
}

/* A path below the directory that is traced, or an empty text. */
static void whole_path(int dir, const char *path, char *whole, size_t room)
{
    char base[512];
    *whole = 0;
    if (trace < 0)
        return;
    if (path[0] == '/')
        snprintf(whole, room, "%s", path);
    else if (dir == AT_FDCWD ? getcwd(base, sizeof base) != NULL : path_of(dir, base, sizeof base))
        snprintf(whole, room, "%s/%s", base, path);
    if (strncmp(whole, below, strlen(below)) != 0)
        *whole = 0;
}

static void note(uint32_t kind, int error, uint64_t inode, uint64_t at, const void *first, size_t first_len, const char *second)
{
    struct record record = { kind, error, inode, at, first_len, second ? strlen(second) : 0 };
    struct iovec parts[3] = { { &record, sizeof record }, { (void *)first, first_len }, { (void *)second, record.second_len } };
    ssize_t written = REAL(writev)(trace, parts, 3);
    if (written != (ssize_t)(sizeof record + first_len + record.second_len))
        abort();
}

/* Whether calls on this descriptor are traced: of the directory itself too. */
static int is_traced(int fd, struct stat *found)
{
    char path[514];
    if (trace < 0 || fstat(fd, found) < 0 || !(S_ISREG(found->st_mode) || S_ISDIR(found->st_mode)) ||
        !path_of(fd, path, sizeof path - 1))
        return 0;
    if (S_ISDIR(found->st_mode))
        strcat(path, "/");
    return strncmp(path, below, strlen(below)) == 0 && !strstr(path, ".log");
}

/* A call on a descriptor, and its record. */
#define TRACED(fd, call, kind, position, bytes, len)                                               \
    do {                                                                                           \
        struct stat found;                                                                         \
        if (!is_traced(fd, &found))                                                                \
            return call;                                                                           \
        pthread_mutex_lock(&one_at_a_time);                                                        \
        uint64_t before = (position);                                                              \
        __typeof__(call) answer = call;                                                            \
        int error = answer < 0 ? errno : 0;                                                        \
        if (!error)                                                                                \
            note(kind, 0, found.st_ino, before, bytes, len, NULL);                                 \
        pthread_mutex_unlock(&one_at_a_time);                                                      \
        errno = error;                                                                             \
        return answer;                                                                             \
    } while (0)

#define FAIL(fd, field)                           \
    do {                                          \
        int failed = fault(fd, &faults->field);   \
        if (failed) {                             \
            errno = failed;                       \
            return -1;                            \
        }                                         \
    } while (0)

static uint64_t position(int fd)
{
    struct stat found;
    int flags = fcntl(fd, F_GETFL);
    if (flags >= 0 && (flags & O_APPEND) && fstat(fd, &found) == 0)
        return found.st_size;
    off_t at = lseek(fd, 0, SEEK_CUR);
    return at < 0 ? 0 : at;
}

ssize_t write(int fd, const void *bytes, size_t len)
{
    FAIL(fd, write_errno);
    TRACED(fd, REAL(write)(fd, bytes, len), WRITE, position(fd), bytes, answer);
}

ssize_t pwrite(int fd, const void *bytes, size_t len, off_t at)
{
    FAIL(fd, write_errno);
    TRACED(fd, REAL(pwrite)(fd, bytes, len, at), WRITE, at, bytes, answer);
}

ssize_t pwrite64(int fd, const void *bytes, size_t len, off64_t at)
{
    FAIL(fd, write_errno);
    TRACED(fd, REAL(pwrite64)(fd, bytes, len, at), WRITE, at, bytes, answer);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    struct stat found;
    FAIL(fd, write_errno);
    /* Of a file one part at a time, which is what a short write would be. */
    if (count > 0 && is_traced(fd, &found))
        return write(fd, parts[0].iov_base, parts[0].iov_len);
    return REAL(writev)(fd, parts, count);
}

/* A failed one too: what was not written by then never will be. */
static int synced(int fd, int (*real)(int), int failed)
{
    struct stat found;
    if (!is_traced(fd, &found)) {
        if (!failed)
            return real(fd);
        errno = failed;
        return -1;
    }
    pthread_mutex_lock(&one_at_a_time);
    int answer = failed ? -1 : real(fd), error = failed ? failed : answer < 0 ? errno : 0;
    note(SYNC, error, found.st_ino, S_ISDIR(found.st_mode), NULL, 0, NULL);
    pthread_mutex_unlock(&one_at_a_time);
    errno = error;
    return answer;
}

int fsync(int fd) { return synced(fd, REAL(fsync), fault(fd, &faults->sync_errno)); }
int fdatasync(int fd) { return synced(fd, REAL(fdatasync), fault(fd, &faults->sync_errno)); }

int ftruncate(int fd, off_t len) { FAIL(fd, length_errno); TRACED(fd, REAL(ftruncate)(fd, len), LENGTH, len, NULL, 0); }
int ftruncate64(int fd, off64_t len) { FAIL(fd, length_errno); TRACED(fd, REAL(ftruncate64)(fd, len), LENGTH, len, NULL, 0); }
int fallocate(int fd, int mode, off_t at, off_t len) { FAIL(fd, length_errno); return REAL(fallocate)(fd, mode, at, len); }
int fallocate64(int fd, int mode, off64_t at, off64_t len) { FAIL(fd, length_errno); return REAL(fallocate64)(fd, mode, at, len); }

#define FAIL_AT(path, field)                                                \
    do {                                                                    \
        int wanted = atomic_load(&faults->field);                           \
        int failed = wanted ? fault_at(path, wanted) : 0;                   \
        if (failed) {                                                       \
            errno = failed;                                                 \
            return -1;                                                      \
        }                                                                   \
    } while (0)

/* A call on one or two names, and its record. */
static int named(int answer, uint32_t kind, const char *first, const char *second, uint64_t inode)
{
    int error = errno;
    if (answer == 0 && *first)
        note(kind, 0, inode, 0, first, strlen(first), second && *second ? second : NULL);
    pthread_mutex_unlock(&one_at_a_time);
    errno = error;
    return answer;
}

#define NAMED(call, kind, dir, path, below_dir, to)                                     \
    do {                                                                                \
        char first[1024], second[1024];                                                 \
        struct stat found = { 0 };                                                      \
        whole_path(dir, path, first, sizeof first);                                     \
        whole_path(below_dir, to, second, sizeof second);                               \
        pthread_mutex_lock(&one_at_a_time);                                             \
        if (*first && fstatat(AT_FDCWD, first, &found, AT_SYMLINK_NOFOLLOW) < 0)        \
            found.st_ino = 0;                                                           \
        return named(call, kind, first, second, found.st_ino);                          \
    } while (0)

int rename(const char *from, const char *to) { FAIL_AT(to, name_errno); NAMED(REAL(rename)(from, to), RENAME, AT_FDCWD, from, AT_FDCWD, to); }
int link(const char *from, const char *to) { FAIL_AT(to, name_errno); NAMED(REAL(link)(from, to), LINK, AT_FDCWD, from, AT_FDCWD, to); }
int linkat(int at, const char *from, int dir, const char *to, int flags) { FAIL_AT(to, name_errno); NAMED(REAL(linkat)(at, from, dir, to, flags), LINK, at, from, dir, to); }
int unlink(const char *path) { FAIL_AT(path, name_errno); NAMED(REAL(unlink)(path), UNLINK, AT_FDCWD, path, AT_FDCWD, path); }
int rmdir(const char *path) { FAIL_AT(path, name_errno); NAMED(REAL(rmdir)(path), RMDIR, AT_FDCWD, path, AT_FDCWD, path); }
int unlinkat(int dir, const char *path, int flags)
{
    FAIL_AT(path, name_errno);
    NAMED(REAL(unlinkat)(dir, path, flags), flags & AT_REMOVEDIR ? RMDIR : UNLINK, dir, path, dir, path);
}
int mkdir(const char *path, mode_t mode)
{
    struct stat found = { 0 };
    char first[1024];
    FAIL_AT(path, name_errno);
    whole_path(AT_FDCWD, path, first, sizeof first);
    pthread_mutex_lock(&one_at_a_time);
    int answer = REAL(mkdir)(path, mode), error = errno;
    if (answer == 0 && *first && stat(first, &found) < 0)
        abort();
    errno = error;
    return named(answer, MKDIR, first, NULL, found.st_ino);
}

/* An open that makes a file is a record; one that empties a file is a change of its length. */
static int opened(int (*real)(int, const char *, int, ...), int dir, const char *path, int flags, mode_t mode)
{
    char first[1024];
    struct stat found;
    int writes = (flags & (O_WRONLY | O_RDWR | O_CREAT)) != 0;
    if (writes)
        FAIL_AT(path, open_errno);
    if (writes)
        whole_path(dir, path, first, sizeof first);
    if (!writes || !*first || (flags & O_TMPFILE) == O_TMPFILE)
        return real(dir, path, flags, mode);
    pthread_mutex_lock(&one_at_a_time);
    int was_there = fstatat(AT_FDCWD, first, &found, 0) == 0;
    int fd = real(dir, path, flags, mode), error = errno;
    if (fd >= 0 && is_traced(fd, &found)) {
        if (!was_there)
            note(CREATE, 0, found.st_ino, mode, first, strlen(first), NULL);
        else if (flags & O_TRUNC)
            note(LENGTH, 0, found.st_ino, 0, NULL, 0, NULL);
    }
    pthread_mutex_unlock(&one_at_a_time);
    errno = error;
    return fd;
}

#define MODE(flags)                                          \
    mode_t mode = 0;                                         \
    if ((flags) & (O_CREAT | O_TMPFILE)) {                   \
        va_list more;                                        \
        va_start(more, flags);                               \
        mode = va_arg(more, mode_t);                         \
        va_end(more);                                        \
    }

int open(const char *path, int flags, ...) { MODE(flags) return opened(REAL(openat), AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags) return opened(REAL(openat64), AT_FDCWD, path, flags, mode); }
int openat(int dir, const char *path, int flags, ...) { MODE(flags) return opened(REAL(openat), dir, path, flags, mode); }
int openat64(int dir, const char *path, int flags, ...) { MODE(flags) return opened(REAL(openat64), dir, path, flags, mode); }

int clock_gettime(clockid_t clock, struct timespec *now)
{
    static __typeof__(&clock_gettime) real;
    if (!real)
        real = REAL(clock_gettime);
    int answer = real(clock, now);
    if (answer == 0 && clock == CLOCK_REALTIME)
        now->tv_sec += atomic_load(&faults->seconds);
    if (answer == 0 && clock == CLOCK_REALTIME && atomic_load(&faults->frozen)) {
        now->tv_sec = atomic_load(&faults->frozen);
        now->tv_nsec = 0;
    }
    return answer;
}
