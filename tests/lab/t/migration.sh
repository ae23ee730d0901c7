#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Virtual machines that an operator migrates by hand: no failover while one is, and never a second copy of one that has left, known to have
# arrived or not. A copy's entry is closed where it arrives.
# vmpaird: yes
# timeout: 500
# full: yes
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
# shellcheck source-path=SCRIPTDIR source=../pair.sh
. "$LAB_SRC/pair.sh"
# shellcheck source-path=SCRIPTDIR source=../trigger.sh
. "$LAB_SRC/trigger.sh"
lab_load

uri() { echo "qemu+unix:///system?socket=/proc/$(< "$LAB_DIR/$1.pid")/root/run/libvirt/libvirt-sock"; }
# libvirt makes no port that only vmpaird makes: an operator makes one for the target. It is put into the bridge, too, where it must stay shut.
port() { on "$1" virsh -q domiflist p1 | awk '$1 ~ /^vpe/ {print $1}'; } # port NODE: entry port of the virtual machine there
port_made() { # port_made NODE PORT
	on "$1" sh -c "[ -e /sys/class/net/$2 ] || ip tuntap add dev $2 mode tap; ip link set $2 master br-entry up"
}
migrate() { # migrate FROM TO [OPTION...]
	port=$(port "$1")
	[ -n "$port" ] || fail 'no entry port'
	port_made "$2" "$port"
	on "$2" mkdir -p -m 711 /run/vmpair/signs # where the copy's channel to vmpair-guest is made
	virsh -q -c "$(uri "$1")" migrate "${@:3}" --unsafe p1 "$(uri "$2")" --migrateuri "tcp://$(cluster_address "$2")"
}
cluster_address() { echo "10.78.0.$(lab_node_id "$1")"; }
paused_here() { [ "$(on "$1" virsh -q domstate p1)" = paused ]; }
runs_here() { [ "$(on "$1" virsh -q domstate p1 2> /dev/null)" = running ]; }
under_way() { # the same primary and epoch; what arrives is a process already, but does not run
	[ "$(pair_primary p1)" = "$primary" ] && [ "$(pair_epoch p1)" = "$epoch" ] && paused_here "$primary" && paused_here "$third"
}
copy_answers() { # the copy lives, by its internal address, and says who it is
	on "$third" curl -s --max-time 2 "http://$(pair_net 1 | sed 's/0$//')$(lab_node_id "$primary")/" | grep -q "p1-$(lab_node_id "$primary")"
}
# Its port is in the bridge, with the entry's address and MAC behind it. Asked on its own host, and of the client that asked all the time.
shut_there() {
	local got
	got=$(on "$third" curl -s --max-time 2 "http://${LAB_ENTRY[0]}/") && [[ $got == "member p1-$(lab_node_id "$standby")"* ]] &&
		! PROBE=p1 probe_saw "change .* p1-$(lab_node_id "$primary")\$"
}
fails_to_start() { # fails_to_start NODE PATTERN: the newest start there was refused, for that reason
	on "$1" vmpair events -n 300 --output=json p1 | jq -e --arg n "$1" --arg p "$2" --argjson t "$step_ms" '
		[.events[] | select(.node == $n and .what == "start-failed" and .ts >= $t)] | last | .text // "" | test($p)' > /dev/null
}
pair_standby_is() { [ "$(pair_standby p1)" = "$1" ]; }
unchanged() { [ "$(members p1)" = "$settled" ]; }
none_of() { # none_of NODE...: no virtual machine of the pair runs there
	local n
	for n; do no_member p1 "$n" || return 1; done
}
end_copy() { on "$third" virsh -q destroy p1 2> "$LAB_DIR/virsh.log" || none_of "$third"; } # Pacemaker may have ended it, without vmpaird
alone() { # alone NODE: it serves, and nothing was started where the virtual machine had been
	[ "$(pair_primary p1)" = "$1" ] && none_of "$primary" && probe_answers "${LAB_ENTRY[0]}" "p1-$(lab_node_id "$1")"
}

triggers_begin trigger_limit=16
third=$(other_node "$primary" "$standby")

step 'while it is being migrated, for long: no failover'
virsh -q -c "$(uri "$primary")" migrate-setspeed p1 1
migrate "$primary" "$third" > "$LAB_DIR/migrate.log" 2>&1 &
mover=$!
wait_for 20 paused_here "$primary" || fail "migrate: $(cat "$LAB_DIR/migrate.log")"
wait_for 20 status_says "$standby" p1 'its VM is being migrated: no failover for that'
during 4 under_way || fail "$step: something moved: $(pair_status "$standby" p1)"
assert_eq "$pid" "$(member_pid p1 "$primary")" "$step: process of the primary"
wait_for 10 status_says "$standby" p1 "its VM stands still for a migration to $third"
assert virsh -q -c "$(uri "$primary")" domjobabort p1
wait $mover && fail "the migration has ended all the same"
wait_for 20 runs_here "$primary"
as_before
wait_for 20 none_of "$third"
virsh -q -c "$(uri "$primary")" migrate-setspeed p1 1000

step 'it ends while it is being migrated: started again, once all have said that they do not have it'
virsh -q -c "$(uri "$primary")" migrate-setspeed p1 1
migrate "$primary" "$third" > "$LAB_DIR/migrate.log" 2>&1 &
mover=$!
wait_for 20 paused_here "$primary" || fail "migrate: $(cat "$LAB_DIR/migrate.log")"
on "$primary" kill -KILL "$pid"
wait $mover && fail "the migration has ended all the same"
wait_for 20 pair_holder_is p1 "$standby"
wait_for 30 event_seen "$primary" left 'no other host has the virtual machine that was migrated'
# Three starts have failed where it was by then, maybe, and Pacemaker goes to the third node: what it knows of the first must not count as a member.
whole p1 60
settled=$(members p1)
during 10 unchanged || fail "$step: members come and go: $settled, then $(members p1)"
assert on n1 crm_resource --cleanup -r p1 > "$LAB_DIR/crm.log" 2>&1

step 'it has left: the standby takes over, and there is no second copy'
third=$(other_node "$primary" "$standby")
migrate "$primary" "$third" --live > "$LAB_DIR/migrate.log" 2>&1 || fail "migrate: $(cat "$LAB_DIR/migrate.log")"
wait_for 20 alone "$standby"
wait_for 20 status_says "$standby" p1 "$third: the VM of the member of $primary was migrated here, where its entry stays closed"
wait_for 60 fails_to_start "$primary" "its virtual machine was migrated to $third and runs there"
wait_for 30 copy_answers
wait_for 60 fails_to_start "$third" "the virtual machine of another node's member, migrated here, has this name" # where Pacemaker goes next
during 5 alone "$standby"
during 3 shut_there || fail "$step: the copy answers at the entry address"
assert end_copy
assert on n1 crm_resource --cleanup -r p1 > "$LAB_DIR/crm.log" 2>&1
whole p1

step 'it has left, and nobody knows whether it runs: nothing is started until that host has said so'
third=$(other_node "$primary" "$standby")
assert daemon stop "$third" vmpaird
migrate "$primary" "$third" --live > "$LAB_DIR/migrate.log" 2>&1 || fail "migrate: $(cat "$LAB_DIR/migrate.log")"
wait_for 20 alone "$standby"
wait_for 60 fails_to_start "$primary" "its virtual machine was migrated, and $third has not said that it does not run there"
during 3 shut_there || fail "$step: the copy answers at the entry address"
assert end_copy
during 3 alone "$standby"
daemon start "$third" vmpaird
wait_for 60 event_seen "$primary" left 'no other host has the virtual machine that was migrated'
assert on n1 crm_resource --cleanup -r p1 > "$LAB_DIR/crm.log" 2>&1
whole p1

step 'a member is started where the port was made by hand: it is the gate that has it then'
[ "$primary" = "$third" ] || [ "$standby" = "$third" ] || {
	assert on "$third" ip link show dev "$port" > "$LAB_DIR/link.log"
	assert on n1 pcs node standby "$standby"
	wait_for 60 pair_standby_is "$third"
	whole p1
}
[ "$(pair_primary p1)" = "$third" ] || assert on n1 vmpair switchover p1
wait_for 20 pair_holder_is p1 "$third"
whole p1
assert probe_answers "${LAB_ENTRY[0]}" "p1-$(lab_node_id "$third")"
assert on n1 pcs node unstandby --all
triggers_end
