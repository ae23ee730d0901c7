/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The holder: heartbeats and leases (section 7), in sync and degraded (8), release and hand-over (9), the entry (10). */
#include "daemon/core/internal.h"

static bool holds(const struct vmp_pair *p)
{
	return p->role == VMP_ROLE_HOLDING || p->role == VMP_ROLE_CLOSING;
}

/* T1, once T3 is through. With two voters nobody else can win without ours, and that is bound to us for good. */
static bool renews_itself(const struct vmp_core *c, const struct vmp_pair *p)
{
	const struct vmp_promised *pr = &p->reg.promised;

	return c->renew_ok && pr->node == c->node && pr->epoch >= p->epoch && !pr->released && p->guard_ns == VMP_NEVER;
}

/* H2 (T1 with n < 3): from own send times only. */
uint64_t vmp_lease_end(const struct vmp_core *c, const struct vmp_pair *p)
{
	uint64_t t[VMP_MAX_VOTERS], end = 0;
	unsigned int i, k, n = 0;

	if (!holds(p))
		return 0;
	if (renews_itself(c, p) && c->renew_ns > p->renew_from_ns)
		end = c->renew_ns + c->holder_ns;
	for (i = 0; i < c->config.n; i++) {
		uint64_t x = p->ack[i];

		if (BUG(c, OWN_ALWAYS) && i == c->self)
			x = c->now_ns;
		for (k = n++; k && t[k - 1] < x; k--)
			t[k] = t[k - 1];
		t[k] = x;
	}
	if (n >= c->m && t[c->m - 1])
		vmp_max(&end, t[c->m - 1] + c->holder_ns);
	vmp_max(&end, p->carry_ns);	/* of the voter set before this one */
	vmp_max(&end, p->hold_end_ns);	/* H8 */
	return end;
}

/*
 * H3 has an end. A holder that is heard but hears no majority (loss in one direction) cannot open its entry, and by listing the pair it
 * would keep the guards up for ever, also those of a connected majority with an eligible member. So it stops asking L after the lease
 * ended, until a majority answers again: the same epoch is then supported again, unless another has been granted.
 */
static bool listed(const struct vmp_core *c, const struct vmp_pair *p, uint64_t now)
{
	uint64_t end = vmp_lease_end(c, p);
	unsigned int i, answering = 0;

	if (p->role != VMP_ROLE_HOLDING || vmp_timers_static(c) || p->at.phase >= VMP_PH_FENCING)
		return true;
	vmp_max(&end, c->start_ns);
	if (now <= end + c->lease_ns)
		return true;
	for (i = 0; i < c->config.n; i++)
		if (c->peer[i].acked_ns && now - c->peer[i].acked_ns <= c->lease_ns)
			answering++;
	return answering >= c->m;
}

/* H1: the clock was read when the event was taken, before the send; that time belongs to (inc, seq). */
void vmp_heartbeat_send(struct vmp_step *s)
{
	struct vmp_core *c = s->c;
	struct vmp_msg *msg = vmp_msg_new(s, VMP_MSG_HEARTBEAT);
	struct vmp_msg_heartbeat *hb = &msg->u.heartbeat;
	unsigned int i, n = 0;

	c->seq++;
	c->sent_seq[c->seq % VMP_SEND_RING] = c->seq;
	c->sent_ns[c->seq % VMP_SEND_RING] = s->now;
	hb->inc = c->inc;
	hb->seq = c->seq;
	hb->boot = c->boot;
	hb->abstaining = c->rec.abstaining;
	for (i = 0; i < c->n_pairs; i++) {
		struct vmp_pair *p = &c->pair[i];

		if (p->id == VMP_PAIR_VOTERS && c->change.phase >= VMP_CH_PROPOSE) {
			hb->held[n++] = (struct vmp_held){ .pair = p->id, .epoch = c->change.epoch };
			continue;
		}
		if (p->role == VMP_ROLE_NONE || !listed(c, p, s->now))
			continue;
		vmp_clean(s, p);
		hb->held[n].pair = p->id;
		hb->held[n++].epoch = p->at.phase >= VMP_PH_FENCING ? p->at.epoch : p->epoch;
	}
	hb->n_held = n;
	/* V7: states this node wrote travel along, a few at a time, so that a voter that missed a put learns of it. Also those of an
	 * attempt that was given up: else its voters and the others could refuse each other's candidate for ever. */
	for (i = 0; i < c->n_pairs && hb->n_states < VMP_HB_STATES; i++) {
		const struct vmp_pair *p = &c->pair[(i + c->state_turn) % c->n_pairs];
		const struct vmp_state *st = &p->reg.state;

		if (p->role == VMP_ROLE_HOLDING && p->own.epoch == p->epoch)
			st = &p->own;
		else if (p->role != VMP_ROLE_NONE)
			continue;
		/* everybody tells of bars: who set one may be gone when the barred node comes back (B3) */
		if (!st->epoch || (st->holder != c->node && !vmp_pair_is_bar(p->id)))
			continue;
		hb->state[hb->n_states].pair = p->id;
		hb->state[hb->n_states++].state = *st;
	}
	c->state_turn = c->n_pairs ? (c->state_turn + i) % c->n_pairs : 0;
	vmp_send(s, VMP_TO_VOTERS, msg);
	if (!c->rec.abstaining)
		c->renew_ns = s->now;	/* T1 */
}

void vmp_on_ack(struct vmp_step *s, unsigned int v, const struct vmp_msg_ack *ack)
{
	struct vmp_core *c = s->c;
	unsigned int i, slot = ack->seq % VMP_SEND_RING;
	uint64_t sent = c->sent_ns[slot];

	if (c->sent_seq[slot] != ack->seq || (ack->inc != c->inc && !BUG(c, ACK_NO_INC)))
		return;		/* H1 */
	if (BUG(c, LEASE_FROM_ARRIVAL))
		sent = s->now;
	vmp_max(&c->peer[v].acked_ns, sent);
	for (i = 0; i < ack->n_supported; i++) {
		struct vmp_pair *p = vmp_pair_find(c, ack->supported[i].pair);
		uint64_t epoch = ack->supported[i].epoch;

		if (!p || p->role == VMP_ROLE_NONE)
			continue;
		if (holds(p) && p->epoch == epoch) {
			vmp_max(&p->ack[v], sent);
			vmp_entry_update(s, p);
		} else if (p->at.phase >= VMP_PH_FENCING && p->at.epoch == epoch) {
			vmp_max(&p->at.ack[v], sent);
		}
	}
	if (BUG(c, ACK_PER_NODE)) {
		for (i = 0; i < c->n_pairs; i++) {
			if (holds(&c->pair[i])) {
				vmp_max(&c->pair[i].ack[v], sent);
				vmp_entry_update(s, &c->pair[i]);
			}
		}
	}
	for (i = 0; i < ack->n_regs; i++) {
		const struct vmp_reg *reg = &ack->reg[i];
		struct vmp_pair *p = vmp_pair_find(c, reg->pair);

		if (!p)
			continue;
		vmp_seen(p, reg->promised.epoch);
		vmp_merge_state(s, p, &reg->state);
		/* H5: promised above ours, and no state above ours of another holder: a failed attempt */
		if (p->role == VMP_ROLE_HOLDING && reg->promised.epoch > p->epoch)
			vmp_reclaim(s, p, reg->promised.epoch);
		vmp_pair_run(s, p);
	}
}

/* --- the entry (section 10) ---------------------------------------------------------------------------------------- */

/* K2, K3: one place opens and refreshes; never a value that is past. */
void vmp_entry_update(struct vmp_step *s, struct vmp_pair *p)
{
	uint64_t end = vmp_lease_end(s->c, p);
	struct vmp_action *a;

	if (p->role != VMP_ROLE_HOLDING || end <= s->now || !p->hosted || p->member != p->held_member)
		return;
	if (p->entry_open && end <= p->expiry_ns)
		return;
	/* section 3: a daemon that starts again has to know of an open entry, else it releases later epochs under it (seed 201596891) */
	if (!p->entry_open && !p->on_run && !(p->written && p->on_run_next))
		return;
	a = vmp_act(s, p->entry_open ? VMP_ACT_ENTRY_REFRESH : VMP_ACT_ENTRY_OPEN, p);
	a->epoch = p->epoch;
	a->expiry_ns = end;
	p->expiry_ns = end;
	if (!p->entry_open) {
		vmp_note(s, p, VMP_NOTE_BOUND, p->epoch, end, 0);
		p->entry_open = true;
	}
	if (p->old_hold_nonce) {	/* H8: an ordinary expiry is stored, so the hold taken before the restart can end */
		p->hold_nonce = p->old_hold_nonce;
		p->old_hold_nonce = 0;
		vmp_hold_end(s, p);
	}
}

void vmp_entry_close(struct vmp_step *s, struct vmp_pair *p)	/* K4 */
{
	struct vmp_action *a = vmp_act(s, VMP_ACT_ENTRY_CLOSE, p);

	p->close_op = ++s->c->next_op;
	a->epoch = p->epoch;
	a->op = p->close_op;
	p->entry_open = false;
	p->expiry_ns = 0;
}

/* --- puts (H6) -------------------------------------------------------------------------------------------------------- */

static void put_send(struct vmp_step *s, struct vmp_pair *p)
{
	struct vmp_msg *msg;

	vmp_clean(s, p);
	msg = vmp_msg_new(s, VMP_MSG_PUT);
	msg->u.put.pair = p->id;
	msg->u.put.boot = s->c->boot;
	msg->u.put.state = p->put.state;
	vmp_send(s, VMP_TO_VOTERS, msg);
	p->put.next_ns = s->now + s->c->hb_ns / 4;
}

/* Every put has a new seq, written before it is sent. The first of an epoch is given by the candidate. */
void vmp_put_start(struct vmp_step *s, struct vmp_pair *p, enum vmp_put_goal goal, const struct vmp_state *state)
{
	p->put = (struct vmp_put){ .goal = goal, .first_ns = s->now, .state = *state };
	if (goal != VMP_PUT_ESTABLISH) {
		p->put.state.seq = p->own.seq + (BUG(s->c, PUT_NO_SEQ) ? 0 : 1);
		p->own = p->put.state;
	} else if (p->role == VMP_ROLE_ESTABLISHING) {
		p->own = p->put.state;
	}
	vmp_persist(s, p);
	put_send(s, p);
}

static void put_done(struct vmp_step *s, struct vmp_pair *p)
{
	struct vmp_core *c = s->c;
	bool establish = p->put.goal == VMP_PUT_ESTABLISH;
	enum vmp_mode mode;

	p->put.goal = VMP_PUT_NONE;
	p->own = p->put.state;
	mode = p->own.sync_node ? VMP_MODE_SYNC : VMP_MODE_ALONE;
	if (establish) {	/* C5 */
		bool reclaim = p->role == VMP_ROLE_HOLDING;

		p->role = VMP_ROLE_HOLDING;
		p->cause = p->at.cause;
		p->epoch = p->at.epoch;
		p->held_member = p->own.holder_member;
		memcpy(p->ack, p->at.ack, sizeof p->ack);
		p->at.phase = VMP_PH_IDLE;
		p->forced_member = 0;
		p->takeover_epoch = p->rel_epoch = p->return_ns = p->backoff_ns = 0;
		p->held_off = false;
		p->catch_op = 0;
		p->blocked = VMP_REASON_NONE;
		if (!reclaim) {
			p->renew_from_ns = s->now > c->hb_ns * 2 ? s->now - c->hb_ns * 2 : 0;
			p->caught_node = 0;
			p->carry_ns = p->hold_end_ns = p->hold_nonce = p->old_hold_nonce = 0;
			p->entry_open = false;
		}
		vmp_persist(s, p);
		vmp_op_done(s, &p->promote, 0, VMP_REASON_NONE);
		p->promote_force = false;
		vmp_role_note(s, p, p->cause);
		vmp_note(s, p, VMP_NOTE_ESTABLISHED, p->epoch, p->own.seq, 0);
		p->mode = VMP_MODE_COUNT;	/* say it also when it is the same: the epoch is new */
	}
	vmp_mode_set(s, p, mode);
	if (establish && p->entry_open)
		p->expiry_ns = 0;	/* store again: the same entry, a new epoch */
	vmp_entry_update(s, p);
	if (p->mode == VMP_MODE_ALONE && !establish)
		vmp_note(s, p, VMP_NOTE_ALONE, p->epoch, p->own.seq, 0);
	if (p->mode == VMP_MODE_SYNC)
		vmp_note(s, p, VMP_NOTE_SYNC, p->epoch, p->own.seq, p->own.sync_node);
	vmp_pair_run(s, p);
}

void vmp_on_put_ok(struct vmp_step *s, unsigned int v, const struct vmp_msg_put_ok *ok)
{
	struct vmp_core *c = s->c;
	struct vmp_pair *p = vmp_pair_find(c, ok->pair);

	if (ok->pair == VMP_PAIR_VOTERS)
		vmp_voters_put_ok(s, v, ok);
	if (vmp_pair_is_bar(ok->pair))
		vmp_bar_put_ok(s, v, ok);
	if (!p || !p->put.goal)
		return;
	vmp_pair_run(s, p);	/* C2, C3, H6: what has ended in the meantime takes no answers */
	if (!p->put.goal || p->put.state.epoch != ok->epoch || p->put.state.seq != ok->seq ||
	    (s->now - p->put.first_ns >= c->holder_ns && !BUG(c, NO_TIME_LIMIT)))
		return;
	p->put.ok |= 1u << v;
	if (vmp_votes(c, p->put.ok) >= vmp_need(c))
		put_done(s, p);
}

/* --- in sync and degraded (section 8) ---------------------------------------------------------------------------------- */

static bool standby_well(const struct vmp_core *c, const struct vmp_pair *p, unsigned int v, uint64_t member, uint64_t now)
{
	const uint8_t both = VMP_MEMBER_RUNNING | VMP_MEMBER_READY;

	return v < c->config.n && v != c->self && vmp_peer_alive(c, v, now) && p->peer[v].member && !vmp_barred(c, c->config.voter[v].node) &&
	       (!member || p->peer[v].member == member) && (p->peer[v].flags & both) == both;
}

static bool caught_up(const struct vmp_pair *p, uint8_t node, uint64_t member)
{
	return !p->policy.relay || (p->caught_node == node && p->caught_member == member);
}

/* The node to hand over to: the recorded standby, alive, and really in mode sync. 0: none. */
uint8_t vmp_in_sync_standby(const struct vmp_core *c, const struct vmp_pair *p, uint64_t now)
{
	if (p->role != VMP_ROLE_HOLDING || p->mode != VMP_MODE_SYNC || !p->own.sync_node ||
	    !standby_well(c, p, vmp_voter_idx(c, p->own.sync_node), p->own.sync_member, now))
		return 0;
	return p->own.sync_node;
}

static void mode_run(struct vmp_step *s, struct vmp_pair *p)
{
	struct vmp_core *c = s->c;
	struct vmp_state st = p->own;
	unsigned int v;

	if (p->at.phase >= VMP_PH_CLAIMING || !p->hosted || !p->own.epoch || !listed(c, p, s->now))
		return;		/* H3: a put keeps up guards as well */
	if (p->put.goal) {
		if (p->put.goal == VMP_PUT_ESTABLISH)
			return;
		if (s->now - p->put.first_ns >= c->holder_ns && !BUG(c, NO_TIME_LIMIT)) {
			st = p->put.state;	/* H6; D3: until then the mode is wait */
			vmp_put_start(s, p, p->put.goal, &st);
		} else if (s->now >= p->put.next_ns) {
			put_send(s, p);
		}
	}
	if (st.sync_node) {
		v = vmp_voter_idx(c, st.sync_node);
		if (standby_well(c, p, v, st.sync_member, s->now) && !p->link_down && caught_up(p, st.sync_node, st.sync_member)) {
			/* H7: after a restart, and after a failed re-claim, the outcome of the last put is not known */
			if (!p->put.goal && p->mode == VMP_MODE_WAIT)
				vmp_put_start(s, p, VMP_PUT_SAME, &st);
			return;
		}
		if (p->mode == VMP_MODE_WAIT && s->now < c->start_ns + c->lease_ns && v < c->config.n && !p->link_down &&
		    (!c->peer[v].members_ns || !c->peer[v].heard_ns || (p->policy.relay && !p->caught_node)))
			return;		/* H7: just resumed; give the standby the time to be heard */
		/* Without a lease it is us who may be lost. A put that still reached a majority would only take the right to claim from the
		 * standby there; nothing leaves here anyway. */
		if (!vmp_timers_static(c) && vmp_lease_end(c, p) <= s->now) {
			vmp_mode_set(s, p, VMP_MODE_WAIT);
			return;
		}
		if (v < c->config.n && !vmp_peer_alive(c, v, s->now) && vmp_was_late(c, s->now))
			return;
		vmp_note(s, p, VMP_NOTE_STANDBY_LOST, st.sync_node, 0, 0);	/* D2, to alone */
		vmp_mode_set(s, p, BUG(c, ALONE_EARLY) ? VMP_MODE_ALONE : VMP_MODE_WAIT);
		st.sync_node = 0;
		st.sync_member = 0;
		vmp_put_start(s, p, VMP_PUT_ALONE, &st);
		return;
	}
	if (p->put.goal)
		return;
	if (p->catch_op) {	/* D2, to sync: waiting to hear that the standby holds everything up to the wait */
		v = vmp_voter_idx(c, p->caught_node);
		if (p->caught_node && standby_well(c, p, v, p->caught_member, s->now) && !p->link_down)
			return;
		p->catch_op = 0;
		vmp_mode_set(s, p, VMP_MODE_ALONE);	/* nothing was put: still none in sync at m voters */
	} else if (p->mode == VMP_MODE_WAIT) {
		vmp_put_start(s, p, VMP_PUT_SAME, &st);
		return;
	}
	if (p->mode != VMP_MODE_ALONE || p->link_down)
		return;
	for (v = 0; v < c->config.n; v++) {
		uint8_t node = c->config.voter[v].node;

		if (!standby_well(c, p, v, 0, s->now) || !caught_up(p, node, p->peer[v].member))
			continue;
		if (BUG(c, SYNC_WHILE_ALONE)) {
			;
		} else if (p->policy.relay) {
			p->catch_op = ++c->next_op;
			vmp_mode_set(s, p, VMP_MODE_WAIT);
			return;
		} else {
			vmp_mode_set(s, p, VMP_MODE_WAIT);
		}
		st.sync_node = node;
		st.sync_member = p->peer[v].member;
		vmp_put_start(s, p, VMP_PUT_SYNC, &st);
		return;
	}
}

/* policy.relay: the relay tells what the standby holds. */
void vmp_on_in_sync(struct vmp_step *s, struct vmp_pair *p, const struct vmp_event *ev)
{
	struct vmp_state st = p->own;

	if (!ev->on) {
		if (p->caught_node == ev->node)
			p->caught_node = 0;
	} else if (p->catch_op && ev->op == p->catch_op && ev->node == p->caught_node && ev->member == p->caught_member &&
		   p->role == VMP_ROLE_HOLDING && p->at.phase < VMP_PH_CLAIMING && !p->put.goal && !st.sync_node &&
		   p->mode == VMP_MODE_WAIT) {
		p->catch_op = 0;
		st.sync_node = ev->node;
		st.sync_member = ev->member;
		vmp_put_start(s, p, VMP_PUT_SYNC, &st);
	} else if (!ev->op) {
		p->caught_node = ev->node;
		p->caught_member = ev->member;
	}
	vmp_pair_run(s, p);
}

/* T1: a fenced voter is back, and counts again. It knows nothing of what was recorded without it, so who goes on alone by that alone has to
 * have it recorded once more (D2): before it could be asked by itself. */
void vmp_left_out_end(struct vmp_step *s, unsigned int v, uint64_t boot)
{
	struct vmp_core *c = s->c;
	unsigned int i;

	if (!c->peer[v].left_out || boot == c->peer[v].fenced_boot)
		return;
	c->peer[v].left_out = false;
	if (!vmp_timers_static(c))
		return;		/* nobody was left out (vmp_need) */
	for (i = 0; i < c->n_pairs; i++) {
		struct vmp_pair *p = &c->pair[i];

		if (p->role != VMP_ROLE_HOLDING)
			continue;
		p->catch_op = 0;
		vmp_mode_set(s, p, VMP_MODE_WAIT);
		vmp_pair_run(s, p);
	}
}

/* --- release (section 9) ------------------------------------------------------------------------------------------------ */

void vmp_release_send(struct vmp_step *s, struct vmp_pair *p, uint64_t epoch, uint64_t boot)
{
	struct vmp_msg *msg;

	vmp_clean(s, p);
	msg = vmp_msg_new(s, VMP_MSG_RELEASE);
	msg->u.release.pair = p->id;
	msg->u.release.epoch = epoch;
	msg->u.release.boot = boot;
	vmp_send(s, VMP_TO_VOTERS, msg);
}

/* The newest epoch that this node is known to have claimed, before a restart of the daemon as well. */
static uint64_t last_claim(const struct vmp_core *c, const struct vmp_pair *p)
{
	uint64_t epoch = vmp_epoch_node(p->epoch_seen) == c->node ? p->epoch_seen : 0;

	if (p->reg.promised.node == c->node)
		vmp_max(&epoch, p->reg.promised.epoch);
	return epoch;
}

static void release_and_takeover(struct vmp_step *s, struct vmp_pair *p)
{
	uint64_t claimed = last_claim(s->c, p);

	vmp_release_send(s, p, p->rel_epoch, p->rel_boot);
	if (vmp_timers_static(s->c) && claimed > p->rel_epoch && claimed <= p->released && p->at.phase == VMP_PH_IDLE)
		vmp_release_send(s, p, claimed, s->c->boot);	/* T1, of a re-claim that a restart of the daemon has ended */
	else if (p->at.epoch > p->rel_epoch && p->at.phase == VMP_PH_IDLE && p->at.epoch <= p->released)
		vmp_release_send(s, p, p->at.epoch, s->c->boot);	/* of a re-claim that failed: now the role is none and the entry closed (C3) */
	if (p->hand_to) {
		struct vmp_msg *msg = vmp_msg_new(s, VMP_MSG_TAKEOVER);

		msg->u.takeover.pair = p->id;
		msg->u.takeover.epoch = p->rel_epoch;
		msg->u.takeover.cause = p->cause;
		msg->u.takeover.state = p->hand_state;
		vmp_send(s, p->hand_to, msg);
	}
	p->rel_next_ns = s->now + (s->now < p->rel_until_ns ? s->c->hb_ns / 2 : s->c->lease_ns);
}

/* T1: whatever this node last claimed is over, and its guards would last for ever. */
void vmp_release_claims(struct vmp_core *c, struct vmp_pair *p)
{
	vmp_max(&p->rel_epoch, last_claim(c, p));
	vmp_max(&p->rel_epoch, p->released);
	vmp_max(&p->released, p->rel_epoch);
	p->rel_boot = c->boot;
}

/* R1: close first; what follows waits for the kernel's word (vmp_on_closed). */
void vmp_release_begin(struct vmp_step *s, struct vmp_pair *p, enum vmp_cause cause, uint8_t hand_to)
{
	if (p->role != VMP_ROLE_HOLDING)
		return;
	vmp_attempt_end(s, p, VMP_REASON_SUPERSEDED, false);
	p->put.goal = VMP_PUT_NONE;
	p->catch_op = 0;
	p->role = VMP_ROLE_CLOSING;
	p->cause = cause;
	p->hand_to = hand_to;
	p->hand_state = p->own;
	vmp_note(s, p, VMP_NOTE_DETECTED, cause, s->c->node, 0);
	if (BUG(s->c, RELEASE_BEFORE_CLOSE)) {
		p->rel_epoch = p->epoch;
		p->rel_boot = s->c->boot;
		release_and_takeover(s, p);
	}
	vmp_mode_set(s, p, VMP_MODE_WAIT);
	vmp_entry_close(s, p);
	vmp_role_note(s, p, cause);
}

void vmp_on_closed(struct vmp_step *s, struct vmp_pair *p, uint64_t op)
{
	if (op != p->close_op)
		return;
	vmp_note(s, p, VMP_NOTE_UNBOUND, p->epoch, 0, 0);
	if (p->role != VMP_ROLE_CLOSING)
		return;
	p->role = VMP_ROLE_NONE;
	vmp_max(&p->released, p->epoch);
	vmp_max(&p->released, p->at.epoch);
	if (vmp_timers_static(s->c))
		vmp_max(&p->released, last_claim(s->c, p));
	p->rel_epoch = p->epoch;
	p->rel_boot = s->c->boot;
	p->rel_until_ns = s->now + s->c->lease_ns;
	p->return_ns = s->now + 2 * s->c->lease_ns;	/* R2: somebody else first */
	vmp_persist(s, p);
	vmp_note(s, p, VMP_NOTE_RELEASED, p->epoch, p->hand_to, p->cause);	/* before what the standby can answer */
	release_and_takeover(s, p);
	vmp_role_note(s, p, p->cause);
	vmp_op_done(s, &p->release_req, 0, VMP_REASON_NONE);
	vmp_op_done(s, &p->hold_req, -ESTALE, VMP_REASON_NOT_HOLDER);
	p->hold_nonce = p->hold_end_ns = 0;
	if (p->remove) {
		p->hosted = false;
		p->remove = false;
	}
	vmp_pair_run(s, p);
}

/* H4, K4 */
void vmp_holder_drop(struct vmp_step *s, struct vmp_pair *p, enum vmp_cause cause)
{
	uint64_t epoch = p->epoch;

	p->role = VMP_ROLE_NONE;
	p->put.goal = VMP_PUT_NONE;
	p->catch_op = 0;
	if (p->at.phase != VMP_PH_IDLE)
		vmp_note(s, p, VMP_NOTE_GAVE_UP, p->at.epoch, 0, VMP_REASON_HELD_ELSEWHERE);
	p->at.phase = VMP_PH_IDLE;
	p->rel_epoch = p->hold_nonce = p->hold_end_ns = p->old_hold_nonce = 0;
	vmp_max(&p->released, epoch);
	vmp_mode_set(s, p, VMP_MODE_WAIT);
	vmp_entry_close(s, p);
	vmp_persist(s, p);
	vmp_note(s, p, VMP_NOTE_DROPPED, epoch, p->reg.state.epoch, 0);
	vmp_role_note(s, p, cause);
	vmp_op_done(s, &p->release_req, 0, VMP_REASON_NONE);
	vmp_op_done(s, &p->hold_req, -ESTALE, VMP_REASON_NOT_HOLDER);
	if (p->remove) {
		p->hosted = false;
		p->remove = false;
	}
}

/* After the own voter's state changed. */
void vmp_check_higher(struct vmp_step *s, struct vmp_pair *p)
{
	const struct vmp_core *c = s->c;
	const struct vmp_state *st = &p->reg.state;

	if (holds(p) && st->epoch > p->epoch && st->holder != c->node) {
		vmp_holder_drop(s, p, VMP_CAUSE_HIGHER_STATE);		/* H4 */
		return;
	}
	if (p->at.phase >= VMP_PH_CLAIMING && (st->epoch > p->at.epoch ||
	    (p->at.phase == VMP_PH_CLAIMING && !p->at.force && !vmp_eligible(c, p, c->node, p->at.member))))
		vmp_attempt_end(s, p, VMP_REASON_HELD_ELSEWHERE, true);
	if (st->holder != c->node)
		p->forced_member = 0;
	if (st->epoch > p->rel_epoch)
		p->rel_epoch = 0;	/* somebody took over: no need to repeat the release */
	if (p->takeover_epoch && st->epoch > p->takeover_epoch)
		p->takeover_epoch = 0;
	if (st->epoch > p->released && st->holder != c->node)
		p->held_off = false;	/* what Pacemaker demoted here has gone on elsewhere: from now on we are its standby */
}

/* --- H8 ------------------------------------------------------------------------------------------------------------------ */

static void hold_send(struct vmp_step *s, struct vmp_pair *p, enum vmp_msg_type type)
{
	struct vmp_msg *msg = vmp_msg_new(s, type);

	msg->u.hold.pair = p->id;
	msg->u.hold.epoch = p->epoch;
	msg->u.hold.nonce = p->hold_nonce;
	msg->u.hold.ms = p->hold_ms;
	vmp_send(s, VMP_TO_VOTERS, msg);
}

void vmp_hold_begin(struct vmp_step *s, struct vmp_pair *p, uint32_t ms, uint64_t op)
{
	struct vmp_core *c = s->c;

	if (p->role != VMP_ROLE_HOLDING) {
		vmp_op_answer(s, op, -ESTALE, VMP_REASON_NOT_HOLDER);
		return;
	}
	vmp_op_done(s, &p->hold_req, -ECANCELED, VMP_REASON_SUPERSEDED);
	p->hold_req = (struct vmp_request){ .op = op, .deadline_ns = s->now + c->holder_ns };
	p->hold_ms = ms < c->hold_max_ms ? ms : c->hold_max_ms;
	p->hold_nonce = vmp_random(c);
	p->old_hold_nonce = 0;	/* replaced; else the first opening, which this hold may bring about, would end it */
	p->hold_first_ns = s->now;
	p->hold_ok = 0;
	vmp_persist(s, p);	/* the nonce: the daemon that comes after us ends the hold */
	hold_send(s, p, VMP_MSG_HOLD);
}

void vmp_on_hold_ok(struct vmp_step *s, unsigned int v, const struct vmp_msg_hold *h)
{
	struct vmp_core *c = s->c;
	struct vmp_pair *p = vmp_pair_find(c, h->pair);

	if (!p || p->role != VMP_ROLE_HOLDING || !p->hold_nonce || p->hold_nonce != h->nonce || p->epoch != h->epoch ||
	    s->now - p->hold_first_ns >= c->holder_ns)
		return;
	p->hold_ok |= 1u << v;
	if (vmp_votes(c, p->hold_ok) < vmp_need(c))
		return;
	p->hold_end_ns = p->hold_first_ns + vmp_holder_lease_ns(p->hold_ms, c->rho_permille, 0);
	p->hold_end_ns -= p->hold_end_ns - p->hold_first_ns > c->q_ns ? c->q_ns : p->hold_end_ns - p->hold_first_ns;
	vmp_entry_update(s, p);
	vmp_note(s, p, VMP_NOTE_HELD, p->epoch, vmp_lease_end(c, p), 0);
	vmp_op_done(s, &p->hold_req, 0, VMP_REASON_NONE);
}

/* Only after an ordinary expiry is stored: the store comes before the send in the list of actions. */
void vmp_hold_end(struct vmp_step *s, struct vmp_pair *p)
{
	uint64_t end;

	if (!p->hold_nonce)
		return;
	p->hold_end_ns = 0;
	end = vmp_lease_end(s->c, p);
	if (p->entry_open && end > s->now) {
		struct vmp_action *a = vmp_act(s, VMP_ACT_ENTRY_REFRESH, p);

		a->epoch = p->epoch;
		a->expiry_ns = p->expiry_ns = end;
		hold_send(s, p, VMP_MSG_UNHOLD);
	} else if (p->entry_open) {
		vmp_entry_close(s, p);	/* not confirmed in this step: the voters' guards run out by themselves */
	}
	/* One that is not open here may be so in the kernel, by the word of the daemon before: those guards run out, too. */
	p->hold_nonce = 0;
	vmp_persist(s, p);
}

/* --- time ---------------------------------------------------------------------------------------------------------------- */

void vmp_holder_run(struct vmp_step *s, struct vmp_pair *p)
{
	if (p->role == VMP_ROLE_HOLDING) {
		if (p->entry_open && s->now >= p->expiry_ns) {	/* H3: keep the epoch, keep listing it */
			vmp_entry_close(s, p);
			vmp_note(s, p, VMP_NOTE_LAPSED, p->epoch, 0, 0);
		}
		if (vmp_timers_static(s->c))
			vmp_entry_update(s, p);		/* T1 */
		mode_run(s, p);
		if (p->hold_req.deadline_ns && s->now >= p->hold_req.deadline_ns) {
			vmp_op_done(s, &p->hold_req, -ETIMEDOUT, VMP_REASON_NO_MAJORITY);
			vmp_hold_end(s, p);
		}
	}
	if (p->put.goal == VMP_PUT_ESTABLISH && s->now >= p->put.next_ns && p->at.phase == VMP_PH_PUTTING)
		put_send(s, p);
	if (p->rel_epoch && p->role == VMP_ROLE_NONE) {
		/* T1: without timers nothing else ever clears the guards, so it is repeated until somebody took over */
		if (s->now >= p->rel_until_ns && !vmp_timers_static(s->c))
			p->rel_epoch = 0;
		else if (s->now >= p->rel_next_ns)
			release_and_takeover(s, p);
	}
}

void vmp_holder_deadline(const struct vmp_core *c, const struct vmp_pair *p, uint64_t *at)
{
	if (p->entry_open)
		vmp_min(at, p->expiry_ns);
	if (p->put.goal && p->at.phase != VMP_PH_CLAIMING && p->at.phase != VMP_PH_FENCING && listed(c, p, c->now_ns))
		vmp_min(at, p->put.next_ns);
	if (p->hold_req.deadline_ns)
		vmp_min(at, p->hold_req.deadline_ns);
	if (p->rel_epoch && p->role == VMP_ROLE_NONE)
		vmp_min(at, p->rel_next_ns);
}
