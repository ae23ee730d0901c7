/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Triggers: signs that a member or its host is not well, although its VM and its daemon run. Adapters deliver the signs; what counts as
 * one, and what follows from it, is decided here. Pure and total as agree.h; times are CLOCK_BOOTTIME ns of this node.
 *
 * Rules
 *  G1 A trigger never ends the only member. A failover is the planned order (R1), which the core begins only with an in-sync standby.
 *  G2 What is frozen, or has "report" as policy, is reported and nothing else is done. A VM that an operator has paused, or that is being
 *     migrated, gives no signs: nothing is done and nothing counted.
 *  G3 restart:N resets the guest in place N times per window, then fails over. A guest that executes nothing any more, with nobody to take
 *     over, is reset as well, at most VMP_TRG_RESETS times per window.
 *  G4 Triggers move a pair at most `limit` times per window, counted for all its members together.
 *  G5 A standby with the same trouble of its host is no better: reported.
 *  G6 A standby's guest that is not well is reset under restart:N, else replaced: ended, so that Pacemaker starts it anew.
 *  G7 Silence counts only while this daemon was able to listen: time in which it did not run is not silence of others.
 */
#ifndef VMP_TRIGGER_H
#define VMP_TRIGGER_H

#include <stdbool.h>
#include <stdint.h>

#define VMP_TRIGGER(name, text, def, allowed, flags, need, shortdesc, longdesc) VMP_TRG_##name,
enum vmp_trigger {
#include "daemon/core/trigger.def"
	VMP_TRG_COUNT
};
#undef VMP_TRIGGER

#define VMP_TRG_RESETS 3u
#define VMP_TRG_RING 16u

enum { VMP_TRG_REPORT = 1, VMP_TRG_RESTART = 2, VMP_TRG_FAILOVER = 4 };	/* policies, and sets of them */
enum { VMP_TRG_HOST = 1, VMP_TRG_DEAD = 2, VMP_TRG_GONE = 4 };		/* flags */

struct vmp_trg_info {
	const char *text;
	uint8_t allowed, flags, need;
};

struct vmp_trg_policy {
	uint8_t what;		/* one of VMP_TRG_REPORT ... */
	uint8_t restarts;	/* RESTART: how many before the failover; at most VMP_TRG_RING */
};

const struct vmp_trg_info *vmp_trigger_info(unsigned int trigger); /* NULL: there is none */
const char *vmp_trigger_text(unsigned int trigger);

/* --- hysteresis --------------------------------------------------------------------------------------------------------- */
struct vmp_trg_hyst {
	uint64_t first_ns;	/* of the bad ones in a row */
	uint32_t bad, good;	/* in a row */
	bool raised;
};
enum vmp_trg_edge { VMP_TRG_SAME, VMP_TRG_RAISED, VMP_TRG_CLEARED };

/*
 * One sign. Raised by `need` bad ones in a row (within_ns not 0: of which the first is no older than that), cleared by as many good ones.
 */
enum vmp_trg_edge vmp_trigger_sample(struct vmp_trg_hyst *h, bool bad, uint32_t need, uint64_t within_ns, uint64_t now_ns);

/* How often something was done; the newest VMP_TRG_RING are remembered. */
struct vmp_trg_ring {
	uint64_t at_ns[VMP_TRG_RING];
	uint8_t next;
};
void vmp_trigger_mark(struct vmp_trg_ring *r, uint64_t now_ns);
uint32_t vmp_trigger_count(const struct vmp_trg_ring *r, uint64_t window_ns, uint64_t now_ns);

/* G7. Who has to be heard, looked at every period_ns. */
struct vmp_trg_silence {
	uint64_t heard_ns;	/* 0: never; then silence means nothing */
	uint64_t looked_ns;	/* 0: not yet */
};
void vmp_trigger_heard(struct vmp_trg_silence *s, uint64_t now_ns);
/* What could be read was read before: has it been silent for limit_ns in which this daemon listened? */
bool vmp_trigger_silent(struct vmp_trg_silence *s, uint64_t period_ns, uint64_t limit_ns, uint64_t now_ns);

/* --- decision ----------------------------------------------------------------------------------------------------------------- */
enum vmp_trg_act {
	VMP_TRG_DO_NOTHING,
	VMP_TRG_DO_REPORT,
	VMP_TRG_DO_RESET,	/* the guest, in place: same process, lease goes on */
	VMP_TRG_DO_FAILOVER,	/* planned order; the core may refuse: then decide again with other = false */
	VMP_TRG_DO_REPLACE,	/* end this VM, which is not primary */
};

struct vmp_trg_in {
	uint8_t trigger;	/* enum vmp_trigger */
	struct vmp_trg_policy policy;
	bool primary;
	bool other;		/* primary: a standby is in sync; standby: somebody is primary */
	bool other_same;	/* its host has the same trouble */
	bool frozen, suspended;
	uint32_t restarts;	/* resets by this trigger in the window */
	uint32_t failovers;	/* of the pair by triggers in the window */
	uint32_t limit;
};

struct vmp_trg_out {
	enum vmp_trg_act act;
	const char *why;	/* static; "" when the policy speaks for itself */
};

struct vmp_trg_out vmp_trigger_decide(const struct vmp_trg_in *in);

#endif
