# shellcheck shell=bash disable=SC2034,SC2154,SC2317
# SPDX-License-Identifier: GPL-2.0-or-later
# title: cluster network parted into single nodes: nobody may serve; healed
inject() {
	for n in $(lab_all); do cut_off "$n" "c"; done
	wait_for 10 not answers || fail 'somebody serves without a majority'
	heal
	wait_for 60 lab_healthy
}
mend() { :; }
