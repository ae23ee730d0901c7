#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# cib-examples/ as their readers use them, on a CIB file instead of a cluster: accepted by cibadmin, pcs, crm and crm_verify, and then
# Pacemaker's own scheduler places two members, promotes the one with the higher score and follows a flip of the scores without a stop.
# The built agent is shown to the tools in a mount namespace of this test's own.
set -u
if [ -z "${VMP_IN_NAMESPACE-}" ]; then
	for tool in cibadmin crm_verify crm_simulate xmllint; do
		command -v "$tool" > /dev/null || { echo "$tool is missing (packages pacemaker-cli-utils, libxml2-utils)"; exit 77; }
	done
	[ "$(id -u)" = 0 ] || { echo "not root: the agent cannot be shown to the tools"; exit 77; }
	VMP_IN_NAMESPACE=1 exec unshare --mount --propagation private "$0" "$@"
fi

examples=${srcdir:-.}/cib-examples
tmp=$(mktemp -d) || exit 99
trap 'rm -rf "$tmp"' EXIT
fail=0
bad() { echo "not ok - $*"; fail=1; }
ok() { echo "ok - $*"; }

# the agents that are installed, and ours
ocf=/usr/lib/ocf/resource.d
mkdir -p "$tmp/ocf/vmpair" && [ -d $ocf ] && cp -a $ocf/. "$tmp/ocf/"
cp agents/pair "$tmp/ocf/vmpair/pair" && chmod 755 "$tmp" "$tmp/ocf" "$tmp/ocf/vmpair" "$tmp/ocf/vmpair/pair"
[ -d $ocf ] || { echo "$ocf does not exist (package resource-agents or pacemaker)"; exit 77; }
mount --bind "$tmp/ocf" $ocf || { echo "cannot mount here"; exit 77; }
trap 'umount -l $ocf; rm -rf "$tmp"' EXIT
# and the fence agent beside those that are installed
mkdir "$tmp/sbin"
if ! mount -t tmpfs over "$tmp/sbin" || ! mkdir "$tmp/sbin/up" "$tmp/sbin/work" || ! cp agents/fence_vmpair "$tmp/sbin/up/" ||
	! mount -t overlay overlay -o "lowerdir=/usr/sbin,upperdir=$tmp/sbin/up,workdir=$tmp/sbin/work" /usr/sbin; then
	echo "cannot mount here"
	exit 77
fi
trap 'umount -l /usr/sbin; umount -l "$tmp/sbin"; umount -l $ocf; rm -rf "$tmp"' EXIT

cibadmin --empty > "$tmp/base.xml"
sed -i 's|<nodes/>|<nodes><node id="1" uname="n1"/><node id="2" uname="n2"/><node id="3" uname="n3"/></nodes>|' "$tmp/base.xml"

# simulate NAME: runs the cluster of NAME.xml with all nodes up; output in NAME.sim, what it comes to in NAME.xml
simulate() {
	crm_simulate --xml-file "$tmp/$1.xml" --quorum 1 --node-up n1 --node-up n2 --node-up n3 --simulate --save-output "$tmp/$1.next" \
		> "$tmp/$1.sim" 2>&1 || { cat "$tmp/$1.sim"; bad "$1: crm_simulate failed"; return 1; }
	mv "$tmp/$1.next" "$tmp/$1.xml"
}
# scores NAME n1=1001 n2=1000 ...: promotion scores as vmpaird writes them
scores() {
	local name=$1 s n v
	shift
	sed -i '/<transient_attributes/,/<\/transient_attributes>/d' "$tmp/$name.xml"
	for s; do
		n=${s%%=*} v=${s##*=}
		# the scheduler saves one element per line
		sed -i "/<node_state [^>]*uname=\"$n\"/s|>|><transient_attributes id=\"${n#n}\"><instance_attributes id=\"st-$n\"><nvpair id=\"st-$n-s\" name=\"master-web\" value=\"$v\"/></instance_attributes></transient_attributes>|" \
			"$tmp/$name.xml"
	done
}
executed() { sed -n '/Executing Cluster Transition/,/Revised/p' "$tmp/$1.sim" | grep -E 'Resource action: +web' | grep -vE ' (monitor|cancel)'; }

check() { # check NAME: NAME.xml is a CIB with the pair in it
	local name=$1 member other third actions
	crm_verify --xml-file "$tmp/$name.xml" > "$tmp/verify" 2>&1 || { cat "$tmp/verify"; bad "$name: crm_verify"; return; }
	for want in 'name="promotable" value="true"' 'name="notify" value="false"' 'name="clone-max" value="2"' 'on-fail="demote"' \
		'name="no-quorum-policy" value="demote"' 'name="start-failure-is-fatal" value="false"' 'type="pair"' \
		'name="migration-threshold" value="3"' 'name="failure-timeout" value="120s"'; do
		grep -q -- "$want" "$tmp/$name.xml" || bad "$name: no $want"
	done
	[ "$(xmllint --xpath 'count(//op[@name="monitor"])' "$tmp/$name.xml")" = 2 ] || bad "$name: not two monitors"
	[ "$(xmllint --xpath 'count(//primitive[@type="pair"]/instance_attributes/nvpair)' "$tmp/$name.xml")" = 6 ] ||
		bad "$name: not the six parameters"

	simulate "$name" || return
	actions=$(executed "$name")
	[ "$(grep -c ' start ' <<< "$actions")" = 2 ] || { cat "$tmp/$name.sim"; bad "$name: not two members are started"; return; }
	grep -q ' promote ' <<< "$actions" && bad "$name: promoted without a score"
	# the two nodes on which they are
	read -r member other <<< "$(grep ' start ' <<< "$actions" | sed 's/.* on //' | sort | tr '\n' ' ')"

	scores "$name" "$member=1001" "$other=1000"
	simulate "$name" || return
	actions=$(executed "$name")
	grep -q " promote .*on $member\$" <<< "$actions" || { cat "$tmp/$name.sim"; bad "$name: $member is not promoted"; return; }
	grep -qE ' (start|stop|demote) ' <<< "$actions" && bad "$name: more than a promote: $actions"

	# a failover: one attribute, and exactly demote and promote follow
	scores "$name" "$member=1001" "$other=1002"
	simulate "$name" || return
	actions=$(executed "$name")
	if [ "$(wc -l <<< "$actions")" = 2 ] && grep -q " demote .*on $member\$" <<< "$actions" && grep -q " promote .*on $other\$" <<< "$actions"; then
		ok "$name: accepted, placed, promoted, flip of the scores followed by demote and promote only"
	else
		cat "$tmp/$name.sim"
		bad "$name: the flip of the scores does more than demote and promote: $actions"
	fi

	# the old primary's node dies: the survivor keeps its role, the third node gets a member
	for third in n1 n2 n3; do [ "$third" = "$member" ] || [ "$third" = "$other" ] || break; done
	crm_simulate --xml-file "$tmp/$name.xml" --quorum 1 --node-down "$member" --simulate > "$tmp/$name.sim" 2>&1
	actions=$(executed "$name")
	grep -q " start .*on $third\$" <<< "$actions" || { cat "$tmp/$name.sim"; bad "$name: no third member after a node loss"; }
	grep -E " (stop|demote) .*on $other\$" <<< "$actions" && bad "$name: the survivor is touched after a node loss"
}

sed 's|name="stonith-enabled" value="true"|name="stonith-enabled" value="false"|' "$examples/pair.xml" > "$tmp/example.xml"
cp "$tmp/base.xml" "$tmp/xml.xml"
CIB_file=$tmp/xml.xml cibadmin -M -c -o configuration -x "$tmp/example.xml" || bad "cibadmin refuses pair.xml"
check xml

if command -v pcs > /dev/null; then
	cp "$tmp/base.xml" "$tmp/pcs.xml"
	if STONITH=false PCS="pcs -f $tmp/pcs.xml" "$examples/pair.pcs.sh" > "$tmp/out" 2>&1; then
		check pcs
	else
		cat "$tmp/out"
		bad "pcs refuses pair.pcs.sh"
	fi
	# what pcs knows from the meta-data: required parameters, unknown names
	pcs -f "$tmp/pcs.xml" resource create x ocf:vmpair:pair pair=x > "$tmp/out" 2>&1 && bad "pcs makes a pair without its required parameters"
	grep -q "required resource options.*domain" "$tmp/out" || { cat "$tmp/out"; bad "pcs does not name the missing parameters"; }
	pcs -f "$tmp/pcs.xml" resource update web colour=red > "$tmp/out" 2>&1 && bad "pcs takes an unknown parameter"
else
	echo "# skipped: the examples for pcs: pcs is not installed"
fi
if command -v crm > /dev/null; then
	cp "$tmp/base.xml" "$tmp/crm.xml"
	if HOME=$tmp STONITH=false CIB_file=$tmp/crm.xml "$examples/pair.crm.sh" > "$tmp/out" 2>&1; then
		check crm
	else
		cat "$tmp/out"
		bad "crm refuses pair.crm.sh"
	fi
else
	echo "# skipped: the examples for crm: crm is not installed (package crmsh)"
fi

# the fencing device: accepted, nodes are unfenced before anything starts, and a lost node is turned off
check_fence() { # check_fence NAME
	local name=$1
	for want in 'class="stonith" type="fence_vmpair"' 'name="provides" value="unfencing"' 'name="stonith-enabled" value="true"'; do
		grep -q -- "$want" "$tmp/$name.xml" || bad "$name: no $want"
	done
	crm_simulate --xml-file "$tmp/$name.xml" --quorum 1 --node-up n1 --node-up n2 --node-up n3 --simulate > "$tmp/$name.sim" 2>&1
	for n in n1 n2 n3; do
		grep -q "Fencing $n (on)" "$tmp/$name.sim" || { cat "$tmp/$name.sim"; bad "$name: $n is not unfenced"; return; }
	done
	crm_simulate --xml-file "$tmp/$name.xml" --quorum 1 --node-up n1 --node-up n2 --node-up n3 --simulate --save-output "$tmp/$name.next" > /dev/null 2>&1
	# with the nodes there: those that are missing count as unclean
	crm_verify --xml-file "$tmp/$name.next" > "$tmp/verify" 2>&1 || { cat "$tmp/verify"; bad "$name: crm_verify"; return; }
	crm_simulate --xml-file "$tmp/$name.next" --quorum 1 --node-fail n3 --simulate > "$tmp/$name.sim" 2>&1
	grep -qE "Fencing n3 \\((off|reboot)\\)" "$tmp/$name.sim" || { cat "$tmp/$name.sim"; bad "$name: a lost node is not fenced"; return; }
	ok "$name: accepted, nodes unfenced, a lost node fenced"
}
cp "$tmp/base.xml" "$tmp/fence-xml.xml"
CIB_file=$tmp/fence-xml.xml cibadmin -M -c -o configuration -x "$examples/fence.xml" || bad "cibadmin refuses fence.xml"
check_fence fence-xml
if command -v pcs > /dev/null; then
	cp "$tmp/base.xml" "$tmp/fence-pcs.xml"
	if PCS="pcs -f $tmp/fence-pcs.xml" "$examples/fence.pcs.sh" > "$tmp/out" 2>&1; then
		check_fence fence-pcs
	else
		cat "$tmp/out"
		bad "pcs refuses fence.pcs.sh"
	fi
fi
if command -v crm > /dev/null; then
	cp "$tmp/base.xml" "$tmp/fence-crm.xml"
	if HOME=$tmp CIB_file=$tmp/fence-crm.xml "$examples/fence.crm.sh" > "$tmp/out" 2>&1; then
		check_fence fence-crm
	else
		cat "$tmp/out"
		bad "crm refuses fence.crm.sh"
	fi
fi
[ $fail = 0 ] || exit 1
command -v pcs > /dev/null || command -v crm > /dev/null || { echo "skipped: neither pcs nor crm is installed: only the XML was checked"; exit 77; }
