#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Fencing of a whole cluster by refusing leases, by pcs: one device for all nodes. What it covers and what not: fence_vmpair(8).
set -e
: "${PCS:=pcs}"                                    # "pcs -f FILE" works on a file instead of the running cluster
: "${FENCE:=cut}"                                  # name of the device

# It lists its nodes itself, needs no address and no password, and offers no reboot: Pacemaker asks for off when a node is lost, and for on
# (unfencing) when it has joined again, before anything starts there. pcs sees in the metadata that it provides unfencing.
$PCS stonith create "$FENCE" fence_vmpair power_timeout=20 op monitor interval=60s timeout=20s
$PCS property set stonith-enabled=true

# Where nodes run anything else than pairs, a power device comes first and this one when that fails, or both have to succeed:
#   pcs stonith level add 1 n1 power-n1; pcs stonith level add 2 n1 cut         (and so on for each node)
#   pcs stonith level add 1 n1 power-n1,cut
