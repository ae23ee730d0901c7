#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The entry gate hurt from outside: foreign rulesets, program taken off, tap re-created, carrier lost, daemon stopped at the worst moment,
# killed, purged. And the proof that the binding proof can fail.
# vmpaird: yes
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
# shellcheck source-path=SCRIPTDIR source=../pair.sh
. "$LAB_SRC/pair.sh"
lab_load

hurt=$LAB_BUILD/tests/lab/hurt
entry=${LAB_ENTRY[0]} entry6=${LAB_ENTRY6[0]} mac=${LAB_ENTRY_MAC[0]}
pins=/sys/fs/bpf/vmpair/p1
pair_create 1
tap_of() { on "$1" cat "$pins/tap" 2> /dev/null || on_net "$1" ip -br link | awk '/^vpe/ && !n++ {print $1}'; }
fence_stands() { on "$1" nft list table bridge vmpair | grep -q 'iif != @armed.*drop'; }
roles() {
	holder=$(pair_primary p1)
	standby=$(pair_standby p1)
	epoch=$(pair_epoch p1)
}
moved() { # the standby of before is primary, in vmpair's eyes and the client's
	[ "$(ASK=$standby pair_primary p1)" = "$standby" ] && probe_answers "$entry" "p1-${standby#n}"
}
whole() {
	wait_for "${1:-90}" pair_whole p1 || fail 'p1 does not become whole'
	roles
}
watch_announcements() { # of the entry, as the client's switch port hears them; one line each: time and kind
	: > "$LAB_DIR/announced"
	in_client tcpdump -i cl0 -l -n -tt "ether src $mac and (arp or icmp6)" 2> /dev/null |
		awk -v e="$entry" -v f="$entry6" -v out="$LAB_DIR/announced" '
			/ARP/ && index($0, e) {print $1, "arp" >> out; fflush(out)}
			/neighbor advertisement/ && index($0, f) {print $1, "na" >> out; fflush(out)}' &
	wait_for 10 eval "in_client cat /proc/net/packet | grep -q ' 0003 '"
}
watch_end() {
	local pid ino
	ino=$(stat -L -c %i "$(lab_ns cl)")
	for pid in $(pgrep -x tcpdump); do
		[ "$(stat -L -c %i "/proc/$pid/ns/net")" != "$ino" ] || kill "$pid"
	done
	wait_for 5 eval "! in_client cat /proc/net/packet | grep -q ' 0003 '"
}
announced() { awk -v k="$1" '$2 == k {n++} END {print n + 0}' "$LAB_DIR/announced"; }
announced_more() { [ "$(announced "$1")" -gt "$2" ]; }
spread() { # the announcements of a kind come at once, after 100 ms, 500 ms, 2 s: at least four times, further and further apart
	awk -v k="$1" '$2 != k {next} !n++ {first = last = $1; times = 1} $1 - last > 0.04 {times++; gap[times] = $1 - last} {last = $1}
		END {print times, last - first; exit !(times >= 4 && gap[times] > gap[2] && last - first > 1.8)}' "$LAB_DIR/announced"
}

whole
probe_start "$entry"

log 'announcements: again and again with growing distance, over both families'
watch_announcements
on "$holder" vmpair switchover p1 > /dev/null
wait_for 15 spread arp || fail "gratuitous ARP: $(cat "$LAB_DIR/announced")"
wait_for 5 spread na || fail "neighbour advertisements: $(cat "$LAB_DIR/announced")"
whole

log 'the uplink of the primary loses its carrier: no failover; announced again when it is back'
link_down "$holder" u
wait_for 10 events_more "$holder" p1 gate 0
before=$(announced arp)
link_up "$holder" u
wait_for 10 announced_more arp "$before" || fail 'not announced after the carrier came back'
watch_end
wait_for 10 probe_answers "$entry" "p1-${holder#n}"
assert_eq "$epoch" "$(pair_epoch p1)" epoch

log 'a foreign nft flush ruleset on all nodes: the fence stands, clients notice nothing'
probe_mark flush
for n in $(lab_all); do
	on "$n" nft flush ruleset
	on "$n" nft delete table bridge vmpair 2> /dev/null || true
done
for n in $(lab_all); do wait_for 5 fence_stands "$n" || fail "no fence on $n"; done
wait_for 10 pair_whole p1
assert_eq "$epoch" "$(pair_epoch p1)" epoch

log 'the program is taken off: it is put back, the standby stays shut, the primary open'
probe_mark detach
take_off() { # take_off NODE DIRECTION
	if on "$1" test -e "$pins/$2"; then
		on "$1" bpftool link detach pinned "$pins/$2"
	else
		on "$1" tc qdisc del dev "$(tap_of "$1")" clsact
	fi
}
for n in "$holder" "$standby"; do
	before=$(grep -c 'program-restored' "$LAB_DIR/$n/var/log/vmpair/events.jsonl") || true
	take_off "$n" ingress
	wait_for 5 eval "[ \"\$(grep -c program-restored '$LAB_DIR/$n/var/log/vmpair/events.jsonl')\" -gt $before ]" || fail "$n: not put back"
done
wait_for 5 probe_answers "$entry" "p1-${holder#n}"
assert_eq "$epoch" "$(pair_epoch p1)" epoch

log 'taken off again within a minute: the port of the primary is disabled, the standby takes over, the member is started anew'
probe_mark detach-again
take_off "$holder" egress
wait_for 15 moved || fail 'no failover from a port that had to be disabled'
whole

log 'the tap of the standby is deleted and made again by somebody: not one frame passes; the member is started anew'
tap=$(tap_of "$standby")
before=$(events_count "$standby" p1 ended)
watch_frames() { # watch_frames MAC: to $LAB_DIR/frames-seen
	in_client tcpdump -i cl0 -l -n -e "ether src $1" > "$LAB_DIR/frames-seen" 2> /dev/null &
	wait_for 10 eval "in_client cat /proc/net/packet | grep -q ' 0003 '"
}
tap_begin() { # tap_begin NAME MAC: hurt makes the tap and sends
	rm -f "$LAB_DIR/tap.in" "$LAB_DIR/tap.out" # the word of the one before is not this one's
	mkfifo "$LAB_DIR/tap.in"
	on "$standby" "$hurt" tap "$1" br-entry "$2" < "$LAB_DIR/tap.in" > "$LAB_DIR/tap.out" 2>&1 &
	tapper=$!
	exec {tap_fd}> "$LAB_DIR/tap.in"
	wait_for 10 grep -q sent "$LAB_DIR/tap.out" || fail "hurt: $(cat "$LAB_DIR/tap.out")"
}
tap_end() {
	exec {tap_fd}>&-
	wait "$tapper" || fail "hurt tap ended with $?: $(cat "$LAB_DIR/tap.out")"
}
watch_frames 02:66:00:00:00:01 # first how it looks where nothing is gated
tap_begin stranger 02:66:00:00:00:01
wait_for 10 grep -q 02:66 "$LAB_DIR/frames-seen" || fail 'the frames of a tap of nobody are not seen: this test would prove nothing'
tap_end
watch_end
watch_frames 02:66:00:00:00:02
on_net "$standby" ip link del "$tap"
tap_begin "$tap" 02:66:00:00:00:02
wait_for 10 events_more "$standby" p1 ended "$before" || fail 'the loss of the tap was not noticed'
tap_end
whole
watch_end
assert not grep 02:66 "$LAB_DIR/frames-seen"

log 'the daemon of the primary stops between computing an expiry and storing it: failover; the late store opens nothing'
on "$holder" mount --bind "$LAB_BUILD/tests/lab/vmpaird-faulty" /usr/sbin/vmpaird
probe_mark planned-restart
daemon stop "$holder" vmpaird
daemon start "$holder" vmpaird
wait_for 20 pair_whole p1 || fail 'not whole after a planned restart of the daemon'
assert_eq "$holder" "$(pair_primary p1)" 'primary after a planned restart'
probe_mark stopped
on "$holder" touch /run/vmpair/fault.stop
(
	ASK=$standby
	wait_for 15 moved
) || fail 'no failover from a stopped daemon'
daemon thaw "$holder" vmpaird
whole 30
assert probe_answers "$entry" "p1-${holder#n}"

log 'the template is gone when the daemon of the primary starts again: its port is taken over as it was'
probe_mark no-template
daemon stop "$holder" vmpaird
on "$holder" mv /etc/vmpair/p1.xml /etc/vmpair/p1.away
daemon start "$holder" vmpaird
wait_for 20 pair_whole p1 || fail 'not whole without the template'
on "$holder" mv /etc/vmpair/p1.away /etc/vmpair/p1.xml
assert_eq "$holder" "$(pair_primary p1)" 'primary after a restart without the template'
assert_eq "$epoch" "$(pair_epoch p1)" epoch

log 'the port of the primary cannot be taken over: its VM is ended, the standby takes over'
probe_mark no-port
old=$holder tap=$(tap_of "$holder")
daemon stop "$old" vmpaird
on_net "$old" ip link del "$tap"
on_net "$old" ip link add "$tap" type bridge
daemon start "$old" vmpaird
(
	ASK=$standby
	wait_for 15 moved
) || fail 'no failover from a port that cannot be taken over'
on_net "$old" ip link del "$tap"
whole 120

log 'the daemon of the primary is killed: the entry shuts when the lease ends, the standby takes over; the VM is taken up again'
pid=$(vm_pid "$holder" p1)
old=$holder
probe_mark killed
daemon kill "$old" vmpaird
(
	ASK=$standby
	wait_for 15 moved
) || fail 'no failover from a killed daemon'
daemon start "$old" vmpaird
whole 60
assert_eq "$pid" "$(vm_pid "$old" p1)" 'process of the VM that outlived its daemon'
probe_stop
assert_le "$(probe_value flush 'max_gap_ms | floor')" 500 'gap by the foreign flush, in ms'
assert_le "$(probe_value detach 'max_gap_ms | floor')" 1500 'gap by the detached program, in ms'

log 'the proof of bindings so far holds, and fails with a daemon whose leases end late'
assert lab_check_bindings
on "$holder" test /usr/sbin/vmpaird -ef "$LAB_BUILD/tests/lab/vmpaird-faulty" || {
	on "$holder" mount --bind "$LAB_BUILD/tests/lab/vmpaird-faulty" /usr/sbin/vmpaird
	daemon stop "$holder" vmpaird
	daemon start "$holder" vmpaird
	whole 30
}
on "$holder" touch /run/vmpair/fault.late
stores_late() { tail -n 1 "$LAB_DIR/$holder/var/log/vmpair/binding.log" | awk '{exit !($2 == "refresh" && $5 - $1 > 2e9)}'; }
wait_for 5 stores_late || fail 'the fault is not in force'
daemon freeze "$holder" vmpaird
(
	ASK=$standby
	wait_for 15 pair_holder_is p1 "$standby"
) || fail 'no failover from a stopped daemon'
lab_check_bindings > "$LAB_DIR/proof" && fail 'two entries were open at once and the check did not see it'
grep -q 'p1' "$LAB_DIR/proof" || fail "the check says: $(cat "$LAB_DIR/proof")"

log 'purge: refused while the daemon runs, then nothing is left'
on "$standby" vmpaird --purge 2> "$LAB_DIR/purge.out" && fail 'vmpaird --purge went ahead beside a running daemon'
grep -q . "$LAB_DIR/purge.out"
for n in $(lab_all); do
	daemon kill "$n" pacemaker
	daemon kill "$n" vmpaird
	rm "$LAB_DIR/$n/var/log/vmpair/binding.log" # proves the contrary, as it should
done
for n in $(lab_all); do
	on "$n" pkill -KILL qemu-system || true
	wait_for 10 not on "$n" pgrep qemu-system
	assert on "$n" vmpaird --purge
	assert not on "$n" test -e /sys/fs/bpf/vmpair
	assert not on "$n" nft list table bridge vmpair 2> /dev/null
	assert_eq '' "$(on_net "$n" ip -br link | awk '/^vp/ {print $1}')" "links of vmpair on $n"
done
