/* Makes the system calls of a program fail or be its last, and its clock run elsewhere: loaded by LD_PRELOAD beside a program under test.
 *
 * What fails stands in the file that FAULTS names, which the test writes while the program runs:
 *   offset  0  errno of write, 0 for none        offset  4  errno of fsync and fdatasync
 *   offset  8  errno of ftruncate and fallocate   offset 12  calls that still succeed before the failures begin
 *   offset 16  seconds to add to the wall clock   offset 24  how many calls have failed (written here)
 *   offset 32  part of the path that is concerned, with a closing NUL
 *   offset 124 errno of rename, link and unlink   offset 128 seconds at which the wall clock stands still, 0 for a clock that runs
 * An errno of -9 is no failure: the process is killed instead of the call.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
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
};

static struct faults none, *faults = &none;

__attribute__((constructor)) static void begin(void)
{
    const char *name = getenv("FAULTS");
    int fd = name ? open(name, O_RDWR | O_CLOEXEC) : -1;
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

/* The same for a descriptor. */
static int fault(int fd, _Atomic int32_t *kind)
{
    int wanted = atomic_load(kind);
    if (!wanted)
        return 0;
    char link[40], path[512];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, path, sizeof path - 1);
    if (len < 0)
        return 0;
    path[len] = 0;
    return fault_at(path, wanted);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define FAIL(fd, kind)                            \
    do {                                          \
        int failed = fault(fd, &faults->kind);    \
        if (failed) {                             \
            errno = failed;                       \
            return -1;                            \
        }                                         \
    } while (0)

ssize_t write(int fd, const void *bytes, size_t len) { FAIL(fd, write_errno); return REAL(write)(fd, bytes, len); }
ssize_t writev(int fd, const struct iovec *parts, int count) { FAIL(fd, write_errno); return REAL(writev)(fd, parts, count); }
ssize_t pwrite(int fd, const void *bytes, size_t len, off_t at) { FAIL(fd, write_errno); return REAL(pwrite)(fd, bytes, len, at); }
ssize_t pwrite64(int fd, const void *bytes, size_t len, off64_t at) { FAIL(fd, write_errno); return REAL(pwrite64)(fd, bytes, len, at); }
int fsync(int fd) { FAIL(fd, sync_errno); return REAL(fsync)(fd); }
int fdatasync(int fd) { FAIL(fd, sync_errno); return REAL(fdatasync)(fd); }
int ftruncate(int fd, off_t len) { FAIL(fd, length_errno); return REAL(ftruncate)(fd, len); }
int ftruncate64(int fd, off64_t len) { FAIL(fd, length_errno); return REAL(ftruncate64)(fd, len); }
int fallocate(int fd, int mode, off_t at, off_t len) { FAIL(fd, length_errno); return REAL(fallocate)(fd, mode, at, len); }
int fallocate64(int fd, int mode, off64_t at, off64_t len) { FAIL(fd, length_errno); return REAL(fallocate64)(fd, mode, at, len); }

#define FAIL_AT(path)                                                       \
    do {                                                                    \
        int wanted = atomic_load(&faults->name_errno);                      \
        int failed = wanted ? fault_at(path, wanted) : 0;                   \
        if (failed) {                                                       \
            errno = failed;                                                 \
            return -1;                                                      \
        }                                                                   \
    } while (0)

int rename(const char *from, const char *to) { FAIL_AT(to); return REAL(rename)(from, to); }
int link(const char *from, const char *to) { FAIL_AT(to); return REAL(link)(from, to); }
int linkat(int at, const char *from, int below, const char *to, int flags) { FAIL_AT(to); return REAL(linkat)(at, from, below, to, flags); }
int unlink(const char *path) { FAIL_AT(path); return REAL(unlink)(path); }

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
