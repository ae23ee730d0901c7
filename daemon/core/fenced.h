/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What proves that a boot of another node is over (R3), from the history of Pacemaker's fencer. Pure and total: plain values in, plain
 * values out. Adapters say which boot was heard and what the history holds; whether that is a proof is decided here.
 *
 * The history names nodes, not boots, and has seconds of a wall clock, not the time at which an operation began. So by itself it may tell
 * of an earlier boot, or of an operation that began before the node booted again and ended (on, verified, waited for) only after that.
 *
 *  F1 Base: the history is read once after a boot was first heard, with no operation against that node under way. What ends later and was
 *     not in it then, began after that boot did, and so has ended this boot. No clock decides this, but for entries that reach this
 *     node's fencer late, from another one: they have to be newer than the base as well.
 *  F2 Only off and reboot count, and only those that succeeded.
 *  F3 No word of that boot may have been heard after the second in which it ended, nor may that be in the future: a device that does not do
 *     what it says, or a clock that was set. Words heard while it was under way are none: nodes are fenced alive, too.
 *  F4 A bar (bar.c) vouches for leases, not for the end of a boot, but the history does not tell which device has done it: while a fence
 *     device may have barred the node, nothing counts but a human's word. With two voters such a device never succeeds without a bar that
 *     both have recorded, and no bar is lifted without the node being heard again (F3).
 *  F5 A human's confirmation (stonith_admin --confirm) is about that moment, whatever boot ran until then: it needs no base.
 */
#ifndef VMP_FENCED_H
#define VMP_FENCED_H

#include <stdbool.h>
#include <stdint.h>

enum vmp_fence_action { VMP_FENCE_OTHER, VMP_FENCE_OFF, VMP_FENCE_REBOOT };
enum vmp_fence_status { VMP_FENCE_FAILED, VMP_FENCE_PENDING, VMP_FENCE_DONE };

/* One operation against a node, as the fencer remembers it. */
struct vmp_fence {
	uint8_t action;		/* enum vmp_fence_action; OTHER: on, and whatever else there is */
	uint8_t status;		/* enum vmp_fence_status */
	bool by_hand;		/* an operator says so */
	int64_t completed_s;	/* wall clock of the fencer that saw it end; means nothing while pending */
};

/* A boot of another node, as known here. Wall clock of this node. */
struct vmp_sighting {
	uint64_t boot;		/* that it said last; 0: it was never heard */
	bool based;		/* F1 */
	int64_t base_s;		/* when the history was asked for that */
	int64_t base_newest_s;	/* newest operation that was in it, 0: none */
	int64_t last_s;		/* last word heard of that boot */
};

#define VMP_FENCED_VERDICTS(X) \
	X(YES, "it was fenced") \
	X(NOT_ASKED, "Pacemaker's fencer has not been asked yet") \
	X(NONE, "Pacemaker has not fenced it") \
	X(PENDING, "Pacemaker is fencing it") \
	X(FAILED, "Pacemaker could not fence it") \
	X(BEFORE, "it was fenced, but that may have ended an earlier boot of it than the one heard last") \
	X(HEARD, "it was heard after it had been fenced: the device does not cut its power, somebody confirmed what was not so, or a clock was set") \
	X(FUTURE, "its fencing is dated in the future: a clock was set") \
	X(BAR, "fence_vmpair may have vouched for it, which refuses leases and ends no host") \
	X(NO_BOOT, "no boot of it was ever heard here")

#define VMP_E(name, text) VMP_FENCED_##name,
enum vmp_fenced_verdict { VMP_FENCED_VERDICTS(VMP_E) VMP_FENCED_COUNT };
#undef VMP_E

const char *vmp_fenced_text(unsigned int verdict);	/* a sentence for people */

/* F1: the base of `s`, from a history asked for at `asked_s`. False while an operation is under way; ask again then. */
bool vmp_fenced_base(struct vmp_sighting *s, const struct vmp_fence *list, unsigned int n, int64_t asked_s);

/*
 * Whether the boot of `s` is over. barred: a device may have barred the node (F4). YES: *ret_which is the operation that proves it, the
 * newest if there are several; else what is said of the newest one against that boot.
 */
enum vmp_fenced_verdict vmp_fenced_judge(const struct vmp_sighting *s, const struct vmp_fence *list, unsigned int n, bool barred,
					 int64_t now_s, unsigned int *ret_which);

/*
 * F3, of a node that is heard: Pacemaker holds this boot for over, and it talks. Its pairs are not taken over for that, since a boot is
 * judged in silence only; somebody has to know that the device does not cut the power. Not before a word in a later second.
 */
bool vmp_fenced_lied(const struct vmp_sighting *s, const struct vmp_fence *list, unsigned int n, int64_t now_s);

#endif
