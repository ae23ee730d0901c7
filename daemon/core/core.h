/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef VMP_CORE_H
#define VMP_CORE_H
#endif
