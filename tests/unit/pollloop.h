/* SPDX-License-Identifier: GPL-2.0-or-later */
/* struct vmp_loop_ops on poll(), with a clock that a test can set forward: time limits are tested without waiting. */
#ifndef VMP_TEST_POLLLOOP_H
#define VMP_TEST_POLLLOOP_H

#include "internal/loopops.h"

struct pollloop;

struct pollloop *pollloop_new(void);
void pollloop_free(struct pollloop *l);		/* checks that nothing is watched any more */
const struct vmp_loop_ops *pollloop_ops(struct pollloop *l);
/* One round: waits at most ms for an event; returns the number of descriptors served. */
int pollloop_round(struct pollloop *l, int ms);
void pollloop_advance(struct pollloop *l, uint64_t ns);

#endif
