/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The services of a pair's relay, as the parameter `services` names them: FRAMING[,OPTION=VALUE...]:PORT[:BACKENDPORT], separated by
 * blanks, for example "http1:80:8080 resp:6379 length,width=2,id=0+8:7000". Pure.
 */
#ifndef VMP_SERVICE_H
#define VMP_SERVICE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VMP_MAX_SERVICES 16

struct vmp_service {
	char framing[8];	/* http1, resp, line, length, stream */
	uint16_t port;		/* at the entry addresses */
	uint16_t backend_port;	/* at the member */
	uint8_t line_field;	/* line: the blank-separated field that is the request's id, from 1; 0: none */
	uint8_t width;		/* length: bytes of the length prefix, 1, 2, 4 or 8 */
	bool little;		/* length: little-endian prefix */
	uint16_t id_offset;	/* length: where the id is, after the prefix */
	uint8_t id_len;		/* length: 0: none */
};

/* 0, or -EINVAL with a reason; *ret_n services in ret. */
int vmp_services_parse(const char *text, struct vmp_service *ret, unsigned max, unsigned *ret_n, char *reason, size_t size);
/* As the relay's configuration message wants it: an array of objects; NULL without memory. */
json_t *vmp_services_json(const struct vmp_service *s, unsigned n);

#endif
