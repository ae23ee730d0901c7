#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# False failovers: a pair under client load while 4 times as many processes as there are processors want all of them, for VMP_FALSE_SECONDS
# (1800 when asked for by name, else 60). Zero failovers are wanted; it tells how old the newest supported heartbeat was at most, just
# before a newer one took its place, of the H that it may be, and the longest time that a daemon was not scheduled. VMP_FALSE_BUSY=others: they run already, as
# long fuzzing and the like; that they are as many is looked at throughout.
# metrics: false-failover.count false-failover.lapses false-failover.heartbeat_ms false-failover.of_ms false-failover.late_ms
# vmpaird: yes
# lease_ms: 300
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source-path=SCRIPTDIR source=../pair.sh
. "$LAB_SRC/pair.sh"

[ -n "${BENCH_NAMES-}" ] && seconds=1800 || seconds=60
seconds=${VMP_FALSE_SECONDS:-$seconds}
pair_create 1 >&2
wait_for 120 pair_whole p1 || fail 'the pair did not come up'
probe_start "${LAB_ENTRY[0]}"
holder=$(pair_primary p1) epoch=$(pair_epoch p1)
grep -qx 'hb_ms = 20' "$LAB_DIR/$holder/etc/vmpair/vmpaird.conf"
grep -qx 'lease_ms = 300' "$LAB_DIR/$holder/etc/vmpair/vmpaird.conf"
refreshed() { wc -l < "$LAB_DIR/$1/var/log/vmpair/binding.log"; }
declare -A events
for n in $(lab_all); do events[$n]=$(wc -l < "$LAB_DIR/$n/var/log/vmpair/events.jsonl"); done
begin=$(refreshed "$holder")

procs=$((4 * $(nproc)))
loaded() { # a mean of the last minute
	local load
	read -r load _ < /proc/loadavg
	[ "${load%.*}" -ge $procs ]
}
if [ "${VMP_FALSE_BUSY-}" = others ]; then
	wait_for 120 loaded || fail "VMP_FALSE_BUSY=others, but fewer than $procs processes want to run"
	during "$seconds" loaded || fail "VMP_FALSE_BUSY=others, but fewer than $procs processes want to run now"
else
	keep_busy $procs "$seconds"
fi

new_events() { # new_events NODE WHAT: texts
	tail -n +$((events[$1] + 1)) "$LAB_DIR/$1/var/log/vmpair/events.jsonl" | jq -r --arg w "$2" 'select(.what == $w) | .text'
}
count=0 lapses=0
for n in $(lab_all); do
	count=$((count + $(new_events "$n" established | wc -l)))
	lapses=$((lapses + $(new_events "$n" lapsed | wc -l)))
	late=$(new_events "$n" late | awk '{for (i = 1; i < NF; i++) if ($i == "ran" && $(i + 1) > worst) worst = $(i + 1)} END {print worst + 0}')
	sample false-failover.late_ms ms "$late"
done
[ "$epoch $holder" = "$(pair_epoch p1) $(pair_primary p1)" ] || [ $count -gt 0 ] || count=1
sample false-failover.count failovers $count
sample false-failover.lapses lapses $lapses
# times of the log: when it was stored, and until when it holds, which is the heartbeat's own send time and H
tail -n +$((begin + 1)) "$LAB_DIR/$holder/var/log/vmpair/binding.log" | awk -v lease=300 '
	BEGIN {h = lease * 900 / 1100 - 10}
	$2 == "refresh" {age = ($1 - was) / 1e6 + h; if (was && age > worst) worst = age; was = $5; next}
	{was = 0}
	END {printf "sample false-failover.heartbeat_ms ms %.1f\nsample false-failover.of_ms ms %.0f\n", worst, h}'
probe_stop || true
[ $count -eq 0 ] || fail "$count failovers without a cause in $seconds s"
