# shellcheck shell=bash disable=SC2034,SC2154,SC2317
# SPDX-License-Identifier: GPL-2.0-or-later
# title: 8 busy processes beside everything for 8 s
# moves: no
inject() {
	for i in 1 2 3 4 5 6 7 8; do timeout 8 sh -c 'while :; do :; done' & busy[i]=$!; done
	wait "${busy[@]}" || true
}
mend() { :; }
