/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/hostwatch.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "internal/cleanup.h"

struct link {
	char name[IFNAMSIZ];
	int state;
};

struct vmp_hostwatch {
	char *net, *proc;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	/* under the lock */
	bool quit;
	uint64_t serial;
	unsigned n_links;
	struct link link[VMP_HOSTWATCH_LINKS];
	int load[VMP_LOAD_COUNT];
};

static int read_text(const char *dir, const char *name, char *buf, size_t size)
{
	CLEANUP_CLOSE int fd = -1;
	char path[300];
	ssize_t n;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = read(fd, buf, size - 1);
	if (n < 0)
		return -errno;
	buf[n] = '\0';
	return 0;
}

static int read_carrier(const struct vmp_hostwatch *w, const char *name)
{
	char path[IFNAMSIZ + 16], buf[16];
	int r;

	snprintf(path, sizeof(path), "%.15s/carrier", name);
	r = read_text(w->net, path, buf, sizeof(buf));
	if (r == -EINVAL) /* what the kernel says of one that is not up */
		return -ENETDOWN;
	return r < 0 ? r : buf[0] == '1';
}

/* "some avg10=12.34 ..." */
static int read_pressure(const struct vmp_hostwatch *w, const char *name)
{
	char buf[256];
	unsigned percent;
	int r = read_text(w->proc, name, buf, sizeof(buf));

	if (r < 0)
		return r;
	return sscanf(buf, "some avg10=%u", &percent) == 1 && percent <= 100 ? (int)percent : -EBADMSG;
}

static int read_average(const struct vmp_hostwatch *w)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned whole, part;
	char buf[128];
	int r = read_text(w->proc, "loadavg", buf, sizeof(buf));

	if (r < 0)
		return r;
	if (sscanf(buf, "%u.%2u", &whole, &part) != 2 || whole > 1000000)
		return -EBADMSG;
	return (int)((whole * 100 + part) / (unsigned)(cpus > 0 ? cpus : 1));
}

static void done(struct vmp_hostwatch *w)
{
	pthread_cond_destroy(&w->cond);
	pthread_mutex_destroy(&w->lock);
	free(w->net);
	free(w->proc);
	free(w);
}

static void *run(void *arg)
{
	struct vmp_hostwatch *w = arg;
	struct link link[VMP_HOSTWATCH_LINKS];
	int load[VMP_LOAD_COUNT];

	pthread_mutex_lock(&w->lock);
	while (!w->quit) {
		unsigned n = w->n_links;
		struct timespec ts;

		memcpy(link, w->link, sizeof(link));
		pthread_mutex_unlock(&w->lock);
		for (unsigned i = 0; i < n; i++)
			link[i].state = read_carrier(w, link[i].name);
		load[VMP_LOAD_CPU] = read_pressure(w, "pressure/cpu");
		load[VMP_LOAD_MEMORY] = read_pressure(w, "pressure/memory");
		load[VMP_LOAD_IO] = read_pressure(w, "pressure/io");
		load[VMP_LOAD_AVERAGE] = read_average(w);
		pthread_mutex_lock(&w->lock);
		for (unsigned i = 0; i < n; i++) /* names are only added */
			w->link[i].state = link[i].state;
		memcpy(w->load, load, sizeof(load));
		w->serial++;
		clock_gettime(CLOCK_MONOTONIC, &ts);
		ts.tv_nsec += VMP_HOSTWATCH_MS * 1000000;
		ts.tv_sec += ts.tv_nsec / 1000000000;
		ts.tv_nsec %= 1000000000;
		while (!w->quit && pthread_cond_timedwait(&w->cond, &w->lock, &ts) == 0)
			;
	}
	pthread_mutex_unlock(&w->lock);
	done(w);
	return NULL;
}

int vmp_hostwatch_new(struct vmp_hostwatch **ret, const struct vmp_hostwatch_paths *paths)
{
	struct vmp_hostwatch *w = calloc(1, sizeof(*w));
	pthread_condattr_t ca;
	pthread_attr_t attr;
	sigset_t all, old;
	pthread_t t;
	int r;

	if (!w)
		return -ENOMEM;
	w->net = strdup(paths && paths->net ? paths->net : "/sys/class/net");
	w->proc = strdup(paths && paths->proc ? paths->proc : "/proc");
	pthread_mutex_init(&w->lock, NULL);
	pthread_condattr_init(&ca);
	pthread_condattr_setclock(&ca, CLOCK_MONOTONIC);
	pthread_cond_init(&w->cond, &ca);
	pthread_condattr_destroy(&ca);
	if (!w->net || !w->proc) {
		done(w);
		return -ENOMEM;
	}
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, 256u << 10);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = -pthread_create(&t, &attr, run, w);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	if (r < 0) {
		done(w);
		return r;
	}
	*ret = w;
	return 0;
}

struct vmp_hostwatch *vmp_hostwatch_free(struct vmp_hostwatch *w)
{
	if (!w)
		return NULL;
	pthread_mutex_lock(&w->lock);
	w->quit = true;
	pthread_cond_signal(&w->cond);
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

uint64_t vmp_hostwatch_serial(struct vmp_hostwatch *w)
{
	uint64_t serial;

	pthread_mutex_lock(&w->lock);
	serial = w->serial;
	pthread_mutex_unlock(&w->lock);
	return serial;
}

int vmp_hostwatch_carrier(struct vmp_hostwatch *w, const char *name)
{
	int r = -ENODATA;
	unsigned i = 0;

	pthread_mutex_lock(&w->lock);
	while (i < w->n_links && strcmp(w->link[i].name, name))
		i++;
	if (i < w->n_links) {
		r = w->link[i].state;
	} else if (i == VMP_HOSTWATCH_LINKS || strlen(name) >= IFNAMSIZ) {
		r = -ENOSPC;
	} else {
		strcpy(w->link[i].name, name);
		w->link[i].state = -ENODATA;
		w->n_links++;
	}
	pthread_mutex_unlock(&w->lock);
	return r;
}

int vmp_hostwatch_load(struct vmp_hostwatch *w, enum vmp_hostwatch_load what)
{
	int r;

	pthread_mutex_lock(&w->lock);
	r = w->serial ? w->load[what] : -ENODATA;
	pthread_mutex_unlock(&w->lock);
	return r;
}
