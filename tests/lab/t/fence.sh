#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# fence_vmpair: by hand, and as the only fencing device of a cluster with stonith-enabled=true.
# vmpaird: yes
# full: yes
# timeout: 400
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
# shellcheck source-path=SCRIPTDIR source=../pair.sh
. "$LAB_SRC/pair.sh"
lab_load

status_of() { # status_of ASKED NODE: what the agent says, as exit status
	local rc=0
	on "$1" fence_vmpair -o status -n "$2" > "$LAB_DIR/fence.out" 2>&1 || rc=$?
	echo "$rc"
}
status_is() { [ "$(status_of "$1" "$2")" = "$3" ]; }
fence() { # fence NODE ACTION TARGET [OPTION...]
	on "$1" fence_vmpair -o "$2" -n "$3" "${@:4}" > "$LAB_DIR/fence.out" 2>&1
}
no_vm() { [ -z "$(on "$1" virsh -q list --name | tr -d '[:space:]')" ] || { echo "$1 still has a VM"; return 1; }; }
fenced_in_status() { [ "$(on "$1" vmpair status -o json | jq -r --arg n "$2" '.nodes[] | select(.name == $n) | .fenced.for // "no"')" != no ]; }
other() { # other NODE...: the first that is none of these
	local n
	for n in $(lab_all); do [[ " $* " == *" $n "* ]] || { echo "$n"; return; }; done
}

log 'what it is asked as a fence agent'
wait_for 30 on n1 fence_vmpair -o monitor # the first voter set needs all nodes
assert_eq "$(lab_all | sed 's/$/,/')" "$(on n1 fence_vmpair -o list)" list
assert_eq 0 "$(status_of n2 n3)" 'status of n3'
printf 'action=status\nnodename=n2\nport=n3\npcmk_reboot_timeout=9\n\nCRM_meta_timeout=20000\n' > "$LAB_DIR/n1/etc/vmpair/stdin"
assert on n1 sh -c 'fence_vmpair < /etc/vmpair/stdin' > "$LAB_DIR/fence.out"
assert_eq 'Status: ON' "$(cat "$LAB_DIR/fence.out")" 'status by stdin'
assert not fence n1 off nobody
assert find_line 'neither name nor id' < "$LAB_DIR/fence.out"
assert not fence n1 reboot n2
assert_eq 1 "$(wc -l < "$LAB_DIR/fence.out")" 'lines of an error'

pair_create 1
wait_for 120 pair_whole p1
probe_start "${LAB_ENTRY[0]}"
wait_for 10 probe_answers "${LAB_ENTRY[0]}" p1-
primary=$(pair_primary p1) standby=$(pair_standby p1)
third=$(other "$primary" "$standby")

log 'a minority refuses'
cut_off "$third" c
assert not fence "$third" off "$primary" --power-timeout=3
assert_eq 1 "$(wc -l < "$LAB_DIR/fence.out")" 'lines of an error'
assert find_line 'hears 1 of 3 voters' < "$LAB_DIR/fence.out"
assert not on "$third" fence_vmpair -o monitor > /dev/null 2>&1
heal "$third" c
wait_for 60 lab_healthy
wait_for 60 pair_whole p1
assert_eq "$primary" "$(pair_primary p1)" 'primary after a refused fencing'

log "off by hand: $primary, the primary"
probe_mark by-hand
vm=$(vm_pid "$primary" p1)
assert fence "$third" off "$primary"
assert_eq "Success: $primary is OFF" "$(cat "$LAB_DIR/fence.out")" 'off'
assert_eq 2 "$(status_of "$standby" "$primary")" 'status of a fenced node'
wait_for 3 not on "$primary" kill -0 "$vm" # by pidfd
wait_for 3 pair_holder_is p1 "$standby"
wait_for 3 probe_saw "change .* p1-$(lab_node_id "$standby")"
log "  gap $(probe_worst) ms"
told() { on "$third" vmpair why p1 | find_line "$primary is fenced by $third"; }
wait_for 10 told || fail 'why does not tell of the fencing'
wait_for 5 fenced_in_status "$standby" "$primary"
assert on "$standby" vmpair status | find_line "$primary is fenced (by $third, for Pacemaker's fence_vmpair)"
assert fence "$standby" off "$primary" # already off

log 'it stays out: no start, also when all daemons were started anew'
wait_for 120 pair_whole p1 # with the third node
for n in $(lab_all); do daemon stop "$n" vmpaird; done
for n in $(lab_all); do daemon start "$n" vmpaird; done
for n in $(lab_all); do wait_for 15 lab_vmpaird_answers "$n"; done
for n in $(lab_all); do wait_for 15 status_is "$n" "$primary" 2; done
no_vm "$primary"
printf 'pair=p1\ndomain=/etc/vmpair/p1.xml\nentry=%s/24\nentry_nic=br-entry\n' "${LAB_ENTRY[0]}" | sed 's/^/OCF_RESKEY_/' > "$LAB_DIR/agent.env"
mapfile -t agent_env < "$LAB_DIR/agent.env"
assert not on "$primary" env "${agent_env[@]}" OCF_ROOT=/usr/lib/ocf OCF_RESOURCE_INSTANCE=p1 OCF_RESKEY_CRM_meta_timeout=20000 \
	/usr/lib/ocf/resource.d/vmpair/pair start > "$LAB_DIR/agent.out" 2>&1
assert find_line "this node is fenced (by .*)" < "$LAB_DIR/agent.out"
kept_off() { on "$third" attrd_updater -n 'fail-count-p1#surplus_0' -N "$primary" -Q 2> /dev/null | find_line INFINITY; }
wait_for 10 kept_off || fail 'Pacemaker is not told to try no starts there'
wait_for 60 pair_whole p1
assert fence "$primary" on "$primary" # a node may ask for itself
wait_for 5 status_is "$third" "$primary" 0
wait_for 10 not kept_off || fail 'Pacemaker is still kept off the node'
on n1 pcs resource cleanup p1 > "$LAB_DIR/pcs.log" 2>&1 # Pacemaker had tried to start it there

log 'alone in a cluster with stonith-enabled=true'
on n1 sh "$LAB_TOP/cib-examples/fence.pcs.sh" > "$LAB_DIR/pcs.log" 2>&1 || fail "fence.pcs.sh: $(cat "$LAB_DIR/pcs.log")"
wait_for 60 lab_settled
wait_for 60 pair_whole p1
primary=$(pair_primary p1) standby=$(pair_standby p1)
third=$(other "$primary" "$standby")
probe_mark node-cut
cut_off "$primary"
wait_for 5 pair_holder_is p1 "$standby"
wait_for 90 status_is "$standby" "$primary" 2 # asked for by Pacemaker, once corosync and it have noticed
wait_for 90 pair_whole p1 # with a member on the third node
assert_eq "$standby $third" "$(pair_primary p1) $(pair_standby p1)" 'the pair without the fenced node'
log "  gap $(probe_worst) ms"
heal "$primary"
no_vm_or_told() { no_vm "$primary" && status_is "$third" "$primary" 0; }
wait_for 60 no_vm_or_told || fail "$primary was not unfenced, or still has its VM"
ASK=$standby
wait_for 90 sees_node "$standby" "$primary"
wait_for 90 lab_settled
wait_for 60 pair_whole p1
assert_eq "$standby $third" "$(pair_primary p1) $(pair_standby p1)" 'the pair after the node came back'
probe_stop
