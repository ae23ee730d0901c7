# SPDX-License-Identifier: GPL-2.0-or-later
noinst_LTLIBRARIES += libvmpframe.la
VMP_FRAME_SOURCES = %D%/frame.c %D%/frame.h %D%/frame_int.h %D%/http1.c %D%/line.c %D%/resp.c
libvmpframe_la_SOURCES = $(VMP_FRAME_SOURCES)
