/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Barring a node (rules B1 to B6, an extension of the protocol; core.h tells the duties): what a fence device vouches for.
 *
 * Each node that was ever barred has a reserved register, written by a claim and one put like the first state of a pair. So what the
 * protocol says of registers holds for it: it is durable before it is answered for, merged by maximum, read back after a loss of memory,
 * kept in cold starts and handed over when the voter set changes. A put is settled by its claim: a write that was begun before and not
 * ended can no longer come into force.
 *
 *   state.epoch, seq = 1, holder = the node that wrote it, holder_member = at whose request (enum vmp_bar_by)
 *   sync_node        = the node while it is barred, 0 once the bar is lifted
 *   sync_member      = epoch of its newest bar, in force or lifted
 *
 * B1 A voter with the bar recorded supports (V2), grants (V3), takes puts (V5) and holds (H8) of that node for no pair any more, and no
 *    put that makes a member there the standby. Everything else of it counts as before: it stays a voter.
 * B2 put_ok of a bar says for how long the voter's guards still cover pairs of the barred node; a voter that has recorded the bar never
 *    extends these. The bar is answered for when m voters have recorded it, those times have passed for m of them, on the clock of
 *    who asks, from when the answer came, and m take it once more after that: it was not lifted meanwhile. Any majority that ever supported the node shares a voter with these m; a guard outlasts the
 *    lease it was set for on any clock (V2), so every lease is over. With n < 3 a guard has no end: only a release, or a verified
 *    end of that boot (R3), is waited for.
 * B3 The barred node closes its entries, releases them (R1) and ends its members. It does so as well when it learns only of the lifted
 *    bar: what Pacemaker was told of its members was true then, and has to be true when the node is back.
 * B4 It claims nothing while its own voter knows of the bar, and is promoted nowhere.
 * B5 A bar is lifted the same way. It is answered for when m voters have recorded that, and the node itself has, unless it is not heard;
 *    so what starts there afterwards is not ended by B3.
 *    A bar is no verified fence in the sense of R3: that boot lives on, and may hold again when the bar is lifted.
 * B6 A holder whose standby is barred goes alone (D2). The recorded members of a barred node count as gone for a first start. */
#include "daemon/core/internal.h"

enum { IDLE, WANT, CLAIM, PUT, WAIT, CONFIRM };

static const struct vmp_pair *reg_of(const struct vmp_core *c, uint8_t node)
{
	unsigned int i;

	for (i = 0; i < c->n_pairs; i++) {
		if (c->pair[i].id == VMP_PAIR_BAR(node))
			return &c->pair[i];
	}
	return NULL;
}

static bool in_force(const struct vmp_state *st)
{
	return st->epoch && st->sync_node;
}

bool vmp_barred(const struct vmp_core *c, uint8_t node)
{
	const struct vmp_pair *p = node ? reg_of(c, node) : NULL;

	return p && in_force(&p->reg.state);
}

bool vmp_core_barred(const struct vmp_core *c, uint8_t node, struct vmp_bar_view *ret)
{
	const struct vmp_pair *p = node ? reg_of(c, node) : NULL;
	unsigned int i;

	memset(ret, 0, sizeof *ret);
	if (p && p->reg.state.epoch) {
		ret->known = true;
		ret->barred = in_force(&p->reg.state);
		ret->writer = p->reg.state.holder;
		ret->by = (uint8_t)p->reg.state.holder_member;
		ret->epoch = p->reg.state.epoch;
	}
	for (i = 0; i < VMP_MAX_VOTERS; i++)
		ret->busy |= c->bar[i].node == node && c->bar[i].phase != IDLE;
	return ret->barred;
}

/* B2: what this voter's guards still protect of a node. */
uint64_t vmp_bar_remain(const struct vmp_core *c, uint8_t node, uint64_t now)
{
	unsigned int i, v = vmp_voter_idx(c, node);
	uint64_t boot = v == VMP_MAX_VOTERS ? 0 : c->peer[v].fenced_boot, left = 0;

	for (i = 0; i < c->n_pairs; i++) {
		const struct vmp_pair *p = &c->pair[i];

		if (vmp_pair_reserved(p->id) || p->reg.promised.node != node || vmp_guard_clear(c, p, now, 0, 0, boot ? node : 0, boot))
			continue;
		vmp_max(&left, p->guard_ns == VMP_NEVER ? VMP_NEVER : p->guard_ns - now);
	}
	return left;
}

/* Whoever acts against a bar has not heard of it. */
void vmp_bar_tell(struct vmp_step *s, uint8_t to, uint8_t node)
{
	struct vmp_pair *p = vmp_pair_find(s->c, VMP_PAIR_BAR(node));
	struct vmp_msg *msg;

	if (!p || to == s->c->node)
		return;
	vmp_clean(s, p);
	msg = vmp_msg_new(s, VMP_MSG_STATES);
	msg->u.table.parts = msg->u.table.n_regs = 1;
	msg->u.table.reg[0] = p->reg;
	vmp_send(s, to, msg);
}

/* The register of a node has a new state. Not by its seq: a node that was away learns of it only when it is confirmed already. */
void vmp_bar_changed(struct vmp_step *s, const struct vmp_pair *p, uint64_t was)
{
	const struct vmp_state *st = &p->reg.state;

	if (st->epoch == was)
		return;		/* the same, confirmed */
	vmp_note(s, NULL, in_force(st) ? VMP_NOTE_BARRED : VMP_NOTE_UNBARRED, vmp_pair_bar_node(p->id), st->holder, st->holder_member);
	s->c->bar_due = true;
}

/* After a start: a bar in force is acted upon once more, the daemon may have died in between. */
void vmp_bar_init(struct vmp_core *c)
{
	const struct vmp_pair *p = reg_of(c, c->node);

	if (p && !in_force(&p->reg.state))
		c->bar_seen = p->reg.state.sync_member;
}

/* --- who bars, and who lifts ---------------------------------------------------------------------------------------------- */
static void answer(struct vmp_step *s, struct vmp_bar *b, int rc, enum vmp_reason reason)
{
	unsigned int i;

	for (i = 0; i < VMP_BAR_REQS; i++)
		vmp_op_done(s, &b->req[i], rc, reason);
	*b = (struct vmp_bar){ 0 };
}

static void again(struct vmp_step *s, struct vmp_bar *b)
{
	struct vmp_core *c = s->c;

	b->phase = WANT;
	b->next_ns = s->now + vmp_jitter(c, c->hb_ns / 4, 2 * c->hb_ns);
}

static void claim_send(struct vmp_step *s, struct vmp_bar *b)
{
	struct vmp_core *c = s->c;
	struct vmp_msg *msg;

	vmp_clean(s, vmp_pair_find(c, VMP_PAIR_BAR(b->node)));
	msg = vmp_msg_new(s, VMP_MSG_CLAIM);
	msg->u.claim.pair = VMP_PAIR_BAR(b->node);
	msg->u.claim.epoch = b->epoch;
	msg->u.claim.nonce = b->nonce;
	msg->u.claim.boot = c->boot;
	vmp_send(s, VMP_TO_VOTERS, msg);
	b->next_ns = s->now + c->hb_ns / 4;
}

static void put_send(struct vmp_step *s, struct vmp_bar *b)
{
	struct vmp_core *c = s->c;
	struct vmp_msg *msg = vmp_msg_new(s, VMP_MSG_PUT);

	msg->u.put.pair = VMP_PAIR_BAR(b->node);
	msg->u.put.boot = c->boot;
	msg->u.put.state = b->state;
	vmp_send(s, VMP_TO_VOTERS, msg);
	b->next_ns = s->now + (b->phase == WAIT ? c->hb_ns : c->hb_ns / 4);
}

static void put(struct vmp_step *s, struct vmp_bar *b)
{
	struct vmp_core *c = s->c;

	b->phase = PUT;
	b->ok = 0;
	memset(b->clear_ns, 0, sizeof b->clear_ns);
	b->first_ns = s->now;
	b->state = (struct vmp_state){ .epoch = b->epoch, .seq = 1, .holder = c->node, .holder_member = b->by,
				       .sync_node = b->lift ? 0 : b->node, .sync_member = b->lift ? b->last_bar : b->epoch };
	put_send(s, b);
}

static void claim(struct vmp_step *s, struct vmp_bar *b)
{
	struct vmp_core *c = s->c;
	struct vmp_pair *p = vmp_pair_get(c, VMP_PAIR_BAR(b->node));

	if (!p) {
		answer(s, b, -ENOSPC, VMP_REASON_TABLE_FULL);
		return;
	}
	b->phase = CLAIM;
	b->reason = VMP_REASON_NO_MAJORITY;
	b->granted = 0;
	b->last_bar = p->reg.state.sync_member;
	b->epoch = (vmp_epoch_counter(p->epoch_seen) + 1) << 8 | c->node;
	b->nonce = vmp_random(c) | 1;
	b->first_ns = s->now;
	vmp_seen(p, b->epoch);
	if (BUG(c, BAR_NO_CLAIM)) {
		put(s, b);
		return;
	}
	vmp_persist(s, p);
	claim_send(s, b);
}

static unsigned int need(const struct vmp_core *c)
{
	return BUG(c, BAR_ONE_VOTER) ? 1 : vmp_need(c);
}

/* B2, B5 */
static bool over(const struct vmp_core *c, const struct vmp_bar *b, uint64_t now)
{
	unsigned int v, target = vmp_voter_idx(c, b->node);
	uint8_t clear = 0;

	if (b->lift)
		return target == VMP_MAX_VOTERS || (b->ok >> target & 1) || now >= b->grace_ns || !vmp_peer_alive(c, target, now);
	if (BUG(c, BAR_NO_WAIT))
		return true;
	for (v = 0; v < c->config.n; v++)
		clear |= (unsigned int)(b->clear_ns[v] && now >= b->clear_ns[v]) << v;
	return vmp_votes(c, clear) >= need(c);
}

static void progress(struct vmp_step *s, struct vmp_bar *b)
{
	struct vmp_core *c = s->c;

	if (b->phase == PUT && vmp_votes(c, b->ok) >= need(c)) {
		b->phase = WAIT;
		b->grace_ns = s->now + c->lease_ns;
		b->reason = VMP_REASON_GUARD;
	}
	if (b->phase == CONFIRM && vmp_votes(c, b->ok) >= need(c))
		answer(s, b, 0, VMP_REASON_NONE);
	if (b->phase != WAIT || !over(c, b, s->now))
		return;
	if (b->lift || BUG(c, BAR_NO_WAIT)) {
		answer(s, b, 0, VMP_REASON_NONE);
		return;
	}
	b->phase = CONFIRM;
	b->reason = VMP_REASON_NO_MAJORITY;
	b->ok = 0;
	b->first_ns = s->now;
	b->state.seq++;
	put_send(s, b);
}

static void bar_run(struct vmp_step *s, struct vmp_bar *b)
{
	struct vmp_core *c = s->c;
	unsigned int i, waiting = 0;

	if (c->self == VMP_MAX_VOTERS || c->rec.abstaining) {	/* a node that has just booted is unfenced when its voter is back */
		b->phase = WANT;
		b->reason = c->rec.abstaining ? VMP_REASON_ABSTAINING : VMP_REASON_NO_QUORUM_CONFIG;
		b->next_ns = s->now + c->hb_ns;
	}
	for (i = 0; i < VMP_BAR_REQS; i++) {
		if (b->req[i].deadline_ns && s->now >= b->req[i].deadline_ns)
			vmp_op_done(s, &b->req[i], -ETIMEDOUT, (enum vmp_reason)b->reason);
		waiting += b->req[i].deadline_ns != 0;
	}
	if (!waiting) {
		*b = (struct vmp_bar){ 0 };
		return;
	}
	/* C3, H6: answers given longer ago do not count; an epoch is for one put only */
	if ((b->phase == CLAIM || b->phase == PUT || b->phase == CONFIRM) && s->now - b->first_ns >= c->holder_ns)
		again(s, b);
	progress(s, b);
	if (b->phase == IDLE || s->now < b->next_ns)
		return;
	switch (b->phase) {
	case WANT: claim(s, b); break;
	case CLAIM: claim_send(s, b); break;
	default: put_send(s, b); break;
	}
}

void vmp_on_bar(struct vmp_step *s, const struct vmp_event *ev)
{
	struct vmp_core *c = s->c;
	struct vmp_bar *b = NULL;
	unsigned int i;

	for (i = 0; i < VMP_MAX_VOTERS; i++) {
		if (c->bar[i].node == ev->node || (!b && !c->bar[i].node))
			b = &c->bar[i];
		if (c->bar[i].node == ev->node)
			break;
	}
	if (b && b->node && b->lift == ev->on)
		answer(s, b, -ECANCELED, VMP_REASON_SUPERSEDED);
	for (i = 0; b && i < VMP_BAR_REQS && b->req[i].deadline_ns; i++)
		;
	if (!b || i == VMP_BAR_REQS) {
		vmp_op_answer(s, ev->op, -EBUSY, VMP_REASON_BUSY);
		return;
	}
	b->node = ev->node;
	b->lift = !ev->on;
	b->by = (uint8_t)ev->member;
	b->req[i] = (struct vmp_request){ .op = ev->op, .deadline_ns = ev->deadline_ns };
	b->reason = VMP_REASON_NO_MAJORITY;
	b->phase = WANT;	/* begun anew for a second request too: what was lifted in between has to be found out */
	b->next_ns = s->now;
	bar_run(s, b);
}

static struct vmp_bar *bar_of(struct vmp_core *c, uint64_t pair)
{
	unsigned int i;

	for (i = 0; i < VMP_MAX_VOTERS; i++) {
		if (c->bar[i].node && VMP_PAIR_BAR(c->bar[i].node) == pair)
			return &c->bar[i];
	}
	return NULL;
}

void vmp_bar_granted(struct vmp_step *s, unsigned int v, const struct vmp_msg_grant *g)
{
	struct vmp_core *c = s->c;
	struct vmp_bar *b = bar_of(c, g->pair);

	if (!b || b->phase != CLAIM || g->nonce != b->nonce || g->epoch != b->epoch || s->now - b->first_ns >= c->holder_ns)
		return;
	b->granted |= 1u << v;
	vmp_max(&b->last_bar, g->bar);
	if (vmp_votes(c, b->granted) >= need(c))
		put(s, b);
}

void vmp_bar_refused(struct vmp_step *s, const struct vmp_msg_refuse *r)
{
	struct vmp_core *c = s->c;
	struct vmp_pair *p = vmp_pair_find(c, r->pair);
	struct vmp_bar *b = bar_of(c, r->pair);

	if (p) {
		vmp_seen(p, r->promised.epoch);
		vmp_merge_state(s, p, &r->state);
	}
	if (!b || r->epoch != b->epoch || (b->phase == CLAIM ? r->nonce != b->nonce : b->phase < PUT))
		return;
	if (b->phase == WAIT)
		return;		/* whether that comes to anything is seen by the confirmation */
	b->reason = r->reason;
	if (r->reason == VMP_REASON_EPOCH_LOW)
		again(s, b);
}

void vmp_bar_put_ok(struct vmp_step *s, unsigned int v, const struct vmp_msg_put_ok *ok)
{
	struct vmp_core *c = s->c;
	struct vmp_bar *b = bar_of(c, ok->pair);

	if (!b || b->phase < PUT || ok->epoch != b->epoch || ok->seq != b->state.seq || (b->phase != WAIT && s->now - b->first_ns >= c->holder_ns))
		return;
	b->ok |= 1u << v;
	if (ok->remain_ns != VMP_NEVER)
		b->clear_ns[v] = s->now + ok->remain_ns;
	progress(s, b);
}

/* Votes count under one voter set (V3 a). */
void vmp_bar_renumber(struct vmp_step *s)
{
	unsigned int i;

	for (i = 0; i < VMP_MAX_VOTERS; i++) {
		if (s->c->bar[i].phase != IDLE)
			again(s, &s->c->bar[i]);
	}
}

/* B3; with every tick. */
void vmp_bar_run(struct vmp_step *s)
{
	struct vmp_core *c = s->c;
	const struct vmp_pair *own = reg_of(c, c->node);
	bool news = own && own->reg.state.sync_member > c->bar_seen;
	unsigned int i;

	c->bar_due = false;
	if (news) {
		c->bar_seen = own->reg.state.sync_member;
		vmp_act(s, VMP_ACT_END_MEMBERS, NULL);
	}
	for (i = 0; i < c->n_pairs && own && (news || in_force(&own->reg.state)); i++) {
		struct vmp_pair *p = &c->pair[i];

		if (p->role == VMP_ROLE_HOLDING)
			vmp_release_begin(s, p, VMP_CAUSE_BARRED, vmp_in_sync_standby(c, p, s->now));
		else if (p->role != VMP_ROLE_CLOSING)
			vmp_attempt_end(s, p, VMP_REASON_BARRED, true);
	}
	for (i = 0; i < VMP_MAX_VOTERS; i++) {
		if (c->bar[i].phase != IDLE)
			bar_run(s, &c->bar[i]);
	}
}

void vmp_bar_deadline(const struct vmp_core *c, uint64_t *at)
{
	unsigned int i, k;

	if (c->bar_due)
		vmp_min(at, c->now_ns);
	for (i = 0; i < VMP_MAX_VOTERS; i++) {
		const struct vmp_bar *b = &c->bar[i];

		if (b->phase == IDLE)
			continue;
		vmp_min(at, b->next_ns);
		for (k = 0; k < VMP_BAR_REQS; k++) {
			if (b->req[k].deadline_ns)
				vmp_min(at, b->req[k].deadline_ns);
		}
		for (k = 0; k < c->config.n && b->phase == WAIT && !b->lift; k++) {
			if (b->clear_ns[k] > c->now_ns)
				vmp_min(at, b->clear_ns[k]);
		}
	}
}
