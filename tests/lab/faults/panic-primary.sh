# shellcheck shell=bash disable=SC2034,SC2154,SC2317
# SPDX-License-Identifier: GPL-2.0-or-later
# title: guest of the primary panics
# moves: yes
# third: yes
inject() { old=$holder; in_guest "$holder" panic; wait_moved "$old"; }
mend() { :; }
