#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Long runs of the simulator: soak.sh [SCHEDULES [FIRST-SEED]], default 5 million. Two fifths in the mix of voters of random.sh (1 to 7, voter
# changes, cold start, witness), the rest with 3, 5 and 7 voters, with voter changes too. Stops at the first violation.
runs=${1:-5000000} seed=${2:-10000000} chunk=50000 done=0
sim=${VMP_SIM:-./tests/sim/sim}
[ "$runs" -ge "$chunk" ] || chunk=$runs
while [ "$done" -lt "$runs" ]; do
	case $((done / chunk % 5)) in
	2) set -- --voters 3 ;;
	3) set -- --voters 5 ;;
	4) set -- --voters 7 ;;
	*) set -- ;;
	esac
	echo "seeds $((seed + done)) to $((seed + done + chunk - 1)) $*"
	"$sim" --runs "$chunk" --seed $((seed + done)) "$@" || exit 1
	done=$((done + chunk))
done
echo "$done schedules without a violation, seeds $seed to $((seed + done - 1))"
