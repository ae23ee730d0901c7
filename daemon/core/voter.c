/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The voter: heartbeats answered, claims granted or refused, puts, releases and holds taken (section 5). */
#include "daemon/core/internal.h"

/* With n < 3 guards never expire (T1), nor while such a set is being left (T3). But once a set is settled all leases of nodes outside it
 * are over. The reserved pair is safe without its guard, which only keeps proposers out of each other's way. */
bool vmp_guard_forever(const struct vmp_core *c, const struct vmp_pair *p)
{
	if (vmp_pair_reserved(p->id) || (c->settled && vmp_voter_idx(c, p->reg.promised.node) == VMP_MAX_VOTERS))
		return false;
	return vmp_timers_static(c) || c->from_static;
}

/* "guard[p] = now + L": always a maximum (H8). */
void vmp_guard(struct vmp_step *s, struct vmp_pair *p)
{
	if (vmp_pair_is_bar(p->id))
		return;		/* nobody holds it; epochs order who writes it */
	p->told_ns = s->now + 2 * s->c->lease_ns;	/* it knows */
	vmp_max(&p->guard_ns, vmp_guard_forever(s->c, p) ? VMP_NEVER : s->now + s->c->lease_ns);
}

/* V3 c. Used by the voter for a claim, and by the candidate for its own voter (C1). */
bool vmp_guard_clear(const struct vmp_core *c, const struct vmp_pair *p, uint64_t now, uint8_t node, uint64_t release_of,
		     uint8_t fenced_node, uint64_t fenced_boot)
{
	const struct vmp_promised *pr = &p->reg.promised;

	if (now >= p->guard_ns || pr->released || !pr->epoch)
		return true;
	if (pr->node == node || (release_of && release_of == pr->epoch))
		return true;
	if (BUG(c, FENCE_BY_NAME) && fenced_node && fenced_node == pr->node)
		return true;
	/* R3: the proof names the boot; a promise whose boot is not known is covered by none */
	return fenced_node && fenced_boot && fenced_node == pr->node && fenced_boot == pr->boot;
}

/* V3 d without `force`. */
bool vmp_eligible(const struct vmp_core *c, const struct vmp_pair *p, uint8_t node, uint64_t member)
{
	const struct vmp_state *st = &p->reg.state;

	if (!st->epoch || vmp_pair_reserved(p->id))
		return true;
	if (BUG(c, CLAIM_ANY_MEMBER))
		return true;
	if (st->cold)	/* X5: nobody is in sync; the last holder's node begins, whatever content it has now */
		return node == st->holder;
	if (BUG(c, SYNC_BOOLEAN))
		return node == st->holder || node == st->sync_node;
	return (node == st->holder && member == st->holder_member) ||
	       (st->sync_node && node == st->sync_node && member == st->sync_member);
}

/* V7: a state seen anywhere is merged by maximum; true when it was news. The caller persists nothing: this does. */
bool vmp_merge_state(struct vmp_step *s, struct vmp_pair *p, const struct vmp_state *state)
{
	int cmp = vmp_state_cmp(state, &p->reg.state);
	uint64_t was = p->reg.state.epoch;

	if (cmp < 0 || !state->epoch)
		return false;
	if (!cmp) {
		if (state->cold && !p->reg.state.cold)
			p->reg.state.cold = true;
		return false;
	}
	p->reg.state = *state;
	vmp_seen(p, state->epoch);
	if (state->epoch > p->reg.promised.epoch) {
		p->reg.promised = (struct vmp_promised){ .epoch = state->epoch, .node = state->holder };
		vmp_guard(s, p);
	}
	vmp_persist(s, p);
	if (vmp_pair_is_bar(p->id))
		vmp_bar_changed(s, p, was);
	vmp_check_higher(s, p);
	return true;
}

/* V2. One answer for all listed pairs; it leaves after every guard it stands for was set. */
void vmp_on_heartbeat(struct vmp_step *s, unsigned int v, const struct vmp_msg_heartbeat *hb)
{
	struct vmp_core *c = s->c;
	struct vmp_peer *peer = &c->peer[v];
	struct vmp_msg *msg;
	uint8_t node = c->config.voter[v].node;
	unsigned int i, left = hb->n_held;
	bool barred;

	peer->heard_ns = s->now;
	peer->boot = hb->boot;
	if (peer->inc != hb->inc)
		c->members_changed = true;	/* a daemon that just started knows nothing about our members */
	peer->inc = hb->inc;
	peer->abstaining = hb->abstaining;
	if (!hb->abstaining)
		vmp_left_out_end(s, v, hb->boot);
	for (i = 0; i < hb->n_states; i++) {
		struct vmp_pair *p = vmp_pair_get(c, hb->state[i].pair);

		if (p && vmp_merge_state(s, p, &hb->state[i].state))
			vmp_pair_run(s, p);
	}
	if (c->rec.abstaining && !BUG(c, ACK_ABSTAINING))
		return;
	/* Nothing is asked for: the answer only shows that the way back works (H3), and three in a lease show it well enough. They would be
	 * two thirds of what idle nodes send. */
	if (!hb->n_held && peer->idle_inc == hb->inc && s->now - peer->idle_ack_ns < c->lease_ns / 3)
		return;
	if (!hb->n_held) {
		peer->idle_ack_ns = s->now;
		peer->idle_inc = hb->inc;
	}
	barred = vmp_barred(c, node) && !BUG(c, BAR_SUPPORTED);		/* B1 */
	msg = vmp_msg_new(s, VMP_MSG_ACK);
	msg->u.ack.inc = hb->inc;
	msg->u.ack.seq = hb->seq;
	for (i = 0; i < hb->n_held; i++) {
		const struct vmp_held *h = &hb->held[i];
		struct vmp_pair *p = vmp_pair_find(c, h->pair);
		struct vmp_promised *pr = p ? &p->reg.promised : NULL;

		if (p && pr->node == node && !pr->released && (!barred || h->pair == VMP_PAIR_VOTERS) &&
		    (pr->epoch == h->epoch || BUG(c, SUPPORT_ANY_EPOCH))) {
			if (!pr->boot)		/* an epoch belongs to one boot (H7), so the boot of a learned promise is this one */
				pr->boot = hb->boot;
			vmp_guard(s, p);
			vmp_clean(s, p);
			msg->u.ack.supported[msg->u.ack.n_supported++] = *h;
			left--;
		} else if (p && BUG(c, GUARD_BY_NODE)) {
			vmp_guard(s, p);
		}
	}
	if (BUG(c, GUARD_BY_NODE)) {
		for (i = 0; i < c->n_pairs; i++) {
			if (c->pair[i].reg.promised.node == node)
				vmp_guard(s, &c->pair[i]);
		}
	}
	/* The registers of the others, as many as fit; the start turns so that each is told some time. */
	for (i = 0; i < hb->n_held && left && msg->u.ack.n_regs < VMP_ACK_REGS &&
	     msg->u.ack.n_supported * 16u + (msg->u.ack.n_regs + 1u) * 96u <= 1152; i++) {
		const struct vmp_held *h = &hb->held[(i + c->ack_turn) % hb->n_held];
		const struct vmp_pair *p = vmp_pair_find(c, h->pair);
		struct vmp_reg *reg = &msg->u.ack.reg[msg->u.ack.n_regs];

		if (p && p->reg.promised.node == node && !p->reg.promised.released && p->reg.promised.epoch == h->epoch)
			continue;
		if (p)
			*reg = p->reg;
		else
			*reg = (struct vmp_reg){ .pair = h->pair };
		msg->u.ack.n_regs++;
	}
	if (left)
		c->ack_turn++;
	vmp_send(s, node, msg);
}

static void refuse(struct vmp_step *s, uint8_t node, const struct vmp_pair *p, uint64_t pair, uint64_t epoch, uint64_t nonce,
		   enum vmp_reason reason, bool probe)
{
	struct vmp_msg *msg = vmp_msg_new(s, VMP_MSG_REFUSE);

	msg->u.refuse.pair = pair;
	msg->u.refuse.epoch = epoch;
	msg->u.refuse.nonce = nonce;
	msg->u.refuse.reason = reason;
	msg->u.refuse.probe = probe;
	if (p && reason != VMP_REASON_ABSTAINING) {
		msg->u.refuse.promised = p->reg.promised;
		msg->u.refuse.state = p->reg.state;
		if (reason == VMP_REASON_GUARD)
			msg->u.refuse.remain_ns = p->guard_ns == VMP_NEVER ? VMP_NEVER : p->guard_ns - s->now;
	}
	vmp_send(s, node, msg);
}

/* T1: nobody but the node that was promised can end a guard without end, and it may have forgotten that claim, or have given it up when guards
 * still had an end. It is told, once in 2 L, while it is there and does not list the pair; this one too, when it is its own. */
void vmp_guard_tell(struct vmp_step *s, struct vmp_pair *p)
{
	struct vmp_core *c = s->c;
	const struct vmp_promised *pr = &p->reg.promised;
	bool there = vmp_peer_alive(c, vmp_voter_idx(c, pr->node), s->now);

	if (p->guard_ns != VMP_NEVER || pr->released || c->rec.abstaining || (there && s->now < p->told_ns))
		return;
	p->told_ns = s->now + 2 * c->lease_ns;
	if (there)
		refuse(s, pr->node, p, p->id, pr->epoch, 0, VMP_REASON_GUARD, false);
}

/* V3, V4. A probe evaluates the same and changes nothing (C1). */
void vmp_on_claim(struct vmp_step *s, unsigned int v, const struct vmp_msg_claim *cl, bool probe)
{
	struct vmp_core *c = s->c;
	uint8_t node = c->config.voter[v].node;
	struct vmp_pair *p = vmp_pair_get(c, cl->pair);
	enum vmp_reason reason = VMP_REASON_NONE;
	struct vmp_promised *pr;
	struct vmp_msg *msg;
	bool again;

	if (!p || !cl->epoch || (vmp_epoch_node(cl->epoch) != node && !BUG(c, EPOCH_NOT_UNIQUE))) {
		refuse(s, node, NULL, cl->pair, cl->epoch, cl->nonce, p ? VMP_REASON_EPOCH_LOW : VMP_REASON_TABLE_FULL, probe);
		return;
	}
	pr = &p->reg.promised;
	again = pr->epoch == cl->epoch && pr->node == node && pr->boot == cl->boot && !pr->released;	/* V4 */
	if (c->rec.abstaining)
		reason = VMP_REASON_ABSTAINING;		/* V3 a; the version was compared before (M3) */
	else if (again && !pr->own && !BUG(c, GRANT_LEARNED))
		reason = VMP_REASON_LEARNED;
	else if (!again && cl->epoch <= pr->epoch && !(BUG(c, GRANT_EQUAL_EPOCH) && cl->epoch == pr->epoch))
		reason = VMP_REASON_EPOCH_LOW;		/* V3 b */
	else if (!again && !(BUG(c, GRANT_EQUAL_EPOCH) && cl->epoch == pr->epoch) &&
		 !vmp_guard_clear(c, p, s->now, node, cl->release_of, cl->fenced_node, cl->fenced_boot))
		reason = VMP_REASON_GUARD;		/* V3 c */
	else if (!cl->force && !vmp_eligible(c, p, node, cl->member))
		reason = VMP_REASON_NOT_ELIGIBLE;	/* V3 d */
	if (!reason && !vmp_pair_reserved(cl->pair) && vmp_barred(c, node) && !BUG(c, BAR_GRANTED)) {
		reason = VMP_REASON_BARRED;		/* B1 */
		vmp_bar_tell(s, node, node);
	}
	if (!probe)
		vmp_seen(p, cl->epoch);
	if (reason || (probe && !cl->nonce)) {	/* without a nonce it only asks what we know */
		refuse(s, node, p, cl->pair, cl->epoch, cl->nonce, reason, probe);
		return;
	}
	if (!probe) {
		if (cl->force && !vmp_eligible(c, p, node, cl->member))
			vmp_note(s, p, VMP_NOTE_FORCED, cl->epoch, node, 0);
		*pr = (struct vmp_promised){ .epoch = cl->epoch, .boot = cl->boot, .node = node, .own = true };
		if (BUG(c, VOTE_AS_STATE))
			p->reg.state = (struct vmp_state){ .epoch = cl->epoch, .holder = node, .holder_member = cl->member };
		if (!BUG(c, NO_GUARD))
			vmp_guard(s, p);
		if (!again)
			vmp_persist(s, p);
		vmp_clean(s, p);
	}
	msg = vmp_msg_new(s, probe ? VMP_MSG_PROBE_OK : VMP_MSG_GRANT);
	msg->u.grant.pair = cl->pair;
	msg->u.grant.epoch = cl->epoch;
	msg->u.grant.nonce = cl->nonce;
	msg->u.grant.bar = vmp_pair_is_bar(p->id) ? p->reg.state.sync_member : 0;
	vmp_send(s, node, msg);
}

/* V5 */
void vmp_on_put(struct vmp_step *s, unsigned int v, const struct vmp_msg_put *put)
{
	struct vmp_core *c = s->c;
	const struct vmp_state *st = &put->state;
	uint8_t node = c->config.voter[v].node;
	struct vmp_pair *p = vmp_pair_get(c, put->pair);
	enum vmp_reason reason = VMP_REASON_NONE;
	struct vmp_promised *pr;
	struct vmp_msg *msg;
	uint64_t was;
	int cmp;

	if (vmp_pair_is_bar(put->pair) && st->sync_node && st->sync_node != vmp_pair_bar_node(put->pair))
		return;
	if (!p || !st->epoch || st->holder != node || (vmp_epoch_node(st->epoch) != node && !BUG(c, EPOCH_NOT_UNIQUE)))
		return;
	pr = &p->reg.promised;
	cmp = vmp_state_cmp(st, &p->reg.state);
	if (c->rec.abstaining)
		reason = VMP_REASON_ABSTAINING;
	else if (st->epoch < pr->epoch)
		reason = VMP_REASON_EPOCH_LOW;
	else if (st->epoch == pr->epoch && pr->node != node)
		reason = VMP_REASON_EPOCH_LOW;
	else if (st->epoch == pr->epoch && pr->released)
		reason = VMP_REASON_RELEASED;
	else if (cmp < 0)
		reason = VMP_REASON_STATE_LOW;
	if (!reason && !vmp_pair_reserved(put->pair) && (vmp_barred(c, node) || vmp_barred(c, st->sync_node)) && !BUG(c, BAR_GRANTED)) {
		reason = VMP_REASON_BARRED;	/* B1 */
		vmp_bar_tell(s, node, vmp_barred(c, node) ? node : st->sync_node);
	}
	vmp_seen(p, st->epoch);
	if (reason) {
		refuse(s, node, p, put->pair, st->epoch, 0, reason, false);
		return;
	}
	if (st->epoch > pr->epoch)
		*pr = (struct vmp_promised){ .epoch = st->epoch, .boot = put->boot, .node = node };
	was = p->reg.state.epoch;
	p->reg.state = *st;
	if (!BUG(c, NO_GUARD))
		vmp_guard(s, p);
	if (cmp)
		vmp_persist(s, p);
	vmp_clean(s, p);
	msg = vmp_msg_new(s, VMP_MSG_PUT_OK);
	msg->u.put_ok.pair = put->pair;
	msg->u.put_ok.epoch = st->epoch;
	msg->u.put_ok.seq = st->seq;
	if (vmp_pair_is_bar(p->id) && st->sync_node)
		msg->u.put_ok.remain_ns = vmp_bar_remain(c, st->sync_node, s->now);
	vmp_send(s, node, msg);
	if (vmp_pair_is_bar(p->id) && cmp)
		vmp_bar_changed(s, p, was);
	vmp_check_higher(s, p);
	vmp_pair_run(s, p);
}

/* V6. A release says nothing about other epochs, but for T1: who releases has no role (C3, R1) and resumes nothing it had before, and a guard
 * without end would wait for ever for the release of an epoch that the node gave up long ago and only repeats its newest one. */
static bool release_covers(const struct vmp_core *c, const struct vmp_pair *p, unsigned int v, const struct vmp_msg_release *rel)
{
	const struct vmp_promised *pr = &p->reg.promised;
	bool endless = p->guard_ns == VMP_NEVER && p->id != VMP_PAIR_VOTERS;

	/* an epoch belongs to one boot, so a promise whose boot was never heard is named well enough by its epoch */
	if (pr->epoch == rel->epoch && (!pr->boot || pr->boot == rel->boot))
		return true;
	return endless && pr->epoch <= rel->epoch &&
	       (pr->boot == rel->boot || (v != VMP_MAX_VOTERS && c->peer[v].boot == rel->boot));	/* of an earlier boot: H7 */
}

void vmp_on_release(struct vmp_step *s, uint8_t from, const struct vmp_msg_release *rel)
{
	struct vmp_core *c = s->c;
	struct vmp_pair *p = vmp_pair_find(c, rel->pair);
	struct vmp_promised *pr;

	if (!p || (c->rec.abstaining && !p->reg.promised.epoch))
		return;
	pr = &p->reg.promised;
	if (pr->node != from || pr->released || (!release_covers(c, p, vmp_voter_idx(c, from), rel) && !BUG(c, RELEASE_ANY)))
		return;
	pr->released = true;
	vmp_persist(s, p);
	vmp_pair_run(s, p);
}

/* H8, voter's side */
void vmp_on_hold(struct vmp_step *s, unsigned int v, const struct vmp_msg_hold *h)
{
	struct vmp_core *c = s->c;
	struct vmp_pair *p = vmp_pair_find(c, h->pair);
	uint8_t node = c->config.voter[v].node;
	struct vmp_msg *msg;

	if (!p || c->rec.abstaining || h->ms > c->hold_max_ms || p->reg.promised.epoch != h->epoch ||
	    p->reg.promised.node != node || p->reg.promised.released || vmp_barred(c, node))
		return;
	vmp_max(&p->guard_ns, s->now + (uint64_t)h->ms * 1000000);
	vmp_guard(s, p);
	p->held_nonce = h->nonce;
	vmp_max(&p->held_until_ns, s->now + (uint64_t)h->ms * 1000000);
	vmp_persist(s, p);	/* the one guard that outlives L, so X1 must find it again */
	msg = vmp_msg_new(s, VMP_MSG_HOLD_OK);
	msg->u.hold = *h;
	vmp_send(s, node, msg);
}

/* H8: the only way a guard shrinks. Every ordinary ack of this voter is at most L old, so now + L covers the lease that is left. */
void vmp_on_unhold(struct vmp_step *s, unsigned int v, const struct vmp_msg_hold *h)
{
	struct vmp_core *c = s->c;
	struct vmp_pair *p = vmp_pair_find(c, h->pair);

	if (!p || c->rec.abstaining || !h->nonce || p->held_nonce != h->nonce || p->reg.promised.epoch != h->epoch ||
	    p->reg.promised.node != c->config.voter[v].node || p->guard_ns == VMP_NEVER)
		return;
	p->held_nonce = 0;
	p->held_until_ns = 0;
	vmp_persist(s, p);
	vmp_min(&p->guard_ns, s->now + c->lease_ns);
}
