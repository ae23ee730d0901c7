#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Directed scenarios for wrong variants that random schedules hardly reach: with each switched on, tests/unit/test_core must fail.
set -u
prog=./tests/unit/test_core_bugs
fail=0
$prog >/dev/null 2>&1 || { echo "not ok - without any variant"; exit 1; }
for bug in ACK_NO_INC SUPPORT_ANY_EPOCH OWN_ALWAYS GRANT_EQUAL_EPOCH GRANT_LEARNED NO_TIME_LIMIT RELEASE_AFTER_RECLAIM \
	MEMBER_REPLACED ABSTAIN_ANSWERS_READ VOTERS_NO_WAIT VOTERS_NO_STATES VOTERS_IN_RECOVERY VOTERS_NOT_ADOPTED BAR_NO_WAIT BAR_ONE_VOTER BAR_GRANTED \
	READ_BEFORE_WAIT; do
	out=$(VMP_BUG=$bug $prog 2>&1)
	case $? in
	0) echo "not ok - $bug is not caught"; fail=1 ;;
	2) [ -n "$out" ] || { echo "not ok - $bug is unknown"; fail=1; continue; }
	   echo "ok - $bug caught" ;;
	*) echo "ok - $bug caught" ;;
	esac
done
exit $fail
