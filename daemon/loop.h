/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The daemon's event loop: libqb's qb_loop for descriptors, one CLOCK_BOOTTIME timerfd for all timers. libqb's own jobs
 * and timers are not used: a job costs up to 50 ms and delays timers, a timer spins for its last millisecond.
 * One thread; callbacks may add and remove descriptors and timers, their own included.
 */
#ifndef VMP_LOOP_H
#define VMP_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "internal/loopops.h"

struct vmp_loop;

enum vmp_loop_prio { VMP_PRIO_LOW, VMP_PRIO_MED, VMP_PRIO_HIGH };

typedef void (*vmp_timer_fn)(void *data);
typedef void (*vmp_signal_fn)(int signo, void *data);

/* A timer is embedded in its owner; zeroed = unarmed. */
struct vmp_timer {
	uint64_t at_ns; /* CLOCK_BOOTTIME; 0 = unarmed */
	vmp_timer_fn fn;
	void *data;
	struct vmp_timer *next;
	bool linked;
};

int vmp_loop_new(struct vmp_loop **ret);
void vmp_loop_free(struct vmp_loop *l);
/* 0 or -errno (-EEXIST: the descriptor is already there). */
int vmp_loop_add_fd(struct vmp_loop *l, enum vmp_loop_prio prio, int fd, short events, vmp_watch_fn fn, void *data);
int vmp_loop_mod_fd(struct vmp_loop *l, int fd, short events);
/* Must come before the descriptor is closed. */
void vmp_loop_del_fd(struct vmp_loop *l, int fd);
/* Arm (or move) a timer; fires once, never early. at_ns in the past fires in the next round. */
void vmp_loop_timer(struct vmp_loop *l, struct vmp_timer *t, uint64_t at_ns, vmp_timer_fn fn, void *data);
void vmp_loop_timer_del(struct vmp_loop *l, struct vmp_timer *t);
/* The loop as adapters see it (descriptors at medium priority). */
struct vmp_loop_ops vmp_loop_ops(struct vmp_loop *l);
/* `after` runs after each descriptor's callback and each batch of timers. */
void vmp_loop_set_after(struct vmp_loop *l, vmp_timer_fn fn, void *data);
/* `slow` is told when one callback held the loop for at least limit_ns; `what` says which (fd or timer). */
typedef void (*vmp_slow_fn)(const char *what, int fd, uint64_t took_ns, void *data);
void vmp_loop_set_slow(struct vmp_loop *l, uint64_t limit_ns, vmp_slow_fn fn, void *data);
/* `before_timers` runs each time before due timers do: it drains the heartbeat socket (protocol rule V1). */
void vmp_loop_set_before_timers(struct vmp_loop *l, vmp_timer_fn fn, void *data);
/* Signals are taken through a signalfd; block them (vmp_loop_block_signals) before any thread starts. */
void vmp_loop_block_signals(void);
int vmp_loop_set_signals(struct vmp_loop *l, vmp_signal_fn fn, void *data);
void vmp_loop_run(struct vmp_loop *l);
void vmp_loop_stop(struct vmp_loop *l);

/* CLOCK_BOOTTIME now, ns. */
uint64_t vmp_now_ns(void);

#endif
