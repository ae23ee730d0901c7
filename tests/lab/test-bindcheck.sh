#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# bindcheck finds what it is for, and only that. Run by make check; BINDCHECK names the program.
set -euo pipefail
bindcheck=${BINDCHECK:-tests/lab/bindcheck}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
n=0

expect() { # expect STATUS PATTERN TITLE N1_LINES N2_LINES
	local rc=0
	n=$((n + 1))
	printf '%b' "$4" > "$dir/n1"
	printf '%b' "$5" > "$dir/n2"
	"$bindcheck" n1="$dir/n1" n2="$dir/n2" > "$dir/out" 2>&1 || rc=$?
	if [ "$rc" = "$1" ] && grep -q -- "$2" "$dir/out"; then
		echo "ok $n - $3"
	else
		echo "not ok $n - $3 (status $rc)"
		sed 's/^/# /' "$dir/out"
		failed=1
	fi
}
failed=0
echo 1..17

expect 0 '2 opens' 'hand-over after close' \
	'100 open p1 257 250\n120 refresh p1 257 270\n130 close p1 257 0\n' '131 open p1 514 300\n'
expect 0 ' 0 broken' 'the lease ran out before the other opened' \
	'100 open p1 257 250\n120 refresh p1 257 270\n' '270 open p1 514 400\n'
expect 1 'open at once on n1' 'the other opened before the expiry' \
	'100 open p1 257 250\n120 refresh p1 257 270\n' '269 open p1 514 400\n'
expect 1 'open at once' 'late close' '100 open p1 257 250\n140 close p1 257 0\n' '139 open p1 514 300\n'
expect 1 'open at once' 'a lapsed lease refreshed while the other has it' \
	'100 open p1 257 150\n210 refresh p1 257 300\n' '200 open p1 514 400\n'
expect 1 'open at once on n2' 'a long lease is not hidden by a short one of the holder' \
	'150 open p1 513 160\n' '100 open p1 258 400\n'
expect 0 ' 2 pairs' 'pairs are independent' '100 open p1 257 250\n' '110 open p2 258 250\n'
expect 1 'epoch 258 opened after 513' 'epochs grow' '100 open p1 513 120\n' '130 open p1 258 200\n'
expect 1 'refresh of epoch' 'refresh of an epoch that is not open' '100 open p1 257 150\n120 refresh p1 513 170\n' ''
expect 1 'open at once' 'an adopted word counts' '100 adopt p1 0 250\n' '200 open p1 514 300\n'
expect 0 ' 0 broken' 'a new process goes on with the epoch of the old one' \
	'100 open p1 257 150\n120 adopt p1 0 150\n130 refresh p1 257 170\n180 open p1 257 200\n' ''
expect 1 'epoch 257 opened after 257' 'one epoch is never opened by two' '100 open p1 257 150\n' '160 open p1 257 170\n'
expect 0 ' 0 broken' 'a node without power has nothing open' \
	'100 open p1 257 250\n100 open p2 257 250\n150 off - 0 0\n' '151 open p1 514 300\n151 open p2 514 300\n'
expect 1 'open at once on n1 (line 1)' 'but had until then' '100 open p1 257 250\n150 off - 0 0\n' '149 open p1 514 300\n'
expect 1 'open at once on n2' 'and only that node, and only what was open before' \
	'100 open p1 257 120\n150 off - 0 0\n300 open p1 769 400\n' '160 open p1 514 310\n'
expect 2 'not a line' 'garbage is refused' '100 open p1 257 250\nhello\n' ''
expect 2 ' 0 opens' 'nothing proves nothing; a torn last line is left out' '' '100 open p1 2'
exit $failed
