/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/service.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "heartbeat/frame/frame.h"
#include "internal/cleanup.h"

__attribute__((format(printf, 3, 4)))
static int bad(char *reason, size_t size, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(reason, size, fmt, ap);
	va_end(ap);
	return -EINVAL;
}

/* Decimal digits only; *end is where it stopped. */
static bool number(const char *s, unsigned long min, unsigned long max, unsigned long *ret, const char **end)
{
	char *e;

	if (!isdigit((unsigned char)*s))
		return false;
	errno = 0;
	*ret = strtoul(s, &e, 10);
	*end = e;
	return errno == 0 && *ret >= min && *ret <= max;
}

static int parse_one(char *word, struct vmp_service *s, char *reason, size_t size)
{
	char shown[80], *ports = strchr(word, ':');
	struct vmp_frame_conf frame;
	const char *end;
	unsigned long port, backend;

	snprintf(shown, sizeof(shown), "%s", word);
	if (!ports)
		return bad(reason, size, "'%s' is not FRAMING:PORT or FRAMING:PORT:BACKENDPORT", shown);
	*ports++ = '\0';
	if (strlen(word) >= sizeof(s->framing) || vmp_framing_parse(word, &frame) < 0)
		return bad(reason, size, "'%s': the framing is none of http1, resp, line, length-prefixed, stream, or has not this option", shown);
	*s = (struct vmp_service){ 0 };
	snprintf(s->framing, sizeof(s->framing), "%s", word);
	if (!number(ports, 1, 65535, &port, &end) || (*end && *end != ':'))
		return bad(reason, size, "'%s' has no port of 1 to 65535", shown);
	backend = port;
	if (*end == ':' && (!number(end + 1, 1, 65535, &backend, &end) || *end))
		return bad(reason, size, "'%s' has no backend port of 1 to 65535", shown);
	s->port = (uint16_t)port;
	s->backend_port = (uint16_t)backend;
	return 0;
}

int vmp_services_parse(const char *text, struct vmp_service *ret, unsigned max, unsigned *ret_n, char *reason, size_t size)
{
	CLEANUP_FREE char *copy = strdup(text);
	char *save = NULL;
	unsigned n = 0;
	int r;

	if (!copy)
		return -ENOMEM;
	for (char *w = strtok_r(copy, " \t\n", &save); w; w = strtok_r(NULL, " \t\n", &save)) {
		if (n == max)
			return bad(reason, size, "more than %u services", max);
		r = parse_one(w, &ret[n], reason, size);
		if (r < 0)
			return r;
		for (unsigned i = 0; i < n; i++)
			if (ret[i].port == ret[n].port)
				return bad(reason, size, "port %u is named twice", ret[n].port);
		n++;
	}
	if (!n)
		return bad(reason, size, "no service is named");
	*ret_n = n;
	return 0;
}

json_t *vmp_services_json(const struct vmp_service *s, unsigned n)
{
	json_t *a = json_array();

	for (unsigned i = 0; i < n; i++, s++) {
		json_t *o = json_pack("{s:s s:i s:i}", "framing", s->framing, "port", s->port, "backend_port", s->backend_port);

		if (json_array_append_new(a, o) < 0) {
			json_decref(a);
			return NULL;
		}
	}
	return a;
}
