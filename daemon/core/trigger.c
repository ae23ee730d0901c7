/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/core/trigger.h"

#include <stddef.h>

#define ANY (VMP_TRG_REPORT | VMP_TRG_RESTART | VMP_TRG_FAILOVER)
#define MOVE (VMP_TRG_REPORT | VMP_TRG_FAILOVER)
#define HOST VMP_TRG_HOST
#define DEAD VMP_TRG_DEAD
#define GONE VMP_TRG_GONE
#define VMP_TRIGGER(name, text, def, allowed, flags, need, shortdesc, longdesc) [VMP_TRG_##name] = { text, allowed, flags, need },
static const struct vmp_trg_info table[] = {
#include "daemon/core/trigger.def"
};
#undef VMP_TRIGGER

const struct vmp_trg_info *vmp_trigger_info(unsigned int trigger)
{
	return trigger < VMP_TRG_COUNT ? &table[trigger] : NULL;
}

const char *vmp_trigger_text(unsigned int trigger)
{
	return trigger < VMP_TRG_COUNT ? table[trigger].text : "?";
}

enum vmp_trg_edge vmp_trigger_sample(struct vmp_trg_hyst *h, bool bad, uint32_t need, uint64_t within_ns, uint64_t now_ns)
{
	if (!bad) {
		h->bad = 0;
		if (!h->raised || ++h->good < need)
			return VMP_TRG_SAME;
		*h = (struct vmp_trg_hyst){ 0 };
		return VMP_TRG_CLEARED;
	}
	h->good = 0;
	if (h->bad == 0 || (within_ns && now_ns - h->first_ns > within_ns)) {
		h->bad = 0;
		h->first_ns = now_ns;
	}
	if (h->bad < UINT32_MAX)
		h->bad++;
	if (h->raised || h->bad < need)
		return VMP_TRG_SAME;
	h->raised = true;
	return VMP_TRG_RAISED;
}

void vmp_trigger_mark(struct vmp_trg_ring *r, uint64_t now_ns)
{
	r->at_ns[r->next % VMP_TRG_RING] = now_ns;
	r->next = (uint8_t)((r->next + 1) % VMP_TRG_RING);
}

uint32_t vmp_trigger_count(const struct vmp_trg_ring *r, uint64_t window_ns, uint64_t now_ns)
{
	uint32_t n = 0;

	for (unsigned int i = 0; i < VMP_TRG_RING; i++)
		if (r->at_ns[i] && now_ns - r->at_ns[i] < window_ns)
			n++;
	return n;
}

void vmp_trigger_heard(struct vmp_trg_silence *s, uint64_t now_ns)
{
	s->heard_ns = now_ns;
}

bool vmp_trigger_silent(struct vmp_trg_silence *s, uint64_t period_ns, uint64_t limit_ns, uint64_t now_ns)
{
	uint64_t gap = s->looked_ns ? now_ns - s->looked_ns : 0;

	s->looked_ns = now_ns;
	if (!s->heard_ns)
		return false;
	if (gap > 2 * period_ns)	/* G7 */
		s->heard_ns += gap - period_ns;
	if (s->heard_ns > now_ns)
		s->heard_ns = now_ns;
	return now_ns - s->heard_ns >= limit_ns;
}

static struct vmp_trg_out say(enum vmp_trg_act act, const char *why)
{
	return (struct vmp_trg_out){ .act = act, .why = why };
}

/* Nobody can, or may, take over from a primary (G1, G3). */
static struct vmp_trg_out stay(const struct vmp_trg_in *in, uint8_t flags, const char *why)
{
	if ((flags & DEAD) && in->restarts < VMP_TRG_RESETS)
		return say(VMP_TRG_DO_RESET, why);
	return say(VMP_TRG_DO_REPORT, why);
}

struct vmp_trg_out vmp_trigger_decide(const struct vmp_trg_in *in)
{
	const struct vmp_trg_info *info = vmp_trigger_info(in->trigger);
	uint8_t flags = info ? info->flags : 0;

	if (!info || in->suspended)	/* G2 */
		return say(VMP_TRG_DO_NOTHING, "");
	if (in->policy.what == VMP_TRG_REPORT || !(in->policy.what & info->allowed))
		return say(VMP_TRG_DO_REPORT, "");
	if (in->frozen)
		return say(VMP_TRG_DO_REPORT, "the pair is frozen");
	if (flags & GONE)
		return say(VMP_TRG_DO_FAILOVER, "");
	if (in->policy.what == VMP_TRG_RESTART && in->restarts < in->policy.restarts)	/* G3 */
		return say(VMP_TRG_DO_RESET, "");
	if (!in->primary) {	/* G6 */
		if (flags & HOST)
			return say(VMP_TRG_DO_REPORT, "it is not primary");
		return in->other ? say(VMP_TRG_DO_REPLACE, "") : stay(in, flags, "the pair has no primary");
	}
	if (!in->other)
		return stay(in, flags, "no standby is in sync");
	if ((flags & HOST) && in->other_same)	/* G5 */
		return say(VMP_TRG_DO_REPORT, "the standby's host has the same trouble");
	if (in->failovers >= in->limit)	/* G4 */
		return stay(in, flags, "triggers have moved the pair as often as trigger_limit allows");
	return say(VMP_TRG_DO_FAILOVER, "");
}
