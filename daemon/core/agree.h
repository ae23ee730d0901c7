/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How the two speeds agree: what a monitor answers while Pacemaker has not caught up with a failover, and the promotion score that
 * makes it catch up. Pure and total: plain values in, plain values out; no clock, I/O, allocation or logging.
 *
 * Monitor rules
 *  A1 A probe (interval 0) tells the truth: 8 for the running primary, 0 for a running standby, 7 when the VM is gone. Pacemaker adopts
 *     what a probe says, so the answer becomes what Pacemaker was told.
 *  A2 A recurring monitor of an instance that Pacemaker holds Unpromoted says 0 while the VM runs, also when it is the primary
 *     already (8 there is a failure and Pacemaker would stop the fresh primary); 8 comes after promote only. VM gone: 7 at once.
 *  A3 A recurring monitor of an instance that Pacemaker holds Promoted, but which is no longer primary, keeps saying 8 until the flip of
 *     the scores is in, but at most two monitor intervals (VMP_AGREE_GRACE_MIN_MS to VMP_AGREE_GRACE_MAX_MS); then 7 when its VM is
 *     gone, 0 when it runs as standby. Nobody to take over, or frozen: the truth at once, since no flip will come.
 *  A4 VM not known yet (the daemon has just started): as A3, what Pacemaker expects for the same bounded time, then 1.
 *
 * Third member
 *  A5 A node that was cut off comes back with a member while the pair has become whole without it. Pacemaker would then count three, and
 *     stop one of them before all promotion scores are known again: by instance number, which may mean the primary. The daemons hear each
 *     other before corosync has merged its membership, and in this time the returning member ends by itself: its content is on record
 *     nowhere. It does so only if it is neither holder nor standby of the newest state, and both of these are heard to run.
 *
 * Restart in place
 *  A6 A member whose VM ended by itself is started again here, without Pacemaker having to fail a monitor, stop and start it: monitors say
 *     what they say of a running member meanwhile. Only where it changes nothing for anybody else: Pacemaker wants a member here and is
 *     there to look after it, the pair has a primary or a standby on record that becomes it, no two others run. And only a member that
 *     had been ready: one that ends before, or does not start, is Pacemaker's to judge (7). Each restart counts as a failure, so that
 *     migration-threshold works as ever. Never one that may have left for another host: it would be a second copy of what runs there.
 *
 * Migrated by hand
 *  A7 A member whose virtual machine left for another host, or ended while it was being migrated, is started here again only after every
 *     other host, asked since then, has said that it does not have it. One that does not answer may have it.
 *
 * Who may be promoted
 *  A8 A ready member that neither holds the pair nor claims it: any one of a pair that has no state yet; the standby and the former
 *     holder on record; where cold start is automatic, also another one as soon as nobody holds the pair. After a cold start of the
 *     voters (X5) these begin on the last holder's node; elsewhere a member begins only where cold start is automatic and that node is
 *     heard to run none. Nobody holds the pair, as far as is known here, when no guard is left, or when one without end (T1) has been
 *     released.
 */
#ifndef VMP_AGREE_H
#define VMP_AGREE_H

#include <stdbool.h>
#include <stdint.h>

#define VMP_AGREE_GRACE_MIN_MS	2000u
#define VMP_AGREE_GRACE_MAX_MS	30000u
#define VMP_AGREE_BASE		1000u
#define VMP_AGREE_LAP		900000u
#define VMP_AGREE_WRAP_WINDOW	100000u		/* epochs after a wrap for which stale scores are looked for: ten times what a loss of memory skips (I3) */

enum vmp_ocf {
	VMP_OCF_OK = 0,
	VMP_OCF_ERR_GENERIC = 1,
	VMP_OCF_ERR_ARGS = 2,
	VMP_OCF_ERR_UNIMPLEMENTED = 3,
	VMP_OCF_ERR_PERM = 4,
	VMP_OCF_ERR_INSTALLED = 5,
	VMP_OCF_ERR_CONFIGURED = 6,
	VMP_OCF_NOT_RUNNING = 7,
	VMP_OCF_RUNNING_PROMOTED = 8,
	VMP_OCF_FAILED_PROMOTED = 9,
};

enum vmp_vm_state { VMP_VM_UNKNOWN, VMP_VM_GONE, VMP_VM_RUNNING };

/* What Pacemaker believes of this instance, by the last call that it made and that we answered. */
enum vmp_told { VMP_TOLD_UNKNOWN, VMP_TOLD_STOPPED, VMP_TOLD_UNPROMOTED, VMP_TOLD_PROMOTED };

struct vmp_agree_in {
	bool probe;			/* interval 0 */
	bool primary;			/* this node holds the pair (role establishing counts as not) */
	bool frozen;			/* maintenance mode, unmanaged */
	bool no_successor;		/* known: no other member can take the pair over */
	bool flip_in;			/* known: the new primary's score has been written */
	enum vmp_vm_state vm;
	enum vmp_told told;
	enum vmp_told op_role;		/* role of the recurring monitor in the CIB: PROMOTED, UNPROMOTED; UNKNOWN if none given */
	uint64_t interval_ms;
	uint64_t since_ms;		/* since VM or role changed against what Pacemaker was told; A4: since the daemon started */
};

struct vmp_agree_out {
	enum vmp_ocf rc;
	enum vmp_told told;		/* to be remembered: what Pacemaker believes after this answer */
	const char *reason;		/* static; NULL when there is nothing to explain */
};

struct vmp_agree_out vmp_agree_monitor(const struct vmp_agree_in *in);

#define VMP_AGREE_HEARD_MAX 8u

struct vmp_agree_third {
	bool frozen;
	bool apart;			/* corosync has not joined this node with those of the two others: Pacemaker does not know of three yet */
	bool role_none;			/* this node neither holds the pair nor claims it */
	uint64_t member;		/* content id of the own member, 0: none runs */
	uint64_t holder_member;		/* of the newest state known here, 0: none */
	uint64_t sync_member;		/* ... 0: no standby is in sync yet */
	unsigned n_heard;
	uint64_t heard[VMP_AGREE_HEARD_MAX];	/* members that their nodes have just said to run; 0: one that is being started */
};

struct vmp_agree_restart {
	bool frozen;
	bool wanted;			/* by the CIB: enabled, node not in standby, pair not banned from it */
	bool attended;			/* corosync, quorum and Pacemaker are there, and this node is not fenced */
	bool been_ready;		/* the VM that ended was ready once */
	bool left;			/* it was migrated, or ended while it was being */
	bool primary;			/* it was, when it ended */
	bool successor;			/* another member is on record as in sync */
	unsigned others;		/* members that run on other nodes, by what they last said */
};

/* A6 */
bool vmp_agree_restart(const struct vmp_agree_restart *in);

struct vmp_agree_promote {
	bool ready;			/* the member's VM runs and has all it needs */
	bool role_none;			/* this node neither holds the pair nor claims it */
	bool recorded;			/* there is a state: somebody has held the pair */
	bool cold;			/* ... and it came from the voters' disk copies (X5) */
	bool last_here;			/* ... this node was its holder */
	bool last_without_member;	/* ... its holder's node is heard, and runs no member */
	bool in_sync;			/* ... this member is its standby */
	bool last_member;		/* ... this member was its holder */
	bool cold_start_auto;		/* parameter cold_start */
	bool nobody_holds;		/* vmp_agree_nobody_holds */
};

/* A8 */
bool vmp_agree_promote(const struct vmp_agree_promote *in);

/* A8, of this node's voter: its guard ends at guard_ns (VMP_NEVER: not by itself), or what it has promised was released. */
bool vmp_agree_nobody_holds(uint64_t guard_ns, bool released, uint64_t now_ns);

enum vmp_agree_where { VMP_AGREE_WAIT, VMP_AGREE_ELSEWHERE, VMP_AGREE_NOWHERE };

/* A7: of `others` hosts n_no have said that they do not have it; has: one has said that it does. */
enum vmp_agree_where vmp_agree_where(unsigned others, unsigned n_no, bool has);

/* A5. With no standby on record yet, any second member that runs counts as the one that is about to be. */
bool vmp_agree_surplus(const struct vmp_agree_third *in);

/*
 * Promotion score. Standbys that are in sync and ready: VMP_AGREE_BASE. The primary: above it by its epoch's counter (plus 1), so that a later primary
 * always outbids an earlier one's stale value. Others: no attribute. Once per VMP_AGREE_LAP epochs the counter wraps: then the other
 * members' attributes are set to the base first, and the own one after that was done (lower_others).
 */
struct vmp_agree_score {
	bool set;			/* false: delete the attribute */
	bool lower_others;
	uint32_t score;
};

struct vmp_agree_score vmp_agree_score(uint64_t epoch, bool primary, bool standby_ready);

#endif
