/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Roles, epochs and modes; what a primary records; what a mirror executes; events. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "heartbeat/lib/session.h"
#include "internal/cleanup.h"

#define MS 1000000ull

static void defaults(struct vmpair_session_conf *c)
{
	if (!c->buffer_bytes)
		c->buffer_bytes = 64u << 20;
	if (!c->resume_bytes)
		c->resume_bytes = c->buffer_bytes / 4;
	if (!c->request_max)
		c->request_max = 1u << 20;
	if (!c->answer_max)
		c->answer_max = 1u << 20;
	if (!c->keep_ns)
		c->keep_ns = 60000 * MS;
	if (!c->peer_timeout_ns)
		c->peer_timeout_ns = 300 * MS;
	if (!c->ping_ns)
		c->ping_ns = c->peer_timeout_ns / 6;
	if (!c->stall_ns)
		c->stall_ns = 5000 * MS;
}

int vmpair_session_new(struct vmpair_session **ret, const struct vmpair_session_conf *conf)
{
	struct vmpair_session *s;

	if (!conf->member || !conf->random || !conf->node || conf->kind > VMPAIR_MIRROR ||
	    (conf->buffer_bytes && conf->buffer_bytes < VMPAIR_BUFFER_MIN))
		return -EINVAL;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->conf = *conf;
	defaults(&s->conf);
	s->member = conf->member;
	s->base_pristine = conf->pristine;
	s->buffered = 1;
	s->seg_size = s->conf.buffer_bytes / 64;
	if (s->seg_size > 256u << 10)
		s->seg_size = 256u << 10;
	*ret = s;
	return 0;
}

struct vmpair_session *vmpair_session_free(struct vmpair_session *s)
{
	if (s) {
		vmpair_link_reset(s);
		vmpair_stream_clear(s);
		vmpair_table_free(s);
		free(s->in);
		free(s);
	}
	return NULL;
}

int vmpair_session_reconf(struct vmpair_session *s, const struct vmpair_session_conf *conf)
{
	struct vmpair_session_conf c = *conf;

	defaults(&c);
	if (c.pair != s->conf.pair || c.node != s->conf.node || c.kind != s->conf.kind || c.buffer_bytes != s->conf.buffer_bytes ||
	    c.resume_bytes != s->conf.resume_bytes || c.can_export != s->conf.can_export || c.can_import != s->conf.can_import)
		return -EINVAL;
	s->conf.keep_ns = c.keep_ns;
	s->conf.peer_timeout_ns = c.peer_timeout_ns;
	s->conf.ping_ns = c.ping_ns;
	s->conf.stall_ns = c.stall_ns;
	s->conf.request_max = c.request_max;
	s->conf.answer_max = c.answer_max;
	return 0;
}

#ifdef VMPAIR_BUGS
void vmpair_session_bugs(struct vmpair_session *s, uint64_t bugs)
{
	s->bugs = bugs;
}
#endif

/* --- memory ------------------------------------------------------------------------------------------------------------------ */
/* Up to here nobody can need the encoded records any more, but for a standby that comes back. */
uint64_t vmpair_trim_limit(const struct vmpair_session *s)
{
	switch (s->link) {
	case LINK_EXPORT:
		return s->snap_number;
	case LINK_STREAM:
		/* Until a standby that is made anew has confirmed once, it goes on with this connection or begins anew again. */
		if (s->snap_number && !s->confirmed)
			return s->cur ? s->cur->first - 1 : s->last;
		return s->held > s->snap_number ? s->held : s->snap_number;
	default:
		return s->mode == VMPAIR_MODE_ALONE ? s->last : s->held;
	}
}

bool vmpair_make_room(struct vmpair_session *s, size_t need, size_t limit)
{
	size_t over;

	if (s->mem + need <= limit)
		return true;
	while (s->mem + need > limit && vmpair_table_evict(s))
		s->count.evicted++;
	if (s->mem + need <= limit)
		return true;
	over = s->mem + need - limit;
	vmpair_stream_trim(s, vmpair_trim_limit(s), s->stream_bytes > over ? s->stream_bytes - over : 0);
	return s->mem + need <= limit;
}

static size_t request_limit(const struct vmpair_session *s)
{
	return s->conf.buffer_bytes - s->conf.buffer_bytes / 8;		/* the rest is for answers of what was taken */
}

static size_t request_need(const struct vmpair_session *s, size_t len)
{
	return 2 * len + sizeof(struct entry) + sizeof(struct conn) + VMPAIR_HEADER_LEN * (1 + len / VMPAIR_DATA_MAX) + VMPAIR_ID_MAX +
	       SMALL_RECORDS + (s->seg_last && s->seg_last->cap - s->seg_last->used > len + VMPAIR_HEADER_LEN + VMPAIR_ID_MAX ? 0 : s->seg_size);
}

bool vmpair_session_room(const struct vmpair_session *s, size_t len)
{
	return s->mem - s->kept_mem - vmpair_stream_trimmable(s, vmpair_trim_limit(s)) + request_need(s, len) <= request_limit(s);
}

static int no_room(struct vmpair_session *s, size_t len)
{
	if (!s->want_room || len < s->want_len)
		s->want_len = len;
	s->want_room = true;
	return -ENOBUFS;
}

static int record(struct vmpair_session *s, struct vmpair_record *rec)
{
	int r = vmpair_stream_append(s, rec);

	if (r == 0 && s->stream_bytes > s->conf.resume_bytes)
		vmpair_stream_trim(s, vmpair_trim_limit(s), s->conf.resume_bytes);
	return r;
}

static int record_small(struct vmpair_session *s, uint8_t type, uint64_t conn, uint32_t seq, const char *text)
{
	size_t len = text ? strnlen(text, REASON_LEN) : 0;
	struct vmpair_record rec = { .type = type, .conn = conn, .seq = seq, .data = text, .data_len = len };

	return record(s, &rec);
}

/* --- role, mode ---------------------------------------------------------------------------------------------------------------- */
void vmpair_session_fence(struct vmpair_session *s, uint64_t epoch)
{
	if (epoch <= s->fence)
		return;
	s->fence = epoch;
	if (s->role == VMPAIR_STANDBY && s->link != LINK_DOWN && s->peer_epoch && s->peer_epoch < epoch && !BUG(s, FENCE_IGNORED))
		vmpair_link_lose(s, "fenced: epoch %llu is over", (unsigned long long)s->peer_epoch);
}

void vmpair_wipe(struct vmpair_session *s)
{
	vmpair_table_clear(s);
	s->history = s->last = s->held = 0;
	s->n_epochs = 0;
	vmpair_stream_clear(s);
	s->buffered = 1;
	/* The members of a journal pair share their state: without requests nothing is missing. */
	s->content = s->conf.kind == VMPAIR_MIRROR ? CONTENT_BROKEN : CONTENT_EMPTY;
	s->base_pristine = false;
}

static int start_record(struct vmpair_session *s, uint64_t epoch, uint8_t flags)
{
	struct vmpair_record rec = { .type = VMPAIR_START, .flags = flags };
	uint64_t before = s->epoch;
	int r;

	s->epoch = epoch;
	r = record(s, &rec);
	if (r < 0) {
		s->epoch = before;
		return r;
	}
	vmpair_epoch_add(s, epoch, rec.number);
	if (s->fence < epoch)
		s->fence = epoch;
	return 0;
}

/* What this mirror had executed, but the primary before it had not yet answered, has its answer. */
static int answer_executed(struct vmpair_session *s)
{
	struct entry *e, *after;

	for (e = s->list[LIST_LIVE].first; e; e = after) {
		struct vmpair_record rec = { .type = VMPAIR_ANSWER, .flags = VMPAIR_LAST, .conn = e->conn_id, .seq = e->seq,
					     .digest = vmpair_digest_end(&e->own), .total = e->own.len };

		after = e->next;
		if (!e->executed || e->answered)
			continue;
		if (record(s, &rec) < 0)
			return -ENOMEM;
		e->answer_number = rec.number;
		vmpair_table_answered(s, e, rec.digest, rec.total);
	}
	return 0;
}

int vmpair_session_primary(struct vmpair_session *s, uint64_t now_ns, uint64_t epoch)
{
	uint64_t newest = s->n_epochs ? s->epochs[s->n_epochs - 1].epoch : 0;
	int r, began = 0;

	s->now_ns = now_ns;
	if (s->role == VMPAIR_PRIMARY && epoch == s->epoch)
		return 0;
	if (epoch < s->fence || epoch <= newest)
		return -ESTALE;
	if (s->content == CONTENT_BROKEN && s->used)
		return -ENODATA;
	if (s->role == VMPAIR_PRIMARY)
		return start_record(s, epoch, VMPAIR_SAME);
	if (s->link != LINK_DOWN)
		vmpair_link_lose(s, "this member is primary now");
	if (!s->history || s->content == CONTENT_BROKEN) {
		bool pristine = s->content == CONTENT_EMPTY && s->base_pristine;

		vmpair_wipe(s);
		s->base_pristine = pristine;
		s->history = (s->conf.random ^ epoch * 0x9e3779b97f4a7c15ull) | 1;
		s->content = CONTENT_WHOLE;
		began = 1;
	}
	vmpair_stream_clear(s);
	s->held = 0;
	s->peer_node = 0;
	s->peer_member = 0;
	r = start_record(s, epoch, 0);
	if (r < 0)
		return r;
	s->role = VMPAIR_PRIMARY;
	s->reign = epoch;
	s->used = true;
	vmpair_table_start(s);
#ifdef VMPAIR_BUGS
	if (BUG(s, EXECUTE_AGAIN)) {
		for (struct entry *e = s->list[LIST_LIVE].first; e; e = e->next) {
			s->n_unexecuted += e->executed;
			e->given = e->executed = false;
		}
		s->exec = s->list[LIST_LIVE].first;
	}
#endif
	if (s->conf.kind == VMPAIR_MIRROR && answer_executed(s) < 0)
		return -ENOMEM;
	return began;
}

static void leave_role(struct vmpair_session *s)
{
	if (s->link != LINK_DOWN)
		vmpair_link_lose(s, "this member is not %s any more", s->role == VMPAIR_PRIMARY ? "primary" : "standby");
	if (s->role == VMPAIR_PRIMARY) {
		vmpair_caught_set(s, false);
		vmpair_stream_clear(s);
	}
	s->mode = VMPAIR_MODE_WAIT;
	s->wait_op = 0;
	s->want_room = false;
}

int vmpair_session_standby(struct vmpair_session *s, uint64_t now_ns, uint64_t epoch)
{
	bool stale = epoch < s->fence;

	s->now_ns = now_ns;
	if (s->role != VMPAIR_STANDBY)
		leave_role(s);
	s->role = VMPAIR_STANDBY;
	vmpair_session_fence(s, epoch);
	return stale ? -ESTALE : 0;
}

void vmpair_session_idle(struct vmpair_session *s)
{
	leave_role(s);
	s->role = VMPAIR_IDLE;
}

int vmpair_session_set_member(struct vmpair_session *s, uint64_t member)
{
	if (!member || member == s->member)
		return -EINVAL;
	if (s->role == VMPAIR_PRIMARY)
		return -EBUSY;
	vmpair_wipe(s);
	s->member = member;
	s->used = false;
	s->ev_need_member = false;
	if (s->link == LINK_WAIT_MEMBER)
		return vmpair_hello_send(s);
	if (s->link != LINK_DOWN)
		vmpair_link_lose(s, "the member's content is a new one");
	return 0;
}

void vmpair_session_mode(struct vmpair_session *s, enum vmpair_mode mode, uint64_t op, uint8_t node, uint64_t member)
{
	s->mode = (uint8_t)mode;
	s->wait_op = 0;
	switch (mode) {
	case VMPAIR_MODE_WAIT:
		s->wait_op = op;
		s->wait_mark = s->last;
		vmpair_caught_check(s);
		break;
	case VMPAIR_MODE_SYNC:
		s->sync_node = node;
		s->sync_member = member;
		break;
	case VMPAIR_MODE_ALONE:
		vmpair_stream_trim(s, vmpair_trim_limit(s), s->conf.resume_bytes);
		break;
	}
}

uint64_t vmpair_session_leave_limit(const struct vmpair_session *s)
{
	if (s->role != VMPAIR_PRIMARY)
		return 0;
	if (s->mode == VMPAIR_MODE_ALONE || (s->mode == VMPAIR_MODE_SYNC && BUG(s, ANSWER_EARLY)) ||
	    (s->mode == VMPAIR_MODE_WAIT && BUG(s, WAIT_LEAVES)))
		return VMPAIR_NEVER;
	if (s->mode == VMPAIR_MODE_WAIT)
		return 0;
	return (s->peer_node == s->sync_node && s->peer_member == s->sync_member) || BUG(s, HELD_BY_ANYBODY) ? s->held : 0;
}

static void caught_push(struct vmpair_session *s, bool on, uint64_t op)
{
	if (s->n_caughts == CAUGHT_RING) {	/* nobody asks: only the newest word matters */
		memmove(s->caughts, s->caughts + 1, sizeof(s->caughts[0]) * (CAUGHT_RING - 1));
		s->n_caughts--;
	}
	s->caughts[s->n_caughts++] = (struct caught){ on, s->peer_node, s->peer_member, op };
}

void vmpair_caught_set(struct vmpair_session *s, bool on)
{
	if (s->caught == on)
		return;
	s->caught = on;
	caught_push(s, on, 0);
}

void vmpair_caught_check(struct vmpair_session *s)
{
	if (s->link != LINK_STREAM || s->role != VMPAIR_PRIMARY || !s->confirmed)
		return;
	if (!s->mark_set && !s->cur) {
		s->mark = s->last;
		s->mark_set = true;
	}
	if (!s->caught && s->mark_set && s->held >= s->mark)
		vmpair_caught_set(s, true);
	if (s->caught && s->wait_op && (s->held >= s->wait_mark || BUG(s, CAUGHT_EARLY))) {
		caught_push(s, true, s->wait_op);
		s->wait_op = 0;
	}
}

/* --- what a primary records ------------------------------------------------------------------------------------------------------ */
static int dropped(struct vmpair_session *s, uint64_t conn, uint32_t seq, const char *why, int rc)
{
	struct entry *e = vmpair_entry_find(s, conn, seq);

	record_small(s, VMPAIR_DROP, conn, seq, why);
	if (e)
		vmpair_table_forget(s, e);
	return rc;
}

int vmpair_session_request(struct vmpair_session *s, uint64_t now_ns, const struct vmpair_request *req, uint64_t *ret_number)
{
	struct vmpair_record rec = { .type = VMPAIR_REQUEST, .service = req->service, .conn = req->conn, .seq = req->seq,
				     .id = req->id, .id_len = req->id_len };
	struct entry *e = vmpair_entry_find(s, req->conn, req->seq);
	const struct conn *c = e ? NULL : vmpair_conn_find(s, req->conn);
	size_t have = e ? e->len : 0, left = req->len;
	bool first_piece = true;
	int r;

	s->now_ns = now_ns;
	if (s->role != VMPAIR_PRIMARY)
		return -EPERM;
	if (req->flags & ~(VMPAIR_LAST | VMPAIR_IDEMPOTENT | VMPAIR_HAS_ID) || (c && c->closed))
		return -EINVAL;
	if (e && e->complete)
		return -EEXIST;
	if (!e && (!(req->flags & VMPAIR_HAS_ID) != !req->id_len || req->id_len > VMPAIR_ID_MAX))
		return -EINVAL;
	if (have + req->len > s->conf.request_max)
		return e ? dropped(s, req->conn, req->seq, "too long", -EMSGSIZE) : -EMSGSIZE;
	if (!vmpair_make_room(s, request_need(s, req->len), request_limit(s)))
		return no_room(s, req->len);
	rec.flags = e ? 0 : req->flags & (VMPAIR_IDEMPOTENT | VMPAIR_HAS_ID);
	if (e)
		rec.id_len = 0;
	rec.data = req->data;
	do {
		rec.total = have;
		rec.data_len = left < VMPAIR_DATA_MAX ? left : VMPAIR_DATA_MAX;
		if (req->flags & VMPAIR_LAST && rec.data_len == left)
			rec.flags |= VMPAIR_LAST;
		r = record(s, &rec);
		if (r < 0)
			return first_piece ? no_room(s, req->len) : dropped(s, req->conn, req->seq, "out of memory", -ENOMEM);
		r = vmpair_table_request(s, &rec);
		if (r < 0)
			return dropped(s, req->conn, req->seq, "out of memory", r);
		have += rec.data_len;
		left -= rec.data_len;
		rec.data = (const uint8_t *)rec.data + rec.data_len;
		rec.flags = 0;
		rec.id_len = 0;
		first_piece = false;
	} while (left);
	if (ret_number)
		*ret_number = rec.number;
	return 0;
}

int vmpair_session_open(struct vmpair_session *s, uint64_t now_ns, uint64_t conn, uint16_t service, const void *data, size_t len)
{
	struct vmpair_record rec = { .type = VMPAIR_OPEN, .service = service, .conn = conn, .data = data, .data_len = len };

	s->now_ns = now_ns;
	if (s->role != VMPAIR_PRIMARY)
		return -EPERM;
	if (len > VMPAIR_OPEN_MAX)
		return -EMSGSIZE;
	if (vmpair_conn_find(s, conn))
		return -EEXIST;
	if (!vmpair_make_room(s, request_need(s, len), request_limit(s)) || vmpair_conn_open(s, &rec) < 0)
		return no_room(s, len);
	if (record(s, &rec) < 0) {
		vmpair_table_close(s, vmpair_conn_find(s, conn));
		return no_room(s, len);
	}
	return 0;
}

bool vmpair_session_next_conn(const struct vmpair_session *s, uint64_t *cursor, struct vmpair_conn *ret)
{
	uint64_t bucket = *cursor >> 32, skip = (uint32_t)*cursor, n;

	for (; bucket < s->conn_size; bucket++, skip = 0) {
		n = 0;
		for (const struct conn *c = s->of_conn_table[bucket]; c; c = c->hash_next, n++) {
			if (n < skip || c->closed || !c->data)
				continue;
			*cursor = bucket << 32 | (n + 1);
			*ret = (struct vmpair_conn){ .conn = c->id, .service = c->service, .data = c->data, .len = c->data_len };
			return true;
		}
	}
	*cursor = bucket << 32;
	return false;
}

int vmpair_session_dispatched(struct vmpair_session *s, uint64_t conn, uint32_t seq, uint64_t *ret_number)
{
	struct entry *e = vmpair_entry_find(s, conn, seq);

	if (s->role != VMPAIR_PRIMARY)
		return -EPERM;
	if (!e || !e->complete)
		return -ENOENT;
	if (e->answered || e->given || e->disp_epoch == s->reign)
		return -EALREADY;
	if (s->conf.kind == VMPAIR_MIRROR) {
		if (e != s->exec)
			return -EINVAL;		/* not its turn */
		vmpair_table_given(s, e);
		if (ret_number)
			*ret_number = e->number;
		return 0;
	}
	if (record_small(s, VMPAIR_DISPATCHED, conn, seq, NULL) < 0)
		return -ENOMEM;
	vmpair_table_dispatched(s, e);
	e->disp_epoch = s->reign;
	if (ret_number)
		*ret_number = s->last;
	return 0;
}

static int mirror_answer(struct vmpair_session *s, struct entry *e, const void *data, size_t len, unsigned int flags,
			 uint64_t *ret_number)
{
	struct vmpair_record rec = { .type = VMPAIR_ANSWER, .flags = VMPAIR_LAST, .conn = e->conn_id, .seq = e->seq };
	struct digest d = e->own;
	uint64_t number = s->role == VMPAIR_PRIMARY ? e->number : 0;

	if (!e->given)
		return -ENOENT;
	if (e->executed)
		return -EALREADY;
	if (!(flags & VMPAIR_NO_DIGEST))
		vmpair_digest_add(&d, data, len);
	if (flags & VMPAIR_LAST) {
		rec.digest = vmpair_digest_end(&d);
		rec.total = d.len;
		if (s->role == VMPAIR_PRIMARY && !e->answered) {
			if (record(s, &rec) < 0)
				return no_room(s, 0);
			e->answer_number = number = rec.number;
		}
	}
	e->own = d;
	e->answer_len += len;
	if (e->flags & VMPAIR_HAS_ID)
		vmpair_table_store(s, e, data, len);
	if (flags & VMPAIR_LAST) {
		bool mine = s->role == VMPAIR_PRIMARY && !e->answered;

		s->n_unexecuted--;
		e->executed = true;
		if (mine)
			vmpair_table_answered(s, e, rec.digest, rec.total);
		else
			vmpair_table_executed(s, e);
	}
	if (ret_number)
		*ret_number = number;
	return 0;
}

static int journal_answer(struct vmpair_session *s, struct entry *e, const void *data, size_t len, unsigned int flags,
			  uint64_t *ret_number)
{
	struct vmpair_record rec = { .type = VMPAIR_ANSWER, .conn = e->conn_id, .seq = e->seq, .data = data };
	bool bytes = e->flags & VMPAIR_HAS_ID, first_piece = true;
	uint64_t at = e->answer_len;
	size_t left = len;

	if (!bytes) {
		if (flags & VMPAIR_LAST || !e->answer_number) {
			rec.flags = flags & VMPAIR_LAST;
			rec.total = rec.flags ? at + len : at;
			rec.data = NULL;
			if (record(s, &rec) < 0)
				return no_room(s, 0);
			e->answer_number = rec.number;
		}
	} else {
		if (!vmpair_make_room(s, 2 * len + VMPAIR_HEADER_LEN * (1 + len / VMPAIR_DATA_MAX), s->conf.buffer_bytes))
			return no_room(s, len);
		do {
			rec.data_len = left < VMPAIR_DATA_MAX ? left : VMPAIR_DATA_MAX;
			rec.total = at;
			if (flags & VMPAIR_LAST && rec.data_len == left) {
				rec.flags = VMPAIR_LAST;
				rec.total = at + rec.data_len;
			}
			if (record(s, &rec) < 0)
				return first_piece ? no_room(s, len) : -ENOMEM;
			vmpair_table_store(s, e, rec.data, rec.data_len);
			at += rec.data_len;
			left -= rec.data_len;
			rec.data = (const uint8_t *)rec.data + rec.data_len;
			first_piece = false;
		} while (left);
		e->answer_number = rec.number;
	}
	e->answer_len += len;
	if (ret_number)
		*ret_number = e->answer_number;
	if (flags & VMPAIR_LAST)
		vmpair_table_answered(s, e, 0, e->answer_len);
	return 0;
}

int vmpair_session_answer(struct vmpair_session *s, uint64_t now_ns, uint64_t conn, uint32_t seq, const void *data, size_t len,
			  unsigned int flags, uint64_t *ret_number)
{
	struct entry *e = vmpair_entry_find(s, conn, seq);

	s->now_ns = now_ns;
	if (!e || !e->complete)
		return -ENOENT;
	if (s->conf.kind == VMPAIR_MIRROR)
		return mirror_answer(s, e, data, len, flags, ret_number);
	if (s->role != VMPAIR_PRIMARY)
		return -EPERM;
	if (e->answered)
		return -EALREADY;
	return journal_answer(s, e, data, len, flags, ret_number);
}

int vmpair_session_done(struct vmpair_session *s, uint64_t now_ns, uint64_t conn, uint32_t seq)
{
	struct entry *e = vmpair_entry_find(s, conn, seq);

	s->now_ns = now_ns;
	if (s->role != VMPAIR_PRIMARY)
		return -EPERM;
	if (!e)
		return -ENOENT;
	if (!e->answered)
		return -EBUSY;
	if (e->done)
		return 0;
	if (record_small(s, VMPAIR_DONE, conn, seq, NULL) < 0)
		return -ENOMEM;
	vmpair_table_done(s, e);
	return 0;
}

int vmpair_session_drop(struct vmpair_session *s, uint64_t conn, uint32_t seq, const char *why)
{
	struct entry *e = vmpair_entry_find(s, conn, seq);

	if (s->role != VMPAIR_PRIMARY)
		return -EPERM;
	if (!e)
		return -ENOENT;
	if (e->answered)
		return -EALREADY;
	if (record_small(s, VMPAIR_DROP, conn, seq, why) < 0)
		return -ENOMEM;
	vmpair_table_forget(s, e);
	return 0;
}

int vmpair_session_close(struct vmpair_session *s, uint64_t now_ns, uint64_t conn)
{
	struct conn *c = vmpair_conn_find(s, conn);

	s->now_ns = now_ns;
	if (s->role != VMPAIR_PRIMARY)
		return -EPERM;
	if (!c || c->closed)
		return -ENOENT;
	if (record_small(s, VMPAIR_CLOSE, conn, 0, NULL) < 0)
		return -ENOMEM;
	vmpair_table_close(s, c);
	return 0;
}

/* --- the table, for the caller --------------------------------------------------------------------------------------------------- */
static void entry_view(const struct vmpair_session *s, const struct entry *e, struct vmpair_entry *ret)
{
	*ret = (struct vmpair_entry){ .conn = e->conn_id, .number = e->number, .answer_number = e->answer_number, .answer_len = e->answer_len,
				      .seq = e->seq, .service = e->service, .flags = e->flags,
				      .here = e->given || (e->disp_epoch && e->disp_epoch == s->reign), .orphan = !e->conn || e->conn->closed,
				      .kept = e->flags & VMPAIR_HAS_ID && !e->dropped_bytes, .id = e->blob, .id_len = e->id_len,
				      .data = e->blob + e->id_len, .len = e->len };
	if (!e->complete)
		ret->state = VMPAIR_INCOMPLETE;
	else if (e->list == LIST_KEPT)
		ret->state = VMPAIR_FINISHED;
	else if (e->answered && (s->conf.kind == VMPAIR_JOURNAL || e->executed))
		ret->state = VMPAIR_ANSWERED;
	else
		ret->state = e->dispatched || e->given ? VMPAIR_UNDER_WAY : VMPAIR_RECEIVED;
}

bool vmpair_session_next_unfinished(struct vmpair_session *s, uint64_t *cursor, struct vmpair_entry *ret)
{
	struct entry *e = s->walk && s->walk_number == *cursor ? s->walk : s->list[LIST_LIVE].first;

	for (; e; e = e->next) {
		if (e->number <= *cursor || e->answered)
			continue;
		entry_view(s, e, ret);
		*cursor = s->walk_number = e->number;
		s->walk = e;
		return true;
	}
	return false;
}

int vmpair_session_find(struct vmpair_session *s, uint16_t service, const void *id, size_t id_len, struct vmpair_entry *ret)
{
	const struct entry *e = id_len && id_len <= VMPAIR_ID_MAX ? vmpair_entry_by_id(s, service, id, id_len) : NULL;

	if (!e || (BUG(s, REPEATS_FORGOTTEN) && e->list == LIST_KEPT))
		return -ENOENT;
	entry_view(s, e, ret);
	return 0;
}

int vmpair_session_entry(struct vmpair_session *s, uint64_t conn, uint32_t seq, struct vmpair_entry *ret)
{
	const struct entry *e = vmpair_entry_find(s, conn, seq);

	if (!e)
		return -ENOENT;
	entry_view(s, e, ret);
	return 0;
}

int vmpair_session_stored(struct vmpair_session *s, uint64_t conn, uint32_t seq, uint64_t offset, const void **ret, size_t *ret_len)
{
	const struct entry *e = vmpair_entry_find(s, conn, seq);
	const struct chunk *c;

	if (!e)
		return -ENOENT;
	if (!(e->flags & VMPAIR_HAS_ID) || e->dropped_bytes)
		return -ENODATA;
	for (c = e->first; c && offset >= c->len; c = c->next)
		offset -= c->len;
	*ret = c ? c->data + offset : NULL;
	*ret_len = c ? c->len - offset : 0;
	return 0;
}

/* --- mirror ------------------------------------------------------------------------------------------------------------------------ */
static bool executable(const struct vmpair_session *s)
{
	return s->exec && s->content == CONTENT_WHOLE;
}

int vmpair_session_broken(struct vmpair_session *s, uint64_t now_ns, const char *why)
{
	s->now_ns = now_ns;
	if (s->conf.kind != VMPAIR_MIRROR)
		return -EINVAL;
	if (s->role == VMPAIR_PRIMARY) {
		if (s->mode == VMPAIR_MODE_SYNC)
			return -EBUSY;		/* somebody else has everything */
		vmpair_link_lose(s, "%s", why);
		s->history = ((s->history + s->last) * 0x9e3779b97f4a7c15ull) | 1;
		s->base_pristine = false;
		vmpair_stream_clear(s);
		s->held = 0;
		s->peer_node = 0;
		s->peer_member = 0;
		return 0;
	}
	vmpair_link_lose(s, "%s", why);
	if (s->content == CONTENT_BROKEN && s->used)
		return 0;
	s->content = CONTENT_BROKEN;
	s->ev_need_member = s->used;
	return 0;
}

bool vmpair_session_execute(struct vmpair_session *s, struct vmpair_entry *ret)
{
	struct entry *e = s->exec;

	if (!executable(s)) {
		s->told_execute = false;
		return false;
	}
	vmpair_table_given(s, e);
	entry_view(s, e, ret);
	return true;
}

/* --- events ------------------------------------------------------------------------------------------------------------------------ */
static bool import_event(struct vmpair_session *s, struct vmpair_event *ret)
{
	struct chunk *c = s->import_first;

	if (s->import_told && c) {	/* the piece that was given last is used up */
		s->import_first = c->next;
		if (!c->next)
			s->import_last = NULL;
		s->import_bytes -= c->len;
		vmpair_release(s, c, sizeof(*c) + c->cap);
		s->import_told = false;
		c = s->import_first;
	}
	if (!c)
		return false;
	s->import_told = true;
	*ret = (struct vmpair_event){ .type = VMPAIR_EV_IMPORT, .data = c->data, .len = c->len, .last = s->import_end && !c->next };
	return true;
}

bool vmpair_session_next_event(struct vmpair_session *s, struct vmpair_event *ret)
{
	uint64_t limit = vmpair_session_leave_limit(s);

	*ret = (struct vmpair_event){ .type = VMPAIR_EV_NONE, .reason = s->reason };
	if (s->ev_refused) {
		s->ev_refused = false;
		ret->type = VMPAIR_EV_REFUSED;
	} else if (s->ev_lost) {
		s->ev_lost = false;
		ret->type = VMPAIR_EV_LINK_LOST;
	} else if (s->n_caughts) {
		struct caught c = s->caughts[0];

		memmove(s->caughts, s->caughts + 1, sizeof(s->caughts[0]) * --s->n_caughts);
		*ret = (struct vmpair_event){ .type = VMPAIR_EV_CAUGHT, .on = c.on, .node = c.node, .member = c.member, .op = c.op };
	} else if (limit != s->told_limit) {
		s->told_limit = limit;
		*ret = (struct vmpair_event){ .type = VMPAIR_EV_HELD, .number = limit };
	} else if (s->want_room && vmpair_session_room(s, s->want_len)) {
		s->want_room = false;
		ret->type = VMPAIR_EV_ROOM;
	} else if (s->ev_need_member) {
		s->ev_need_member = false;
		ret->type = VMPAIR_EV_NEED_MEMBER;
	} else if (s->ev_need_export) {
		s->ev_need_export = false;
		ret->type = VMPAIR_EV_NEED_EXPORT;
	} else if (s->n_diverged) {
		struct diverged d = s->diverged[0];

		memmove(s->diverged, s->diverged + 1, sizeof(s->diverged[0]) * --s->n_diverged);
		*ret = (struct vmpair_event){ .type = VMPAIR_EV_DIVERGED, .conn = d.conn, .seq = d.seq, .number = d.number };
	} else if (executable(s) && !s->told_execute) {
		s->told_execute = true;
		ret->type = VMPAIR_EV_EXECUTE;
	} else if (s->link == LINK_SNAPSHOT || s->link == LINK_WAIT_IMPORT) {
		return import_event(s, ret);
	}
	return ret->type != VMPAIR_EV_NONE;
}

void vmpair_session_info(const struct vmpair_session *s, struct vmpair_info *ret)
{
	*ret = s->count;
	ret->role = s->role;
	ret->mode = s->mode;
	ret->kind = s->conf.kind;
	ret->linked = s->link == LINK_STREAM || s->link == LINK_TABLE || s->link == LINK_WAIT_EXPORT || s->link == LINK_EXPORT ||
		      s->link == LINK_SNAPSHOT || s->link == LINK_WAIT_IMPORT;
	ret->caught_up = s->role == VMPAIR_PRIMARY ? s->caught : s->content == CONTENT_WHOLE;
	ret->peer_node = s->peer_node;
	ret->peer_member = s->peer_member;
	ret->epoch = s->role == VMPAIR_PRIMARY ? s->epoch : s->peer_epoch;
	ret->fence = s->fence;
	ret->history = s->history;
	ret->number = s->last;
	ret->held = s->held;
	ret->member = s->member;
	ret->bytes = s->mem;
	ret->buffer_bytes = s->conf.buffer_bytes;
	ret->entries = s->n_keys;
	ret->unfinished = s->n_unfinished;
	ret->finished = s->list[LIST_KEPT].n;
}

const char *vmpair_session_reason(const struct vmpair_session *s)
{
	return s->reason;
}
