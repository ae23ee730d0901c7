/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The relay's event loop: edge-triggered epoll, so that a connection costs one epoll_ctl in its life, and lists of time
 * limits that all have the same length, so that arming one again is a few pointers. (libqb's loop polls level-triggered
 * through two more layers and gives no list; the relay's data path cannot afford that.)
 *
 * A source is embedded in its owner. Its function runs with the epoll events; it may close any source, its own included:
 * vmpr_src_close() keeps the memory valid until the end of the round, owners free theirs by vmpr_ev_defer().
 * Times are CLOCK_BOOTTIME ns. One thread.
 */
#ifndef VMPR_EV_H
#define VMPR_EV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>

#define VMPR_NEVER UINT64_MAX

struct vmpr_src;
typedef void (*vmpr_src_fn)(struct vmpr_src *s, uint32_t events);

struct vmpr_src {
	int fd; /* -1: closed */
	vmpr_src_fn fn;
};

struct vmpr_tmo {
	struct vmpr_tmo *prev, *next; /* NULL: not armed */
	uint64_t at_ns;
};

struct vmpr_tmo_list {
	struct vmpr_tmo head;
	uint64_t delay_ns;
	void (*fn)(struct vmpr_tmo *t);
	struct vmpr_tmo_list *next;
};

struct vmpr_dead {
	struct vmpr_dead *next;
	void (*free)(struct vmpr_dead *d);
};

struct vmpr_ev {
	int epfd;
	uint64_t now_ns; /* read once a round */
	struct vmpr_tmo_list *lists;
	struct vmpr_dead *dead;
};

#define vmpr_container(ptr, type, member) ((type *)((char *)(ptr) - offsetof(type, member)))

int vmpr_ev_init(struct vmpr_ev *ev);
void vmpr_ev_done(struct vmpr_ev *ev);
uint64_t vmpr_now_ns(void);

/* Takes fd; events without EPOLLET are level-triggered. 0 or -errno (then fd is still the caller's). */
int vmpr_src_add(struct vmpr_ev *ev, struct vmpr_src *s, int fd, uint32_t events, vmpr_src_fn fn);
int vmpr_src_mod(struct vmpr_ev *ev, struct vmpr_src *s, uint32_t events);
void vmpr_src_close(struct vmpr_ev *ev, struct vmpr_src *s);
/* Stop watching; the descriptor is the caller's again. */
int vmpr_src_release(struct vmpr_ev *ev, struct vmpr_src *s);
/* d->free(d) at the end of this round. */
void vmpr_ev_defer(struct vmpr_ev *ev, struct vmpr_dead *d, void (*fn)(struct vmpr_dead *d));
void vmpr_ev_reap(struct vmpr_ev *ev);

/* Wait until `deadline_ns` at most or the earliest time limit, then run sources and what ran out of time. 0 or -errno. */
int vmpr_ev_round(struct vmpr_ev *ev, uint64_t deadline_ns);

void vmpr_tmo_list_add(struct vmpr_ev *ev, struct vmpr_tmo_list *l, uint64_t delay_ns, void (*fn)(struct vmpr_tmo *t));
void vmpr_tmo_arm(struct vmpr_ev *ev, struct vmpr_tmo_list *l, struct vmpr_tmo *t);
void vmpr_tmo_stop(struct vmpr_tmo *t);

#endif
