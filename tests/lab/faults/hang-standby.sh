# shellcheck shell=bash disable=SC2034,SC2154,SC2317
# SPDX-License-Identifier: GPL-2.0-or-later
# title: guest of the standby hangs
# moves: no
inject() { wait_for 30 heard "$standby"; old=$(vm_pid "$standby" p1); in_guest "$standby" hang; wait_for 30 replaced "$standby" "$old"; }
mend() { :; }
