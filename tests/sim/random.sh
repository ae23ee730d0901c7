#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Random schedules from fixed seeds; VMP_SIM_RUNS, VMP_SIM_SEED for longer or other ones.
exec ./tests/sim/sim --runs "${VMP_SIM_RUNS:-10000}" --seed "${VMP_SIM_SEED:-1}"
