/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/core/fenced.h"

#define CLOCK_SLACK_S 1		/* of a clock that is read while its second ends */

static bool counts(const struct vmp_fence *f)	/* F2, but for success */
{
	return f->action == VMP_FENCE_OFF || f->action == VMP_FENCE_REBOOT;
}

bool vmp_fenced_base(struct vmp_sighting *s, const struct vmp_fence *list, unsigned int n, int64_t asked_s)
{
	int64_t newest_s = 0;
	unsigned int i;

	for (i = 0; i < n; i++) {
		if (counts(&list[i]) && list[i].status == VMP_FENCE_PENDING)
			return false;
		if (list[i].status != VMP_FENCE_PENDING && list[i].completed_s > newest_s)
			newest_s = list[i].completed_s;
	}
	s->based = true;
	s->base_s = asked_s;
	s->base_newest_s = newest_s;
	return true;
}

static bool old(const struct vmp_sighting *s, const struct vmp_fence *f)	/* F1 */
{
	if (!s->based)
		return !f->by_hand;	/* F5 */
	return f->completed_s <= s->base_newest_s || f->completed_s <= s->base_s;
}

static enum vmp_fenced_verdict judge_one(const struct vmp_sighting *s, const struct vmp_fence *f, bool barred, int64_t now_s)
{
	if (f->status == VMP_FENCE_PENDING)
		return VMP_FENCED_PENDING;
	if (old(s, f))	/* worth a word only when it is no older than the last word heard */
		return f->status == VMP_FENCE_DONE && f->completed_s >= s->last_s ? VMP_FENCED_BEFORE : VMP_FENCED_NONE;
	if (f->status != VMP_FENCE_DONE)
		return VMP_FENCED_FAILED;
	if (f->completed_s > now_s + CLOCK_SLACK_S)	/* F3 */
		return VMP_FENCED_FUTURE;
	if (f->completed_s < s->last_s)
		return VMP_FENCED_HEARD;
	return barred && !f->by_hand ? VMP_FENCED_BAR : VMP_FENCED_YES;	/* F4 */
}

enum vmp_fenced_verdict vmp_fenced_judge(const struct vmp_sighting *s, const struct vmp_fence *list, unsigned int n, bool barred,
					 int64_t now_s, unsigned int *ret_which)
{
	enum vmp_fenced_verdict verdict = VMP_FENCED_NONE;
	int64_t newest_s = 0;
	unsigned int i, which = n;

	if (!s->boot)
		return VMP_FENCED_NO_BOOT;
	for (i = 0; i < n; i++) {
		enum vmp_fenced_verdict v = counts(&list[i]) ? judge_one(s, &list[i], barred, now_s) : VMP_FENCED_NONE;
		int64_t at_s = v == VMP_FENCED_PENDING ? INT64_MAX : list[i].completed_s;

		if (v == VMP_FENCED_YES && (which == n || at_s > list[which].completed_s))
			which = i;
		if (v != VMP_FENCED_NONE && at_s > newest_s) {
			newest_s = at_s;
			verdict = v;
		}
	}
	if (which == n)
		return verdict;
	*ret_which = which;
	return VMP_FENCED_YES;
}

bool vmp_fenced_lied(const struct vmp_sighting *s, const struct vmp_fence *list, unsigned int n, int64_t now_s)
{
	unsigned int i;

	for (i = 0; i < n && s->boot && s->based; i++)
		if (counts(&list[i]) && judge_one(s, &list[i], false, now_s) == VMP_FENCED_HEARD)
			return true;
	return false;
}

const char *vmp_fenced_text(unsigned int verdict)
{
#define VMP_E(name, text) case VMP_FENCED_##name: return text;
	switch (verdict) {
	VMP_FENCED_VERDICTS(VMP_E)
	default: return "";
	}
#undef VMP_E
}
