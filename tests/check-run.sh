#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# check-run.sh [--full]: run.sh itself. What it refuses, and how soon; that a fault which failed is not done for --resume; that packages are
# installed without starting services, whatever the machine's policy, which is there again afterwards; that a run which was killed
# leaves nothing at work that the next one stumbles over. In a copy of the scripts whose `configure` waits, with an apt-get that says
# what it found; --full: with the real ones as well, a demo that is killed and a lab that is up after it (in the current directory, a
# build directory).
# shellcheck disable=SC2317 # some are called by name
set -u
[ "$(id -u)" = 0 ] || { echo "needs root"; exit 77; }
srcdir=$(cd "${srcdir:-.}" && pwd)
dir=$(mktemp -d) || exit 99
chmod 755 "$dir" # nobody reads it
pids=()
end() {
	local p
	for p in "${pids[@]}" $(cat "$dir"/*.pid 2> /dev/null); do kill -KILL "$p" 2> /dev/null; done
	rm -rf "$dir" "/run/vmpair-lab/check$$"
}
trap end EXIT
unset LAB_OWNER LAB_ID LAB_BUILD

fail=0
bad() { echo "not ok - $*"; fail=1; }
good() { echo "ok - $*"; }
holds() { # holds WHAT FILE COMMAND...: it succeeds; FILE tells more where not
	local what=$1 more=$2
	shift 2
	if "$@"; then good "$what"; else bad "$what: $(cat "$more" 2> /dev/null)"; fi
}
not() { ! "$@"; }
wait_until() { # wait_until SECONDS COMMAND...
	local i
	for ((i = $1 * 20; i > 0; i--)); do
		! "${@:2}" || return 0
		sleep 0.05
	done
	return 1
}
gone() { [ ! -e "/proc/$1" ] || grep -q '^State:.Z' "/proc/$1/status" 2> /dev/null; }
says() { # says STATUS PATTERN WHAT COMMAND...
	local out rc=0 status=$1 want=$2 what=$3
	shift 3
	out=$("$@" 2>&1 < /dev/null) || rc=$?
	if [ $rc = "$status" ] && grep -q -- "$want" <<< "$out"; then
		good "$what"
	else
		bad "$what: status $rc, wanted $status with '$want'; it says: $out"
	fi
}

# --- a copy that does not build ----------------------------------------------------------------------------------------
tree=$dir/tree
mkdir -p "$tree/tests" "$dir/bin"
cp "$srcdir/run.sh" "$tree/"
cp -r "$srcdir/tests/lab" "$tree/tests/"
chmod -R u+w,go+rX "$tree"
touch "$tree/Makefile.in"
cat > "$tree/configure" << 'EOF'
#!/bin/bash
# not a child of anybody, in a session of its own, as a test's helpers are
setsid sleep 1000 &
echo $! > "$CHECK_DIR/helper.pid"
echo $$ > "$CHECK_DIR/configure.pid"
[ ! -e "$CHECK_DIR/second" ] || exit 1
sleep 1000
EOF
cat > "$dir/bin/dpkg-query" << 'EOF'
#!/bin/bash
[ -e "$CHECK_DIR/absent" ] || echo installed
EOF
for p in apt-get dpkg; do
	cat > "$dir/bin/$p" <<- 'EOF'
		#!/bin/bash
		{
			echo "${0##*/} $*"
			cat /usr/sbin/policy-rc.d
			[ ! -e /proc/self/fd/8 ] || echo "holds the lock of the build directory"
		} >> "$CHECK_DIR/apt.calls"
		echo $$ > "$CHECK_DIR/apt.pid"
		while [ -e "$CHECK_DIR/apt-hangs" ]; do sleep 0.05; done
		exit 100
	EOF
done
chmod 755 "$tree/configure" "$dir"/bin/*
spawn() { CHECK_DIR=$dir VMPAIR_BUILD=$dir/build PATH=$dir/bin:$PATH exec "$tree/run.sh" "$@" < /dev/null; } # for a process of its own: spawn ... &
run() { CHECK_DIR=$dir VMPAIR_BUILD=$dir/build PATH=$dir/bin:$PATH "$tree/run.sh" "$@"; }

# --- refused at once ---------------------------------------------------------------------------------------------------
says 2 usage 'no command' run
says 2 usage 'an unknown command' run dance
says 2 usage 'check: an unknown option' run check --quickly
says 2 usage 'demo: an unknown option' run demo --colour
says 2 usage 'demo: --json without a file' run demo --json
says 2 'cannot be written' 'demo: a file that cannot be written' run demo --json "$dir/none/file"
says 2 'cannot be written' 'demo: a directory as file' run demo --json "$dir"
says 2 'is no metric' 'bench: an unknown metric' run bench colour
says 2 usage 'bench: --runs 0' run bench --runs 0
says 2 'cannot be written' 'bench: a file that cannot be written' run bench --json "$dir/none/file"
says 2 usage 'lab: an unknown command' run lab dance
says 2 usage 'lab up: an unknown option' run lab up --colour
for n in '' 0 abc -1 3x 33; do
	says 2 'needs a number' "lab up: --nodes '$n'" run lab up --nodes "$n"
done
says 2 'needs a number' 'lab up: --nodes without a number' run lab up --nodes
says 0 usage --help run --help
holds 'nothing of this began to build' /dev/null [ ! -e "$dir/build" ]
says 3 'needs root' 'not root' setpriv --reuid 65534 --regid 65534 --clear-groups "$tree/run.sh" check --quick

cp "$(command -v sleep)" "$dir/corosync"
# shellcheck disable=SC2016 # of the inner shell
with_corosync() { # with_corosync UNSHARE_ARGS: one runs, in namespaces of its own
	env CHECK_DIR="$dir" VMPAIR_BUILD="$dir/build" PATH="$dir/bin:$PATH" unshare --pid --mount-proc --fork bash -c '
		unshare $1 "$2/corosync" 1000 & for i in {1..100}; do grep -qx corosync /proc/[0-9]*/comm && break; sleep 0.02; done
		"$2/tree/run.sh" lab status' - "$1" "$dir"
}
if unshare --pid --mount-proc --fork true 2> /dev/null; then
	says 3 'a corosync runs on this machine (process [0-9]*)' 'where a corosync runs' with_corosync --uts
	says 3 '^lab .*: down' 'but one of a lab, in another network namespace, is no reason' with_corosync --net
else
	echo 'ok - where a corosync runs # SKIP no pid namespaces here'
fi

# --- the fault matrix, resumed ------------------------------------------------------------------------------------------
# Without a lab: this test owns the one it wants to make, so it comes as far as the first fault that is to be done.
matrix_lab=check$$ matrix=$dir/matrix
mkdir -p "$matrix" "/run/vmpair-lab/$matrix_lab"
read -r -a stat < "/proc/$$/stat"
echo "$$.${stat[21]}" > "/run/vmpair-lab/$matrix_lab/owner"
resumed() { LAB_ID=$matrix_lab LAB_BUILD=$matrix "$tree/tests/lab/faults.sh" --resume vm-kill-primary two-vms; }
rows() { printf '%s\ttitle\t%s\tyes\t%s\t%s\n' "$@" > "$matrix/faults.tsv"; }
rows vm-kill-primary 35 2900 ok two-vms - - FAILED
says 1 '^ok 1 - fault/vm-kill-primary # done before' 'matrix resumed: what was ok is not done again' resumed
rows vm-kill-primary 35 2900 ok two-vms - - FAILED
says 1 '^not ok 2 - fault/two-vms (no lab)' 'what failed is done again' resumed
holds 'and its row is gone' "$matrix/faults.tsv" [ "$(cut -f 1 "$matrix/faults.tsv")" = vm-kill-primary ]
rows vm-kill-primary 35 2900 ok two-vms 40 5000 ok
says 0 '^# 2 ok (2 before), 0 failed$' 'where all was ok there is nothing to do' resumed
rm -r "/run/vmpair-lab/$matrix_lab"
rmdir /run/vmpair-lab 2> /dev/null

# --- packages, without a service ----------------------------------------------------------------------------------------
# /usr/sbin and the lock are ours alone: an overlay over this machine's
inside() { # inside NAME: the parts below, in a mount namespace
	mkdir -p "$dir/over"
	mount -t tmpfs over "$dir/over" && mkdir "$dir"/over/{upper,work} && mount -t tmpfs lock /run/lock &&
		mount -t overlay over -o "lowerdir=/usr/sbin,upperdir=$dir/over/upper,workdir=$dir/over/work" /usr/sbin 2> /dev/null || return 77
	fail=0
	"$1"
	return "$fail"
}
packages() {
	local policy=/usr/sbin/policy-rc.d calls=$dir/apt.calls before pid
	printf '#!/bin/sh\nexit 0 # of the operator\n' > "$policy"
	chmod 700 "$policy"
	before=$(stat -c '%a %s' "$policy"; cat "$policy")
	touch "$dir/absent"
	restored() { [ "$(stat -c '%a %s' "$policy"; cat "$policy")" = "$before" ]; }
	closed() { # whenever it was called
		[ "$(grep -c '^exit 101$' "$calls")" = "$(grep -cE '^(apt-get|dpkg) ' "$calls")" ] && not grep -q 'of the operator' "$calls"
	}
	waits() { wait_until 20 grep -q waiting "$dir/second.out" && not gone "$(cat "$dir/apt.pid")"; }

	says 3 'apt-get install failed' 'packages that cannot be installed' run lab build
	holds 'while packages are installed no service may start' "$calls" closed
	holds 'what dpkg left half done is finished before the next try' "$calls" grep -q '^dpkg --configure -a$' "$calls"
	holds 'apt-get does not hold the lock of the build directory' "$calls" not grep -q 'holds the lock' "$calls"
	holds "the machine's own policy is in force again" "$policy" restored

	rm -f "$calls" "$dir/apt.pid"
	touch "$dir/apt-hangs"
	spawn lab build > "$dir/first.out" 2>&1 &
	pid=$!
	wait_until 20 test -s "$dir/apt.pid" || bad "apt-get was not called: $(cat "$dir/first.out")"
	kill -KILL "$pid"
	wait "$pid" 2> /dev/null
	holds 'the policy stays ours while the apt-get of a killed run goes on' "$policy" grep -q 'made by vmpair' "$policy"
	spawn lab build > "$dir/second.out" 2>&1 &
	pid=$!
	holds 'the next run waits for it' "$dir/second.out" waits
	: > "$calls"
	rm "$dir/apt-hangs"
	wait "$pid"
	holds 'and ends as the first one would have' "$dir/second.out" [ $? = 3 ]
	holds 'it first finishes what was broken off' "$calls" [ "$(head -n 1 "$calls")" = 'dpkg --configure -a' ]
	holds "and puts the machine's own policy back" "$policy" restored
	holds 'nothing is left beside it' /dev/null [ -z "$(ls /usr/sbin/policy-rc.d?* 2> /dev/null)" ]

	rm "$policy"
	says 3 'apt-get install failed' 'packages, where there is no policy' run lab build
	holds 'none is left there' "$policy" [ ! -e "$policy" ]
	rm "$dir/absent"
}

# --- a run that is killed ------------------------------------------------------------------------------------------------
killed() {
	local first pid helper
	rm -f "$dir"/*.pid
	spawn lab build > "$dir/first.out" 2>&1 &
	first=$!
	if ! wait_until 30 test -s "$dir/configure.pid"; then
		grep -q 'this kernel' "$dir/first.out" && return 77
		bad "the build was not begun: $(cat "$dir/first.out")"
		return
	fi
	pid=$(cat "$dir/configure.pid") helper=$(cat "$dir/helper.pid")
	says 3 'another run.sh works in' 'two runs in one build directory' run lab build
	holds 'the second one does not touch the first' "$dir/first.out" not gone "$pid"
	kill -KILL "$first"
	wait "$first" 2> /dev/null
	holds 'what a killed run started goes on (else nothing is tested)' "$dir/first.out" not gone "$pid"
	touch "$dir/second"
	says 1 'failed:' 'a run after a killed one works' run lab build
	holds 'and ends what that one left at work' /dev/null gone "$pid"
	holds 'helpers in a session of their own, too' /dev/null gone "$helper"
}

for part in packages killed; do
	if [ $part = packages ]; then
		export dir tree srcdir
		export -f inside packages run spawn says good bad holds not gone wait_until
		unshare --mount bash -u -c 'inside packages' || {
			rc=$?
			[ $rc = 77 ] && echo 'ok - packages # SKIP no overlay file system here' || fail=1
		}
	else
		killed
		[ $? != 77 ] || echo 'ok - killed run # SKIP this kernel cannot carry the lab'
	fi
done

# --- the real thing --------------------------------------------------------------------------------------------------------
if [ "${1-}" = --full ]; then
	export LAB_ID=again
	real() { VMPAIR_BUILD=$PWD/again "$srcdir/run.sh" "$@"; }
	VMPAIR_BUILD=$PWD/again setsid "$srcdir/run.sh" demo > "$dir/demo.out" 2>&1 < /dev/null &
	pids+=($!)
	if wait_until 900 grep -q "primary's qemu killed" "$dir/demo.out"; then
		kill -KILL "${pids[0]}"
		orphans=$(pgrep -f 'tests/lab/demo\.sh' | while read -r p; do
			! tr '\0' '\n' < "/proc/$p/environ" 2> /dev/null | grep -qx LAB_ID=again || echo "$p"
		done)
		[ -n "$orphans" ] || bad 'no demo.sh is left by the killed run: nothing is tested'
		says 0 'is up: 3 nodes' 'a lab after a killed demo' real lab up
		left=0
		for p in $orphans; do gone "$p" || left=1; done
		holds 'the demo does not go on in it' "$dir/demo.out" [ $left = 0 ]
		# longer than its next steps would take
		up=0
		for ((end = SECONDS + 20; SECONDS < end && up == 0; )); do real lab status 2>&1 | grep -q 'n3: process' || up=1; done
		holds 'and the lab stays up' "$dir/demo.out" [ $up = 0 ]
	else
		bad "the demo did not come to its first event: $(tail -n 5 "$dir/demo.out")"
	fi
	real lab down
fi
exit $fail
