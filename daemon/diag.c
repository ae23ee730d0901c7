/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/diag.h"

#include <stdio.h>
#include <string.h>

void vmp_diag_init(struct vmp_diag *d)
{
	d->len = 0;
	d->count = 0;
	d->text[0] = '\0';
}

void vmp_diag_add(struct vmp_diag *d, const char *file, unsigned int line, const char *fmt, ...)
{
	char msg[512], full[1024];
	va_list ap;
	int n;

	if (!d)
		return;
	d->count++;
	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	if (line)
		n = snprintf(full, sizeof(full), "%s:%u: %s\n", file, line, msg);
	else
		n = snprintf(full, sizeof(full), "%s: %s\n", file, msg);
	if (n < 0)
		return;
	if ((size_t)n >= sizeof(full)) {
		n = (int)sizeof(full) - 1;
		full[n - 1] = '\n';
	}
	/* Whole complaints only: half a line would mislead. */
	if (d->len + (size_t)n + 1 > sizeof(d->text))
		return;
	memcpy(d->text + d->len, full, (size_t)n + 1);
	d->len += (size_t)n;
}
