/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Two sessions with a connection between them that carries bytes in pieces of any size. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "vmpair/sync.h"

#define MS 1000000ull

static uint64_t now = 1000 * MS;

struct end {
	struct vmpair_session *s;
	bool caught, need_member, need_export, refused, lost, execute, room;
	unsigned int n_caught_on, n_diverged;
	uint64_t caught_op, caught_member;
	char state[1 << 17];	/* imported */
	size_t state_len;
	bool state_last;
};

struct world {
	struct end e[2];
	size_t piece;		/* how much the connection takes at once, 0: all */
	bool up;
};

static struct vmpair_session_conf conf_of(unsigned int i, unsigned int kind)
{
	return (struct vmpair_session_conf){ .pair = 5, .member = 100 + i, .random = 0x1111 + i, .node = (uint8_t)(i + 1), .kind = (uint8_t)kind,
					     .pristine = true, .can_export = true, .can_import = true };
}

static struct world *world_new(unsigned int kind)
{
	struct world *w = calloc(1, sizeof(*w));

	for (unsigned int i = 0; i < 2; i++) {
		struct vmpair_session_conf c = conf_of(i, kind);

		assert_int_equal(vmpair_session_new(&w->e[i].s, &c), 0);
	}
	return w;
}

static void world_free(struct world *w)
{
	vmpair_session_free(w->e[0].s);
	vmpair_session_free(w->e[1].s);
	free(w);
}

static void events(struct end *e)
{
	struct vmpair_event ev;

	while (vmpair_session_next_event(e->s, &ev)) {
		switch (ev.type) {
		case VMPAIR_EV_CAUGHT:
			if (ev.op)
				e->caught_op = ev.op;
			else
				e->caught = ev.on;
			e->n_caught_on += ev.on && !ev.op;
			e->caught_member = ev.member;
			break;
		case VMPAIR_EV_NEED_MEMBER: e->need_member = true; break;
		case VMPAIR_EV_NEED_EXPORT: e->need_export = true; break;
		case VMPAIR_EV_REFUSED: e->refused = true; break;
		case VMPAIR_EV_LINK_LOST: e->lost = true; break;
		case VMPAIR_EV_EXECUTE: e->execute = true; break;
		case VMPAIR_EV_ROOM: e->room = true; break;
		case VMPAIR_EV_DIVERGED: e->n_diverged++; break;
		case VMPAIR_EV_IMPORT:
			assert_true(e->state_len + ev.len <= sizeof(e->state));
			if (ev.len)
				memcpy(e->state + e->state_len, ev.data, ev.len);
			e->state_len += ev.len;
			e->state_last = ev.last;
			break;
		default: break;
		}
	}
}

/* Moves at most `limit` bytes from a to b; true when something moved. */
static bool move(struct world *w, unsigned int from, size_t limit)
{
	const void *p;
	size_t n = vmpair_session_output(w->e[from].s, &p);
	char *copy;

	if (!n)
		return false;
	if (n > limit)
		n = limit;
	copy = malloc(n);	/* of its own, so that reading too far shows */
	memcpy(copy, p, n);
	vmpair_session_output_done(w->e[from].s, now, n);
	vmpair_session_input(w->e[!from].s, now, copy, n);
	free(copy);
	return true;
}

static void pump(struct world *w)
{
	bool a, b;

	do {
		a = move(w, 0, w->piece ? w->piece : SIZE_MAX);
		b = move(w, 1, w->piece ? w->piece : SIZE_MAX);
		events(&w->e[0]);
		events(&w->e[1]);
	} while (w->up && (a || b));
}

/* The standby is `from`. */
static void join(struct world *w, unsigned int from)
{
	vmpair_session_link_down(w->e[0].s, NULL);
	vmpair_session_link_down(w->e[1].s, NULL);
	for (unsigned int i = 0; i < 2; i++) {
		events(&w->e[i]);
		w->e[i].lost = w->e[i].refused = w->e[i].need_member = w->e[i].need_export = false;
	}
	assert_int_equal(vmpair_session_link_up(w->e[!from].s, now, false), 0);
	assert_int_equal(vmpair_session_link_up(w->e[from].s, now, true), 0);
	w->up = true;
	pump(w);
}

static void cut(struct world *w)
{
	vmpair_session_link_down(w->e[0].s, "cut");
	vmpair_session_link_down(w->e[1].s, "cut");
	w->up = false;
	events(&w->e[0]);
	events(&w->e[1]);
}

static struct vmpair_info info(const struct world *w, unsigned int i)
{
	struct vmpair_info r;

	vmpair_session_info(w->e[i].s, &r);
	return r;
}

static uint64_t request(struct world *w, unsigned int i, uint64_t conn, uint32_t seq, const char *id, const char *data)
{
	struct vmpair_request r = { .conn = conn, .seq = seq, .flags = VMPAIR_LAST | (id ? VMPAIR_HAS_ID : 0), .id = id,
				    .id_len = id ? strlen(id) : 0, .data = data, .len = strlen(data) };
	uint64_t number = 0;

	assert_int_equal(vmpair_session_request(w->e[i].s, now, &r, &number), 0);
	return number;
}

static uint64_t answer(struct world *w, unsigned int i, uint64_t conn, uint32_t seq, const char *data)
{
	uint64_t number = 0;

	assert_int_equal(vmpair_session_answer(w->e[i].s, now, conn, seq, data, strlen(data), VMPAIR_LAST, &number), 0);
	return number;
}

static void dispatch(struct world *w, unsigned int i, uint64_t conn, uint32_t seq)
{
	assert_int_equal(vmpair_session_dispatched(w->e[i].s, conn, seq, NULL), 0);
}

/* 0 is primary and in sync with 1. */
static struct world *pair_in_sync(unsigned int kind, size_t piece)
{
	struct world *w = world_new(kind);

	w->piece = piece;
	assert_int_equal(vmpair_session_primary(w->e[0].s, now, 257), 1);
	assert_int_equal(vmpair_session_standby(w->e[1].s, now, 257), 0);
	vmpair_session_mode(w->e[0].s, VMPAIR_MODE_ALONE, 0, 0, 0);
	join(w, 1);
	assert_true(w->e[0].caught);
	assert_int_equal(w->e[0].caught_member, 101);
	vmpair_session_mode(w->e[0].s, VMPAIR_MODE_WAIT, 9, 0, 0);
	pump(w);
	assert_int_equal(w->e[0].caught_op, 9);
	vmpair_session_mode(w->e[0].s, VMPAIR_MODE_SYNC, 0, 2, 101);
	return w;
}

static void takeover(struct world *w, unsigned int to, uint64_t epoch)
{
	cut(w);
	vmpair_session_fence(w->e[to].s, epoch);
	assert_int_equal(vmpair_session_primary(w->e[to].s, now, epoch), 0);
	vmpair_session_mode(w->e[to].s, VMPAIR_MODE_ALONE, 0, 0, 0);
}

static bool stored_is(struct world *w, unsigned int i, const char *id, const char *want)
{
	struct vmpair_entry e;
	char got[4096];
	size_t have = 0, n;
	const void *p;

	if (vmpair_session_find(w->e[i].s, 0, id, strlen(id), &e) < 0)
		return false;
	while (vmpair_session_stored(w->e[i].s, e.conn, e.seq, have, &p, &n) == 0 && n) {
		memcpy(got + have, p, n);
		have += n;
	}
	return have == strlen(want) && !memcmp(got, want, have) && e.answer_len == have;
}

/* --- output commit ------------------------------------------------------------------------------------------------------------- */
static void test_output_commit(void **state)
{
	struct world *w = pair_in_sync(VMPAIR_JOURNAL, 1);
	uint64_t k;

	(void)state;
	request(w, 0, 1, 1, NULL, "GET");
	dispatch(w, 0, 1, 1);
	k = answer(w, 0, 1, 1, "200");
	assert_false(vmpair_session_may_leave(w->e[0].s, k));
	while (!vmpair_session_may_leave(w->e[0].s, k)) {
		assert_true(info(w, 1).number < k || info(w, 0).held < k);
		bool moved = move(w, 0, 1);

		moved |= move(w, 1, 1);
		assert_true(moved);
	}
	assert_true(info(w, 1).number >= k);
	vmpair_session_mode(w->e[0].s, VMPAIR_MODE_WAIT, 0, 0, 0);
	assert_false(vmpair_session_may_leave(w->e[0].s, k));
	vmpair_session_mode(w->e[0].s, VMPAIR_MODE_SYNC, 0, 2, 999);	/* another member is on record */
	assert_false(vmpair_session_may_leave(w->e[0].s, k));
	vmpair_session_mode(w->e[0].s, VMPAIR_MODE_ALONE, 0, 0, 0);
	assert_true(vmpair_session_may_leave(w->e[0].s, k));
	assert_int_equal(vmpair_session_done(w->e[0].s, now, 1, 1), 0);
	pump(w);
	assert_int_equal(info(w, 0).entries, 0);
	assert_int_equal(info(w, 1).entries, 0);
	world_free(w);
}

static void test_caught_counts_what_was_recorded(void **state)
{
	struct world *w = pair_in_sync(VMPAIR_JOURNAL, 0);

	(void)state;
	vmpair_session_mode(w->e[0].s, VMPAIR_MODE_ALONE, 0, 0, 0);
	request(w, 0, 1, 1, NULL, "GET");
	vmpair_session_mode(w->e[0].s, VMPAIR_MODE_WAIT, 10, 0, 0);
	events(&w->e[0]);
	assert_int_equal(w->e[0].caught_op, 9);		/* not yet */
	pump(w);
	assert_int_equal(w->e[0].caught_op, 10);
	cut(w);
	assert_false(w->e[0].caught);
	world_free(w);
}

/* --- takeover, journal ---------------------------------------------------------------------------------------------------------- */
static void test_journal_takeover(void **state)
{
	struct world *w = pair_in_sync(VMPAIR_JOURNAL, 7);
	struct vmpair_request part = { .conn = 4, .seq = 1, .data = "half", .len = 4 };
	struct vmpair_entry e;
	uint64_t cursor = 0;

	(void)state;
	request(w, 0, 1, 1, "received", "a");
	request(w, 0, 2, 1, "dispatched", "b");
	dispatch(w, 0, 2, 1);
	request(w, 0, 3, 1, "answered", "c");
	dispatch(w, 0, 3, 1);
	answer(w, 0, 3, 1, "the answer");
	assert_int_equal(vmpair_session_request(w->e[0].s, now, &part, NULL), 0);
	request(w, 0, 5, 1, "done", "d");
	dispatch(w, 0, 5, 1);
	answer(w, 0, 5, 1, "done answer");
	vmpair_session_done(w->e[0].s, now, 5, 1);
	request(w, 0, 6, 1, NULL, "no id");
	dispatch(w, 0, 6, 1);
	answer(w, 0, 6, 1, "nobody can ask for this again");
	pump(w);
	assert_int_equal(info(w, 1).number, info(w, 0).number);
	takeover(w, 1, 514);
	assert_true(vmpair_session_next_unfinished(w->e[1].s, &cursor, &e));
	assert_int_equal(e.state, VMPAIR_RECEIVED);
	assert_memory_equal(e.id, "received", 8);
	assert_memory_equal(e.data, "a", 1);
	assert_true(e.orphan && !e.here);
	dispatch(w, 1, e.conn, e.seq);
	answer(w, 1, e.conn, e.seq, "late");
	assert_true(vmpair_session_next_unfinished(w->e[1].s, &cursor, &e));
	assert_int_equal(e.state, VMPAIR_UNDER_WAY);
	assert_memory_equal(e.id, "dispatched", 10);
	assert_int_equal(vmpair_session_drop(w->e[1].s, e.conn, e.seq, "redo=never"), 0);
	assert_false(vmpair_session_next_unfinished(w->e[1].s, &cursor, &e));
	assert_true(stored_is(w, 1, "received", "late"));
	assert_true(stored_is(w, 1, "answered", "the answer"));
	assert_true(stored_is(w, 1, "done", "done answer"));
	assert_int_equal(vmpair_session_find(w->e[1].s, 0, "dispatched", 10, &e), -ENOENT);
	assert_int_equal(vmpair_session_entry(w->e[1].s, 4, 1, &e), -ENOENT);
	assert_int_equal(vmpair_session_entry(w->e[1].s, 6, 1, &e), -ENOENT);
	/* kept for a while only */
	assert_int_equal(info(w, 1).finished, 3);
	now += 61000 * MS;
	vmpair_session_tick(w->e[1].s, now);
	assert_int_equal(info(w, 1).entries, 0);
	world_free(w);
}

static void test_old_primary_returns(void **state)
{
	struct world *w = pair_in_sync(VMPAIR_JOURNAL, 3);
	struct vmpair_request part = { .conn = 2, .seq = 1, .data = "half", .len = 4 };

	(void)state;
	request(w, 0, 1, 1, "x", "a");
	assert_int_equal(vmpair_session_request(w->e[0].s, now, &part, NULL), 0);
	pump(w);
	takeover(w, 1, 514);
	dispatch(w, 1, 1, 1);
	answer(w, 1, 1, 1, "yes");
	assert_int_equal(vmpair_session_standby(w->e[0].s, now, 514), 0);
	join(w, 0);
	assert_true(w->e[1].caught);
	assert_int_equal(info(w, 0).resumed, 2);	/* it counts what it gave as primary, too */
	assert_int_equal(info(w, 0).entries, 1);
	assert_true(stored_is(w, 0, "x", "yes"));
	/* and takes over once more */
	takeover(w, 0, 769);
	assert_true(stored_is(w, 0, "x", "yes"));
	world_free(w);
}

/* What only the old primary has is not part of the history any more. */
static void test_ahead_needs_new_member(void **state)
{
	struct world *w = pair_in_sync(VMPAIR_JOURNAL, 0);

	(void)state;
	request(w, 0, 1, 1, "both", "a");
	pump(w);
	request(w, 0, 2, 1, "lost", "b");	/* nobody was answered */
	takeover(w, 1, 514);
	request(w, 1, 9, 1, "new", "c");
	request(w, 1, 9, 2, "new2", "c");	/* numbers go on beyond those of the old primary */
	assert_int_equal(vmpair_session_standby(w->e[0].s, now, 514), 0);
	join(w, 0);
	assert_true(w->e[0].need_member);
	assert_false(w->e[1].caught);
	assert_int_equal(info(w, 0).entries, 2);	/* still whole */
	assert_int_equal(vmpair_session_set_member(w->e[0].s, 100), -EINVAL);
	assert_int_equal(vmpair_session_set_member(w->e[0].s, 200), 0);
	assert_int_equal(info(w, 0).entries, 0);
	pump(w);
	assert_true(w->e[1].caught);
	assert_int_equal(w->e[1].caught_member, 200);
	assert_int_equal(info(w, 0).entries, 3);
	assert_int_equal(info(w, 0).number, info(w, 1).number);
	request(w, 1, 9, 3, "after", "d");
	pump(w);
	assert_int_equal(info(w, 0).entries, 4);
	world_free(w);
}

/* --- epochs ---------------------------------------------------------------------------------------------------------------------- */
static void test_fence(void **state)
{
	struct world *w = pair_in_sync(VMPAIR_JOURNAL, 0);
	uint64_t k, before;

	(void)state;
	before = info(w, 0).held;
	k = request(w, 0, 1, 1, NULL, "a");
	assert_true(move(w, 0, SIZE_MAX));	/* it is there, but not confirmed */
	vmpair_session_fence(w->e[1].s, 514);
	pump(w);
	assert_true(w->e[1].lost);
	assert_int_equal(info(w, 0).held, before);
	assert_true(before < k);
	join(w, 1);
	assert_true(w->e[0].refused && w->e[1].refused);
	assert_int_equal(vmpair_session_standby(w->e[1].s, now, 257), -ESTALE);
	assert_int_equal(vmpair_session_primary(w->e[1].s, now, 257), -ESTALE);
	/* re-claimed: the same primary under a new epoch, nothing is lost */
	assert_int_equal(vmpair_session_primary(w->e[0].s, now, 769), 0);
	join(w, 1);
	assert_false(w->e[0].refused);
	assert_true(vmpair_session_may_leave(w->e[0].s, k));
	/* and once more on the living connection */
	request(w, 0, 1, 2, NULL, "b");
	assert_int_equal(vmpair_session_primary(w->e[0].s, now, 1025), 0);
	k = answer(w, 0, 1, 1, "x");
	pump(w);
	assert_true(vmpair_session_may_leave(w->e[0].s, k));
	assert_int_equal(info(w, 1).epoch, 1025);
	assert_int_equal(info(w, 1).entries, 2);	/* no connection was closed by it */
	world_free(w);
}

static void refused_with(struct vmpair_session_conf *c, const char *text)
{
	struct world *w = world_new(VMPAIR_JOURNAL);

	vmpair_session_free(w->e[1].s);
	assert_int_equal(vmpair_session_new(&w->e[1].s, c), 0);
	assert_int_equal(vmpair_session_primary(w->e[0].s, now, 257), 1);
	assert_int_equal(vmpair_session_standby(w->e[1].s, now, 0), 0);
	join(w, 1);
	assert_true(w->e[0].refused && w->e[1].refused);
	assert_non_null(strstr(vmpair_session_reason(w->e[0].s), text));
	assert_string_equal(vmpair_session_reason(w->e[0].s), vmpair_session_reason(w->e[1].s));
	assert_int_equal(info(w, 0).refused, 1);
	world_free(w);
}

static void test_refused(void **state)
{
	struct vmpair_session_conf c = conf_of(1, VMPAIR_JOURNAL);
	struct vmpair_session *s;

	(void)state;
	c.pair = 6;
	refused_with(&c, "another pair");
	c = conf_of(1, VMPAIR_MIRROR);
	refused_with(&c, "sync=mirror");
	c = conf_of(1, VMPAIR_JOURNAL);
	c.node = 1;
	refused_with(&c, "itself");
	c.node = 0;
	assert_int_equal(vmpair_session_new(&s, &c), -EINVAL);
	c = conf_of(1, VMPAIR_JOURNAL);
	c.buffer_bytes = 1;
	assert_int_equal(vmpair_session_new(&s, &c), -EINVAL);
}

static void test_version(void **state)
{
	static const uint8_t two[48] = { 2 };
	struct vmpair_record rec = { .type = VMPAIR_HELLO, .data = two, .data_len = sizeof(two) }, back;
	uint8_t buf[256];
	struct world *w = world_new(VMPAIR_JOURNAL);
	const void *p;
	size_t n;

	(void)state;
	vmpair_session_primary(w->e[0].s, now, 257);
	assert_int_equal(vmpair_session_link_up(w->e[0].s, now, false), 0);
	assert_int_equal(vmpair_session_input(w->e[0].s, now, buf, (size_t)vmpair_record_encode(&rec, buf, sizeof(buf))), 0);
	events(&w->e[0]);
	assert_true(w->e[0].refused);
	n = vmpair_session_output(w->e[0].s, &p);
	assert_int_equal(vmpair_record_decode(p, n, &back), (int)n);
	assert_int_equal(back.type, VMPAIR_REFUSE);
	world_free(w);
}

/* --- a standby that comes back --------------------------------------------------------------------------------------------------- */
static void test_resume(void **state)
{
	struct world *w = pair_in_sync(VMPAIR_JOURNAL, 11);
	uint64_t k;

	(void)state;
	request(w, 0, 1, 1, "a", "1");
	dispatch(w, 0, 1, 1);
	k = answer(w, 0, 1, 1, "11");
	move(w, 0, 30);			/* in the middle of a record */
	cut(w);
	assert_false(vmpair_session_may_leave(w->e[0].s, k));
	request(w, 0, 2, 1, "b", "2");
	join(w, 1);
	assert_true(w->e[0].caught);
	assert_false(w->e[1].need_member);
	assert_true(vmpair_session_may_leave(w->e[0].s, k));
	assert_int_equal(info(w, 1).entries, 2);
	world_free(w);
}

static void test_too_far_behind(void **state)
{
	static char big[4000];
	struct world *w = world_new(VMPAIR_JOURNAL);
	struct vmpair_session_conf c = conf_of(0, VMPAIR_JOURNAL);

	(void)state;
	memset(big, 'x', sizeof(big) - 1);
	vmpair_session_free(w->e[0].s);
	c.buffer_bytes = 1 << 20;
	assert_int_equal(vmpair_session_new(&w->e[0].s, &c), 0);
	vmpair_session_primary(w->e[0].s, now, 257);
	vmpair_session_standby(w->e[1].s, now, 257);
	vmpair_session_mode(w->e[0].s, VMPAIR_MODE_ALONE, 0, 0, 0);
	join(w, 1);
	cut(w);
	for (unsigned int i = 0; i < 2000; i++) {	/* 8 MB through 1 MB, nobody is made to wait */
		request(w, 0, 1, i, NULL, big);
		dispatch(w, 0, 1, i);
		answer(w, 0, 1, i, "ok");
		vmpair_session_done(w->e[0].s, now, 1, i);
	}
	assert_true(info(w, 0).bytes <= c.buffer_bytes);
	join(w, 1);
	assert_true(w->e[1].need_member);
	vmpair_session_set_member(w->e[1].s, 201);
	pump(w);
	assert_true(w->e[0].caught);
	world_free(w);
}

/* --- memory ----------------------------------------------------------------------------------------------------------------------- */
static void test_back_pressure(void **state)
{
	static char big[4000];
	struct vmpair_request r = { .conn = 1, .flags = VMPAIR_LAST, .data = big, .len = sizeof(big) };
	struct vmpair_session_conf c = conf_of(0, VMPAIR_JOURNAL);
	struct world *w = world_new(VMPAIR_JOURNAL);
	uint32_t n = 0;
	int rc;

	(void)state;
	vmpair_session_free(w->e[0].s);
	c.buffer_bytes = 1 << 20;
	assert_int_equal(vmpair_session_new(&w->e[0].s, &c), 0);
	vmpair_session_primary(w->e[0].s, now, 257);
	vmpair_session_standby(w->e[1].s, now, 257);
	join(w, 1);
	vmpair_session_mode(w->e[0].s, VMPAIR_MODE_SYNC, 0, 2, 101);
	for (;;) {
		r.seq = n;
		rc = vmpair_session_request(w->e[0].s, now, &r, NULL);
		if (rc < 0)
			break;
		n++;
	}
	assert_int_equal(rc, -ENOBUFS);
	assert_in_range(n, 80, 300);
	assert_true(info(w, 0).bytes <= c.buffer_bytes);
	assert_false(vmpair_session_room(w->e[0].s, r.len));
	for (uint32_t i = 0; i < n; i++) {	/* what was taken can be answered */
		dispatch(w, 0, 1, i);
		answer(w, 0, 1, i, "ok");
	}
	pump(w);
	assert_int_equal(info(w, 0).held, info(w, 0).number);
	for (uint32_t i = 0; i < n; i++)
		assert_int_equal(vmpair_session_done(w->e[0].s, now, 1, i), 0);
	pump(w);
	assert_true(w->e[0].room);
	assert_int_equal(vmpair_session_request(w->e[0].s, now, &r, NULL), 0);
	world_free(w);
}

static struct world *small_world(unsigned int kind, size_t buffer)
{
	struct world *w = world_new(kind);

	for (unsigned int i = 0; i < 2; i++) {
		struct vmpair_session_conf c = conf_of(i, kind);

		c.buffer_bytes = buffer;
		vmpair_session_free(w->e[i].s);
		assert_int_equal(vmpair_session_new(&w->e[i].s, &c), 0);
	}
	assert_int_equal(vmpair_session_primary(w->e[0].s, now, 257), 1);
	assert_int_equal(vmpair_session_standby(w->e[1].s, now, 257), 0);
	vmpair_session_mode(w->e[0].s, VMPAIR_MODE_ALONE, 0, 0, 0);
	return w;
}

/* From request to done at the primary; -ENOBUFS. */
static int served(struct world *w, uint32_t seq, bool with_id, const char *data, size_t len, size_t answer_len)
{
	static char big[65536];
	char id[16];
	struct vmpair_request r = { .conn = 1, .seq = seq, .flags = VMPAIR_LAST | (with_id ? VMPAIR_HAS_ID : 0), .id = id, .data = data, .len = len };
	int rc;

	r.id_len = with_id ? (size_t)snprintf(id, sizeof(id), "k%u", seq) : 0;
	rc = vmpair_session_request(w->e[0].s, now, &r, NULL);
	if (rc < 0)
		return rc;
	dispatch(w, 0, 1, seq);
	assert_int_equal(vmpair_session_answer(w->e[0].s, now, 1, seq, big, answer_len, VMPAIR_LAST, NULL), 0);
	assert_int_equal(vmpair_session_done(w->e[0].s, now, 1, seq), 0);
	return 0;
}

/* The standby's application does all it is given. */
static unsigned int execute_all(struct world *w, size_t answer_len)
{
	static char big[65536];
	struct vmpair_entry e;
	unsigned int n = 0;

	for (; vmpair_session_execute(w->e[1].s, &e); n++)
		assert_int_equal(vmpair_session_answer(w->e[1].s, now, e.conn, e.seq, big, answer_len, VMPAIR_LAST, NULL), 0);
	return n;
}

/* Memory full of answers kept for repeats: a mirror reads on, whatever it waits for. */
static void test_kept_answers_do_not_stop_a_mirror(void **state)
{
	static char big[60000];
	const size_t buffer = 256 << 10;
	struct world *w = small_world(VMPAIR_MIRROR, buffer);
	struct vmpair_request r = { .conn = 2, .seq = 1, .flags = VMPAIR_LAST, .data = big, .len = sizeof(big) };

	(void)state;
	join(w, 1);
	vmpair_session_mode(w->e[0].s, VMPAIR_MODE_SYNC, 0, 2, 101);
	for (uint32_t i = 0; i < 100; i++) {
		assert_int_equal(served(w, i, true, "x", 1, 4000), 0);
		pump(w);
		execute_all(w, 4000);
		pump(w);
	}
	assert_in_range(info(w, 1).bytes, buffer / 2, buffer);
	assert_in_range(info(w, 1).finished, 10, 90);
	assert_int_equal(vmpair_session_request(w->e[0].s, now, &r, NULL), 0);
	pump(w);
	assert_int_equal(execute_all(w, 2), 1);
	assert_true(vmpair_session_wants_input(w->e[1].s));	/* the primary's answer is still to come */
	assert_in_range(info(w, 1).bytes, 1, buffer);
	dispatch(w, 0, 2, 1);
	answer(w, 0, 2, 1, "ok");
	pump(w);
	assert_int_equal(info(w, 0).held, info(w, 0).number);
	world_free(w);
}

/* As pump, but as a relay does it: who wants no input gets none. */
static void pump_wanted(struct world *w, size_t limit)
{
	bool moved;

	do {
		moved = vmpair_session_wants_input(w->e[1].s) && move(w, 0, 1000);
		assert_in_range(info(w, 0).bytes, 1, limit);
		moved |= move(w, 1, 1000);
		events(&w->e[0]);
		events(&w->e[1]);
	} while (moved);
}

/*
 * A new mirror member while the primary's memory is full of answers kept for repeats, and clients go on: the application's state is asked
 * for when most of these have been sent, memory stays bounded, and what clients send during a long import passes on to the standby.
 */
static void test_full_memory_and_a_new_mirror(void **state)
{
	static char data[4000];
	const size_t buffer = 1 << 20;
	struct world *w = small_world(VMPAIR_MIRROR, buffer);
	uint32_t seq = 0, taken = 0;
	uint64_t kept;

	(void)state;
	while (seq < 400)
		assert_int_equal(served(w, seq++, true, "x", 1, 4000), 0);
	kept = info(w, 0).finished;
	assert_in_range(kept, 100, 300);
	vmpair_session_free(w->e[1].s);
	{
		struct vmpair_session_conf c = conf_of(1, VMPAIR_MIRROR);

		c.buffer_bytes = buffer;
		c.pristine = false;
		assert_int_equal(vmpair_session_new(&w->e[1].s, &c), 0);
		vmpair_session_standby(w->e[1].s, now, 257);
	}
	vmpair_session_link_up(w->e[0].s, now, false);
	vmpair_session_link_up(w->e[1].s, now, true);
	w->up = true;
	while (!w->e[0].need_export) {	/* clients are served meanwhile */
		assert_int_equal(served(w, seq++, true, "x", 1, 4000), 0);
		for (unsigned int i = 0; i < 40; i++) {
			move(w, 1, 1000);
			move(w, 0, 1000);
		}
		assert_in_range(info(w, 0).bytes, 1, buffer);
		events(&w->e[0]);
		assert_in_range(seq, 400, 1000);
	}
	assert_int_equal(vmpair_session_export_start(w->e[0].s), 0);
	assert_in_range(info(w, 0).bytes, 1, buffer);
	assert_int_equal(vmpair_session_export(w->e[0].s, "state", 5, true), 0);
	pump_wanted(w, buffer);
	assert_true(w->e[1].state_last);
	assert_in_range(info(w, 1).finished, kept / 2, 2 * kept);	/* what was kept is kept there */
	assert_false(w->e[0].caught);
	for (; taken < 375; taken++) {	/* 1.5 times the buffer, without a word from the standby */
		assert_int_equal(served(w, seq++, false, data, sizeof(data), 2), 0);
		pump_wanted(w, buffer);
	}
	assert_int_equal(vmpair_session_imported(w->e[1].s, now, true), 0);
	for (uint32_t done = 0; done < taken;) {
		done += execute_all(w, 2);
		pump_wanted(w, buffer);
	}
	assert_true(w->e[0].caught);
	assert_int_equal(info(w, 0).held, info(w, 0).number);
	assert_int_equal(info(w, 1).unfinished, 0);
	assert_int_equal(info(w, 1).diverged, 0);
	world_free(w);
}

static void test_long_request_and_answer(void **state)
{
	const size_t len = 300000;
	char *big = malloc(len), *got = malloc(len);
	struct world *w = pair_in_sync(VMPAIR_JOURNAL, 1000);
	struct vmpair_request r = { .conn = 1, .seq = 1, .flags = VMPAIR_HAS_ID, .id = "id", .id_len = 2, .data = big, .len = len / 2 };
	struct vmpair_entry e;
	const void *p;
	size_t n, have = 0;

	(void)state;
	for (size_t i = 0; i < len; i++)
		big[i] = (char)(i * 31 >> 3);
	assert_int_equal(vmpair_session_request(w->e[0].s, now, &r, NULL), 0);
	pump(w);
	assert_int_equal(vmpair_session_find(w->e[1].s, 0, "id", 2, &e), -ENOENT);	/* not accepted yet */
	r.data = big + len / 2;
	r.flags = VMPAIR_LAST;
	assert_int_equal(vmpair_session_request(w->e[0].s, now, &r, NULL), 0);
	assert_int_equal(vmpair_session_request(w->e[0].s, now, &r, NULL), -EEXIST);
	dispatch(w, 0, 1, 1);
	assert_int_equal(vmpair_session_answer(w->e[0].s, now, 1, 1, big, 100000, 0, NULL), 0);
	assert_int_equal(vmpair_session_answer(w->e[0].s, now, 1, 1, big + 100000, 100, 0, NULL), 0);
	assert_int_equal(vmpair_session_answer(w->e[0].s, now, 1, 1, big + 100100, len - 100100, VMPAIR_LAST, NULL), 0);
	pump(w);
	assert_int_equal(vmpair_session_find(w->e[1].s, 0, "id", 2, &e), 0);
	assert_true(e.len == len && !memcmp(e.data, big, len) && e.state == VMPAIR_ANSWERED && e.answer_len == len);
	while (vmpair_session_stored(w->e[1].s, 1, 1, have, &p, &n) == 0 && n) {
		memcpy(got + have, p, n);
		have += n;
	}
	assert_true(have == len && !memcmp(got, big, len));
	r.conn = 2;
	r.flags = VMPAIR_LAST;
	r.id_len = 0;
	r.len = (1 << 20) + 1;
	assert_int_equal(vmpair_session_request(w->e[0].s, now, &r, NULL), -EMSGSIZE);
	world_free(w);
	free(big);
	free(got);
}

/* --- mirror ----------------------------------------------------------------------------------------------------------------------- */
static void test_mirror(void **state)
{
	struct world *w = pair_in_sync(VMPAIR_MIRROR, 5);
	struct vmpair_entry e;
	uint64_t k;

	(void)state;
	for (uint32_t i = 1; i <= 3; i++)
		request(w, 0, i, 1, i == 3 ? "third" : NULL, "INCR x");
	assert_int_equal(vmpair_session_dispatched(w->e[0].s, 2, 1, NULL), -EINVAL);	/* not its turn */
	dispatch(w, 0, 1, 1);
	pump(w);
	assert_true(w->e[1].execute);
	for (uint32_t i = 1; i <= 3; i++) {
		assert_true(vmpair_session_execute(w->e[1].s, &e));
		assert_int_equal(e.conn, i);
	}
	assert_false(vmpair_session_execute(w->e[1].s, &e));
	/* the same answers in other pieces are the same answers; what is left out of the digest may differ */
	assert_int_equal(vmpair_session_answer(w->e[0].s, now, 1, 1, "Date: 1", 7, VMPAIR_NO_DIGEST, &k), 0);
	assert_true(vmpair_session_may_leave(w->e[0].s, k));	/* the standby has the request */
	answer(w, 0, 1, 1, ":1 twelve bytes");
	assert_int_equal(vmpair_session_answer(w->e[1].s, now, 1, 1, "Date: 2", 7, VMPAIR_NO_DIGEST, NULL), 0);
	assert_int_equal(vmpair_session_answer(w->e[1].s, now, 1, 1, ":1 ", 3, 0, NULL), 0);
	answer(w, 1, 1, 1, "twelve bytes");
	pump(w);
	assert_int_equal(w->e[1].n_diverged, 0);
	/* another answer is not, whoever is first */
	answer(w, 1, 2, 1, ":7");
	dispatch(w, 0, 2, 1);
	answer(w, 0, 2, 1, ":2");
	pump(w);
	assert_int_equal(w->e[1].n_diverged, 1);
	assert_int_equal(info(w, 1).diverged, 1);
	/* takeover in the middle of the third: executed here, never answered there */
	answer(w, 1, 3, 1, ":3");
	takeover(w, 1, 514);
	assert_false(vmpair_session_execute(w->e[1].s, &e));
	assert_true(stored_is(w, 1, "third", ":3"));
	request(w, 1, 10, 1, NULL, "INCR x");
	assert_true(vmpair_session_execute(w->e[1].s, &e));
	assert_int_equal(e.conn, 10);
	assert_int_equal(vmpair_session_dispatched(w->e[1].s, 10, 1, NULL), -EALREADY);
	world_free(w);
}

static void test_mirror_state(void **state)
{
	struct world *w = pair_in_sync(VMPAIR_MIRROR, 100);
	static char dump[100000];
	struct vmpair_entry e;

	(void)state;
	memset(dump, 'd', sizeof(dump));
	cut(w);
	vmpair_session_mode(w->e[0].s, VMPAIR_MODE_ALONE, 0, 0, 0);
	request(w, 0, 1, 1, "one", "INCR x");
	dispatch(w, 0, 1, 1);
	answer(w, 0, 1, 1, ":1");
	request(w, 0, 2, 1, NULL, "INCR x");
	dispatch(w, 0, 2, 1);
	request(w, 0, 3, 1, NULL, "INCR x");
	assert_int_equal(vmpair_session_set_member(w->e[1].s, 300), 0);
	join(w, 1);
	assert_true(w->e[0].need_export);
	assert_int_equal(vmpair_session_export_start(w->e[0].s), -EBUSY);
	answer(w, 0, 2, 1, ":2");
	assert_int_equal(vmpair_session_export_start(w->e[0].s), 0);
	dispatch(w, 0, 3, 1);
	answer(w, 0, 3, 1, ":3");		/* after the state: the standby executes it */
	assert_int_equal(vmpair_session_export(w->e[0].s, dump, 50000, false), 0);
	pump(w);
	request(w, 0, 4, 1, NULL, "INCR x");
	assert_int_equal(vmpair_session_export(w->e[0].s, dump + 50000, 50000, true), 0);
	pump(w);
	assert_int_equal(w->e[1].state_len, sizeof(dump));
	assert_true(w->e[1].state_last);
	assert_false(w->e[0].caught);		/* not before the application has it */
	assert_false(vmpair_session_execute(w->e[1].s, &e));
	assert_int_equal(vmpair_session_imported(w->e[1].s, now, true), 0);
	pump(w);
	assert_true(w->e[0].caught);
	assert_true(vmpair_session_execute(w->e[1].s, &e));
	assert_int_equal(e.conn, 3);
	assert_true(vmpair_session_execute(w->e[1].s, &e));
	assert_int_equal(e.conn, 4);
	assert_false(vmpair_session_execute(w->e[1].s, &e));
	answer(w, 1, 3, 1, ":3");
	assert_true(stored_is(w, 1, "one", ":1"));
	assert_int_equal(info(w, 1).diverged, 0);
	world_free(w);
}

static bool conn_is(const struct world *w, unsigned int i, uint64_t conn, const char *data)
{
	struct vmpair_conn c;
	uint64_t cursor = 0;

	while (vmpair_session_next_conn(w->e[i].s, &cursor, &c))
		if (c.conn == conn)
			return c.len == strlen(data) && !memcmp(c.data, data, c.len);
	return false;
}

/* Who was connected to the primary is known to its standby, also to one that came later and got a table. */
static void test_connections(void **state)
{
	struct world *w = pair_in_sync(VMPAIR_JOURNAL, 7);
	char data[16];

	(void)state;
	for (uint64_t c = 1; c <= 100; c++) {
		int len = snprintf(data, sizeof(data), "from %u", (unsigned int)c);

		assert_int_equal(vmpair_session_open(w->e[0].s, now, c, 0, data, (size_t)len), 0);
	}
	assert_int_equal(vmpair_session_open(w->e[0].s, now, 7, 0, "x", 1), -EEXIST);
	assert_int_equal(vmpair_session_open(w->e[0].s, now, 101, 0, data, VMPAIR_OPEN_MAX + 1), -EMSGSIZE);
	request(w, 0, 5, 1, "id", "GET");
	dispatch(w, 0, 5, 1);
	answer(w, 0, 5, 1, "200");
	assert_int_equal(vmpair_session_done(w->e[0].s, now, 5, 1), 0);	/* kept for repeats */
	request(w, 0, 6, 1, NULL, "GET");
	assert_int_equal(vmpair_session_close(w->e[0].s, now, 9), 0);
	pump(w);
	for (unsigned int pass = 0; pass < 2; pass++) {
		assert_true(conn_is(w, 1, 5, "from 5") && conn_is(w, 1, 6, "from 6") && conn_is(w, 1, 100, "from 100"));
		assert_false(conn_is(w, 1, 9, "from 9"));
		if (pass)
			break;
		cut(w);
		assert_int_equal(vmpair_session_set_member(w->e[1].s, 300), 0);
		assert_false(conn_is(w, 1, 5, "from 5"));
		vmpair_session_mode(w->e[0].s, VMPAIR_MODE_ALONE, 0, 0, 0);
		for (uint32_t i = 10; i < 20000; i++) {	/* too much for a resumption */
			request(w, 0, 6, i, NULL, "0123456789012345678901234567890123456789012345678901234567890123456789");
			dispatch(w, 0, 6, i);
			answer(w, 0, 6, i, "ok");
			assert_int_equal(vmpair_session_done(w->e[0].s, now, 6, i), 0);
		}
		w->piece = 0;
		vmpair_session_mode(w->e[0].s, VMPAIR_MODE_ALONE, 0, 0, 0);
		join(w, 1);
		assert_true(w->e[0].caught);
	}
	takeover(w, 1, 514);
	assert_false(conn_is(w, 1, 5, "from 5"));	/* closed with the old primary */
	world_free(w);
}

static void test_broken_application(void **state)
{
	struct world *w = pair_in_sync(VMPAIR_MIRROR, 0);
	struct vmpair_entry e;
	uint64_t history = info(w, 0).history;

	(void)state;
	request(w, 0, 1, 1, NULL, "INCR x");
	request(w, 0, 1, 2, NULL, "INCR x");
	pump(w);
	assert_true(vmpair_session_execute(w->e[1].s, &e));
	assert_int_equal(vmpair_session_broken(w->e[0].s, now, "application"), -EBUSY);	/* the other one has everything */
	assert_int_equal(vmpair_session_broken(w->e[1].s, now, "application"), 0);
	events(&w->e[1]);
	assert_true(w->e[1].lost && w->e[1].need_member);
	assert_false(vmpair_session_execute(w->e[1].s, &e));
	assert_int_equal(vmpair_session_primary(w->e[1].s, now, 514), -ENODATA);
	/* under the same id it gets nothing, under a fresh one everything */
	join(w, 1);
	assert_true(w->e[1].need_member);
	assert_false(w->e[0].need_export);
	assert_int_equal(vmpair_session_set_member(w->e[1].s, 300), 0);
	pump(w);
	assert_true(w->e[0].need_export);
	dispatch(w, 0, 1, 1);
	vmpair_session_mode(w->e[0].s, VMPAIR_MODE_ALONE, 0, 0, 0);
	/* the primary's: a new history, and the one that was about to take its state begins anew */
	assert_int_equal(vmpair_session_broken(w->e[0].s, now, "application"), 0);
	events(&w->e[0]);
	assert_true(w->e[0].lost);
	assert_int_not_equal(info(w, 0).history, history);
	answer(w, 0, 1, 1, "502");
	join(w, 1);
	assert_true(w->e[0].need_export);
	assert_int_equal(vmpair_session_export_start(w->e[0].s), 0);
	assert_int_equal(vmpair_session_export(w->e[0].s, "x", 1, true), 0);
	pump(w);
	assert_int_equal(vmpair_session_imported(w->e[1].s, now, true), 0);
	pump(w);
	assert_true(w->e[0].caught);
	assert_true(vmpair_session_execute(w->e[1].s, &e));
	assert_int_equal(e.seq, 2);
	world_free(w);
	w = pair_in_sync(VMPAIR_JOURNAL, 0);
	assert_int_equal(vmpair_session_broken(w->e[1].s, now, "application"), -EINVAL);
	world_free(w);
}

static void test_mirror_import_fails(void **state)
{
	struct world *w = pair_in_sync(VMPAIR_MIRROR, 0);
	struct vmpair_session_conf c = conf_of(1, VMPAIR_MIRROR);

	(void)state;
	cut(w);
	vmpair_session_set_member(w->e[1].s, 300);
	join(w, 1);
	assert_int_equal(vmpair_session_export_start(w->e[0].s), 0);
	assert_int_equal(vmpair_session_export(w->e[0].s, "x", 1, true), 0);
	pump(w);
	assert_int_equal(vmpair_session_imported(w->e[1].s, now, false), 0);
	pump(w);
	assert_true(w->e[1].lost);
	assert_false(w->e[0].caught);
	join(w, 1);
	assert_true(w->e[0].need_export);	/* once more, and the id is still fresh */
	vmpair_session_export_failed(w->e[0].s, "disk full");
	pump(w);
	assert_true(w->e[1].refused);
	assert_non_null(strstr(vmpair_session_reason(w->e[1].s), "disk full"));
	/* without import there is no way in */
	vmpair_session_free(w->e[1].s);
	c.can_import = c.pristine = false;
	assert_int_equal(vmpair_session_new(&w->e[1].s, &c), 0);
	vmpair_session_standby(w->e[1].s, now, 257);
	join(w, 1);
	assert_true(w->e[1].refused);
	world_free(w);
}

/* --- time ------------------------------------------------------------------------------------------------------------------------- */
static void test_silence(void **state)
{
	struct world *w = pair_in_sync(VMPAIR_JOURNAL, 0);

	(void)state;
	for (unsigned int i = 0; i < 100; i++) {	/* quiet, but alive */
		now = vmpair_session_deadline(w->e[0].s) < vmpair_session_deadline(w->e[1].s) ? vmpair_session_deadline(w->e[0].s)
											     : vmpair_session_deadline(w->e[1].s);
		vmpair_session_tick(w->e[0].s, now);
		vmpair_session_tick(w->e[1].s, now);
		pump(w);
	}
	assert_false(w->e[0].lost || w->e[1].lost);
	now += 3600 * 1000 * MS;	/* we slept: that says nothing about the other */
	vmpair_session_tick(w->e[0].s, now);
	events(&w->e[0]);
	assert_false(w->e[0].lost);
	for (unsigned int i = 0; i < 20 && !w->e[0].lost; i++) {
		now += 50 * MS;
		vmpair_session_tick(w->e[0].s, now);
		events(&w->e[0]);
	}
	assert_true(w->e[0].lost);
	assert_false(w->e[0].caught);
	world_free(w);
}

static void test_stall(void **state)
{
	struct world *w = pair_in_sync(VMPAIR_JOURNAL, 0);
	unsigned int i;

	(void)state;
	request(w, 0, 1, 1, NULL, "x");
	for (i = 0; i < 200 && !w->e[0].lost; i++) {	/* alive, but it confirms nothing */
		struct vmpair_record ping = { .type = VMPAIR_PING };
		uint8_t buf[64];
		const void *p;
		size_t n;

		now += 50 * MS;
		vmpair_session_input(w->e[0].s, now, buf, (size_t)vmpair_record_encode(&ping, buf, sizeof(buf)));
		vmpair_session_tick(w->e[0].s, now);
		while ((n = vmpair_session_output(w->e[0].s, &p)))
			vmpair_session_output_done(w->e[0].s, now, n);
		events(&w->e[0]);
	}
	assert_in_range(i, 95, 110);
	assert_non_null(strstr(vmpair_session_reason(w->e[0].s), "takes no records"));
	world_free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_output_commit),
		cmocka_unit_test(test_caught_counts_what_was_recorded),
		cmocka_unit_test(test_journal_takeover),
		cmocka_unit_test(test_old_primary_returns),
		cmocka_unit_test(test_ahead_needs_new_member),
		cmocka_unit_test(test_fence),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_version),
		cmocka_unit_test(test_resume),
		cmocka_unit_test(test_too_far_behind),
		cmocka_unit_test(test_back_pressure),
		cmocka_unit_test(test_kept_answers_do_not_stop_a_mirror),
		cmocka_unit_test(test_full_memory_and_a_new_mirror),
		cmocka_unit_test(test_long_request_and_answer),
		cmocka_unit_test(test_mirror),
		cmocka_unit_test(test_mirror_state),
		cmocka_unit_test(test_mirror_import_fails),
		cmocka_unit_test(test_connections),
		cmocka_unit_test(test_broken_application),
		cmocka_unit_test(test_silence),
		cmocka_unit_test(test_stall),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
