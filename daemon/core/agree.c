/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/core/agree.h"

#include "daemon/core/core.h"

#include <stddef.h>

/* How long an answer may differ from the truth: two intervals, so that at least one more monitor finds the flip of the scores in. */
static uint64_t grace_ms(uint64_t interval_ms)
{
	if (interval_ms >= VMP_AGREE_GRACE_MAX_MS / 2)
		return VMP_AGREE_GRACE_MAX_MS;
	if (interval_ms * 2 < VMP_AGREE_GRACE_MIN_MS)
		return VMP_AGREE_GRACE_MIN_MS;
	return interval_ms * 2;
}

static struct vmp_agree_out say(enum vmp_ocf rc, enum vmp_told told, const char *reason)
{
	return (struct vmp_agree_out){.rc = rc, .told = told, .reason = reason};
}

static struct vmp_agree_out truth(const struct vmp_agree_in *in, enum vmp_told told)
{
	if (in->vm == VMP_VM_GONE)
		return say(VMP_OCF_NOT_RUNNING, told, "the virtual machine does not run here");
	if (told == VMP_TOLD_PROMOTED && !in->primary)
		return say(VMP_OCF_OK, told, "the pair's primary is no longer this member");
	return say(VMP_OCF_OK, told, NULL);
}

static struct vmp_agree_out probe(const struct vmp_agree_in *in)
{
	switch (in->vm) {
	case VMP_VM_GONE:
		return say(VMP_OCF_NOT_RUNNING, VMP_TOLD_STOPPED, NULL);
	case VMP_VM_RUNNING:
		if (in->primary)
			return say(VMP_OCF_RUNNING_PROMOTED, VMP_TOLD_PROMOTED, NULL);
		return say(VMP_OCF_OK, VMP_TOLD_UNPROMOTED, NULL);
	case VMP_VM_UNKNOWN:
		break;
	}
	return say(VMP_OCF_ERR_GENERIC, in->told, "the state of the virtual machine is not known yet");
}

struct vmp_agree_out vmp_agree_monitor(const struct vmp_agree_in *in)
{
	if (in->probe)
		return probe(in);

	/* The role that the CIB gives to the recurring monitor is what Pacemaker believes now; a restart of ours cannot lose it. */
	enum vmp_told told = in->op_role != VMP_TOLD_UNKNOWN ? in->op_role : in->told;
	bool in_grace = in->since_ms < grace_ms(in->interval_ms);

	if (in->vm == VMP_VM_UNKNOWN) {
		if (!in_grace)
			return say(VMP_OCF_ERR_GENERIC, told, "the state of the virtual machine is not known yet");
		return say(told == VMP_TOLD_PROMOTED ? VMP_OCF_RUNNING_PROMOTED : VMP_OCF_OK, told, NULL);
	}
	if (told == VMP_TOLD_UNKNOWN || told == VMP_TOLD_STOPPED) {
		/* Nobody told us (monitor without role, facts lost): a running primary is taken for promoted. */
		if (in->vm == VMP_VM_RUNNING && in->primary)
			return say(VMP_OCF_RUNNING_PROMOTED, VMP_TOLD_PROMOTED, NULL);
		return truth(in, in->vm == VMP_VM_RUNNING ? VMP_TOLD_UNPROMOTED : told);
	}
	if (told == VMP_TOLD_UNPROMOTED)
		return truth(in, told);
	if (in->primary && in->vm == VMP_VM_RUNNING)
		return say(VMP_OCF_RUNNING_PROMOTED, told, NULL);
	if (in_grace && !in->flip_in && !in->no_successor && !in->frozen)
		return say(VMP_OCF_RUNNING_PROMOTED, told, NULL);
	return truth(in, told);
}

bool vmp_agree_surplus(const struct vmp_agree_third *in)
{
	bool holder = false, second = false;

	if (!in->member || !in->holder_member || in->frozen || !in->apart || !in->role_none || in->member == in->holder_member ||
	    in->member == in->sync_member)
		return false;
	for (unsigned i = 0; i < in->n_heard; i++) {
		if (in->heard[i] == in->holder_member)
			holder = true;
		else if (in->sync_member ? in->heard[i] == in->sync_member : in->heard[i] != in->member)
			second = true;
	}
	return holder && second;
}

bool vmp_agree_restart(const struct vmp_agree_restart *in)
{
	return !in->frozen && !in->left && in->wanted && in->attended && in->been_ready && (!in->primary || in->successor) && in->others == 1;
}

bool vmp_agree_promote(const struct vmp_agree_promote *in)
{
	if (!in->ready || !in->role_none)
		return false;
	if (!in->recorded)
		return true;
	if (in->cold && !in->last_here)
		return in->cold_start_auto && in->last_without_member;
	return in->in_sync || in->last_member || (in->cold_start_auto && in->nobody_holds);
}

bool vmp_agree_nobody_holds(uint64_t guard_ns, bool released, uint64_t now_ns)
{
	/* A guard with an end may have been released in favour of a successor, who holds already. */
	return guard_ns <= now_ns || (guard_ns == VMP_NEVER && released);
}

enum vmp_agree_where vmp_agree_where(unsigned others, unsigned n_no, bool has)
{
	if (has)
		return VMP_AGREE_ELSEWHERE;
	return n_no >= others ? VMP_AGREE_NOWHERE : VMP_AGREE_WAIT;
}

struct vmp_agree_score vmp_agree_score(uint64_t epoch, bool primary, bool standby_ready)
{
	struct vmp_agree_score s = {0};
	uint64_t counter = epoch / 256;

	if (primary) {
		s.set = true;
		s.score = VMP_AGREE_BASE + 1 + (uint32_t)(counter % VMP_AGREE_LAP);
		/* Shortly after a wrap a member may still carry a score of the lap before. */
		s.lower_others = counter >= VMP_AGREE_LAP && counter % VMP_AGREE_LAP < VMP_AGREE_WRAP_WINDOW;
	} else if (standby_ready) {
		s.set = true;
		s.score = VMP_AGREE_BASE;
	}
	return s;
}
