/* A wall clock that is wrong by as many seconds as the first line of the file CLOCK_OFFSET says; loaded by LD_PRELOAD.

   What is monotonic, and what sleeps, stays the kernel's. The file is one of 8 bytes, mapped, so that it may change. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static int64_t offset(void) {
    static const int64_t none;
    static const int64_t *shared;
    if (!shared) {
        const char *path = getenv("CLOCK_OFFSET");
        int handle = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
        void *mapped = handle < 0 ? MAP_FAILED : mmap(NULL, sizeof *shared, PROT_READ, MAP_SHARED, handle, 0);
        if (handle >= 0) close(handle);
        shared = mapped == MAP_FAILED ? &none : mapped;
    }
    return *(volatile const int64_t *)shared;
}

int clock_gettime(clockid_t which, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int done = real(which, now);
    if (!done && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE)) now->tv_sec += offset();
    return done;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    (void)zone;
    struct timespec found;
    int done = clock_gettime(CLOCK_REALTIME, &found);
    if (!done && now) *now = (struct timeval){found.tv_sec, found.tv_nsec / 1000};
    return done;
}

time_t time(time_t *now) {
    struct timespec found;
    clock_gettime(CLOCK_REALTIME, &found);
    if (now) *now = found.tv_sec;
    return found.tv_sec;
}
