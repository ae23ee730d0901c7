# SPDX-License-Identifier: GPL-2.0-or-later
include heartbeat/lib/local.mk
include heartbeat/examples/local.mk
