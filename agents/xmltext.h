/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Text in the meta-data of agents: written to stdout with what XML reserves escaped. */
#ifndef VMP_XMLTEXT_H
#define VMP_XMLTEXT_H

#include <stdio.h>

static inline void xml_text(const char *s)
{
	for (; *s; s++)
		switch (*s) {
		case '<': fputs("&lt;", stdout); break;
		case '>': fputs("&gt;", stdout); break;
		case '&': fputs("&amp;", stdout); break;
		case '"': fputs("&quot;", stdout); break;
		default: putchar(*s);
		}
}

#endif
