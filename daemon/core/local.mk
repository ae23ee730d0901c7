# SPDX-License-Identifier: GPL-2.0-or-later
# The pure core: no I/O, clock, malloc, globals or logging. tests/check-purity.sh holds it to that.
noinst_LTLIBRARIES += libvmpcore.la
VMP_CORE_SOURCES = \
	%D%/core.c \
	%D%/voter.c \
	%D%/candidate.c \
	%D%/holder.c \
	%D%/recovery.c \
	%D%/voters.c \
	%D%/bar.c \
	%D%/core_str.c
libvmpcore_la_SOURCES = $(VMP_CORE_SOURCES) \
	%D%/agree.c %D%/agree.h \
	%D%/fenced.c %D%/fenced.h \
	%D%/trigger.c %D%/trigger.def %D%/trigger.h \
	%D%/core.h \
	%D%/internal.h \
	%D%/pair.def \
	%D%/bugs.def
