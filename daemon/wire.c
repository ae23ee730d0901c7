/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One description serves both directions: each x_...() walks the fields of a structure in wire order and either stores or loads
 * them, so encoder and decoder cannot differ. When storing, the structure is only read.
 */
#include "daemon/wire.h"

#include <errno.h>
#include <string.h>

#include "internal/cleanup.h"
#include "internal/endian.h"

struct walk {
	bool load;
	int err;		/* first error; nothing happens any more after it */
	uint8_t *p;		/* store: next byte */
	const uint8_t *q;	/* load: next byte */
	size_t left;
};

static void fail(struct walk *w, int err)
{
	if (!w->err)
		w->err = err;
}

static void bad_value(struct walk *w)
{
	fail(w, w->load ? -EPROTO : -EINVAL);
}

static bool room(struct walk *w, size_t n)
{
	if (!w->err && w->left >= n) {
		w->left -= n;
		return true;
	}
	fail(w, w->load ? -EPROTO : -EMSGSIZE);
	return false;
}

static void x_u8(struct walk *w, uint8_t *v)
{
	if (!room(w, 1))
		return;
	if (w->load)
		*v = *w->q++;
	else
		*w->p++ = *v;
}

/* A number that must not exceed max. */
static void x_u8_max(struct walk *w, uint8_t *v, unsigned int max)
{
	if (!w->load && *v > max)
		bad_value(w);
	x_u8(w, v);
	if (w->load && *v > max) {
		*v = 0;		/* it may bound a loop */
		bad_value(w);
	}
}

static void x_bool(struct walk *w, bool *v)
{
	uint8_t b = !w->load && *v;

	x_u8_max(w, &b, 1);
	if (w->load)
		*v = b;
}

static void x_u32(struct walk *w, uint32_t *v)
{
	if (!room(w, 4))
		return;
	if (w->load) {
		*v = get_le32(w->q);
		w->q += 4;
	} else {
		put_le32(w->p, *v);
		w->p += 4;
	}
}

static void x_u64(struct walk *w, uint64_t *v)
{
	if (!room(w, 8))
		return;
	if (w->load) {
		*v = get_le64(w->q);
		w->q += 8;
	} else {
		put_le64(w->p, *v);
		w->p += 8;
	}
}

/* --- parts ---------------------------------------------------------------------------------------------------------- */
static void x_promised(struct walk *w, struct vmp_promised *v)
{
	x_u64(w, &v->epoch);
	x_u64(w, &v->boot);
	x_u8(w, &v->node);
	x_bool(w, &v->released);
	x_bool(w, &v->own);
}

static void x_state(struct walk *w, struct vmp_state *v)
{
	x_u64(w, &v->epoch);
	x_u64(w, &v->seq);
	x_u64(w, &v->holder_member);
	x_u64(w, &v->sync_member);
	x_u8(w, &v->holder);
	x_u8(w, &v->sync_node);
	x_bool(w, &v->cold);
}

static void x_reg(struct walk *w, struct vmp_reg *v)
{
	x_u64(w, &v->pair);
	x_promised(w, &v->promised);
	x_state(w, &v->state);
}

static void x_regs(struct walk *w, struct vmp_reg *v, uint8_t *n, unsigned int max)
{
	x_u8_max(w, n, max);
	for (unsigned int i = 0; i < *n && !w->err; i++)
		x_reg(w, &v[i]);
}

static void x_held(struct walk *w, struct vmp_held *v, uint8_t *n)
{
	x_u8_max(w, n, VMP_MAX_PAIRS);
	for (unsigned int i = 0; i < *n && !w->err; i++) {
		x_u64(w, &v[i].pair);
		x_u64(w, &v[i].epoch);
	}
}

static void x_config(struct walk *w, struct vmp_config *v)
{
	x_u64(w, &v->version);
	x_u8_max(w, &v->n, VMP_MAX_VOTERS);
	for (unsigned int i = 0; i < v->n && !w->err; i++) {
		x_u64(w, &v->voter[i].id);
		x_u8(w, &v->voter[i].node);
	}
}

/* --- messages --------------------------------------------------------------------------------------------------------- */
static void x_heartbeat(struct walk *w, struct vmp_msg_heartbeat *v)
{
	x_u64(w, &v->inc);
	x_u64(w, &v->seq);
	x_u64(w, &v->boot);
	x_bool(w, &v->abstaining);
	x_held(w, v->held, &v->n_held);
	x_u8_max(w, &v->n_states, ARRAY_SIZE(v->state));
	for (unsigned int i = 0; i < v->n_states && !w->err; i++) {
		x_u64(w, &v->state[i].pair);
		x_state(w, &v->state[i].state);
	}
}

static void x_ack(struct walk *w, struct vmp_msg_ack *v)
{
	x_u64(w, &v->inc);
	x_u64(w, &v->seq);
	x_held(w, v->supported, &v->n_supported);
	x_regs(w, v->reg, &v->n_regs, ARRAY_SIZE(v->reg));
}

static void x_claim(struct walk *w, struct vmp_msg_claim *v)
{
	x_u64(w, &v->pair);
	x_u64(w, &v->epoch);
	x_u64(w, &v->nonce);
	x_u64(w, &v->member);
	x_u64(w, &v->boot);
	x_u64(w, &v->release_of);
	x_u64(w, &v->fenced_boot);
	x_u8(w, &v->fenced_node);
	x_bool(w, &v->force);
}

static void x_grant(struct walk *w, struct vmp_msg_grant *v)
{
	x_u64(w, &v->pair);
	x_u64(w, &v->epoch);
	x_u64(w, &v->nonce);
	if (vmp_pair_is_bar(v->pair))
		x_u64(w, &v->bar);
}

static void x_refuse(struct walk *w, struct vmp_msg_refuse *v)
{
	x_u64(w, &v->pair);
	x_u64(w, &v->epoch);
	x_u64(w, &v->nonce);
	x_u64(w, &v->remain_ns);
	x_promised(w, &v->promised);
	x_state(w, &v->state);
	x_u8_max(w, &v->reason, VMP_REASON_COUNT - 1);
	x_bool(w, &v->probe);
}

static void x_put(struct walk *w, struct vmp_msg_put *v)
{
	x_u64(w, &v->pair);
	x_u64(w, &v->boot);
	x_state(w, &v->state);
}

static void x_put_ok(struct walk *w, struct vmp_msg_put_ok *v)
{
	x_u64(w, &v->pair);
	x_u64(w, &v->epoch);
	x_u64(w, &v->seq);
	if (vmp_pair_is_bar(v->pair))
		x_u64(w, &v->remain_ns);
}

static void x_hold(struct walk *w, struct vmp_msg_hold *v)
{
	x_u64(w, &v->pair);
	x_u64(w, &v->epoch);
	x_u64(w, &v->nonce);
	x_u32(w, &v->ms);
}

static void x_release(struct walk *w, struct vmp_msg_release *v)
{
	x_u64(w, &v->pair);
	x_u64(w, &v->epoch);
	x_u64(w, &v->boot);
}

static void x_takeover(struct walk *w, struct vmp_msg_takeover *v)
{
	x_u64(w, &v->pair);
	x_u64(w, &v->epoch);
	x_u8_max(w, &v->cause, VMP_CAUSE_COUNT - 1);
	x_state(w, &v->state);
}

static void x_table(struct walk *w, struct vmp_msg_table *v)
{
	x_u64(w, &v->nonce);
	x_u8(w, &v->part);
	x_u8_max(w, &v->parts, 64);
	if (v->part >= v->parts && (v->part || v->parts))
		bad_value(w);
	x_bool(w, &v->waited);
	x_config(w, &v->config);
	x_regs(w, v->reg, &v->n_regs, ARRAY_SIZE(v->reg));
}

static void x_msg_config(struct walk *w, struct vmp_msg_config *v)
{
	x_config(w, &v->config);
	x_config(w, &v->previous);
	x_u64(w, &v->epoch);
	x_bool(w, &v->chosen);
}

static void x_members(struct walk *w, struct vmp_msg_members *v)
{
	x_u8_max(w, &v->n, VMP_MAX_PAIRS);
	for (unsigned int i = 0; i < v->n && !w->err; i++) {
		x_u64(w, &v->member[i].pair);
		x_u64(w, &v->member[i].member);
		x_u8_max(w, &v->member[i].flags, VMP_MEMBER_RUNNING | VMP_MEMBER_READY);
	}
}

static void x_msg(struct walk *w, struct vmp_msg *m)
{
	uint8_t version = VMP_WIRE_VERSION;

	x_u8(w, &version);
	if (version != VMP_WIRE_VERSION)
		fail(w, -EPROTONOSUPPORT);
	x_u8(w, &m->type);
	x_u64(w, &m->version);
	x_u64(w, &m->voter);
	if (w->err)
		return;
	/* No default: the compiler names a message that was forgotten here. */
	switch ((enum vmp_msg_type)m->type) {
	case VMP_MSG_HEARTBEAT:
		x_heartbeat(w, &m->u.heartbeat);
		return;
	case VMP_MSG_ACK:
		x_ack(w, &m->u.ack);
		return;
	case VMP_MSG_CLAIM:
	case VMP_MSG_PROBE:
		x_claim(w, &m->u.claim);
		return;
	case VMP_MSG_GRANT:
	case VMP_MSG_PROBE_OK:
		x_grant(w, &m->u.grant);
		return;
	case VMP_MSG_REFUSE:
		x_refuse(w, &m->u.refuse);
		return;
	case VMP_MSG_PUT:
		x_put(w, &m->u.put);
		return;
	case VMP_MSG_PUT_OK:
		x_put_ok(w, &m->u.put_ok);
		return;
	case VMP_MSG_HOLD:
	case VMP_MSG_HOLD_OK:
	case VMP_MSG_UNHOLD:
		x_hold(w, &m->u.hold);
		return;
	case VMP_MSG_RELEASE:
		x_release(w, &m->u.release);
		return;
	case VMP_MSG_TAKEOVER:
		x_takeover(w, &m->u.takeover);
		return;
	case VMP_MSG_READ:
		x_u64(w, &m->u.read.boot);
		x_u64(w, &m->u.read.nonce);
		return;
	case VMP_MSG_TABLE:
	case VMP_MSG_COLD:
	case VMP_MSG_CONFIG_OK:
	case VMP_MSG_STATES:
	case VMP_MSG_STATES_OK:
		x_table(w, &m->u.table);
		return;
	case VMP_MSG_CONFIG:
		x_msg_config(w, &m->u.config);
		return;
	case VMP_MSG_MEMBERS:
		x_members(w, &m->u.members);
		return;
	case VMP_MSG_NONE_:
	case VMP_MSG_COUNT:
		break;
	}
	bad_value(w);
}

static void x_record(struct walk *w, struct vmp_record *v)
{
	uint8_t version = VMP_WIRE_VERSION;

	x_u8(w, &version);
	if (version != VMP_WIRE_VERSION)
		fail(w, -EPROTONOSUPPORT);
	x_u64(w, &v->pair);
	x_promised(w, &v->promised);
	x_state(w, &v->state);
	x_state(w, &v->own);
	x_u64(w, &v->own_epoch);
	x_u64(w, &v->own_member);
	x_u64(w, &v->released);
	x_u64(w, &v->epoch_seen);
	x_u64(w, &v->held_until_ns);
	x_u64(w, &v->hold_nonce);
	x_u8_max(w, &v->role, VMP_ROLE_COUNT - 1);
}

/* --- both ends -------------------------------------------------------------------------------------------------------- */
static int stored(const struct walk *w, const uint8_t *buf)
{
	return w->err ? w->err : (int)(w->p - buf);
}

int vmp_wire_encode(const struct vmp_msg *msg, uint8_t *buf, size_t cap)
{
	struct walk w = { .p = buf, .left = cap };

	x_msg(&w, (struct vmp_msg *)msg);
	return stored(&w, buf);
}

int vmp_wire_next(const uint8_t **buf, size_t *len, struct vmp_msg *ret)
{
	struct walk w = { .load = true, .q = *buf, .left = *len };
	struct vmp_msg m;

	if (*len > VMP_WIRE_MAX)
		return -EPROTO;
	memset(&m, 0, sizeof(m));
	x_msg(&w, &m);
	if (w.err)
		return w.err;
	memcpy(ret, &m, sizeof(m));	/* padding too: equal messages are equal bytes */
	*buf = w.q;
	*len = w.left;
	return 0;
}

int vmp_wire_decode(const uint8_t *buf, size_t len, struct vmp_msg *ret)
{
	struct vmp_msg m;
	int r = vmp_wire_next(&buf, &len, &m);

	if (r < 0)
		return r;
	if (len)
		return -EPROTO;
	memcpy(ret, &m, sizeof(m));
	return 0;
}

int vmp_record_encode(const struct vmp_record *rec, uint8_t *buf, size_t cap)
{
	struct walk w = { .p = buf, .left = cap };

	x_record(&w, (struct vmp_record *)rec);
	return stored(&w, buf);
}

int vmp_record_decode(const uint8_t *buf, size_t len, struct vmp_record *ret)
{
	struct walk w = { .load = true, .q = buf, .left = len };
	struct vmp_record r;

	memset(&r, 0, sizeof(r));
	x_record(&w, &r);
	if (!w.err && w.left)
		w.err = -EPROTO;
	if (w.err)
		return w.err;
	memcpy(ret, &r, sizeof(r));
	return 0;
}
