#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Entry mode keepalived: VRRP moves the entry addresses and follows vmpaird through the track file, the gate applies all the same. The
# configuration is the one of vmpair-keepalived(7), with adverts every 100 ms: what an interval adds is told from what the machine adds.
# vmpaird: yes
# full: yes
# timeout: 400
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
# shellcheck source-path=SCRIPTDIR source=../pair.sh
. "$LAB_SRC/pair.sh"
lab_load
command -v keepalived > /dev/null || { echo 'skipped: no keepalived'; exit 77; }

entry=${LAB_ENTRY[0]} entry6=${LAB_ENTRY6[0]}
PAIR_SECOND=10.77.0.111
advert_ms=100
for n in $(lab_all); do
	pair_keepalived_conf "$n" 1 | sed 's/advert_int .*/advert_int 0.1/' > "$LAB_DIR/$n/etc/keepalived/keepalived.conf"
	assert grep -q 'advert_int 0.1$' "$LAB_DIR/$n/etc/keepalived/keepalived.conf"
	on "$n" keepalived -t -f /etc/keepalived/keepalived.conf > "$LAB_DIR/keepalived.log" 2>&1 || fail "keepalived -t: $(cat "$LAB_DIR/keepalived.log")"
	daemon start "$n" svc
	daemon start "$n" keepalived
done
track() { on "$1" cat /run/vmpair/vrrp/p1 2> /dev/null; }
carries() {
	local list
	list=$(on_net "$1" ip -br addr show br-entry)
	[[ $list == *" $entry/32"* && $list == *" $PAIR_SECOND/32"* && $list == *" $entry6/64"* ]]
}
carries_none() {
	local list
	list=$(on_net "$1" ip -br addr show br-entry) && ! find_line -F -e " $entry/" -e " $PAIR_SECOND/" -e " $entry6/" <<< "$list"
}
none_carries() { for n in $(lab_all); do carries_none "$n" && [ "$(track "$n")" = 1 ] || return 1; done; }
vrrp() { pair_status "$1" p1 > /dev/null; grep '"p1"' "$LAB_DIR/$1/var/log/vmpair/events.jsonl" | jq -r 'select(.what == "vrrp") | .text' | tail -n 1; }
served_by() { # served_by NODE: it has the addresses and answers, VRRP is master there and at fault elsewhere
	local n
	[ "$(ASK=$1 pair_primary p1)" = "$1" ] && carries "$1" && [ "$(track "$1")" = 0 ] && [ "$(vrrp "$1")" = MASTER ] &&
		probe_answers "$entry" "$1" && probe_answers "$PAIR_SECOND" "$1" && probe_answers "[$entry6]" "$1" || return 1
	for n in $(lab_all); do
		[ "$n" = "$1" ] || is_cut "$n" || { carries_none "$n" && [ "$(track "$n")" = 1 ]; } || return 1
	done
}
whole() {
	wait_for "${1:-90}" pair_whole p1 || fail 'p1 does not become whole'
	holder=$(pair_primary p1)
	standby=$(pair_standby p1)
	wait_for 10 served_by "$holder" || fail "$holder does not serve p1: track file $(track "$holder"), VRRP $(vrrp "$holder")"
}
moves() { wait_for "$1" served_by "$standby" || fail "$standby does not serve p1: track file $(track "$standby"), VRRP $(vrrp "$standby")"; }

log 'before there is a pair: keepalived is at fault everywhere'
wait_for 10 none_carries || fail 'somebody has the address without a pair'
PAIR_PARAMS=(entry_mode=keepalived)
pair_create 1
whole
segment=none
mark() { # for both clients, and who compares the address with the gate's word
	local n
	for n in $(lab_all); do echo "$segment" >&"${watch_fd[$n]}"; done
	segment=$1
	probe_mark "$1"
	PROBE=probe6 probe_mark "$1"
}
declare -A watch_fd watcher
for n in $(lab_all); do
	mkfifo "$LAB_DIR/watch-$n.in"
	on "$n" "$LAB_BUILD/tests/lab/entrywatch" /sys/fs/bpf/vmpair/p1/map br-entry "$entry" < "$LAB_DIR/watch-$n.in" > "$LAB_DIR/watch-$n" &
	watcher[$n]=$!
	exec {fd}> "$LAB_DIR/watch-$n.in"
	watch_fd[$n]=$fd
done
probe_start "$entry"
PROBE=probe6 probe_start "$entry6"

log 'switched over and back'
for i in 1 2; do
	mark "switchover $i"
	on "$holder" vmpair switchover p1 > /dev/null
	moves 10
	whole
done

log 'the VM of the primary is killed'
mark vm-kill
on "$holder" kill -KILL "$(vm_pid "$holder" p1)"
moves 10
whole

for how in freeze kill; do
	log "the daemon of the primary: $how; VRRP gives up when the lease ends, without it"
	mark "daemon-$how"
	old=$holder
	daemon "$how" "$old" vmpaird
	(
		ASK=$standby
		moves 15
	)
	assert_eq 1 "$(track "$old")" "track file of $old"
	assert carries_none "$old"
	if [ "$how" = freeze ]; then daemon thaw "$old" vmpaird; else daemon start "$old" vmpaird; fi
	whole
done

log 'a planned restart of the daemon, and of keepalived on the primary'
mark restart
old=$holder
daemon stop "$holder" vmpaird
daemon start "$holder" vmpaird
whole 30
assert_eq "$old" "$holder" 'primary after a planned restart'
mark guard-kill
guards() { on "$holder" pgrep -f vmpair-vrrp-guard | wc -l; }
assert_eq 1 "$(guards)" 'guards of the track file'
on "$holder" pkill -KILL -f vmpair-vrrp-guard
wait_for 10 eval "[ \"\$(guards)\" = 1 ]"
whole

log 'keepalived ends on the primary: the standby takes over; it is started again and the member is a standby'
mark keepalived-stop
old=$holder
daemon stop "$old" keepalived
moves 15
assert carries_none "$old"
daemon start "$old" keepalived
whole

PROBE=probe6 probe_stop
probe_stop
for s in 'switchover 1' 'switchover 2' vm-kill daemon-freeze daemon-kill restart keepalived-stop; do
	log "gap of $s: $(probe_value "$s" max_gap_ms) ms, over IPv6 $(jq --arg s "$s" '.segments[] | select(.name == $s).max_gap_ms' "$LAB_DIR/probe6.json")"
done
assert_le "$(probe_value restart 'max_gap_ms | floor')" 500 'gap by a planned restart, in ms'

log 'VRRP and the gate never disagreed for longer than an advert interval (and its skew time, and what the machine adds)'
for n in $(lab_all); do
	printf '%s\nquit\n' "$segment" >&"${watch_fd[$n]}"
	wait "${watcher[$n]}" || fail "entrywatch of $n ended with $?"
	log "longest disagreement on $n, in ms: $(paste -sd , "$LAB_DIR/watch-$n")"
	assert_eq 9 "$(wc -l < "$LAB_DIR/watch-$n")" "segments on $n"
done
sort -n "$LAB_DIR"/watch-n? | tail -n 1 > "$LAB_DIR/disagreed"
assert_le 1 "$(awk '{print int($1)}' "$LAB_DIR/disagreed")" 'longest disagreement in ms, which cannot be none'
assert_le "$(awk '{print int($1)}' "$LAB_DIR/disagreed")" $((advert_ms + advert_ms / 128 + 30)) "longest disagreement in ms ($(cat "$LAB_DIR/disagreed"))"

log 'the pair deleted: keepalived stays at fault, nothing else is left'
wait_for 60 lab_settled
on n1 pcs resource delete p1 > "$LAB_DIR/pcs.log" 2>&1 || fail "pcs: $(cat "$LAB_DIR/pcs.log")"
wait_for 30 none_carries
for n in $(lab_all); do
	wait_for 10 not on "$n" pgrep -f vmpair-vrrp-guard
	wait_for 10 not on "$n" test -e /sys/fs/bpf/vmpair/p1
done
