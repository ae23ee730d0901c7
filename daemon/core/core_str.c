/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Texts of the core: names of everything, and one stable line per step for logs, golden traces and replay.
 * It formats by itself: the core calls nothing of the C library that allocates, reads a locale or does I/O. */
#include <string.h>

#include "daemon/core/core.h"

#define NAME_FN(fn, list, count) \
	const char *fn(unsigned int i) \
	{ \
		static const char *const name[] = { list(VMP_T) }; \
		return i < count ? name[i] : "?"; \
	}
#define VMP_T(name, text) text,
NAME_FN(vmp_role_name, VMP_ROLES, VMP_ROLE_COUNT)
NAME_FN(vmp_mode_name, VMP_MODES, VMP_MODE_COUNT)
NAME_FN(vmp_cause_name, VMP_CAUSES, VMP_CAUSE_COUNT)
NAME_FN(vmp_reason_name, VMP_REASONS, VMP_REASON_COUNT)
NAME_FN(vmp_note_name, VMP_NOTES, VMP_NOTE_COUNT)
NAME_FN(vmp_change_name, VMP_CHANGE_PHASES, VMP_CH_COUNT)
NAME_FN(vmp_event_name, VMP_EVENTS, VMP_EV_COUNT)
NAME_FN(vmp_action_name, VMP_ACTIONS, VMP_ACT_COUNT)

const char *vmp_msg_name(unsigned int type)
{
	static const char *const name[] = { "?", VMP_MSG_TYPES(VMP_T) };

	return type < VMP_MSG_COUNT ? name[type] : "?";
}

const char *vmp_reason_text(unsigned int reason)
{
	switch ((enum vmp_reason)reason) {
	case VMP_REASON_NONE: return "done";
	case VMP_REASON_ABSTAINING: return "a voter lost its memory and has not read it back yet";
	case VMP_REASON_CONFIG_VERSION: return "the voters do not agree on the voter set yet";
	case VMP_REASON_EPOCH_LOW: return "a newer claim is known";
	case VMP_REASON_GUARD: return "the present primary's lease is still protected";
	case VMP_REASON_NOT_ELIGIBLE: return "this member is not the recorded in-sync one";
	case VMP_REASON_RELEASED: return "the epoch was released";
	case VMP_REASON_LEARNED: return "the vote is known only from another voter";
	case VMP_REASON_STATE_LOW: return "a newer state is known";
	case VMP_REASON_NO_PAIR: return "this node does not know the pair";
	case VMP_REASON_NO_MEMBER: return "no ready member on this node";
	case VMP_REASON_NO_STANDBY: return "there is no in-sync standby";
	case VMP_REASON_FROZEN: return "frozen by maintenance mode, or not managed";
	case VMP_REASON_NOT_HOLDER: return "this node is not the primary of the pair";
	case VMP_REASON_BUSY: return "another operation on this pair is running";
	case VMP_REASON_MEMBER_ALIVE: return "a recorded member may still be alive; starting without it could lose requests";
	case VMP_REASON_NO_MAJORITY: return "a majority of the voters cannot be reached";
	case VMP_REASON_TIMEOUT: return "the time limit passed";
	case VMP_REASON_SUPERSEDED: return "another operation took its place";
	case VMP_REASON_TABLE_FULL: return "too many pairs";
	case VMP_REASON_NO_QUORUM_CONFIG: return "there is no voter configuration yet, or this node is not in it";
	case VMP_REASON_PERSIST: return "the state file cannot be written";
	case VMP_REASON_HELD_ELSEWHERE: return "another node became primary";
	case VMP_REASON_LEASE: return "there is no lease";
	case VMP_REASON_VOTERS: return "the voter set changes by one voter at a time, with all voters up";
	case VMP_REASON_BARRED: return "the node is fenced";
	case VMP_REASON_NOT_FENCED: return "that node may still hold pairs: fence it first, or, when it is off, say so to Pacemaker (stonith_admin --confirm)";
	case VMP_REASON_NOT_LOST: return "nothing waits for that disk, or its voter is at work";
	case VMP_REASON_COUNT: break;
	}
	return "?";
}

/* --- lines ---------------------------------------------------------------------------------------------------------------- */
struct text {
	char *buf;
	size_t size, len;
};

static void put_c(struct text *t, char ch)
{
	if (t->len + 1 < t->size)
		t->buf[t->len] = ch;
	t->len++;
}

static void put_s(struct text *t, const char *str)
{
	while (*str)
		put_c(t, *str++);
}

static void put_u(struct text *t, uint64_t v)
{
	char digit[20];
	unsigned int n = 0;

	do
		digit[n++] = (char)('0' + v % 10);
	while (v /= 10);
	while (n)
		put_c(t, digit[--n]);
}

static void put_x(struct text *t, uint64_t v)
{
	int shift = 60;

	while (shift && !(v >> shift))
		shift -= 4;
	for (; shift >= 0; shift -= 4)
		put_c(t, "0123456789abcdef"[v >> shift & 15]);
}

static void key_u(struct text *t, const char *key, uint64_t v)
{
	put_c(t, ' ');
	put_s(t, key);
	put_c(t, '=');
	put_u(t, v);
}

static void key_x(struct text *t, const char *key, uint64_t v)
{
	put_c(t, ' ');
	put_s(t, key);
	put_c(t, '=');
	put_x(t, v);
}

static void key_s(struct text *t, const char *key, const char *str)
{
	put_c(t, ' ');
	put_s(t, key);
	put_c(t, '=');
	put_s(t, str);
}

/* counter.node */
static void put_epoch(struct text *t, uint64_t epoch)
{
	put_u(t, vmp_epoch_counter(epoch));
	put_c(t, '.');
	put_u(t, vmp_epoch_node(epoch));
}

static void key_e(struct text *t, const char *key, uint64_t epoch)
{
	put_c(t, ' ');
	put_s(t, key);
	put_c(t, '=');
	put_epoch(t, epoch);
}

/* microseconds after base */
static void key_t(struct text *t, const char *key, uint64_t ns, uint64_t base)
{
	put_c(t, ' ');
	put_s(t, key);
	put_c(t, '=');
	if (ns == VMP_NEVER) {
		put_s(t, "never");
		return;
	}
	if (ns < base)
		put_c(t, '-');
	put_u(t, (ns < base ? base - ns : ns - base) / 1000);
}

static void put_state(struct text *t, const struct vmp_state *st)
{
	put_s(t, " state=(");
	put_epoch(t, st->epoch);
	put_c(t, '/');
	put_u(t, st->seq);
	put_c(t, ' ');
	put_u(t, st->holder);
	put_c(t, ':');
	put_x(t, st->holder_member);
	put_c(t, ' ');
	put_u(t, st->sync_node);
	put_c(t, ':');
	put_x(t, st->sync_member);
	if (st->cold)
		put_s(t, " cold");
	put_c(t, ')');
}

static void put_promised(struct text *t, const struct vmp_promised *pr)
{
	put_s(t, " promised=(");
	put_epoch(t, pr->epoch);
	put_c(t, ' ');
	put_u(t, pr->node);
	if (pr->released)
		put_s(t, " released");
	if (pr->own)
		put_s(t, " own");
	put_c(t, ')');
}

static void put_held(struct text *t, const struct vmp_held *h, unsigned int n)
{
	unsigned int i;

	put_s(t, " [");
	for (i = 0; i < n; i++) {
		if (i)
			put_c(t, ' ');
		put_x(t, h[i].pair);
		put_c(t, '@');
		put_epoch(t, h[i].epoch);
	}
	put_c(t, ']');
}

static void put_config(struct text *t, const struct vmp_config *config)
{
	unsigned int i;

	put_s(t, " config=(");
	put_u(t, config->version);
	for (i = 0; i < config->n; i++) {
		put_c(t, ' ');
		put_u(t, config->voter[i].node);
		put_c(t, ':');
		put_x(t, config->voter[i].id);
	}
	put_c(t, ')');
}

static void put_reg(struct text *t, const struct vmp_reg *reg)
{
	put_s(t, " {");
	put_x(t, reg->pair);
	put_promised(t, &reg->promised);
	put_state(t, &reg->state);
	put_c(t, '}');
}

/* Nonces and incarnations are random and left out: a line says what happened, and stays the same with another seed. */
static void put_msg(struct text *t, const struct vmp_msg *m)
{
	unsigned int i;

	put_s(t, vmp_msg_name(m->type));
	switch ((enum vmp_msg_type)m->type) {
	case VMP_MSG_HEARTBEAT:
		key_u(t, "seq", m->u.heartbeat.seq);
		if (m->u.heartbeat.abstaining)
			put_s(t, " abstaining");
		put_held(t, m->u.heartbeat.held, m->u.heartbeat.n_held);
		for (i = 0; i < m->u.heartbeat.n_states; i++)
			put_state(t, &m->u.heartbeat.state[i].state);
		break;
	case VMP_MSG_ACK:
		key_u(t, "seq", m->u.ack.seq);
		put_held(t, m->u.ack.supported, m->u.ack.n_supported);
		for (i = 0; i < m->u.ack.n_regs; i++)
			put_reg(t, &m->u.ack.reg[i]);
		break;
	case VMP_MSG_CLAIM:
	case VMP_MSG_PROBE:
		key_x(t, "pair", m->u.claim.pair);
		key_e(t, "epoch", m->u.claim.epoch);
		key_x(t, "member", m->u.claim.member);
		if (m->u.claim.release_of)
			key_e(t, "release_of", m->u.claim.release_of);
		if (m->u.claim.fenced_node)
			key_u(t, "fenced", m->u.claim.fenced_node);
		if (m->u.claim.force)
			put_s(t, " force");
		break;
	case VMP_MSG_GRANT:
	case VMP_MSG_PROBE_OK:
		key_x(t, "pair", m->u.grant.pair);
		key_e(t, "epoch", m->u.grant.epoch);
		if (m->u.grant.bar)
			key_e(t, "bar", m->u.grant.bar);
		break;
	case VMP_MSG_REFUSE:
		key_x(t, "pair", m->u.refuse.pair);
		key_e(t, "epoch", m->u.refuse.epoch);
		key_s(t, "reason", vmp_reason_name(m->u.refuse.reason));
		put_promised(t, &m->u.refuse.promised);
		put_state(t, &m->u.refuse.state);
		break;
	case VMP_MSG_PUT:
		key_x(t, "pair", m->u.put.pair);
		put_state(t, &m->u.put.state);
		break;
	case VMP_MSG_PUT_OK:
		key_x(t, "pair", m->u.put_ok.pair);
		key_e(t, "epoch", m->u.put_ok.epoch);
		key_u(t, "seq", m->u.put_ok.seq);
		if (m->u.put_ok.remain_ns)
			key_t(t, "remain", m->u.put_ok.remain_ns, 0);
		break;
	case VMP_MSG_HOLD:
	case VMP_MSG_HOLD_OK:
	case VMP_MSG_UNHOLD:
		key_x(t, "pair", m->u.hold.pair);
		key_e(t, "epoch", m->u.hold.epoch);
		key_u(t, "ms", m->u.hold.ms);
		break;
	case VMP_MSG_RELEASE:
		key_x(t, "pair", m->u.release.pair);
		key_e(t, "epoch", m->u.release.epoch);
		break;
	case VMP_MSG_TAKEOVER:
		key_x(t, "pair", m->u.takeover.pair);
		key_e(t, "epoch", m->u.takeover.epoch);
		key_s(t, "cause", vmp_cause_name(m->u.takeover.cause));
		put_state(t, &m->u.takeover.state);
		break;
	case VMP_MSG_READ:
		break;
	case VMP_MSG_TABLE:
	case VMP_MSG_COLD:
	case VMP_MSG_CONFIG_OK:
	case VMP_MSG_STATES:
	case VMP_MSG_STATES_OK:
		key_u(t, "part", m->u.table.part);
		key_u(t, "of", m->u.table.parts);
		put_config(t, &m->u.table.config);
		for (i = 0; i < m->u.table.n_regs; i++)
			put_reg(t, &m->u.table.reg[i]);
		break;
	case VMP_MSG_CONFIG:
		put_config(t, &m->u.config.config);
		put_s(t, m->u.config.chosen ? " chosen" : m->u.config.epoch ? " proposed" : " settled");
		break;
	case VMP_MSG_MEMBERS:
		put_s(t, " [");
		for (i = 0; i < m->u.members.n; i++) {
			if (i)
				put_c(t, ' ');
			put_x(t, m->u.members.member[i].pair);
			put_c(t, ':');
			put_x(t, m->u.members.member[i].member);
			put_s(t, m->u.members.member[i].flags & VMP_MEMBER_RUNNING ? "r" : "");
			put_s(t, m->u.members.member[i].flags & VMP_MEMBER_READY ? "+" : "");
		}
		put_c(t, ']');
		break;
	case VMP_MSG_NONE_:
	case VMP_MSG_COUNT:
		break;
	}
}

static bool note_has_epoch(unsigned int note)
{
	switch ((enum vmp_note)note) {
	case VMP_NOTE_DETECTED:
	case VMP_NOTE_PROBE_SENT:
	case VMP_NOTE_STANDBY_LOST:
	case VMP_NOTE_BLOCKED:
	case VMP_NOTE_ABSTAINING:
	case VMP_NOTE_RECOVERED:
	case VMP_NOTE_FIRST_START:
	case VMP_NOTE_CONFIG:
	case VMP_NOTE_BARRED:
	case VMP_NOTE_UNBARRED:
		return false;
	default:
		return true;
	}
}

static void put_action(struct text *t, const struct vmp_out *out, unsigned int i, uint64_t base_ns)
{
	const struct vmp_action *a = &out->action[i];

	put_s(t, vmp_action_name(a->type));
	if (a->pair)
		key_x(t, "pair", a->pair);
	switch ((enum vmp_action_type)a->type) {
	case VMP_ACT_PERSIST:
	case VMP_ACT_PERSIST_CONFIG:
	case VMP_ACT_END_MEMBERS:
	case VMP_ACT_COUNT:
		break;
	case VMP_ACT_SEND:
		put_s(t, a->to == VMP_TO_VOTERS ? " all" : " ");
		if (a->to != VMP_TO_VOTERS)
			put_u(t, a->to);
		put_c(t, ' ');
		put_msg(t, &out->msg[a->msg]);
		break;
	case VMP_ACT_ENTRY_OPEN:
	case VMP_ACT_ENTRY_REFRESH:
		key_e(t, "epoch", a->epoch);
		key_t(t, "expiry", a->expiry_ns, base_ns);
		break;
	case VMP_ACT_ENTRY_CLOSE:
	case VMP_ACT_RELAY_FENCE:
		key_e(t, "epoch", a->epoch);
		break;
	case VMP_ACT_MODE:
		key_e(t, "epoch", a->epoch);
		key_s(t, "mode", vmp_mode_name(a->code));
		if (a->code == VMP_MODE_SYNC) {
			key_u(t, "node", a->a);
			key_x(t, "member", a->b);
		}
		break;
	case VMP_ACT_ROLE:
		key_e(t, "epoch", a->epoch);
		key_s(t, "role", vmp_role_name(a->code));
		key_s(t, "cause", vmp_cause_name(a->cause));
		break;
	case VMP_ACT_OP_DONE:
		key_u(t, "op", a->op);
		key_s(t, "rc", a->rc < 0 ? "-" : "");
		put_u(t, (uint64_t)(a->rc < 0 ? -(int64_t)a->rc : a->rc));
		key_s(t, "reason", vmp_reason_name(a->code));
		break;
	case VMP_ACT_NOTE:
		put_c(t, ' ');
		put_s(t, vmp_note_name(a->code));
		if (note_has_epoch(a->code))
			key_e(t, "a", a->a);
		else if (a->code == VMP_NOTE_ABSTAINING)
			key_t(t, "a", a->a, base_ns);
		else
			key_u(t, "a", a->a);
		if (a->code == VMP_NOTE_BOUND || a->code == VMP_NOTE_HELD)
			key_t(t, "b", a->b, base_ns);
		else if (a->code == VMP_NOTE_DROPPED || a->code == VMP_NOTE_RECLAIM)
			key_e(t, "b", a->b);
		else
			key_u(t, "b", a->b);
		if (a->code == VMP_NOTE_REFUSED || a->code == VMP_NOTE_GAVE_UP || a->code == VMP_NOTE_BLOCKED)
			key_s(t, "c", vmp_reason_name((unsigned int)a->c));
		else
			key_u(t, "c", a->c);
		break;
	}
}

static size_t text_end(struct text *t)
{
	if (t->size)
		t->buf[t->len < t->size ? t->len : t->size - 1] = '\0';
	return t->len;
}

size_t vmp_msg_str(const struct vmp_msg *msg, char *buf, size_t size)
{
	struct text t = { .buf = buf, .size = size };

	put_msg(&t, msg);
	return text_end(&t);
}

size_t vmp_action_str(const struct vmp_out *out, unsigned int i, uint64_t base_ns, char *buf, size_t size)
{
	struct text t = { .buf = buf, .size = size };

	put_action(&t, out, i, base_ns);
	return text_end(&t);
}

size_t vmp_core_str(const struct vmp_core *c, const struct vmp_event *ev, const struct vmp_out *out, uint64_t base_ns,
		    char *buf, size_t size)
{
	struct text t = { .buf = buf, .size = size };
	unsigned int i;

	put_u(&t, c->node);
	key_t(&t, "t", c->now_ns, base_ns);
	put_c(&t, ' ');
	if (ev->type == VMP_EV_MSG) {
		key_u(&t, "from", ev->node);
		put_c(&t, ' ');
		put_msg(&t, &ev->msg);
	} else {
		put_s(&t, vmp_event_name(ev->type));
		if (ev->pair)
			key_x(&t, "pair", ev->pair);
		if (ev->epoch)
			key_e(&t, "epoch", ev->epoch);
		if (ev->member)
			key_x(&t, "member", ev->member);
		if (ev->node)
			key_u(&t, "node", ev->node);
		if (ev->on)
			put_s(&t, " on");
		if (ev->ready)
			put_s(&t, " ready");
	}
	put_s(&t, " ->");
	for (i = 0; i < out->n_actions; i++) {
		put_s(&t, i ? "; " : " ");
		put_action(&t, out, i, base_ns);
	}
	return text_end(&t);
}
