/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Relays of this node's members: start and supervision of vmpair-relay on the host, the channel to one in a guest, and what is said over
 * it (relaymsg.h). A relay lives as long as its member's content: it is never started again behind its owner's back; when it ends or its
 * channel breaks the owner is told VMP_RELAY_EV_LOST once, and frees it.
 *
 * On the host a relay listens on a socket of its own (DIR/PAIR.INSTANCE.sock), so it outlives the daemon and the next one adopts it. It runs
 * as an ordinary user with CAP_NET_BIND_SERVICE and nothing else.
 *
 * One thread, the loop's; nothing blocks. Events come from the loop only, never from within a call. Negative errno; `reason` is filled on
 * failure. Lines are queued until they can be written, to VMP_RELAY_QUEUE bytes.
 */
#ifndef VMP_RELAY_H
#define VMP_RELAY_H

#include <stdint.h>
#include <sys/types.h>

#include "daemon/loop.h"
#include "daemon/relaymsg.h"

enum { VMP_RELAY_QUEUE = 64 * 1024, VMP_RELAY_START_MS = 5000, VMP_RELAY_STOP_MS = 1000 };

struct vmp_relays;
struct vmp_relay;

struct vmp_relays_conf {
	struct vmp_loop *loop;
	const char *program;	/* absolute path */
	const char *dir;	/* of the sockets, is made; its parents must be passable for the user */
	const char *user;	/* whom relays run as; not looked up (the caller's user) when this process is not root */
};

typedef void (*vmp_relay_event_fn)(void *data, const struct vmp_relay_event *ev);

int vmp_relays_new(struct vmp_relays **ret, const struct vmp_relays_conf *conf, char *reason, size_t size);
/* Relays that were not stopped go on. */
void vmp_relays_free(struct vmp_relays *rs);
uid_t vmp_relays_uid(const struct vmp_relays *rs);
gid_t vmp_relays_gid(const struct vmp_relays *rs);
const char *vmp_relays_dir(const struct vmp_relays *rs);
/* Ends relays that nobody owns (their pair is not known any more): call after all that are known were adopted. */
void vmp_relays_end_others(struct vmp_relays *rs);

/* `config` (vmp_relay_config_line()) is taken over in any case. */
int vmp_relay_start(struct vmp_relays *rs, const char *pair, char *config, vmp_relay_event_fn fn, void *data, struct vmp_relay **ret,
		    char *reason, size_t size);
/* The very process that a former daemon started; -ESRCH when it is gone. */
int vmp_relay_adopt(struct vmp_relays *rs, const char *pair, uint32_t instance, pid_t pid, uint64_t start_time, char *config,
		    vmp_relay_event_fn fn, void *data, struct vmp_relay **ret, char *reason, size_t size);
/* In a guest: `path` is the socket of its channel. `known`: the relay's own number in its newest hello, 0 none; another one is LOST. */
int vmp_relay_attach(struct vmp_relays *rs, const char *pair, const char *path, uint64_t known, char *config, vmp_relay_event_fn fn,
		     void *data, struct vmp_relay **ret, char *reason, size_t size);

/* Takes the line (of relaymsg.h) over; NULL is -ENOMEM. -ENOBUFS: the relay does not read, and will be LOST. */
int vmp_relay_send(struct vmp_relay *r, char *line);
pid_t vmp_relay_pid(const struct vmp_relay *r);			/* host: of the process; 0 in a guest */
uint64_t vmp_relay_start_time(const struct vmp_relay *r);
uint32_t vmp_relay_instance(const struct vmp_relay *r);
uint64_t vmp_relay_number(const struct vmp_relay *r);		/* of its hello, by which it is known again */
bool vmp_relay_greeted(const struct vmp_relay *r);		/* has said hello */
/* End it (host) or leave it alone (guest); no more events. Frees r; NULL-safe; returns NULL. */
struct vmp_relay *vmp_relay_stop(struct vmp_relay *r);

#endif
