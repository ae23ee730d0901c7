# shellcheck shell=bash disable=SC2034,SC2154,SC2317
# SPDX-License-Identifier: GPL-2.0-or-later
# title: 20 random faults in a row, at most one of a kind at a time
# They follow from --seed; the log tells which. Each lasts up to 1.5 s and is taken back before the next; nobody waits for the pair to be whole.
inject() {
	log "as with --seed $((seed + number - 1)) alone" # each run of it another one
	RANDOM=$((seed + number - 1))
	for i in $(seq 20); do
		node=n$((RANDOM % LAB_NODES + 1)) to=n$((RANDOM % LAB_NODES + 1)) for=$((RANDOM % 15)) what=$((RANDOM % 12))
		case $what in
		0 | 1)
			node=$(pair_primary p1) || true
			log "$i: VM of the primary (${node:-none})"
			[ -z "$node" ] || kill_vm "$node" 2> /dev/null || true
			;;
		2)
			log "$i: VM of $node"
			kill_vm "$node" 2> /dev/null || true
			;;
		3)
			log "$i: vmpaird of $node killed"
			daemon kill "$node" vmpaird
			keep_for "0.$for"
			daemon start "$node" vmpaird
			;;
		4)
			log "$i: vmpaird of $node frozen"
			daemon freeze "$node" vmpaird
			keep_for "1.$for"
			daemon thaw "$node" vmpaird
			;;
		5)
			log "$i: vmpaird of $node restarted"
			daemon stop "$node" vmpaird
			daemon start "$node" vmpaird
			;;
		6)
			log "$i: $node cut off"
			cut_off "$node" c
			keep_for "0.$for"
			heal
			;;
		7)
			log "$i: nothing from $node to $to"
			[ "$node" = "$to" ] || drop_from_to "$node" "$to" c
			keep_for "1.$for"
			heal
			;;
		8)
			log "$i: switchover"
			on "$node" timeout 10 vmpair switchover p1 > /dev/null 2>&1 || true
			;;
		9)
			log "$i: libvirtd of $node killed"
			daemon kill "$node" libvirtd
			keep_for "0.$for"
			daemon start "$node" libvirtd
			;;
		10)
			log "$i: VM of $node frozen"
			kill_vm "$node" STOP 2> /dev/null || true
			keep_for "1.$for"
			kill_vm "$node" CONT 2> /dev/null || true
			;;
		11)
			log "$i: 30 % of the packets lost"
			lossy 30
			keep_for "1.$for"
			unlossy
			;;
		esac
		keep_for "0.$((RANDOM % 5))"
	done
}
mend() { heal; wait_for 90 lab_healthy; }
