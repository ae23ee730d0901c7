#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Planned work on two pairs crossed over the same nodes, each with a client: what one notices of it, and what stays as it was.
# vmpaird: yes
# timeout: 400
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
# shellcheck source-path=SCRIPTDIR source=../pair.sh
. "$LAB_SRC/pair.sh"
# shellcheck source-path=SCRIPTDIR source=../ops.sh
. "$LAB_SRC/ops.sh"
lab_load

# p2 has a disk: its members run on overlays of their own, the template stays as it is
template=/etc/vmpair/p2.qcow2
for n in $(lab_all); do
	on "$n" qemu-img create -q -f qcow2 "$template" 1M
	sed -i "s|<memballoon|<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='$template'/><target dev='vda' bus='virtio'/></disk>&|" \
		"$LAB_DIR/$n/etc/vmpair/p2.xml"
done
# shellcheck disable=SC2016 # expanded inside the node
templates() { for n in $(lab_all); do on "$n" sh -c 'sha256sum < "$1"' - "$template"; done; }
template_was=$(templates)
pairs_crossed
for n in n1 n2; do
	on "$n" qemu-img info -U --output=json /var/lib/vmpair/disks/p2/vda.qcow2 | jq -e --arg t "$template" '."backing-filename" == $t' > /dev/null ||
		fail "no overlay of the template of p2 on $n"
done
before="$(members p1) $(members p2)"

step 'vmpair switchover there and back'
assert on n3 vmpair switchover p1 # asked where no member runs
wait_for 20 pair_whole p1
assert_eq n2 "$(pair_primary p1)" 'primary of p1'
assert on n1 vmpair switchover p1
whole p1
assert_eq n1 "$(pair_primary p1)" 'primary of p1'
assert_eq "$before" "$(members p1) $(members p2)" 'all VMs'
gap p1 $PLANNED_MS
gap p2 $PLANNED_MS

step 'pcs resource move'
assert on n1 pcs resource move p2-clone n1 --promoted
wait_for 30 pair_holder_is p2 n1
whole p2
assert_eq "$before" "$(members p1) $(members p2)" 'all VMs'
gap p1 $PLANNED_MS
gap p2 $PLANNED_MS
pair_at p2 n2

step 'ban of the primary from its node, and clear'
pid=$(member_pid p1 n2)
assert on n1 pcs resource ban p1-clone n1
wait_for 60 no_member p1 n1
whole p1
same_primary_vm p1 n2 "$pid"
assert on n1 pcs resource clear p1-clone
during 2 two_members p1
whole p1
same_primary_vm p1 n2 "$pid"
gap p1 $PLANNED_MS
gap p2 $PLANNED_MS

step 'node standby and unstandby'
# n2 is primary of both
pid=$(member_pid p2 n1)
assert on n1 pcs node standby n2
wait_for 60 no_member p1 n2
wait_for 60 no_member p2 n2
whole p1
whole p2
same_primary_vm p2 n1 "$pid"
gap p1 $PLANNED_MS
gap p2 $PLANNED_MS
first=$(pair_primary p1)
pid1=$(member_pid p1 "$first")
step 'unstandby'
assert on n1 pcs node unstandby n2
whole p1
whole p2
same_primary_vm p1 "$first" "$pid1"
same_primary_vm p2 n1 "$pid"
gap p1 $PLANNED_MS
gap p2 $PLANNED_MS

step 'cleanup'
before="$(members p1) $(members p2)"
assert on n1 pcs resource cleanup
whole p1
whole p2
assert_eq "$before" "$(members p1) $(members p2)" 'all VMs'
gap p1 $PLANNED_MS
gap p2 $PLANNED_MS

step 'disable and enable'
assert on n1 pcs resource disable p1-clone
for n in $(lab_all); do wait_for 60 no_member p1 "$n"; done
assert not probe_answers "${LAB_ENTRY[0]}"
gap p2 $PLANNED_MS
assert on n1 pcs resource enable p1-clone
whole p1
gap p1 90000
gap p2 $PLANNED_MS

step 'delete'
pairs_end
traces() { # what nodes have of pairs, one word of its kind and the thing
	local n
	for n in $(lab_all); do
		on "$n" virsh -q list --all --name | sed '/^$/d; s/^/domain /'
		on "$n" ip -o link | grep -oE 'vp[ei][0-9a-f]+' | sed 's/^/link /'
		on "$n" tc qdisc show | grep -E 'dev vp.* clsact' | sed 's/^/qdisc /'
		on "$n" ls -A /sys/fs/bpf/vmpair | sed 's/^/pin /'
		on "$n" nft list table bridge vmpair | grep '"vp[ei][0-9a-f]' | sed 's/^/fence /'
		on "$n" ls -A /run/vmpair/pairs | sed 's/^/facts /'
		on "$n" ls -A /var/lib/vmpair/disks 2> /dev/null | sed 's/^/disks /'
		on "$n" vmpair status --output=json | jq -r '.pairs[] | "known " + .name'
		on "$n" cibadmin -Q -o status | grep -oE 'name="master-p[12]"' | sed 's/^/attribute /'
	done
}
nothing_left() {
	local left
	left=$(traces)
	[ -z "$left" ] || { echo "$left"; return 1; }
}
found=$(traces)
for kind in domain link pin fence facts disks known attribute; do # or the check below would prove nothing
	grep -q "^$kind " <<< "$found" || fail "no $kind of a pair that runs"
done
for p in p1 p2; do assert on n1 pcs resource delete "$p-clone"; done
wait_for 60 nothing_left
assert_eq "$template_was" "$(templates)" 'templates of p2'

log 'a pair of the same name again'
pair_create 1 n3
whole p1

log 'deleted from the CIB while it runs'
on n1 cibadmin -D -o resources -X '<clone id="p1-clone"/>'
wait_for 60 nothing_left
