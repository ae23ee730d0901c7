/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The services of a pair's relay, as the parameter `services` names them: FRAMING[,OPTION...]:PORT[:BACKENDPORT], separated by blanks, for
 * example "http1:80:8080 resp:6379 length-prefixed,width=2,id=0+8:7000". Framings and their options are those of vmp_framing_parse(). Pure.
 */
#ifndef VMP_SERVICE_H
#define VMP_SERVICE_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#define VMP_MAX_SERVICES 16

struct vmp_service {
	char framing[64];	/* with its options */
	uint16_t port;		/* at the entry addresses */
	uint16_t backend_port;	/* at the member */
};

/* 0, or -EINVAL with a reason; *ret_n services in ret. */
int vmp_services_parse(const char *text, struct vmp_service *ret, unsigned max, unsigned *ret_n, char *reason, size_t size);
/* As the relay's configuration message wants it: an array of objects; NULL without memory. */
json_t *vmp_services_json(const struct vmp_service *s, unsigned n);

#endif
