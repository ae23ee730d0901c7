/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Restart and recovery of a voter (section 11), and the first start of a cluster.
 *
 * First-ever start. No voter has a configuration (version 0) or a register. This is X5 with nothing on the disks, and as there it
 * needs all of them: each node of corosync's list has to say, after its own wait, that it has no configuration, and tell its voter
 * id. A register that anybody still remembers would come with a configuration, and then nothing is formed here. The set formed is
 * the same on every node (nodes and ids in order, version 1), so several may form it at once. A machine whose disk was wiped comes
 * back with another voter id: it is not in the configuration the others have, and stays out until it is added by M2.
 * Each says as well which nodes it waits for. Lists that differ (another corosync.conf, a witness that only some know) would make two
 * sets of one version, one of two voters maybe, whose guards never end, and one of three, whose do: then none is formed. */
#include "daemon/core/internal.h"

/* X2. The wait covers the longest hold as well: a forgotten hold (H8) protects a lease for longer than L. */
void vmp_recovery_init(struct vmp_core *c, bool memory_lost, uint64_t now)
{
	uint64_t wait = (uint64_t)c->hold_max_ms * 1000000;

	c->rec.abstaining = (memory_lost && !BUG(c, NO_ABSTAIN)) || !c->config.version;
	vmp_max(&wait, c->lease_ns);
	c->rec.until_ns = now + wait;
}

/* Without a configuration its place tells which nodes this one waits for. */
static void wish_put(const struct vmp_core *c, struct vmp_config *config)
{
	unsigned int i;

	config->n = c->n_wish;
	for (i = 0; i < c->n_wish; i++)
		config->voter[i] = (struct vmp_voter){ .id = c->voter, .node = c->wish[i] };
}

static bool wish_same(const struct vmp_core *c, const struct vmp_config *config)
{
	unsigned int i;

	for (i = 0; i < c->n_wish && i < config->n && config->voter[i].node == c->wish[i]; i++)
		;
	return i == c->n_wish && i == config->n;
}

void vmp_table_send(struct vmp_step *s, uint8_t to, enum vmp_msg_type type, uint64_t nonce)
{
	struct vmp_core *c = s->c;
	unsigned int i, n = 0, parts, part = 0;
	struct vmp_msg *msg = NULL;

	for (i = 0; i < c->n_pairs; i++)
		n += c->pair[i].reg.promised.epoch || c->pair[i].reg.state.epoch;
	parts = n ? (n + VMP_TABLE_REGS - 1) / VMP_TABLE_REGS : 1;
	for (i = 0; i < c->n_pairs || !msg; i++) {
		if (!msg || msg->u.table.n_regs == VMP_TABLE_REGS) {
			if (msg)
				vmp_send(s, to, msg);
			msg = vmp_msg_new(s, type);
			msg->u.table.nonce = nonce;
			msg->u.table.part = part++;
			msg->u.table.parts = parts;
			/* a receiver takes no COLD that did not wait: thus none of a voter without a disk copy */
			msg->u.table.waited = (c->rec.waited && !c->rec.no_disk && type == VMP_MSG_COLD) ||
					      (!c->rec.abstaining && (type != VMP_MSG_CONFIG_OK || !c->rec.forgot));
			msg->u.table.config = c->config;
			if (!c->config.version)
				wish_put(c, &msg->u.table.config);
		}
		if (i < c->n_pairs && (c->pair[i].reg.promised.epoch || c->pair[i].reg.state.epoch)) {
			vmp_clean(s, &c->pair[i]);
			msg->u.table.reg[msg->u.table.n_regs++] = c->pair[i].reg;
		}
	}
	if (part <= parts)
		vmp_send(s, to, msg);
}

void vmp_on_read(struct vmp_step *s, uint8_t from, const struct vmp_msg *msg)
{
	struct vmp_core *c = s->c;
	const struct vmp_msg_read *rd = &msg->u.read;
	unsigned int v = vmp_voter_idx(c, from);

	if (from == c->node)
		return;
	vmp_stranger(c, from, msg->voter);
	if (v != VMP_MAX_VOTERS && c->config.voter[v].id == msg->voter) {
		c->peer[v].boot = rd->boot;
		if (vmp_settled(c))
			vmp_left_out_end(s, v, rd->boot);	/* with our answer it may recover, and we would not know */
	}
	if (msg->version < c->config.version && (msg->version || (v != VMP_MAX_VOTERS && c->config.voter[v].id == msg->voter)))
		vmp_config_tell(s, from);	/* M3 */
	vmp_table_send(s, from, c->rec.abstaining && !BUG(c, ABSTAIN_ANSWERS_READ) ? VMP_MSG_COLD : VMP_MSG_TABLE, rd->nonce);
}

/* Maximum of two promises; what another voter said is never own (X3). */
static void merge_promised(struct vmp_promised *to, const struct vmp_promised *from)
{
	if (from->epoch > to->epoch) {
		*to = *from;
		to->own = false;
	} else if (from->epoch == to->epoch && from->epoch) {
		to->released |= from->released;
		if (!to->boot)
			to->boot = from->boot;
	}
}

/* What an earlier boot of this machine was promised is gone with that boot (H7). Where only a state tells of it, no boot is known. */
static bool gone_with_boot(const struct vmp_core *c, const struct vmp_promised *pr)
{
	return pr->epoch && pr->node == c->node && pr->boot != c->boot;
}

static void merge_told(struct vmp_core *c, const struct vmp_reg *reg)
{
	struct vmp_recovery *rec = &c->rec;
	unsigned int i;

	for (i = 0; i < rec->n_reg && rec->reg[i].pair != reg->pair; i++)
		;
	if (i == rec->n_reg) {
		if (i == VMP_MAX_PAIRS)
			return;
		rec->mine[rec->n_reg] = (struct vmp_promised){ 0 };
		rec->reg[rec->n_reg++] = (struct vmp_reg){ .pair = reg->pair };
	}
	merge_promised(&rec->reg[i].promised, &reg->promised);
	if (gone_with_boot(c, &reg->promised) && !reg->promised.released && reg->promised.epoch > rec->mine[i].epoch)
		rec->mine[i] = reg->promised;
	if (vmp_state_cmp(&reg->state, &rec->reg[i].state) > 0)
		rec->reg[i].state = reg->state;
	else if (!vmp_state_cmp(&reg->state, &rec->reg[i].state))
		rec->reg[i].state.cold |= reg->state.cold;
}

static const struct vmp_promised *told_mine(const struct vmp_recovery *rec, uint64_t pair)
{
	unsigned int i;

	for (i = 0; i < rec->n_reg; i++) {
		if (rec->reg[i].pair == pair && rec->mine[i].epoch)
			return &rec->mine[i];
	}
	return NULL;
}

static void finish(struct vmp_step *s, bool cold)
{
	struct vmp_core *c = s->c;
	struct vmp_recovery *rec = &c->rec;
	unsigned int i;

	rec->abstaining = false;
	rec->forgot = vmp_settled(c) ? 0 : c->config.version;
	for (i = 0; i < rec->n_reg; i++) {
		struct vmp_pair *p = vmp_pair_get(c, rec->reg[i].pair);

		if (!p)
			continue;
		merge_promised(&p->reg.promised, &rec->reg[i].promised);
		if (vmp_state_cmp(&rec->reg[i].state, &p->reg.state) > 0) {
			uint64_t was = p->reg.state.epoch;

			p->reg.state = rec->reg[i].state;
			if (vmp_pair_is_bar(p->id))
				vmp_bar_changed(s, p, was);
		} else if (!vmp_state_cmp(&rec->reg[i].state, &p->reg.state)) {
			p->reg.state.cold |= rec->reg[i].state.cold;
		}
	}
	if (c->epoch_skip)
		vmp_pair_get(c, VMP_PAIR_VOTERS);	/* I3: its record keeps what to skip for pairs that have none yet */
	for (i = 0; i < c->n_pairs; i++) {
		struct vmp_pair *p = &c->pair[i];
		struct vmp_promised *pr = &p->reg.promised;
		const struct vmp_promised *mine;

		if (p->reg.state.epoch > pr->epoch)
			*pr = (struct vmp_promised){ .epoch = p->reg.state.epoch, .node = p->reg.state.holder };
		pr->own = false;
		if (p->reg.state.epoch && cold && !vmp_pair_is_bar(p->id))
			p->reg.state.cold = true;	/* X5: no member is in sync */
		if (pr->epoch || !vmp_timers_static(c))
			vmp_guard(s, p);
		vmp_seen(p, pr->epoch);
		/* I3: epochs of claims that nobody received and the disk missed are not used again */
		if (p->id == VMP_PAIR_VOTERS)
			vmp_max(&p->epoch_seen, c->epoch_skip);
		p->epoch_seen += (64 + (vmp_random(c) & 8191)) << 8;	/* see VMP_AGREE_WRAP_WINDOW */
		vmp_persist(s, p);
		vmp_check_higher(s, p);
		/* What an earlier boot was promised is given back: others may be waiting for it. But what it proposed as a voter set may still be
		 * adopted; claims that proposed nothing are given up in voters.c. Where guards never expire (T1), neither does one that is older
		 * than what we have promised since, and it may be of any boot before: this one says so. */
		mine = gone_with_boot(c, pr) && (!pr->released || vmp_timers_static(c)) ? pr : vmp_timers_static(c) ? told_mine(rec, p->id) : NULL;
		if (mine && p->role == VMP_ROLE_NONE && !vmp_pair_reserved(p->id)) {
			p->rel_epoch = mine->epoch;
			p->rel_boot = mine->boot && !vmp_timers_static(c) ? mine->boot : c->boot;
			p->rel_until_ns = s->now + c->lease_ns;
			p->rel_next_ns = s->now;
			p->hand_to = 0;
			vmp_note(s, p, VMP_NOTE_REBOOTED, mine->epoch, 0, 0);
		}
	}
	vmp_note(s, NULL, VMP_NOTE_RECOVERED, vmp_ones(rec->tables), cold, 0);
	for (i = 0; i < c->n_pairs; i++)
		vmp_pair_run(s, &c->pair[i]);
}

static void first_start(struct vmp_step *s)
{
	struct vmp_core *c = s->c;
	struct vmp_config config = { .version = 1, .n = c->n_wish };
	unsigned int i;

	for (i = 0; i < c->n_wish; i++) {
		config.voter[i].node = c->wish[i];
		config.voter[i].id = c->wish[i] == c->node ? c->voter : c->rec.cold_voter[i];
		if (!config.voter[i].id)
			return;
	}
	vmp_set_config(c, &config);
	c->renew_ok = config.n < 3;
	vmp_config_persist(s);
	vmp_note(s, NULL, VMP_NOTE_FIRST_START, config.n, 0, 0);
}

static void try_finish(struct vmp_step *s)
{
	struct vmp_core *c = s->c;
	struct vmp_recovery *rec = &c->rec;
	unsigned int self;

	if (!rec->abstaining || !rec->waited || s->now < rec->until_ns)
		return;
	if (!c->config.version)
		first_start(s);
	if (!c->config.version || c->self == VMP_MAX_VOTERS)
		return;
	self = 1u << c->self;
	/* X3. In a version that is not settled a majority of it may not have all states yet (M2). */
	if (c->config.n > 1 && vmp_ones(rec->tables & ~self) >= c->r &&
	    (vmp_settled(c) || BUG(c, VOTERS_IN_RECOVERY)))
		finish(s, false);
	else if (vmp_ones((rec->tables | rec->colds | rec->lost | (rec->no_disk ? 0 : self)) & ((1u << c->config.n) - 1)) == c->config.n)
		finish(s, true);	/* X5: all disk copies, or of all that are left */
}

static void read_again(struct vmp_recovery *rec)
{
	rec->tables = rec->colds = 0;
	memset(rec->parts, 0, sizeof rec->parts);
	memset(rec->kind, 0, sizeof rec->kind);
}

void vmp_recovery_run(struct vmp_step *s)
{
	struct vmp_core *c = s->c;
	struct vmp_recovery *rec = &c->rec;
	unsigned int i, n;

	if (!rec->abstaining)
		return;
	if (!rec->waited) {
		if (!rec->nonce)
			vmp_note(s, NULL, VMP_NOTE_ABSTAINING, rec->until_ns, 0, 0);
		if (!rec->nonce || s->now >= rec->until_ns) {
			rec->nonce = vmp_random(c) | 1;
			read_again(rec);
		}
		if (s->now < rec->until_ns && !BUG(c, READ_BEFORE_WAIT))
			return;		/* X3, X4: ask only after the wait */
		rec->waited = true;
	}
	try_finish(s);
	if (!rec->abstaining || s->now < rec->next_ns)
		return;
	n = c->config.version ? c->config.n : c->n_wish;
	for (i = 0; i < n; i++) {
		uint8_t node = c->config.version ? c->config.voter[i].node : c->wish[i];
		struct vmp_msg *msg;

		if (node == c->node || (rec->tables >> i & 1))
			continue;
		msg = vmp_msg_new(s, VMP_MSG_READ);
		msg->u.read.boot = c->boot;
		msg->u.read.nonce = rec->nonce;
		vmp_send(s, node, msg);
	}
	rec->next_ns = s->now + c->hb_ns;
}

/* X3 as finish() does it, by a node that is no voter any more and so never finishes: what an earlier boot of this machine held is gone with that
 * boot (H7). Nobody else could say so, and where guards have no end (T1) the pair would wait for ever. */
static bool release_old(struct vmp_step *s, uint8_t to, const struct vmp_msg_table *t)
{
	struct vmp_core *c = s->c;
	unsigned int i, n = 0;

	for (i = 0; i < t->n_regs; i++) {
		const struct vmp_promised *pr = &t->reg[i].promised;
		struct vmp_msg *msg;

		if (vmp_pair_reserved(t->reg[i].pair) || pr->node != c->node || !pr->boot || pr->boot == c->boot || pr->released)
			continue;
		msg = vmp_msg_new(s, VMP_MSG_RELEASE);
		msg->u.release.pair = t->reg[i].pair;
		msg->u.release.epoch = pr->epoch;
		msg->u.release.boot = pr->boot;
		vmp_send(s, to, msg);
		n++;
	}
	return n != 0;
}

/* TABLE and COLD. */
void vmp_on_table(struct vmp_step *s, uint8_t from, const struct vmp_msg *msg)
{
	struct vmp_core *c = s->c;
	struct vmp_recovery *rec = &c->rec;
	const struct vmp_msg_table *t = &msg->u.table;
	unsigned int i, v;

	if (!rec->abstaining || !rec->nonce || t->nonce != rec->nonce || msg->version != c->config.version)
		return;
	if (c->config.version) {
		v = vmp_voter_idx(c, from);
		if (v == VMP_MAX_VOTERS || v == c->self || c->config.voter[v].id != msg->voter)
			return;
	} else {
		for (v = 0; v < c->n_wish && c->wish[v] != from; v++)
			;
		if (v == c->n_wish || from == c->node || !msg->voter)
			return;
		if (!wish_same(c, &t->config)) {
			rec->other_wish |= 1u << v;
			return;
		}
		rec->other_wish &= ~(1u << v);
	}
	if (msg->type == VMP_MSG_COLD && !t->waited)
		return;
	if (c->config.version && c->self == VMP_MAX_VOTERS && release_old(s, from, t))
		return;		/* read again, until it has been heard */
	if (!c->config.version)
		rec->cold_voter[v] = msg->voter;
	if (rec->kind[v] != msg->type) {
		rec->kind[v] = msg->type;
		rec->parts[v] = 0;
		rec->colds &= ~(1u << v);
	}
	for (i = 0; i < t->n_regs; i++) {
		merge_told(c, &t->reg[i]);
		if (t->reg[i].pair == VMP_PAIR_VOTERS && t->reg[i].state.epoch == c->config.version)
			c->told_settled = c->config.version;
	}
	rec->parts[v] |= 1ull << t->part;
	if (rec->parts[v] != (1ull << t->parts) - 1)
		return;
	if (msg->type == VMP_MSG_TABLE)
		rec->tables |= 1u << v;
	else
		rec->colds |= 1u << v;
	try_finish(s);
}

/* The configuration has changed: what was told under the old one does not count. A new voter begins with the wait (X2, M3). */
void vmp_recovery_renew(struct vmp_step *s, bool joined)
{
	struct vmp_core *c = s->c;

	if (joined) {
		c->epoch_skip += (64 + (c->inc & 255)) << 8;
		vmp_recovery_init(c, true, s->now);
		c->rec.waited = false;
		c->rec.nonce = 0;
	}
	if (!c->rec.abstaining)
		return;
	read_again(&c->rec);
	if (c->rec.nonce)
		c->rec.nonce = vmp_random(c) | 1;
	c->rec.next_ns = s->now;
}
