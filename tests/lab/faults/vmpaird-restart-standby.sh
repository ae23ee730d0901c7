# shellcheck shell=bash disable=SC2034,SC2154,SC2317
# SPDX-License-Identifier: GPL-2.0-or-later
# title: vmpaird of the standby restarted
# moves: no
inject() { daemon stop "$standby" vmpaird; daemon start "$standby" vmpaird; }
mend() { :; }
