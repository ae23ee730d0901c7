# shellcheck shell=bash disable=SC2034,SC2154,SC2317
# SPDX-License-Identifier: GPL-2.0-or-later
# title: vmpaird of the primary restarted as by an upgrade
# moves: no
inject() { daemon stop "$holder" vmpaird; daemon start "$holder" vmpaird; }
mend() { :; }
