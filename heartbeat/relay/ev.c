/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "heartbeat/relay/ev.h"

#include <errno.h>
#include <time.h>
#include <unistd.h>

enum { ROUND_EVENTS = 256 };

uint64_t vmpr_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

int vmpr_ev_init(struct vmpr_ev *ev)
{
	*ev = (struct vmpr_ev){ .epfd = epoll_create1(EPOLL_CLOEXEC), .now_ns = vmpr_now_ns() };
	return ev->epfd < 0 ? -errno : 0;
}

void vmpr_ev_done(struct vmpr_ev *ev)
{
	vmpr_ev_reap(ev);
	if (ev->epfd >= 0)
		close(ev->epfd);
	ev->epfd = -1;
}

int vmpr_src_add(struct vmpr_ev *ev, struct vmpr_src *s, int fd, uint32_t events, vmpr_src_fn fn)
{
	struct epoll_event e = { .events = events, .data.ptr = s };

	if (epoll_ctl(ev->epfd, EPOLL_CTL_ADD, fd, &e) < 0)
		return -errno;
	s->fd = fd;
	s->fn = fn;
	return 0;
}

int vmpr_src_mod(struct vmpr_ev *ev, struct vmpr_src *s, uint32_t events)
{
	struct epoll_event e = { .events = events, .data.ptr = s };

	return epoll_ctl(ev->epfd, EPOLL_CTL_MOD, s->fd, &e) < 0 ? -errno : 0;
}

int vmpr_src_release(struct vmpr_ev *ev, struct vmpr_src *s)
{
	int fd = s->fd;

	if (fd >= 0)
		epoll_ctl(ev->epfd, EPOLL_CTL_DEL, fd, NULL);
	s->fd = -1;
	return fd;
}

void vmpr_src_close(struct vmpr_ev *ev, struct vmpr_src *s)
{
	/* A child process may hold a copy for a moment, so closing alone would not end the watch. */
	int fd = vmpr_src_release(ev, s);

	if (fd >= 0)
		close(fd);
}

void vmpr_ev_defer(struct vmpr_ev *ev, struct vmpr_dead *d, void (*fn)(struct vmpr_dead *d))
{
	d->free = fn;
	d->next = ev->dead;
	ev->dead = d;
}

void vmpr_ev_reap(struct vmpr_ev *ev)
{
	while (ev->dead) {
		struct vmpr_dead *d = ev->dead;

		ev->dead = d->next;
		d->free(d);
	}
}

void vmpr_tmo_list_add(struct vmpr_ev *ev, struct vmpr_tmo_list *l, uint64_t delay_ns, void (*fn)(struct vmpr_tmo *t))
{
	l->head.prev = l->head.next = &l->head;
	l->delay_ns = delay_ns;
	l->fn = fn;
	l->next = ev->lists;
	ev->lists = l;
}

void vmpr_tmo_stop(struct vmpr_tmo *t)
{
	if (!t->next)
		return;
	t->prev->next = t->next;
	t->next->prev = t->prev;
	t->prev = t->next = NULL;
}

void vmpr_tmo_arm(struct vmpr_ev *ev, struct vmpr_tmo_list *l, struct vmpr_tmo *t)
{
	vmpr_tmo_stop(t);
	t->at_ns = ev->now_ns + l->delay_ns;
	t->prev = l->head.prev;
	t->next = &l->head;
	t->prev->next = t;
	l->head.prev = t;
}

static uint64_t earliest(const struct vmpr_ev *ev, uint64_t deadline_ns)
{
	for (const struct vmpr_tmo_list *l = ev->lists; l; l = l->next)
		if (l->head.next != &l->head && l->head.next->at_ns < deadline_ns)
			deadline_ns = l->head.next->at_ns;
	return deadline_ns;
}

int vmpr_ev_round(struct vmpr_ev *ev, uint64_t deadline_ns)
{
	struct epoll_event e[ROUND_EVENTS];
	int n, timeout_ms = -1;

	deadline_ns = earliest(ev, deadline_ns);
	if (deadline_ns != VMPR_NEVER) {
		uint64_t now = vmpr_now_ns();
		uint64_t ms = deadline_ns > now ? (deadline_ns - now + 999999) / 1000000 : 0;

		timeout_ms = ms > 60000 ? 60000 : (int)ms;
	}
	n = epoll_wait(ev->epfd, e, ROUND_EVENTS, timeout_ms);
	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	ev->now_ns = vmpr_now_ns();
	for (int i = 0; i < n; i++) {
		struct vmpr_src *s = e[i].data.ptr;

		if (s->fd >= 0)
			s->fn(s, e[i].events);
	}
	for (struct vmpr_tmo_list *l = ev->lists; l; l = l->next)
		while (l->head.next != &l->head && l->head.next->at_ns <= ev->now_ns) {
			struct vmpr_tmo *t = l->head.next;

			vmpr_tmo_stop(t);
			l->fn(t);
		}
	return 0;
}
