# shellcheck shell=bash disable=SC2034,SC2154,SC2317
# SPDX-License-Identifier: GPL-2.0-or-later
# title: guest of the primary hangs
# moves: yes
# third: yes
inject() { wait_for 30 heard "$holder"; old=$holder; in_guest "$holder" hang; wait_moved "$old"; }
mend() { :; }
