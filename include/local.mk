# SPDX-License-Identifier: GPL-2.0-or-later
noinst_HEADERS += \
	%D%/internal/cleanup.h \
	%D%/internal/endian.h \
	%D%/internal/loopops.h \
	%D%/internal/rolepage.h
vmpairincludedir = $(includedir)/vmpair
vmpairinclude_HEADERS = %D%/vmpair/role.h %D%/vmpair/sync.h
