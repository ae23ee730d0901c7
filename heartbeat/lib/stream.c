/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Encoded records in segments; what leaves is read straight from them. Beside it, the queue of what has no number. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "heartbeat/lib/session.h"
#include "internal/endian.h"

void *vmpair_alloc(struct vmpair_session *s, size_t size)
{
	void *p = malloc(size);

	if (p)
		s->mem += size + 16;
	return p;
}

void vmpair_release(struct vmpair_session *s, void *p, size_t size)
{
	if (!p)
		return;
	s->mem -= size + 16;
	free(p);
}

static struct seg *seg_new(struct vmpair_session *s, size_t need)
{
	size_t cap = need > s->seg_size ? need : s->seg_size;
	struct seg *g = s->seg_spare;

	if (g && g->cap >= need) {
		s->seg_spare = NULL;
	} else {
		g = vmpair_alloc(s, sizeof(*g) + cap);
		if (!g)
			return NULL;
		g->cap = cap;
	}
	g->next = NULL;
	g->used = 0;
	g->first = 0;
	return g;
}

static void seg_free(struct vmpair_session *s, struct seg *g)
{
	if (!s->seg_spare && g->cap == s->seg_size)
		s->seg_spare = g;	/* a steady stream then allocates nothing */
	else
		vmpair_release(s, g, sizeof(*g) + g->cap);
}

int vmpair_stream_append(struct vmpair_session *s, struct vmpair_record *rec)
{
	size_t need = VMPAIR_HEADER_LEN + rec->id_len + rec->data_len;
	struct seg *g = s->seg_last;

	if (!g || g->cap - g->used < need) {
		g = seg_new(s, need);
		if (!g)
			return -ENOMEM;
		g->first = s->last + 1;
		if (s->seg_last)
			s->seg_last->next = g;
		else
			s->seg_first = g;
		s->seg_last = g;
		s->stream_bytes += g->cap;
	}
	if (s->held == s->last)
		s->progress_ns = s->now_ns;
	rec->number = ++s->last;
	rec->epoch = s->epoch;
	vmpair_record_encode(rec, g->data + g->used, need);
	if (s->sending && !s->cur) {
		s->cur = g;
		s->cur_off = s->cur_bound = g->used;
	}
	g->used += need;
	return 0;
}

static void first_free(struct vmpair_session *s)
{
	struct seg *g = s->seg_first;

	s->seg_first = g->next;
	if (!g->next)
		s->seg_last = NULL;
	s->stream_bytes -= g->cap;
	s->buffered = g->next ? g->next->first : s->last + 1;
	seg_free(s, g);
}

static bool trimmable(const struct vmpair_session *s, const struct seg *g, uint64_t upto)
{
	return g != s->cur && (g->next ? g->next->first : s->last + 1) <= upto + 1;
}

void vmpair_stream_trim(struct vmpair_session *s, uint64_t upto, size_t keep)
{
	while (s->seg_first && s->stream_bytes > keep && trimmable(s, s->seg_first, upto))
		first_free(s);
}

size_t vmpair_stream_trimmable(const struct vmpair_session *s, uint64_t upto)
{
	size_t n = 0;

	for (const struct seg *g = s->seg_first; g && trimmable(s, g, upto); g = g->next)
		n += g->cap;
	return n;
}

void vmpair_stream_clear(struct vmpair_session *s)
{
	s->cur = NULL;
	s->sending = false;
	while (s->seg_first)
		first_free(s);
	if (s->seg_spare)
		vmpair_release(s, s->seg_spare, sizeof(*s->seg_spare) + s->seg_spare->cap);
	s->seg_spare = NULL;
	s->buffered = s->last + 1;
}

void vmpair_stream_seek(struct vmpair_session *s, uint64_t number)
{
	struct seg *g = s->seg_first;

	s->sending = true;
	s->cur = NULL;
	s->cur_off = s->cur_bound = 0;
	if (number >= s->last)
		return;
	while (g->next && g->next->first <= number + 1)
		g = g->next;
	s->cur = g;
	for (uint64_t n = g->first; n <= number; n++)
		s->cur_off += get_le32(g->data + s->cur_off);
	s->cur_bound = s->cur_off;
}

bool vmpair_stream_between(const struct vmpair_session *s)
{
	return !s->cur || s->cur_off == s->cur_bound;
}

size_t vmpair_stream_out(const struct vmpair_session *s, bool to_boundary, const void **ret)
{
	if (!s->sending || !s->cur)
		return 0;
	*ret = s->cur->data + s->cur_off;
	return (to_boundary ? s->cur_bound : s->cur->used) - s->cur_off;
}

void vmpair_stream_out_done(struct vmpair_session *s, size_t len)
{
	struct seg *g = s->cur;

	s->cur_off += len;
	while (s->cur_bound < s->cur_off) {
		s->cur_bound += get_le32(g->data + s->cur_bound);
		s->count.records_sent++;
	}
	if (s->cur_off == g->used) {
		s->cur = g->next;	/* NULL: all is sent; the next record sets it */
		s->cur_off = s->cur_bound = 0;
	}
}

int vmpair_ctl_put(struct vmpair_session *s, const struct vmpair_record *rec)
{
	size_t need = VMPAIR_HEADER_LEN + rec->id_len + rec->data_len;
	struct seg *g = s->ctl_last;

	if (!g || g->cap - g->used < need) {
		size_t cap = need > 4096 ? need : 4096;

		if (g && g != s->ctl_first && s->ctl_bytes > 65536 && cap < s->seg_size)
			cap = s->seg_size;	/* a table is being sent */
		g = vmpair_alloc(s, sizeof(*g) + cap);
		if (!g)
			return -ENOMEM;
		g->next = NULL;
		g->cap = cap;
		g->used = 0;
		g->first = 0;
		if (s->ctl_last)
			s->ctl_last->next = g;
		else
			s->ctl_first = g;
		s->ctl_last = g;
	}
	vmpair_record_encode(rec, g->data + g->used, need);
	g->used += need;
	s->ctl_bytes += need;
	return 0;
}

void vmpair_ctl_clear(struct vmpair_session *s)
{
	struct seg *g;

	while ((g = s->ctl_first)) {
		s->ctl_first = g->next;
		vmpair_release(s, g, sizeof(*g) + g->cap);
	}
	s->ctl_last = NULL;
	s->ctl_off = s->ctl_bytes = 0;
}
