# shellcheck shell=bash disable=SC2034,SC2154,SC2317
# SPDX-License-Identifier: GPL-2.0-or-later
# title: VM of the primary frozen, thawed after the failover
# moves: yes
inject() { wait_for 30 heard "$holder"; old=$holder pid=$(vm_pid "$holder" p1); kill_vm "$old" STOP; wait_moved "$old"; }
mend() { on "$old" kill -CONT "$pid" 2> /dev/null || true; } # it may have been ended by then
