#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Entry mode host: the entry addresses are on the primary's host and a server of the host answers there, nowhere else. Two pairs on one
# bridge, IPv4 and IPv6; moved, failed over, hurt from outside, taken over by a restarted daemon, deleted.
# vmpaird: yes
# timeout: 400
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
# shellcheck source-path=SCRIPTDIR source=../pair.sh
. "$LAB_SRC/pair.sh"
lab_load

entry=${LAB_ENTRY[0]} entry6=${LAB_ENTRY6[0]}
for n in $(lab_all); do daemon start "$n" svc; done
PAIR_PARAMS=(entry_mode=host)
pair_create 1
pair_create 2

carries() { # carries NODE [PAIR-INDEX]: both addresses are on its bridge
	local list
	list=$(on_net "$1" ip -br addr show br-entry)
	[[ $list == *" ${LAB_ENTRY[${2:-0}]}/32"* && $list == *" ${LAB_ENTRY6[${2:-0}]}/64"* ]]
}
carries_none() {
	local list
	list=$(on_net "$1" ip -br addr show br-entry)
	[[ $list != *" $entry/"* && $list != *" $entry6/"* ]]
}
roles() {
	holder=$(pair_primary p1)
	standby=$(pair_standby p1)
	epoch=$(pair_epoch p1)
}
bridge_mac() { on_net "$1" ip -br link show br-entry | awk '{print $3}'; }
client_sees() { # client_sees NODE: the client's caches have its bridge behind both addresses
	in_client ip neigh show | find_line "^$entry .*lladdr $(bridge_mac "$1")" &&
		in_client ip neigh show | find_line "^$entry6 .*lladdr $(bridge_mac "$1")"
}
served_by() { # served_by NODE: it answers the client over both families, has the addresses, and is the only one to have them
	local n
	[ "$(ASK=$1 pair_primary p1)" = "$1" ] && carries "$1" && probe_answers "$entry" "$1" && probe_answers "[$entry6]" "$1" || return 1
	for n in $(lab_all); do
		[ "$n" = "$1" ] || is_cut "$n" || ! daemon running "$n" vmpaird || carries_none "$n" || return 1
	done
}
whole() {
	wait_for "${1:-90}" pair_whole p1 || fail 'p1 does not become whole'
	roles
	wait_for 10 served_by "$holder" || fail "$holder does not serve p1"
}
moves() { # moves SECONDS: the standby of before serves
	wait_for "$1" served_by "$standby" || fail "$standby does not serve p1"
	wait_for 5 client_sees "$standby" || fail "the client was not told: $(in_client ip neigh show)"
}
# What leaves a node from an entry address, seen on the client's cable: MAC addresses tell which node.
watch_start() {
	in_client tcpdump -i cl0 -l -n -e "(src host $entry or src host $entry6 or arp src host $entry) and not ether dst ff:ff:ff:ff:ff:ff" \
		> "$LAB_DIR/seen" 2> /dev/null &
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

wait_for 90 pair_whole p2 || fail 'p2 does not become whole'
whole
assert_eq '' "$(on_net "$holder" ip -br link | awk '/^vpe/ {print $1}')" 'entry taps of guests'
mark() { # for both clients
	probe_mark "$1"
	PROBE=probe6 probe_mark "$1"
}
probe_start "$entry"
PROBE=probe6 probe_start "$entry6"

log 'the host where it is closed is a client like any other; the one where it is open reaches it too'
for n in $(lab_all); do
	assert_eq "member $holder" "$(on "$n" curl -s -g --max-time 2 "http://$entry/" | head -n 1)" "answer to $n"
	assert_eq "member $holder" "$(on "$n" curl -s -g --max-time 2 "http://[$entry6]/" | head -n 1)" "answer to $n over IPv6"
done

log 'switched over and back: announced with the MAC address of each bridge'
for i in 1 2; do
	mark "switchover $i"
	on "$holder" vmpair switchover p1 > /dev/null
	moves 10
	whole
done

log 'somebody adds the address on the standby: nothing of it leaves'
watch_start
on_net "$standby" ip addr add "$entry/24" dev br-entry
on_net "$standby" ip addr add "$entry6/64" dev br-entry nodad
in_client ip neigh flush dev cl0
mark 'address of a stranger'
for i in 1 2 3 4 5; do
	in_client ip neigh flush dev cl0
	wait_for 5 probe_answers "$entry" "$holder"
	wait_for 5 probe_answers "[$entry6]" "$holder"
done
on_net "$standby" ping -c 2 -i 0.2 -W 1 -I "$entry" 10.77.0.250 > /dev/null && fail 'a closed entry address sends'
on_net "$standby" ip addr del "$entry/24" dev br-entry
on_net "$standby" ip addr del "$entry6/64" dev br-entry
watch_end
assert grep -q "^[^ ]* $(bridge_mac "$holder")" "$LAB_DIR/seen"
assert not grep "^[^ ]* $(bridge_mac "$standby")" "$LAB_DIR/seen"

log 'a foreign flush, programs taken off, addresses removed by hand: clients notice little, and all is put back'
mark hurt
for n in $(lab_all); do
	on "$n" nft flush ruleset
	on "$n" nft delete table inet vmpair 2> /dev/null || true
done
fence_stands() { on "$1" nft list table inet vmpair | grep -q "$entry" && on "$1" nft list table arp vmpair | grep -q "$entry"; }
for n in "$holder" "$standby"; do wait_for 5 fence_stands "$n" || fail "no fence on $n"; done
for n in "$holder" "$standby"; do
	before=$(events_count "$n" p1 gate)
	if on "$n" test -e /sys/fs/bpf/vmpair/p1/egress; then
		on "$n" bpftool link detach pinned /sys/fs/bpf/vmpair/p1/egress
	else
		on "$n" tc qdisc del dev br-entry clsact
	fi
	wait_for 5 eval "grep '\"p1\"' '$LAB_DIR/$n/var/log/vmpair/events.jsonl' | grep -q program-restored" || fail "$n: program not put back"
done
on_net "$holder" ip addr del "$entry/32" dev br-entry
on_net "$holder" ip addr del "$entry6/64" dev br-entry
wait_for 5 served_by "$holder"
assert_eq "$epoch" "$(pair_epoch p1)" epoch
wait_for 10 pair_whole p2

log 'the VM of the primary is killed'
mark vm-kill
old=$holder
on "$old" kill -KILL "$(vm_pid "$old" p1)"
moves 10
wait_for 5 carries_none "$old" || fail "$old keeps the address"
whole

log 'the daemon of the primary is killed: the address stays behind on its host, and nothing of it leaves any more'
mark daemon-kill
old=$holder
daemon kill "$old" vmpaird
(
	ASK=$standby
	moves 15
)
assert carries "$old"
watch_start
for i in 1 2 3 4 5; do
	in_client ip neigh flush dev cl0
	wait_for 5 probe_answers "$entry" "$standby"
	wait_for 5 probe_answers "[$entry6]" "$standby"
done
watch_end
assert not grep "^[^ ]* $(bridge_mac "$old")" "$LAB_DIR/seen"
daemon start "$old" vmpaird
wait_for 20 carries_none "$old" || fail "$old keeps the address"
whole

log 'a planned restart of the daemon of the primary: taken up again, no gap'
mark restart
daemon stop "$holder" vmpaird
assert carries "$holder"
daemon start "$holder" vmpaird
old=$holder
whole 30
assert_eq "$old" "$holder" 'primary after a planned restart'

log 'the node of the primary is cut off, then healed'
mark cut
old=$holder
cut_off "$old"
moves 15
heal "$old"
whole 120
wait_for 10 eval "[ '$old' = '$holder' ] || carries_none '$old'"

PROBE=probe6 probe_stop
probe_stop
for s in 'switchover 1' 'switchover 2' vm-kill daemon-kill restart cut; do
	log "gap of $s: $(probe_value "$s" max_gap_ms) ms, over IPv6 $(jq --arg s "$s" '.segments[] | select(.name == $s).max_gap_ms' "$LAB_DIR/probe6.json")"
done
assert_le "$(probe_value restart 'max_gap_ms | floor')" 500 'gap by a planned restart, in ms'
assert_le "$(probe_value hurt 'max_gap_ms | floor')" 1500 'gap by what was hurt, in ms'

log 'both pairs deleted: nothing is left of them'
wait_for 60 lab_settled
for p in p1 p2; do on n1 pcs resource delete "$p" > "$LAB_DIR/pcs.log" 2>&1 || fail "pcs: $(cat "$LAB_DIR/pcs.log")"; done
clean() {
	carries_none "$1" && ! carries "$1" 1 && ! on "$1" test -e /sys/fs/bpf/vmpair/p1 && ! on "$1" nft list table inet vmpair 2> /dev/null &&
		! on "$1" nft list table arp vmpair 2> /dev/null && ! on_net "$1" tc qdisc show dev br-entry | find_line clsact
}
for n in $(lab_all); do wait_for 30 clean "$n" || fail "something is left on $n"; done
