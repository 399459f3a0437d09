/* A disk that is watched, and that fills up when it is told to: preloaded into a program (LD_PRELOAD), see disk.py.
 *
 *   WATCHED_ROOT     the folder whose changes count, an absolute path without links
 *   WATCHED_CONTROL  a file of `struct control`, zeros at first, which all processes and the test share
 *   WATCHED_LOG      where each change is appended as a `struct record` and its bytes; none is written without it
 *   WATCHED_MARK     a file outside of the root: what is written to it is logged, too, in its place among the changes
 *
 * What the C library does inside itself doesn't come by here. So streams are read back when they are flushed, and with
 * each fsync the log holds a checksum of the file: a writing that nobody saw is noticed when the log is played.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define READY 1

struct control {
    int64_t ready;
    int64_t allowed; /* so many operations that need space succeed, then none; below 0: all do */
    int64_t failing; /* so many fail, then there is space again; below 0: for ever */
    int64_t halved;  /* whether the first write that fails writes a half */
    int64_t asked;   /* operations that needed space */
    int64_t refused; /* those that failed */
    pthread_mutex_t turn;
};

struct record {
    uint64_t inode;
    int64_t number; /* an offset, a size, a mode or a checksum, by the kind */
    uint32_t first, second; /* lengths of what follows */
    char kind, padding[7];
};

static char root[PATH_MAX], mark[PATH_MAX];
static size_t root_length;
static int log_file = -1;
static struct control *control;
static uint32_t table[256];

#define REAL(name) \
    static __typeof__(name) *real; \
    if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

/* What opens a file here must come by none of the functions below. */
static int open_quietly(const char *path, int flags) {
    return syscall(SYS_openat, AT_FDCWD, path, flags | O_CLOEXEC, 0644);
}

static void close_quietly(int file) { syscall(SYS_close, file); }

static void broken(const char *what) {
    dprintf(2, "disk.c: %s: %s\n", what, strerror(errno));
    _exit(99);
}

/* Each thread waits for its turn, of whatever process: the log has the order in which things happened. */
static void take_turn(void) {
    if (pthread_mutex_lock(&control->turn) == EOWNERDEAD) pthread_mutex_consistent(&control->turn);
}

static void end_turn(void) {
    int error = errno;
    pthread_mutex_unlock(&control->turn);
    errno = error;
}

__attribute__((constructor)) static void begin(void) {
    const char *watched = getenv("WATCHED_ROOT"), *shared = getenv("WATCHED_CONTROL");
    const char *log = getenv("WATCHED_LOG"), *marked = getenv("WATCHED_MARK");
    if (!watched || !shared) return;
    for (uint32_t byte = 0; byte < 256; byte++) {
        table[byte] = byte;
        for (int bit = 0; bit < 8; bit++) table[byte] = table[byte] >> 1 ^ (table[byte] & 1 ? 0xedb88320u : 0);
    }
    int file = open_quietly(shared, O_RDWR);
    if (file < 0) broken(shared);
    control = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (control == MAP_FAILED) broken(shared);
    flock(file, LOCK_EX);
    if (control->ready != READY) {
        pthread_mutexattr_t shape;
        pthread_mutexattr_init(&shape);
        pthread_mutexattr_setpshared(&shape, PTHREAD_PROCESS_SHARED);
        pthread_mutexattr_setrobust(&shape, PTHREAD_MUTEX_ROBUST);
        pthread_mutex_init(&control->turn, &shape);
        control->ready = READY;
    }
    flock(file, LOCK_UN); /* closing alone would not do: what is mapped stays open */
    close_quietly(file);
    if (log && (log_file = open_quietly(log, O_WRONLY | O_APPEND)) < 0) broken(log);
    if (marked) snprintf(mark, sizeof mark, "%s", marked);
    snprintf(root, sizeof root, "%s", watched);
    root_length = strlen(root);
}

static int below(const char *path) {
    return control && !strncmp(path, root, root_length) && path[root_length] == '/';
}

/* Where a name leads, links in its last part left alone; whether that is watched. */
static int find(int folder, const char *name, char *path) {
    char whole[PATH_MAX * 2], link[40];
    if (!control || !name) return 0;
    if (name[0] == '/') {
        snprintf(whole, sizeof whole, "%s", name);
    } else {
        ssize_t length;
        snprintf(link, sizeof link, folder == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", folder);
        if ((length = readlink(link, whole, PATH_MAX - 1)) < 0) return 0;
        snprintf(whole + length, sizeof whole - length, "/%s", name);
    }
    size_t length = strlen(whole);
    while (length > 1 && whole[length - 1] == '/') whole[--length] = 0;
    char *last = strrchr(whole, '/');
    *last = 0;
    char *parent = realpath(*whole ? whole : "/", NULL);
    if (!parent) return 0;
    int fits = snprintf(path, PATH_MAX, "%s/%s", parent, last + 1) < PATH_MAX;
    free(parent);
    return fits && below(path);
}

static int find_open(int file, char *path) {
    char link[40];
    int error = errno;
    *path = 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = control ? readlink(link, path, PATH_MAX - 1) : -1;
    errno = error;
    if (length < 0) return 0;
    path[length] = 0;
    return below(path);
}

static uint64_t inode(int file) {
    struct stat found;
    return fstat(file, &found) ? 0 : found.st_ino;
}

static uint64_t inode_of(const char *path) {
    struct stat found;
    return lstat(path, &found) ? 0 : found.st_ino;
}

static void note(char kind, uint64_t of, int64_t number, const void *first, size_t length, const char *second) {
    if (log_file < 0) return;
    struct record record = {of, number, length, second ? strlen(second) : 0, kind, {0}};
    struct iovec parts[] = {{&record, sizeof record}, {(void *)first, length}, {(void *)second, record.second}};
    int error = errno;
    ssize_t whole = sizeof record + length + record.second;
    if (syscall(SYS_writev, log_file, parts, 3) != whole) broken("the log");
    errno = error;
}

static void note_path(char kind, uint64_t of, int64_t number, const char *path, const char *other) {
    note(kind, of, number, path, strlen(path), other);
}

/* Log some bytes of a file by reading them back. */
static void note_range(int file, int64_t start, int64_t length) {
    char link[40];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    int again = open_quietly(link, O_RDONLY);
    char *content = malloc(length ? length : 1);
    if (again < 0 || !content || pread(again, content, length, start) != length) broken("reading back");
    note('w', inode(file), start, content, length, NULL);
    free(content);
    close_quietly(again);
}

/* Whether an operation that needs space gets none. */
static int refused(void) {
    control->asked++;
    if (control->allowed < 0) return 0;
    if (control->allowed > 0) {
        control->allowed--;
        return 0;
    }
    if (control->failing == 0) {
        control->allowed = -1;
        return 0;
    }
    if (control->failing > 0) control->failing--;
    control->refused++;
    errno = ENOSPC;
    return 1;
}

/* How much of a write is written: all, a half once, or nothing (-1). */
static ssize_t granted(size_t wanted) {
    if (!refused()) return wanted;
    if (!control->halved || wanted < 2) return -1;
    control->halved = 0;
    return wanted / 2;
}

static int64_t size_of(int file) {
    struct stat found;
    return fstat(file, &found) ? 0 : found.st_size;
}

static int64_t place_of(int file) {
    int flags = fcntl(file, F_GETFL);
    return flags & O_APPEND ? size_of(file) : lseek(file, 0, SEEK_CUR);
}

/* Opening. */

static int opened(int folder, const char *name, int flags, mode_t mode) {
    static int (*real)(int, const char *, int, ...);
    if (!real) real = (int (*)(int, const char *, int, ...))dlsym(RTLD_NEXT, "openat");
    char path[PATH_MAX];
    struct stat before;
    if (!(flags & (O_CREAT | O_TRUNC)) || (flags & O_TMPFILE) == O_TMPFILE || !find(folder, name, path))
        return real(folder, name, flags, mode);
    take_turn();
    int there = !stat(path, &before);
    int file = -1;
    if (there || !(flags & O_CREAT) || !refused()) file = real(folder, name, flags, mode);
    if (file >= 0 && !there && find_open(file, path)) {
        struct stat made;
        fstat(file, &made);
        note_path('c', made.st_ino, made.st_mode & 07777, path, NULL);
    } else if (file >= 0 && flags & O_TRUNC && S_ISREG(before.st_mode)) {
        note('t', before.st_ino, 0, NULL, 0, NULL);
    }
    end_turn();
    return file;
}

static mode_t mode_in(int flags, va_list more) {
    return flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(more, mode_t) : 0;
}

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        va_list more; \
        va_start(more, flags); \
        mode_t mode = mode_in(flags, more); \
        va_end(more); \
        return opened(AT_FDCWD, path, flags, mode); \
    }
#define OPENAT(name) \
    int name(int folder, const char *path, int flags, ...) { \
        va_list more; \
        va_start(more, flags); \
        mode_t mode = mode_in(flags, more); \
        va_end(more); \
        return opened(folder, path, flags, mode); \
    }
OPEN(open) OPEN(open64) OPENAT(openat) OPENAT(openat64)
int __open_2(const char *path, int flags) { return opened(AT_FDCWD, path, flags, 0); }
int __open64_2(const char *path, int flags) { return opened(AT_FDCWD, path, flags, 0); }
int __openat_2(int folder, const char *path, int flags) { return opened(folder, path, flags, 0); }
int __openat64_2(int folder, const char *path, int flags) { return opened(folder, path, flags, 0); }
int creat(const char *path, mode_t mode) { return opened(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return creat(path, mode); }

/* Streams write by ways of their own: they are opened by ours, and read back when flushed. */

static FILE *stream(const char *path, const char *how) {
    int flags = strchr(how, '+') ? O_RDWR : *how == 'r' ? O_RDONLY : O_WRONLY;
    flags |= *how == 'w' ? O_CREAT | O_TRUNC : *how == 'a' ? O_CREAT | O_APPEND : 0;
    flags |= (strchr(how, 'x') ? O_EXCL : 0) | (strchr(how, 'e') ? O_CLOEXEC : 0);
    int file = opened(AT_FDCWD, path, flags, 0666);
    FILE *made = file < 0 ? NULL : fdopen(file, how);
    if (file >= 0 && !made) close_quietly(file);
    return made;
}

static void read_back(FILE *of) {
    char path[PATH_MAX];
    int file = fileno(of);
    if (file < 0 || (fcntl(file, F_GETFL) & O_ACCMODE) == O_RDONLY || !find_open(file, path)) return;
    take_turn();
    note_range(file, 0, size_of(file));
    end_turn();
}

FILE *fopen(const char *path, const char *how) { return stream(path, how); }
FILE *fopen64(const char *path, const char *how) { return stream(path, how); }

int fflush(FILE *of) {
    REAL(fflush);
    int result = real(of);
    if (of && !result) read_back(of);
    return result;
}

int fclose(FILE *of) {
    REAL(fclose);
    if (of && control) fflush(of);
    return real(of);
}

/* Writing. */

ssize_t write(int file, const void *content, size_t length) {
    REAL(write);
    char path[PATH_MAX];
    if (!find_open(file, path)) {
        int marked = control && *mark && !strcmp(path, mark);
        if (!marked) return real(file, content, length);
        take_turn();
        ssize_t written = real(file, content, length);
        note('a', 0, 0, content, length, NULL);
        end_turn();
        return written;
    }
    take_turn();
    int64_t start = place_of(file);
    ssize_t written = granted(length);
    if (written >= 0) written = real(file, content, written);
    if (written > 0) note('w', inode(file), start, content, written, NULL);
    end_turn();
    return written;
}

ssize_t pwrite(int file, const void *content, size_t length, off_t start) {
    REAL(pwrite);
    char path[PATH_MAX];
    if (!find_open(file, path)) return real(file, content, length, start);
    take_turn();
    ssize_t written = granted(length);
    if (written >= 0) written = real(file, content, written, start);
    if (written > 0) note('w', inode(file), start, content, written, NULL);
    end_turn();
    return written;
}

ssize_t pwrite64(int file, const void *content, size_t length, off64_t start) {
    return pwrite(file, content, length, start);
}

ssize_t writev(int file, const struct iovec *parts, int count) {
    REAL(writev);
    char path[PATH_MAX];
    if (!find_open(file, path)) return real(file, parts, count);
    take_turn();
    int64_t start = place_of(file);
    ssize_t written = refused() ? -1 : real(file, parts, count);
    if (written > 0) note_range(file, start, written);
    end_turn();
    return written;
}

ssize_t pwritev(int file, const struct iovec *parts, int count, off_t start) {
    REAL(pwritev);
    char path[PATH_MAX];
    if (!find_open(file, path)) return real(file, parts, count, start);
    take_turn();
    ssize_t written = refused() ? -1 : real(file, parts, count, start);
    if (written > 0) note_range(file, start, written);
    end_turn();
    return written;
}

ssize_t pwritev64(int file, const struct iovec *parts, int count, off64_t start) {
    return pwritev(file, parts, count, start);
}

ssize_t sendfile(int to, int from, off_t *place, size_t count) {
    REAL(sendfile);
    char path[PATH_MAX];
    if (!find_open(to, path)) return real(to, from, place, count);
    take_turn();
    int64_t start = place_of(to);
    ssize_t written = refused() ? -1 : real(to, from, place, count);
    if (written > 0) note_range(to, start, written);
    end_turn();
    return written;
}

ssize_t sendfile64(int to, int from, off64_t *place, size_t count) { return sendfile(to, from, place, count); }

ssize_t copy_file_range(int from, off64_t *read_at, int to, off64_t *write_at, size_t count, unsigned flags) {
    REAL(copy_file_range);
    char path[PATH_MAX];
    if (!find_open(to, path)) return real(from, read_at, to, write_at, count, flags);
    take_turn();
    int64_t start = write_at ? *write_at : place_of(to);
    ssize_t written = refused() ? -1 : real(from, read_at, to, write_at, count, flags);
    if (written > 0) note_range(to, start, written);
    end_turn();
    return written;
}

ssize_t pwritev64v2(int file, const struct iovec *parts, int count, off64_t start, int flags) {
    REAL(pwritev64v2);
    char path[PATH_MAX];
    if (!find_open(file, path)) return real(file, parts, count, start, flags);
    if (!flags) return start < 0 ? writev(file, parts, count) : pwritev(file, parts, count, start);
    errno = EOPNOTSUPP;
    return -1;
}

/* A file system that shares blocks between files would copy without a write. */
int ioctl(int file, unsigned long request, ...) {
    REAL(ioctl);
    char path[PATH_MAX];
    va_list more;
    va_start(more, request);
    void *argument = va_arg(more, void *);
    va_end(more);
    if ((request == FICLONE || request == FICLONERANGE) && find_open(file, path)) {
        errno = EOPNOTSUPP;
        return -1;
    }
    return real(file, request, argument);
}

int ftruncate(int file, off_t size) {
    REAL(ftruncate);
    char path[PATH_MAX];
    if (!find_open(file, path)) return real(file, size);
    take_turn();
    int result = -1;
    if (size <= size_of(file) || !refused()) result = real(file, size);
    if (!result) note('t', inode(file), size, NULL, 0, NULL);
    end_turn();
    return result;
}

int ftruncate64(int file, off64_t size) { return ftruncate(file, size); }

int truncate(const char *name, off_t size) {
    int file = opened(AT_FDCWD, name, O_WRONLY, 0);
    if (file < 0) return -1;
    int result = ftruncate(file, size), error = errno;
    close_quietly(file);
    errno = error;
    return result;
}

int truncate64(const char *name, off64_t size) { return truncate(name, size); }

int fallocate(int file, int how, off_t start, off_t length) {
    REAL(fallocate);
    char path[PATH_MAX];
    if (!find_open(file, path)) return real(file, how, start, length);
    if (how & ~FALLOC_FL_KEEP_SIZE) { /* holes and the like: nobody here needs them */
        errno = EOPNOTSUPP;
        return -1;
    }
    take_turn();
    int result = refused() ? -1 : real(file, how, start, length);
    if (!result) note('t', inode(file), size_of(file), NULL, 0, NULL);
    end_turn();
    return result;
}

int fallocate64(int file, int how, off64_t start, off64_t length) { return fallocate(file, how, start, length); }

int posix_fallocate(int file, off_t start, off_t length) {
    REAL(posix_fallocate);
    char path[PATH_MAX];
    if (!find_open(file, path)) return real(file, start, length);
    return fallocate(file, 0, start, length) ? errno : 0;
}

int posix_fallocate64(int file, off64_t start, off64_t length) { return posix_fallocate(file, start, length); }

/* Names. */

int mkdirat(int folder, const char *name, mode_t mode) {
    REAL(mkdirat);
    char path[PATH_MAX];
    struct stat made;
    if (!find(folder, name, path)) return real(folder, name, mode);
    take_turn();
    int result = -1;
    if (inode_of(path) || !refused()) result = real(folder, name, mode);
    if (!result && !lstat(path, &made)) note_path('m', made.st_ino, made.st_mode & 07777, path, NULL);
    end_turn();
    return result;
}

int mkdir(const char *name, mode_t mode) { return mkdirat(AT_FDCWD, name, mode); }

int symlinkat(const char *target, int folder, const char *name) {
    REAL(symlinkat);
    char path[PATH_MAX];
    if (!find(folder, name, path)) return real(target, folder, name);
    take_turn();
    int result = -1;
    if (inode_of(path) || !refused()) result = real(target, folder, name);
    if (!result) note_path('l', inode_of(path), 0, path, target);
    end_turn();
    return result;
}

int symlink(const char *target, const char *name) { return symlinkat(target, AT_FDCWD, name); }

int linkat(int folder, const char *name, int other, const char *more, int flags) {
    REAL(linkat);
    char path[PATH_MAX];
    if (!find(other, more, path)) return real(folder, name, other, more, flags);
    take_turn();
    int result = -1;
    if (inode_of(path) || !refused()) result = real(folder, name, other, more, flags);
    if (!result) note_path('h', inode_of(path), 0, path, NULL);
    end_turn();
    return result;
}

int link(const char *name, const char *more) { return linkat(AT_FDCWD, name, AT_FDCWD, more, 0); }

int renameat2(int folder, const char *name, int other, const char *target, unsigned flags) {
    REAL(renameat2);
    char path[PATH_MAX], to[PATH_MAX];
    int from_here = find(folder, name, path), to_here = find(other, target, to);
    if (!from_here && !to_here) return real(folder, name, other, target, flags);
    if (!from_here || !to_here || flags & RENAME_EXCHANGE) { /* would have to be told in another way */
        errno = EXDEV;
        return -1;
    }
    take_turn();
    int result = -1;
    if (inode_of(to) || !refused()) result = real(folder, name, other, target, flags);
    if (!result) note_path('r', inode_of(to), 0, path, to);
    end_turn();
    return result;
}

int renameat(int folder, const char *name, int other, const char *target) {
    return renameat2(folder, name, other, target, 0);
}

int rename(const char *name, const char *target) { return renameat2(AT_FDCWD, name, AT_FDCWD, target, 0); }

int unlinkat(int folder, const char *name, int flags) {
    REAL(unlinkat);
    char path[PATH_MAX];
    if (!find(folder, name, path)) return real(folder, name, flags);
    take_turn();
    int result = real(folder, name, flags);
    if (!result) note_path('u', 0, 0, path, NULL);
    end_turn();
    return result;
}

int unlink(const char *name) { return unlinkat(AT_FDCWD, name, 0); }
int rmdir(const char *name) { return unlinkat(AT_FDCWD, name, AT_REMOVEDIR); }

int remove(const char *name) {
    struct stat found;
    return lstat(name, &found) ? -1 : unlinkat(AT_FDCWD, name, S_ISDIR(found.st_mode) ? AT_REMOVEDIR : 0);
}

int fchmod(int file, mode_t mode) {
    REAL(fchmod);
    char path[PATH_MAX];
    if (!find_open(file, path)) return real(file, mode);
    take_turn();
    int result = real(file, mode);
    if (!result) note('p', inode(file), mode & 07777, NULL, 0, NULL);
    end_turn();
    return result;
}

int fchmodat(int folder, const char *name, mode_t mode, int flags) {
    REAL(fchmodat);
    char path[PATH_MAX];
    struct stat found;
    if (!find(folder, name, path)) return real(folder, name, mode, flags);
    take_turn();
    int result = real(folder, name, mode, flags);
    if (!result && !stat(path, &found)) note('p', found.st_ino, mode & 07777, NULL, 0, NULL);
    end_turn();
    return result;
}

int chmod(const char *name, mode_t mode) { return fchmodat(AT_FDCWD, name, mode, 0); }

/* Bringing it to the disk. What is there then is what the test shall know, so nothing else may happen meanwhile. */

static void note_synced(int file) {
    struct stat found;
    uint32_t sum = ~0u;
    fstat(file, &found);
    if (S_ISREG(found.st_mode)) {
        static unsigned char content[1 << 16]; /* guarded by the turn */
        char link[40];
        ssize_t length;
        snprintf(link, sizeof link, "/proc/self/fd/%d", file);
        int again = open_quietly(link, O_RDONLY);
        if (again < 0) broken("reading what was synced");
        while ((length = syscall(SYS_read, again, content, sizeof content)) > 0)
            for (ssize_t at = 0; at < length; at++) sum = sum >> 8 ^ table[(sum ^ content[at]) & 255];
        close_quietly(again);
    }
    note('f', found.st_ino, ~sum, NULL, 0, NULL);
}

#define SYNC(name) \
    int name(int file) { \
        REAL(name); \
        char path[PATH_MAX]; \
        if (!find_open(file, path) && !(control && !strcmp(path, root))) return real(file); \
        take_turn(); \
        int result = real(file); \
        if (!result && log_file >= 0) note_synced(file); \
        end_turn(); \
        return result; \
    }
SYNC(fsync) SYNC(fdatasync)
