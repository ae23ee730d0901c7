# SPDX-License-Identifier: GPL-2.0-or-later
# The pure core: no I/O, clock, malloc, globals or logging. tests/check-purity.sh holds it to that.
noinst_LTLIBRARIES += libvmpcore.la
libvmpcore_la_SOURCES = \
	%D%/agree.c %D%/agree.h \
	%D%/core.h \
	%D%/core.c \
	%D%/core_str.c
