#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# The model checker on the shipped core: tests/spin/model.pml. VMP_SPIN_STEPS, _FAULTS, _KEPT, _CLOCKS=all, _BITSTATE=1, _SECONDS for a
# larger run; --variants instead tells which wrong variants (daemon/core/bugs.def) it catches, each within VMP_SPIN_SECONDS.
set -u
src=${srcdir:-.}
top=$(cd "${top_srcdir:-$src}" && pwd)
command -v spin >/dev/null || { echo "skipped: spin is not installed"; exit 77; }
steps=${VMP_SPIN_STEPS:-5} faults=${VMP_SPIN_FAULTS:-2} kept=${VMP_SPIN_KEPT:-1} seconds=${VMP_SPIN_SECONDS:-280}
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
core=$PWD/.libs/libvmpcore.a
set -- "${1:-}" -O2 -w -DSAFETY -DNOREDUCE -DNOFAIR -DVECTORSZ=2048 "-I$top"
table=24 visited='all states visited' # 2^24 slots, which grow when they are full
if [ -n "${VMP_SPIN_BITSTATE:-}" ]; then # three bits per state of 2^32 (512 MiB): the hash factor tells how full that was (100 and more: hardly)
	set -- "$@" -DBITSTATE
	table=32 visited='no error; how much of it was visited: see the hash factor and whether it finished'
fi
mode=$1
shift
cd "$dir" || exit 1
spin -a "-DSTEPS=$steps" "-DFAULTS=$faults" "-DKEPT=$kept" ${VMP_SPIN_CLOCKS:+-DALL_CLOCKS} "$top/tests/spin/model.pml" >spin.log ||
	{ cat spin.log; exit 1; }
if [ "$mode" = --variants ]; then
	core=$(ls "$top"/daemon/core/*.c)
	set -- "$@" -DVMP_CORE_BUGS
fi
# shellcheck disable=SC2086 # a list of files
${CC:-cc} "$@" -o pan pan.c "$top/tests/spin/harness.c" $core 2>cc.log || {	# an instrumented build does not link like this
	core=$(ls "$top"/daemon/core/*.c)
	# shellcheck disable=SC2086
	${CC:-cc} "$@" -o pan pan.c "$top/tests/spin/harness.c" $core || exit 1
}

run()
{
	timeout -s INT "$seconds" ./pan -m20000 -w$table >pan.log 2>pan.err
	r=$?
	grep -hE "states, stored|errors:|elapsed|hash factor" pan.log
	if [ $r -eq 124 ]; then
		echo "not finished within $seconds s"
		[ -n "${VMP_SPIN_BITSTATE:-}" ] || return 1
	fi
	grep -q "errors: 0" pan.log && return 0
	grep -m1 broken pan.err
	return 1
}

if [ "$mode" != --variants ]; then
	if run; then
		echo "ok - $steps steps, $faults faults, $kept kept messages: $visited"
		exit 0
	fi
	./pan -r model.pml.trail >trail.log 2>&1
	VMP_SPIN_TELL=1 ./pan -r model.pml.trail 2>&1 | head -400
	echo "not ok - see above"
	exit 1
fi
sed -n 's/VMP_B(\([A-Z_]*\))/\1\n/gp' "$top/daemon/core/bugs.def" | grep -E '^ *[A-Z_]+$' | while read -r bug; do
	if VMP_BUG=$bug run >run.log; then
		echo "$bug: not in this model"
	else
		echo "$bug: $(grep -m1 -E 'broken|not finished' run.log)"
	fi
done
