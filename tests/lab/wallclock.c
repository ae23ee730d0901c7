/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Preloaded into the daemons of one lab node: their wall clock is off by as many seconds as the file $LAB_WALLCLOCK says, at any time, and
 * every other clock is what it is. (libfaketime shifts absolute timerfd timers of every clock, which a step of the wall clock does not.)
 * A deadline that a program has made from this clock ends when that clock says so, as with one that really was stepped. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SIZE 16 /* of the file: a number, and blanks up to here */

/* The file is mapped, not kept open: daemons close what they do not know. */
static const char none[SIZE], *volatile mapped;

static long offset(void)
{
	if (!mapped) {
		const char *path = getenv("LAB_WALLCLOCK");
		int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
		void *p = fd < 0 ? MAP_FAILED : mmap(NULL, SIZE, PROT_READ, MAP_SHARED, fd, 0);

		if (fd >= 0)
			close(fd);
		mapped = p == MAP_FAILED ? none : p;
	}
	return strtol(mapped, NULL, 10);
}

int clock_gettime(clockid_t id, struct timespec *ts)
{
	static int (*volatile real)(clockid_t, struct timespec *);
	int r;

	if (!real)
		real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
	r = real(id, ts);
	if (r == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
		ts->tv_sec += offset();
	return r;
}

int gettimeofday(struct timeval *restrict tv, void *restrict tz)
{
	struct timespec ts;

	(void)tz;
	clock_gettime(CLOCK_REALTIME, &ts);
	tv->tv_sec = ts.tv_sec;
	tv->tv_usec = ts.tv_nsec / 1000;
	return 0;
}

time_t time(time_t *ret)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	if (ret)
		*ret = ts.tv_sec;
	return ts.tv_sec;
}

/* The kernel's wall clock at the time that this one calls `t`. Clocks that count from a boot have not come to 2001. */
static struct timespec until(const struct timespec *t)
{
	struct timespec r = *t;

	if (r.tv_sec > 1000000000)
		r.tv_sec -= offset();
	return r;
}

int pthread_cond_timedwait(pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex, const struct timespec *restrict abstime)
{
	static int (*volatile real)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
	struct timespec t = until(abstime);

	if (!real) { /* where there are two of that name, dlsym may find the first */
		void *f = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");

		real = (int (*)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *))(
			f ? f : dlsym(RTLD_NEXT, "pthread_cond_timedwait"));
	}
	return real(cond, mutex, &t);
}

int sem_timedwait(sem_t *restrict sem, const struct timespec *restrict abstime)
{
	static int (*volatile real)(sem_t *, const struct timespec *);
	struct timespec t = until(abstime);

	if (!real)
		real = (int (*)(sem_t *, const struct timespec *))dlsym(RTLD_NEXT, "sem_timedwait");
	return real(sem, &t);
}
