/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One readiness check of a member: "tcp:PORT" (a connection is accepted) or "http:PORT/PATH" (status 200..399).
 * A non-blocking state machine: the caller polls the descriptor for vmp_probe_events() and calls vmp_probe_dispatch()
 * when it is ready or when the deadline has passed. Every time is CLOCK_BOOTTIME ns given by the caller. One thread.
 */
#ifndef VMP_PROBE_H
#define VMP_PROBE_H

#include <stddef.h>
#include <stdint.h>

#include "daemon/addr.h"

enum vmp_probe_kind { VMP_PROBE_NONE, VMP_PROBE_TCP, VMP_PROBE_HTTP };

struct vmp_probe_spec {
	enum vmp_probe_kind kind; /* NONE: a running member is ready; nothing to start */
	uint16_t port;
	char path[256]; /* begins with '/' (HTTP) */
};

struct vmp_probe;

/* "" and "none" give VMP_PROBE_NONE. -EINVAL with a reason. */
int vmp_probe_parse(const char *text, struct vmp_probe_spec *ret_, char *reason, size_t reason_size);

/*
 * Starts one check of `addr`. device: name of the interface to leave by, or NULL. -errno when the check has failed at
 * once (ENETUNREACH...). A connection that is up at once is reported by the first dispatch, not here.
 */
int vmp_probe_start(struct vmp_probe **ret_, const struct vmp_probe_spec *spec, const struct vmp_addr *addr,
		    const char *device, uint64_t deadline_ns, char *reason, size_t reason_size);
int vmp_probe_fd(const struct vmp_probe *p);
/* POLLIN or POLLOUT: may change after each dispatch. */
short vmp_probe_events(const struct vmp_probe *p);
uint64_t vmp_probe_deadline(const struct vmp_probe *p);
/* 0 = not yet, 1 = ready, -errno = not ready, with the reason (-ETIMEDOUT, -ECONNREFUSED, -EPROTO: not 2xx/3xx). Never
 * blocks. */
int vmp_probe_dispatch(struct vmp_probe *p, uint64_t now_ns, char *reason, size_t reason_size);
/* Remove the descriptor from the loop before. Returns NULL; NULL is fine. */
struct vmp_probe *vmp_probe_free(struct vmp_probe *p);

#endif
