#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Every golden trace; after an intended change: tests/trace/trace --update FILE...
exec ./tests/trace/trace "${srcdir:-.}"/tests/trace/*.txt
