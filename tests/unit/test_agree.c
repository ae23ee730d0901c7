/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/core/agree.h"
#include "daemon/core/core.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static struct vmp_agree_in running(bool primary, enum vmp_told told)
{
	return (struct vmp_agree_in){.primary = primary, .vm = VMP_VM_RUNNING, .told = told, .interval_ms = 10000};
}

static void probe_tells_the_truth_and_is_believed(void **state)
{
	(void)state;
	struct vmp_agree_in in = running(true, VMP_TOLD_UNKNOWN);
	in.probe = true;
	struct vmp_agree_out out = vmp_agree_monitor(&in);
	assert_int_equal(out.rc, 8);
	assert_int_equal(out.told, VMP_TOLD_PROMOTED);

	in.primary = false;
	out = vmp_agree_monitor(&in);
	assert_int_equal(out.rc, 0);
	assert_int_equal(out.told, VMP_TOLD_UNPROMOTED);

	in.vm = VMP_VM_GONE;
	out = vmp_agree_monitor(&in);
	assert_int_equal(out.rc, 7);
	assert_int_equal(out.told, VMP_TOLD_STOPPED);

	in.vm = VMP_VM_UNKNOWN;
	assert_int_equal(vmp_agree_monitor(&in).rc, 1);
}

static void new_primary_says_0_until_promoted(void **state)
{
	(void)state;
	struct vmp_agree_in in = running(true, VMP_TOLD_UNPROMOTED);
	for (in.since_ms = 0; in.since_ms < 200000; in.since_ms += 1000)
		assert_int_equal(vmp_agree_monitor(&in).rc, 0);
	in.told = VMP_TOLD_PROMOTED;
	assert_int_equal(vmp_agree_monitor(&in).rc, 8);
	/* An Unpromoted monitor still on its way when promote was answered: Pacemaker's own role counts. */
	in.op_role = VMP_TOLD_UNPROMOTED;
	assert_int_equal(vmp_agree_monitor(&in).rc, 0);
	in.op_role = VMP_TOLD_PROMOTED;
	in.told = VMP_TOLD_UNPROMOTED;
	assert_int_equal(vmp_agree_monitor(&in).rc, 8);
}

static void old_primary_says_8_for_a_bounded_time(void **state)
{
	(void)state;
	struct vmp_agree_in in = running(false, VMP_TOLD_PROMOTED);
	in.vm = VMP_VM_GONE;
	in.since_ms = 19999;
	assert_int_equal(vmp_agree_monitor(&in).rc, 8);
	in.since_ms = 20000;
	assert_int_equal(vmp_agree_monitor(&in).rc, 7);
	in.vm = VMP_VM_RUNNING;
	assert_int_equal(vmp_agree_monitor(&in).rc, 0);
	assert_non_null(vmp_agree_monitor(&in).reason);

	in.interval_ms = 600000;
	in.since_ms = VMP_AGREE_GRACE_MAX_MS - 1;
	assert_int_equal(vmp_agree_monitor(&in).rc, 8);
	in.since_ms++;
	assert_int_equal(vmp_agree_monitor(&in).rc, 0);
	in.interval_ms = 1;
	in.since_ms = VMP_AGREE_GRACE_MIN_MS - 1;
	assert_int_equal(vmp_agree_monitor(&in).rc, 8);
	in.interval_ms = UINT64_MAX;
	assert_int_equal(vmp_agree_monitor(&in).rc, 8);

	/* VM lost but the role not yet released: the same. */
	in.vm = VMP_VM_GONE;
	in.primary = true;
	assert_int_equal(vmp_agree_monitor(&in).rc, 8);
}

static void truth_at_once_when_no_flip_will_come(void **state)
{
	(void)state;
	struct vmp_agree_in in = running(false, VMP_TOLD_PROMOTED);
	in.vm = VMP_VM_GONE;
	in.no_successor = true;
	assert_int_equal(vmp_agree_monitor(&in).rc, 7);
	in.no_successor = false;
	in.flip_in = true;
	assert_int_equal(vmp_agree_monitor(&in).rc, 7);
	in.flip_in = false;
	in.frozen = true;
	assert_int_equal(vmp_agree_monitor(&in).rc, 7);
	/* frozen and healthy */
	in.vm = VMP_VM_RUNNING;
	in.primary = true;
	assert_int_equal(vmp_agree_monitor(&in).rc, 8);
}

static void lost_standby_is_7_at_once(void **state)
{
	(void)state;
	struct vmp_agree_in in = running(false, VMP_TOLD_UNPROMOTED);
	assert_int_equal(vmp_agree_monitor(&in).rc, 0);
	in.vm = VMP_VM_GONE;
	assert_int_equal(vmp_agree_monitor(&in).rc, 7);
	assert_non_null(vmp_agree_monitor(&in).reason);
}

static void unknown_vm_is_never_7(void **state)
{
	(void)state;
	for (unsigned bits = 0; bits < 32; bits++) {
		for (int told = VMP_TOLD_UNKNOWN; told <= VMP_TOLD_PROMOTED; told++) {
			struct vmp_agree_in in = {
				.probe = bits & 1, .primary = bits & 2, .frozen = bits & 4, .no_successor = bits & 8, .flip_in = bits & 16,
				.vm = VMP_VM_UNKNOWN, .told = (enum vmp_told)told, .interval_ms = 10000,
			};
			for (in.since_ms = 0; in.since_ms < 100000; in.since_ms += 10000) {
				struct vmp_agree_out out = vmp_agree_monitor(&in);
				if (in.since_ms >= 20000 || in.probe)
					assert_int_equal(out.rc, 1);
				else
					assert_int_equal(out.rc, told == VMP_TOLD_PROMOTED ? 8 : 0);
			}
		}
	}
}

static void every_answer_is_allowed(void **state)
{
	(void)state;
	/* Whatever the input: only 0 1 7 8; never 8 from an Unpromoted monitor; never 7 while the VM runs. */
	for (unsigned bits = 0; bits < 32; bits++)
		for (int vm = VMP_VM_UNKNOWN; vm <= VMP_VM_RUNNING; vm++)
			for (int told = VMP_TOLD_UNKNOWN; told <= VMP_TOLD_PROMOTED; told++)
				for (int role = VMP_TOLD_UNKNOWN; role <= VMP_TOLD_PROMOTED; role++) {
					struct vmp_agree_in in = {
						.probe = bits & 1, .primary = bits & 2, .frozen = bits & 4, .no_successor = bits & 8,
						.flip_in = bits & 16, .vm = (enum vmp_vm_state)vm, .told = (enum vmp_told)told,
						.op_role = (enum vmp_told)role, .interval_ms = 5000, .since_ms = 3000,
					};
					struct vmp_agree_out out = vmp_agree_monitor(&in);
					assert_true(out.rc == 0 || out.rc == 1 || out.rc == 7 || out.rc == 8);
					if (!in.probe && role == VMP_TOLD_UNPROMOTED)
						assert_int_not_equal(out.rc, 8);
					if (vm == VMP_VM_RUNNING)
						assert_true(out.rc == 0 || out.rc == 8);
				}
}

static void scores(void **state)
{
	(void)state;
	struct vmp_agree_score s = vmp_agree_score(5 * 256 + 2, true, false);
	assert_true(s.set);
	assert_false(s.lower_others);
	assert_int_equal(s.score, 1006);
	s = vmp_agree_score(5 * 256 + 2, false, true);
	assert_true(s.set);
	assert_int_equal(s.score, 1000);
	assert_false(vmp_agree_score(5 * 256 + 2, false, false).set);

	/* later outbids earlier, all the way to the wrap, and stays below INFINITY */
	uint32_t last = VMP_AGREE_BASE;
	for (uint64_t counter = 0; counter < VMP_AGREE_LAP; counter++) {
		s = vmp_agree_score(counter * 256 + counter % 3 + 1, true, false);
		assert_true(s.score > last && s.score < 1000000 && !s.lower_others);
		last = s.score;
	}
	s = vmp_agree_score((uint64_t)VMP_AGREE_LAP * 256 + 1, true, false);
	assert_true(s.lower_others && s.score > VMP_AGREE_BASE && s.score < last);
	s = vmp_agree_score(((uint64_t)VMP_AGREE_LAP + VMP_AGREE_WRAP_WINDOW) * 256 + 1, true, false);
	assert_false(s.lower_others);
	assert_true(vmp_agree_score(UINT64_MAX, true, true).score < 1000000);
}

static void third_member_ends_only_when_two_others_are_the_pair(void **state)
{
	(void)state;
	const struct vmp_agree_third back = {
		.apart = true, .role_none = true, .member = 1, .holder_member = 2, .sync_member = 3, .n_heard = 2, .heard = {3, 2},
	};
	struct vmp_agree_third in = back;
	assert_true(vmp_agree_surplus(&in));
	in.sync_member = 0;	/* the new standby runs and is not on record yet */
	assert_true(vmp_agree_surplus(&in));

	in.heard[0] = 0;	/* it is being started */
	assert_true(vmp_agree_surplus(&in));

	in = back; in.member = 0; assert_false(vmp_agree_surplus(&in));
	in = back; in.frozen = true; assert_false(vmp_agree_surplus(&in));
	in = back; in.apart = false; assert_false(vmp_agree_surplus(&in));
	in = back; in.role_none = false; assert_false(vmp_agree_surplus(&in));
	in = back; in.member = in.holder_member; assert_false(vmp_agree_surplus(&in));
	in = back; in.member = in.sync_member; assert_false(vmp_agree_surplus(&in));
	/* one of the two is not heard, or another one than the one on record runs there */
	in = back; in.n_heard = 1; assert_false(vmp_agree_surplus(&in));
	in = back; in.heard[0] = 0; assert_false(vmp_agree_surplus(&in));
	in = back; in.heard[0] = 4; assert_false(vmp_agree_surplus(&in));
	in = back; in.heard[1] = 4; assert_false(vmp_agree_surplus(&in));
	in = back; in.sync_member = 0; in.n_heard = 1; in.heard[0] = 2; assert_false(vmp_agree_surplus(&in));
	/* nobody holds the pair: whoever is left may be needed */
	in = back; in.holder_member = in.sync_member = 0; assert_false(vmp_agree_surplus(&in));
	in.heard[0] = 0; assert_false(vmp_agree_surplus(&in));
}

static void restart_in_place_only_where_nobody_else_is_affected(void **state)
{
	(void)state;
	const struct vmp_agree_restart one = { .wanted = true, .attended = true, .been_ready = true, .others = 1 };
	struct vmp_agree_restart in = one;
	assert_true(vmp_agree_restart(&in));	/* a standby, on record or not */
	in.primary = in.successor = true;
	assert_true(vmp_agree_restart(&in));
	in.successor = false;	/* nobody takes over: Pacemaker starts and promotes this one */
	assert_false(vmp_agree_restart(&in));

	in = one; in.frozen = true; assert_false(vmp_agree_restart(&in));
	in = one; in.wanted = false; assert_false(vmp_agree_restart(&in));
	in = one; in.attended = false; assert_false(vmp_agree_restart(&in));
	in = one; in.been_ready = false; assert_false(vmp_agree_restart(&in));
	/* it runs elsewhere, or may: as a standby, and as a primary whose successor is there */
	in = one; in.left = true; assert_false(vmp_agree_restart(&in));
	in.primary = in.successor = true; assert_false(vmp_agree_restart(&in));
	/* nobody left to serve, or the pair is whole without it */
	in = one; in.others = 0; assert_false(vmp_agree_restart(&in));
	in = one; in.others = 2; assert_false(vmp_agree_restart(&in));
}

static void a_migrated_member_is_looked_for_everywhere(void **state)
{
	(void)state;
	assert_int_equal(vmp_agree_where(2, 0, false), VMP_AGREE_WAIT);
	assert_int_equal(vmp_agree_where(2, 1, false), VMP_AGREE_WAIT);	/* the third may have it */
	assert_int_equal(vmp_agree_where(2, 2, false), VMP_AGREE_NOWHERE);
	assert_int_equal(vmp_agree_where(2, 0, true), VMP_AGREE_ELSEWHERE);
	assert_int_equal(vmp_agree_where(2, 1, true), VMP_AGREE_ELSEWHERE);
}

static void who_may_be_promoted(void **state)
{
	(void)state;
	const struct vmp_agree_promote none = { .ready = true, .role_none = true, .recorded = true };
	struct vmp_agree_promote in = none;

	/* not the standby nor the last holder: only once nobody holds, and where it was allowed to begin so */
	assert_false(vmp_agree_promote(&in));
	in.cold_start_auto = true; assert_false(vmp_agree_promote(&in));
	in.nobody_holds = true; assert_true(vmp_agree_promote(&in));
	in.cold_start_auto = false; assert_false(vmp_agree_promote(&in));

	in = none; in.recorded = false; assert_true(vmp_agree_promote(&in));	/* a new pair */
	in = none; in.in_sync = true; assert_true(vmp_agree_promote(&in));
	in = none; in.last_member = in.last_here = true; assert_true(vmp_agree_promote(&in));

	/* whatever else is so */
	for (unsigned bits = 0; bits < 256; bits++) {
		in = (struct vmp_agree_promote){ .recorded = bits & 1, .cold = bits & 2, .last_here = bits & 4, .last_without_member = bits & 8,
						 .in_sync = bits & 16, .last_member = bits & 32, .cold_start_auto = bits & 64,
						 .nobody_holds = bits & 128 };
		in.ready = true; assert_false(vmp_agree_promote(&in));	/* holds the pair, claims it or gives it up */
		in.ready = false; in.role_none = true; assert_false(vmp_agree_promote(&in));
	}
}

static void after_a_cold_start_the_last_holder_begins(void **state)
{
	(void)state;
	const struct vmp_agree_promote cold = { .ready = true, .role_none = true, .recorded = true, .cold = true };
	struct vmp_agree_promote in = cold;

	in.last_here = in.last_member = true; assert_true(vmp_agree_promote(&in));
	/* another member of its node: its content is not the one on record */
	in.last_member = false; assert_false(vmp_agree_promote(&in));
	in.cold_start_auto = in.nobody_holds = true; assert_true(vmp_agree_promote(&in));

	/* elsewhere: nobody is in sync after a cold start, and that no guard is left says nothing of the last holder */
	in = cold; in.in_sync = true; assert_false(vmp_agree_promote(&in));
	in.cold_start_auto = in.nobody_holds = true; assert_false(vmp_agree_promote(&in));
	in.last_without_member = true; assert_true(vmp_agree_promote(&in));
	in.cold_start_auto = false; assert_false(vmp_agree_promote(&in));
}

static void nobody_holds_without_guard_or_after_release_of_an_endless_one(void **state)
{
	(void)state;
	assert_true(vmp_agree_nobody_holds(0, false, 100));
	assert_true(vmp_agree_nobody_holds(100, false, 100));
	assert_false(vmp_agree_nobody_holds(101, false, 100));
	/* given up in favour of a successor, who holds it under the same guard */
	assert_false(vmp_agree_nobody_holds(101, true, 100));
	assert_false(vmp_agree_nobody_holds(VMP_NEVER, false, 100));
	assert_true(vmp_agree_nobody_holds(VMP_NEVER, true, 100));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(who_may_be_promoted),
		cmocka_unit_test(after_a_cold_start_the_last_holder_begins),
		cmocka_unit_test(nobody_holds_without_guard_or_after_release_of_an_endless_one),
		cmocka_unit_test(a_migrated_member_is_looked_for_everywhere),
		cmocka_unit_test(restart_in_place_only_where_nobody_else_is_affected),
		cmocka_unit_test(probe_tells_the_truth_and_is_believed),
		cmocka_unit_test(new_primary_says_0_until_promoted),
		cmocka_unit_test(old_primary_says_8_for_a_bounded_time),
		cmocka_unit_test(truth_at_once_when_no_flip_will_come),
		cmocka_unit_test(lost_standby_is_7_at_once),
		cmocka_unit_test(unknown_vm_is_never_7),
		cmocka_unit_test(every_answer_is_allowed),
		cmocka_unit_test(scores),
		cmocka_unit_test(third_member_ends_only_when_two_others_are_the_pair),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
