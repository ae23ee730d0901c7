# shellcheck shell=bash disable=SC2034,SC2154,SC2317
# SPDX-License-Identifier: GPL-2.0-or-later
# title: VM of the standby killed
# moves: no
# third: yes
inject() { kill_vm "$standby"; wait_for 15 degraded; }
degraded() { [ "$(pair_status "$holder" p1 | jq -r .mode)" != sync ]; }
mend() { :; }
