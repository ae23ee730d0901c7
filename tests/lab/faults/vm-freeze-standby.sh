# shellcheck shell=bash disable=SC2034,SC2154,SC2317
# SPDX-License-Identifier: GPL-2.0-or-later
# title: VM of the standby frozen, then thawed
# moves: no
inject() { was=$standby pid=$(vm_pid "$standby" p1); kill_vm "$was" STOP; wait_for 15 not ready; }
ready() { [ "$(pair_status "$holder" p1 | jq '[.members[] | select(.running and .ready)] | length')" = 2 ]; }
mend() { on "$was" kill -CONT "$pid" 2> /dev/null || true; } # its silence may have been noticed, and the VM replaced
