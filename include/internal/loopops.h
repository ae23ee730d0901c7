/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What an adapter needs of an event loop, so that it can be tested on a few lines of poll() and run on libqb.
 *
 * Events are poll(2) bits (POLLIN, POLLOUT; POLLHUP and POLLERR come unasked). Watching is level-triggered; one descriptor
 * is watched at most once. The callback may call del_fd for any descriptor, its own included, and del_fd always comes before
 * close(). Timers are pulled: an adapter has X_deadline_ns() (UINT64_MAX = none) and X_tick(now_ns); the owner calls tick when
 * the deadline is reached and asks for the deadline again after every call into the adapter. Times are CLOCK_BOOTTIME, ns.
 * All of it belongs to one thread.
 */
#ifndef VMP_INTERNAL_LOOPOPS_H
#define VMP_INTERNAL_LOOPOPS_H

#include <stdint.h>

#define VMP_NO_DEADLINE UINT64_MAX

typedef void (*vmp_watch_fn)(int fd, short revents, void *data);

struct vmp_loop_ops {
	void *loop;
	int (*add_fd)(void *loop, int fd, short events, vmp_watch_fn fn, void *data);	/* 0 or -errno */
	int (*mod_fd)(void *loop, int fd, short events);					/* 0 or -errno */
	void (*del_fd)(void *loop, int fd);
	uint64_t (*now_ns)(void *loop);
};

#endif
