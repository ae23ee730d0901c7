#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Long runs of the simulator: soak.sh [SCHEDULES [FIRST-SEED]], default 5 million, VMP_SIM_JOBS at a time (default 1). Two fifths in the mix of
# voters of random.sh (1 to 7, voter changes, cold start, witness), the rest with 3, 5 and 7 voters, with voter changes too. Stops after the
# first violation; the last line is the figure to quote.
runs=${1:-5000000} seed=${2:-10000000} chunk=25000 jobs=${VMP_SIM_JOBS:-1} started=0 failed=0 pids=
sim=${VMP_SIM:-./tests/sim/sim}
[ "$runs" -ge "$chunk" ] || chunk=$runs
begin=$(date +%s)

one_begins()
{
	case $((started / chunk % 5)) in
	2) set -- --voters 3 ;;
	3) set -- --voters 5 ;;
	4) set -- --voters 7 ;;
	*) set -- ;;
	esac
	echo "seeds $((seed + started)) to $((seed + started + chunk - 1)) $*"
	"$sim" --runs "$chunk" --seed $((seed + started)) "$@" &
	pids="$pids $!"
	started=$((started + chunk))
}

# the oldest first: chunks take about as long as each other
one_ends()
{
	# shellcheck disable=SC2086
	set -- $pids
	wait "$1" || failed=1
	shift
	pids=$*
}

while [ "$started" -lt "$runs" ] && [ "$failed" = 0 ]; do
	# shellcheck disable=SC2086
	set -- $pids
	[ $# -lt "$jobs" ] || one_ends
	[ "$failed" = 0 ] && one_begins
done
while [ -n "$pids" ]; do one_ends; done
[ "$failed" = 0 ] || exit 1
took=$(($(date +%s) - begin))
echo "$started schedules without a violation, seeds $seed to $((seed + started - 1)), $took s, $((started / (took ? took : 1)))/s"
