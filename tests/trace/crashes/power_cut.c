/* What a power cut would find on the disk: notes all that a process does to the files below one folder.
 *
 * Preloaded (LD_PRELOAD), it stands between the process and the C library. Until `power_cut_watch` is called it lets all
 * through. From then on each call that changes a file or a name below the folder, and the beginning and the return of
 * each fsync and fdatasync, is a line in a log, written with one append:
 *
 *     OP TIME_NS INODE A B NAME
 *
 *     C  the name was made; inode of the file or folder
 *     T  the file was cut to A bytes
 *     W  B bytes were written at offset A
 *     O  the B bytes at offset A, which the next W or T takes away, lie in the graveyard as "over-TIME_NS"
 *     S  a sync of a file or of a folder's names begins
 *     E  it has returned: what was done before the S on line A, counted from 0, is durable
 *     R  a name was changed; NAME is "old//new"
 *     U  the name was taken away
 *
 * A change is noted when it is done, the beginning of a sync before it begins: so what stands before an S was with the
 * kernel before that sync began. A file that loses its name gets one in the graveyard first, so that its bytes are there
 * for those cuts that come before the loss is durable.
 *
 * `power_cut_slow` makes syncs slow, as disks are. `power_cut_kill` ends the process by SIGKILL before its nth step from
 * now. With a share of at least 0 a write is a step too: that share of it, in thousandths, is done before the end.
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
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* The C library's own function of this name. */
#define REAL(name)                                                                             \
    ({                                                                                         \
        static __typeof__(&name) found_##name;                                                 \
        if (found_##name == NULL) found_##name = (__typeof__(&name))dlsym(RTLD_NEXT, #name);   \
        found_##name;                                                                          \
    })
#define LONGEST 4096

static char root[LONGEST], graveyard[LONGEST];
static size_t root_length;
static int log_fd = -1;
static atomic_long kill_in = -1;
static atomic_int kill_permille;
static atomic_long slow_us;
static atomic_long lines;

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

/* Count a step that is about to be made; the return says whether it is the last one that this process makes. */
static int doomed(void) { return atomic_load(&kill_in) > 0 && atomic_fetch_sub(&kill_in, 1) == 1; }

static int doomed_in_write(void) { return atomic_load(&kill_permille) >= 0 && doomed(); }

static long note(char op, int64_t time_ns, ino_t inode, long long a, long long b, const char *name) {
    char line[2 * LONGEST + 128];
    int size = snprintf(line, sizeof line, "%c %lld %llu %lld %lld %s\n", op, (long long)time_ns,
                        (unsigned long long)inode, a, b, name);
    if (size <= 0 || (size_t)size >= sizeof line || REAL(write)(log_fd, line, (size_t)size) != size) abort();
    return atomic_fetch_add(&lines, 1);
}

/* The name below the watched folder, "." for the folder itself; NULL if it lies elsewhere. */
static const char *below(const char *path) {
    if (log_fd < 0 || strncmp(path, root, root_length) != 0) return NULL;
    if (path[root_length] == 0) return ".";
    return path[root_length] == '/' ? path + root_length + 1 : NULL;
}

static const char *below_at(int folder, const char *path, char *room) {
    if (log_fd < 0) return NULL;
    if (path[0] == '/') {
        snprintf(room, LONGEST, "%s", path);
    } else {
        char link[64], base[LONGEST];
        snprintf(link, sizeof link, folder == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", folder);
        ssize_t size = readlink(link, base, sizeof base - 1);
        if (size <= 0) return NULL;
        base[size] = 0;
        if (snprintf(room, LONGEST, "%s/%s", base, path) >= LONGEST) return NULL;
    }
    return below(room);
}

static const char *below_fd(int fd, char *room, struct stat *found) {
    char link[64];
    if (log_fd < 0 || fstat(fd, found) != 0 || !(S_ISREG(found->st_mode) || S_ISDIR(found->st_mode))) return NULL;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, room, LONGEST - 1);
    if (size <= 0) return NULL;
    room[size] = 0;
    return below(room);
}

/* Give a file that is about to lose its last name another one. */
static void bury(const char *name) {
    char from[2 * LONGEST], to[2 * LONGEST];
    struct stat found;
    snprintf(from, sizeof from, "%s/%s", root, name);
    if (lstat(from, &found) != 0 || !S_ISREG(found.st_mode)) return;
    snprintf(to, sizeof to, "%s/%llu", graveyard, (unsigned long long)found.st_ino);
    if (link(from, to) != 0 && errno != EEXIST) abort();
}

static void save_old_bytes(int fd, off_t offset, size_t size, const struct stat *before, const char *name) {
    if (offset >= before->st_size || size == 0) return;
    size_t overlap = (size_t)(before->st_size - offset) < size ? (size_t)(before->st_size - offset) : size;
    char path[2 * LONGEST], own[64];
    int64_t time_ns = now_ns();
    snprintf(path, sizeof path, "%s/over-%lld", graveyard, (long long)time_ns);
    snprintf(own, sizeof own, "/proc/self/fd/%d", fd); /* `fd` may be for writing only */
    int from = REAL(open)(own, O_RDONLY | O_CLOEXEC);
    int to = REAL(open)(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    char *bytes = malloc(overlap);
    if (from < 0 || to < 0 || !bytes || REAL(pread)(from, bytes, overlap, offset) != (ssize_t)overlap ||
        REAL(write)(to, bytes, overlap) != (ssize_t)overlap)
        abort();
    free(bytes);
    close(from);
    close(to);
    note('O', time_ns, before->st_ino, offset, (long long)overlap, name);
}

/* --- for the process that is watched -------------------------------------------------------------------------- */

int power_cut_watch(const char *folder, const char *log, const char *grave) {
    if (strlen(folder) >= LONGEST || strlen(grave) >= LONGEST) return -1;
    int fd = REAL(open)(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0) return -1;
    strcpy(root, folder);
    strcpy(graveyard, grave);
    root_length = strlen(root);
    atomic_store(&lines, 0);
    log_fd = fd;
    return 0;
}

void power_cut_slow(long microseconds) { atomic_store(&slow_us, microseconds); }

void power_cut_kill(long steps, int permille) {
    atomic_store(&kill_permille, permille);
    atomic_store(&kill_in, steps);
}

/* --- what is stood between ------------------------------------------------------------------------------------ */

static int opened(int (*real)(int, const char *, int, ...), int folder, const char *path, int flags, mode_t mode) {
    char room[LONGEST];
    const char *name = flags & (O_CREAT | O_TRUNC) ? below_at(folder, path, room) : NULL;
    if (name == NULL) return real(folder, path, flags, mode);
    struct stat before, after;
    int was = fstatat(folder, path, &before, 0) == 0;
    if (doomed()) die();
    if (was && (flags & O_TRUNC) && before.st_size > 0) {
        int full = real(folder, path, O_RDONLY | O_CLOEXEC, 0);
        save_old_bytes(full, 0, (size_t)before.st_size, &before, name);
        close(full);
    }
    int fd = real(folder, path, flags, mode);
    if (fd >= 0 && fstat(fd, &after) == 0) {
        if (!was) note('C', now_ns(), after.st_ino, 0, 0, name);
        else if ((flags & O_TRUNC) && before.st_size > 0) note('T', now_ns(), after.st_ino, 0, 0, name);
    }
    return fd;
}

#define OPEN(name, signature, folder)                                     \
    int name signature {                                                  \
        mode_t mode = 0;                                                  \
        if ((flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE) {      \
            va_list rest;                                                 \
            va_start(rest, flags);                                        \
            mode = (mode_t)va_arg(rest, int);                             \
            va_end(rest);                                                 \
        }                                                                 \
        return opened(REAL(openat64), folder, path, flags, mode);         \
    }
OPEN(open, (const char *path, int flags, ...), AT_FDCWD)
OPEN(open64, (const char *path, int flags, ...), AT_FDCWD)
OPEN(openat, (int folder, const char *path, int flags, ...), folder)
OPEN(openat64, (int folder, const char *path, int flags, ...), folder)

ssize_t write(int fd, const void *bytes, size_t size) {
    char room[LONGEST];
    struct stat before;
    const char *name = fd == log_fd ? NULL : below_fd(fd, room, &before);
    if (name == NULL) return REAL(write)(fd, bytes, size);
    int appends = fcntl(fd, F_GETFL) & O_APPEND;
    if (!appends) save_old_bytes(fd, lseek(fd, 0, SEEK_CUR), size, &before, name);
    int last = doomed_in_write();
    if (last) size = size * (size_t)atomic_load(&kill_permille) / 1000;
    ssize_t done = REAL(write)(fd, bytes, size);
    if (done > 0) note('W', now_ns(), before.st_ino, lseek(fd, 0, SEEK_CUR) - done, done, name);
    if (last) die();
    return done;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    char room[LONGEST];
    struct stat before;
    if (below_fd(fd, room, &before) == NULL) return REAL(writev)(fd, parts, count);
    ssize_t total = 0;
    for (int k = 0; k < count; k++) { /* one by one: fewer bytes than asked for may always be written */
        ssize_t done = write(fd, parts[k].iov_base, parts[k].iov_len);
        if (done < 0) return total > 0 ? total : done;
        total += done;
        if ((size_t)done < parts[k].iov_len) break;
    }
    return total;
}

ssize_t pwrite64(int fd, const void *bytes, size_t size, off64_t offset) {
    char room[LONGEST];
    struct stat before;
    const char *name = below_fd(fd, room, &before);
    if (name == NULL) return REAL(pwrite64)(fd, bytes, size, offset);
    save_old_bytes(fd, offset, size, &before, name);
    int last = doomed_in_write();
    if (last) size = size * (size_t)atomic_load(&kill_permille) / 1000;
    ssize_t done = REAL(pwrite64)(fd, bytes, size, offset);
    if (done > 0) note('W', now_ns(), before.st_ino, offset, done, name);
    if (last) die();
    return done;
}

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t offset) { return pwrite64(fd, bytes, size, offset); }

int ftruncate64(int fd, off64_t size) {
    char room[LONGEST];
    struct stat before;
    const char *name = below_fd(fd, room, &before);
    if (name == NULL) return REAL(ftruncate64)(fd, size);
    if (doomed()) die();
    if (size < before.st_size) save_old_bytes(fd, size, (size_t)(before.st_size - size), &before, name);
    int done = REAL(ftruncate64)(fd, size);
    if (done == 0) note('T', now_ns(), before.st_ino, size, 0, name);
    return done;
}

int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

static int synced(int (*real)(int), int fd) {
    char room[LONGEST];
    struct stat found;
    const char *name = below_fd(fd, room, &found);
    if (name == NULL) return real(fd);
    if (doomed()) die();
    long began = note('S', now_ns(), found.st_ino, found.st_size, 0, name);
    long slow = atomic_load(&slow_us);
    if (slow > 0) nanosleep(&(struct timespec){slow / 1000000, slow % 1000000 * 1000}, NULL);
    int done = real(fd);
    if (done == 0) note('E', now_ns(), found.st_ino, began, 0, name);
    return done;
}

int fsync(int fd) { return synced(REAL(fsync), fd); }
int fdatasync(int fd) { return synced(REAL(fdatasync), fd); }

int renameat(int from_folder, const char *from, int to_folder, const char *to) {
    char rooms[2][LONGEST], both[2 * LONGEST];
    struct stat found;
    const char *old = below_at(from_folder, from, rooms[0]), *new = below_at(to_folder, to, rooms[1]);
    if (old == NULL && new == NULL) return REAL(renameat)(from_folder, from, to_folder, to);
    if (old == NULL || new == NULL || fstatat(from_folder, from, &found, 0) != 0) abort(); /* not modelled */
    if (doomed()) die();
    bury(new);
    int done = REAL(renameat)(from_folder, from, to_folder, to);
    snprintf(both, sizeof both, "%.4000s//%.4000s", old, new);
    if (done == 0) note('R', now_ns(), found.st_ino, 0, 0, both);
    return done;
}

int rename(const char *from, const char *to) { return renameat(AT_FDCWD, from, AT_FDCWD, to); }

int unlinkat(int folder, const char *path, int flags) {
    char room[LONGEST];
    struct stat found;
    const char *name = below_at(folder, path, room);
    if (name == NULL || fstatat(folder, path, &found, AT_SYMLINK_NOFOLLOW) != 0)
        return REAL(unlinkat)(folder, path, flags);
    if (doomed()) die();
    bury(name);
    int done = REAL(unlinkat)(folder, path, flags);
    if (done == 0) note('U', now_ns(), found.st_ino, 0, 0, name);
    return done;
}

int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }

int mkdirat(int folder, const char *path, mode_t mode) {
    char room[LONGEST];
    struct stat found;
    const char *name = below_at(folder, path, room);
    if (name != NULL && doomed()) die();
    int done = REAL(mkdirat)(folder, path, mode);
    if (name != NULL && done == 0 && fstatat(folder, path, &found, 0) == 0)
        note('C', now_ns(), found.st_ino, 0, 0, name);
    return done;
}

int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }
