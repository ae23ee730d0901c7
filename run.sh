#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Installs what is missing, builds, and runs demo, tests, measurements or the lab. See --help.
set -euo pipefail

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
BUILD=${VMPAIR_BUILD:-$TOP/build}
export LAB_BUILD=$BUILD
unset LAB_OWNER # a run of its own, also below another one's tests
# shellcheck source=tests/lab/lib.sh
. "$TOP/tests/lab/lib.sh"

PACKAGES=(
	# build
	gcc make autoconf automake libtool pkg-config xz-utils libc6-dev
	libqb-dev libcorosync-common-dev libcpg-dev libcmap-dev libquorum-dev libvirt-dev libxml2-dev libmnl-dev
	libnftnl-dev libgnutls28-dev libjansson-dev libsystemd-dev libcmocka-dev libxml2-utils fence-agents spin
	# lab
	corosync pacemaker pacemaker-cli-utils pcs crmsh resource-agents libvirt-daemon libvirt-daemon-driver-qemu
	libvirt-daemon-system libvirt-clients qemu-system-x86 qemu-utils keepalived nftables iproute2 iputils-ping
	busybox-static cpio curl jq procps util-linux redis-server
)
BENCH_PACKAGES=(haproxy nginx-light wrk)
CHECK_PACKAGES=(clang libclang-rt-14-dev shellcheck mandoc valgrind tcpdump bpftool)
GUARD=/usr/sbin/policy-rc.d
GUARD_MARK='# made by vmpair run.sh: no service starts while it installs packages'
GUARD_ASIDE=$GUARD.before-vmpair # the machine's own
PACKAGES_LOCK=/run/lock/vmpair-run-packages

usage() {
	cat <<- 'EOF'
		usage: ./run.sh demo [--json FILE]
		       ./run.sh check [--quick | --full [--resume]]
		       ./run.sh bench [NAME...] [--runs N] [--json FILE]
		       ./run.sh lab up [--nodes N] [--no-vmpaird] | down | status | shell NODE | build

		Each installs the Debian packages that are missing, builds in ./build (VMPAIR_BUILD), goes, and cleans up.
		Everything runs in namespaces made for it: no service of this machine is started, stopped or asked.

		demo    a pair of virtual machines on a cluster of three nodes loses its primary in four ways
		check   unit tests, simulator, sanitizers, second compiler, make distcheck, and the tests in the lab
		        --quick  without distcheck, sanitizers, second compiler and long lab tests
		        --full   with long runs of simulator and fuzzers, all lab tests and the fault matrix as well
		        --resume the fault matrix goes on with a run that was broken off or failed: what was ok is not done again
		bench   measures vmpair beside VirtualDomain, IPaddr2 and keepalived, and its relay beside HAProxy; NAME:
		        failover, monitor, idle, relay or a metric (default: all); --runs N repetitions (default 10)
		        bench sim [SCHEDULES [SEED]], bench spin, bench fuzz [MINUTES [TARGET...]]: long runs of the simulator and of
		        the model of the core, and of the fuzzers of all parsers
		lab     the cluster to play with: ./run.sh lab shell n1, then pcs status

		Exit status: 0 all well, 1 a test failed, 2 wrong usage, 3 something needed is missing here.
	EOF
}

say() { echo "== $*"; }
missing() {
	echo "run.sh: $*" >&2
	exit 3
}

# --- phases, cleaning up ---------------------------------------------------------------------------------------------

PHASES=()
phase() { # phase NAME: the time until the next phase counts for NAME
	uptime_ms
	[ -z "${phase_name-}" ] || PHASES+=("$phase_name $((REPLY - phase_start))")
	phase_name=$1 phase_start=$REPLY
	[ -z "$1" ] || say "$1"
}
print_phases() {
	local p
	phase ''
	for p in "${PHASES[@]}"; do
		printf '   %-40s %7.1f s\n' "${p% *}" "$((${p##* } / 100))e-1"
	done
}

CHILD=
run() { # run COMMAND...: so that a signal to this script ends it at once, with all its children
	local rc=0
	set -m
	"$@" 8>&- &
	CHILD=$!
	set +m
	wait "$CHILD" || rc=$?
	CHILD=
	return $rc
}
cleanup() {
	local rc=$?
	trap '' INT TERM HUP
	if [ -n "$CHILD" ]; then
		kill -TERM -- "-$CHILD" 2> /dev/null || true
		wait "$CHILD" 2> /dev/null || true
	fi
	[ "${lab_ours-}" != yes ] || lab_end > /dev/null 2>&1 || true
	[ -z "$guarded" ] || drop_guard
	exit "$rc"
}

# While packages are installed no service of theirs may start, whatever the machine's own policy says: that is put aside.
guarded=
guard_is_ours() { grep -qxF "$GUARD_MARK" "$GUARD" 2> /dev/null; }
raise_guard() {
	guarded=yes
	! guard_is_ours || return 0
	[ ! -e "$GUARD" ] || [ "$GUARD" -ef "$GUARD_ASIDE" ] || ln -f "$GUARD" "$GUARD_ASIDE"
	printf '#!/bin/sh\n%s\nexit 101\n' "$GUARD_MARK" > "$GUARD.new"
	chmod 755 "$GUARD.new"
	mv -f "$GUARD.new" "$GUARD" # there is no moment without a policy
}
drop_guard() {
	guarded=
	if ! guard_is_ours; then
		rm -f "$GUARD_ASIDE" # somebody has made another one since
	elif [ -e "$GUARD_ASIDE" ]; then
		mv -f "$GUARD_ASIDE" "$GUARD"
	else
		rm -f "$GUARD"
	fi
}

# --- what the machine must have ----------------------------------------------------------------------------------------

check_host() {
	local ours comm
	[ "$(id -u)" = 0 ] || missing 'needs root: it makes namespaces, bridges and eBPF programs of its own'
	[ "$(uname -m)" = x86_64 ] || missing "needs x86_64 (the lab's guests), this is $(uname -m)"
	ours=$(readlink /proc/self/ns/net)
	for comm in /proc/[0-9]*/comm; do
		if [ "$(cat "$comm" 2> /dev/null)" = corosync ] && [ "$(readlink "${comm%comm}ns/net")" = "$ours" ]; then
			comm=${comm%/comm}
			missing "a corosync runs on this machine (process ${comm#/proc/}). vmpair's lab would share its resources: use another machine"
		fi
	done
}

check_kernel() { # what lab and gate need of the kernel, found out in a namespace of our own
	local report
	# shellcheck disable=SC2016 # expanded by the inner shell
	report=$(unshare --net --mount bash -c '
		try() { local what=$1; shift; "$@" > /dev/null 2>&1 || echo "  $what"; }
		try "veth devices (CONFIG_VETH)" ip link add va type veth peer name vb
		try "bridges (CONFIG_BRIDGE)" ip link add br0 type bridge
		try "tap devices (CONFIG_TUN, /dev/net/tun)" ip tuntap add tap0 mode tap
		try "nftables for bridges (CONFIG_NF_TABLES_BRIDGE)" nft "table bridge t { chain c { type filter hook forward priority 0; }; }"
		try "bpf file system (CONFIG_BPF_SYSCALL)" mount -t bpf bpf /sys/fs/bpf
		try "overlay file system (CONFIG_OVERLAY_FS)" mount -t overlay o -o lowerdir=/usr/bin:/usr/sbin /mnt
		try "clsact (CONFIG_NET_CLS_ACT)" tc qdisc add dev va clsact
		try "pid and ipc namespaces" unshare --pid --fork --uts --ipc true
	' 2>&1) || report="  network and mount namespaces"
	[ -z "$report" ] || missing "this kernel ($(uname -r)) lacks what the lab needs:"$'\n'"$report"
}

install_packages() { # install_packages PACKAGE...
	local p absent=()
	broken_off=
	if ! command -v apt-get > /dev/null || ! command -v dpkg-query > /dev/null; then
		for p in gcc make autoconf automake libtool pkg-config corosync pacemakerd pcs libvirtd virsh qemu-system-x86_64 \
			nft ip busybox cpio jq curl; do
			command -v "$p" > /dev/null || absent+=("$p")
		done
		[ ${#absent[@]} -gt 0 ] || return 0
		missing "this is no Debian, so packages cannot be installed here. Commands not found: ${absent[*]}"
	fi
	# One at a time on this machine. apt-get holds it as well: a run that was killed may have left one at work, whose end we wait for.
	exec 9> "$PACKAGES_LOCK"
	if ! flock -n 9; then
		say 'another run.sh installs packages here: waiting'
		flock -w 900 9 || missing "another run.sh has installed packages for 15 minutes ($PACKAGES_LOCK)"
	fi
	! guard_is_ours || broken_off=yes # that run ended in the middle
	for p; do
		[ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2> /dev/null)" = installed ] || absent+=("$p")
	done
	if [ ${#absent[@]} -gt 0 ] || [ -n "$broken_off" ]; then
		raise_guard
		apt_install "${absent[@]}"
		drop_guard
	fi
	exec 9>&-
}
apt_install() {
	local try
	# shellcheck disable=SC1091
	[ "$(. /etc/os-release && echo "${ID-} ${VERSION_ID-}")" = 'debian 12' ] ||
		say "this is not Debian 12; if a package below is unknown here, install its counterpart and try again"
	say "installing ${*:-nothing new, but finishing what was broken off}"
	: > "$BUILD/apt.log"
	for try in 1 2 3; do
		# killed in the middle, dpkg refuses everything until this was done
		if { [ "$try" = 1 ] && [ -z "$broken_off" ]; } || apt_run dpkg --configure -a; then
			[ $# -gt 0 ] || return 0
			! apt_run apt-get install -qq -y -o DPkg::Lock::Timeout=300 --no-install-recommends "$@" || return 0
		fi
		[ "$try" -lt 3 ] || break
		apt_run apt-get update -qq || true
	done
	tail -n 20 "$BUILD/apt.log" >&2
	missing "apt-get install failed (all of it: $BUILD/apt.log)"
}
# It is never killed as a leftover of ours, and does not hold the lock of the build directory.
apt_run() { env -u LAB_OWNER DEBIAN_FRONTEND=noninteractive "$@" >> "$BUILD/apt.log" 2>&1 < /dev/null 8>&-; }

# --- building ----------------------------------------------------------------------------------------------------------

quietly() { # quietly LOG COMMAND...: output only when it fails
	local log=$1
	shift
	if ! run "$@" > "$log" 2>&1; then
		tail -n 30 "$log" >&2
		echo "run.sh: failed: $* (all of it: $log)" >&2
		return 1
	fi
}
configure() { # configure DIR OPTION...: configures and builds there
	local dir=$1
	shift
	mkdir -p "$dir"
	if [ ! -x "$TOP/configure" ] || [ "$TOP/configure.ac" -nt "$TOP/configure" ] || [ ! -f "$TOP/Makefile.in" ]; then
		quietly "$BUILD/autoreconf.log" autoreconf -fi "$TOP" || return 1
	fi
	if [ ! -f "$dir/Makefile" ] || [ "$TOP/configure" -nt "$dir/Makefile" ]; then
		quietly "$dir/configure.out" env -C "$dir" "$TOP/configure" -q "$@"
	fi
}
build() { quietly "$1/build.log" make -s -C "$1" "-j$(nproc)" "${@:2}"; }
PREFIXES=(--prefix=/usr --sysconfdir=/etc --localstatedir=/var)

prepare() { # packages, build, guest; prepare PACKAGE...
	local before
	check_host
	mkdir -p "$BUILD"
	exec 8<> "$BUILD/.run.lock"
	flock -n 8 || missing "another run.sh works in $BUILD"
	# what a killed run left at work: scripts, a compiler
	if read -r before <&8; then
		lab_kill_orphans "$before" || missing "processes of a run that was killed do not end ($BUILD)"
	fi
	echo "$LAB_OWNER" > "$BUILD/.run.lock"
	phase 'install and build'
	install_packages "${PACKAGES[@]}" "$@"
	check_kernel
	configure "$BUILD" "${PREFIXES[@]}"
	build "$BUILD"
	lab_build
}

# --- check ---------------------------------------------------------------------------------------------------------------

PASSED=0 FAILED=0 SKIPPED=0
result() { # result ok|fail|skip NAME [DETAIL]
	case "$1" in
	ok) PASSED=$((PASSED + 1)); echo "ok - $2${3:+ ($3)}" ;;
	skip) SKIPPED=$((SKIPPED + 1)); echo "ok - $2 # SKIP${3:+ $3}" ;;
	*) FAILED=$((FAILED + 1)); echo "not ok - $2${3:+ ($3)}" ;;
	esac
}
unit_tests() { # unit_tests DIR LABEL: every program of make check is one result
	local verdict name seen=0
	run make -k -C "$1" "-j$(nproc)" check > "$1/check.log" 2>&1 || true
	while IFS=': ' read -r verdict name; do
		seen=1
		case "$verdict" in
		PASS | XFAIL) result ok "$2/$name" ;;
		SKIP) result skip "$2/$name" ;;
		*)
			result fail "$2/$name" "log: $1/$name.log"
			tail -n 15 "$1/$name.log" 2> /dev/null | sed 's/^/# /' || true
			;;
		esac
	done < <(grep -E '^(PASS|FAIL|SKIP|XPASS|XFAIL|ERROR): ' "$1/check.log")
	if [ $seen = 0 ] || ! grep -q '^# ERROR: 0' "$1/check.log"; then
		result fail "$2" "make check broke off, log: $1/check.log"
		tail -n 15 "$1/check.log" | sed 's/^/# /'
	fi
}
step() { # step NAME LOG COMMAND...: one result
	local name=$1 log=$2
	shift 2
	if run "$@" > "$log" 2>&1; then
		result ok "$name"
	else
		result fail "$name" "log: $log"
		tail -n 15 "$log" | sed 's/^/# /'
	fi
}
matrix() { # matrix NAME LOG OPTION...: the fault matrix is one result, but what it left out is told and counted
	local name=$1 log=$2 ok=ok counts skipped
	shift 2
	run "$TOP/tests/lab/faults.sh" "$@" > "$log" 2>&1 || ok=fail
	counts=$(sed -n '$s/^# //p' "$log")
	skipped=$(grep -c '^ok .*# SKIP' "$log") || true
	SKIPPED=$((SKIPPED + skipped))
	if [ $ok = ok ]; then
		result ok "$name" "$counts"
		sed -n 's/^ok .*# SKIP/# &/p' "$log"
	else
		result fail "$name" "${counts:+$counts; }log: $log"
		tail -n 15 "$log" | sed 's/^/# /'
	fi
}
lab_tests() { "$TOP/tests/lab/run-tests.sh" "$@" | tee "$BUILD/lab-tests.log"; }
memcheck() { # uninitialised values, which the sanitizers do not see, where foreign bytes are taken apart
	local t
	for t in core wire seal keys conf domxml pairparam journal ctl record session; do
		echo "== $t"
		(cd "$1" && ./libtool --mode=execute valgrind -q --error-exitcode=9 --leak-check=full --errors-for-leak-kinds=definite \
			"tests/unit/test_$t") || return 1
	done
}
build_all() { make -k -s -C "$1" "-j$(nproc)" all && make -s -C "$1" "-j$(nproc)" check TESTS=; }
coverage() { # coverage DIR: a test of a build with --enable-coverage leaves counts
	make -s -C "$1" tests/unit/test_conf || return 1
	(cd "$1" && tests/unit/test_conf) || return 1
	find "$1" -name '*conf.gcda' | grep .
}
cmd_check() {
	local mode=normal resume='' line arg
	for arg; do
		case "$arg" in
		--quick | --full) mode=${arg#--} ;;
		--resume) resume=--resume ;;
		*) usage >&2; exit 2 ;;
		esac
	done
	[ -z "$resume" ] || [ "$mode" = full ] || { usage >&2; exit 2; }
	prepare "${CHECK_PACKAGES[@]}"
	lab_ours=yes

	phase 'unit tests and simulator'
	unit_tests "$BUILD" unit
	step shellcheck "$BUILD/shellcheck.log" env -C "$TOP" shellcheck -x run.sh .ci/run tests/check-run.sh tests/check-install.sh tests/fuzz/*.sh tests/sim/*.sh tests/lab/*.sh tests/lab/*/*.sh
	if [ "$mode" != quick ]; then
		phase 'sanitizers (address, undefined)'
		if configure "$BUILD/asan" --enable-sanitizers && build "$BUILD/asan"; then
			unit_tests "$BUILD/asan" asan
		else
			result fail asan 'does not build'
		fi
		phase 'second compiler (clang)'
		if configure "$BUILD/clang" CC=clang; then
			step clang "$BUILD/clang.log" build_all "$BUILD/clang"
		else
			result fail clang
		fi
		phase valgrind
		step valgrind "$BUILD/valgrind.log" memcheck "$BUILD"
		phase 'make distcheck'
		step distcheck "$BUILD/distcheck.log" make -C "$BUILD" "-j$(nproc)" distcheck
	fi
	if [ "$mode" = full ]; then
		phase coverage
		if configure "$BUILD/coverage" --enable-coverage; then
			step coverage "$BUILD/coverage.log" coverage "$BUILD/coverage"
		else
			result fail coverage 'does not configure'
		fi
		phase 'simulator, a million schedules of two sessions'
		step sync-million "$BUILD/sync-million.log" "$BUILD/tests/sim/sync" --runs 1000000 --seed 1000000
		phase 'fuzzers, a minute each'
		if configure "$BUILD/fuzz" CC=clang --enable-fuzzers --enable-sanitizers && build "$BUILD/fuzz"; then
			step fuzz "$BUILD/fuzz.log" env -C "$BUILD/fuzz" VMP_FUZZ_JOBS="$(nproc)" "$TOP/tests/fuzz/long.sh" 1
		else
			result fail fuzz 'does not build'
		fi
	fi

	phase 'tests in the lab'
	case "$mode" in
	quick | full) set -- "--$mode" ;;
	*) set -- ;;
	esac
	run lab_tests "$@" || true
	if ! grep -q '^1\.\.' "$BUILD/lab-tests.log"; then
		result fail lab 'the runner broke off'
	fi
	while read -r line; do
		case "$line" in
		'not ok'*) FAILED=$((FAILED + 1)) ;;
		ok*'# SKIP'*) SKIPPED=$((SKIPPED + 1)) ;;
		ok*) PASSED=$((PASSED + 1)) ;;
		esac
	done < "$BUILD/lab-tests.log"

	case "$mode" in
	quick) ;;
	full)
		phase 'a second run after a killed one'
		step 'second run' "$BUILD/check-run.log" env -C "$BUILD" srcdir="$TOP" "$TOP/tests/check-run.sh" --full
		phase 'fault matrix'
		matrix 'fault matrix' "$BUILD/faults.log" --full ${resume:+"$resume"}
		phase 'fault matrix, accepted requests'
		matrix 'fault matrix with history' "$BUILD/faults-history.log" --full --history ${resume:+"$resume"}
		;;
	*)
		phase 'fault matrix, a third'
		matrix 'fault matrix' "$BUILD/faults.log" --third
		;;
	esac

	print_phases
	if [ $SKIPPED -gt 0 ]; then
		echo "$PASSED passed, $FAILED failed, $SKIPPED skipped"
	else
		echo "$PASSED passed, $FAILED failed"
	fi
	[ $FAILED -eq 0 ]
}

# --- demo, bench, lab ----------------------------------------------------------------------------------------------------

cmd_script() { # cmd_script NAME ARG...: tests/lab/NAME.sh in a lab
	local name=$1 more=()
	shift
	[ "$name" != bench ] || more=("${BENCH_PACKAGES[@]}")
	prepare "${more[@]}"
	lab_ours=yes
	phase "$name"
	run "$TOP/tests/lab/$name.sh" "$@" || {
		echo "run.sh: $name failed" >&2
		return 1
	}
	print_phases
}

# Without a lab: schedules of the simulator (bench sim [SCHEDULES [FIRST-SEED]]), the larger model (tests/spin/README), or the fuzzers
cmd_core_bench() {
	local what=$1
	shift
	prepare
	phase "$what"
	case "$what" in
	sim) # the shipped core, compiled for this machine: a third faster
		configure "$BUILD/sim" CFLAGS='-O3 -flto=auto -march=native' && run make -s -C "$BUILD/sim" tests/sim/sim || return 1
		cd "$BUILD/sim" || return 1
		VMP_SIM_JOBS=${VMP_SIM_JOBS:-$(nproc)} run "$TOP/tests/sim/soak.sh" "$@"
		;;
	fuzz)
		configure "$BUILD/fuzz" CC=clang --enable-fuzzers --enable-sanitizers && build "$BUILD/fuzz" || return 1
		cd "$BUILD/fuzz" || return 1
		VMP_FUZZ_JOBS=${VMP_FUZZ_JOBS:-$(nproc)} run "$TOP/tests/fuzz/long.sh" "$@"
		;;
	spin)
		cd "$BUILD" || return 1
		srcdir=$TOP VMP_SPIN_STEPS=${VMP_SPIN_STEPS:-7} VMP_SPIN_FAULTS=${VMP_SPIN_FAULTS:-3} VMP_SPIN_KEPT=${VMP_SPIN_KEPT:-2} \
			VMP_SPIN_CLOCKS=${VMP_SPIN_CLOCKS-all} VMP_SPIN_BITSTATE=${VMP_SPIN_BITSTATE-1} VMP_SPIN_SECONDS=${VMP_SPIN_SECONDS:-3600} \
			run "$TOP/tests/spin/spin.sh"
		;;
	esac
	print_phases
}

cmd_lab() {
	case "${1-}" in
	up)
		"$TOP/tests/lab/lab.sh" "$@" --check-usage || exit 2
		prepare
		phase 'lab'
		run "$TOP/tests/lab/lab.sh" "$@" --no-build
		print_phases
		;;
	build) prepare ;;
	down | status | shell)
		check_host
		trap - EXIT
		exec "$TOP/tests/lab/lab.sh" "$@"
		;;
	*) usage >&2; exit 2 ;;
	esac
}

trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

verb=${1-}
[ $# -eq 0 ] || shift
case "$verb" in
check) cmd_check "$@" ;;
demo | bench)
	case "$verb ${1-}" in
	'bench sim' | 'bench spin' | 'bench fuzz') cmd_core_bench "$@"; exit ;;
	esac
	# refuse wrong options before minutes of building
	"$TOP/tests/lab/$verb.sh" --check-usage "$@" || exit 2
	cmd_script "$verb" "$@"
	;;
lab) cmd_lab "$@" ;;
-h | --help | help) usage ;;
*) usage >&2; exit 2 ;;
esac
