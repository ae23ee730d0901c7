#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# As vmpair.sh, in entry mode keepalived: VRRP, as in the example (adverts every 20 ms), moves them.
# metrics: failover.vm_kill.vmpair_keepalived failover.switchover.vmpair_keepalived failover.node_cut.vmpair_keepalived
# limits: failover.vm_kill.vmpair_keepalived:median:60 failover.switchover.vmpair_keepalived:median:30 failover.node_cut.vmpair_keepalived:median:250
ENTRY_MODE=keepalived
# shellcheck source-path=SCRIPTDIR source=vmpair.sh
. "$(dirname "${BASH_SOURCE[0]}")/vmpair.sh"
