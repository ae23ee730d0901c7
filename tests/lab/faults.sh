#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# faults.sh [--full | --third] [--history] [--runs N] [--resume] [--seed N] [--keep MS] [--json FILE] [--table FILE] [FAULT...]: the fault matrix. One
# running lab with one pair under continuous load serves them all. The load is a probe of the entry; with --history it is the pair's relay
# (on the hosts, journal mode) with clients that write to a bank: every acknowledged write must be there exactly once. Each file faults/NAME.sh defines inject (does the harm; may wait for what has to follow from it)
# and mend (takes it back; nothing where there is nothing to take back). After each fault: the service answers again, Pacemaker
# and vmpair name the same primary within 10 s, the pair is whole, and no two entries were open at once. Lines of a file's head:
#   # title: TEXT      for the table         # third: yes      part of --third, what `check` runs
#   # moves: yes|no    the primary must move, or must not (default: it may)
#   # serves: no       nobody has to serve before it is mended: Pacemaker may stop what has no quorum. Its "agreed after" counts from the mend
# A fault should be over, and all well again, within 25 s (FAULT_S) of the first look at it; one that took longer says so in its line, which is no
# failure, since machines that run this do other things as well.
# --keep MS keeps the nodes' logs of a fault with a longer gap, too ($LAB_BUILD/lab-logs). --resume goes on with a run that was broken off or
# failed: what was ok (results are kept in $LAB_BUILD/faults.tsv) is not done again, what failed is.
# The last line counts: "# 38 ok (12 before), 1 failed, 1 skipped, 2 over 25 s"; run.sh shows it.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source-path=SCRIPTDIR source=pair.sh
. "$LAB_SRC/pair.sh"
# shellcheck source-path=SCRIPTDIR source=history.sh
. "$LAB_SRC/history.sh"

usage() {
	echo "usage: tests/lab/faults.sh [--full | --third] [--history] [--runs N] [--resume] [--seed N] [--keep MS] [--json FILE] [--table FILE] [FAULT...]" >&2
	exit 2
}

which=third history='' runs=1 resume='' seed=1 keep='' json='' table=''
names=()
while [ $# -gt 0 ]; do
	case "$1" in
	--full) which=full ;;
	--third) which=third ;;
	--history) history=yes ;;
	--runs) runs=${2?} && shift ;;
	--resume) resume=yes ;;
	--seed) seed=${2?} && shift ;;
	--keep) keep=${2?} && shift ;;
	--json) json=${2?} && shift ;;
	--table) table=${2?} && shift ;;
	-*) usage ;;
	*) names+=("$1") ;;
	esac
	shift
done
for f in "$json" "$table"; do
	[ -z "$f" ] || can_write "$f" || { echo "faults: $f cannot be written" >&2; exit 2; }
done
[[ $runs =~ ^[1-9][0-9]*$ && $keep =~ ^[0-9]*$ ]] || usage
RANDOM=$seed
results=$LAB_BUILD/faults${history:+-history}.tsv # name, title, worst gap ms, moved, agreed ms, result
entry=${LAB_ENTRY[0]}

head_value() { sed -n "s/^# $2: *//p" "$LAB_SRC/faults/$1.sh" | head -n 1; }
if [ ${#names[@]} -eq 0 ]; then
	for f in "$LAB_SRC"/faults/*.sh; do
		f=$(basename "$f" .sh)
		[ "$which" != third ] || [ "$(head_value "$f" third)" = yes ] || continue
		names+=("$f")
	done
fi
all=()
for ((i = 0; i < runs; i++)); do all+=("${names[@]}"); done
names=("${all[@]}")
if [ -n "$resume" ] && [ -e "$results" ]; then
	# a row that is no success is not a thing done: it goes, and the fault is tried again
	awk -F '\t' '$6 == "ok"' "$results" > "$results.new" && mv "$results.new" "$results"
else
	: > "$results"
fi

# --- the load -----------------------------------------------------------------------------------------------------------------
pair_begin() {
	# many faults are no flapping
	PAIR_PARAMS=(hang_timeout=4s trigger_limit=16 trigger_window=1min)
	if [ -n "$history" ]; then
		store_start
		trap leave EXIT
		pair_apps 1 bank "$HISTORY_STORE"
		PAIR_PARAMS+=(entry_mode=host relay=host sync=journal services=http1:80:8080)
	fi
	pair_create 1
	wait_for 120 pair_whole p1
	[ -n "$history" ] || probe_start "$entry"
}
load_begin() { # load_begin NAME NUMBER
	[ -n "$history" ] || { probe_mark "$1"; return; }
	history_start "$entry" -R "$1.$2" -p 80 -a $((10 * $2)) -w 4 -r 4
	probe_mark "$1"
}
load_end() { # REPLY: the longest gap of this fault, whole ms
	[ -n "$history" ] || { REPLY=$(probe_worst); return; }
	probe_stop || fail "$1: the history is wrong"
	jq -c '{acked, reads, repeats, unknown, violations}' "$LAB_DIR/$PROBE.json"
	[ "$(jq .acked "$LAB_DIR/$PROBE.json")" -gt 0 ] || fail "$1: no write was acknowledged"
	REPLY=$(jq '[.marks[].worst_write_gap_ms] | max | floor' "$LAB_DIR/$PROBE.json")
}

# --- what the faults use -----------------------------------------------------------------------------------------------------
roles() {
	holder=$(pair_primary p1)
	standby=$(pair_standby p1)
	other=
	for n in $(lab_all); do [ "$n" = "$holder" ] || [ "$n" = "$standby" ] || other=$n; done
}
whole() { wait_for "${1:-120}" pair_whole p1 && roles; }
# shellcheck disable=SC2031,SC2034 # ASK is read by a_node
moved_from() { # moved_from NODE [ASK]: another one is primary
	local ASK=${2-${ASK-}} now
	now=$(pair_primary p1)
	[ -n "$now" ] && [ "$now" != "$1" ]
}
wait_moved() { wait_for "${2:-20}" moved_from "$1" "$standby" || fail "$name: no failover"; } # wait_moved FROM [SECONDS], as the standby sees it
kill_vm() { on "$1" kill -s "${2:-KILL}" "$(vm_pid "$1" p1)"; }
heard() { # heard NODE: its guest's signs of life are missed from now on
	grep -E '"pair":"p1","what":"(guest|started)"' "$LAB_DIR/$1/var/log/vmpair/events.jsonl" | tail -n 1 | find_line 'is heard'
}
replaced() { [ "$(vm_pid "$1" p1 2> /dev/null)" != "$2" ]; } # replaced NODE PID
agree() { # Pacemaker shows the primary that vmpair has, and nothing is open twice
	local node p=
	for node in $(lab_all | grep -vxe "${old-none}") "${old-}"; do # whose daemon is hurt is asked last
		if [ -z "$node" ] || ! daemon running "$node" corosync 2> /dev/null || is_cut "$node"; then continue; fi
		p=$(pair_status "$node" p1 | jq -r '.holder // empty')
		[ -z "$p" ] || break
	done
	[ -n "$p" ] && [ "$(pcmk_promoted p1 "$node")" = "$p" ]
}
answers() { in_client curl -s -g --max-time 0.5 -o /dev/null "http://$entry/"; }
# The wall clock of all daemons of a node (wallclock.c), under which they run from its boot; clocks that do not step stay what they are.
set_clock() { # set_clock NODE SECONDS: in place, since the file is mapped
	printf '%-15s\n' "$2" | dd of="$LAB_DIR/$1/etc/vmpair/clock.lab" conv=notrunc status=none
}
step_clock() { # step_clock NODE SECONDS
	# shellcheck disable=SC2016 # of the inner shell
	assert on "$1" sh -c 'for name in corosync libvirtd vmpaird pacemakerd pacemaker-controld; do
		p=$(pgrep "^$(printf %.15s "$name")") || { echo "does not run: $name"; exit 1; }
		for p in $p; do grep -q wallclock.so "/proc/$p/maps" || { echo "not under it: $name"; exit 1; }; done; done'
	set_clock "$1" "$2"
	wait_for 10 clock_is_off "$1"
}
is_off() { # is_off SECONDS: that wall clock has been stepped
	local now
	now=$(date +%s)
	[ $(($1 > now ? $1 - now : now - $1)) -gt 3000 ]
}
clock_is_off() { # what the daemon itself takes for the time: events carry it, and this request is refused, but on record
	on "$1" timeout 5 vmpair voter lost "$1" --yes > /dev/null 2>&1 || true
	is_off "$(tail -n 1 "$LAB_DIR/$1/var/log/vmpair/events.jsonl" | jq '.t_ns / 1000000000 | floor')"
}
pacemaker_is_off() { # pacemaker_is_off NODE: in its log, once it had something to do
	local last
	last=$(tail -n 1 "$LAB_DIR/$1/var/log/pacemaker/pacemaker.log" | cut -d ' ' -f 1-3)
	[ -n "$last" ] && is_off "$(date +%s -d "$last")"
}
real_clock() { # steps it back
	set_clock "$1" +0
	wait_for 10 not clock_is_off "$1"
}
host_pid() { # host_pid NODE PID: what this machine calls that process of the node
	local f init list
	init=$(< "$LAB_DIR/$1.pid")
	list=$(grep -lsP "^NSpid:.*\t$2\$" /proc/[0-9]*/status) || true # some end meanwhile
	for f in $list; do
		if [ "${f%status}ns/pid" -ef "/proc/$init/ns/pid" ]; then
			f=${f%/status}
			echo "${f##*/}"
			return
		fi
	done
	return 1
}
host_vm() { host_pid "$1" "$(vm_pid "$1" p1)"; }                         # host_vm NODE
host_daemon() { host_pid "$1" "$(on "$1" cat "/run/lab/$2.pid")"; } # host_daemon NODE NAME
at_once() { # at_once COMMAND...: does all its harm within 100 ms
	local us=${EPOCHREALTIME/[.,]/}
	"$@"
	us=$((${EPOCHREALTIME/[.,]/} - us))
	log "done within $us us: $*"
	[ $us -le 100000 ] || fail "$name: not within 100 ms: $*"
}
keep_for() { sleep "$1"; } # how long a fault lasts; what follows from it is waited for

served() { # sets t1: when all agreed
	wait_for 30 answers || fail "$name: nobody answers"
	wait_for 10 agree || fail "$name: Pacemaker does not know the primary 10 s after the service is back"
	uptime_ms; t1=$REPLY
}
# one fault under load
one() {
	local name=$1 number=$2 before epoch0 t0 t1
	whole || fail "$name: the pair was not whole before"
	before=$holder
	epoch0=$(pair_epoch p1)
	load_begin "$name" "$number"
	# shellcheck source=/dev/null
	. "$LAB_SRC/faults/$name.sh"
	uptime_ms; t0=$REPLY
	inject
	if [ "$(head_value "$name" serves)" = no ]; then
		uptime_ms; t0=$REPLY # agreed after the mend
		mend
		served
	else
		served
		mend
	fi
	whole 120 || fail "$name: the pair is not whole again"
	wait_for 60 two_members || fail "$name: more than two members"
	whole 60 || fail "$name: the pair is not whole with two members"
	# What Pacemaker has still under way belongs to this fault: when it is killed, the DC may wait for 80 s for what it had asked it to do.
	wait_for 120 lab_settled || fail "$name: Pacemaker has still something to do"
	case "$(head_value "$name" moves)" in
	yes) [ "$(pair_epoch p1)" != "$epoch0" ] || fail "$name: the primary should have moved" ;;
	no) [ "$(pair_epoch p1)" = "$epoch0" ] || fail "$name: the primary moved from $before to $holder without need" ;;
	esac
	# each is judged by itself: with what Pacemaker has counted, a node would soon be over the migration-threshold
	on "$(a_node)" crm_resource --cleanup -r p1 > "$LAB_DIR/crm.log" 2>&1 || fail "$name: $(< "$LAB_DIR/crm.log")"
	lab_check_bindings > "$LAB_DIR/proof" 2>&1 || { cat "$LAB_DIR/proof" >&2; exit 3; }
	load_end "$name"
	printf '%s\t%s\t%s\n' "$REPLY" "$([ "$(pair_epoch p1)" = "$epoch0" ] && echo no || echo yes)" "$((t1 - t0))" > "$LAB_DIR/row"
}
two_members() {
	local n=0 node
	for node in $(lab_all); do ! on "$node" pgrep -f 'guest=p1,' > /dev/null 2>&1 || n=$((n + 1)); done
	[ $n = 2 ]
}

lab_up_clocks() {
	LAB_CLOCKS=yes
	lab_up
}
keep_logs() {
	rm -rf "$1"
	lab_logs "$1" 2> /dev/null || true
}
finish() {
	[ -n "$history" ] || probe_stop || true
	leave
	store_pid=
}
leave() {
	[ -z "$store_pid" ] || kill "$store_pid" 2> /dev/null || true
	lab_end > /dev/null 2>&1
}
trap leave EXIT
trap 'exit 130' INT TERM

echo "1..${#names[@]}"
FAULT_S=25
n=0 ok=0 before=0 failed=0 skipped=0 slow=0 up='' store_pid=
declare -A seen done_before
while IFS=$'\t' read -r name _; do done_before[$name]=$((${done_before[$name]-0} + 1)); done < "$results"
for name in "${names[@]}"; do
	n=$((n + 1))
	seen[$name]=$((${seen[$name]-0} + 1))
	if [ "${seen[$name]}" -le "${done_before[$name]-0}" ]; then
		ok=$((ok + 1)) before=$((before + 1))
		echo "ok $n - fault/$name # done before"
		continue
	fi
	if [ -z "$up" ]; then
		apart "$LAB_BUILD/faults.up.log" lab_up_clocks
		if [ $rc -ne 0 ]; then
			tail -n 5 "$LAB_BUILD/faults.up.log"
			echo "not ok $n - fault/$name (no lab)"
			exit 1
		fi
		lab_load
		pair_begin
		up=yes
	fi
	uptime_ms; t0=$REPLY
	log="$LAB_BUILD/fault${history:+-history}-$name.log"
	apart "$log" one "$name" $n	# a failed one does not end the matrix
	uptime_ms
	took="$(((REPLY - t0) / 1000)) s"
	if [ $((REPLY - t0)) -gt $((FAULT_S * 1000)) ]; then
		slow=$((slow + 1))
		took+=", over $FAULT_S s"
	fi
	title=$(head_value "$name" title) logs=$LAB_BUILD/lab-logs/fault-$name
	[ "$runs" -eq 1 ] || logs+=-$n
	case $rc in
	0)
		IFS=$'\t' read -r worst moved agreed < "$LAB_DIR/row"
		printf '%s\t%s\t%s\t%s\t%s\tok\n' "$name" "$title" "$worst" "$moved" "$agreed" >> "$results"
		echo "ok $n - fault/$name: gap $worst ms, moved: $moved ($took)"
		ok=$((ok + 1))
		[ "$worst" -le "${keep:-$worst}" ] || keep_logs "$logs"
		;;
	77)
		skipped=$((skipped + 1))
		echo "ok $n - fault/$name # SKIP $(tail -n 1 "$log")"
		;;
	*)
		failed=$((failed + 1))
		printf '%s\t%s\t-\t-\t-\tFAILED\n' "$name" "$title" >> "$results"
		echo "not ok $n - fault/$name ($took; log: $log)"
		sed 's/^/# /' "$log" | tail -n 12
		keep_logs "$logs"
		finish # the next one gets a fresh lab
		up=
		[ $rc -ne 3 ] || { echo "Bail out! two entries were open at once"; exit 3; }
		;;
	esac
done
[ -z "$up" ] || finish
counts="$ok ok"
[ $before -eq 0 ] || counts+=" ($before before)"
counts+=", $failed failed"
[ $skipped -eq 0 ] || counts+=", $skipped skipped"
[ $slow -eq 0 ] || counts+=", $slow over $FAULT_S s"
echo "# $counts"

if [ -n "$json" ]; then
	jq -R -s 'split("\n") | map(select(. != "") | split("\t") | {(.[0]): {title: .[1], worst_gap_ms: .[2], moved: .[3], agreed_ms: .[4], result: .[5]}}) | add' \
		< "$results" > "$json"
fi
if [ -n "$table" ]; then
	{
		echo '| fault | runs | worst gap seen by the client, ms | primary moved | two entries open | agreed after at most, ms | result |'
		echo '| --- | ---: | ---: | --- | ---: | ---: | --- |'
		awk -F '\t' '
			!($1 in runs) {order[++n] = $1}
			{
				gsub(/[|]/, "\\|", $2)
				runs[$1]++; title[$1] = $2
				if ($6 != "ok") {failed[$1]++; next}
				if ($3 > worst[$1]) worst[$1] = $3
				if ($5 > agreed[$1]) agreed[$1] = $5
				moved[$1] = moved[$1] == "" || moved[$1] == $4 ? $4 : "some times"
			}
			END {
				for (i = 1; i <= n; i++) {
					f = order[i]
					printf "| %s | %d | %s | %s | 0 | %s | %s |\n", title[f], runs[f], worst[f] == "" ? "-" : worst[f],
						moved[f] == "" ? "-" : moved[f], agreed[f] == "" ? "-" : agreed[f], failed[f] ? failed[f] " failed" : "ok"
				}
			}' "$results"
	} > "$table"
fi
[ $failed -eq 0 ]
