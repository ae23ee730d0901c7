/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Shared by the files of the core only. A function named on_* handles one message or event; `s` is the step under way. */
#ifndef VMP_CORE_INTERNAL_H
#define VMP_CORE_INTERNAL_H

#include <errno.h>
#include <string.h>

#include "daemon/core/core.h"

#ifdef VMP_CORE_BUGS
#define VMP_B(name) VMP_BUG_##name,
enum vmp_bug {
#include "daemon/core/bugs.def"
	VMP_BUG_COUNT
};
#undef VMP_B
#define BUG(c, name) (((c)->bugs >> VMP_BUG_##name) & 1)
#else
#define BUG(c, name) ((void)(c), false)
#endif

struct vmp_step {
	struct vmp_core *c;
	struct vmp_out *out;
	uint64_t now;
	unsigned int event;	/* enum vmp_event_type, or VMP_EV_COUNT + message type */
	bool overflow;
};

/* The states of a pair on this node as pair.def names them. */
#define VMP_S(name, text) VMP_ST_##name,
enum vmp_pair_st {
#include "daemon/core/pair.def"
	VMP_ST_COUNT
};
#undef VMP_S

/* core.c */
struct vmp_action *vmp_act(struct vmp_step *s, enum vmp_action_type type, const struct vmp_pair *p);
struct vmp_msg *vmp_msg_new(struct vmp_step *s, enum vmp_msg_type type);
void vmp_send(struct vmp_step *s, uint8_t to, const struct vmp_msg *msg);
void vmp_persist(struct vmp_step *s, struct vmp_pair *p);
void vmp_config_persist(struct vmp_step *s);
void vmp_clean(struct vmp_step *s, struct vmp_pair *p);		/* write again first when the last write failed */
void vmp_note(struct vmp_step *s, const struct vmp_pair *p, enum vmp_note note, uint64_t a, uint64_t b, uint64_t c);
void vmp_op_done(struct vmp_step *s, struct vmp_request *req, int rc, enum vmp_reason reason);
void vmp_op_answer(struct vmp_step *s, uint64_t op, int rc, enum vmp_reason reason);
/* Own lateness: what seems silent may only not have been read yet, or was dropped while nobody read. */
bool vmp_was_late(const struct vmp_core *c, uint64_t now);
void vmp_role_note(struct vmp_step *s, const struct vmp_pair *p, enum vmp_cause cause);
void vmp_mode_set(struct vmp_step *s, struct vmp_pair *p, enum vmp_mode mode);
struct vmp_pair *vmp_pair_find(struct vmp_core *c, uint64_t id);
struct vmp_pair *vmp_pair_get(struct vmp_core *c, uint64_t id);	/* made when missing; NULL: table full */
unsigned int vmp_voter_idx(const struct vmp_core *c, uint8_t node);
uint64_t vmp_random(struct vmp_core *c);
uint64_t vmp_jitter(struct vmp_core *c, uint64_t min, uint64_t max);
unsigned int vmp_votes(const struct vmp_core *c, uint8_t mask);
unsigned int vmp_need(const struct vmp_core *c);	/* m, with fenced voters left out when n < 3 (T1) */
int vmp_state_cmp(const struct vmp_state *a, const struct vmp_state *b);
void vmp_seen(struct vmp_pair *p, uint64_t epoch);
void vmp_pair_run(struct vmp_step *s, struct vmp_pair *p);
unsigned int vmp_pair_st(const struct vmp_pair *p);
bool vmp_peer_alive(const struct vmp_core *c, unsigned int v, uint64_t now);
void vmp_set_config(struct vmp_core *c, const struct vmp_config *config);
bool vmp_timers_static(const struct vmp_core *c);	/* T1: n < 3 */

static inline unsigned int vmp_ones(unsigned int x)
{
	unsigned int n = 0;

	for (; x; x &= x - 1)
		n++;
	return n;
}

static inline void vmp_min(uint64_t *a, uint64_t b)
{
	if (b < *a)
		*a = b;
}

static inline void vmp_max(uint64_t *a, uint64_t b)
{
	if (b > *a)
		*a = b;
}

/* voter.c: section 5 and the voter's side of H8, R3 */
void vmp_guard(struct vmp_step *s, struct vmp_pair *p);
void vmp_guard_tell(struct vmp_step *s, struct vmp_pair *p);
bool vmp_guard_forever(const struct vmp_core *c, const struct vmp_pair *p);
bool vmp_guard_clear(const struct vmp_core *c, const struct vmp_pair *p, uint64_t now, uint8_t node, uint64_t release_of,
		     uint8_t fenced_node, uint64_t fenced_boot);
bool vmp_eligible(const struct vmp_core *c, const struct vmp_pair *p, uint8_t node, uint64_t member);
bool vmp_merge_state(struct vmp_step *s, struct vmp_pair *p, const struct vmp_state *state);
void vmp_on_heartbeat(struct vmp_step *s, unsigned int v, const struct vmp_msg_heartbeat *hb);
void vmp_on_claim(struct vmp_step *s, unsigned int v, const struct vmp_msg_claim *cl, bool probe);
void vmp_on_put(struct vmp_step *s, unsigned int v, const struct vmp_msg_put *put);
void vmp_on_release(struct vmp_step *s, uint8_t from, const struct vmp_msg_release *rel);
void vmp_on_hold(struct vmp_step *s, unsigned int v, const struct vmp_msg_hold *h);
void vmp_on_unhold(struct vmp_step *s, unsigned int v, const struct vmp_msg_hold *h);

/* bar.c */
bool vmp_barred(const struct vmp_core *c, uint8_t node);
uint64_t vmp_bar_remain(const struct vmp_core *c, uint8_t node, uint64_t now);
void vmp_bar_tell(struct vmp_step *s, uint8_t to, uint8_t node);
void vmp_bar_changed(struct vmp_step *s, const struct vmp_pair *p, uint64_t was);	/* was: epoch of the state before */
void vmp_bar_init(struct vmp_core *c);
void vmp_on_bar(struct vmp_step *s, const struct vmp_event *ev);
void vmp_bar_granted(struct vmp_step *s, unsigned int v, const struct vmp_msg_grant *g);
void vmp_bar_refused(struct vmp_step *s, const struct vmp_msg_refuse *r);
void vmp_bar_put_ok(struct vmp_step *s, unsigned int v, const struct vmp_msg_put_ok *ok);
void vmp_bar_renumber(struct vmp_step *s);
void vmp_bar_run(struct vmp_step *s);
void vmp_bar_deadline(const struct vmp_core *c, uint64_t *at);

/* candidate.c: section 6, H5 */
void vmp_candidate_run(struct vmp_step *s, struct vmp_pair *p);
void vmp_candidate_deadline(const struct vmp_core *c, const struct vmp_pair *p, uint64_t *at);
void vmp_attempt_end(struct vmp_step *s, struct vmp_pair *p, enum vmp_reason reason, bool back_off);
void vmp_reclaim(struct vmp_step *s, struct vmp_pair *p, uint64_t blocking);
void vmp_on_grant(struct vmp_step *s, unsigned int v, const struct vmp_msg_grant *g, bool probe);
void vmp_on_refuse(struct vmp_step *s, unsigned int v, const struct vmp_msg_refuse *r);
void vmp_on_takeover(struct vmp_step *s, unsigned int v, const struct vmp_msg_takeover *t);
void vmp_on_relay_ready(struct vmp_step *s, struct vmp_pair *p, uint64_t epoch);

/* holder.c: sections 7 to 9 */
void vmp_heartbeat_send(struct vmp_step *s);
void vmp_on_ack(struct vmp_step *s, unsigned int v, const struct vmp_msg_ack *ack);
void vmp_on_put_ok(struct vmp_step *s, unsigned int v, const struct vmp_msg_put_ok *ok);
void vmp_on_hold_ok(struct vmp_step *s, unsigned int v, const struct vmp_msg_hold *h);
void vmp_put_start(struct vmp_step *s, struct vmp_pair *p, enum vmp_put_goal goal, const struct vmp_state *state);
void vmp_holder_run(struct vmp_step *s, struct vmp_pair *p);
void vmp_holder_deadline(const struct vmp_core *c, const struct vmp_pair *p, uint64_t *at);
void vmp_entry_update(struct vmp_step *s, struct vmp_pair *p);
void vmp_entry_close(struct vmp_step *s, struct vmp_pair *p);
void vmp_release_begin(struct vmp_step *s, struct vmp_pair *p, enum vmp_cause cause, uint8_t hand_to);
void vmp_release_send(struct vmp_step *s, struct vmp_pair *p, uint64_t epoch, uint64_t boot);
void vmp_release_claims(struct vmp_core *c, struct vmp_pair *p);
void vmp_on_closed(struct vmp_step *s, struct vmp_pair *p, uint64_t op);
void vmp_left_out_end(struct vmp_step *s, unsigned int v, uint64_t boot);	/* T1: heard of that boot: a fenced voter is back */
void vmp_holder_drop(struct vmp_step *s, struct vmp_pair *p, enum vmp_cause cause);
void vmp_check_higher(struct vmp_step *s, struct vmp_pair *p);
uint8_t vmp_in_sync_standby(const struct vmp_core *c, const struct vmp_pair *p, uint64_t now);
void vmp_on_in_sync(struct vmp_step *s, struct vmp_pair *p, const struct vmp_event *ev);
uint64_t vmp_lease_end(const struct vmp_core *c, const struct vmp_pair *p);
void vmp_hold_begin(struct vmp_step *s, struct vmp_pair *p, uint32_t ms, uint64_t op);
void vmp_hold_end(struct vmp_step *s, struct vmp_pair *p);

/* recovery.c: section 11 */
void vmp_recovery_init(struct vmp_core *c, bool memory_lost, uint64_t now);
void vmp_recovery_run(struct vmp_step *s);
void vmp_on_read(struct vmp_step *s, uint8_t from, const struct vmp_msg *msg);
void vmp_on_table(struct vmp_step *s, uint8_t from, const struct vmp_msg *msg);
void vmp_table_send(struct vmp_step *s, uint8_t to, enum vmp_msg_type type, uint64_t nonce);
void vmp_recovery_renew(struct vmp_step *s, bool joined);	/* the configuration has changed */

/* voters.c: section 12 */
bool vmp_settled(const struct vmp_core *c);
bool vmp_voter_old_or_new(const struct vmp_core *c, uint8_t node, uint64_t id);
void vmp_config_tell(struct vmp_step *s, uint8_t node);
void vmp_on_config(struct vmp_step *s, uint8_t from, const struct vmp_msg *msg);
void vmp_on_config_ok(struct vmp_step *s, uint8_t from, const struct vmp_msg *msg);
void vmp_on_states(struct vmp_step *s, unsigned int v, const struct vmp_msg_table *t);
void vmp_on_states_ok(struct vmp_step *s, uint8_t from, const struct vmp_msg *msg);
void vmp_on_voters(struct vmp_step *s, const struct vmp_event *ev);
struct vmp_peer *vmp_peer_of(struct vmp_core *c, uint8_t node);	/* NULL: no voter of the set, nor of the one it was proposed on */
bool vmp_set_waits(const struct vmp_core *c);	/* M2: no claim and no put of this set is granted yet */
void vmp_voters_granted(struct vmp_step *s, unsigned int v, const struct vmp_msg_grant *g);
void vmp_voters_refused(struct vmp_step *s, uint8_t from, const struct vmp_msg_refuse *r);
void vmp_voters_put_ok(struct vmp_step *s, unsigned int v, const struct vmp_msg_put_ok *ok);
void vmp_voters_run(struct vmp_step *s);
void vmp_voters_deadline(const struct vmp_core *c, uint64_t *at);
void vmp_stranger(struct vmp_core *c, uint8_t node, uint64_t voter);

#endif
