#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# cib-examples/ as their readers use them, on a running cluster: each makes a pair that serves, and its end leaves nothing.
# vmpaird: yes
# timeout: 600
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
# shellcheck source-path=SCRIPTDIR source=../pair.sh
. "$LAB_SRC/pair.sh"
lab_load

examples=$LAB_TOP/cib-examples
entry=${LAB_ENTRY[0]}

gone() { # no member of the pair on any node, and no daemon that knows it
	local n
	for n in $(lab_all); do
		[ -z "$(on "$n" virsh -q list --all --name | tr -d '[:space:]')" ] || { echo "$n still has a VM"; return 1; }
		[ -z "$(pair_status "$n" p1)" ] || { echo "$n still knows the pair"; return 1; }
	done
}
serves() {
	wait_for 120 pair_whole p1 || fail "$1: the pair did not become whole"
	wait_for 10 probe_answers "$entry" p1- || fail "$1: nobody answers"
	log "$1: $(pair_primary p1) is primary, $(pair_standby p1) standby"
	on n1 pcs resource delete p1-clone > "$LAB_DIR/pcs.log" 2>&1 || fail "$1: pcs resource delete: $(cat "$LAB_DIR/pcs.log")"
	wait_for 60 gone || fail "$1: something is left"
	assert not probe_answers "$entry"
}
values=(PAIR=p1 DOMAIN=/etc/vmpair/p1.xml ENTRY="$entry/24" ENTRY_NIC=br-entry INTERNAL_NET="$(pair_net 1)/24@br-int" STONITH=false)

log 'pair.xml'
sed -e 's/web/p1/g' -e "s|192.0.2.10/24|$entry/24|; s|192.168.77.0/24@br-int|$(pair_net 1)/24@br-int|" \
	-e 's|name="stonith-enabled" value="true"|name="stonith-enabled" value="false"|' "$examples/pair.xml" > "$LAB_DIR/n1/etc/vmpair/pair.xml"
on n1 cibadmin -M -c -o configuration -x /etc/vmpair/pair.xml
serves pair.xml

log 'pair.pcs.sh'
on n1 env "${values[@]}" sh "$examples/pair.pcs.sh"
serves pair.pcs.sh

log 'pair.crm.sh'
on n2 env "${values[@]}" sh "$examples/pair.crm.sh"
serves pair.crm.sh

device_serves() { # device_serves WHAT: the fencing device of fence.* runs, may fence each node, and is removed
	local n
	wait_for 60 device_runs || fail "$1: the device does not run"
	for n in $(lab_all); do
		wait_for 10 device_of "$n" || fail "$1: the device is not offered for $n"
	done
	log "$1: the device runs, for all nodes"
	on n1 pcs property set stonith-enabled=false
	on n1 pcs stonith delete cut > "$LAB_DIR/pcs.log" 2>&1 || fail "$1: pcs stonith delete: $(cat "$LAB_DIR/pcs.log")"
	wait_for 30 lab_settled
}
device_runs() { on n1 crm_mon -1 --output-as=xml | find_line '<resource id="cut" .*role="Started"'; }
device_of() { on n2 stonith_admin --list "$1" 2> /dev/null | find_line '^cut$'; }

log 'fence.xml'
cp "$examples/fence.xml" "$LAB_DIR/n1/etc/vmpair/fence.xml"
on n1 cibadmin -M -c -o configuration -x /etc/vmpair/fence.xml
device_serves fence.xml

log 'fence.pcs.sh'
on n1 sh "$examples/fence.pcs.sh" > "$LAB_DIR/pcs.log" 2>&1 || fail "fence.pcs.sh: $(cat "$LAB_DIR/pcs.log")"
device_serves fence.pcs.sh

log 'fence.crm.sh'
on n2 sh "$examples/fence.crm.sh"
device_serves fence.crm.sh
