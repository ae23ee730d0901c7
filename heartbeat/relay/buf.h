/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Bytes on their way out: a queue of pieces of two sizes from free lists, taken when there is something to keep and given
 * back when it has left, so an idle connection has none. One thread. -ENOMEM is the only error.
 */
#ifndef VMPR_BUF_H
#define VMPR_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct vmpr_piece;

struct vmpr_pool {
	struct vmpr_piece *small, *big; /* free ones */
	unsigned int n_small, n_big;
	size_t bytes; /* in use, by all queues of this pool */
};

struct vmpr_queue {
	struct vmpr_piece *head, *tail;
	size_t len;
};

void vmpr_pool_done(struct vmpr_pool *p);
int vmpr_queue_put(struct vmpr_pool *p, struct vmpr_queue *q, const void *data, size_t len);
/* Fills iov with the first `limit` bytes at most; returns the number of elements. */
int vmpr_queue_iov(const struct vmpr_queue *q, size_t limit, struct iovec *iov, int max);
void vmpr_queue_drop(struct vmpr_pool *p, struct vmpr_queue *q, size_t len);
void vmpr_queue_clear(struct vmpr_pool *p, struct vmpr_queue *q);

#endif
