/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "heartbeat/relay/buf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { SMALL = 2048, BIG = 16384, KEEP_SMALL = 4096, KEEP_BIG = 256 };

struct vmpr_piece {
	struct vmpr_piece *next;
	uint32_t start, end, cap;
	uint8_t data[];
};

static struct vmpr_piece *piece_get(struct vmpr_pool *p, size_t want)
{
	bool small = want <= SMALL - sizeof(struct vmpr_piece);
	struct vmpr_piece **list = small ? &p->small : &p->big, *c = *list;
	size_t size = small ? SMALL : BIG;

	if (c) {
		*list = c->next;
		(*(small ? &p->n_small : &p->n_big))--;
	} else {
		c = malloc(size);
		if (!c)
			return NULL;
		c->cap = (uint32_t)(size - sizeof(*c));
	}
	p->bytes += size;
	c->next = NULL;
	c->start = c->end = 0;
	return c;
}

static void piece_put(struct vmpr_pool *p, struct vmpr_piece *c)
{
	bool small = c->cap < SMALL;
	unsigned int *n = small ? &p->n_small : &p->n_big;
	struct vmpr_piece **list = small ? &p->small : &p->big;

	p->bytes -= c->cap + sizeof(*c);
	if (*n >= (small ? KEEP_SMALL : KEEP_BIG)) {
		free(c);
		return;
	}
	c->next = *list;
	*list = c;
	(*n)++;
}

static void list_free(struct vmpr_piece *c)
{
	while (c) {
		struct vmpr_piece *next = c->next;

		free(c);
		c = next;
	}
}

void vmpr_pool_done(struct vmpr_pool *p)
{
	list_free(p->small);
	list_free(p->big);
	*p = (struct vmpr_pool){ 0 };
}

int vmpr_queue_put(struct vmpr_pool *p, struct vmpr_queue *q, const void *data, size_t len)
{
	const uint8_t *d = data;

	while (len > 0) {
		struct vmpr_piece *c = q->tail;
		size_t n;

		if (!c || c->end == c->cap) {
			c = piece_get(p, len);
			if (!c)
				return -ENOMEM;
			if (q->tail)
				q->tail->next = c;
			else
				q->head = c;
			q->tail = c;
		}
		n = c->cap - c->end;
		if (n > len)
			n = len;
		memcpy(c->data + c->end, d, n);
		c->end += (uint32_t)n;
		q->len += n;
		d += n;
		len -= n;
	}
	return 0;
}

int vmpr_queue_iov(const struct vmpr_queue *q, size_t limit, struct iovec *iov, int max)
{
	int n = 0;

	for (struct vmpr_piece *c = q->head; c && limit > 0 && n < max; c = c->next) {
		size_t len = c->end - c->start;

		if (len > limit)
			len = limit;
		iov[n++] = (struct iovec){ c->data + c->start, len };
		limit -= len;
	}
	return n;
}

void vmpr_queue_drop(struct vmpr_pool *p, struct vmpr_queue *q, size_t len)
{
	q->len -= len;
	while (q->head) {
		struct vmpr_piece *c = q->head;
		size_t n = c->end - c->start;

		if (n > len) {
			c->start += (uint32_t)len;
			return;
		}
		len -= n;
		q->head = c->next;
		if (!q->head)
			q->tail = NULL;
		piece_put(p, c);
	}
}

void vmpr_queue_clear(struct vmpr_pool *p, struct vmpr_queue *q)
{
	vmpr_queue_drop(p, q, q->len);
}
