/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/loop.h"

#include <errno.h>
#include <poll.h>
#include <qb/qbloop.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "internal/cleanup.h"

struct watch {
	struct watch *next;
	vmp_watch_fn fn;
	struct vmp_loop *loop;
	void *data;
	int fd;
	enum qb_loop_priority prio;
	bool dead;
};

struct vmp_loop {
	qb_loop_t *qb;
	int timer_fd, signal_fd;
	uint64_t programmed_ns; /* what timer_fd is set to, 0 = not */
	bool busy; /* in a callback; timer_fd is set once, after it */
	struct vmp_timer *timers; /* sorted */
	struct watch *watches, *graveyard;
	vmp_timer_fn before_fn, after_fn;
	void *before_data, *after_data;
	vmp_slow_fn slow_fn;
	void *slow_data;
	uint64_t slow_ns;
	vmp_signal_fn signal_fn;
	void *signal_data;
};

uint64_t vmp_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static const enum qb_loop_priority prios[] = { QB_LOOP_LOW, QB_LOOP_MED, QB_LOOP_HIGH };

static void bury(struct vmp_loop *l)
{
	while (l->graveyard) {
		struct watch *w = l->graveyard;

		l->graveyard = w->next;
		free(w);
	}
}

static void check_slow(struct vmp_loop *l, const char *what, int fd, uint64_t begun_ns)
{
	uint64_t took = vmp_now_ns() - begun_ns;

	if (l->slow_fn && took >= l->slow_ns)
		l->slow_fn(what, fd, took, l->slow_data);
}

static void program(struct vmp_loop *l)
{
	uint64_t at = l->timers ? l->timers->at_ns : 0;
	struct itimerspec its = { 0 };

	if (l->busy || at == l->programmed_ns)
		return;
	its.it_value.tv_sec = (time_t)(at / 1000000000u);
	its.it_value.tv_nsec = (long)(at % 1000000000u);
	timerfd_settime(l->timer_fd, TFD_TIMER_ABSTIME, &its, NULL);
	l->programmed_ns = at;
}

static int32_t on_fd(int32_t fd, int32_t revents, void *data)
{
	struct watch *w = data;

	/* A watch removed in this round may still be on libqb's list of ready ones. */
	if (!w->dead) {
		struct vmp_loop *l = w->loop;
		uint64_t begun = vmp_now_ns();

		l->busy = true;
		w->fn(fd, (short)revents, w->data);
		if (fd != l->timer_fd)
			check_slow(l, "descriptor", fd, begun);
		if (l->after_fn)
			l->after_fn(l->after_data);
		l->busy = false;
		program(l);
	}
	return 0;
}

static struct watch *find(const struct vmp_loop *l, int fd)
{
	for (struct watch *w = l->watches; w; w = w->next)
		if (w->fd == fd)
			return w;
	return NULL;
}

int vmp_loop_add_fd(struct vmp_loop *l, enum vmp_loop_prio prio, int fd, short events, vmp_watch_fn fn, void *data)
{
	struct watch *w;
	int r;

	if (find(l, fd))
		return -EEXIST;
	w = calloc(1, sizeof(*w));
	if (!w)
		return -ENOMEM;
	w->fn = fn;
	w->loop = l;
	w->data = data;
	w->fd = fd;
	w->prio = prios[prio];
	r = qb_loop_poll_add(l->qb, w->prio, fd, events, w, on_fd);
	if (r < 0) {
		free(w);
		return r;
	}
	w->next = l->watches;
	l->watches = w;
	return 0;
}

int vmp_loop_mod_fd(struct vmp_loop *l, int fd, short events)
{
	struct watch *w = find(l, fd);

	return w ? qb_loop_poll_mod(l->qb, w->prio, fd, events, w, on_fd) : -ENOENT;
}

void vmp_loop_del_fd(struct vmp_loop *l, int fd)
{
	for (struct watch **pp = &l->watches; *pp; pp = &(*pp)->next) {
		struct watch *w = *pp;

		if (w->fd != fd)
			continue;
		*pp = w->next;
		qb_loop_poll_del(l->qb, fd);
		w->dead = true;
		w->next = l->graveyard;
		l->graveyard = w;
		return;
	}
}

static void unlink_timer(struct vmp_loop *l, struct vmp_timer *t)
{
	if (!t->linked)
		return;
	for (struct vmp_timer **pp = &l->timers; *pp; pp = &(*pp)->next)
		if (*pp == t) {
			*pp = t->next;
			break;
		}
	t->linked = false;
	t->at_ns = 0;
}

void vmp_loop_timer(struct vmp_loop *l, struct vmp_timer *t, uint64_t at_ns, vmp_timer_fn fn, void *data)
{
	struct vmp_timer **pp = &l->timers;

	unlink_timer(l, t);
	t->at_ns = at_ns ? at_ns : 1;
	t->fn = fn;
	t->data = data;
	while (*pp && (*pp)->at_ns <= t->at_ns)
		pp = &(*pp)->next;
	t->next = *pp;
	*pp = t;
	t->linked = true;
	program(l);
}

void vmp_loop_timer_del(struct vmp_loop *l, struct vmp_timer *t)
{
	unlink_timer(l, t);
	program(l);
}

static void on_timer_fd(int fd, short revents, void *data)
{
	struct vmp_loop *l = data;
	uint64_t ticks, now;

	(void)revents;
	if (read(fd, &ticks, sizeof(ticks)) < 0 && errno != EAGAIN)
		return;
	l->programmed_ns = 0;
	if (l->before_fn)
		l->before_fn(l->before_data);
	now = vmp_now_ns();
	while (l->timers && l->timers->at_ns <= now) {
		struct vmp_timer *t = l->timers;

		uint64_t begun = vmp_now_ns();

		unlink_timer(l, t);
		t->fn(t->data);
		check_slow(l, "timer", -1, begun);
	}
	bury(l);
}

void vmp_loop_set_slow(struct vmp_loop *l, uint64_t limit_ns, vmp_slow_fn fn, void *data)
{
	l->slow_ns = limit_ns;
	l->slow_fn = fn;
	l->slow_data = data;
}

void vmp_loop_set_after(struct vmp_loop *l, vmp_timer_fn fn, void *data)
{
	l->after_fn = fn;
	l->after_data = data;
}

static int ops_add_fd(void *loop, int fd, short events, vmp_watch_fn fn, void *data)
{
	return vmp_loop_add_fd(loop, VMP_PRIO_MED, fd, events, fn, data);
}

static int ops_mod_fd(void *loop, int fd, short events)
{
	return vmp_loop_mod_fd(loop, fd, events);
}

static void ops_del_fd(void *loop, int fd)
{
	vmp_loop_del_fd(loop, fd);
}

static uint64_t ops_now_ns(void *loop)
{
	(void)loop;
	return vmp_now_ns();
}

struct vmp_loop_ops vmp_loop_ops(struct vmp_loop *l)
{
	return (struct vmp_loop_ops){ l, ops_add_fd, ops_mod_fd, ops_del_fd, ops_now_ns };
}

void vmp_loop_set_before_timers(struct vmp_loop *l, vmp_timer_fn fn, void *data)
{
	l->before_fn = fn;
	l->before_data = data;
}

static void signal_set(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGHUP);
	sigaddset(set, SIGUSR1);
}

void vmp_loop_block_signals(void)
{
	sigset_t set;

	signal_set(&set);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
}

static void on_signal_fd(int fd, short revents, void *data)
{
	struct vmp_loop *l = data;
	struct signalfd_siginfo si;

	(void)revents;
	if (read(fd, &si, sizeof(si)) == sizeof(si))
		l->signal_fn((int)si.ssi_signo, l->signal_data);
}

int vmp_loop_set_signals(struct vmp_loop *l, vmp_signal_fn fn, void *data)
{
	sigset_t set;

	signal_set(&set);
	l->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (l->signal_fd < 0)
		return -errno;
	l->signal_fn = fn;
	l->signal_data = data;
	return vmp_loop_add_fd(l, VMP_PRIO_MED, l->signal_fd, POLLIN, on_signal_fd, l);
}

int vmp_loop_new(struct vmp_loop **ret)
{
	struct vmp_loop *l = calloc(1, sizeof(*l));
	int r;

	if (!l)
		return -ENOMEM;
	l->timer_fd = l->signal_fd = -1;
	l->qb = qb_loop_create();
	if (!l->qb) {
		free(l);
		return -ENOMEM;
	}
	l->timer_fd = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
	r = l->timer_fd < 0 ? -errno : vmp_loop_add_fd(l, VMP_PRIO_HIGH, l->timer_fd, POLLIN, on_timer_fd, l);
	if (r < 0) {
		vmp_loop_free(l);
		return r;
	}
	*ret = l;
	return 0;
}

void vmp_loop_free(struct vmp_loop *l)
{
	if (!l)
		return;
	while (l->watches)
		vmp_loop_del_fd(l, l->watches->fd);
	bury(l);
	if (l->timer_fd >= 0)
		close(l->timer_fd);
	if (l->signal_fd >= 0)
		close(l->signal_fd);
	qb_loop_destroy(l->qb);
	free(l);
}

void vmp_loop_run(struct vmp_loop *l)
{
	qb_loop_run(l->qb);
}

void vmp_loop_stop(struct vmp_loop *l)
{
	qb_loop_stop(l->qb);
}
