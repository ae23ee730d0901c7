# SPDX-License-Identifier: GPL-2.0-or-later
# libvmpair, shared and static. Libtool's own static libraries are switched off for the whole tree (they would compile everything twice), so
# the archive is made beside it. Programs of this tree link the archive: LDADD = libvmpair.a
lib_LTLIBRARIES += libvmpair.la
lib_LIBRARIES += libvmpair.a
VMPAIR_LIB_SOURCES = \
	%D%/link.c \
	%D%/record.c \
	%D%/role.c \
	%D%/session.c \
	%D%/stream.c \
	%D%/table.c
libvmpair_la_SOURCES = $(VMPAIR_LIB_SOURCES) %D%/session.h %D%/bugs.def
libvmpair_la_CFLAGS = $(AM_CFLAGS)
# current:revision:age; a release that adds functions raises current and age, one that changes or takes any raises current only
libvmpair_la_LDFLAGS = -version-info 0:0:0 -no-undefined -Wl,-z,relro,-z,now \
	-Wl,--version-script=$(srcdir)/%D%/libvmpair.map $(SAN_FLAGS) $(COV_FLAGS)
EXTRA_libvmpair_la_DEPENDENCIES = $(srcdir)/%D%/libvmpair.map
libvmpair_a_SOURCES = $(VMPAIR_LIB_SOURCES)
libvmpair_a_CFLAGS = $(AM_CFLAGS)
pkgconfig_DATA = %D%/libvmpair.pc
EXTRA_DIST += %D%/libvmpair.map
