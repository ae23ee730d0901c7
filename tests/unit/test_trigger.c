/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/core/trigger.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static const uint64_t s_ns = 1000000000u;

static struct vmp_trg_in primary(enum vmp_trigger t, uint8_t what, uint8_t restarts)
{
	return (struct vmp_trg_in){.trigger = t, .policy = {what, restarts}, .primary = true, .other = true, .limit = 3};
}

static void policies_are_kept(void **state)
{
	(void)state;
	for (unsigned t = 0; t < VMP_TRG_COUNT; t++) {
		struct vmp_trg_in in = primary(t, VMP_TRG_FAILOVER, 0);
		assert_non_null(vmp_trigger_info(t));
		assert_int_equal(vmp_trigger_decide(&in).act, VMP_TRG_DO_FAILOVER);
		in.policy.what = VMP_TRG_REPORT;
		assert_int_equal(vmp_trigger_decide(&in).act, VMP_TRG_DO_REPORT);
		in = primary(t, VMP_TRG_RESTART, 2);
		bool may = vmp_trigger_info(t)->allowed & VMP_TRG_RESTART;
		for (in.restarts = 0; in.restarts < 4; in.restarts++)
			assert_int_equal(vmp_trigger_decide(&in).act, !may ? VMP_TRG_DO_REPORT : in.restarts < 2 ? VMP_TRG_DO_RESET :
					 VMP_TRG_DO_FAILOVER);
	}
	assert_null(vmp_trigger_info(VMP_TRG_COUNT));
}

static void paused_or_frozen_nothing_is_done(void **state)
{
	(void)state;
	for (unsigned t = 0; t < VMP_TRG_COUNT; t++) {
		struct vmp_trg_in in = primary(t, VMP_TRG_FAILOVER, 0);
		in.suspended = true;
		assert_int_equal(vmp_trigger_decide(&in).act, VMP_TRG_DO_NOTHING);
		in.suspended = false;
		in.frozen = true;
		assert_int_equal(vmp_trigger_decide(&in).act, VMP_TRG_DO_REPORT);
		in.policy = (struct vmp_trg_policy){VMP_TRG_RESTART, 5};
		assert_int_equal(vmp_trigger_decide(&in).act, VMP_TRG_DO_REPORT);
	}
}

/* Whatever the inputs: without another member nothing ends this one, and a VM is never ended while it is primary. */
static void the_only_member_is_never_ended(void **state)
{
	(void)state;
	static const uint8_t whats[] = {VMP_TRG_REPORT, VMP_TRG_RESTART, VMP_TRG_FAILOVER};
	for (unsigned i = 0; i < VMP_TRG_COUNT * 3 * 64; i++) {
		unsigned bits = i / (VMP_TRG_COUNT * 3);
		struct vmp_trg_in in = {.trigger = (uint8_t)(i % VMP_TRG_COUNT), .policy = {whats[i / VMP_TRG_COUNT % 3], 2},
					.primary = bits & 1, .other = bits & 2, .other_same = bits & 4, .frozen = bits & 8,
					.restarts = bits & 16 ? 9 : 0, .failovers = bits & 32 ? 9 : 0, .limit = 3};
		enum vmp_trg_act act = vmp_trigger_decide(&in).act;
		bool gone = vmp_trigger_info(in.trigger)->flags & VMP_TRG_GONE;
		assert_non_null(vmp_trigger_decide(&in).why);
		if (!in.other && !gone)
			assert_true(act == VMP_TRG_DO_REPORT || act == VMP_TRG_DO_RESET);
		if (act == VMP_TRG_DO_REPLACE)
			assert_true(!in.primary && in.other);
		if (act == VMP_TRG_DO_FAILOVER)
			assert_true((in.primary || gone) && (gone || in.failovers < in.limit));
		if (act == VMP_TRG_DO_RESET)
			assert_true(in.restarts < 9 && vmp_trigger_info(in.trigger)->allowed & VMP_TRG_RESTART);
	}
}

static void a_dead_guest_with_nobody_else_is_reset_a_few_times(void **state)
{
	(void)state;
	struct vmp_trg_in in = primary(VMP_TRG_PANIC, VMP_TRG_FAILOVER, 0);
	in.other = false;
	for (in.restarts = 0; in.restarts < 6; in.restarts++)
		assert_int_equal(vmp_trigger_decide(&in).act, in.restarts < VMP_TRG_RESETS ? VMP_TRG_DO_RESET : VMP_TRG_DO_REPORT);
	in = primary(VMP_TRG_HANG, VMP_TRG_FAILOVER, 0);
	in.other = false;
	assert_int_equal(vmp_trigger_decide(&in).act, VMP_TRG_DO_REPORT); /* it may serve still */
}

static void it_does_not_flap(void **state)
{
	(void)state;
	struct vmp_trg_in in = primary(VMP_TRG_HEALTH, VMP_TRG_FAILOVER, 0);
	struct vmp_trg_ring ring = {0};
	uint64_t now = 1000 * s_ns, moved = 0;
	/* a check that fails all the time, asked each second for an hour */
	for (unsigned s = 0; s < 3600; s++, now += s_ns) {
		in.failovers = vmp_trigger_count(&ring, 600 * s_ns, now);
		if (vmp_trigger_decide(&in).act != VMP_TRG_DO_FAILOVER)
			continue;
		vmp_trigger_mark(&ring, now);
		moved++;
	}
	assert_int_equal(moved, 18);
	in.failovers = 0;
	in.limit = 0;
	assert_int_equal(vmp_trigger_decide(&in).act, VMP_TRG_DO_REPORT);
}

static void a_standby_no_better_is_not_used(void **state)
{
	(void)state;
	struct vmp_trg_in in = primary(VMP_TRG_UPLINK, VMP_TRG_FAILOVER, 0);
	in.other_same = true;
	assert_int_equal(vmp_trigger_decide(&in).act, VMP_TRG_DO_REPORT);
	in.primary = in.other_same = false;
	assert_int_equal(vmp_trigger_decide(&in).act, VMP_TRG_DO_REPORT);
	in.trigger = VMP_TRG_PANIC;
	assert_int_equal(vmp_trigger_decide(&in).act, VMP_TRG_DO_REPLACE);
}

static void signs_in_a_row(void **state)
{
	(void)state;
	struct vmp_trg_hyst h = {0};
	for (unsigned i = 0; i < 100; i++) /* two of three are bad, never three in a row */
		assert_int_equal(vmp_trigger_sample(&h, i % 3, 3, 0, i + 1), VMP_TRG_SAME);
	h = (struct vmp_trg_hyst){0};
	assert_int_equal(vmp_trigger_sample(&h, true, 3, 0, 1), VMP_TRG_SAME);
	assert_int_equal(vmp_trigger_sample(&h, true, 3, 0, 2), VMP_TRG_SAME);
	assert_int_equal(vmp_trigger_sample(&h, true, 3, 0, 3), VMP_TRG_RAISED);
	assert_int_equal(vmp_trigger_sample(&h, true, 3, 0, 4), VMP_TRG_SAME);
	/* and back: as many good ones */
	assert_int_equal(vmp_trigger_sample(&h, false, 3, 0, 5), VMP_TRG_SAME);
	assert_int_equal(vmp_trigger_sample(&h, false, 3, 0, 6), VMP_TRG_SAME);
	assert_int_equal(vmp_trigger_sample(&h, true, 3, 0, 7), VMP_TRG_SAME);
	assert_true(h.raised);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(vmp_trigger_sample(&h, false, 3, 0, 8 + i), i == 2 ? VMP_TRG_CLEARED : VMP_TRG_SAME);
	/* events: only those close together count */
	h = (struct vmp_trg_hyst){0};
	for (unsigned i = 1; i < 9; i++)
		assert_int_equal(vmp_trigger_sample(&h, true, 3, 10 * s_ns, i * 6 * s_ns), VMP_TRG_SAME);
	h = (struct vmp_trg_hyst){0};
	for (unsigned i = 1; i < 4; i++)
		assert_int_equal(vmp_trigger_sample(&h, true, 3, 10 * s_ns, i * s_ns), i == 3 ? VMP_TRG_RAISED : VMP_TRG_SAME);
}

static void own_lateness_is_not_silence_of_others(void **state)
{
	(void)state;
	struct vmp_trg_silence w = {0};
	uint64_t now = 100 * s_ns;
	for (unsigned i = 0; i < 100; i++, now += s_ns) /* never heard: no guest program runs */
		assert_false(vmp_trigger_silent(&w, s_ns, 5 * s_ns, now));
	vmp_trigger_heard(&w, now);
	assert_false(vmp_trigger_silent(&w, s_ns, 5 * s_ns, now));
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(vmp_trigger_silent(&w, s_ns, 5 * s_ns, now += s_ns), i == 4);
	/* stopped for a minute: nothing was heard because nobody listened */
	vmp_trigger_heard(&w, now);
	now += 60 * s_ns;
	assert_false(vmp_trigger_silent(&w, s_ns, 5 * s_ns, now));
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(vmp_trigger_silent(&w, s_ns, 5 * s_ns, now += s_ns), i == 3);
	/* heard a moment after the time that the look began with */
	vmp_trigger_heard(&w, now + 5);
	assert_false(vmp_trigger_silent(&w, s_ns, 5 * s_ns, now));
	/* late again and again, each time with the same silence: a guest that is really gone is found all the same */
	vmp_trigger_heard(&w, now);
	unsigned looks = 1;
	while (!vmp_trigger_silent(&w, s_ns, 5 * s_ns, now += 10 * s_ns))
		assert_true(++looks < 10);
	assert_int_equal(looks, 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(policies_are_kept),
		cmocka_unit_test(paused_or_frozen_nothing_is_done),
		cmocka_unit_test(the_only_member_is_never_ended),
		cmocka_unit_test(a_dead_guest_with_nobody_else_is_reset_a_few_times),
		cmocka_unit_test(it_does_not_flap),
		cmocka_unit_test(a_standby_no_better_is_not_used),
		cmocka_unit_test(signs_in_a_row),
		cmocka_unit_test(own_lateness_is_not_silence_of_others),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
