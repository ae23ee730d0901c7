/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "pollloop.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <time.h>

#define MAX_FDS 256

struct pollloop {
	struct vmp_loop_ops ops;
	uint64_t offset_ns;
	struct { int fd; short events; vmp_watch_fn fn; void *data; } w[MAX_FDS];
};

static int find(struct pollloop *l, int fd)
{
	for (int i = 0; i < MAX_FDS; i++)
		if (l->w[i].fd == fd)
			return i;
	return -1;
}

static int add_fd(void *loop, int fd, short events, vmp_watch_fn fn, void *data)
{
	struct pollloop *l = loop;
	assert(fd >= 0);
	if (find(l, fd) >= 0)
		return -EEXIST;
	int i = find(l, -1);
	if (i < 0)
		return -ENOSPC;
	l->w[i].fd = fd;
	l->w[i].events = events;
	l->w[i].fn = fn;
	l->w[i].data = data;
	return 0;
}

static int mod_fd(void *loop, int fd, short events)
{
	struct pollloop *l = loop;
	int i = find(l, fd);
	if (i < 0)
		return -ENOENT;
	l->w[i].events = events;
	return 0;
}

static void del_fd(void *loop, int fd)
{
	struct pollloop *l = loop;
	int i = find(l, fd);
	assert(i >= 0);
	l->w[i].fd = -1;
}

static uint64_t now_ns(void *loop)
{
	struct pollloop *l = loop;
	struct timespec ts;
	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec + l->offset_ns;
}

struct pollloop *pollloop_new(void)
{
	struct pollloop *l = calloc(1, sizeof(*l));
	assert(l);
	for (int i = 0; i < MAX_FDS; i++)
		l->w[i].fd = -1;
	l->ops = (struct vmp_loop_ops){.loop = l, .add_fd = add_fd, .mod_fd = mod_fd, .del_fd = del_fd, .now_ns = now_ns};
	return l;
}

void pollloop_free(struct pollloop *l)
{
	for (int i = 0; i < MAX_FDS; i++)
		assert(l->w[i].fd < 0);
	free(l);
}

const struct vmp_loop_ops *pollloop_ops(struct pollloop *l)
{
	return &l->ops;
}

int pollloop_round(struct pollloop *l, int ms)
{
	struct pollfd p[MAX_FDS];
	int served = 0, n = 0;
	for (int i = 0; i < MAX_FDS; i++)
		if (l->w[i].fd >= 0)
			p[n++] = (struct pollfd){.fd = l->w[i].fd, .events = l->w[i].events};
	if (poll(p, (nfds_t)n, ms) <= 0)
		return 0;
	for (int k = 0; k < n; k++) {
		int i = find(l, p[k].fd);
		if (!p[k].revents || i < 0)
			continue;
		l->w[i].fn(p[k].fd, p[k].revents, l->w[i].data);
		served++;
	}
	return served;
}

void pollloop_advance(struct pollloop *l, uint64_t ns)
{
	l->offset_ns += ns;
}
