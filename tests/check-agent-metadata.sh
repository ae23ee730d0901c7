#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The agent's meta-data against the schemas that are installed here, and without environment, daemon or rights.
set -u
agent=$PWD/agents/pair
fail=0
tmp=$(mktemp -d) || exit 99
trap 'rm -rf "$tmp"' EXIT
bad() { echo "not ok - $*"; fail=1; }

env -i "$agent" meta-data > "$tmp/md.xml" || bad "meta-data fails without an environment"
command -v xmllint > /dev/null || { echo "xmllint is missing (package libxml2-utils)"; exit 77; }
xmllint --noout --nonet "$tmp/md.xml" 2> /dev/null || bad "meta-data is not well-formed XML"

dtd=/usr/share/resource-agents/ra-api-1.dtd
if [ -e $dtd ]; then
	(cd ${dtd%/*} && xmllint --noout --valid - < "$tmp/md.xml") || bad "meta-data is not valid for $dtd (ocf-tester)"
fi
for rng in /usr/share/pcs/data/ocf-1.1.rng /usr/lib/python3/dist-packages/pcs/data/ocf-1.1.rng; do
	[ -e $rng ] || continue
	# without its DOCTYPE line the document stands alone
	(cd /usr/share/resource-agents 2> /dev/null; xmllint --noout --relaxng $rng - < "$tmp/md.xml" 2> "$tmp/err") ||
		bad "meta-data is not valid for $rng: $(cat "$tmp/err")"
done

grep -q '<version>1.1</version>' "$tmp/md.xml" || bad "meta-data does not say OCF 1.1"
for a in start stop monitor promote demote reload-agent validate-all meta-data; do
	grep -q "<action name=\"$a\"" "$tmp/md.xml" || bad "action $a is not advertised"
	"$agent" methods | grep -qx "$a" || bad "action $a is not among methods"
done
for p in pair domain entry entry_nic; do
	grep -q "<parameter name=\"$p\".* required=\"1\"" "$tmp/md.xml" || bad "parameter $p is not required"
done
grep -q '<parameter name="peer_link" reloadable="1">' "$tmp/md.xml" || bad "peer_link is not reloadable"

if [ "$(id -u)" = 0 ] && command -v setpriv > /dev/null; then
	cp "$agent" "$tmp/pair" && chmod 755 "$tmp" "$tmp/pair"
	(cd / && env -i setpriv --reuid=65534 --regid=65534 --clear-groups "$tmp/pair" meta-data) | cmp -s - "$tmp/md.xml" ||
		bad "meta-data fails or differs as nobody"
fi
"$agent" no-such-action 2> /dev/null; [ $? = 3 ] || bad "an unknown action does not end with 3"
"$agent" 2> /dev/null; [ $? = 2 ] || bad "no action at all does not end with 2"
"$agent" usage | grep -q '^usage' || bad "no usage"
[ $fail = 0 ] && echo "ok - agent meta-data"
exit $fail
