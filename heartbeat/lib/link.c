/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The connection: who may go on from where, full resynchronisation, records coming in, bytes going out, silence.
 *
 *      standby                        primary
 *      HELLO{member, position}  -->
 *                               <--   WELCOME resume{number}, then records from number + 1
 *                               <--   or WELCOME fresh: only with a fresh member; HELLO again once the standby has one
 *                               <--   or WELCOME snapshot, table as records, SNAPSHOT*, SNAPSHOT_END{number}, then records
 *                               <--   or REFUSE{why}
 *      CONFIRM{number}          -->
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "heartbeat/lib/session.h"
#include "internal/endian.h"

#define HELLO_LEN 48
#define WELCOME_LEN 32
#define TABLE_AHEAD 65536	/* bytes of the table encoded ahead of the connection */
#define HELLO_PRISTINE 1u
#define HELLO_FRESH 2u		/* the member id stands for nothing yet */
#define HELLO_CAN_IMPORT 4u

enum welcome { WELCOME_RESUME, WELCOME_SNAPSHOT, WELCOME_FRESH };

typedef unsigned long long ull;

/* --- ends of a connection ---------------------------------------------------------------------------------------------------- */
static void import_clear(struct vmpair_session *s)
{
	struct chunk *c;

	while ((c = s->import_first)) {
		s->import_first = c->next;
		vmpair_release(s, c, sizeof(*c) + c->cap);
	}
	s->import_last = NULL;
	s->import_bytes = 0;
	s->import_end = s->import_told = s->import_ok = false;
}

/* What belongs to a connection is forgotten, what was held stays. */
static void link_forget(struct vmpair_session *s)
{
	if (s->role == VMPAIR_PRIMARY)
		vmpair_caught_set(s, false);
	if (s->link == LINK_SNAPSHOT || s->link == LINK_WAIT_IMPORT)
		vmpair_wipe(s);		/* half a table is none */
	s->link = LINK_DOWN;
	s->sending = s->snapping = s->export_due = false;
	s->cur = NULL;
	s->snap_walk = NULL;
	s->snap_number = 0;
	s->mark_set = s->confirmed = s->confirm_due = false;
	s->ev_need_member = s->ev_need_member && s->content == CONTENT_BROKEN && s->used;	/* not the connection's matter */
	s->ev_need_export = false;
	s->peer_epoch = 0;
	s->in_len = 0;
	import_clear(s);
}

void vmpair_link_reset(struct vmpair_session *s)
{
	link_forget(s);
	vmpair_ctl_clear(s);
}

void vmpair_link_lose(struct vmpair_session *s, const char *fmt, ...)
{
	va_list ap;

	if (s->link == LINK_DOWN || s->link == LINK_DEAD || s->link == LINK_REFUSED)
		return;
	va_start(ap, fmt);
	vsnprintf(s->reason, sizeof(s->reason), fmt, ap);
	va_end(ap);
	vmpair_link_reset(s);
	s->link = LINK_DEAD;
	s->ev_lost = true;
	s->count.lost++;
}

__attribute__((format(printf, 2, 3))) static int refuse(struct vmpair_session *s, const char *fmt, ...)
{
	struct vmpair_record rec = { .type = VMPAIR_REFUSE, .data = s->reason };
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(s->reason, sizeof(s->reason), fmt, ap);
	va_end(ap);
	link_forget(s);		/* what is queued still leaves: the first of it may have gone in part */
	rec.data_len = strlen(s->reason);
	vmpair_ctl_put(s, &rec);
	s->link = LINK_REFUSED;
	s->ev_refused = true;
	s->count.refused++;
	return 0;
}

int vmpair_session_link_up(struct vmpair_session *s, uint64_t now_ns, bool initiator)
{
	s->now_ns = now_ns;
	if (s->link != LINK_DOWN)
		return -EBUSY;
	if (s->role != (initiator ? VMPAIR_STANDBY : VMPAIR_PRIMARY))
		return -EPERM;
	s->heard_ns = s->sent_ns = s->progress_ns = now_ns;
	if (!initiator) {
		s->link = LINK_WAIT_HELLO;
		return 0;
	}
	s->link = LINK_WAIT_WELCOME;
	return vmpair_hello_send(s);
}

void vmpair_session_link_down(struct vmpair_session *s, const char *why)
{
	if (s->link != LINK_DEAD && s->link != LINK_REFUSED && s->link != LINK_DOWN)
		snprintf(s->reason, sizeof(s->reason), "%s", why ? why : "the connection is closed");
	vmpair_link_reset(s);
}

/* --- standby: handshake -------------------------------------------------------------------------------------------------------- */
int vmpair_hello_send(struct vmpair_session *s)
{
	uint8_t d[HELLO_LEN] = { 0 };
	bool known = s->content != CONTENT_BROKEN;
	struct vmpair_record rec = { .type = VMPAIR_HELLO, .number = known ? s->last : 0, .data = d, .data_len = sizeof(d) };

	put_le16(d, VMPAIR_SYNC_VERSION);
	d[2] = s->conf.kind;
	d[3] = (s->content == CONTENT_EMPTY && s->base_pristine ? HELLO_PRISTINE : 0) | (s->used ? 0 : HELLO_FRESH) |
	       (s->conf.can_import ? HELLO_CAN_IMPORT : 0);
	d[4] = s->conf.node;
	put_le64(d + 8, s->conf.pair);
	put_le64(d + 16, s->member);
	put_le64(d + 24, s->fence);
	put_le64(d + 32, known ? s->history : 0);
	put_le64(d + 40, known ? vmpair_epoch_at(s, s->last) : 0);
	s->link = LINK_WAIT_WELCOME;
	return vmpair_ctl_put(s, &rec);
}

static int on_welcome(struct vmpair_session *s, const struct vmpair_record *rec)
{
	const uint8_t *d = rec->data;
	uint64_t history;

	if (rec->data_len < 2 || get_le16(d) != VMPAIR_SYNC_VERSION)
		return refuse(s, "the primary speaks another version of the protocol, %u is spoken here", VMPAIR_SYNC_VERSION);
	if (rec->data_len != WELCOME_LEN || d[2] != s->conf.kind || d[3] > WELCOME_FRESH || !get_le64(d + 24))
		return -EPROTO;
	if (rec->epoch < s->fence && !BUG(s, OLD_WELCOME))
		return refuse(s, "the primary's epoch %llu is over: %llu is known here", (ull)rec->epoch, (ull)s->fence);
	if (get_le64(d + 16) != s->member)
		return refuse(s, "the stream continues another member");
	history = get_le64(d + 24);
	s->peer_node = d[4];
	s->peer_member = get_le64(d + 8);
	s->peer_epoch = rec->epoch;
	vmpair_session_fence(s, rec->epoch);
	switch (d[3]) {
	case WELCOME_RESUME:
		if (rec->number != s->last || (s->history && history != s->history) || s->content == CONTENT_BROKEN)
			return -EPROTO;
		s->history = history;
		s->content = CONTENT_WHOLE;
		s->used = true;
		s->link = LINK_STREAM;
		s->confirm_due = true;
		s->count.resumed++;
		return 0;
	case WELCOME_SNAPSHOT:
		if (s->used)
			return -EPROTO;
		vmpair_wipe(s);
		s->content = CONTENT_BROKEN;
		s->history = history;
		s->base_pristine = d[5];
		s->link = LINK_SNAPSHOT;
		s->count.snapshots++;
		return 0;
	default:
#ifdef VMPAIR_BUGS
		if (BUG(s, SAME_MEMBER)) {
			vmpair_wipe(s);
			s->used = false;
			return vmpair_hello_send(s);
		}
#endif
		s->link = LINK_WAIT_MEMBER;
		s->ev_need_member = true;
		snprintf(s->reason, sizeof(s->reason), "the primary cannot go on from record %llu of this member", (ull)s->last);
		return 0;
	}
}

/* --- primary: handshake, full resynchronisation -------------------------------------------------------------------------------- */
static int welcome(struct vmpair_session *s, enum welcome what, uint64_t number)
{
	uint8_t d[WELCOME_LEN] = { 0 };
	struct vmpair_record rec = { .type = VMPAIR_WELCOME, .epoch = s->epoch, .number = number, .data = d, .data_len = sizeof(d) };

	put_le16(d, VMPAIR_SYNC_VERSION);
	d[2] = s->conf.kind;
	d[3] = (uint8_t)what;
	d[4] = s->conf.node;
	d[5] = s->base_pristine;
	put_le64(d + 8, s->member);
	put_le64(d + 16, s->peer_hello);
	put_le64(d + 24, s->history);
	return vmpair_ctl_put(s, &rec);
}

static int put_pieces(struct vmpair_session *s, struct vmpair_record *rec, const uint8_t *data, size_t len, uint64_t at, uint8_t last_flags)
{
	int r;

	do {
		rec->data = data;
		rec->data_len = len < VMPAIR_DATA_MAX ? len : VMPAIR_DATA_MAX;
		rec->total = at;
		if (rec->data_len == len) {
			rec->flags |= last_flags;
			if (rec->type == VMPAIR_ANSWER && last_flags & VMPAIR_LAST)
				rec->total = at + len;
		}
		r = vmpair_ctl_put(s, rec);
		at += rec->data_len;
		data += rec->data_len;
		len -= rec->data_len;
		rec->flags = 0;
		rec->id_len = 0;
	} while (r == 0 && len);
	return r;
}

static int put_entry(struct vmpair_session *s, const struct entry *e)
{
	bool mirror = s->conf.kind == VMPAIR_MIRROR, stored = e->flags & VMPAIR_HAS_ID && !e->dropped_bytes;
	struct vmpair_record rec = { .type = VMPAIR_REQUEST, .flags = e->flags, .service = e->service, .seq = e->seq, .conn = e->conn_id,
				     .number = e->number, .id = e->blob, .id_len = e->id_len };
	uint8_t last = e->complete ? VMPAIR_LAST | (e->executed ? VMPAIR_IN_STATE : 0) : 0;
	uint64_t at = 0;
	int r;

	r = put_pieces(s, &rec, e->blob + e->id_len, e->len, 0, last);
	rec.type = VMPAIR_DISPATCHED;
	rec.data_len = rec.total = 0;
	if (r == 0 && e->dispatched)
		r = vmpair_ctl_put(s, &rec);
	rec.type = VMPAIR_ANSWER;
	for (const struct chunk *c = stored ? e->first : NULL; r == 0 && c; c = c->next) {
		r = put_pieces(s, &rec, c->data, c->len, at, 0);
		at += c->len;
	}
	rec.data_len = 0;
	rec.total = e->answer_len;
	if (r == 0 && !e->answered && !mirror && e->answer_number && at != e->answer_len)
		r = vmpair_ctl_put(s, &rec);	/* begun, but its bytes are not kept */
	if (r == 0 && e->answered) {
		rec.flags = VMPAIR_LAST | (stored ? VMPAIR_IN_STATE : 0);
		rec.digest = e->told_digest;
		rec.total = e->told_len;
		r = vmpair_ctl_put(s, &rec);
		rec.digest = 0;
	}
	rec.flags = 0;
	rec.total = 0;
	rec.type = VMPAIR_DONE;
	if (r == 0 && e->done)
		r = vmpair_ctl_put(s, &rec);
	return r;
}

static int put_close(struct vmpair_session *s, uint64_t conn)
{
	struct vmpair_record rec = { .type = VMPAIR_CLOSE, .conn = conn };

	return vmpair_ctl_put(s, &rec);
}

static int put_kept(struct vmpair_session *s)
{
	const struct entry *e = s->snap_walk;
	const struct conn *c = vmpair_conn_find(s, e->conn_id);
	int r = put_entry(s, e);

	if (r == 0 && (!c || c->closed))
		r = put_close(s, e->conn_id);
	s->snap_walk = e->next;
	s->snap_ahead -= s->snap_ahead > 0;
	return r;
}

static int put_conns(struct vmpair_session *s)
{
	int r = 0;

	for (size_t i = 0; i < s->conn_size && r == 0; i++) {
		for (const struct conn *c = s->of_conn_table[i]; c && r == 0; c = c->hash_next) {
			struct vmpair_record rec = { .type = VMPAIR_OPEN, .service = c->service, .conn = c->id, .data = c->data,
						     .data_len = c->data_len };

			if (!c->closed && c->data)
				r = vmpair_ctl_put(s, &rec);
		}
	}
	return r;
}

/* What is not finished, as it is now, behind what is kept for repeats: that does not change any more, so it may have been sent before. */
static int put_table(struct vmpair_session *s)
{
	const struct entry *e;
	int r = 0;

	while (s->snap_walk && r == 0)
		r = put_kept(s);
	s->snapping = false;
	r = r < 0 ? r : put_conns(s);
	for (e = s->list[LIST_LIVE].first; e && r == 0; e = e->next)
		r = put_entry(s, e);
	for (e = s->list[LIST_PARTIAL].first; e && r == 0; e = e->next)
		r = put_entry(s, e);
	for (e = s->list[LIST_LIVE].first; e && r == 0; e = e->next) {
		if (e->conn->closed && !e->conn->mark) {
			e->conn->mark = true;
			r = put_close(s, e->conn_id);
		}
	}
	for (e = s->list[LIST_LIVE].first; e; e = e->next)
		e->conn->mark = false;
	s->snap_number = s->last;
	return r;
}

/* Behind table and state: from here on records. */
static int put_end(struct vmpair_session *s)
{
	uint8_t d[EPOCHS_MAX * 16];
	struct vmpair_record rec = { .type = VMPAIR_SNAPSHOT_END, .epoch = s->epoch, .number = s->snap_number, .data = d };

	for (unsigned int i = 0; i < s->n_epochs && s->epochs[i].first <= s->snap_number; i++) {
		put_le64(d + rec.data_len, s->epochs[i].epoch);
		put_le64(d + rec.data_len + 8, s->epochs[i].first);
		rec.data_len += 16;
	}
	if (vmpair_ctl_put(s, &rec) < 0)
		return -ENOMEM;
	s->link = LINK_STREAM;
	vmpair_stream_seek(s, s->snap_number);
	s->progress_ns = s->now_ns;
	return 0;
}

static void peer_set(struct vmpair_session *s, uint8_t node, uint64_t member, uint64_t held)
{
	s->peer_node = node;
	s->peer_member = member;
	s->held = held;
	s->mark_set = s->confirmed = false;
	s->progress_ns = s->now_ns;
}

static int on_hello(struct vmpair_session *s, const struct vmpair_record *rec)
{
	const uint8_t *d = rec->data;
	uint64_t member, history, position, number = rec->number;
	bool resume;
	uint8_t flags;

	if (rec->data_len < 2 || get_le16(d) != VMPAIR_SYNC_VERSION)
		return refuse(s, "the standby speaks another version of the protocol, %u is spoken here", VMPAIR_SYNC_VERSION);
	if (rec->data_len != HELLO_LEN)
		return -EPROTO;
	flags = d[3];
	member = get_le64(d + 16);
	history = get_le64(d + 32);
	position = get_le64(d + 40);
	if (!member || !d[4] || flags & ~(HELLO_PRISTINE | HELLO_FRESH | HELLO_CAN_IMPORT) || (!history && number))
		return -EPROTO;
	if (get_le64(d + 8) != s->conf.pair)
		return refuse(s, "a member of another pair");
	if (d[2] != s->conf.kind)
		return refuse(s, "the standby is set to sync=%s, this member to sync=%s", d[2] == VMPAIR_MIRROR ? "mirror" : "journal",
			      s->conf.kind == VMPAIR_MIRROR ? "mirror" : "journal");
	if (d[4] == s->conf.node || member == s->member)
		return refuse(s, "node %u, member %llx: that is this member itself", d[4], (ull)member);
	if (get_le64(d + 24) > s->epoch)
		return refuse(s, "the standby knows epoch %llu, this primary's is %llu", (ull)get_le64(d + 24), (ull)s->epoch);
	resume = history == s->history && number <= s->last && number + 1 >= s->buffered &&
		 (vmpair_epoch_at(s, number) == position || BUG(s, NO_LOG_MATCHING));
	if (!history)	/* nothing at all: as good as record 0, if that is where both began */
		resume = s->buffered == 1 && (s->conf.kind == VMPAIR_JOURNAL || (flags & HELLO_PRISTINE && s->base_pristine));
	if (resume && member == s->peer_member && number < s->held)
		return refuse(s, "the standby has lost records it had confirmed: %llu is left of %llu", (ull)number, (ull)s->held);
	s->peer_hello = member;
	if (resume) {
		peer_set(s, d[4], member, number);
		if (welcome(s, WELCOME_RESUME, number) < 0)
			return -ENOMEM;
		s->link = LINK_STREAM;
		vmpair_stream_seek(s, number);
		s->count.resumed++;
		return 0;
	}
	if (s->conf.kind == VMPAIR_MIRROR && (!s->conf.can_export || !(flags & HELLO_CAN_IMPORT)))
		return refuse(s, "a new standby of sync=mirror needs export and import, %s has none",
			      s->conf.can_export ? "the standby" : "the primary");
	if (!(flags & HELLO_FRESH))
		return welcome(s, WELCOME_FRESH, 0);
	peer_set(s, d[4], member, 0);
	if (welcome(s, WELCOME_SNAPSHOT, 0) < 0)
		return -ENOMEM;
	s->count.snapshots++;
	s->snapping = true;
	s->snap_walk = s->list[LIST_KEPT].first;
	s->link = LINK_TABLE;
	if (s->conf.kind == VMPAIR_MIRROR) {
		s->link = LINK_WAIT_EXPORT;
		s->snap_ahead = s->list[LIST_KEPT].n;
		s->export_due = true;
	}
	return 0;
}

/*
 * Goes on with the table, a little at a time. The caller holds up its application from NEED_EXPORT on, and the rest of the table is queued at
 * once then: so what is kept for repeats, most of the table, has been sent by then.
 */
static void table_send(struct vmpair_session *s)
{
	int r = 0;

	while (s->snap_walk && s->ctl_bytes < TABLE_AHEAD && r == 0) {
		r = put_kept(s);
		s->progress_ns = s->now_ns;
	}
	if (s->export_due && (!s->snap_walk || !s->snap_ahead)) {
		s->export_due = false;
		s->ev_need_export = true;
	}
	if (r == 0 && !s->snap_walk && s->link == LINK_TABLE) {
		r = put_table(s);
		if (r == 0)
			r = put_end(s);
	}
	if (r < 0)
		vmpair_link_lose(s, "out of memory");
}

int vmpair_session_export_start(struct vmpair_session *s)
{
	if (s->link != LINK_WAIT_EXPORT)
		return -ENOENT;
	for (const struct entry *e = s->list[LIST_LIVE].first; e; e = e->next) {
		if (e->given && !e->executed)
			return -EBUSY;
	}
	if (put_table(s) < 0) {
		vmpair_link_lose(s, "out of memory");
		return -ENOENT;
	}
	s->link = LINK_EXPORT;
	return 0;
}

int vmpair_session_export(struct vmpair_session *s, const void *data, size_t len, bool last)
{
	struct vmpair_record rec = { .type = VMPAIR_SNAPSHOT };

	if (s->link != LINK_EXPORT)
		return -ENOENT;
	if (s->ctl_bytes > IMPORT_QUEUE)
		return -ENOBUFS;
	if (put_pieces(s, &rec, data, len, 0, last ? VMPAIR_LAST : 0) < 0 || (last && put_end(s) < 0)) {
		vmpair_link_lose(s, "out of memory");
		return -ENOENT;
	}
	s->progress_ns = s->now_ns;
	return 0;
}

void vmpair_session_export_failed(struct vmpair_session *s, const char *why)
{
	if (s->link == LINK_WAIT_EXPORT || s->link == LINK_EXPORT)
		refuse(s, "the application's state cannot be exported: %s", why);
}

static int on_confirm(struct vmpair_session *s, uint64_t number)
{
	if (number > s->last || number < s->held || number < s->snap_number)
		return -EPROTO;
	if (number > s->held || !s->confirmed)
		s->progress_ns = s->now_ns;
	s->held = number;
	s->confirmed = true;
	s->count.confirmed++;
	if (s->stream_bytes > s->conf.resume_bytes)
		vmpair_stream_trim(s, vmpair_trim_limit(s), s->conf.resume_bytes);
	vmpair_caught_check(s);
	return 0;
}

/* --- standby: records ------------------------------------------------------------------------------------------------------------- */
static int apply_answer(struct vmpair_session *s, struct entry *e, const struct vmpair_record *rec)
{
	bool last = rec->flags & VMPAIR_LAST, snapshot = s->link == LINK_SNAPSHOT;
	uint64_t at;

	if (e->answered)
		return -EPROTO;
	e->answer_number = rec->number;
	if (s->conf.kind == VMPAIR_MIRROR) {
		if ((!last || rec->data_len) && !snapshot)
			return -EPROTO;
		if (rec->data_len) {
			vmpair_table_store(s, e, rec->data, rec->data_len);
			e->answer_len += rec->data_len;
		}
		if (last && snapshot && !(rec->flags & VMPAIR_IN_STATE) && e->executed)
			e->dropped_bytes = true;
	} else {
		at = last ? rec->total - rec->data_len : rec->total;
		if (rec->data_len && (at != e->answer_len || !(e->flags & VMPAIR_HAS_ID)))
			return -EPROTO;
		if (rec->data_len)
			vmpair_table_store(s, e, rec->data, rec->data_len);
		else if (at != e->answer_len && e->flags & VMPAIR_HAS_ID)
			e->dropped_bytes = true;	/* the primary had not kept it either */
		e->answer_len = at + rec->data_len;
	}
	if (last)
		vmpair_table_answered(s, e, rec->digest, rec->total);
	return 0;
}

static int apply_drop(struct vmpair_session *s, struct entry *e)
{
	if (e->given) {		/* executed here, but not by the primary: the two states differ now */
		s->count.diverged++;
		if (s->n_diverged < DIVERGED_RING)
			s->diverged[s->n_diverged++] = (struct diverged){ e->conn_id, e->number, e->seq };
	}
	vmpair_table_forget(s, e);
	return 0;
}

static int apply_table(struct vmpair_session *s, const struct vmpair_record *rec)
{
	struct conn *c;
	struct entry *e;
	int r;

	switch (rec->type) {
	case VMPAIR_OPEN:
		/* in a table, what is kept of a connection may have come before it */
		if (rec->data_len > VMPAIR_OPEN_MAX || (s->link != LINK_SNAPSHOT && vmpair_conn_find(s, rec->conn)))
			return -EPROTO;
		return vmpair_conn_open(s, rec);
	case VMPAIR_REQUEST:
		c = vmpair_conn_find(s, rec->conn);
		if ((c && c->closed && !vmpair_entry_find(s, rec->conn, rec->seq)) || !(rec->flags & VMPAIR_HAS_ID) != !rec->id_len ||
		    (rec->flags & VMPAIR_IN_STATE && s->link != LINK_SNAPSHOT))
			return -EPROTO;
		r = vmpair_table_request(s, rec);
		return r == -EEXIST ? -EPROTO : r;
	case VMPAIR_CLOSE:
		c = vmpair_conn_find(s, rec->conn);
		if (c && !c->closed)
			vmpair_table_close(s, c);
		return 0;
	default:
		break;
	}
	e = vmpair_entry_find(s, rec->conn, rec->seq);
	if (!e || (!e->complete && rec->type != VMPAIR_DROP))
		return -EPROTO;
	switch (rec->type) {
	case VMPAIR_DISPATCHED:
		if (e->answered || s->conf.kind == VMPAIR_MIRROR)
			return -EPROTO;
		vmpair_table_dispatched(s, e);
		return 0;
	case VMPAIR_ANSWER:
		return apply_answer(s, e, rec);
	case VMPAIR_DONE:
		if (!e->answered)
			return -EPROTO;
		vmpair_table_done(s, e);
		return 0;
	default:
		return e->answered ? -EPROTO : apply_drop(s, e);
	}
}

static int apply(struct vmpair_session *s, const struct vmpair_record *rec)
{
	uint64_t newest = s->n_epochs ? s->epochs[s->n_epochs - 1].epoch : 0;
	int r;

	if (rec->number != s->last + 1) {
		vmpair_link_lose(s, "record %llu came where %llu was due", (ull)rec->number, (ull)s->last + 1);
		return -EPROTO;
	}
	if (rec->type == VMPAIR_START) {
		if (rec->epoch > s->peer_epoch && !(rec->flags & VMPAIR_SAME))
			return -EPROTO;
		r = vmpair_epoch_add(s, rec->epoch, rec->number);
		if (r < 0)
			return r;
		if (rec->epoch > s->peer_epoch) {
			s->peer_epoch = rec->epoch;
			vmpair_session_fence(s, rec->epoch);
		}
		if (!(rec->flags & VMPAIR_SAME))
			vmpair_table_start(s);
	} else {
		if (rec->epoch != newest)
			return -EPROTO;
		r = apply_table(s, rec);
		if (r < 0)
			return r;
	}
	s->last = rec->number;
	s->count.records_taken++;
	s->confirm_due = true;
	vmpair_make_room(s, 0, s->conf.buffer_bytes);
	return 0;
}

static int on_snapshot(struct vmpair_session *s, const struct vmpair_record *rec)
{
	struct chunk *c;

	if (s->conf.kind != VMPAIR_MIRROR || s->import_end)
		return -EPROTO;
	c = vmpair_alloc(s, sizeof(*c) + rec->data_len);
	if (!c)
		return -ENOMEM;
	c->next = NULL;
	c->len = c->cap = rec->data_len;
	if (rec->data_len)
		memcpy(c->data, rec->data, rec->data_len);
	if (s->import_last)
		s->import_last->next = c;
	else
		s->import_first = c;
	s->import_last = c;
	s->import_bytes += c->len;
	s->import_end = rec->flags & VMPAIR_LAST;
	return 0;
}

static void whole(struct vmpair_session *s)
{
	s->content = CONTENT_WHOLE;
	s->used = true;
	s->link = LINK_STREAM;
	s->confirm_due = true;
}

static int on_snapshot_end(struct vmpair_session *s, const struct vmpair_record *rec)
{
	const uint8_t *d = rec->data;
	bool mirror = s->conf.kind == VMPAIR_MIRROR;

	if (rec->data_len % 16 || !rec->data_len || rec->data_len / 16 > EPOCHS_MAX || mirror != s->import_end)
		return -EPROTO;
	for (size_t i = 0; i < rec->data_len; i += 16) {
		if (vmpair_epoch_add(s, get_le64(d + i), get_le64(d + i + 8)) < 0)
			return -EPROTO;
	}
	if (rec->epoch > s->peer_epoch) {	/* raised by the same primary meanwhile */
		s->peer_epoch = rec->epoch;
		vmpair_session_fence(s, rec->epoch);
	}
	if (s->epochs[s->n_epochs - 1].first > rec->number || s->epochs[s->n_epochs - 1].epoch > s->peer_epoch ||
	    (s->list[LIST_LIVE].last && s->list[LIST_LIVE].last->number > rec->number))
		return -EPROTO;
	s->last = rec->number;
	s->buffered = s->last + 1;
	if (!mirror || s->import_ok)
		whole(s);
	else
		s->link = LINK_WAIT_IMPORT;
	return 0;
}

int vmpair_session_imported(struct vmpair_session *s, uint64_t now_ns, bool ok)
{
	s->now_ns = now_ns;
	if ((s->link != LINK_SNAPSHOT && s->link != LINK_WAIT_IMPORT) || !s->import_end)
		return -ENOENT;
	if (!ok) {
		vmpair_link_lose(s, "the application did not take the state of the primary");
		return 0;
	}
	if (s->link == LINK_WAIT_IMPORT)
		whole(s);
	else
		s->import_ok = true;
	return 0;
}

/* --- bytes in ----------------------------------------------------------------------------------------------------------------------- */
static int on_record(struct vmpair_session *s, const struct vmpair_record *rec)
{
	if (rec->type == VMPAIR_PING)
		return 0;
	if (rec->type == VMPAIR_REFUSE && s->link != LINK_REFUSED) {
		size_t n = rec->data_len < sizeof(s->reason) - 1 ? rec->data_len : sizeof(s->reason) - 1;

		memcpy(s->reason, rec->data, n);
		s->reason[n] = 0;
		for (char *p = s->reason; *p; p++)
			*p = *p < ' ' || *p > '~' ? '?' : *p;
		vmpair_link_reset(s);
		s->link = LINK_REFUSED;
		s->ev_refused = true;
		s->count.refused++;
		return 0;
	}
	if (s->role == VMPAIR_PRIMARY) {
		if (s->link == LINK_WAIT_HELLO && rec->type == VMPAIR_HELLO)
			return on_hello(s, rec);
		if (s->link == LINK_STREAM && rec->type == VMPAIR_CONFIRM)
			return on_confirm(s, rec->number);
		return -EPROTO;
	}
	switch (s->link) {
	case LINK_WAIT_WELCOME:
		return rec->type == VMPAIR_WELCOME ? on_welcome(s, rec) : -EPROTO;
	case LINK_SNAPSHOT:
		if (rec->type == VMPAIR_SNAPSHOT)
			return on_snapshot(s, rec);
		if (rec->type == VMPAIR_SNAPSHOT_END)
			return on_snapshot_end(s, rec);
		if (rec->type <= VMPAIR_START || rec->type > VMPAIR_CLOSE || rec->type == VMPAIR_DROP || s->import_first || s->import_end)
			return -EPROTO;
		return apply_table(s, rec);
	case LINK_STREAM:
	case LINK_WAIT_IMPORT:
		return rec->type <= VMPAIR_CLOSE ? apply(s, rec) : -EPROTO;
	default:
		return -EPROTO;
	}
}

static int record_in(struct vmpair_session *s, const struct vmpair_record *rec)
{
	int r = on_record(s, rec);

	if (r == -ENOMEM)
		vmpair_link_lose(s, "out of memory");
	else if (r < 0)
		vmpair_link_lose(s, "the other member sent a %s record that does not fit here", vmpair_record_name(rec->type));
	return r;
}

/* Bytes that complete a record are gathered until it is whole. Returns how many were taken, or an error. */
static ssize_t gather(struct vmpair_session *s, const uint8_t *p, size_t len)
{
	size_t want = s->in_len < 4 ? 4 : get_le32(s->in), n = want - s->in_len < len ? want - s->in_len : len;
	uint8_t *q;

	if (s->in_cap < want) {
		q = realloc(s->in, want < 4096 ? 4096 : want);
		if (!q)
			return -ENOMEM;
		s->in = q;
		s->in_cap = want < 4096 ? 4096 : want;
	}
	memcpy(s->in + s->in_len, p, n);
	s->in_len += n;
	return (ssize_t)n;
}

int vmpair_session_input(struct vmpair_session *s, uint64_t now_ns, const void *buf, size_t len)
{
	const uint8_t *p = buf;
	struct vmpair_record rec;

	s->now_ns = now_ns;
	if (s->link == LINK_DOWN || s->link == LINK_DEAD)
		return -EPROTO;
	s->heard_ns = now_ns;
	while (len || s->in_len) {
		int used, r;

		if (s->link == LINK_REFUSED)
			return 0;
		if (s->in_len) {
			ssize_t n = gather(s, p, len);

			if (n < 0) {
				vmpair_link_lose(s, "out of memory");
				return -ENOMEM;
			}
			p += n;
			len -= (size_t)n;
			used = vmpair_record_decode(s->in, s->in_len, &rec);
			if (used == 0 && len == 0)
				return 0;
			if (used > 0)
				s->in_len = 0;
		} else {
			used = vmpair_record_decode(p, len, &rec);
			if (used == 0) {
				/* At least four bytes are wanted before the length is known; then the rest. */
				do {
					ssize_t n = gather(s, p, len);

					if (n < 0) {
						vmpair_link_lose(s, "out of memory");
						return -ENOMEM;
					}
					p += n;
					len -= (size_t)n;
				} while (len);
				return 0;
			}
			if (used > 0) {
				p += used;
				len -= (size_t)used;
			}
		}
		if (used < 0) {
			vmpair_link_lose(s, "what came in is no record");
			return -EPROTO;
		}
		if (used == 0)
			continue;
		r = record_in(s, &rec);
		if (r < 0)
			return r == -ENOMEM ? r : -EPROTO;
		if (s->link == LINK_DEAD)
			return -EPROTO;
	}
	return 0;
}

bool vmpair_session_wants_input(const struct vmpair_session *s)
{
	if (s->link == LINK_SNAPSHOT)
		return s->import_bytes < IMPORT_QUEUE;
	/*
	 * What is to be executed here goes away by itself. What is executed waits for the primary's answer, which has to be read; what is kept
	 * for repeats makes room; a journal's table is bounded by the primary's.
	 */
	return !(s->role == VMPAIR_STANDBY && s->n_unexecuted && s->mem - s->kept_mem > s->conf.buffer_bytes);
}

/* --- bytes out ---------------------------------------------------------------------------------------------------------------------- */
static bool confirms(const struct vmpair_session *s)
{
	return s->role == VMPAIR_STANDBY && s->confirm_due &&
	       (s->link == LINK_STREAM || (s->link == LINK_WAIT_IMPORT && BUG(s, IMPORT_UNPROVEN)));
}

size_t vmpair_session_output(struct vmpair_session *s, const void **ret)
{
	if (s->link == LINK_DOWN || s->link == LINK_DEAD)
		return 0;
	if (s->snapping && s->ctl_bytes < TABLE_AHEAD)
		table_send(s);
	if (confirms(s) && !s->ctl_bytes) {
		struct vmpair_record rec = { .type = VMPAIR_CONFIRM, .number = s->last + (BUG(s, CONFIRM_EARLY) && s->in_len ? 1 : 0) };

		if (vmpair_ctl_put(s, &rec) == 0)
			s->confirm_due = false;
	}
	if (s->link == LINK_DEAD)
		return 0;
	if (!vmpair_stream_between(s))
		return vmpair_stream_out(s, s->ctl_bytes, ret);
	if (s->ctl_bytes) {
		while (s->ctl_first->used == s->ctl_off) {	/* the last one stays, so that a quiet connection allocates nothing */
			struct seg *g = s->ctl_first;

			s->ctl_first = g->next;
			vmpair_release(s, g, sizeof(*g) + g->cap);
			s->ctl_off = 0;
		}
		*ret = s->ctl_first->data + s->ctl_off;
		return s->ctl_first->used - s->ctl_off;
	}
	return vmpair_stream_out(s, false, ret);
}

void vmpair_session_output_done(struct vmpair_session *s, uint64_t now_ns, size_t len)
{
	if (!len)
		return;
	s->now_ns = s->sent_ns = now_ns;
	if (s->ctl_bytes && vmpair_stream_between(s)) {
		if (s->role == VMPAIR_PRIMARY && s->ctl_bytes > TABLE_AHEAD)
			s->progress_ns = now_ns;	/* a table or a state leaves */
		s->ctl_off += len;
		s->ctl_bytes -= len;
		if (!s->ctl_bytes && s->ctl_first == s->ctl_last)
			s->ctl_first->used = s->ctl_off = 0;
	} else {
		vmpair_stream_out_done(s, len);
	}
}

/* --- time ----------------------------------------------------------------------------------------------------------------------------- */
static bool stalled(const struct vmpair_session *s)
{
	if (s->role != VMPAIR_PRIMARY)
		return false;
	if (s->link == LINK_STREAM && s->confirmed)
		return s->held < s->last;
	/* A full resynchronisation may take its time, unless clients have to wait for it. */
	return s->want_room && s->mode == VMPAIR_MODE_ALONE && (s->link == LINK_STREAM || s->link == LINK_EXPORT || s->link == LINK_WAIT_EXPORT || s->link == LINK_TABLE);
}

static bool alive(const struct vmpair_session *s)
{
	return s->link != LINK_DOWN && s->link != LINK_DEAD && s->link != LINK_REFUSED;
}

uint64_t vmpair_session_deadline(const struct vmpair_session *s)
{
	uint64_t t = VMPAIR_NEVER, x;

	if (s->list[LIST_KEPT].first)
		t = s->list[LIST_KEPT].first->done_ns + s->conf.keep_ns;
	if (!alive(s))
		return t;
	x = s->heard_ns + s->conf.peer_timeout_ns;
	t = x < t ? x : t;
	if (!s->ctl_bytes && !s->cur) {
		x = s->sent_ns + s->conf.ping_ns;
		t = x < t ? x : t;
	}
	if (stalled(s)) {
		x = s->progress_ns + s->conf.stall_ns;
		t = x < t ? x : t;
	}
	return t;
}

void vmpair_session_tick(struct vmpair_session *s, uint64_t now_ns)
{
	uint64_t due = vmpair_session_deadline(s);
	struct entry *e;

	s->now_ns = now_ns;
	while ((e = s->list[LIST_KEPT].first) && now_ns - e->done_ns >= s->conf.keep_ns)
		vmpair_table_forget(s, e);
	if (!alive(s))
		return;
	/* Late ourselves: what the other sent may still lie in the socket. */
	if (now_ns > due && now_ns - due > s->conf.peer_timeout_ns / 4)
		s->heard_ns = s->progress_ns = now_ns;
	if (!vmpair_session_wants_input(s))
		s->heard_ns = now_ns;
	if (now_ns - s->heard_ns >= s->conf.peer_timeout_ns) {
		vmpair_link_lose(s, "nothing was heard for %llu ms", (ull)((now_ns - s->heard_ns) / 1000000));
		return;
	}
	if (stalled(s) && now_ns - s->progress_ns >= s->conf.stall_ns) {
		vmpair_link_lose(s, "the standby takes no records: %llu of %llu for %llu ms", (ull)s->held, (ull)s->last,
				 (ull)((now_ns - s->progress_ns) / 1000000));
		return;
	}
	if (!s->ctl_bytes && !s->cur && now_ns - s->sent_ns >= s->conf.ping_ns) {
		struct vmpair_record rec = { .type = VMPAIR_PING };

		vmpair_ctl_put(s, &rec);
	}
}
