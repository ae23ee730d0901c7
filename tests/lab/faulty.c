/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vmpaird-faulty: the daemon as it is, linked with these two faults, each switched on by a file. Never installed.
 *   /run/vmpair/fault.late   every expiry of an entry is 3 s too late: the binding proof must fail
 *   /run/vmpair/fault.stop   the daemon stops itself (SIGSTOP) between computing an expiry and storing it, once
 */
#include <config.h>
#include <signal.h>
#include <unistd.h>

#include "daemon/daemon.h"

#define FAULT_DIR "/run/vmpair/fault."
static const uint64_t late_ns = 3000000000u;

int __real_vmp_core_step(struct vmp_core *c, const struct vmp_event *ev, struct vmp_out *out);
int __wrap_vmp_core_step(struct vmp_core *c, const struct vmp_event *ev, struct vmp_out *out);
uint64_t __real_vmp_core_lease_end(const struct vmp_core *c, uint64_t pair);
uint64_t __wrap_vmp_core_lease_end(const struct vmp_core *c, uint64_t pair);
int __real_vmp_gate_refresh(struct vmp_gate *g, uint64_t pair, uint64_t epoch, uint64_t expiry_ns, uint64_t lease_end_ns);
int __wrap_vmp_gate_refresh(struct vmp_gate *g, uint64_t pair, uint64_t epoch, uint64_t expiry_ns, uint64_t lease_end_ns);

static bool late(void)
{
	return access(FAULT_DIR "late", F_OK) == 0;
}

int __wrap_vmp_core_step(struct vmp_core *c, const struct vmp_event *ev, struct vmp_out *out)
{
	int r = __real_vmp_core_step(c, ev, out);

	for (unsigned i = 0; late() && i < out->n_actions; i++)
		if (out->action[i].type == VMP_ACT_ENTRY_OPEN || out->action[i].type == VMP_ACT_ENTRY_REFRESH)
			out->action[i].expiry_ns += late_ns;
	return r;
}

uint64_t __wrap_vmp_core_lease_end(const struct vmp_core *c, uint64_t pair)
{
	uint64_t end = __real_vmp_core_lease_end(c, pair);

	return late() ? end + late_ns : end;
}

int __wrap_vmp_gate_refresh(struct vmp_gate *g, uint64_t pair, uint64_t epoch, uint64_t expiry_ns, uint64_t lease_end_ns)
{
	if (unlink(FAULT_DIR "stop") == 0)
		raise(SIGSTOP);
	return __real_vmp_gate_refresh(g, pair, epoch, expiry_ns, lease_end_ns);
}
