#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# lab.sh up [--nodes N] [--no-vmpaird] [--no-build] | down | status | shell NODE|switch|client | on NODE COMMAND... | build
# The lab by hand; ./run.sh lab does the same after it has installed and built what is needed. See lib.sh.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
	sed -n 's/^# \(lab.sh .*\)/usage: \1/p' "${BASH_SOURCE[0]}"
	exit "${1:-2}"
}

status() {
	local n pid
	if ! [ -f "$LAB_DIR/env" ]; then
		echo "lab $LAB_ID: down"
		return 3
	fi
	lab_load
	echo "lab $LAB_ID: $LAB_NODES nodes, guests by $LAB_ACCEL, vmpaird $LAB_VMPAIRD, build $LAB_BUILD, state $LAB_DIR"
	for n in $(lab_all); do
		if ! read -r pid 2> /dev/null < "$LAB_DIR/$n.pid" || lab_gone "$pid"; then
			echo "$n: off"
			continue
		fi
		echo "$n: process $pid;$(for d in corosync libvirtd vmpaird pacemaker; do
			daemon running "$n" "$d" && echo -n " $d"
		done); VMs:$(on "$n" timeout 5 virsh -q list --name 2> /dev/null | tr '\n' ' ' | sed 's/^/ /; s/ *$//')"
	done
	on n1 crm_mon -1 2> /dev/null | sed 's/^/  /' || true
}

verb=${1-}
[ $# -eq 0 ] || shift
case "$verb" in
up)
	while [ $# -gt 0 ]; do
		case "$1" in
		--check-usage) only_usage=yes ;;
		--nodes)
			# entry addresses of pairs begin at .101, and a cluster of corosync has 32 nodes at most
			if ! [[ ${2-} =~ ^[1-9][0-9]?$ ]] || [ "$2" -gt 32 ]; then
				echo "lab: --nodes needs a number of 1 to 32, not '${2-}'" >&2
				usage
			fi
			LAB_NODES=$2
			shift
			;;
		--no-vmpaird) LAB_VMPAIRD=no ;;
		--no-build) built=yes ;;
		*) usage ;;
		esac
		shift
	done
	[ -z "${only_usage-}" ] || exit 0
	[ -n "${built-}" ] || lab_build
	uptime_ms; t0=$REPLY
	trap 'rc=$?; lab_logs "$LAB_BUILD/lab-logs/up"; lab_end; exit $rc' EXIT
	lab_up # not as a condition: bash would ignore errors inside
	trap - EXIT
	echo - > "$LAB_DIR/owner" # it outlives this script
	uptime_ms
	echo "lab $LAB_ID is up: $LAB_NODES nodes after $(((REPLY - t0) / 1000)).$(((REPLY - t0) % 1000 / 100)) s, state in $LAB_DIR"
	;;
down) lab_down ;;
build) lab_build ;;
status) status ;;
shell)
	lab_load
	case "${1-}" in
	switch) in_switch bash ;;
	client) in_client bash ;;
	n[0-9]*) on "$1" bash -l ;;
	*) usage ;;
	esac
	;;
on)
	lab_load
	[ $# -ge 2 ] || usage
	on "$@"
	;;
-h | --help) usage 0 ;;
*) usage ;;
esac
