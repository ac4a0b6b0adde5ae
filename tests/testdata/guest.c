/* A host program for the module: one story per first argument, told in C because forking, unloading, signals and threads are C's
 * business. Prints nothing when all is as it should be (a module that prints would be heard), and ends with 0. On a surprise it says
 * what happened on standard error and ends with 1. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

typedef unsigned long num;
typedef struct { num type; void *value; num len; } attribute;
typedef struct { num type; void *parameter; num len; } mechanism;
typedef struct { void *create, *destroy, *lock, *unlock; num flags; void *reserved; } init_args;
typedef struct { num slot, state, flags, error; } session_info;

enum {
    OK = 0, HANDLE_INVALID = 0xb3, ARGUMENTS_BAD = 7, NOT_INITIALIZED = 0x190, ALREADY_INITIALIZED = 0x191,
    DEVICE_ERROR = 0x30, DEVICE_REMOVED = 0x32, TOKEN_NOT_PRESENT = 0xe0,
    CANT_CREATE_THREADS = 1, OS_LOCKING = 2, RW_PUBLIC = 2, RW_USER = 3, ECDSA = 0x1041,
};

#define FUNCTIONS(F) \
    F(C_Initialize, (void *)) F(C_Finalize, (void *)) F(C_GetSlotList, (unsigned char, num *, num *)) \
    F(C_OpenSession, (num, num, void *, void *, num *)) F(C_CloseSession, (num)) F(C_GetSessionInfo, (num, session_info *)) \
    F(C_Login, (num, num, char *, num)) F(C_GenerateKeyPair, (num, mechanism *, attribute *, num, attribute *, num, num *, num *)) \
    F(C_SignInit, (num, mechanism *, num)) F(C_Sign, (num, void *, num, void *, num *)) F(C_GenerateRandom, (num, void *, num)) \
    F(C_FindObjectsInit, (num, attribute *, num)) F(C_FindObjects, (num, num *, num, num *)) F(C_FindObjectsFinal, (num)) \
    F(C_WaitForSlotEvent, (num, num *, void *)) F(C_CloseAllSessions, (num))

typedef struct {
    void *handle;
#define FIELD(name, args) num (*name) args;
    FUNCTIONS(FIELD)
} module;

/* The module of the story, and what it has opened there. */
static module m;
static num slot, session, public_key, private_key;

static void fail(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fprintf(stderr, "pid %d: ", (int)getpid());
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    _exit(1);
}

static void check(const char *what, num rv, num expected) {
    if (rv != expected) fail("%s: 0x%lx, expected 0x%lx", what, rv, expected);
}

static module load(const char *path) {
    module loaded;
    loaded.handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!loaded.handle) fail("dlopen: %s", dlerror());
#define RESOLVE(name, args) *(void **)&loaded.name = dlsym(loaded.handle, #name); if (!loaded.name) fail("no " #name);
    FUNCTIONS(RESOLVE)
    return loaded;
}

static const char *path(void) {
    const char *found = getenv("PKCS11_MODULE");
    if (!found) fail("PKCS11_MODULE is not set");
    return found;
}

static num first_slot(module *from) {
    num slots[64], count = 64;
    check("C_GetSlotList", from->C_GetSlotList(1, slots, &count), OK);
    if (!count) fail("no slot with a token");
    return slots[0];
}

static num open_session(module *from) {
    num opened = 0;
    check("C_OpenSession", from->C_OpenSession(first_slot(from), 6, NULL, NULL, &opened), OK);
    return opened;
}

static num state(module *of, num handle) {
    session_info info;
    check("C_GetSessionInfo", of->C_GetSessionInfo(handle, &info), OK);
    return info.state;
}

static void log_in(module *to, num handle) {
    char *pin = getenv("PIN");
    check("C_Login", to->C_Login(handle, 1, pin, strlen(pin)), OK);
}

static num sign_with(module *with, num handle, num key) {
    mechanism how = { ECDSA, NULL, 0 };
    unsigned char digest[32] = { 7 }, signature[64];
    num len = sizeof signature, rv = with->C_SignInit(handle, &how, key);
    return rv ? rv : with->C_Sign(handle, digest, sizeof digest, signature, &len);
}

/* Loads, initialises, logs in, and makes a key pair of this session. */
static void begin(void) {
    unsigned char p256[] = { 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7 }, no = 0, yes = 1;
    attribute public[] = { { 0x180, p256, sizeof p256 }, { 1, &no, 1 }, { 0x10a, &yes, 1 } };
    attribute private[] = { { 1, &no, 1 }, { 0x108, &yes, 1 } };
    mechanism how = { 0x1040, NULL, 0 };
    m = load(path());
    check("C_Initialize", m.C_Initialize(NULL), OK);
    slot = first_slot(&m);
    session = open_session(&m);
    log_in(&m, session);
    check("C_GenerateKeyPair", m.C_GenerateKeyPair(session, &how, public, 3, private, 2, &public_key, &private_key), OK);
}

static void in_child(void (*story)(void)) {
    pid_t child = fork();
    if (child < 0) fail("fork: %s", strerror(errno));
    if (!child) { story(); exit(0); }
    int status = 0;
    if (waitpid(child, &status, 0) != child || status) fail("a child ended with status 0x%x", status);
}

static int entries(const char *directory) {
    int count = 0;
    DIR *open = opendir(directory);
    if (!open) fail("%s: %s", directory, strerror(errno));
    while (readdir(open)) count++;
    closedir(open);
    return count;
}

static int descriptors(void) { return entries("/proc/self/fd"); }
static int threads(void) { return entries("/proc/self/task") - 2; }

/* --- threads that keep calling --- */

static atomic_int stop, wrong, calls;

static void *keep_signing(void *unused) {
    num own = open_session(&m);
    while (!atomic_load(&stop)) {
        num rv = sign_with(&m, own, private_key);
        atomic_fetch_add(&calls, 1);
        if (rv) { fprintf(stderr, "C_Sign under load: 0x%lx\n", rv); atomic_fetch_add(&wrong, 1); break; }
    }
    return unused;
}

static void start(pthread_t *running, int count, void *(*body)(void *)) {
    atomic_store(&stop, 0);
    atomic_store(&calls, 0);
    for (int i = 0; i < count; i++)
        if (pthread_create(&running[i], NULL, body, NULL)) fail("no thread");
}

static void end(pthread_t *running, int count) {
    atomic_store(&stop, 1);
    for (int i = 0; i < count; i++) pthread_join(running[i], NULL);
    if (atomic_load(&wrong)) fail("%d threads met an error", atomic_load(&wrong));
}

static void wait_for_calls(int count) {
    int from = atomic_load(&calls);
    while (atomic_load(&calls) < from + count && !atomic_load(&wrong)) usleep(500);
}

/* --- stories --- */

static void short_life(void) {
    m = load(path());
    check("C_Initialize", m.C_Initialize(NULL), OK);
    state(&m, open_session(&m));
    check("C_Finalize", m.C_Finalize(NULL), OK);
}

static void exit_without_finalize(void) { begin(); exit(0); }
static void quick_exit_without_finalize(void) { begin(); _exit(0); }

static void uninitialised_child(void) {
    session_info info;
    num count = 0, rv;
    check("C_GetSlotList in the child", m.C_GetSlotList(1, NULL, &count), NOT_INITIALIZED);
    check("C_GetSessionInfo in the child", m.C_GetSessionInfo(session, &info), NOT_INITIALIZED);
    check("C_OpenSession in the child", m.C_OpenSession(slot, 6, NULL, NULL, &rv), NOT_INITIALIZED);
    check("C_SignInit in the child", sign_with(&m, session, private_key), NOT_INITIALIZED);
    check("C_CloseAllSessions in the child", m.C_CloseAllSessions(slot), NOT_INITIALIZED);
    check("C_Finalize in the child", m.C_Finalize(NULL), NOT_INITIALIZED);
}

static void initialised_child(void) {
    check("C_Initialize in the child", m.C_Initialize(NULL), OK);
    num own = open_session(&m);
    /* A login belongs to the process that made it, and so do session objects. */
    check("state in the child", state(&m, own), RW_PUBLIC);
    if (sign_with(&m, own, private_key) == OK) fail("the child signs with the parent's session key");
    log_in(&m, own);
    check("state in the child after its login", state(&m, own), RW_USER);
    in_child(uninitialised_child);
}

static void child_that_initialises_and_finalises(void) {
    initialised_child();
    check("C_Finalize in the child", m.C_Finalize(NULL), OK);
}

static void fork_stories(void) {
    begin();
    in_child(uninitialised_child);
    check("C_Sign after a child that did nothing", sign_with(&m, session, private_key), OK);
    in_child(initialised_child);
    check("C_Sign after a child that went without C_Finalize", sign_with(&m, session, private_key), OK);
    in_child(child_that_initialises_and_finalises);
    check("C_Sign after a child that finalised", sign_with(&m, session, private_key), OK);
    check("the parent's state", state(&m, session), RW_USER);
    check("C_Finalize", m.C_Finalize(NULL), OK);
    /* The library is initialised in neither: the child begins anew. */
    in_child(short_life);
}

static void short_child(void) {
    check("C_Initialize in the child", m.C_Initialize(NULL), OK);
    state(&m, open_session(&m));
}

static void fork_under_load(void) {
    pthread_t running[4];
    begin();
    start(running, 4, keep_signing);
    for (int i = 0; i < 20; i++) {
        wait_for_calls(4);
        in_child(i % 2 ? short_child : uninitialised_child);
    }
    end(running, 4);
    check("C_Finalize", m.C_Finalize(NULL), OK);
}

static void reload(void) {
    int open_at_first = 0;
    for (int i = 0; i < 40; i++) {
        begin();
        check("C_Sign", sign_with(&m, session, private_key), OK);
        /* Every fourth time the library is still initialised when it is unloaded: as it never leaves, so does its state. */
        if (i % 4 == 3) {
            dlclose(m.handle);
            m = load(path());
            check("C_Sign after unloading", sign_with(&m, session, private_key), OK);
        }
        check("C_Finalize", m.C_Finalize(NULL), OK);
        dlclose(m.handle);
        if (i == 0) open_at_first = descriptors();
    }
    if (descriptors() > open_at_first) fail("%d descriptors, %d after the first round", descriptors(), open_at_first);
    if (threads() != 1) fail("%d threads", threads());
}

static void unload_under_load(void) {
    pthread_t running[4];
    begin();
    start(running, 4, keep_signing);
    wait_for_calls(20);
    dlclose(m.handle);
    wait_for_calls(200);
    end(running, 4);
    check("C_Finalize", m.C_Finalize(NULL), OK);
}

static void two_copies(const char *other_path) {
    begin();
    module other = load(other_path);
    if ((void *)other.C_Initialize == (void *)m.C_Initialize) fail("the second copy is the first");
    num count = 0;
    check("C_GetSlotList of the second copy", other.C_GetSlotList(1, NULL, &count), NOT_INITIALIZED);
    check("C_Initialize of the second copy", other.C_Initialize(NULL), OK);
    num second = open_session(&other);
    check("the second copy's state", state(&other, second), RW_PUBLIC);
    log_in(&other, second);
    check("C_Sign of the first copy", sign_with(&m, session, private_key), OK);
    if (sign_with(&other, second, private_key) == OK) fail("the second copy signs with the first one's session key");
    check("C_Finalize of the first copy", m.C_Finalize(NULL), OK);
    dlclose(m.handle);
    check("the second copy's state", state(&other, second), RW_USER);
    in_child(uninitialised_child);
    check("C_Finalize of the second copy", other.C_Finalize(NULL), OK);
    if (threads() != 1) fail("%d threads", threads());
}

static void *call_until_the_end(void *which) {
    num own, found[16], count, rv = OK;
    unsigned char random[64];
    while (rv != NOT_INITIALIZED) {
        attribute none = { 0, NULL, 0 };
        rv = m.C_OpenSession(slot, 6, NULL, NULL, &own);
        for (int i = 0; i < 8 && !rv; i++) {
            rv = sign_with(&m, own, private_key);
            if (!rv) rv = m.C_GenerateRandom(own, random, sizeof random);
            if (!rv) rv = m.C_FindObjectsInit(own, &none, 0);
            if (!rv) rv = m.C_FindObjects(own, found, 16, &count);
            if (!rv) rv = m.C_FindObjectsFinal(own);
        }
        if (!rv) rv = m.C_CloseSession(own);
        atomic_fetch_add(&calls, 1);
        if (rv && rv != NOT_INITIALIZED) {
            fprintf(stderr, "a call during C_Finalize: 0x%lx\n", rv);
            atomic_fetch_add(&wrong, 1);
            break;
        }
    }
    return which;
}

static void finalize_under_load(void) {
    pthread_t running[8];
    for (int i = 0; i < 10; i++) {
        begin();
        start(running, 8, call_until_the_end);
        wait_for_calls(8);
        check("C_Finalize under load", m.C_Finalize(NULL), OK);
        end(running, 8);
        check("C_Finalize again", m.C_Finalize(NULL), NOT_INITIALIZED);
    }
    if (threads() != 1) fail("%d threads", threads());
}

static void *wait_for_an_event(void *unused) {
    num which = 0;
    num rv = m.C_WaitForSlotEvent(0, &which, NULL);
    if (rv != NOT_INITIALIZED) { fprintf(stderr, "C_WaitForSlotEvent: 0x%lx\n", rv); atomic_fetch_add(&wrong, 1); }
    return unused;
}

static void finalize_ends_waiting(void) {
    pthread_t waiting;
    begin();
    start(&waiting, 1, wait_for_an_event);
    usleep(50 * 1000);
    check("C_Finalize", m.C_Finalize(NULL), OK);
    end(&waiting, 1);
}

static void callback(void) {}

static void initialize_forms(void) {
    void *some = (void *)callback;
    char reserved[] = "x";
    struct { const char *name; init_args args; num expected; } rows[] = {
        { "an empty structure", { 0 }, OK },
        { "OS locking", { .flags = OS_LOCKING }, OK },
        { "OS locking, no threads", { .flags = OS_LOCKING | CANT_CREATE_THREADS }, OK },
        { "no threads", { .flags = CANT_CREATE_THREADS }, OK },
        { "callbacks", { some, some, some, some, 0, NULL }, OK },
        { "callbacks and OS locking", { some, some, some, some, OS_LOCKING, NULL }, OK },
        { "callbacks, OS locking, no threads", { some, some, some, some, OS_LOCKING | CANT_CREATE_THREADS, NULL }, OK },
        { "one callback", { .create = some }, ARGUMENTS_BAD },
        { "three callbacks", { some, some, some, NULL, 0, NULL }, ARGUMENTS_BAD },
        { "three callbacks and OS locking", { NULL, some, some, some, OS_LOCKING, NULL }, ARGUMENTS_BAD },
        { "a reserved pointer", { .flags = OS_LOCKING, .reserved = reserved }, ARGUMENTS_BAD },
        { "a reserved pointer to nowhere", { .reserved = (void *)16 }, ARGUMENTS_BAD },
    };
    m = load(path());
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        num rv = m.C_Initialize(&rows[i].args);
        check(rows[i].name, rv, rows[i].expected);
        num count = 0;
        check(rows[i].name, m.C_GetSlotList(1, NULL, &count), rv ? NOT_INITIALIZED : OK);
        if (!rv) check("a second C_Initialize", m.C_Initialize(&rows[i].args), ALREADY_INITIALIZED);
        check(rows[i].name, m.C_Finalize(reserved), ARGUMENTS_BAD);
        check(rows[i].name, m.C_Finalize(NULL), rv ? NOT_INITIALIZED : OK);
    }
    int open_before = descriptors();
    for (int i = 0; i < 200; i++) {
        check("C_Initialize", m.C_Initialize(NULL), OK);
        if (i % 20 == 0) first_slot(&m);
        check("C_Finalize", m.C_Finalize(NULL), OK);
    }
    if (descriptors() != open_before) fail("%d descriptors, %d before", descriptors(), open_before);
}

static pthread_barrier_t together;
static atomic_int first, later;

static void *initialize_at_once(void *unused) {
    pthread_barrier_wait(&together);
    num rv = m.C_Initialize(NULL);
    if (rv == OK) atomic_fetch_add(&first, 1);
    else if (rv == ALREADY_INITIALIZED) atomic_fetch_add(&later, 1);
    state(&m, open_session(&m));
    return unused;
}

static void concurrent_initialize(void) {
    pthread_t running[16];
    m = load(path());
    for (int i = 0; i < 10; i++) {
        atomic_store(&first, 0);
        atomic_store(&later, 0);
        pthread_barrier_init(&together, NULL, 16);
        start(running, 16, initialize_at_once);
        end(running, 16);
        if (first != 1 || later != 15) fail("%d threads initialised, %d found it done", first, later);
        check("C_Finalize", m.C_Finalize(NULL), OK);
    }
}

/* The test kills the daemon when it reads "ready", and says so. SIGPIPE keeps its default: it would end this process. */
static void daemon_dies(void) {
    char line[16];
    begin();
    if (signal(SIGPIPE, SIG_DFL) == SIG_IGN) fail("the module ignores SIGPIPE for its host");
    puts("ready");
    fflush(stdout);
    if (!fgets(line, sizeof line, stdin)) fail("nobody said that the daemon is gone");
    for (int i = 0; i < 5; i++) {
        num rv = sign_with(&m, session, private_key), opened;
        if (rv != DEVICE_REMOVED && rv != DEVICE_ERROR && rv != HANDLE_INVALID) fail("C_Sign without a daemon: 0x%lx", rv);
        rv = m.C_OpenSession(slot, 6, NULL, NULL, &opened);
        if (rv != TOKEN_NOT_PRESENT) fail("C_OpenSession without a daemon: 0x%lx", rv);
    }
    check("C_Finalize", m.C_Finalize(NULL), OK);
}

static void every_descriptor_closes_on_exec(void) {
    struct dirent *entry;
    int seen = 0, inherited[256] = { 0 };
    for (int number = 0; number < 256; number++) inherited[number] = fcntl(number, F_GETFD) != -1;
    begin();
    DIR *open = opendir("/proc/self/fd");
    while ((entry = readdir(open))) {
        int number = atoi(entry->d_name);
        if (entry->d_name[0] == '.' || (number < 256 && inherited[number]) || number == dirfd(open)) continue;
        seen++;
        if (!(fcntl(number, F_GETFD) & FD_CLOEXEC)) fail("descriptor %d stays open on exec", number);
    }
    closedir(open);
    if (!seen) fail("no descriptor is open");
    if (threads() != 1) fail("%d threads", threads());
}

static void closed_standard_streams(void) {
    close(0);
    close(1);
    close(2);
    begin();
    for (int number = 0; number < 3; number++)
        if (fcntl(number, F_GETFD) != -1) _exit(3);
    if (sign_with(&m, session, private_key)) _exit(4);
    _exit(0);
}

static void signals_stay_as_they_are(void) {
    struct sigaction before[65], after;
    sigset_t blocked, seen;
    sigfillset(&blocked);
    pthread_sigmask(SIG_SETMASK, &blocked, NULL);
    pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    for (int number = 1; number < 65; number++) sigaction(number, NULL, &before[number]);
    begin();
    check("C_Sign", sign_with(&m, session, private_key), OK);
    check("C_Finalize", m.C_Finalize(NULL), OK);
    for (int number = 1; number < 65; number++) {
        sigaction(number, NULL, &after);
        /* 32 and 33 are the C library's own. */
        if (number != 32 && number != 33 && after.sa_handler != before[number].sa_handler)
            fail("signal %d has another handler", number);
    }
    pthread_sigmask(SIG_SETMASK, NULL, &seen);
    for (int number = 1; number < 65; number++)
        if (sigismember(&seen, number) != sigismember(&blocked, number)) fail("signal %d is blocked otherwise", number);
    sigpending(&seen);
    if (sigismember(&seen, SIGPIPE)) fail("SIGPIPE was raised");
}

static atomic_int alarms;
static void count_alarm(int number) { (void)number; atomic_fetch_add(&alarms, 1); }

/* A timer interrupts the system calls; no call may take that for an error. */
static void interrupted_calls(void) {
    struct sigaction action = { .sa_handler = count_alarm };
    begin();
    sigaction(SIGALRM, &action, NULL);
    ualarm(2000, 700);
    while (atomic_load(&alarms) < 300) check("C_Sign under signals", sign_with(&m, session, private_key), OK);
    ualarm(0, 0);
    check("C_Finalize", m.C_Finalize(NULL), OK);
}

int main(int count, char **words) {
    struct { const char *name; void (*story)(void); } stories[] = {
        { "short", short_life }, { "exit", exit_without_finalize }, { "quick-exit", quick_exit_without_finalize },
        { "fork", fork_stories }, { "fork-under-load", fork_under_load }, { "reload", reload },
        { "unload-under-load", unload_under_load }, { "finalize-under-load", finalize_under_load },
        { "finalize-ends-waiting", finalize_ends_waiting }, { "initialize-forms", initialize_forms },
        { "concurrent-initialize", concurrent_initialize }, { "daemon-dies", daemon_dies },
        { "descriptors", every_descriptor_closes_on_exec }, { "closed-streams", closed_standard_streams },
        { "signals", signals_stay_as_they_are }, { "interrupted", interrupted_calls },
    };
    if (count == 3 && !strcmp(words[1], "two-copies")) { two_copies(words[2]); return 0; }
    for (size_t i = 0; i < sizeof stories / sizeof *stories; i++)
        if (count == 2 && !strcmp(words[1], stories[i].name)) { stories[i].story(); return 0; }
    fail("unknown story");
}
