/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Lines of a relay, which in a guest is no more trusted than the guest. */
#include <string.h>

#include "daemon/relaymsg.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct vmp_relay_event ev;
	char reason[96] = "";

	if (vmp_relay_event_parse((const char *)data, size, &ev, reason, sizeof(reason)) < 0) {
		MUST(reason[0]);
		return 0;
	}
	MUST(ev.obj && size < VMP_RELAY_LINE && strlen(ev.text) < sizeof(ev.text));
	for (const char *p = ev.text; *p; p++)
		MUST(*p >= ' ' && *p < 127);
	MUST(ev.type != VMP_RELAY_EV_LOST && ev.pid >= 0);
	MUST(ev.type != VMP_RELAY_EV_HELLO || ev.port);
	MUST(ev.type != VMP_RELAY_EV_CAUGHT || (ev.node && (!ev.on || ev.member)));
	MUST((ev.type != VMP_RELAY_EV_READY && ev.type != VMP_RELAY_EV_TAKEOVER) || ev.epoch);
	vmp_relay_count(ev.obj, "received");
	vmp_relay_event_done(&ev);
	return 0;
}
