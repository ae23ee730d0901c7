# SPDX-License-Identifier: GPL-2.0-or-later
# Complete programs against the public headers; built and run by every `make check`, installed as documentation.
check_PROGRAMS += %D%/counter %D%/role
%C%_counter_SOURCES = %D%/counter.c
%C%_counter_LDADD = libvmpair.a
%C%_role_SOURCES = %D%/role.c
%C%_role_LDADD = libvmpair.a
examplesdir = $(docdir)/examples
dist_examples_DATA = %D%/counter.c %D%/role.c
