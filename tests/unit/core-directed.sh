#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Directed scenarios for wrong variants, above all those that random schedules hardly reach: with each switched on, tests/unit/test_core must
# fail. --list tells which; the others are the simulator's (tests/sim/bugs.sh).
set -u
bugs="ACK_NO_INC SUPPORT_ANY_EPOCH OWN_ALWAYS GRANT_EQUAL_EPOCH GRANT_LEARNED NO_TIME_LIMIT RELEASE_ANY RELEASE_AFTER_RECLAIM GUARD_BY_NODE 
	NO_RECLAIM NO_GUARD MEMBER_REPLACED MAJORITY_HALF VOTE_AS_STATE CLAIM_ANY_MEMBER ALONE_EARLY NO_ABSTAIN READ_BEFORE_WAIT 
	ABSTAIN_ANSWERS_READ VOTERS_TWO VOTERS_NO_WAIT VOTERS_NO_STATES VOTERS_IN_RECOVERY VOTERS_NOT_ADOPTED 
	BAR_NO_WAIT BAR_ONE_VOTER BAR_NO_CLAIM BAR_SUPPORTED BAR_GRANTED"
# shellcheck disable=SC2086 # a list
[ "${1-}" != --list ] || { echo $bugs; exit; }
prog=./tests/unit/test_core_bugs
fail=0
$prog >/dev/null 2>&1 || { echo "not ok - without any variant"; exit 1; }
for bug in $bugs; do
	out=$(VMP_BUG=$bug $prog 2>&1)
	case $? in
	0) echo "not ok - $bug is not caught"; fail=1 ;;
	2) [ -n "$out" ] || { echo "not ok - $bug is unknown"; fail=1; continue; }
	   echo "ok - $bug caught" ;;
	*) echo "ok - $bug caught" ;;
	esac
done
exit $fail
