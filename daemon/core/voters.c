/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The voter set (section 12, T3): who proposes, how a version is adopted, and when the next one may follow.
 *
 * The version of a configuration is the epoch of the reserved pair under which it was proposed (I3), so no two proposals ever carry one
 * version, and they are ordered as their proposers' epochs are. The node asked claims the reserved pair (M1): it has no VM and no entry,
 * and is released when the change is over. A voter that granted an epoch takes no proposal below it; with that and the overlap of
 * majorities of neighbouring sets, a set that a majority of its predecessor adopted is the only one that can follow.
 *
 * A proposer adopts its own proposal, on disk, before it sends it. So what its disk names is the newest it can have proposed: under a
 * claim of its own above that, of this boot or an earlier one, nothing was proposed, and it gives that claim up when it stands in the way.
 *
 * M2 (1) config_ok, (2) states handed over, (3) wait; after these the proposer puts a state of the reserved pair under the new version:
 * the mark that this version is settled. It spreads as every state does. An unsettled version travels only as a proposal; a settled one is
 * told to everybody. When its proposer is lost, any voter finishes a version by proposing the same set once more. (4) The next change needs
 * a settled version and every voter that stays up and not abstaining. */
#include "daemon/core/internal.h"

enum { NONE = VMP_MAX_VOTERS };

static unsigned int idx_of(const struct vmp_config *config, uint8_t node)
{
	unsigned int v;

	for (v = 0; v < config->n; v++) {
		if (config->voter[v].node == node)
			return v;
	}
	return NONE;
}

static bool has(const struct vmp_config *config, const struct vmp_voter *voter)
{
	unsigned int v = idx_of(config, voter->node);

	return v != NONE && config->voter[v].id == voter->id;
}

/* Voters that are in only one of both. */
static unsigned int difference(const struct vmp_config *a, const struct vmp_config *b)
{
	unsigned int v, n = 0;

	for (v = 0; v < a->n; v++)
		n += !has(b, &a->voter[v]);
	for (v = 0; v < b->n; v++)
		n += !has(a, &b->voter[v]);
	return n;
}

static void insert(struct vmp_config *config, const struct vmp_voter *voter)
{
	unsigned int k;

	if (config->n == VMP_MAX_VOTERS || has(config, voter))
		return;
	for (k = config->n++; k && config->voter[k - 1].node > voter->node; k--)
		config->voter[k] = config->voter[k - 1];
	config->voter[k] = *voter;
}

static void drop(struct vmp_config *config, unsigned int v)
{
	for (config->n--; v < config->n; v++)
		config->voter[v] = config->voter[v + 1];
	config->voter[v] = (struct vmp_voter){ 0 };
}

bool vmp_settled(const struct vmp_core *c)
{
	unsigned int i;

	if (c->config.version <= 1 || c->told_settled == c->config.version)
		return true;
	for (i = 0; i < c->n_pairs; i++) {
		if (c->pair[i].id == VMP_PAIR_VOTERS)
			return c->pair[i].reg.state.epoch == c->config.version;
	}
	return false;
}

/* A voter of this set or, while that is not settled, of the one before it. */
bool vmp_voter_old_or_new(const struct vmp_core *c, uint8_t node, uint64_t id)
{
	struct vmp_voter voter = { .id = id, .node = node };

	return has(&c->config, &voter) || (!vmp_settled(c) && has(&c->previous, &voter));
}

/* What is known of a voter of this set or, while that is not settled, of the one before it. */
struct vmp_peer *vmp_peer_of(struct vmp_core *c, uint8_t node)
{
	unsigned int v = idx_of(&c->config, node);

	if (v != NONE)
		return &c->peer[v];
	return !c->settled && idx_of(&c->previous, node) != NONE ? &c->parted : NULL;
}

/* Who reads while the set is not settled may have recovered by our answer and not be heard since. Left out of a settled one, it would be a
 * majority by itself, as we are. */
static void left_out_check(struct vmp_step *s)
{
	struct vmp_core *c = s->c;
	unsigned int v;

	for (v = 0; v < c->config.n; v++) {
		if (c->peer[v].boot)
			vmp_left_out_end(s, v, c->peer[v].boot);
	}
}

static void change_again(struct vmp_step *s, uint64_t after);

/* --- adopting (M3) ------------------------------------------------------------------------------------------------------ */

static void remap_u64(uint64_t *x, const uint8_t *from, unsigned int n)
{
	uint64_t was[VMP_MAX_VOTERS];
	unsigned int v;

	memcpy(was, x, sizeof was);
	for (v = 0; v < VMP_MAX_VOTERS; v++)
		x[v] = v < n && from[v] != NONE ? was[from[v]] : 0;
}

/* What is known per voter moves to its place in the new set; what was collected for an answer under the old one begins anew. */
static void renumber(struct vmp_step *s, const struct vmp_config *was)
{
	struct vmp_core *c = s->c;
	struct vmp_peer peer[VMP_MAX_VOTERS];
	uint8_t from[VMP_MAX_VOTERS];
	unsigned int v, i;

	for (v = 0; v < c->config.n; v++)
		from[v] = has(was, &c->config.voter[v]) ? (uint8_t)idx_of(was, c->config.voter[v].node) : (uint8_t)NONE;
	memcpy(peer, c->peer, sizeof peer);
	memset(c->peer, 0, sizeof c->peer);
	for (v = 0; v < c->config.n; v++) {
		if (from[v] != NONE)
			c->peer[v] = peer[from[v]];
	}
	for (i = 0; i < c->n_pairs; i++) {
		struct vmp_pair *p = &c->pair[i];
		struct vmp_member_info info[VMP_MAX_VOTERS];

		remap_u64(p->ack, from, c->config.n);
		memcpy(info, p->peer, sizeof info);
		memset(p->peer, 0, sizeof p->peer);
		for (v = 0; v < c->config.n; v++) {
			if (from[v] != NONE)
				p->peer[v] = info[from[v]];
		}
		p->put.ok = p->hold_ok = 0;
		vmp_attempt_end(s, p, VMP_REASON_CONFIG_VERSION, true);		/* V3 a: grants count under one version */
		if (c->self == VMP_MAX_VOTERS)
			vmp_release_begin(s, p, VMP_CAUSE_VOTERS, 0);	/* nobody renews this lease any more */
	}
	c->rec.lost = 0;
	vmp_bar_renumber(s);
}

static void adopt(struct vmp_step *s, const struct vmp_config *config, const struct vmp_config *previous, bool settled)
{
	struct vmp_core *c = s->c;
	struct vmp_config was = c->config;
	bool joined, static_was = was.version && was.n < 3;
	unsigned int i, v;

	for (i = 0; i < c->n_pairs; i++) {
		struct vmp_pair *p = &c->pair[i];

		/* A lease that a majority of the old set supports is one that any majority of the new one meets: it runs on to its end. */
		vmp_max(&p->carry_ns, vmp_lease_end(c, p));
	}
	joined = c->self == VMP_MAX_VOTERS;
	if (vmp_settled(c))
		c->rec.forgot = 0;
	for (v = 0; v < previous->n && has(config, &previous->voter[v]); v++)
		;
	if (settled || v == previous->n)
		c->parted = (struct vmp_peer){ 0 };
	else if (has(&was, &previous->voter[v]))
		c->parted = c->peer[idx_of(&was, previous->voter[v].node)];
	else if (!has(&c->previous, &previous->voter[v]))
		c->parted = (struct vmp_peer){ 0 };
	c->previous = *previous;
	vmp_set_config(c, config);
	renumber(s, &was);
	joined &= c->self != VMP_MAX_VOTERS;
	if (settled)
		c->told_settled = config->version;
	c->settled = vmp_settled(c);
	/* T3: a guard without end was set under fewer than three, and stays so until everybody has left that rule */
	c->from_static = !c->settled && (previous->n ? previous->n < 3 : static_was);
	c->renew_ok = config->n < 3 && c->self != VMP_MAX_VOTERS && (c->settled || (c->renew_ok && static_was));
	for (i = 0; i < c->n_pairs && config->n < 3; i++) {	/* T1 from here on */
		struct vmp_pair *p = &c->pair[i];

		if (!vmp_pair_reserved(p->id) && p->role == VMP_ROLE_NONE && was.n >= 3)
			vmp_release_claims(c, p);
	}
	if (c->settled) {
		c->rec.forgot = 0;
		left_out_check(s);
	}
	c->finish_ns = s->now + 2 * c->lease_ns + vmp_jitter(c, 0, 2 * c->lease_ns);
	c->members_changed = true;
	vmp_recovery_renew(s, joined && config->version > 1 && !BUG(c, VOTER_NO_ABSTAIN));
	vmp_config_persist(s);
	vmp_note(s, NULL, VMP_NOTE_CONFIG, config->version, config->n, c->settled);
	if (c->change.phase == VMP_CH_CLAIM)
		change_again(s, vmp_jitter(c, c->hb_ns, 4 * c->hb_ns));
}

void vmp_config_tell(struct vmp_step *s, uint8_t node)
{
	struct vmp_core *c = s->c;
	unsigned int v = vmp_voter_idx(c, node);
	uint64_t *told = v == VMP_MAX_VOTERS ? &c->stranger_told_ns : &c->peer[v].told_ns;
	struct vmp_msg *msg;

	if (*told && s->now - *told < c->hb_ns)
		return;
	*told = s->now;
	msg = vmp_msg_new(s, VMP_MSG_CONFIG);
	msg->u.config.config = c->config;
	msg->u.config.previous = c->previous;
	msg->u.config.epoch = c->settled ? 0 : c->config.version;
	vmp_send(s, node, msg);
}

static void config_refuse(struct vmp_step *s, uint8_t to, uint64_t epoch, const struct vmp_pair *p)
{
	struct vmp_msg *msg = vmp_msg_new(s, VMP_MSG_REFUSE);

	msg->u.refuse.pair = VMP_PAIR_VOTERS;
	msg->u.refuse.epoch = epoch;
	msg->u.refuse.reason = VMP_REASON_EPOCH_LOW;
	msg->u.refuse.promised = p->reg.promised;
	msg->u.refuse.state = p->reg.state;
	vmp_send(s, to, msg);
}

void vmp_on_config(struct vmp_step *s, uint8_t from, const struct vmp_msg *msg)
{
	struct vmp_core *c = s->c;
	const struct vmp_msg_config *m = &msg->u.config;
	const struct vmp_config *next = &m->config;
	unsigned int v = idx_of(next, c->node);
	bool listed = v != NONE && next->voter[v].id == c->voter, told = !m->epoch;
	struct vmp_promised *pr;
	struct vmp_pair *p;

	if (!next->version || (!told && m->epoch != next->version))
		return;
	if (next->version < c->config.version) {
		vmp_config_tell(s, from);
		return;
	}
	if (!listed && !c->config.version)
		return;		/* formed without us: wait to be added */
	if (told) {
		if (next->version > c->config.version)
			adopt(s, next, &m->previous, true);
		else
			c->told_settled = next->version;
		return;
	}
	p = vmp_pair_get(c, VMP_PAIR_VOTERS);
	if (!p)
		return;
	pr = &p->reg.promised;
	if (next->version > c->config.version) {
		if (m->previous.n && difference(&m->previous, next) > 1 && !BUG(c, VOTERS_TWO))
			return;		/* M2: one at a time */
		if (pr->node == c->node && pr->epoch > m->epoch && !pr->released) {
			/* Our own claim stands in the way. Nothing was proposed under it, else it were adopted: who came first goes first. */
			pr->released = true;
			vmp_persist(s, p);
			if (c->change.phase == VMP_CH_CLAIM)
				change_again(s, vmp_jitter(c, c->hb_ns, 4 * c->hb_ns));
		}
		/* A voter that lost its memory does not know its promises; it follows, and is not counted before the version is settled. */
		if (m->chosen && pr->epoch > m->epoch && !pr->released) {
			/* Whoever holds that promise can propose nothing under it any more, or would have to know: a majority that granted
			 * it meets the one that adopted this, and there one of both would have been refused. */
			pr->released = true;
			vmp_persist(s, p);
		}
		if (pr->epoch > m->epoch && !pr->released && !c->rec.abstaining) {
			config_refuse(s, from, m->epoch, p);
			if (pr->node != from && pr->node != c->node)
				config_refuse(s, pr->node, m->epoch, p);	/* it may have given that claim up */
			return;
		}
		if (pr->epoch < m->epoch) {		/* as V5: a proposal is as good as a vote */
			*pr = (struct vmp_promised){ .epoch = m->epoch, .node = vmp_epoch_node(m->epoch) };
			vmp_seen(p, m->epoch);
			vmp_persist(s, p);
		}
		adopt(s, next, &m->previous, false);
	} else if (!c->previous.n && !vmp_settled(c)) {
		c->previous = m->previous;
		vmp_config_persist(s);
	}
	if (vmp_epoch_node(m->epoch) != from)
		return;		/* passed on by another voter: it is the proposer who counts */
	if (pr->epoch == m->epoch && !pr->released)
		vmp_guard(s, p);
	vmp_clean(s, p);
	vmp_table_send(s, from, VMP_MSG_CONFIG_OK, m->epoch);
}

/* --- the proposer (M1, M2) ---------------------------------------------------------------------------------------------- */

/* M3 and the last end of a change: what only waited for everybody to have left the old rule. */
static void settle(struct vmp_step *s)
{
	struct vmp_core *c = s->c;
	unsigned int i;

	if (c->settled || !vmp_settled(c))
		return;
	c->settled = true;
	c->rec.forgot = 0;
	c->parted = (struct vmp_peer){ 0 };
	c->from_static = false;
	c->renew_ok = c->config.n < 3 && c->self != VMP_MAX_VOTERS;
	for (i = 0; i < c->n_pairs; i++) {
		struct vmp_pair *p = &c->pair[i];

		if (p->guard_ns == VMP_NEVER && !vmp_guard_forever(c, p))
			p->guard_ns = s->now + c->lease_ns;
	}
	vmp_note(s, NULL, VMP_NOTE_CONFIG, c->config.version, c->config.n, 1);
	left_out_check(s);
}

static void change_end(struct vmp_step *s, int rc, enum vmp_reason reason)
{
	struct vmp_core *c = s->c;
	struct vmp_pair *p = vmp_pair_find(c, VMP_PAIR_VOTERS);
	struct vmp_change *ch = &c->change;

	/* An epoch under which something was proposed is never released before that is settled: a voter could fall back behind it. */
	if (p && (ch->phase == VMP_CH_CLAIM || (ch->phase == VMP_CH_MARK && c->settled))) {
		vmp_max(&p->released, ch->epoch);
		vmp_release_send(s, p, ch->epoch, c->boot);
	}
	vmp_op_done(s, &ch->req, rc, reason);
	*ch = (struct vmp_change){ 0 };
}

static void change_again(struct vmp_step *s, uint64_t after)
{
	struct vmp_core *c = s->c;
	struct vmp_change *ch = &c->change, next = { .phase = VMP_CH_WANT, .requested = ch->requested, .add = ch->add, .node = ch->node,
						     .voter = ch->voter, .req = ch->req, .reason = ch->reason };

	ch->req = (struct vmp_request){ 0 };
	change_end(s, 0, VMP_REASON_NONE);
	*ch = next;
	ch->next_ns = s->now + after;
}

static bool already(const struct vmp_core *c)
{
	const struct vmp_change *ch = &c->change;
	struct vmp_voter voter = { .id = ch->voter, .node = ch->node };

	if (!ch->requested)
		return true;
	return ch->add ? has(&c->config, &voter) : vmp_voter_idx(c, ch->node) == VMP_MAX_VOTERS;
}

/* (4): everybody who stays has to be up and not abstaining. */
static bool all_well(const struct vmp_core *c)
{
	unsigned int v;

	for (v = 0; v < c->config.n; v++) {
		if (!c->change.add && c->config.voter[v].node == c->change.node)
			continue;
		if (v != c->self && (!vmp_peer_alive(c, v, c->now_ns) || c->peer[v].abstaining) && !BUG(c, VOTERS_IN_RECOVERY))
			return false;
	}
	return true;
}

static void claim_send(struct vmp_step *s)
{
	struct vmp_core *c = s->c;
	struct vmp_change *ch = &c->change;
	struct vmp_pair *p = vmp_pair_find(c, VMP_PAIR_VOTERS);
	struct vmp_msg *msg;

	vmp_clean(s, p);
	msg = vmp_msg_new(s, VMP_MSG_CLAIM);
	msg->u.claim.pair = VMP_PAIR_VOTERS;
	msg->u.claim.epoch = ch->epoch;
	msg->u.claim.nonce = ch->nonce;
	msg->u.claim.boot = c->boot;
	vmp_send(s, VMP_TO_VOTERS, msg);
	ch->next_ns = s->now + c->hb_ns / 4;
}

static void claim(struct vmp_step *s)
{
	struct vmp_core *c = s->c;
	struct vmp_change *ch = &c->change;
	struct vmp_pair *p = vmp_pair_get(c, VMP_PAIR_VOTERS);

	if (!p) {
		change_end(s, -ENOSPC, VMP_REASON_TABLE_FULL);
		return;
	}
	vmp_seen(p, c->config.version);
	ch->phase = VMP_CH_CLAIM;
	ch->granted = 0;
	ch->epoch = (vmp_epoch_counter(p->epoch_seen) + 1) << 8 | c->node;
	ch->nonce = vmp_random(c) | 1;
	ch->first_ns = s->now;
	vmp_seen(p, ch->epoch);
	vmp_persist(s, p);
	vmp_note(s, p, VMP_NOTE_CLAIM_SENT, ch->epoch, VMP_CAUSE_VOTERS, 0);
	claim_send(s);
}

/*
 * m of a set, of which the mask names voters by their places in `in`; with fewer than three a fenced voter is left out (T1). One that is back
 * has forgotten what it was promised and told, so it grants nothing and does not count for the old set. But it may recover by our answer to
 * its read, and a set that becomes settled has to have told it what was handed over.
 */
static bool most_of(struct vmp_core *c, const struct vmp_config *set, const struct vmp_config *in, uint8_t mask, bool back)
{
	unsigned int v, k, n = 0, have = 0;

	for (v = 0; v < set->n; v++) {
		const struct vmp_peer *peer = set->n < 3 ? vmp_peer_of(c, set->voter[v].node) : NULL;

		if (peer && peer->left_out && !(back && peer->boot && peer->boot != peer->fenced_boot))
			continue;
		k = idx_of(in, set->voter[v].node);
		n++;
		have += k != NONE && (mask >> k & 1);
	}
	return have >= n / 2 + 1;
}

static bool old_enough(struct vmp_core *c)
{
	const struct vmp_change *ch = &c->change;

	return most_of(c, &ch->old, &ch->all, ch->ok & ~ch->abstained, false);
}

static bool new_enough(struct vmp_core *c, uint8_t mask)
{
	return most_of(c, &c->change.next, &c->change.all, mask, true);
}

static void config_send(struct vmp_step *s)
{
	struct vmp_core *c = s->c;
	struct vmp_change *ch = &c->change;
	struct vmp_msg *msg;
	unsigned int v;

	msg = vmp_msg_new(s, VMP_MSG_CONFIG);
	msg->u.config.chosen = old_enough(c);
	msg->u.config.config = ch->next;
	msg->u.config.previous = ch->old;
	msg->u.config.epoch = ch->epoch;
	for (v = 0; v < ch->all.n; v++)
		vmp_send(s, ch->all.voter[v].node, msg);
	ch->next_ns = s->now + c->hb_ns;
}

static void propose(struct vmp_step *s)
{
	struct vmp_core *c = s->c;
	struct vmp_change *ch = &c->change;
	struct vmp_voter voter = { .id = ch->voter, .node = ch->node };
	struct vmp_pair *p = vmp_pair_find(c, VMP_PAIR_VOTERS);
	struct vmp_promised *pr = &p->reg.promised;
	unsigned int v, k;

	settle(s);
	if (c->settled && already(c)) {		/* somebody else has ended it while we claimed */
		change_end(s, 0, VMP_REASON_NONE);
		return;
	}
	/* (4) once more, for a claim that was to end what another began; who does not know what a set was proposed on leaves it to those who do;
	 * and the own voter may have promised more since */
	if ((c->settled ? !all_well(c) : !c->previous.n) || (pr->epoch > ch->epoch && !pr->released)) {
		change_again(s, vmp_jitter(c, c->hb_ns, 4 * c->hb_ns));
		return;
	}
	ch->phase = VMP_CH_PROPOSE;
	ch->next = c->config;
	ch->next.version = ch->epoch;
	ch->old = c->config;
	if (!c->settled) {
		ch->old = c->previous;		/* Finish what another began. Its old set is the one whose majority has to hand over. */
	} else if (ch->requested && ch->add) {
		insert(&ch->next, &voter);
		for (k = 0; k < VMP_MAX_VOTERS && BUG(c, VOTERS_TWO); k++) {
			struct vmp_voter other = { .id = c->stranger[k].voter, .node = c->stranger[k].node };

			if (other.node && vmp_voter_idx(c, other.node) == VMP_MAX_VOTERS && idx_of(&ch->next, other.node) == NONE)
				insert(&ch->next, &other);
		}
	} else if (ch->requested) {
		drop(&ch->next, idx_of(&ch->next, ch->node));
		if (BUG(c, VOTERS_TWO) && ch->next.n > 1)
			drop(&ch->next, ch->next.voter[0].node == c->node);
	}
	ch->all = ch->old;
	for (v = 0; v < ch->next.n; v++)
		insert(&ch->all, &ch->next.voter[v]);
	ch->ok = ch->merged = ch->marked = 0;
	memset(ch->parts, 0, sizeof ch->parts);
	if (pr->epoch < ch->epoch)
		*pr = (struct vmp_promised){ .epoch = ch->epoch, .boot = c->boot, .node = c->node };
	vmp_persist(s, p);
	if (!BUG(c, VOTERS_NOT_ADOPTED))
		adopt(s, &ch->next, &ch->old, false);
	config_send(s);
}

static void states_send(struct vmp_step *s)
{
	struct vmp_core *c = s->c;
	struct vmp_change *ch = &c->change;
	unsigned int v;

	for (v = 0; v < ch->next.n; v++) {
		if (!(ch->merged >> idx_of(&ch->all, ch->next.voter[v].node) & 1))
			vmp_table_send(s, ch->next.voter[v].node, VMP_MSG_STATES, ch->epoch);
	}
	ch->next_ns = s->now + c->hb_ns;
}

static void mark_send(struct vmp_step *s)
{
	struct vmp_core *c = s->c;
	struct vmp_change *ch = &c->change;
	struct vmp_msg *msg = vmp_msg_new(s, VMP_MSG_PUT);

	msg->u.put.pair = VMP_PAIR_VOTERS;
	msg->u.put.boot = c->boot;
	msg->u.put.state = (struct vmp_state){ .epoch = ch->epoch, .seq = 1, .holder = c->node, .holder_member = ch->epoch };
	vmp_send(s, VMP_TO_VOTERS, msg);
	msg = vmp_msg_new(s, VMP_MSG_CONFIG);	/* voters that recover, or are new, wait for this; they take no put before */
	msg->u.config.config = c->config;
	msg->u.config.previous = c->previous;
	vmp_send(s, VMP_TO_VOTERS, msg);
	ch->next_ns = s->now + c->hb_ns;
}

/* (1) for the old set: m of it that remember. When too many lost their memory in between, all of it, which is X5 for this one purpose:
 * disk copies may lag, so no member counts as in sync before its holder says so again. One that the set removes may be named as lost. */
static bool old_answered(struct vmp_step *s)
{
	struct vmp_core *c = s->c;
	struct vmp_change *ch = &c->change;
	unsigned int v, i, all = 0;

	for (v = 0; v < ch->old.n; v++) {
		const struct vmp_peer *peer = vmp_peer_of(c, ch->old.voter[v].node);

		if (!peer || !peer->lost)
			all |= 1u << idx_of(&ch->all, ch->old.voter[v].node);
	}
	if (old_enough(c))
		return true;
	if (all & ~ch->ok)
		return false;
	for (i = 0; i < c->n_pairs; i++) {
		struct vmp_pair *p = &c->pair[i];

		if (vmp_pair_reserved(p->id) || !p->reg.state.epoch || p->reg.state.cold)
			continue;
		p->reg.state.cold = true;
		vmp_persist(s, p);
	}
	return true;
}

/* Goes as far as what has been collected allows. */
static void progress(struct vmp_step *s)
{
	struct vmp_core *c = s->c;
	struct vmp_change *ch = &c->change;

	if (ch->phase == VMP_CH_PROPOSE && c->config.version == ch->epoch && new_enough(c, ch->ok) && old_answered(s)) {
		ch->phase = VMP_CH_HAND;	/* (1) done */
		if (!BUG(c, VOTERS_NO_STATES))
			states_send(s);
	}
	if (ch->phase == VMP_CH_HAND && (new_enough(c, ch->merged) || BUG(c, VOTERS_NO_STATES))) {
		ch->phase = VMP_CH_WAIT;	/* (2) done */
		ch->wait_ns = s->now + c->lease_ns * 1000 / (1000 - c->rho_permille);
		if (BUG(c, VOTERS_NO_WAIT))
			ch->wait_ns = s->now;
	}
	if (ch->phase == VMP_CH_WAIT && s->now >= ch->wait_ns) {
		ch->phase = VMP_CH_MARK;	/* (3) done */
		c->told_settled = ch->epoch;
		settle(s);
		mark_send(s);
	}
}

void vmp_voters_run(struct vmp_step *s)
{
	struct vmp_core *c = s->c;
	struct vmp_change *ch = &c->change;

	settle(s);
	if (c->self == VMP_MAX_VOTERS || c->rec.abstaining) {
		if (ch->phase != VMP_CH_IDLE)
			change_end(s, -EAGAIN, VMP_REASON_SUPERSEDED);
		return;
	}
	if (ch->phase == VMP_CH_IDLE) {
		if (c->settled || s->now < c->finish_ns)
			return;
		*ch = (struct vmp_change){ .phase = VMP_CH_WANT };
	}
	if (ch->phase >= VMP_CH_PROPOSE && c->config.version > ch->epoch) {
		change_again(s, 0);	/* another proposer was faster: see whether what is wanted has come true */
	} else if (ch->phase == VMP_CH_CLAIM && s->now - ch->first_ns >= c->holder_ns) {
		change_again(s, vmp_jitter(c, c->hb_ns, 4 * c->hb_ns));		/* C3 */
	}
	if (ch->req.deadline_ns && s->now >= ch->req.deadline_ns) {
		vmp_op_done(s, &ch->req, ch->phase >= VMP_CH_PROPOSE ? -EINPROGRESS : -ETIMEDOUT, ch->reason ? ch->reason : VMP_REASON_VOTERS);
		if (ch->phase < VMP_CH_PROPOSE) {
			change_end(s, 0, VMP_REASON_NONE);
			return;
		}
		ch->requested = false;		/* what is proposed is driven to its end, nothing after it */
	}
	if (ch->phase == VMP_CH_WANT && c->settled && already(c)) {
		change_end(s, 0, VMP_REASON_NONE);
		return;
	}
	if (s->now < ch->next_ns) {
		progress(s);
		return;
	}
	switch ((enum vmp_change_phase)ch->phase) {
	case VMP_CH_COUNT:
	case VMP_CH_IDLE:
		return;
	case VMP_CH_WANT:
		if (c->settled && ch->requested && !all_well(c)) {
			ch->reason = VMP_REASON_VOTERS;
			ch->next_ns = s->now + c->hb_ns;
			return;
		}
		claim(s);
		return;
	case VMP_CH_CLAIM: claim_send(s); return;
	case VMP_CH_PROPOSE: config_send(s); break;
	case VMP_CH_HAND: states_send(s); break;
	case VMP_CH_WAIT: ch->next_ns = ch->wait_ns; break;
	case VMP_CH_MARK: mark_send(s); break;
	}
	progress(s);
}

void vmp_voters_deadline(const struct vmp_core *c, uint64_t *at)
{
	const struct vmp_change *ch = &c->change;

	if (c->self == VMP_MAX_VOTERS || c->rec.abstaining)
		return;
	if (ch->phase == VMP_CH_IDLE) {
		if (!c->settled)
			vmp_min(at, c->finish_ns);
		return;
	}
	vmp_min(at, ch->next_ns);
	if (ch->phase == VMP_CH_WAIT)
		vmp_min(at, ch->wait_ns);
	if (ch->req.deadline_ns)
		vmp_min(at, ch->req.deadline_ns);
}

/* VMP_EV_VOTERS */
void vmp_on_voters(struct vmp_step *s, const struct vmp_event *ev)
{
	struct vmp_core *c = s->c;
	struct vmp_change *ch = &c->change;
	unsigned int v = vmp_voter_idx(c, ev->node), i;
	uint64_t id = ev->member;

	if (c->self == VMP_MAX_VOTERS || c->rec.abstaining) {
		vmp_op_answer(s, ev->op, -EAGAIN, c->rec.abstaining ? VMP_REASON_ABSTAINING : VMP_REASON_NO_QUORUM_CONFIG);
		return;
	}
	if (ch->phase != VMP_CH_IDLE && ch->requested) {
		vmp_op_answer(s, ev->op, -EBUSY, VMP_REASON_BUSY);
		return;
	}
	if (ev->on && !id && v != VMP_MAX_VOTERS)
		id = c->config.voter[v].id;
	for (i = 0; i < VMP_MAX_VOTERS && ev->on && !id; i++) {
		if (c->stranger[i].node == ev->node)
			id = c->stranger[i].voter;
	}
	if (ev->on ? !id || c->config.n == VMP_MAX_VOTERS : v == c->self) {
		vmp_op_answer(s, ev->op, ev->on && id ? -ENOSPC : ev->on ? -EHOSTUNREACH : -EINVAL, VMP_REASON_VOTERS);
		return;
	}
	if (ev->on && v != VMP_MAX_VOTERS && c->config.voter[v].id != id) {	/* a machine set up anew: the old one is removed first */
		vmp_op_answer(s, ev->op, -EEXIST, VMP_REASON_VOTERS);
		return;
	}
	for (i = 0; i < c->n_pairs && !ev->on && v != VMP_MAX_VOTERS; i++) {
		const struct vmp_promised *pr = &c->pair[i].reg.promised;

		if (pr->node == ev->node && !pr->released && !vmp_pair_reserved(c->pair[i].id) && s->now < c->pair[i].guard_ns &&
		    vmp_peer_alive(c, v, s->now)) {
			vmp_op_answer(s, ev->op, -EBUSY, VMP_REASON_HELD_ELSEWHERE);
			return;
		}
	}
	if (ch->phase == VMP_CH_IDLE)
		*ch = (struct vmp_change){ .phase = VMP_CH_WANT };
	ch->requested = true;
	ch->add = ev->on;
	ch->node = ev->node;
	ch->voter = id;
	ch->req = (struct vmp_request){ .op = ev->op, .deadline_ns = ev->deadline_ns };
	vmp_voters_run(s);
}

/* By m of this set, also of one that is not settled, which who is left has to be able to finish: what such a set lacks is asked for then (M2). */
static bool granted(struct vmp_core *c)
{
	return most_of(c, &c->config, &c->config, c->change.granted, false);
}

/*
 * A set of one that was proposed on two can do nothing by itself before the other one has left the old set, or was fenced: there it could
 * in turn be a majority by itself, once this node has been fenced.
 */
bool vmp_set_waits(const struct vmp_core *c)
{
	const struct vmp_change *ch = &c->change;

	return !c->settled && c->config.n == 1 && c->previous.n == 2 && (ch->phase < VMP_CH_HAND || ch->epoch != c->config.version);
}

void vmp_voters_granted(struct vmp_step *s, unsigned int v, const struct vmp_msg_grant *g)
{
	struct vmp_core *c = s->c;
	struct vmp_change *ch = &c->change;

	if (ch->phase != VMP_CH_CLAIM || g->nonce != ch->nonce || g->epoch != ch->epoch || s->now - ch->first_ns >= c->holder_ns)
		return;
	ch->granted |= 1u << v;
	if (granted(c))
		propose(s);
}

/* Also from a voter of an older version that has promised more than a proposal it was told of. */
void vmp_voters_refused(struct vmp_step *s, uint8_t from, const struct vmp_msg_refuse *r)
{
	struct vmp_core *c = s->c;
	struct vmp_change *ch = &c->change;
	struct vmp_pair *p = vmp_pair_get(c, VMP_PAIR_VOTERS);

	if (!p)
		return;
	vmp_seen(p, r->promised.epoch);
	vmp_merge_state(s, p, &r->state);
	if (r->promised.node == c->node && !r->promised.released && r->promised.epoch > c->config.version &&
	    (ch->phase != VMP_CH_CLAIM || ch->epoch != r->promised.epoch)) {
		struct vmp_msg *msg = vmp_msg_new(s, VMP_MSG_RELEASE);

		/* Nothing was proposed under that claim of ours, and nothing will be. Known of an earlier boot as well, from what it left
		 * on the disk. */
		msg->u.release.pair = VMP_PAIR_VOTERS;
		msg->u.release.epoch = r->promised.epoch;
		msg->u.release.boot = r->promised.boot;
		vmp_send(s, from, msg);
	}
	if (ch->phase == VMP_CH_MARK && r->epoch == ch->epoch && r->reason == VMP_REASON_EPOCH_LOW) {
		change_again(s, 0);	/* settled all the same; the mark of a later one will do */
		return;
	}
	if (ch->phase != VMP_CH_CLAIM || r->epoch != ch->epoch || r->nonce != ch->nonce)
		return;
	ch->reason = r->reason;
	if (r->reason == VMP_REASON_EPOCH_LOW)
		change_again(s, vmp_jitter(c, c->hb_ns, 4 * c->hb_ns));
}

void vmp_on_config_ok(struct vmp_step *s, uint8_t from, const struct vmp_msg *msg)
{
	struct vmp_core *c = s->c;
	struct vmp_change *ch = &c->change;
	const struct vmp_msg_table *t = &msg->u.table;
	unsigned int i, v = idx_of(&ch->all, from);

	if (ch->phase < VMP_CH_PROPOSE || v == NONE || ch->all.voter[v].id != msg->voter || t->nonce != ch->epoch ||
	    (msg->version != ch->epoch))
		return;
	if (!t->part)
		ch->parts[v] = 0;
	for (i = 0; i < t->n_regs; i++) {	/* V7 */
		struct vmp_pair *p = vmp_pair_get(c, t->reg[i].pair);

		if (p && vmp_merge_state(s, p, &t->reg[i].state))
			vmp_pair_run(s, p);
	}
	ch->parts[v] |= 1ull << t->part;
	if (ch->parts[v] != (1ull << t->parts) - 1)
		return;
	ch->ok |= 1u << v;
	if (t->waited || BUG(c, VOTERS_IN_RECOVERY))
		ch->abstained &= ~(1u << v);
	else
		ch->abstained |= 1u << v;
	progress(s);
}

void vmp_on_states(struct vmp_step *s, unsigned int v, const struct vmp_msg_table *t)
{
	struct vmp_core *c = s->c;
	struct vmp_msg *msg;
	unsigned int i;

	for (i = 0; i < t->n_regs; i++) {
		struct vmp_pair *p = vmp_pair_get(c, t->reg[i].pair);

		if (!p)
			continue;
		vmp_clean(s, p);
		if (vmp_merge_state(s, p, &t->reg[i].state))
			vmp_pair_run(s, p);
	}
	msg = vmp_msg_new(s, VMP_MSG_STATES_OK);
	msg->u.table.nonce = t->nonce;
	msg->u.table.part = t->part;
	msg->u.table.parts = t->parts;
	msg->u.table.waited = !c->rec.abstaining;
	vmp_send(s, c->config.voter[v].node, msg);
}

void vmp_on_states_ok(struct vmp_step *s, uint8_t from, const struct vmp_msg *msg)
{
	struct vmp_change *ch = &s->c->change;
	const struct vmp_msg_table *t = &msg->u.table;
	unsigned int v = idx_of(&ch->all, from);

	if (ch->phase != VMP_CH_HAND || v == NONE || t->nonce != ch->epoch)
		return;
	if (!ch->handing) {	/* the parts now are those of what is handed over */
		ch->handing = true;
		memset(ch->parts, 0, sizeof ch->parts);
	}
	ch->parts[v] |= 1ull << t->part;
	if (ch->parts[v] == (1ull << t->parts) - 1)
		ch->merged |= 1u << v;
	progress(s);
}

void vmp_voters_put_ok(struct vmp_step *s, unsigned int v, const struct vmp_msg_put_ok *ok)
{
	struct vmp_core *c = s->c;
	struct vmp_change *ch = &c->change;
	unsigned int k = idx_of(&ch->all, c->config.voter[v].node);

	if (ch->phase != VMP_CH_MARK || ok->epoch != ch->epoch || k == NONE)
		return;
	ch->marked |= 1u << k;
	if (!new_enough(c, ch->marked))
		return;
	if (already(c))
		change_end(s, 0, VMP_REASON_NONE);
	else
		change_again(s, 0);
}

/* A node outside the set that asks for registers: it can be added without anybody copying its id by hand. */
void vmp_stranger(struct vmp_core *c, uint8_t node, uint64_t voter)
{
	unsigned int i;

	if (!node || !voter || vmp_voter_idx(c, node) != VMP_MAX_VOTERS)
		return;
	for (i = 0; i < VMP_MAX_VOTERS - 1 && c->stranger[i].node && c->stranger[i].node != node; i++)
		;
	c->stranger[i].node = node;
	c->stranger[i].voter = voter;
}
