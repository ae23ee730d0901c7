/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Requests and answers. Everything here is done by primary and standby alike, for the same records in the same order. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "heartbeat/lib/session.h"
#include "internal/endian.h"

/* --- digest of answers: independent of how they came in pieces ------------------------------------------------------------- */
#define MIX 0x9e3779b97f4a7c15ull

static uint64_t mix(uint64_t h, uint64_t w)
{
	h = (h ^ w) * 0xff51afd7ed558ccdull;
	return h ^ h >> 32;
}

void vmpair_digest_init(struct digest *d)
{
	*d = (struct digest){ .h = MIX };
}

void vmpair_digest_add(struct digest *d, const void *data, size_t len)
{
	const uint8_t *p = data;
	unsigned int have = d->len & 7;

	d->len += len;
	while (have && len) {
		d->tail |= (uint64_t)*p++ << 8 * have;
		len--;
		if (++have == 8) {
			d->h = mix(d->h, d->tail);
			d->tail = have = 0;
		}
	}
	for (; len >= 8; p += 8, len -= 8)
		d->h = mix(d->h, get_le64(p));
	for (unsigned int i = 0; i < len; i++)
		d->tail |= (uint64_t)p[i] << 8 * i;
}

uint64_t vmpair_digest_end(const struct digest *d)
{
	return mix(mix(mix(d->h, d->tail), d->len), MIX);
}

/* --- hash tables: chains, doubled when full; growing is the only step that is not constant ---------------------------------- */
static uint32_t hash_conn(uint64_t conn)
{
	return (uint32_t)(mix(MIX, conn) >> 16);
}

static uint32_t hash_key(uint64_t conn, uint32_t seq)
{
	return (uint32_t)(mix(conn * MIX, seq + 1ull) >> 16);
}

static uint32_t hash_id(uint16_t service, const void *id, size_t len)
{
	struct digest d;

	vmpair_digest_init(&d);
	d.h ^= service;
	vmpair_digest_add(&d, id, len);
	return (uint32_t)(vmpair_digest_end(&d) >> 16);
}

#define GROW(name, type, next, size, n, hash_of) \
	static int name(struct vmpair_session *s) \
	{ \
		size_t want = s->size ? s->size * 2 : 64; \
		type **t; \
		if (s->n < s->size) \
			return 0; \
		t = vmpair_alloc(s, want * sizeof(type *)); \
		if (!t) \
			return s->size ? 0 : -ENOMEM; \
		memset(t, 0, want * sizeof(type *)); \
		for (size_t i = 0; i < s->size; i++) { \
			for (type *e = s->hash_of##_table[i], *after; e; e = after) { \
				after = e->next; \
				e->next = t[hash_of(e) & (want - 1)]; \
				t[hash_of(e) & (want - 1)] = e; \
			} \
		} \
		vmpair_release(s, s->hash_of##_table, s->size * sizeof(type *)); \
		s->hash_of##_table = t; \
		s->size = want; \
		return 0; \
	}
#define of_key(e) (e)->hash
#define of_id(e) (e)->id_hash
#define of_conn(c) hash_conn((c)->id)
GROW(keys_grow, struct entry, hash_next, key_size, n_keys, of_key)
GROW(ids_grow, struct entry, id_next, id_size, n_ids, of_id)
GROW(conns_grow, struct conn, hash_next, conn_size, n_conns, of_conn)

struct entry *vmpair_entry_find(struct vmpair_session *s, uint64_t conn, uint32_t seq)
{
	uint32_t h = hash_key(conn, seq);
	struct entry *e;

	if (!s->key_size)
		return NULL;
	for (e = s->of_key_table[h & (s->key_size - 1)]; e; e = e->hash_next) {
		if (e->conn_id == conn && e->seq == seq)
			break;
	}
	return e;
}

struct entry *vmpair_entry_by_id(struct vmpair_session *s, uint16_t service, const void *id, size_t len)
{
	uint32_t h = hash_id(service, id, len);
	struct entry *e;

	if (!s->id_size)
		return NULL;
	for (e = s->of_id_table[h & (s->id_size - 1)]; e; e = e->id_next) {
		if (e->id_hash == h && e->service == service && e->id_len == len && !memcmp(e->blob, id, len))
			break;
	}
	return e;
}

struct conn *vmpair_conn_find(struct vmpair_session *s, uint64_t id)
{
	struct conn *c;

	if (!s->conn_size)
		return NULL;
	for (c = s->of_conn_table[hash_conn(id) & (s->conn_size - 1)]; c && c->id != id; c = c->hash_next)
		;
	return c;
}

int vmpair_conn_get(struct vmpair_session *s, uint64_t id, struct conn **ret)
{
	struct conn *c = vmpair_conn_find(s, id), **slot;

	if (c) {
		*ret = c;
		return 0;
	}
	if (conns_grow(s) < 0)
		return -ENOMEM;
	c = vmpair_alloc(s, sizeof(*c));
	if (!c)
		return -ENOMEM;
	slot = &s->of_conn_table[hash_conn(id) & (s->conn_size - 1)];
	*c = (struct conn){ .hash_next = *slot, .id = id };
	*slot = c;
	s->n_conns++;
	*ret = c;
	return 0;
}

static void conn_free(struct vmpair_session *s, struct conn *c)
{
	struct conn **p = &s->of_conn_table[hash_conn(c->id) & (s->conn_size - 1)];

	while (*p != c)
		p = &(*p)->hash_next;
	*p = c->hash_next;
	s->n_conns--;
	vmpair_release(s, c->data, c->data_len);
	vmpair_release(s, c, sizeof(*c));
}

int vmpair_conn_open(struct vmpair_session *s, const struct vmpair_record *rec)
{
	struct conn *c;
	int r = vmpair_conn_get(s, rec->conn, &c);

	if (r < 0 || c->data || !rec->data_len)
		return r;
	c->data = vmpair_alloc(s, rec->data_len);
	if (!c->data)
		return 0;	/* only for those who ask */
	memcpy(c->data, rec->data, rec->data_len);
	c->data_len = (uint8_t)rec->data_len;
	c->service = rec->service;
	return 0;
}

/* --- lists ------------------------------------------------------------------------------------------------------------------- */
static void list_add(struct vmpair_session *s, struct entry *e, enum list which)
{
	struct list_head *l = &s->list[which];

	e->list = which;
	e->next = NULL;
	e->prev = l->last;
	if (l->last)
		l->last->next = e;
	else
		l->first = e;
	l->last = e;
	l->n++;
	if (which == LIST_KEPT && s->snapping && !s->snap_walk)
		s->snap_walk = e;
}

static void list_del(struct vmpair_session *s, struct entry *e)
{
	struct list_head *l = &s->list[e->list];

	if (s->exec == e) {
		do
			s->exec = s->exec->next;
		while (s->exec && s->exec->given);
	}
	if (s->walk == e)
		s->walk = e->prev;
	if (s->snap_walk == e)
		s->snap_walk = e->next;
	if (e->prev)
		e->prev->next = e->next;
	else
		l->first = e->next;
	if (e->next)
		e->next->prev = e->prev;
	else
		l->last = e->prev;
	l->n--;
}

static void conn_detach(struct vmpair_session *s, struct entry *e)
{
	struct conn *c = e->conn;

	if (!c)
		return;
	if (e->conn_prev)
		e->conn_prev->conn_next = e->conn_next;
	else
		c->first = e->conn_next;
	if (e->conn_next)
		e->conn_next->conn_prev = e->conn_prev;
	e->conn = NULL;
	if (c->closed && !c->first)
		conn_free(s, c);
}

static size_t entry_mem(const struct entry *e)
{
	return sizeof(*e) + e->cap + e->stored + 64;
}

static void answer_free(struct vmpair_session *s, struct entry *e)
{
	struct chunk *c;

	while ((c = e->first)) {
		e->first = c->next;
		vmpair_release(s, c, sizeof(*c) + c->cap);
	}
	e->newest = NULL;
	e->stored = 0;
}

static void id_unhash(struct vmpair_session *s, struct entry *e)
{
	struct entry **p;

	if (!(e->flags & VMPAIR_HAS_ID) || !e->complete)
		return;
	for (p = &s->of_id_table[e->id_hash & (s->id_size - 1)]; *p != e; p = &(*p)->id_next)
		;
	*p = e->id_next;
	s->n_ids--;
}

void vmpair_table_forget(struct vmpair_session *s, struct entry *e)
{
	struct entry **p = &s->of_key_table[e->hash & (s->key_size - 1)];

	if (e->list == LIST_KEPT)
		s->kept_mem -= entry_mem(e);
	if (e->complete && !e->answered)
		s->n_unfinished--;
	if (s->conf.kind == VMPAIR_MIRROR && e->complete && !e->executed)
		s->n_unexecuted--;
	list_del(s, e);
	while (*p != e)
		p = &(*p)->hash_next;
	*p = e->hash_next;
	s->n_keys--;
	id_unhash(s, e);
	conn_detach(s, e);
	answer_free(s, e);
	vmpair_release(s, e->blob, e->cap);
	vmpair_release(s, e, sizeof(*e));
}

bool vmpair_table_evict(struct vmpair_session *s)
{
	struct entry *e = s->list[LIST_KEPT].first;

	if (!e)
		return false;
	vmpair_table_forget(s, e);
	return true;
}

/* What is over is forgotten, or kept for those who repeat its id. */
static void settle(struct vmpair_session *s, struct entry *e)
{
	bool mirror = s->conf.kind == VMPAIR_MIRROR;

	if (mirror && e->answered && e->executed && !e->compared) {
		e->compared = true;
		if (!e->in_state && (e->told_digest != vmpair_digest_end(&e->own) || e->told_len != e->own.len)) {
			s->count.diverged++;
			if (s->n_diverged < DIVERGED_RING)
				s->diverged[s->n_diverged++] = (struct diverged){ e->conn_id, e->number, e->seq };
		}
	}
	if (e->list != LIST_LIVE || !e->answered || (mirror && !e->executed))
		return;
	if (!e->done && (!e->conn || !e->conn->closed))
		return;
	e->done = true;
	if (!(e->flags & VMPAIR_HAS_ID) || !s->conf.keep_ns) {
		vmpair_table_forget(s, e);
		return;
	}
	list_del(s, e);
	list_add(s, e, LIST_KEPT);
	conn_detach(s, e);
	e->done_ns = s->now_ns;
	s->kept_mem += entry_mem(e);
}

/* --- what records do ----------------------------------------------------------------------------------------------------------- */
static int entry_new(struct vmpair_session *s, const struct vmpair_record *rec, struct entry **ret)
{
	struct entry *e, **slot;
	struct conn *c;

	if (keys_grow(s) < 0 || (rec->flags & VMPAIR_HAS_ID && ids_grow(s) < 0) || vmpair_conn_get(s, rec->conn, &c) < 0)
		return -ENOMEM;
	e = vmpair_alloc(s, sizeof(*e));
	if (!e)
		return -ENOMEM;
	*e = (struct entry){ .conn = c, .conn_id = rec->conn, .seq = rec->seq, .service = rec->service, .id_len = (uint8_t)rec->id_len,
			     .flags = rec->flags & (VMPAIR_IDEMPOTENT | VMPAIR_HAS_ID), .hash = hash_key(rec->conn, rec->seq) };
	e->cap = rec->id_len + rec->data_len;
	e->blob = vmpair_alloc(s, e->cap ? e->cap : (e->cap = 1));
	if (!e->blob) {
		vmpair_release(s, e, sizeof(*e));
		return -ENOMEM;
	}
	if (rec->id_len)
		memcpy(e->blob, rec->id, rec->id_len);
	if (s->conf.kind == VMPAIR_MIRROR)
		vmpair_digest_init(&e->own);
	slot = &s->of_key_table[e->hash & (s->key_size - 1)];
	e->hash_next = *slot;
	*slot = e;
	s->n_keys++;
	e->conn_next = c->first;
	if (c->first)
		c->first->conn_prev = e;
	c->first = e;
	list_add(s, e, LIST_PARTIAL);
	*ret = e;
	return 0;
}

static int blob_grow(struct vmpair_session *s, struct entry *e, size_t more)
{
	size_t want = e->id_len + e->len + more;
	uint8_t *p;

	if (want <= e->cap)
		return 0;
	if (want < e->cap * 2)
		want = e->cap * 2;
	p = vmpair_alloc(s, want);
	if (!p)
		return -ENOMEM;
	memcpy(p, e->blob, e->id_len + e->len);
	vmpair_release(s, e->blob, e->cap);
	e->blob = p;
	e->cap = want;
	return 0;
}

static void complete(struct vmpair_session *s, struct entry *e, const struct vmpair_record *rec)
{
	struct entry **slot;

	list_del(s, e);
	list_add(s, e, LIST_LIVE);
	e->complete = true;
	e->number = rec->number;
	s->n_unfinished++;
	if (e->flags & VMPAIR_HAS_ID) {
		e->id_hash = hash_id(e->service, e->blob, e->id_len);
		slot = &s->of_id_table[e->id_hash & (s->id_size - 1)];
		e->id_next = *slot;
		*slot = e;
		s->n_ids++;
	}
	if (s->conf.kind != VMPAIR_MIRROR)
		return;
	if (rec->flags & VMPAIR_IN_STATE && !BUG(s, STATE_AGAIN))
		e->given = e->executed = e->in_state = true;
	else if (!s->exec)
		s->exec = e;
	s->n_unexecuted += !e->executed;
}

int vmpair_table_request(struct vmpair_session *s, const struct vmpair_record *rec)
{
	struct entry *e = vmpair_entry_find(s, rec->conn, rec->seq);
	int r;

	if (!e) {
		if (rec->total)
			return -EPROTO;
		r = entry_new(s, rec, &e);
		if (r < 0)
			return r;
	} else if (e->complete) {
		return -EEXIST;
	} else if (rec->total != e->len) {
		return -EPROTO;
	} else if (blob_grow(s, e, rec->data_len) < 0) {
		return -ENOMEM;
	}
	if (rec->data_len)
		memcpy(e->blob + e->id_len + e->len, rec->data, rec->data_len);
	e->len += rec->data_len;
	if (rec->flags & VMPAIR_LAST)
		complete(s, e, rec);
	return 0;
}

void vmpair_table_dispatched(struct vmpair_session *s, struct entry *e)
{
	e->dispatched = true;
	answer_free(s, e);
	e->dropped_bytes = false;
	e->answer_len = e->answer_number = 0;
}

void vmpair_table_given(struct vmpair_session *s, struct entry *e)
{
	e->given = true;
	if (s->exec == e) {
		do
			s->exec = s->exec->next;
		while (s->exec && s->exec->given);
	}
}

void vmpair_table_store(struct vmpair_session *s, struct entry *e, const void *data, size_t len)
{
	struct chunk *c = e->newest;
	size_t cap;

	if (e->dropped_bytes || !len)
		return;
	if (e->stored + len > s->conf.answer_max || !vmpair_make_room(s, sizeof(*c) + len + 16, s->conf.buffer_bytes)) {
		answer_free(s, e);
		e->dropped_bytes = true;
		return;
	}
	if (c && c->cap - c->len >= len) {
		memcpy(c->data + c->len, data, len);
	} else {
		cap = c && c->cap * 2 > len && c->cap < VMPAIR_DATA_MAX ? c->cap * 2 : len;
		c = vmpair_alloc(s, sizeof(*c) + cap);
		if (!c) {
			answer_free(s, e);
			e->dropped_bytes = true;
			return;
		}
		c->next = NULL;
		c->len = 0;
		c->cap = cap;
		memcpy(c->data, data, len);
		if (e->newest)
			e->newest->next = c;
		else
			e->first = c;
		e->newest = c;
	}
	c->len += len;
	e->stored += len;
}

void vmpair_table_answered(struct vmpair_session *s, struct entry *e, uint64_t digest, uint64_t len)
{
	if (!e->answered)
		s->n_unfinished--;
	e->answered = true;
	e->told_digest = digest;
	e->told_len = len;
	settle(s, e);
}

void vmpair_table_executed(struct vmpair_session *s, struct entry *e)
{
	s->n_unexecuted -= !e->executed;
	e->executed = true;
	settle(s, e);
}

void vmpair_table_done(struct vmpair_session *s, struct entry *e)
{
	e->done = true;
	settle(s, e);
}

void vmpair_table_close(struct vmpair_session *s, struct conn *c)
{
	struct entry *e, *after;
	bool empty = !c->first;

	c->closed = true;
	if (empty) {
		conn_free(s, c);
		return;
	}
	for (e = c->first; e; e = after) {	/* with the last one the connection goes as well */
		after = e->conn_next;
		if (!e->complete)
			vmpair_table_forget(s, e);
		else
			settle(s, e);
	}
}

void vmpair_table_start(struct vmpair_session *s)
{
	struct conn *c, *after;

	for (size_t i = 0; i < s->conn_size; i++) {
		for (c = s->of_conn_table[i]; c; c = after) {
			after = c->hash_next;
			vmpair_table_close(s, c);
		}
	}
}

void vmpair_table_clear(struct vmpair_session *s)
{
	for (unsigned int i = 0; i < LIST_COUNT; i++) {
		while (s->list[i].first)
			vmpair_table_forget(s, s->list[i].first);
	}
	vmpair_table_start(s);		/* connections without requests */
	s->exec = s->walk = NULL;
	s->walk_number = 0;
}

void vmpair_table_free(struct vmpair_session *s)
{
	vmpair_table_clear(s);
	vmpair_release(s, s->of_key_table, s->key_size * sizeof(*s->of_key_table));
	vmpair_release(s, s->of_id_table, s->id_size * sizeof(*s->of_id_table));
	vmpair_release(s, s->of_conn_table, s->conn_size * sizeof(*s->of_conn_table));
}

/* --- epochs: log matching ------------------------------------------------------------------------------------------------------ */
int vmpair_epoch_add(struct vmpair_session *s, uint64_t epoch, uint64_t first)
{
	if (s->n_epochs && (epoch <= s->epochs[s->n_epochs - 1].epoch || first <= s->epochs[s->n_epochs - 1].first))
		return -EPROTO;
	if (s->n_epochs == EPOCHS_MAX) {
		memmove(s->epochs, s->epochs + 1, sizeof(s->epochs[0]) * (EPOCHS_MAX - 1));
		s->n_epochs--;
	}
	s->epochs[s->n_epochs++] = (struct epoch_start){ epoch, first };
	return 0;
}

uint64_t vmpair_epoch_at(const struct vmpair_session *s, uint64_t number)
{
	if (!number)
		return 0;
	for (unsigned int i = s->n_epochs; i--;) {
		if (s->epochs[i].first <= number)
			return s->epochs[i].epoch;
	}
	return VMPAIR_NEVER;
}
