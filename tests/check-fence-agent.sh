#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# fence_vmpair as Pacemaker and pcs see it: metadata against the schema of fence-agents, input, exit status; no daemon is needed.
set -u
agent=$PWD/agents/fence_vmpair
fail=0
skipped= # the heart of this test; all the rest is checked all the same
tmp=$(mktemp -d) || exit 99
trap 'rm -rf "$tmp"' EXIT
bad() { echo "not ok - $*"; fail=1; }
export VMPAIR_SOCKET=$tmp/none

env -i "$agent" -o metadata > "$tmp/md.xml" || bad "metadata fails without an environment"
echo action=metadata | env -i "$agent" | cmp -s - "$tmp/md.xml" || bad "metadata by stdin differs"
command -v xmllint > /dev/null || { echo "xmllint is missing (package libxml2-utils)"; exit 77; }
rng=/usr/share/cluster/relaxng/metadata.rng
if [ -e $rng ]; then
	xmllint --noout --nonet --relaxng $rng "$tmp/md.xml" 2> "$tmp/err" || bad "metadata is not valid for $rng: $(cat "$tmp/err")"
else
	xmllint --noout --nonet "$tmp/md.xml" || bad "metadata is not well-formed"
	skipped="no schema of fence-agents: $rng (package fence-agents)"
fi
value() { xmllint --xpath "string($1)" "$tmp/md.xml"; }
[ "$(value '//action[@name="on"]/@automatic')" = 1 ] || bad "on is not automatic: no unfencing"
[ "$(value '//action[@name="on"]/@on_target')" = 1 ] || bad "on is not on_target: pcs would not know that it provides unfencing"
[ "$(value 'count(//action[@name="reboot"])')" = 0 ] || bad "reboot is offered: Pacemaker would not ask for off"
for a in on off status list monitor metadata validate-all; do
	[ "$(value "count(//action[@name='$a'])")" = 1 ] || bad "action $a is not advertised"
done
value //longdesc | grep -q 'does NOT cover' || bad "the long description does not say what is not covered"
"$agent" --help | grep -q -- --power-timeout || bad "no help"

# one clear line, and 1 for everything that is wrong; 2 is kept for "off"
wrong() { # wrong TEXT STDIN-OR-ARGUMENTS...
	local text=$1 rc
	shift
	if [ "$1" = stdin ]; then
		printf "$2" | "$agent" > "$tmp/out" 2>&1
	else
		"$agent" "$@" > "$tmp/out" 2>&1
	fi
	rc=$?
	[ $rc = 1 ] || bad "$*: exit status $rc"
	[ "$(wc -l < "$tmp/out")" = 1 ] && grep -q -- "$text" "$tmp/out" || bad "$*: says $(cat "$tmp/out")"
}
wrong 'reboot is not offered' -o reboot -n n1
wrong 'reboot is not offered' stdin 'action=reboot\nplug=n1\n'
wrong 'is not known' -o explode -n n1
wrong 'which node' -o off
wrong 'which node' stdin 'action=off\n'
wrong 'unknown option' --colour
wrong 'needs a value' -o
wrong 'is not an option' off
wrong 'number of seconds' -o off -n n1 --power-timeout=0
wrong 'number of seconds' stdin 'plug=n1\npower_timeout=-3\n'
wrong 'number of seconds' stdin 'plug=n1\npower_timeout=many\n'
wrong 'not NAME=VALUE' stdin 'action=off\nrubbish\n'
wrong 'zero byte' stdin 'action=off\nplug=n\0001\n'
wrong 'blanks and control' stdin 'action=off\nplug=n1 n2\n'
wrong 'longer than' -n "$(printf %0300d 1)"
wrong 'vmpaird does not run' -o off -n n1
wrong 'vmpaird does not run' -o monitor
wrong 'vmpaird does not run' stdin 'nodename=n1\naction=status\npcmk_host_list=n1 n2\nCRM_meta_timeout=20000\n'
"$agent" -o validate-all || bad "validate-all"

# pcs in a namespace where the agent is installed
if [ "$(id -u)" != 0 ]; then
	echo "# skipped: pcs is not asked: not root, the agent cannot be shown to it"
elif ! command -v pcs > /dev/null; then
	echo "# skipped: pcs is not installed"
else
	mkdir "$tmp/up" "$tmp/work"
	cibadmin --empty > "$tmp/cib.xml"
	unshare --mount --propagation private bash -c '
		mount -t tmpfs over "$1" && mkdir "$1/up" "$1/work" && cp "$2" "$1/up/fence_vmpair" &&
		mount -t overlay overlay -o "lowerdir=/usr/sbin,upperdir=$1/up,workdir=$1/work" /usr/sbin || exit 77
		pcs stonith describe fence_vmpair || exit 1
		pcs -f "$3" stonith create cut fence_vmpair power_timeout=20 op monitor interval=60s || exit 1
		pcs -f "$3" stonith create other fence_vmpair colour=red && exit 1
		crm_verify --xml-file "$3"' - "$tmp/up" "$agent" "$tmp/cib.xml" > "$tmp/out" 2>&1
	case $? in
	0) grep -q 'power_timeout' "$tmp/out" || bad "pcs stonith describe does not show the parameters"
	   grep -q 'name="provides" value="unfencing"' "$tmp/cib.xml" || bad "pcs does not see that it provides unfencing" ;;
	77) echo "# skipped: pcs is not asked: cannot mount here" ;;
	*) cat "$tmp/out"; bad "pcs refuses the agent" ;;
	esac
fi
[ $fail = 0 ] || exit 1
[ -z "$skipped" ] || { echo "skipped: $skipped"; exit 77; }
echo "ok - fence agent"
