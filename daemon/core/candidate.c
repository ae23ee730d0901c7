/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The candidate: probe, claim, grants, and the holder's re-claim (section 6, H5). */
#include "daemon/core/internal.h"

/* A member named in the newest state is known to be gone: its node tells of another one, or of none, or was verifiably fenced. */
static bool member_gone(const struct vmp_core *c, const struct vmp_pair *p, uint8_t node, uint64_t member, bool any, uint64_t now)
{
	unsigned int v;

	if (!node)
		return true;
	if (node == c->node)
		return any ? !p->running : p->member != member;
	if (vmp_barred(c, node))
		return true;	/* B6 */
	v = vmp_voter_idx(c, node);
	if (v == VMP_MAX_VOTERS)
		return false;
	if (c->peer[v].fenced_boot && c->peer[v].fenced_boot == c->peer[v].boot)
		return true;
	if (!vmp_peer_alive(c, v, now) || !c->peer[v].members_ns || now - c->peer[v].members_ns > 1000000000)
		return false;
	return !(p->peer[v].flags & VMP_MEMBER_RUNNING) || (!any && p->peer[v].member != member);
}

static bool members_gone(const struct vmp_core *c, const struct vmp_pair *p, uint64_t now)
{
	const struct vmp_state *st = &p->reg.state;

	/* X5: after a cold start every content is new, so the last holder's node has to be without any member */
	return member_gone(c, p, st->holder, st->holder_member, st->cold, now) &&
	       (st->cold || member_gone(c, p, st->sync_node, st->sync_member, false, now));
}

/* R3: what is known as fenced and would clear the promise at hand. */
static bool fenced_proof(const struct vmp_core *c, const struct vmp_pair *p, uint8_t *ret_node, uint64_t *ret_boot)
{
	const struct vmp_promised *pr = &p->reg.promised;
	unsigned int v = vmp_voter_idx(c, pr->node);

	if (v == VMP_MAX_VOTERS || !c->peer[v].fenced_boot ||
	    (c->peer[v].fenced_boot != pr->boot && !BUG(c, FENCE_BY_NAME)))
		return false;
	*ret_node = pr->node;
	*ret_boot = c->peer[v].fenced_boot;
	return true;
}

/* The old holder is known to have let go, so that no living lease is disturbed by a claim. */
static bool let_go(const struct vmp_core *c, const struct vmp_pair *p)
{
	const struct vmp_promised *pr = &p->reg.promised;
	uint8_t node;
	uint64_t boot;

	return !pr->epoch || pr->released || (p->takeover_epoch && p->takeover_epoch == pr->epoch) ||
	       fenced_proof(c, p, &node, &boot);
}

static bool want(const struct vmp_core *c, const struct vmp_pair *p, uint64_t now, enum vmp_cause *ret_cause, bool *ret_force,
		 enum vmp_reason *ret_reason)
{
	const struct vmp_promised *pr = &p->reg.promised;
	bool eligible = vmp_eligible(c, p, c->node, p->member);

	*ret_reason = VMP_REASON_NONE;
	*ret_force = false;
	if (!p->hosted || p->role != VMP_ROLE_NONE)
		return false;
	if (c->self == VMP_MAX_VOTERS) {
		*ret_reason = VMP_REASON_NO_QUORUM_CONFIG;
		return false;
	}
	if (c->rec.abstaining) {
		*ret_reason = VMP_REASON_ABSTAINING;
		return false;
	}
	if (vmp_barred(c, c->node) && !BUG(c, BAR_GRANTED)) {	/* B4 */
		*ret_reason = VMP_REASON_BARRED;
		return false;
	}
	if (p->promote.deadline_ns) {
		if (!p->member || !p->running || !p->ready) {
			*ret_reason = VMP_REASON_NO_MEMBER;
			return false;
		}
		if (!eligible && !p->promote_force && !(p->policy.cold_start && members_gone(c, p, now))) {
			*ret_reason = VMP_REASON_MEMBER_ALIVE;
			return false;
		}
		/* X5: voters that were not part of the cold start do not know yet that nobody is in sync */
		*ret_force = !eligible || p->forced_member == p->member || p->reg.state.cold;
		*ret_cause = p->promote_force ? VMP_CAUSE_FORCE : VMP_CAUSE_PROMOTE;
		return true;
	}
	/* On own initiative: only for a pair that has a holder's state, and only the recorded members. */
	if (!p->reg.state.epoch || p->reg.state.cold || !p->policy.auto_failover || p->held_off)
		return false;
	if (!eligible) {
		*ret_reason = VMP_REASON_NOT_ELIGIBLE;
		return false;
	}
	if (!p->member || !p->running || !p->ready) {
		*ret_reason = VMP_REASON_NO_MEMBER;
		return false;
	}
	if (pr->node == c->node && now < p->return_ns)
		return false;
	if (!let_go(c, p) && !vmp_guard_clear(c, p, now, c->node, 0, 0, 0))	/* C1 */
		return false;
	if (!let_go(c, p) && vmp_was_late(c, now))
		return false;
	if (c->frozen || p->frozen) {
		*ret_reason = VMP_REASON_FROZEN;
		return false;
	}
	*ret_cause = pr->node == c->node ? VMP_CAUSE_RETURN : let_go(c, p) ? VMP_CAUSE_TAKEOVER : VMP_CAUSE_NODE_LOST;
	return true;
}

static uint64_t next_epoch(const struct vmp_core *c, const struct vmp_pair *p)	/* C1, I3 */
{
	uint64_t counter = vmp_epoch_counter(p->epoch_seen) + 1;

	if (BUG(c, EPOCH_REUSE) && p->at.epoch > p->reg.state.epoch && p->at.epoch >= p->reg.promised.epoch)
		return p->at.epoch;
	return counter << 8 | (BUG(c, EPOCH_NOT_UNIQUE) ? 255 : c->node);
}

static void claim_send(struct vmp_step *s, struct vmp_pair *p, bool probe)
{
	struct vmp_core *c = s->c;
	struct vmp_attempt *at = &p->at;
	struct vmp_msg *msg;

	if (!probe)
		vmp_clean(s, p);
	msg = vmp_msg_new(s, probe ? VMP_MSG_PROBE : VMP_MSG_CLAIM);
	msg->u.claim.pair = p->id;
	msg->u.claim.epoch = at->epoch;
	msg->u.claim.nonce = at->nonce;
	msg->u.claim.member = at->member;
	msg->u.claim.boot = c->boot;
	msg->u.claim.release_of = at->release_of;
	msg->u.claim.fenced_node = at->fenced_node;
	msg->u.claim.fenced_boot = at->fenced_boot;
	msg->u.claim.force = at->force;
	vmp_send(s, VMP_TO_VOTERS, msg);
	at->next_ns = s->now + vmp_jitter(c, c->hb_ns / 4, c->hb_ns * 3 / 8);
}

static void attempt_fill(struct vmp_step *s, struct vmp_pair *p, enum vmp_cause cause, bool force)
{
	struct vmp_core *c = s->c;
	uint64_t epoch = next_epoch(c, p);

	p->at = (struct vmp_attempt){ .cause = cause, .force = force, .epoch = epoch, .nonce = vmp_random(c),
				      .member = p->role == VMP_ROLE_HOLDING ? p->held_member : p->member,
				      .release_of = p->takeover_epoch, .first_ns = s->now };
	fenced_proof(c, p, &p->at.fenced_node, &p->at.fenced_boot);
}

/* One round of C1's probe: answers count for this round only. */
static void probe(struct vmp_step *s, struct vmp_pair *p, enum vmp_cause cause, bool force)
{
	enum vmp_reason reason = p->at.reason;
	bool first = p->at.phase != VMP_PH_PROBING;
	uint64_t spent = p->at.epoch;

	attempt_fill(s, p, cause, force);
	p->at.phase = VMP_PH_PROBING;
	p->at.reason = first ? VMP_REASON_NO_MAJORITY : reason;
	if (first)
		vmp_note(s, p, VMP_NOTE_PROBE_SENT, cause, 0, 0);
	claim_send(s, p, true);
	if (BUG(s->c, EPOCH_REUSE))
		p->at.epoch = spent;
}

static void claim(struct vmp_step *s, struct vmp_pair *p, enum vmp_cause cause, bool force)
{
	attempt_fill(s, p, cause, force);
	p->at.phase = VMP_PH_CLAIMING;
	if (force)
		p->forced_member = p->at.member;
	p->at.reason = VMP_REASON_NO_MAJORITY;
	vmp_seen(p, p->at.epoch);	/* C1, I3: spent from here on, also when everything is lost */
	vmp_persist(s, p);
	vmp_note(s, p, VMP_NOTE_CLAIM_SENT, p->at.epoch, cause, force);
	claim_send(s, p, false);
}

/* C3: give an attempt up; its epoch is spent. */
void vmp_attempt_end(struct vmp_step *s, struct vmp_pair *p, enum vmp_reason reason, bool back_off)
{
	struct vmp_core *c = s->c;
	uint8_t phase = p->at.phase;

	if (phase == VMP_PH_IDLE)
		return;
	p->at.phase = VMP_PH_IDLE;
	p->at.reason = reason;
	if (back_off)
		p->backoff_ns = s->now + vmp_jitter(c, c->hb_ns / 4, c->hb_ns * 3 / 2);
	if (phase == VMP_PH_PUTTING)
		p->put.goal = VMP_PUT_NONE;
	if (phase < VMP_PH_CLAIMING)
		return;
	vmp_note(s, p, VMP_NOTE_GAVE_UP, p->at.epoch, 0, reason);
	if (p->role == VMP_ROLE_HOLDING || p->role == VMP_ROLE_CLOSING) {
		/* a failed re-claim: a release would clear the guards that still protect our older, running lease */
		if (BUG(c, RELEASE_AFTER_RECLAIM))
			vmp_release_send(s, p, p->at.epoch, c->boot);
		return;
	}
	vmp_max(&p->released, p->at.epoch);
	if (p->role == VMP_ROLE_ESTABLISHING) {
		p->role = VMP_ROLE_NONE;
		vmp_persist(s, p);
		vmp_role_note(s, p, VMP_CAUSE_ATTEMPT_FAILED);
	} else {
		vmp_persist(s, p);
	}
	vmp_release_send(s, p, p->at.epoch, c->boot);
	if (vmp_timers_static(c)) {	/* T1: to be repeated, nothing else clears those guards */
		p->rel_epoch = p->at.epoch;
		p->rel_boot = c->boot;
		p->rel_until_ns = p->rel_next_ns = s->now + c->lease_ns;
		p->hand_to = 0;
	}
}

/* H5: a failed attempt keeps a voter from supporting us. */
void vmp_reclaim(struct vmp_step *s, struct vmp_pair *p, uint64_t blocking)
{
	struct vmp_core *c = s->c;

	if (BUG(c, NO_RECLAIM) || p->role != VMP_ROLE_HOLDING || p->at.phase != VMP_PH_IDLE || s->now < p->backoff_ns ||
	    (p->hosted && p->member != p->held_member))
		return;
	vmp_seen(p, blocking);
	vmp_note(s, p, VMP_NOTE_RECLAIM, p->epoch, blocking, 0);
	claim(s, p, VMP_CAUSE_RECLAIM, false);
}

/* The own register may lag behind what makes the own member eligible (a put that passed us by): ask, and merge what the answers say. */
static void learn(struct vmp_step *s, struct vmp_pair *p, enum vmp_reason reason)
{
	struct vmp_core *c = s->c;
	struct vmp_msg *msg;

	if ((reason != VMP_REASON_MEMBER_ALIVE && reason != VMP_REASON_NOT_ELIGIBLE) || !p->ready || s->now < p->learn_ns ||
	    (!p->promote.deadline_ns && s->now < p->guard_ns && !let_go(c, p)))
		return;
	p->learn_ns = s->now + 2 * c->hb_ns;
	msg = vmp_msg_new(s, VMP_MSG_PROBE);
	msg->u.claim.pair = p->id;
	msg->u.claim.epoch = next_epoch(c, p);
	msg->u.claim.member = p->member;
	msg->u.claim.boot = c->boot;
	vmp_send(s, VMP_TO_VOTERS, msg);
}

void vmp_candidate_run(struct vmp_step *s, struct vmp_pair *p)
{
	struct vmp_core *c = s->c;
	enum vmp_cause cause = VMP_CAUSE_NONE;
	enum vmp_reason reason;
	bool force;

	p->ran_ns = s->now;	/* not just any step's time: a message taken at the very end of the guard must not hide that end */
	switch ((enum vmp_phase)p->at.phase) {
	case VMP_PH_IDLE:
		if (p->role != VMP_ROLE_NONE)
			return;
		if (!want(c, p, s->now, &cause, &force, &reason)) {
			if (reason != p->blocked && reason)
				vmp_note(s, p, VMP_NOTE_BLOCKED, 0, 0, reason);
			p->blocked = reason;
			learn(s, p, reason);
			return;
		}
		p->blocked = p->at.reason;
		if (s->now < p->backoff_ns)
			return;
		if (cause == VMP_CAUSE_NODE_LOST && p->lost_noted != p->reg.promised.epoch) {
			p->lost_noted = p->reg.promised.epoch;
			vmp_note(s, p, VMP_NOTE_DETECTED, cause, p->reg.promised.node, 0);
		}
		if (let_go(c, p))
			claim(s, p, cause, force);
		else
			probe(s, p, cause, force);
		return;
	case VMP_PH_PROBING:
		if (!want(c, p, s->now, &cause, &force, &reason))
			vmp_attempt_end(s, p, reason, false);
		else if (let_go(c, p))
			claim(s, p, cause, force);
		else if (s->now >= p->at.next_ns)
			probe(s, p, cause, force);
		return;
	case VMP_PH_CLAIMING:
	case VMP_PH_FENCING:
	case VMP_PH_PUTTING:
		if (p->role != VMP_ROLE_HOLDING && (p->at.member != p->member || !p->hosted) && !BUG(c, MEMBER_REPLACED))
			vmp_attempt_end(s, p, VMP_REASON_NO_MEMBER, true);	/* C2 */
		else if (s->now - p->at.first_ns >= c->holder_ns && !BUG(c, NO_TIME_LIMIT))
			vmp_attempt_end(s, p, p->at.reason ? p->at.reason : VMP_REASON_TIMEOUT, true);	/* C3, C5 */
		else if (p->at.phase == VMP_PH_CLAIMING && s->now >= p->at.next_ns)
			claim_send(s, p, false);
		return;
	}
}

void vmp_candidate_deadline(const struct vmp_core *c, const struct vmp_pair *p, uint64_t *at)
{
	if (p->promote.deadline_ns)
		vmp_min(at, p->promote.deadline_ns);
	switch ((enum vmp_phase)p->at.phase) {
	case VMP_PH_IDLE:
		if (!p->hosted || p->role != VMP_ROLE_NONE || !p->ready)
			return;
		if (p->guard_ns > p->ran_ns)
			vmp_min(at, p->guard_ns);
		if (p->backoff_ns > p->ran_ns)
			vmp_min(at, p->backoff_ns);
		if (p->return_ns > p->ran_ns)
			vmp_min(at, p->return_ns);
		if (c->late_ns && c->late_ns + 2 * c->hb_ns > p->ran_ns)
			vmp_min(at, c->late_ns + 2 * c->hb_ns);
		return;
	case VMP_PH_PROBING:
		vmp_min(at, p->at.next_ns);
		return;
	case VMP_PH_CLAIMING:
		vmp_min(at, p->at.next_ns);
		__attribute__((fallthrough));
	case VMP_PH_FENCING:
	case VMP_PH_PUTTING:
		if (!BUG(c, NO_TIME_LIMIT))
			vmp_min(at, p->at.first_ns + c->holder_ns);
		return;
	}
}

/* C4: m grants. The relay has to refuse older records before the first put. */
static void won(struct vmp_step *s, struct vmp_pair *p)
{
	p->at.phase = VMP_PH_FENCING;
	if (p->role == VMP_ROLE_NONE) {
		p->role = VMP_ROLE_ESTABLISHING;
		vmp_role_note(s, p, p->at.cause);
	}
	vmp_act(s, VMP_ACT_RELAY_FENCE, p)->epoch = p->at.epoch;
}

void vmp_on_grant(struct vmp_step *s, unsigned int v, const struct vmp_msg_grant *g, bool is_probe)
{
	struct vmp_core *c = s->c;
	struct vmp_pair *p = vmp_pair_find(c, g->pair);
	struct vmp_attempt *at;

	if (vmp_pair_is_bar(g->pair)) {
		vmp_bar_granted(s, v, g);
		return;
	}
	if (g->pair == VMP_PAIR_VOTERS && !is_probe) {
		vmp_voters_granted(s, v, g);
		return;
	}
	if (!p || p->at.nonce != g->nonce || (p->at.epoch != g->epoch && !is_probe))
		return;
	at = &p->at;
	if (is_probe) {
		if (at->phase != VMP_PH_PROBING)
			return;
		at->granted |= 1u << v;
		if (vmp_votes(c, at->granted) >= vmp_need(c))
			claim(s, p, at->cause, at->force);
		return;
	}
	/* C3: late grants do not count: a voter may have forgotten between its reply and now */
	if (at->phase < VMP_PH_CLAIMING || (s->now - at->first_ns >= c->holder_ns && !BUG(c, NO_TIME_LIMIT)))
		return;
	if (!(at->granted >> v & 1))
		vmp_note(s, p, VMP_NOTE_GRANTED, at->epoch, c->config.voter[v].node, 0);
	at->granted |= 1u << v;
	vmp_max(&at->ack[v], at->first_ns);	/* C4: the first send, never the arrival */
	if (BUG(c, LEASE_FROM_ARRIVAL))
		at->ack[v] = s->now;
	if (at->phase == VMP_PH_CLAIMING && vmp_votes(c, at->granted) >= vmp_need(c))
		won(s, p);
}

void vmp_on_relay_ready(struct vmp_step *s, struct vmp_pair *p, uint64_t epoch)
{
	struct vmp_core *c = s->c;
	struct vmp_state st = { 0 };

	if (p->at.phase == VMP_PH_FENCING)
		vmp_candidate_run(s, p);	/* C2 and C3 first */
	if (p->at.phase != VMP_PH_FENCING || p->at.epoch != epoch)
		return;
	p->at.phase = VMP_PH_PUTTING;
	if (p->role == VMP_ROLE_HOLDING) {
		st = p->own;		/* H5: carry on in the same mode, put the state again */
		if (p->put.goal == VMP_PUT_NONE && p->mode == VMP_MODE_WAIT && !p->own.epoch)
			st = p->reg.state;
		/* The write at the end of an earlier re-claim failed, and a daemon before this one answered alone by what that had put. */
		if (p->reg.state.holder == c->node && p->reg.state.holder_member == p->held_member && p->reg.state.epoch > p->epoch &&
		    !p->reg.state.sync_node)
			st.sync_node = st.sync_member = 0;
		if (st.sync_node && vmp_barred(c, st.sync_node) && !BUG(c, BAR_GRANTED)) {
			/* B1: nobody takes a state with that standby. D2, to alone, by this put: it cannot claim while it is barred. */
			vmp_note(s, p, VMP_NOTE_STANDBY_LOST, st.sync_node, 0, 0);
			vmp_mode_set(s, p, VMP_MODE_WAIT);
			st.sync_node = 0;
			st.sync_member = 0;
		}
	} else {
		st.holder_member = BUG(c, MEMBER_REPLACED) ? p->member : p->at.member;
	}
	st.epoch = p->at.epoch;
	st.seq = 1;
	st.holder = c->node;
	st.cold = false;
	vmp_put_start(s, p, VMP_PUT_ESTABLISH, &st);
	if (BUG(c, OPEN_BEFORE_PUT) && p->role == VMP_ROLE_ESTABLISHING) {
		struct vmp_action *a = vmp_act(s, VMP_ACT_ENTRY_OPEN, p);

		a->epoch = epoch;
		a->expiry_ns = p->at.first_ns + c->holder_ns;
		vmp_act(s, VMP_ACT_MODE, p)->code = VMP_MODE_ALONE;
	}
}

void vmp_on_refuse(struct vmp_step *s, unsigned int v, const struct vmp_msg_refuse *r)
{
	struct vmp_core *c = s->c;
	struct vmp_pair *p = vmp_pair_find(c, r->pair);
	struct vmp_attempt *at;

	if (vmp_pair_is_bar(r->pair)) {
		vmp_bar_refused(s, r);
		return;
	}
	if (r->pair == VMP_PAIR_VOTERS) {
		vmp_voters_refused(s, c->config.voter[v].node, r);
		return;
	}
	if (!p)
		return;
	at = &p->at;
	vmp_seen(p, r->promised.epoch);
	if (r->reason == VMP_REASON_NOT_ELIGIBLE && vmp_state_cmp(&p->reg.state, &r->state) > 0) {
		/* V7: it missed the put that makes us eligible, and who wrote that may be gone */
		struct vmp_msg *msg = vmp_msg_new(s, VMP_MSG_STATES);

		msg->u.table.parts = msg->u.table.n_regs = 1;
		msg->u.table.reg[0] = p->reg;
		vmp_send(s, c->config.voter[v].node, msg);
	}
	vmp_merge_state(s, p, &r->state);	/* V7 */
	/* A voter still guards an epoch of ours that is over: of an earlier boot (H7), or released and the message got lost. Or (T1) of a claim that
	 * was left to its guards before the voters were fewer than three; who has no role and claims nothing resumes none. */
	if (p->role == VMP_ROLE_NONE && at->phase < VMP_PH_CLAIMING && r->promised.node == c->node && !r->promised.released) {
		uint64_t boot = r->promised.boot ? r->promised.boot : c->boot;

		if (vmp_timers_static(c) && !c->rec.abstaining && boot == c->boot && r->promised.epoch > p->released) {
			p->released = r->promised.epoch;
			vmp_persist(s, p);
		}
		if (boot != c->boot || r->promised.epoch <= p->released)
			vmp_release_send(s, p, r->promised.epoch, boot);
	}
	if (r->probe) {
		if (at->phase == VMP_PH_PROBING && at->nonce == r->nonce) {
			at->reason = r->reason;
			if (r->reason == VMP_REASON_GUARD && r->remain_ns != VMP_NEVER)
				vmp_min(&at->next_ns, s->now + r->remain_ns + 1);
		}
	} else if (r->nonce) {
		if (at->phase == VMP_PH_CLAIMING && at->epoch == r->epoch && at->nonce == r->nonce) {
			if (at->reason != r->reason)
				vmp_note(s, p, VMP_NOTE_REFUSED, r->epoch, c->config.voter[v].node, r->reason);
			at->reason = r->reason;
			if (r->reason == VMP_REASON_EPOCH_LOW)	/* C3: refused with a higher epoch */
				vmp_attempt_end(s, p, r->reason, true);
		}
	} else if (at->phase == VMP_PH_PUTTING && p->put.state.epoch == r->epoch) {
		if (r->reason == VMP_REASON_EPOCH_LOW || (r->reason == VMP_REASON_BARRED && vmp_barred(c, p->put.state.sync_node)))
			vmp_attempt_end(s, p, r->reason, true);
	} else if (p->role == VMP_ROLE_HOLDING && r->epoch == p->epoch && r->promised.epoch > p->epoch) {
		vmp_reclaim(s, p, r->promised.epoch);	/* H5 */
	}
	vmp_pair_run(s, p);
}

/* Delegated release: the old holder names us. */
void vmp_on_takeover(struct vmp_step *s, unsigned int v, const struct vmp_msg_takeover *t)
{
	struct vmp_core *c = s->c;
	struct vmp_pair *p = vmp_pair_get(c, t->pair);

	if (!p || (vmp_epoch_node(t->epoch) != c->config.voter[v].node && !BUG(c, EPOCH_NOT_UNIQUE)) || t->state.epoch > t->epoch)
		return;
	vmp_seen(p, t->epoch);
	vmp_merge_state(s, p, &t->state);
	if (t->epoch < p->reg.promised.epoch || t->epoch <= p->takeover_epoch)
		return;
	p->takeover_epoch = t->epoch;
	p->backoff_ns = 0;
	if (p->hosted)
		vmp_note(s, p, VMP_NOTE_DETECTED, t->cause, c->config.voter[v].node, 0);
	if (p->at.phase == VMP_PH_CLAIMING && p->role == VMP_ROLE_NONE) {
		p->at.release_of = t->epoch;
		claim_send(s, p, false);
	}
	vmp_pair_run(s, p);
}
