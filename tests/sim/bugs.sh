#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# The simulator can fail: each wrong variant of the protocol is switched on in a test build and has to be caught.
exec ./tests/sim/sim-bugs --all-bugs --runs "${VMP_SIM_BUG_RUNS:-2000}" --least 30
