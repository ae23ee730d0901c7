#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Fencing of a whole cluster by refusing leases, by crm (crmsh): one device for all nodes. What it covers and what not: fence_vmpair(8).
set -e
: "${CRM:=crm}"
: "${FENCE:=cut}"                                  # name of the device

# It lists its nodes itself, needs no address and no password, and offers no reboot: Pacemaker asks for off when a node is lost, and for on
# (unfencing) when it has joined again, before anything starts there.
$CRM configure load update - <<END
primitive $FENCE stonith:fence_vmpair \\
	params power_timeout=20 \\
	op monitor interval=60s timeout=20s \\
	meta provides=unfencing
property stonith-enabled=true
END

# Where nodes run anything else than pairs, a power device comes first and this one when that fails, or both have to succeed:
#   crm configure fencing_topology n1: power-n1 cut n2: power-n2 cut n3: power-n3 cut
#   crm configure fencing_topology n1: power-n1,cut n2: power-n2,cut n3: power-n3,cut
