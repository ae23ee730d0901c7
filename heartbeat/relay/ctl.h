/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The control channel between vmpaird and its relay: JSON objects, one a line, over a descriptor that was inherited (it
 * ends with its daemon and so does the relay), over a listening socket (the relay outlives the daemon; a new connection
 * takes the place of the old one) or over a character device (inside a guest; when the host side goes, serving stops).
 *
 * Lines to the daemon are kept, up to a limit, while nobody is connected, and sent after the `hello` that answers a new
 * connection's `config`. 64-bit numbers are strings "0x...". One thread.
 */
#ifndef VMPR_CTL_H
#define VMPR_CTL_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "heartbeat/relay/ev.h"

enum { VMPR_CTL_LINE = 4096, VMPR_CTL_QUEUE = 1024 };

enum vmpr_ctl_kind { VMPR_CTL_FD, VMPR_CTL_LISTEN, VMPR_CTL_DEVICE };

struct vmpr_ctl_ops {
	/* One command; errors are answered by the callee. */
	void (*command)(void *ctx, const char *cmd, json_t *msg);
	/* The daemon's side has gone (not called for the first connection that never was). */
	void (*lost)(void *ctx);
};

struct vmpr_ctl_line {
	struct vmpr_ctl_line *next;
	size_t len, off;
	char text[];
};

struct vmpr_ctl {
	struct vmpr_ev *ev;
	enum vmpr_ctl_kind kind;
	const struct vmpr_ctl_ops *ops;
	void *ctx;
	struct vmpr_src conn, listener;
	struct vmpr_tmo retry; /* device: is the host there? */
	struct vmpr_tmo_list retries;
	bool connected, greeted, too_long;
	char in[VMPR_CTL_LINE];
	size_t in_len;
	struct vmpr_ctl_line *head, **tail;
	unsigned int lines, dropped;
	char path[108];
};

/* `target` is a descriptor for FD, else a path. 0 or -errno. */
int vmpr_ctl_open(struct vmpr_ctl *c, struct vmpr_ev *ev, enum vmpr_ctl_kind kind, const char *path, int fd,
		  const struct vmpr_ctl_ops *ops, void *ctx);
void vmpr_ctl_close(struct vmpr_ctl *c);
/* Takes msg. `first`: the answer to config, which goes before everything that waits. */
void vmpr_ctl_send(struct vmpr_ctl *c, json_t *msg, bool first);
/* Device: tells the daemon that it has to configure us; to be said again until it does. */
void vmpr_ctl_start(struct vmpr_ctl *c);
/* Try to write what waits; called when a line was added and when the descriptor can take more. */
void vmpr_ctl_flush(struct vmpr_ctl *c);

json_t *vmpr_json_u64(uint64_t v);
/* 0, -ENOENT (no such member), -EINVAL. Numbers and strings "0x..." alike. */
int vmpr_json_get_u64(const json_t *msg, const char *name, uint64_t *ret);

#endif
