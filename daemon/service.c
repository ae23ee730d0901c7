/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/service.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal/cleanup.h"

enum { ID_MAX = 128, OFFSET_MAX = 4096 };

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

static bool option(struct vmp_service *s, const char *name, const char *value)
{
	bool line = !strcmp(s->framing, "line"), length = !strcmp(s->framing, "length");
	unsigned long a, b;
	const char *end;

	if (line && !strcmp(name, "id")) {
		if (!number(value, 1, 99, &a, &end) || *end)
			return false;
		s->line_field = (uint8_t)a;
		return true;
	}
	if (length && !strcmp(name, "width")) {
		if (!number(value, 1, 8, &a, &end) || *end || (a & (a - 1)))
			return false;
		s->width = (uint8_t)a;
		return true;
	}
	if (length && !strcmp(name, "endian")) {
		s->little = !strcmp(value, "little");
		return s->little || !strcmp(value, "big");
	}
	if (length && !strcmp(name, "id")) {
		if (!number(value, 0, OFFSET_MAX, &a, &end) || *end != '+' || !number(end + 1, 1, ID_MAX, &b, &end) || *end)
			return false;
		s->id_offset = (uint16_t)a;
		s->id_len = (uint8_t)b;
		return true;
	}
	return false;
}

static int parse_one(char *word, struct vmp_service *s, char *reason, size_t size)
{
	static const char *const framings[] = { "http1", "resp", "line", "length", "stream" };
	char shown[80], *ports = strchr(word, ':'), *opts, *save = NULL;
	const char *end;
	unsigned long port, backend;
	unsigned i = 0;

	snprintf(shown, sizeof(shown), "%s", word);
	if (!ports)
		return bad(reason, size, "'%s' is not FRAMING:PORT or FRAMING:PORT:BACKENDPORT", shown);
	*ports++ = '\0';
	opts = strchr(word, ',');
	if (opts)
		*opts++ = '\0';
	while (i < ARRAY_SIZE(framings) && strcmp(framings[i], word))
		i++;
	if (i == ARRAY_SIZE(framings))
		return bad(reason, size, "'%s': the framing is none of http1, resp, line, length, stream", shown);
	*s = (struct vmp_service){ .width = 4 };
	snprintf(s->framing, sizeof(s->framing), "%s", word);
	for (char *o = opts ? strtok_r(opts, ",", &save) : NULL; o; o = strtok_r(NULL, ",", &save)) {
		char *value = strchr(o, '=');

		if (value)
			*value++ = '\0';
		if (!value || !option(s, o, value))
			return bad(reason, size, "'%s': option '%s' is not known to %s, or has no valid value", shown, o, s->framing);
	}
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

		if (s->line_field)
			json_object_set_new(o, "line_field", json_integer(s->line_field));
		if (!strcmp(s->framing, "length")) {
			json_object_set_new(o, "width", json_integer(s->width));
			json_object_set_new(o, "endian", json_string(s->little ? "little" : "big"));
			if (s->id_len) {
				json_object_set_new(o, "id_offset", json_integer(s->id_offset));
				json_object_set_new(o, "id_len", json_integer(s->id_len));
			}
		}
		if (json_array_append_new(a, o) < 0) {
			json_decref(a);
			return NULL;
		}
	}
	return a;
}
