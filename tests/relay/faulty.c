/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vmpair-relay-faulty: the relay as it is, linked with one fault: with VMPAIR_RELAY_FAULT=commit in its environment, or the file
 * /run/vmpair/fault.commit, answers leave without the standby's confirmation. Never installed. By it the checks of tests and of the
 * lab are seen to fail.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmpair/sync.h"

uint64_t __real_vmpair_session_leave_limit(const struct vmpair_session *s);
uint64_t __wrap_vmpair_session_leave_limit(const struct vmpair_session *s);

uint64_t __wrap_vmpair_session_leave_limit(const struct vmpair_session *s)
{
	const char *fault = getenv("VMPAIR_RELAY_FAULT");

	if ((fault && !strcmp(fault, "commit")) || access("/run/vmpair/fault.commit", F_OK) == 0)
		return VMPAIR_NEVER;
	return __real_vmpair_session_leave_limit(s);
}
