/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The lines between vmpaird and a relay: one JSON object a line, 4096 bytes with the newline at most, 64-bit numbers as "0x..." strings.
 * Both directions as far as the daemon needs them: commands are written, events are read. Pure; what comes from a relay is checked, as the
 * relay in a guest is no more trusted than the guest.
 */
#ifndef VMP_RELAYMSG_H
#define VMP_RELAYMSG_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/pairparam.h"

#define VMP_RELAY_LINE 4096
#define VMP_RELAY_VERSION 1

enum vmp_relay_role { VMP_RELAY_IDLE, VMP_RELAY_PRIMARY, VMP_RELAY_STANDBY };

enum vmp_relay_event_type {
	VMP_RELAY_EV_START,	/* in a guest: it has just begun and knows nothing: configure it */
	VMP_RELAY_EV_HELLO,	/* configured: port, pid */
	VMP_RELAY_EV_READY,	/* answer to fence: epoch, op */
	VMP_RELAY_EV_CAUGHT,	/* on, node, member, op */
	VMP_RELAY_EV_NEED_MEMBER, /* text */
	VMP_RELAY_EV_STATS,	/* obj */
	VMP_RELAY_EV_TAKEOVER,	/* epoch, obj */
	VMP_RELAY_EV_TICKLE,	/* obj: clients whose connections ended with the old primary, see relay/tickle.c */
	VMP_RELAY_EV_NOTE,	/* level (LOG_*), text */
	VMP_RELAY_EV_ERROR,	/* text */
	VMP_RELAY_EV_LOST,	/* made by relay.c: its content is lost; text says why */
};

struct vmp_relay_event {
	enum vmp_relay_event_type type;
	bool on;
	uint8_t node;
	uint16_t port;
	int level;
	pid_t pid;
	uint64_t epoch, op, member;
	char text[256];		/* printable ASCII */
	json_t *obj;		/* the whole object; released by vmp_relay_event_done() */
};

/* One line without its newline. 0; -EINVAL with a reason: no event of ours, and why. */
int vmp_relay_event_parse(const char *line, size_t len, struct vmp_relay_event *ret, char *reason, size_t size);
void vmp_relay_event_done(struct vmp_relay_event *ev);

/* What a relay is told at first. */
struct vmp_relay_config {
	const struct vmp_pair_params *params;
	uint64_t pair_id, member;
	uint8_t node;
	uint32_t hb_ms;
	uint16_t port_min, port_max;
	bool pristine;			/* the member is as the template made it */
	char backend[VMP_ADDR_STRLEN];	/* the member */
	char bind[VMP_ADDR_STRLEN];	/* where the other relay comes to */
	const char *keys;		/* path */
};

/* Each gives a line with its newline, to be freed; NULL without memory or when the line would be too long. */
char *vmp_relay_config_line(const struct vmp_relay_config *c);
char *vmp_relay_fence_line(uint64_t epoch, uint64_t op);
char *vmp_relay_role_line(enum vmp_relay_role role, uint64_t epoch);
char *vmp_relay_mode_line(unsigned mode, uint64_t op, uint8_t node, uint64_t member); /* enum vmp_mode */
char *vmp_relay_peer_line(uint8_t node, const char *address, uint16_t port, uint64_t member);
char *vmp_relay_member_line(uint64_t member);
char *vmp_relay_plain_line(const char *cmd); /* "rekey", "stop" */

/* "0x..." of an object; false: missing or ill-formed. */
bool vmp_relay_u64(const json_t *obj, const char *key, uint64_t *ret);
/* Counters may come either way; 0 when missing. */
uint64_t vmp_relay_count(const json_t *obj, const char *key);

#endif
