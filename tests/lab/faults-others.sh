#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# faults-others.sh [--table FILE] [PRODUCT FAULT...]: what today's means make of the faults of the matrix that apply to them, in the same lab and under the same load:
# a VM under ocf:heartbeat:VirtualDomain (monitor 10 s, without fencing, as the pair of the matrix), and an address moved by keepalived (VRRP
# version 3, adverts every 100 ms). Each fault lasts 40 s at most; told are the longest gap, for how long two had the service or the address at
# once, and whether everything was well again a minute after the mend. Nothing here passes or fails.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

LASTS_S=40 AFTER_S=60
table=
usage() {
	echo 'usage: tests/lab/faults-others.sh [--table FILE] [virtualdomain|keepalived FAULT...]' >&2
	exit 2
}
if [ "${1-}" = --table ]; then
	table=${2-}
	[ -n "$table" ] || usage
	can_write "$table" || { echo "faults-others: $table cannot be written" >&2; exit 2; }
	shift 2
fi
entry=${LAB_ENTRY[0]}
trap 'lab_end > /dev/null 2>&1' EXIT
trap 'exit 130' INT TERM

vm_copies() { for n in $(lab_all); do ! on "$n" pgrep -f 'guest=p1,' > /dev/null 2>&1 || echo "$n"; done; }
vip_copies() { for n in n1 n2; do ! on_net "$n" ip -br addr show br-entry 2> /dev/null | find_line -F "$entry/" > /dev/null || echo "$n"; done; }
answers() { in_client curl -s -g --max-time 0.5 -o /dev/null "http://$entry/"; }
settled() { answers && [ "$($copies | wc -l)" = 1 ]; }

virtualdomain_up() {
	copies=vm_copies
	lab_virtualdomain
	wait_for 90 settled
}
keepalived_start() {
	daemon start "$1" svc
	daemon start "$1" keepalived
}
keepalived_up() {
	local n
	copies=vip_copies
	for n in n1 n2; do
		lab_keepalived_conf "$n" "$entry" > "$LAB_DIR/$n/etc/keepalived/keepalived.conf"
		keepalived_start "$n"
	done
	wait_for 30 settled
}

# Faults: NAME_inject and NAME_mend with the node that serves in $at. The plane of a product's own words is $plane.
kill_inject() {
	if [ "$product" = virtualdomain ]; then on "$at" kill -KILL "$(vm_pid "$at" p1)"; else daemon kill "$at" keepalived; fi
}
kill_mend() { [ "$product" = virtualdomain ] || daemon start "$at" keepalived; }
freeze_inject() {
	if [ "$product" = virtualdomain ]; then
		frozen=$(vm_pid "$at" p1)
		on "$at" kill -STOP "$frozen"
	else
		daemon freeze "$at" keepalived
	fi
}
freeze_mend() { if [ "$product" = virtualdomain ]; then on "$at" kill -CONT "$frozen" 2> /dev/null || true; else daemon thaw "$at" keepalived; fi; }
cut_inject() { cut_off "$at"; }
cut_mend() { heal "$at"; }
parted_inject() { cut_off "$at" "$plane"; }
parted_mend() { heal "$at" "$plane"; }
oneway_inject() { for n in $(lab_all); do [ "$n" = "$at" ] || drop_from_to "$at" "$n" "$plane"; done; }
oneway_mend() { for n in $(lab_all); do [ "$n" = "$at" ] || pass_from_to "$at" "$n" "$plane"; done; }
deaf_inject() { for n in $(lab_all); do [ "$n" = "$at" ] || drop_from_to "$n" "$at" "$plane"; done; }
deaf_mend() { for n in $(lab_all); do [ "$n" = "$at" ] || pass_from_to "$n" "$at" "$plane"; done; }
loss30_inject() { lossy 30 "$plane"; }
loss30_mend() { unlossy; }
loss70_inject() { lossy 70 "$plane"; }
loss70_mend() { unlossy; }
power_inject() { power_off "$at"; }
power_mend() {
	power_on "$at"
	[ "$product" = virtualdomain ] || keepalived_start "$at"
}
guest() { on "$at" curl -s --max-time 5 -o /dev/null "http://192.168.77.$(lab_node_id "$at")/ctl/$1" || true; }
panic_inject() { guest panic; }
panic_mend() { :; }
hang_inject() { guest hang; }
hang_mend() { on "$at" virsh -q destroy p1 || true; } # which is what an operator does who is called
pacemaker_inject() { daemon kill "$at" pacemaker; }
pacemaker_mend() { daemon start "$at" pacemaker; }
corosync_inject() { daemon kill "$at" corosync; }
corosync_mend() {
	daemon start "$at" corosync
	daemon start "$at" pacemaker
}
libvirtd_inject() { daemon kill "$at" libvirtd; }
libvirtd_mend() { daemon start "$at" libvirtd; }

declare -A title=([kill]='PROCESS killed' [freeze]='PROCESS frozen, thawed after 40 s' [cut]='its node cut off, healed'
	[parted]='cluster network parted from its node, healed' [oneway]='nobody hears its node, which hears all; healed'
	[deaf]='its node hears nobody, all hear it; healed' [loss30]='30 % of the packets lost' [loss70]='70 % of the packets lost'
	[power]='its node loses power, comes back' [panic]='its guest panics' [hang]='its guest hangs, ended by hand after 40 s'
	[pacemaker]='pacemaker killed on its node' [corosync]='corosync killed on its node' [libvirtd]='libvirtd killed on its node')
declare -A process=([virtualdomain]=VM [keepalived]=keepalived)
declare -A plane_of=([virtualdomain]=c [keepalived]=u)
declare -A faults=([virtualdomain]='kill freeze panic hang power cut parted oneway deaf loss30 loss70 pacemaker corosync libvirtd'
	[keepalived]='kill freeze power cut oneway deaf loss30 loss70')
if [ $# -gt 0 ]; then
	products=$1
	shift
	[ $# -gt 0 ] || usage
	[ -n "${faults[$products]-}" ] || usage
	for f; do [[ " ${faults[$products]} " == *" $f "* ]] || { echo "faults-others: $products: no fault '$f'; there are: ${faults[$products]}" >&2; exit 2; }; done
	faults[$products]=$*
else
	products='virtualdomain keepalived'
fi

one() { # one FAULT: a row
	local t0 now two=0 was gap well=no last what=${title[$1]/PROCESS/${process[$product]}}
	wait_for 120 settled || { echo "| $product | $what | - | - | was not well before |"; return; }
	at=$($copies)
	probe_mark "$product $1"
	"$1_inject"
	uptime_ms; t0=$REPLY last=$REPLY was=0
	while uptime_ms; now=$REPLY; [ $((now - t0)) -lt $((LASTS_S * 1000)) ]; do
		[ "$was" -lt 2 ] || two=$((two + now - last))
		last=$now
		was=$($copies | wc -l)
		sleep 0.1
	done
	"$1_mend"
	# shellcheck disable=SC2015
	wait_for $AFTER_S settled && well=yes || well=no
	gap=$(probe_worst) # of those that have ended
	uptime_ms
	[ $well = yes ] || { gap="over $gap" && answers; } || gap="over $((REPLY - t0))"
	echo "| $product | $what | $gap | $two | $well |"
}

{
	echo '| what | fault of the one that serves | longest gap, ms | two at once, ms | well again |'
	echo '| --- | --- | ---: | ---: | --- |'
	for product in $products; do
		plane=${plane_of[$product]}
		for f in ${faults[$product]}; do
			(LAB_VMPAIRD=no && lab_up) > "$LAB_BUILD/faults-others.log" 2>&1 || { tail -n 5 "$LAB_BUILD/faults-others.log" >&2; exit 1; }
			lab_load
			"${product}_up" >&2
			probe_start "$entry" >&2
			one "$f"
			probe_stop > /dev/null 2>&1 || true
			lab_end > /dev/null 2>&1
		done
	done
} | if [ -n "$table" ]; then tee "$table"; else cat; fi
