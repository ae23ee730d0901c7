/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The core's frame: start, one step, deadlines, views; what every event means is in the files by topic. */
#include "daemon/core/internal.h"

#define MEMBERS_EVERY_NS 200000000ull
#define ROOM_ACTIONS 32		/* what one pair needs at most in a tick */
#define ROOM_MSGS 10
#define VMP_KEEP_PAIRS (VMP_MAX_VOTERS + 1)	/* registers kept for the reserved ones: fencing must not fail for lack of one */

uint64_t vmp_pair_id(const char *name)
{
	uint64_t h = 14695981039346656037ull;

	for (; *name; name++)
		h = (h ^ (uint8_t)*name) * 1099511628211ull;
	return vmp_pair_reserved(h) ? h / 2 + 2 : h;
}

/* H = L * (1 - rho) / (1 + rho) - q */
uint64_t vmp_holder_lease_ns(uint32_t lease_ms, uint32_t clock_error_permille, uint32_t gate_delay_ms)
{
	uint64_t lease_ns = (uint64_t)lease_ms * 1000000, q_ns = (uint64_t)gate_delay_ms * 1000000, h;

	if (clock_error_permille >= 1000)
		return 0;
	h = lease_ns * (1000 - clock_error_permille) / (1000 + clock_error_permille);
	return h > q_ns ? h - q_ns : 0;
}

/* --- helpers ------------------------------------------------------------------------------------------------------------ */

uint64_t vmp_random(struct vmp_core *c)		/* splitmix64 */
{
	uint64_t z = c->prng += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

uint64_t vmp_jitter(struct vmp_core *c, uint64_t min, uint64_t max)
{
	return min + vmp_random(c) % (max - min + 1);
}

struct vmp_action *vmp_act(struct vmp_step *s, enum vmp_action_type type, const struct vmp_pair *p)
{
	struct vmp_action *a;

	if (s->out->n_actions == VMP_MAX_ACTIONS) {
		s->overflow = true;
		s->out->n_actions--;
	}
	a = &s->out->action[s->out->n_actions++];
	*a = (struct vmp_action){ .type = type, .pair = p ? p->id : 0 };
	return a;
}

static size_t msg_size(enum vmp_msg_type type)
{
	switch (type) {
	case VMP_MSG_HEARTBEAT: return sizeof(struct vmp_msg_heartbeat);
	case VMP_MSG_ACK: return sizeof(struct vmp_msg_ack);
	case VMP_MSG_TABLE:
	case VMP_MSG_COLD:
	case VMP_MSG_CONFIG_OK:
	case VMP_MSG_STATES:
	case VMP_MSG_STATES_OK: return sizeof(struct vmp_msg_table);
	case VMP_MSG_MEMBERS: return sizeof(struct vmp_msg_members);
	case VMP_MSG_CONFIG: return sizeof(struct vmp_msg_config);
	default: return sizeof(struct vmp_msg_refuse);
	}
}

_Static_assert(sizeof(struct vmp_msg_refuse) >= sizeof(struct vmp_msg_claim) &&
	       sizeof(struct vmp_msg_refuse) >= sizeof(struct vmp_msg_takeover), "refuse is the largest small message");

struct vmp_msg *vmp_msg_new(struct vmp_step *s, enum vmp_msg_type type)
{
	struct vmp_msg *msg;

	if (s->out->n_msgs == VMP_MAX_MSGS) {
		s->overflow = true;
		s->out->n_msgs--;
	}
	msg = &s->out->msg[s->out->n_msgs++];
	memset(msg, 0, offsetof(struct vmp_msg, u) + msg_size(type));
	msg->type = type;
	msg->version = s->c->config.version;
	msg->voter = s->c->voter;
	return msg;
}

void vmp_send(struct vmp_step *s, uint8_t to, const struct vmp_msg *msg)
{
	struct vmp_action *a;

	/* section 3: nothing is said under a voter set that the disk does not know; a release is true under any */
	if (s->c->config_dirty && msg->type != VMP_MSG_RELEASE)
		return;
	a = vmp_act(s, VMP_ACT_SEND, NULL);
	a->to = to;
	a->msg = (uint16_t)(msg - s->out->msg);
}

void vmp_config_persist(struct vmp_step *s)
{
	s->c->config_dirty = false;
	s->c->config_acted = true;
	vmp_act(s, VMP_ACT_PERSIST_CONFIG, NULL);
}

void vmp_persist(struct vmp_step *s, struct vmp_pair *p)
{
	p->dirty = false;
	p->written = true;
	p->on_run_next = p->role == VMP_ROLE_HOLDING || p->role == VMP_ROLE_CLOSING;
	vmp_act(s, VMP_ACT_PERSIST, p);
}

void vmp_clean(struct vmp_step *s, struct vmp_pair *p)
{
	if (p->dirty)
		vmp_persist(s, p);
}

void vmp_note(struct vmp_step *s, const struct vmp_pair *p, enum vmp_note note, uint64_t a, uint64_t b, uint64_t c)
{
	struct vmp_action *act = vmp_act(s, VMP_ACT_NOTE, p);

	act->code = note;
	act->a = a;
	act->b = b;
	act->c = c;
}

void vmp_op_answer(struct vmp_step *s, uint64_t op, int rc, enum vmp_reason reason)
{
	struct vmp_action *a;

	if (!op)
		return;
	a = vmp_act(s, VMP_ACT_OP_DONE, NULL);
	a->op = op;
	a->rc = rc;
	a->code = reason;
}

void vmp_op_done(struct vmp_step *s, struct vmp_request *req, int rc, enum vmp_reason reason)
{
	vmp_op_answer(s, req->op, rc, reason);
	*req = (struct vmp_request){ 0 };
}

void vmp_role_note(struct vmp_step *s, const struct vmp_pair *p, enum vmp_cause cause)
{
	struct vmp_action *a = vmp_act(s, VMP_ACT_ROLE, p);

	a->code = p->role;
	a->cause = cause;
	a->epoch = p->role == VMP_ROLE_ESTABLISHING ? p->at.epoch : p->epoch;
}

void vmp_mode_set(struct vmp_step *s, struct vmp_pair *p, enum vmp_mode mode)
{
	struct vmp_action *a;

	if (p->mode == mode && !p->catch_op)
		return;
	p->mode = mode;
	a = vmp_act(s, VMP_ACT_MODE, p);
	a->code = mode;
	a->epoch = p->epoch;
	a->op = p->catch_op;
	if (mode == VMP_MODE_SYNC) {
		a->a = p->own.sync_node;
		a->b = p->own.sync_member;
	}
}

struct vmp_pair *vmp_pair_find(struct vmp_core *c, uint64_t id)
{
	unsigned int i;

	for (i = 0; i < c->n_pairs; i++) {
		if (c->pair[i].id == id)
			return &c->pair[i];
	}
	return NULL;
}

struct vmp_pair *vmp_pair_get(struct vmp_core *c, uint64_t id)
{
	struct vmp_pair *p = vmp_pair_find(c, id);

	if (p || !id || c->n_pairs == VMP_MAX_PAIRS)
		return p;
	if (!vmp_pair_reserved(id) && !vmp_core_pairs_left(c))
		return NULL;
	p = &c->pair[c->n_pairs++];
	memset(p, 0, sizeof *p);
	p->id = p->reg.pair = id;
	p->epoch_seen = c->epoch_skip;
	return p;
}

unsigned int vmp_voter_idx(const struct vmp_core *c, uint8_t node)
{
	unsigned int v;

	for (v = 0; v < c->config.n; v++) {
		if (c->config.voter[v].node == node)
			return v;
	}
	return VMP_MAX_VOTERS;
}

bool vmp_timers_static(const struct vmp_core *c)
{
	return c->config.n < 3;
}

/* T1. Only where everybody has all states: in a set that is not settled the one who is left may lack what a majority of the set before it has
 * recorded (seed 210446854). */
static bool leaves_out(const struct vmp_core *c)
{
	return vmp_timers_static(c) && c->settled;
}

unsigned int vmp_need(const struct vmp_core *c)
{
	unsigned int v, n = c->config.n;

	if (vmp_set_waits(c))
		return VMP_MAX_VOTERS + 1;
	if (!leaves_out(c))
		return c->m;
	for (v = 0; v < c->config.n; v++)
		n -= c->peer[v].left_out;
	return n / 2 + 1;
}

unsigned int vmp_votes(const struct vmp_core *c, uint8_t mask)
{
	unsigned int v, n = 0;

	for (v = 0; v < c->config.n; v++)
		n += (mask >> v & 1) && !(leaves_out(c) && c->peer[v].left_out);
	return n;
}

int vmp_state_cmp(const struct vmp_state *a, const struct vmp_state *b)
{
	if (a->epoch != b->epoch)
		return a->epoch > b->epoch ? 1 : -1;
	return a->seq == b->seq ? 0 : a->seq > b->seq ? 1 : -1;
}

void vmp_seen(struct vmp_pair *p, uint64_t epoch)
{
	vmp_max(&p->epoch_seen, epoch);
}

bool vmp_peer_alive(const struct vmp_core *c, unsigned int v, uint64_t now)
{
	return v < c->config.n && (v == c->self || (c->peer[v].heard_ns && now - c->peer[v].heard_ns <= c->lease_ns));
}

bool vmp_was_late(const struct vmp_core *c, uint64_t now)
{
	return c->late_ns && now - c->late_ns < 2 * c->hb_ns;
}

void vmp_set_config(struct vmp_core *c, const struct vmp_config *config)
{
	unsigned int v;

	c->config = *config;
	c->self = VMP_MAX_VOTERS;
	for (v = 0; v < config->n; v++) {
		if (config->voter[v].node == c->node && config->voter[v].id == c->voter)
			c->self = v;
	}
	c->m = config->n / 2 + 1;
	c->r = config->n - c->m + 1;
	if (BUG(c, MAJORITY_HALF))
		c->m = config->n / 2;
}

/* --- start ---------------------------------------------------------------------------------------------------------------- */

static bool config_valid(const struct vmp_config *config)
{
	unsigned int i;

	if (config->n > VMP_MAX_VOTERS || (config->version && !config->n))
		return false;
	for (i = 0; i < config->n; i++) {
		if (!config->voter[i].id || !config->voter[i].node || (i && config->voter[i].node <= config->voter[i - 1].node))
			return false;
	}
	return true;
}

static void restore(struct vmp_core *c, const struct vmp_record *r, bool same_boot, uint64_t now)
{
	struct vmp_pair *p = vmp_pair_get(c, r->pair);

	if (!p)
		return;
	p->reg.promised = r->promised;
	p->reg.state = r->state;
	p->epoch_seen = r->epoch_seen;
	vmp_seen(p, r->promised.epoch);
	vmp_seen(p, r->state.epoch);
	vmp_seen(p, r->own_epoch);
	if (!same_boot) {
		p->reg.promised.own = false;
		return;		/* H7: after a reboot it resumes nothing */
	}
	p->released = r->released;
	/* X1; a hold granted before outlives L and was written for this */
	if (vmp_pair_is_bar(p->id))
		return;
	if (p->id == VMP_PAIR_VOTERS) {
		p->guard_ns = now + c->lease_ns;
		if (!c->settled)
			c->rec.forgot = r->own_epoch;
		return;		/* what was proposed may still be on its way: neither resumed nor released */
	}
	if (vmp_guard_forever(c, p))
		p->guard_ns = p->reg.promised.epoch ? VMP_NEVER : 0;
	else
		p->guard_ns = now + c->lease_ns;
	p->held_until_ns = r->held_until_ns;
	vmp_max(&p->guard_ns, r->held_until_ns);
	/* H7: an unreleased epoch that was established goes on in mode wait, without a lease until new acks arrive */
	if ((r->role == VMP_ROLE_HOLDING && r->own_epoch > r->released) || (BUG(c, RESUME_RELEASED) && r->own_epoch)) {
		p->role = VMP_ROLE_HOLDING;
		p->on_run = true;
		p->cause = VMP_CAUSE_RESUME;
		p->mode = VMP_MODE_WAIT;
		p->epoch = r->own_epoch;
		p->own = r->own;
		p->held_member = r->own_member;
		p->old_hold_nonce = r->hold_nonce;
	} else if (vmp_timers_static(c)) {
		vmp_release_claims(c, p);
	}
}

int vmp_core_init(struct vmp_core *c, const struct vmp_init *init)
{
	bool same_boot = init->start == VMP_START_SAME_BOOT;
	uint64_t h = vmp_holder_lease_ns(init->lease_ms, init->clock_error_permille, init->gate_delay_ms);
	unsigned int i, k;
#ifdef VMP_CORE_BUGS
	uint64_t bugs = c->bugs;
#endif

	if (!init->node || !init->boot || !init->inc || !init->voter || !init->hb_ms || init->start > VMP_START_SAME_BOOT ||
	    init->n_wish > VMP_MAX_VOTERS || init->n_records > VMP_MAX_PAIRS || !config_valid(&init->config) || !config_valid(&init->previous) ||
	    h < 3ull * init->hb_ms * 1000000)
		return -EINVAL;
	memset(c, 0, sizeof *c);
#ifdef VMP_CORE_BUGS
	c->bugs = bugs;
#endif
	c->node = init->node;
	c->boot = init->boot;
	c->inc = init->inc;
	c->voter = init->voter;
	c->prng = init->seed;
	c->lease_ns = (uint64_t)init->lease_ms * 1000000;
	c->hb_ns = (uint64_t)init->hb_ms * 1000000;
	c->q_ns = (uint64_t)init->gate_delay_ms * 1000000;
	c->holder_ns = BUG(c, NO_DRIFT) ? c->lease_ns : h;
	c->hold_max_ms = init->hold_max_ms;
	c->rho_permille = BUG(c, NO_DRIFT) ? 0 : init->clock_error_permille;
	c->start_ns = c->now_ns = init->now_ns;
	c->next_hb_ns = c->next_members_ns = init->now_ns;
	for (i = 0; i < init->n_wish; i++) {	/* ascending, no doubles: every node has to form the same first configuration */
		for (k = c->n_wish; k && c->wish[k - 1] > init->wish[i]; k--)
			c->wish[k] = c->wish[k - 1];
		c->wish[k] = init->wish[i];
		c->n_wish++;
	}
	for (i = 1; i < c->n_wish; i++) {
		if (c->wish[i] == c->wish[i - 1])
			return -EINVAL;
	}
	vmp_set_config(c, &init->config);
	c->previous = init->previous;
	if (!same_boot && c->config.version)
		c->epoch_skip = (64 + (c->inc & 255)) << 8;
	c->settled = c->config.version <= 1;
	for (i = 0; i < init->n_records; i++) {
		if (init->record[i].pair != VMP_PAIR_VOTERS)
			continue;
		c->settled |= init->record[i].state.epoch == c->config.version;
		c->epoch_skip += init->record[i].epoch_seen;
	}
	c->from_static = !c->settled && c->previous.n < 3;
	c->renew_ok = c->settled && c->config.n < 3 && c->self != VMP_MAX_VOTERS;
	if (!c->settled)
		c->finish_ns = init->now_ns + 2 * c->lease_ns + vmp_jitter(c, 0, 2 * c->lease_ns);
	for (i = 0; i < init->n_records; i++)
		restore(c, &init->record[i], same_boot, init->now_ns);
	vmp_bar_init(c);
	vmp_recovery_init(c, !same_boot, init->now_ns);
	c->rec.no_disk = !same_boot && init->no_disk;
	c->fresh = true;
	return 0;
}

/* --- one step ------------------------------------------------------------------------------------------------------------- */

/* The one place where a pair makes progress on its own: after every event that concerns it, and with every tick. */
void vmp_pair_run(struct vmp_step *s, struct vmp_pair *p)
{
	if (p->promote.deadline_ns && s->now >= p->promote.deadline_ns) {
		enum vmp_reason reason = p->blocked ? p->blocked : p->at.reason ? p->at.reason : VMP_REASON_TIMEOUT;

		if (p->at.phase != VMP_PH_IDLE && p->at.reason)
			reason = p->at.reason;
		vmp_op_done(s, &p->promote, -ETIMEDOUT, reason);	/* T4 */
		p->promote_force = false;
		if (p->at.cause == VMP_CAUSE_PROMOTE || p->at.cause == VMP_CAUSE_FORCE)
			vmp_attempt_end(s, p, VMP_REASON_TIMEOUT, true);
	}
	vmp_holder_run(s, p);
	vmp_candidate_run(s, p);
}

unsigned int vmp_pair_st(const struct vmp_pair *p)
{
	switch ((enum vmp_role)p->role) {
	case VMP_ROLE_HOLDING:
		switch ((enum vmp_phase)p->at.phase) {
		case VMP_PH_CLAIMING: return VMP_ST_RECLAIMING;
		case VMP_PH_FENCING: return VMP_ST_REFENCING;
		case VMP_PH_PUTTING: return VMP_ST_REPUTTING;
		default: return VMP_ST_HOLDING;
		}
	case VMP_ROLE_CLOSING:
		return VMP_ST_CLOSING;
	default:
		switch ((enum vmp_phase)p->at.phase) {
		case VMP_PH_PROBING: return VMP_ST_PROBING;
		case VMP_PH_CLAIMING: return VMP_ST_CLAIMING;
		case VMP_PH_FENCING: return VMP_ST_FENCING;
		case VMP_PH_PUTTING: return VMP_ST_PUTTING;
		default: return VMP_ST_NONE;
		}
	}
}

static void members_send(struct vmp_step *s)
{
	struct vmp_core *c = s->c;
	struct vmp_msg *msg = vmp_msg_new(s, VMP_MSG_MEMBERS);
	unsigned int i;

	for (i = 0; i < c->n_pairs; i++) {
		const struct vmp_pair *p = &c->pair[i];
		struct vmp_member_info *info = &msg->u.members.member[msg->u.members.n];

		if (!p->hosted)
			continue;
		info->pair = p->id;
		info->member = p->member;
		info->flags = (p->running ? VMP_MEMBER_RUNNING : 0) | (p->ready ? VMP_MEMBER_READY : 0);
		msg->u.members.n++;
	}
	vmp_send(s, VMP_TO_VOTERS, msg);
	c->members_changed = false;
	c->next_members_ns = s->now + MEMBERS_EVERY_NS;
}

static void on_members(struct vmp_step *s, unsigned int v, const struct vmp_msg_members *m)
{
	struct vmp_core *c = s->c;
	unsigned int i;

	c->peer[v].members_ns = s->now;
	for (i = 0; i < c->n_pairs; i++)
		c->pair[i].peer[v] = (struct vmp_member_info){ .pair = c->pair[i].id };
	for (i = 0; i < m->n; i++) {
		struct vmp_pair *p = vmp_pair_find(c, m->member[i].pair);

		if (p) {
			p->peer[v] = m->member[i];
			p->peer[v].flags |= VMP_MEMBER_LISTED;
		}
	}
	for (i = 0; i < c->n_pairs; i++) {
		if (c->pair[i].role == VMP_ROLE_HOLDING || c->pair[i].promote.deadline_ns)
			vmp_pair_run(s, &c->pair[i]);
	}
}

static void heartbeat_run(struct vmp_step *s)
{
	struct vmp_core *c = s->c;

	if (s->now < c->next_hb_ns)
		return;
	if (c->config.version)
		vmp_heartbeat_send(s);
	c->next_hb_ns += c->hb_ns;
	if (c->next_hb_ns <= s->now)
		c->next_hb_ns = s->now + c->hb_ns;
}

/* The first heartbeat of a round brings on the others: nodes then wake each other less often, and an answer and the own heartbeat leave in
 * one datagram. */
static void heartbeat_with(struct vmp_step *s)
{
	struct vmp_core *c = s->c;

	if (c->next_hb_ns > s->now && c->next_hb_ns - s->now < c->hb_ns / 2)
		c->next_hb_ns = s->now;
	heartbeat_run(s);
}

static void on_tick(struct vmp_step *s)
{
	struct vmp_core *c = s->c;
	unsigned int i;

	if (c->config_dirty && s->now >= c->config_next_ns) {
		c->config_next_ns = s->now + c->hb_ns;
		c->config_alone = true;		/* what follows a write that fails is not done */
		vmp_config_persist(s);
		return;
	}
	if (c->fresh) {		/* H7: say what was resumed, so that the runtime and the relay know */
		c->fresh = false;
		for (i = 0; i < c->n_pairs; i++) {
			struct vmp_pair *p = &c->pair[i];

			if (p->role != VMP_ROLE_HOLDING)
				continue;
			vmp_role_note(s, p, VMP_CAUSE_RESUME);
			vmp_note(s, p, VMP_NOTE_RESUMED, p->epoch, 0, 0);
			p->mode = VMP_MODE_COUNT;
			vmp_mode_set(s, p, VMP_MODE_WAIT);
		}
	}
	heartbeat_run(s);
	if (c->config.version && (c->members_changed || s->now >= c->next_members_ns))
		members_send(s);
	vmp_recovery_run(s);
	vmp_voters_run(s);
	vmp_bar_run(s);
	c->more = false;
	for (i = 0; i < c->n_pairs; i++) {
		if (s->out->n_actions + ROOM_ACTIONS > VMP_MAX_ACTIONS || s->out->n_msgs + ROOM_MSGS > VMP_MAX_MSGS) {
			c->more = true;
			break;
		}
		vmp_clean(s, &c->pair[(c->tick_turn + i) % c->n_pairs]);
		vmp_pair_run(s, &c->pair[(c->tick_turn + i) % c->n_pairs]);
		vmp_guard_tell(s, &c->pair[(c->tick_turn + i) % c->n_pairs]);
	}
	c->tick_turn = c->n_pairs ? (c->tick_turn + i) % c->n_pairs : 0;
}

static void on_msg(struct vmp_step *s, uint8_t from, const struct vmp_msg *msg)
{
	struct vmp_core *c = s->c;
	unsigned int v;

	/* These carry or ask for a configuration and so cannot depend on one. */
	switch (msg->type) {
	case VMP_MSG_READ:
		vmp_on_read(s, from, msg);
		return;
	case VMP_MSG_TABLE:
	case VMP_MSG_COLD:
		vmp_on_table(s, from, msg);
		return;
	case VMP_MSG_CONFIG:
		vmp_on_config(s, from, msg);
		return;
	case VMP_MSG_CONFIG_OK:
		vmp_on_config_ok(s, from, msg);
		return;
	case VMP_MSG_STATES_OK:
		vmp_on_states_ok(s, from, msg);
		return;
	}
	v = vmp_voter_idx(c, from);
	if (v == VMP_MAX_VOTERS || c->self == VMP_MAX_VOTERS || c->config.voter[v].id != msg->voter) {
		/* A voter may have claimed before the proposal that removes it, or that removes whom it asked, and the release was lost: it
		 * says once more that it gave up. */
		if (msg->type == VMP_MSG_REFUSE && msg->u.refuse.pair == VMP_PAIR_VOTERS && vmp_voter_old_or_new(c, from, msg->voter))
			vmp_voters_refused(s, from, &msg->u.refuse);
		if (msg->type == VMP_MSG_RELEASE && !vmp_pair_reserved(msg->u.release.pair))
			vmp_on_release(s, from, &msg->u.release);	/* nor believed, but for what only they can give back */
		if (msg->version && msg->version < c->config.version)
			vmp_config_tell(s, from);	/* M3: it may have been one */
		return;		/* section 4: unknown voters are not listened to */
	}
	if (msg->version != c->config.version) {	/* M3 */
		if (msg->type == VMP_MSG_REFUSE && msg->u.refuse.pair == VMP_PAIR_VOTERS)
			vmp_voters_refused(s, from, &msg->u.refuse);
		if (msg->type == VMP_MSG_RELEASE && msg->u.release.pair == VMP_PAIR_VOTERS)
			vmp_on_release(s, from, &msg->u.release);
		if (msg->version < c->config.version)
			vmp_config_tell(s, from);
		else if (!c->peer[v].told_ns || s->now - c->peer[v].told_ns >= c->hb_ns) {
			struct vmp_msg *ask = vmp_msg_new(s, VMP_MSG_READ);

			c->peer[v].told_ns = s->now;
			ask->u.read.boot = c->boot;
			vmp_send(s, from, ask);
		}
		return;
	}
	switch ((enum vmp_msg_type)msg->type) {
	case VMP_MSG_HEARTBEAT:
		vmp_on_heartbeat(s, v, &msg->u.heartbeat);
		heartbeat_with(s);
		break;
	case VMP_MSG_ACK: vmp_on_ack(s, v, &msg->u.ack); break;
	case VMP_MSG_CLAIM: vmp_on_claim(s, v, &msg->u.claim, false); break;
	case VMP_MSG_PROBE: vmp_on_claim(s, v, &msg->u.claim, true); break;
	case VMP_MSG_PROBE_OK: vmp_on_grant(s, v, &msg->u.grant, true); break;
	case VMP_MSG_GRANT: vmp_on_grant(s, v, &msg->u.grant, false); break;
	case VMP_MSG_REFUSE: vmp_on_refuse(s, v, &msg->u.refuse); break;
	case VMP_MSG_PUT: vmp_on_put(s, v, &msg->u.put); break;
	case VMP_MSG_PUT_OK: vmp_on_put_ok(s, v, &msg->u.put_ok); break;
	case VMP_MSG_HOLD: vmp_on_hold(s, v, &msg->u.hold); break;
	case VMP_MSG_HOLD_OK: vmp_on_hold_ok(s, v, &msg->u.hold); break;
	case VMP_MSG_UNHOLD: vmp_on_unhold(s, v, &msg->u.hold); break;
	case VMP_MSG_RELEASE: vmp_on_release(s, from, &msg->u.release); break;
	case VMP_MSG_TAKEOVER: vmp_on_takeover(s, v, &msg->u.takeover); break;
	case VMP_MSG_MEMBERS: on_members(s, v, &msg->u.members); break;
	case VMP_MSG_STATES: vmp_on_states(s, v, &msg->u.table); break;
	default: break;
	}
}

static void on_member(struct vmp_step *s, struct vmp_pair *p, const struct vmp_event *ev)
{
	if (p->member != ev->member || p->running != ev->on || p->ready != ev->ready)
		s->c->members_changed = true;
	p->member = ev->member;
	p->running = ev->on && ev->member;
	p->ready = ev->ready && p->running;
	if (p->role == VMP_ROLE_HOLDING && (p->member != p->held_member || !p->running))	/* R2 */
		vmp_release_begin(s, p, VMP_CAUSE_VM_EXIT, p->own.sync_node);
	if (s->c->members_changed && s->c->config.version)
		members_send(s);
	vmp_entry_update(s, p);
	vmp_pair_run(s, p);
}

static void on_promote(struct vmp_step *s, struct vmp_pair *p, const struct vmp_event *ev)
{
	bool force = ev->type == VMP_EV_FORCE;

	if (p->role == VMP_ROLE_HOLDING) {	/* T4 */
		vmp_op_answer(s, ev->op, p->on_run ? 0 : -EIO, p->on_run ? VMP_REASON_NONE : VMP_REASON_PERSIST);
		return;
	}
	if (!p->hosted) {
		vmp_op_answer(s, ev->op, -ENOENT, VMP_REASON_NO_PAIR);
		return;
	}
	vmp_op_done(s, &p->promote, -ECANCELED, VMP_REASON_SUPERSEDED);
	p->promote = (struct vmp_request){ .op = ev->op, .deadline_ns = ev->deadline_ns };
	p->promote_force = force;
	p->held_off = false;
	p->return_ns = 0;
	vmp_pair_run(s, p);
}

/* Planned moves: DEMOTE never refuses; SWITCHOVER needs somebody to hand to. */
static void on_move(struct vmp_step *s, struct vmp_pair *p, const struct vmp_event *ev)
{
	bool demote = ev->type == VMP_EV_DEMOTE;
	uint8_t standby = vmp_in_sync_standby(s->c, p, s->now);
	bool frozen = s->c->frozen || p->frozen;

	if (demote) {
		p->held_off = true;
		vmp_op_done(s, &p->promote, -ECANCELED, VMP_REASON_SUPERSEDED);
		p->promote_force = false;
		if (p->role == VMP_ROLE_NONE || p->role == VMP_ROLE_ESTABLISHING) {
			vmp_attempt_end(s, p, VMP_REASON_SUPERSEDED, false);
			vmp_op_answer(s, ev->op, 0, VMP_REASON_NONE);
			return;
		}
	} else {
		enum vmp_reason why = p->role != VMP_ROLE_HOLDING ? VMP_REASON_NOT_HOLDER : frozen ? VMP_REASON_FROZEN :
				      !standby ? VMP_REASON_NO_STANDBY : VMP_REASON_NONE;

		if (why) {
			vmp_op_answer(s, ev->op, why == VMP_REASON_NOT_HOLDER ? -ESTALE : why == VMP_REASON_FROZEN ? -EPERM : -EAGAIN, why);
			return;
		}
	}
	if (p->role == VMP_ROLE_CLOSING)
		vmp_op_done(s, &p->release_req, -ECANCELED, VMP_REASON_SUPERSEDED);
	p->release_req = (struct vmp_request){ .op = ev->op };
	vmp_release_begin(s, p, demote ? VMP_CAUSE_DEMOTE : ev->on ? VMP_CAUSE_TRIGGER : VMP_CAUSE_SWITCHOVER, frozen ? 0 : standby);
}

static void on_pair_remove(struct vmp_step *s, struct vmp_pair *p, const struct vmp_event *ev)
{
	s->c->members_changed = true;
	vmp_op_done(s, &p->promote, -ECANCELED, VMP_REASON_SUPERSEDED);
	p->promote_force = false;
	if (p->role == VMP_ROLE_HOLDING || p->role == VMP_ROLE_CLOSING) {
		if (p->release_req.op)
			vmp_op_done(s, &p->release_req, -ECANCELED, VMP_REASON_SUPERSEDED);
		p->release_req.op = ev->op;
		p->remove = true;
		vmp_release_begin(s, p, VMP_CAUSE_REMOVED, vmp_in_sync_standby(s->c, p, s->now));
		return;
	}
	vmp_attempt_end(s, p, VMP_REASON_SUPERSEDED, false);
	p->hosted = p->running = p->ready = false;
	p->member = 0;
	vmp_op_answer(s, ev->op, 0, VMP_REASON_NONE);
}

static void on_peer_link(struct vmp_step *s, struct vmp_pair *p, const struct vmp_event *ev)
{
	uint8_t standby = vmp_in_sync_standby(s->c, p, s->now);

	p->link_down = !ev->on;
	if (p->link_down && ev->ready && p->policy.peer_link == VMP_PEER_LINK_FAILOVER && standby && !s->c->frozen && !p->frozen)
		vmp_release_begin(s, p, VMP_CAUSE_PEER_LINK, standby);
	vmp_pair_run(s, p);
}

/* What the dropped rest of the list said is said again: actions are idempotent, and closing comes first where in doubt. */
static void on_persist_failed(struct vmp_step *s, struct vmp_pair *failed)
{
	struct vmp_core *c = s->c;
	unsigned int i;

	if (c->config.version && (c->config_acted || !failed))
		c->config_dirty = true;
	if (c->config_alone)
		return;
	for (i = 0; i < c->n_pairs; i++) {	/* writes of others may have been among what was dropped */
		c->pair[i].dirty = true;
		c->pair[i].on_run &= !c->pair[i].written || c->pair[i].on_run_next;
		c->pair[i].written = false;
	}
	if (failed && failed->role != VMP_ROLE_HOLDING && failed->at.phase >= VMP_PH_CLAIMING)
		vmp_attempt_end(s, failed, VMP_REASON_PERSIST, true);
	for (i = 0; i < c->n_pairs; i++) {
		struct vmp_pair *p = &c->pair[i];

		if (!p->hosted && p->role == VMP_ROLE_NONE)
			continue;
		switch (vmp_pair_st(p)) {
		case VMP_ST_CLOSING:
		case VMP_ST_NONE:
		case VMP_ST_PROBING:
		case VMP_ST_CLAIMING:
			vmp_entry_close(s, p);
			break;
		case VMP_ST_FENCING:
		case VMP_ST_REFENCING:
			vmp_act(s, VMP_ACT_RELAY_FENCE, p)->epoch = p->at.epoch;
			break;
		default:
			break;
		}
		vmp_role_note(s, p, VMP_CAUSE_PERSIST_FAILED);
		if (p->role == VMP_ROLE_HOLDING) {
			enum vmp_mode mode = p->mode;

			p->mode = VMP_MODE_COUNT;
			vmp_mode_set(s, p, mode);
			p->entry_open = false;
			vmp_entry_update(s, p);
		}
	}
}

/* K6: close, then open from fresh acks only. */
static void on_clock_jump(struct vmp_step *s)
{
	struct vmp_core *c = s->c;
	unsigned int i;

	memset(c->sent_seq, 0, sizeof c->sent_seq);
	c->renew_ns = 0;
	for (i = 0; i < c->n_pairs; i++) {	/* before any write, whose failure drops what comes after it */
		struct vmp_pair *p = &c->pair[i];

		if (p->role == VMP_ROLE_HOLDING) {
			memset(p->ack, 0, sizeof p->ack);
			p->carry_ns = p->hold_end_ns = 0;
			vmp_entry_close(s, p);
			vmp_note(s, p, VMP_NOTE_LAPSED, p->epoch, 0, 0);
		}
	}
	for (i = 0; i < c->n_pairs; i++)
		vmp_attempt_end(s, &c->pair[i], VMP_REASON_LEASE, true);
}

static void on_fenced(struct vmp_step *s, const struct vmp_event *ev)
{
	struct vmp_core *c = s->c;
	struct vmp_peer *peer = vmp_peer_of(c, ev->node);
	unsigned int i;

	if (!peer || ev->node == c->node || !ev->member)
		return;		/* R3: a proof by node name alone is refused */
	peer->fenced_boot = ev->member;
	if (peer->boot == ev->member || !peer->boot)
		peer->left_out = true;
	for (i = 0; i < c->n_pairs; i++)
		vmp_pair_run(s, &c->pair[i]);
}

static void on_lost_disks(struct vmp_step *s, const struct vmp_event *ev)	/* X5 */
{
	unsigned int v = vmp_voter_idx(s->c, ev->node);

	if (v == VMP_MAX_VOTERS && vmp_peer_of(s->c, ev->node)) {	/* M2 (1): of the old set, and not in the new one */
		/* T1: of two, one that is only cut off may hold pairs without end */
		if (s->c->previous.n < 3 && !s->c->parted.left_out) {
			vmp_op_answer(s, ev->op, -EPERM, VMP_REASON_NOT_FENCED);
			return;
		}
		s->c->parted.lost = true;
		vmp_op_answer(s, ev->op, 0, VMP_REASON_NONE);
		vmp_voters_run(s);
		return;
	}
	if (v == VMP_MAX_VOTERS || v == s->c->self || !s->c->rec.abstaining ||
	    (vmp_peer_alive(s->c, v, s->now) && !s->c->peer[v].abstaining)) {
		vmp_op_answer(s, ev->op, -EPERM, VMP_REASON_NOT_LOST);
		return;
	}
	s->c->rec.lost |= 1u << v;
	vmp_op_answer(s, ev->op, 0, VMP_REASON_NONE);
	vmp_recovery_run(s);
}

static bool msg_valid(const struct vmp_msg *m)
{
	switch ((enum vmp_msg_type)m->type) {
	case VMP_MSG_HEARTBEAT: return m->u.heartbeat.n_held <= VMP_MAX_PAIRS && m->u.heartbeat.n_states <= VMP_HB_STATES;
	case VMP_MSG_ACK: return m->u.ack.n_supported <= VMP_MAX_PAIRS && m->u.ack.n_regs <= VMP_ACK_REGS;
	case VMP_MSG_TABLE:
	case VMP_MSG_COLD:
	case VMP_MSG_CONFIG_OK:
	case VMP_MSG_STATES:
	case VMP_MSG_STATES_OK:
		return m->u.table.n_regs <= VMP_TABLE_REGS && m->u.table.parts >= 1 && m->u.table.parts <= VMP_MAX_PAIRS / VMP_TABLE_REGS &&
		       m->u.table.part < m->u.table.parts && config_valid(&m->u.table.config);
	case VMP_MSG_CONFIG: return config_valid(&m->u.config.config) && config_valid(&m->u.config.previous);
	case VMP_MSG_MEMBERS: return m->u.members.n <= VMP_MAX_PAIRS;
	case VMP_MSG_NONE_:
	case VMP_MSG_COUNT: return false;
	default: return m->type < VMP_MSG_COUNT;
	}
}

static bool event_valid(const struct vmp_event *ev)
{
	switch ((enum vmp_event_type)ev->type) {
	case VMP_EV_TICK:
	case VMP_EV_CLOCK_JUMP:
	case VMP_EV_FREEZE:
	case VMP_EV_HOLD:
	case VMP_EV_PERSIST_FAILED:
	case VMP_EV_UNHOLD: return true;
	case VMP_EV_MSG: return ev->node && msg_valid(&ev->msg);
	case VMP_EV_FENCED:
	case VMP_EV_VOTERS:
	case VMP_EV_LOST_DISKS: return ev->node;
	case VMP_EV_BAR: return ev->node && ev->deadline_ns;
	case VMP_EV_PROMOTE:
	case VMP_EV_FORCE: return !vmp_pair_reserved(ev->pair) && ev->deadline_ns;
	case VMP_EV_COUNT: return false;
	default: return ev->type < VMP_EV_COUNT && !vmp_pair_reserved(ev->pair);
	}
}

static void on_all_or_one(struct vmp_step *s, const struct vmp_event *ev)
{
	struct vmp_core *c = s->c;
	unsigned int i, n = 0;

	if (ev->type == VMP_EV_FREEZE && !ev->pair)
		c->frozen = ev->on;
	for (i = 0; i < c->n_pairs; i++) {
		struct vmp_pair *p = &c->pair[i];

		if (ev->pair && ev->pair != p->id)
			continue;
		if (ev->type == VMP_EV_FREEZE) {
			if (ev->pair)
				p->frozen = ev->on;
			vmp_pair_run(s, p);
		} else if (p->role == VMP_ROLE_HOLDING) {
			n++;
			if (ev->type == VMP_EV_HOLD)
				vmp_hold_begin(s, p, ev->ms, ev->op);
			else
				vmp_hold_end(s, p);
		}
	}
	if (ev->type == VMP_EV_FREEZE || ev->type == VMP_EV_UNHOLD)
		vmp_op_answer(s, ev->op, 0, VMP_REASON_NONE);
	else if (!n)
		vmp_op_answer(s, ev->op, ev->pair ? -ESTALE : 0, ev->pair ? VMP_REASON_NOT_HOLDER : VMP_REASON_NONE);
}

static void on_event(struct vmp_step *s, const struct vmp_event *ev)
{
	struct vmp_core *c = s->c;
	struct vmp_pair *p = ev->type == VMP_EV_PAIR_ADD ? vmp_pair_get(c, ev->pair) : vmp_pair_find(c, ev->pair);

	switch ((enum vmp_event_type)ev->type) {
	case VMP_EV_TICK: on_tick(s); return;
	case VMP_EV_MSG: on_msg(s, ev->node, &ev->msg); return;
	case VMP_EV_FREEZE:
	case VMP_EV_HOLD:
	case VMP_EV_UNHOLD: on_all_or_one(s, ev); return;
	case VMP_EV_FENCED: on_fenced(s, ev); return;
	case VMP_EV_CLOCK_JUMP: on_clock_jump(s); return;
	case VMP_EV_LOST_DISKS: on_lost_disks(s, ev); return;
	case VMP_EV_VOTERS: vmp_on_voters(s, ev); return;
	case VMP_EV_BAR: vmp_on_bar(s, ev); return;
	case VMP_EV_PERSIST_FAILED: on_persist_failed(s, p); return;
	default: break;
	}
	if (!p) {
		vmp_op_answer(s, ev->op, ev->type == VMP_EV_PAIR_ADD ? -ENOSPC : -ENOENT,
			      ev->type == VMP_EV_PAIR_ADD ? VMP_REASON_TABLE_FULL : VMP_REASON_NO_PAIR);
		return;
	}
	switch ((enum vmp_event_type)ev->type) {
	case VMP_EV_PAIR_ADD:
		c->members_changed |= !p->hosted;
		p->hosted = true;
		p->remove = false;
		p->policy = ev->policy;
		vmp_op_answer(s, ev->op, 0, VMP_REASON_NONE);
		vmp_pair_run(s, p);
		break;
	case VMP_EV_PAIR_REMOVE: on_pair_remove(s, p, ev); break;
	case VMP_EV_MEMBER: on_member(s, p, ev); break;
	case VMP_EV_PEER_LINK: on_peer_link(s, p, ev); break;
	case VMP_EV_PROMOTE:
	case VMP_EV_FORCE: on_promote(s, p, ev); break;
	case VMP_EV_DEMOTE:
	case VMP_EV_SWITCHOVER: on_move(s, p, ev); break;
	case VMP_EV_CLOSED: vmp_on_closed(s, p, ev->op); break;
	case VMP_EV_RELAY_READY: vmp_on_relay_ready(s, p, ev->epoch); break;
	case VMP_EV_IN_SYNC: vmp_on_in_sync(s, p, ev); break;
	default: break;
	}
}

/* The rows of pair.def: for each state, from where and by which events it may be reached. */
static bool transition_allowed(unsigned int from, unsigned int to, unsigned int event)
{
	static const struct {
		uint16_t from, to;
		uint64_t by;
	} row[] = {
#define S(name) (1u << VMP_ST_##name)
#define EV(name) (1ull << VMP_EV_##name)
#define MSG(name) (1ull << (VMP_EV_COUNT + VMP_MSG_##name))
#define VMP_TRANSITION(from, to, by) { from, to, by },
#include "daemon/core/pair.def"
#undef VMP_TRANSITION
#undef S
#undef EV
#undef MSG
	};
	unsigned int i;

	if (from == to)
		return true;
	for (i = 0; i < sizeof row / sizeof row[0]; i++) {
		if ((row[i].from >> from & 1) && (row[i].to >> to & 1) && (row[i].by >> event & 1))
			return true;
	}
	return false;
}

_Static_assert((unsigned int)VMP_EV_COUNT + (unsigned int)VMP_MSG_COUNT <= 64, "events and messages fit one mask");

bool vmp_action_stands(struct vmp_action *a)
{
	if (a->type == VMP_ACT_OP_DONE && !a->rc) {
		a->rc = -EIO;
		a->code = VMP_REASON_PERSIST;
	}
	return a->type == VMP_ACT_OP_DONE || a->type == VMP_ACT_END_MEMBERS;	/* said once: nothing would say them again */
}

bool vmp_action_lapses(const struct vmp_out *out, const struct vmp_action *a, uint64_t unstored)
{
	const struct vmp_msg *msg = &out->msg[a->msg];

	return unstored && a->type == VMP_ACT_SEND && msg->type == VMP_MSG_UNHOLD && msg->u.hold.pair == unstored;
}

int vmp_core_step(struct vmp_core *c, const struct vmp_event *ev, struct vmp_out *out)
{
	struct vmp_step s = { .c = c, .out = out };
	unsigned int i;

	out->n_actions = out->n_msgs = 0;
	if (!event_valid(ev))
		return -EINVAL;
	/* A tick is due each hb. Once per lease only, so that one who is always late still draws conclusions, later. */
	if (ev->now_ns > c->now_ns + 2 * c->hb_ns && (!c->late_ns || ev->now_ns - c->late_ns > c->lease_ns))
		c->late_ns = ev->now_ns;
	vmp_max(&c->now_ns, ev->now_ns);
	s.now = c->now_ns;
	s.event = ev->type == VMP_EV_MSG ? (unsigned int)VMP_EV_COUNT + ev->msg.type : ev->type;
	if (ev->type != VMP_EV_PERSIST_FAILED)
		c->config_acted = c->config_alone = false;
	for (i = 0; i < c->n_pairs; i++) {
		struct vmp_pair *p = &c->pair[i];

		p->stepped = vmp_pair_st(p);
		if (p->written && ev->type != VMP_EV_PERSIST_FAILED) {
			p->on_run = p->on_run_next;
			p->written = false;
		}
	}
	on_event(&s, ev);
	for (i = 0; i < c->n_pairs; i++) {
		if (transition_allowed(c->pair[i].stepped, vmp_pair_st(&c->pair[i]), s.event))
			continue;
		c->fault_pair = c->pair[i].id;
		c->fault_from = c->pair[i].stepped;
		c->fault_to = vmp_pair_st(&c->pair[i]);
		return -ENOTRECOVERABLE;
	}
	return s.overflow ? -ENOTRECOVERABLE : 0;
}

uint64_t vmp_core_deadline(const struct vmp_core *c)
{
	uint64_t at = c->next_hb_ns;
	unsigned int i;

	if (c->more || c->fresh)
		return c->now_ns;
	if (c->config.version)
		vmp_min(&at, c->members_changed ? c->now_ns : c->next_members_ns);
	if (c->config_dirty)
		vmp_min(&at, c->config_next_ns);
	if (c->rec.abstaining)
		vmp_min(&at, c->rec.waited ? c->rec.next_ns : c->rec.until_ns);
	vmp_voters_deadline(c, &at);
	vmp_bar_deadline(c, &at);
	for (i = 0; i < c->n_pairs; i++) {
		const struct vmp_pair *p = &c->pair[i];

		if (!p->hosted && p->role == VMP_ROLE_NONE && !p->rel_epoch)
			continue;
		vmp_holder_deadline(c, p, &at);
		vmp_candidate_deadline(c, p, &at);
	}
	return at;
}

/* --- views ------------------------------------------------------------------------------------------------------------------ */

int vmp_core_check(const struct vmp_core *c, int *ret_which)
{
	unsigned int i;
	int which = 0;

	for (i = 0; i < c->n_pairs && !which; i++) {
		const struct vmp_pair *p = &c->pair[i];

		if (p->reg.state.epoch > p->reg.promised.epoch && !BUG(c, VOTE_AS_STATE))
			which = 1;	/* V5, V7: no state above the promise */
		else if (p->entry_open && p->role != VMP_ROLE_HOLDING)
			which = 2;	/* C5, R1 */
		else if (p->entry_open && p->expiry_ns > vmp_lease_end(c, p) && !BUG(c, OWN_ALWAYS))
			which = 3;	/* K2 */
		else if (p->role == VMP_ROLE_HOLDING && p->epoch <= p->released)
			which = 4;	/* R1 */
		else if (p->role == VMP_ROLE_HOLDING && p->mode == VMP_MODE_ALONE && p->own.sync_node && !BUG(c, ALONE_EARLY) &&
			 !BUG(c, SYNC_WHILE_ALONE) && p->at.phase != VMP_PH_PUTTING)
			which = 5;	/* D2 */
		else if (p->at.phase >= VMP_PH_CLAIMING && p->at.epoch > p->epoch_seen && !BUG(c, EPOCH_REUSE))
			which = 6;	/* C1 */
		else if ((p->role == VMP_ROLE_ESTABLISHING) != (p->role != VMP_ROLE_HOLDING && p->at.phase >= VMP_PH_FENCING))
			which = 7;	/* C4 */
	}
	if (!which)
		return 0;
	*ret_which = which;
	return -ENOTRECOVERABLE;
}

static const struct vmp_pair *find_const(const struct vmp_core *c, uint64_t pair)
{
	unsigned int i;

	for (i = 0; i < c->n_pairs; i++) {
		if (c->pair[i].id == pair)
			return &c->pair[i];
	}
	return NULL;
}

int vmp_core_record(const struct vmp_core *c, uint64_t pair, struct vmp_record *ret)
{
	const struct vmp_pair *p = find_const(c, pair);

	if (!p)
		return -ENOENT;
	memset(ret, 0, sizeof *ret);
	ret->pair = p->id;
	ret->promised = p->reg.promised;
	ret->state = p->reg.state;
	ret->own = p->own;
	ret->own_epoch = p->id == VMP_PAIR_VOTERS ? c->rec.forgot : p->epoch;
	ret->own_member = p->held_member;
	ret->released = p->released;
	ret->epoch_seen = p->epoch_seen;
	ret->held_until_ns = p->held_until_ns;
	ret->hold_nonce = p->hold_nonce ? p->hold_nonce : p->old_hold_nonce;
	/* closing has not released yet: R1 */
	ret->role = p->role == VMP_ROLE_CLOSING ? VMP_ROLE_HOLDING : p->role;
	return 0;
}

unsigned int vmp_core_pairs_left(const struct vmp_core *c)
{
	unsigned int i, used = c->n_pairs + VMP_KEEP_PAIRS, kept = VMP_KEEP_PAIRS;

	for (i = 0; i < c->n_pairs && kept; i++) {
		if (vmp_pair_reserved(c->pair[i].id)) {
			kept--;
			used--;
		}
	}
	return used < VMP_MAX_PAIRS ? VMP_MAX_PAIRS - used : 0;
}

bool vmp_core_run_complete(const struct vmp_core *c)
{
	unsigned int i;

	for (i = 0; i < c->n_pairs && !c->pair[i].dirty; i++)
		;
	return !c->rec.abstaining && i == c->n_pairs;
}

void vmp_core_config(const struct vmp_core *c, struct vmp_config *ret, struct vmp_config *ret_previous)
{
	*ret = c->config;
	*ret_previous = c->previous;
}

uint64_t vmp_core_lease_end(const struct vmp_core *c, uint64_t pair)
{
	const struct vmp_pair *p = find_const(c, pair);

	return p ? vmp_lease_end(c, p) : 0;
}

int vmp_core_pair_view(const struct vmp_core *c, uint64_t pair, uint64_t now_ns, struct vmp_pair_view *ret)
{
	const struct vmp_pair *p = find_const(c, pair);
	unsigned int v;

	if (!p)
		return -ENOENT;
	memset(ret, 0, sizeof *ret);
	ret->pair = p->id;
	ret->hosted = p->hosted;
	ret->frozen = p->frozen || c->frozen;
	ret->entry_open = p->entry_open && now_ns < p->expiry_ns;
	ret->running = p->running;
	ret->ready = p->ready;
	ret->role = p->role;
	ret->mode = p->mode;
	ret->phase = p->at.phase;
	ret->cause = p->cause;
	ret->blocked = p->blocked;
	ret->epoch = p->role == VMP_ROLE_NONE ? p->reg.state.epoch : p->epoch;
	ret->seq = p->role == VMP_ROLE_NONE ? p->reg.state.seq : p->own.seq;
	ret->member = p->member;
	ret->reg = p->reg;
	ret->primary = p->reg.state.holder;
	ret->sync_node = p->reg.state.cold ? 0 : p->reg.state.sync_node;
	ret->on_run = p->on_run;
	ret->lease_end_ns = vmp_lease_end(c, p);
	ret->hold_end_ns = p->role == VMP_ROLE_HOLDING ? p->hold_end_ns : 0;
	ret->guard_ns = p->guard_ns;
	for (v = 0; v < c->config.n; v++)
		ret->support += p->role == VMP_ROLE_HOLDING && p->ack[v] && now_ns < p->ack[v] + c->holder_ns;
	memcpy(ret->peer, p->peer, sizeof ret->peer);
	return 0;
}

void vmp_core_node_view(const struct vmp_core *c, uint64_t now_ns, struct vmp_node_view *ret)
{
	unsigned int v;

	memset(ret, 0, sizeof *ret);
	ret->abstaining = c->rec.abstaining;
	ret->until_ns = c->rec.until_ns;
	ret->n = c->config.n;
	ret->m = c->m;
	ret->answered = vmp_ones(c->rec.tables | c->rec.colds);
	for (v = 0; v < c->n_wish && !c->config.version; v++) {
		if (c->rec.other_wish >> v & 1)
			ret->other_wish = c->wish[v];
	}
	ret->cold_wait = c->rec.abstaining && c->rec.waited && c->rec.colds;
	ret->fast_node_loss = c->config.n >= 3;
	ret->endless = vmp_timers_static(c) || c->from_static;
	ret->settled = c->settled;
	ret->change = c->change.phase;
	ret->change_node = c->change.requested ? c->change.node : 0;
	ret->config = c->config;
	for (v = 0; v < c->previous.n && !c->settled; v++) {
		if (vmp_voter_idx(c, c->previous.voter[v].node) == VMP_MAX_VOTERS)
			ret->parted = c->previous.voter[v].node;
	}
	ret->parted_heard_ns = c->parted.heard_ns;
	ret->waits = vmp_set_waits(c);
	for (v = 0; v < c->config.n; v++) {
		ret->heard += vmp_peer_alive(c, v, now_ns);
		ret->heard_ns[v] = c->peer[v].heard_ns;
		ret->boot[v] = c->peer[v].boot;
	}
}
