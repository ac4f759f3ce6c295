/* Preloaded, it makes each fsync and fdatasync take BENCH_FSYNC_US microseconds longer. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>

static struct timespec longer;
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);

__attribute__((constructor)) static void prepare(void)
{
    const char *given = getenv("BENCH_FSYNC_US");
    long us = given ? atol(given) : 0;

    longer.tv_sec = us / 1000000;
    longer.tv_nsec = us % 1000000 * 1000;
    real_fsync = (int (*)(int)) dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = (int (*)(int)) dlsym(RTLD_NEXT, "fdatasync");
}

static void linger(void)
{
    struct timespec left = longer;

    while (nanosleep(&left, &left) && errno == EINTR) {
    }
}

int fsync(int fd)
{
    linger();
    return real_fsync(fd);
}

int fdatasync(int fd)
{
    linger();
    return real_fdatasync(fd);
}
