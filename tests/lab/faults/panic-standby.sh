# shellcheck shell=bash disable=SC2034,SC2154,SC2317
# SPDX-License-Identifier: GPL-2.0-or-later
# title: guest of the standby panics
# moves: no
inject() { old=$(vm_pid "$standby" p1); in_guest "$standby" panic; wait_for 20 replaced "$standby" "$old"; }
mend() { :; }
