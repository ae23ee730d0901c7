/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What proves that a boot of another node is over: the judge, and the history as stonith_admin of Pacemaker 2.1.5 prints it. */
#include "daemon/core/fenced.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "daemon/pcmk.h"

/* --- the judge -------------------------------------------------------------------------------------------------------------- */

enum { BASE = 1000, HEARD = 2000, NOW = 2100 };

static struct vmp_sighting seen(void)
{
	return (struct vmp_sighting){.boot = 0xb1, .based = true, .base_s = BASE, .base_newest_s = 900, .last_s = HEARD};
}

static struct vmp_fence done(int64_t completed_s)
{
	return (struct vmp_fence){.action = VMP_FENCE_OFF, .status = VMP_FENCE_DONE, .completed_s = completed_s};
}

static enum vmp_fenced_verdict judge(struct vmp_sighting s, struct vmp_fence f)
{
	unsigned int which = 99;
	enum vmp_fenced_verdict v = vmp_fenced_judge(&s, &f, 1, false, NOW, &which);
	assert_int_equal(which, v == VMP_FENCED_YES ? 0 : 99);
	return v;
}

static void success_after_the_last_word(void **state)
{
	(void)state;
	struct vmp_fence f = done(HEARD + 1);
	assert_int_equal(judge(seen(), f), VMP_FENCED_YES);
	f.action = VMP_FENCE_REBOOT;
	assert_int_equal(judge(seen(), f), VMP_FENCED_YES);
	f.completed_s = HEARD;	/* fenced alive: heard until it ended */
	assert_int_equal(judge(seen(), f), VMP_FENCED_YES);
	f.completed_s = HEARD - 1;
	assert_int_equal(judge(seen(), f), VMP_FENCED_HEARD);
	f.completed_s = NOW + 1;
	assert_int_equal(judge(seen(), f), VMP_FENCED_YES);
	f.completed_s = NOW + 2;
	assert_int_equal(judge(seen(), f), VMP_FENCED_FUTURE);
}

static void a_fenced_node_that_talks(void **state)
{
	(void)state;
	struct vmp_sighting s = seen();
	struct vmp_fence f = done(HEARD);
	assert_false(vmp_fenced_lied(&s, &f, 1, NOW));	/* its last word may be of the second in which it ended */
	f.completed_s = HEARD - 1;
	assert_true(vmp_fenced_lied(&s, &f, 1, NOW));
	f.status = VMP_FENCE_FAILED;
	assert_false(vmp_fenced_lied(&s, &f, 1, NOW));
	f.status = VMP_FENCE_DONE;
	f.action = VMP_FENCE_OTHER;
	assert_false(vmp_fenced_lied(&s, &f, 1, NOW));
	f = done(BASE);	/* of an earlier boot */
	assert_false(vmp_fenced_lied(&s, &f, 1, NOW));
	f = done(HEARD - 1);
	s.based = false;
	assert_false(vmp_fenced_lied(&s, &f, 1, NOW));
	s = seen();
	s.boot = 0;
	assert_false(vmp_fenced_lied(&s, &f, 1, NOW));
}

static void only_a_successful_off_or_reboot(void **state)
{
	(void)state;
	struct vmp_fence f = done(HEARD + 5);
	f.action = VMP_FENCE_OTHER;
	assert_int_equal(judge(seen(), f), VMP_FENCED_NONE);
	f.action = VMP_FENCE_OFF;
	f.status = VMP_FENCE_FAILED;
	assert_int_equal(judge(seen(), f), VMP_FENCED_FAILED);
	f.status = VMP_FENCE_PENDING;
	f.completed_s = 0;
	assert_int_equal(judge(seen(), f), VMP_FENCED_PENDING);
	f = done(HEARD + 5);
	struct vmp_sighting s = seen();
	s.boot = 0;	/* R3: by node name alone */
	assert_int_equal(judge(s, f), VMP_FENCED_NO_BOOT);
	unsigned int which = 99;
	s = seen();
	assert_int_equal(vmp_fenced_judge(&s, NULL, 0, false, NOW, &which), VMP_FENCED_NONE);
}

/* F1: what was in the history when that boot was known already, or is older than that, has ended another one. */
static void base(void **state)
{
	(void)state;
	struct vmp_sighting s = seen();
	assert_int_equal(judge(s, done(900)), VMP_FENCED_NONE);
	s.last_s = 800;		/* the clock was set back since: times say nothing, the base does */
	assert_int_equal(judge(s, done(900)), VMP_FENCED_BEFORE);
	assert_int_equal(judge(s, done(BASE)), VMP_FENCED_BEFORE);
	assert_int_equal(judge(s, done(BASE + 1)), VMP_FENCED_YES);
	s = seen();
	s.base_newest_s = HEARD + 1;	/* likewise: the base holds what ended "later" */
	assert_int_equal(judge(s, done(HEARD + 1)), VMP_FENCED_BEFORE);
	assert_int_equal(judge(s, done(HEARD + 2)), VMP_FENCED_YES);
	s = seen();
	s.based = false;
	assert_int_equal(judge(s, done(HEARD + 5)), VMP_FENCED_BEFORE);
	assert_int_equal(judge(s, done(HEARD - 5)), VMP_FENCED_NONE);

	/* a fencing that is under way while the node boots: asked again, and then it is part of the base */
	struct vmp_fence list[2] = {{.action = VMP_FENCE_REBOOT, .status = VMP_FENCE_PENDING}, done(1500)};
	assert_false(vmp_fenced_base(&s, list, 2, 1600));
	assert_false(s.based);
	list[0] = done(1700);
	assert_true(vmp_fenced_base(&s, list, 2, 1650));
	assert_int_equal(s.base_s, 1650);
	assert_int_equal(s.base_newest_s, 1700);
	s.last_s = 1600;
	unsigned int which = 99;
	assert_int_equal(vmp_fenced_judge(&s, list, 2, false, NOW, &which), VMP_FENCED_BEFORE);
	assert_int_equal(which, 99);
	/* unfencing goes on at any time, and what is no fencing does not keep a base from being taken */
	list[0] = (struct vmp_fence){.action = VMP_FENCE_OTHER, .status = VMP_FENCE_PENDING};
	assert_true(vmp_fenced_base(&s, list, 2, 1800));
	assert_true(vmp_fenced_base(&s, NULL, 0, 1900));
	assert_int_equal(s.base_newest_s, 0);
}

static void a_human_says_so(void **state)
{
	(void)state;
	struct vmp_sighting s = seen();
	struct vmp_fence f = done(HEARD + 5);
	unsigned int which = 99;
	f.by_hand = true;
	assert_int_equal(vmp_fenced_judge(&s, &f, 1, true, NOW, &which), VMP_FENCED_YES);
	s.based = false;
	assert_int_equal(judge(s, f), VMP_FENCED_YES);
	f.completed_s = HEARD - 1;	/* about an earlier boot, or wrong */
	assert_int_equal(judge(s, f), VMP_FENCED_HEARD);
	s = seen();
	f.completed_s = BASE;
	assert_int_equal(judge(s, f), VMP_FENCED_NONE);
}

static void a_bar_ends_no_host(void **state)
{
	(void)state;
	struct vmp_sighting s = seen();
	struct vmp_fence f = done(HEARD + 5);
	unsigned int which = 99;
	assert_int_equal(vmp_fenced_judge(&s, &f, 1, true, NOW, &which), VMP_FENCED_BAR);
	assert_int_equal(which, 99);
	f.status = VMP_FENCE_FAILED;
	assert_int_equal(vmp_fenced_judge(&s, &f, 1, true, NOW, &which), VMP_FENCED_FAILED);
}

static void newest_of_several(void **state)
{
	(void)state;
	struct vmp_sighting s = seen();
	unsigned int which = 99;
	struct vmp_fence list[4] = {done(HEARD + 1), done(HEARD + 3), done(HEARD + 2), {.action = VMP_FENCE_OFF, .completed_s = HEARD + 9}};
	assert_int_equal(vmp_fenced_judge(&s, list, 4, false, NOW, &which), VMP_FENCED_YES);
	assert_int_equal(which, 1);	/* a later failure takes nothing back */
	list[0] = list[1] = list[2] = done(800);
	which = 99;
	assert_int_equal(vmp_fenced_judge(&s, list, 4, false, NOW, &which), VMP_FENCED_FAILED);
	list[2].status = VMP_FENCE_PENDING;
	assert_int_equal(vmp_fenced_judge(&s, list, 4, false, NOW, &which), VMP_FENCED_PENDING);
	assert_int_equal(which, 99);
	for (unsigned int v = 0; v < VMP_FENCED_COUNT; v++)
		assert_true(*vmp_fenced_text(v));
	assert_string_equal(vmp_fenced_text(VMP_FENCED_COUNT), "");
}

/* --- the history ------------------------------------------------------------------------------------------------------------- */

#define HEAD "<pacemaker-result api-version=\"2.25\" request=\"stonith_admin --history n2 --verbose --output-as=xml\">\n"
#define LIST(n) "  <list name=\"fencing history\" count=\"" #n "\">\n"
#define TAIL "  </list>\n  <status code=\"0\" message=\"OK\"/>\n</pacemaker-result>\n"
#define FAILED "    <fence_event action=\"reboot\" target=\"n2\" client=\"stonith_admin.229\" origin=\"n1\" status=\"failed\" delegate=\"n1\" completed=\"2026-11-22 07:32:50Z\"/>\n"
#define ON "    <fence_event action=\"on\" target=\"n2\" client=\"stonith_admin.246\" origin=\"n1\" status=\"success\" delegate=\"n1\" completed=\"2026-11-22 07:32:50Z\"/>\n"
#define PENDING "    <fence_event action=\"off\" target=\"n2\" client=\"stonith_admin.256\" origin=\"n1\" status=\"pending\" extended-status=\"1\"/>\n"
#define OFF "    <fence_event action=\"off\" target=\"n2\" client=\"stonith_admin.256\" origin=\"n1\" status=\"success\" delegate=\"n1\" completed=\"2026-11-22 07:32:56Z\"/>\n"
#define REBOOT "    <fence_event action=\"reboot\" target=\"n2\" client=\"stonith_admin.330\" origin=\"n1\" status=\"success\" delegate=\"n1\" completed=\"2026-11-22 07:33:06Z\"/>\n"
#define CUT "    <fence_event action=\"off\" target=\"n2\" client=\"stonith_admin.399\" origin=\"n1\" status=\"success\" delegate=\"n1\" completed=\"2026-11-22 07:33:28Z\"/>\n"
#define UNFENCED "    <fence_event action=\"on\" target=\"n2\" client=\"pacemaker-controld.164\" origin=\"n1\" status=\"success\" delegate=\"n1\" completed=\"2026-11-22 07:33:18Z\"/>\n"
#define HUMAN "    <fence_event action=\"off\" target=\"n2\" client=\"stonith_admin.405\" origin=\"n1\" status=\"success\" delegate=\"a human\" completed=\"2026-11-22 07:33:29Z\"/>\n"
#define EMPTY HEAD "  <list name=\"fencing history\" count=\"0\"/>\n  <status code=\"0\" message=\"OK\"/>\n</pacemaker-result>\n"
#define NO_FENCER "Could not connect to fencer: Transport endpoint is not connected\n" HEAD "  <status code=\"102\" message=\"Not connected\">\n    <errors>\n" \
	"      <error>Could not connect to fencer: Transport endpoint is not connected</error>\n    </errors>\n  </status>\n</pacemaker-result>\n"

enum { T0732_50 = 1795332770 };	/* 2026-11-22 07:32:50Z */

static int parse(const char *text, struct vmp_pcmk_history *h, char reason[static 160])
{
	memset(h, 0xee, sizeof(*h));
	reason[0] = '\0';
	return vmp_fencing_parse(text, strlen(text), "n2", h, reason, 160);
}

static void as_printed(void **state)
{
	(void)state;
	struct vmp_pcmk_history h;
	char reason[160];
	assert_int_equal(parse(EMPTY, &h, reason), 0);
	assert_int_equal(h.n, 0);
	assert_int_equal(parse(HEAD LIST(7) HUMAN CUT UNFENCED REBOOT OFF ON FAILED TAIL, &h, reason), 0);
	assert_int_equal(h.n, 7);
	assert_int_equal(h.list[0].f.action, VMP_FENCE_OFF);
	assert_int_equal(h.list[0].f.status, VMP_FENCE_DONE);
	assert_true(h.list[0].f.by_hand);
	assert_int_equal(h.list[0].f.completed_s, T0732_50 + 39);
	assert_string_equal(h.list[0].client, "stonith_admin.405");
	assert_false(h.list[1].f.by_hand);
	assert_string_equal(h.list[1].delegate, "n1");
	assert_int_equal(h.list[2].f.action, VMP_FENCE_OTHER);
	assert_string_equal(h.list[2].action, "on");
	assert_int_equal(h.list[3].f.action, VMP_FENCE_REBOOT);
	assert_int_equal(h.list[3].f.completed_s, T0732_50 + 16);
	assert_int_equal(h.list[6].f.status, VMP_FENCE_FAILED);
	assert_int_equal(h.list[6].f.completed_s, T0732_50);
	assert_int_equal(parse(HEAD LIST(3) PENDING ON FAILED TAIL, &h, reason), 0);
	assert_int_equal(h.n, 3);
	assert_int_equal(h.list[0].f.status, VMP_FENCE_PENDING);
	assert_string_equal(h.list[0].delegate, "");
}

static int64_t when(const char *completed)
{
	struct vmp_pcmk_history h;
	char reason[160], text[600];
	snprintf(text, sizeof(text), HEAD LIST(1) "<fence_event action=\"off\" target=\"N2\" client=\"c\" status=\"success\" completed=\"%s\"/>" TAIL,
		 completed);
	int rc = parse(text, &h, reason);
	assert_true(rc == 0 || (rc == -EBADMSG && *reason));
	return rc ? -1 : h.list[0].f.completed_s;
}

/* Time zones: as printed with TZ=UTC, and with TZ=IST-5:30; later versions add a fraction. */
static void times(void **state)
{
	(void)state;
	assert_int_equal(when("2026-11-22 07:32:50Z"), T0732_50);
	assert_int_equal(when("2026-11-22 13:02:50 +05:30"), T0732_50);
	assert_int_equal(when("2026-11-21 23:32:50 -08:00"), T0732_50);
	assert_int_equal(when("2026-11-22 07:32:50.123456Z"), T0732_50);
	assert_int_equal(when("2026-11-22 13:02:50.123456 +05:30"), T0732_50);
	assert_int_equal(when("2024-02-29 00:00:00Z"), 1709164800);
	static const char *const bad[] = {"", "2026-11-22", "2026-11-22 07:32:50", "2026-11-22 07:32:50 UTC", "2026-13-22 07:32:50Z", "2026-11-22 27:32:50Z",
					  "2026-11-22 07:32:50 +05:30x", "2026-11-22 07:32:50 05:30", "26-11-22 07:32:50Z", "1795332770"};
	for (unsigned int i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(when(bad[i]), -1);
}

static void what_is_no_history(void **state)
{
	(void)state;
	struct vmp_pcmk_history h;
	char reason[160];
	assert_int_equal(parse(NO_FENCER, &h, reason), -ENOTCONN);
	assert_string_equal(reason, "Not connected");
	static const char *const bad[] = {
		"", "killed", HEAD, HEAD LIST(1) OFF, HEAD LIST(1) OFF "  </list>\n</pacemaker-result>", HEAD "<list></pacemaker-result>",
		HEAD LIST(1) "<fence_event target=\"n2\" status=\"success\" completed=\"2026-11-22 07:32:50Z\"/>" TAIL,
		HEAD LIST(1) "<fence_event action=\"off\" target=\"n2\" completed=\"2026-11-22 07:32:50Z\"/>" TAIL,
		HEAD LIST(1) "<fence_event action=\"off\" target=\"n2\" status=\"success\"/>" TAIL,
	};
	for (unsigned int i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(parse(bad[i], &h, reason), -EBADMSG);
		assert_true(*reason);
	}
	/* of another node; a state that this version does not know keeps a base from being taken */
	assert_int_equal(parse(HEAD LIST(2) "<fence_event action=\"off\" target=\"n22\"/>"
			       "<fence_event action=\"off\" target=\"n2\" client=\"c\" origin=\"n1\" status=\"unheard of\"/>" TAIL, &h, reason), 0);
	assert_int_equal(h.n, 1);
	assert_int_equal(h.list[0].f.status, VMP_FENCE_PENDING);
	assert_int_equal(parse("warning: something\n" HEAD LIST(1) OFF TAIL "and more", &h, reason), 0);
	assert_int_equal(h.n, 1);
}

static void the_newest_are_kept(void **state)
{
	(void)state;
	static char text[64 * 1024];
	struct vmp_pcmk_history h;
	char reason[160];
	size_t len = (size_t)snprintf(text, sizeof(text), "%s", HEAD LIST(201) PENDING);
	for (int i = 0; i < 200; i++)	/* in no order */
		len += (size_t)snprintf(text + len, sizeof(text) - len, "<fence_event action=\"off\" target=\"n2\" status=\"failed\" "
					"completed=\"2026-11-22 07:%02d:%02dZ\"/>\n", i * 37 % 200 / 60, i * 37 % 200 % 60);
	snprintf(text + len, sizeof(text) - len, "%s", TAIL);
	assert_int_equal(parse(text, &h, reason), 0);
	assert_int_equal(h.n, VMP_PCMK_MAX_FENCES);
	int64_t first = when("2026-11-22 07:00:00Z");
	unsigned int pending = 0;
	for (unsigned int i = 0; i < h.n; i++) {
		pending += h.list[i].f.status == VMP_FENCE_PENDING;
		assert_true(h.list[i].f.status == VMP_FENCE_PENDING || h.list[i].f.completed_s > first + 200 - VMP_PCMK_MAX_FENCES);
	}
	assert_int_equal(pending, 1);
}

/* Both together, in the order in which the lab printed it. */
static void a_life(void **state)
{
	(void)state;
	struct vmp_pcmk_history h;
	struct vmp_fence list[VMP_PCMK_MAX_FENCES];
	struct vmp_sighting s = {.boot = 0xb2, .last_s = T0732_50 + 1};
	char reason[160];
	static const struct {
		const char *text;
		enum vmp_fenced_verdict verdict;
	} then[] = {
		{HEAD LIST(3) PENDING ON FAILED TAIL, VMP_FENCED_PENDING}, {HEAD LIST(3) OFF ON FAILED TAIL, VMP_FENCED_YES},
		{HEAD LIST(2) ON FAILED TAIL, VMP_FENCED_NONE},
	};
	assert_int_equal(parse(HEAD LIST(2) ON FAILED TAIL, &h, reason), 0);
	for (unsigned int i = 0; i < h.n; i++)
		list[i] = h.list[i].f;
	assert_true(vmp_fenced_base(&s, list, h.n, T0732_50 + 1));
	for (unsigned int k = 0; k < sizeof(then) / sizeof(then[0]); k++) {
		unsigned int which = 99;
		assert_int_equal(parse(then[k].text, &h, reason), 0);
		for (unsigned int i = 0; i < h.n; i++)
			list[i] = h.list[i].f;
		assert_int_equal(vmp_fenced_judge(&s, list, h.n, false, T0732_50 + 60, &which), then[k].verdict);
	}
	/* the next boot: what ended the one before says nothing about it */
	s = (struct vmp_sighting){.boot = 0xb3, .last_s = T0732_50 + 12};
	assert_int_equal(parse(HEAD LIST(3) OFF ON FAILED TAIL, &h, reason), 0);
	for (unsigned int i = 0; i < h.n; i++)
		list[i] = h.list[i].f;
	assert_true(vmp_fenced_base(&s, list, h.n, T0732_50 + 12));
	unsigned int which = 99;
	assert_int_equal(vmp_fenced_judge(&s, list, h.n, false, T0732_50 + 60, &which), VMP_FENCED_NONE);
	assert_int_equal(parse(HEAD LIST(4) REBOOT OFF ON FAILED TAIL, &h, reason), 0);
	for (unsigned int i = 0; i < h.n; i++)
		list[i] = h.list[i].f;
	assert_int_equal(vmp_fenced_judge(&s, list, h.n, false, T0732_50 + 60, &which), VMP_FENCED_YES);
	assert_int_equal(which, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(success_after_the_last_word),
		cmocka_unit_test(a_fenced_node_that_talks),
		cmocka_unit_test(only_a_successful_off_or_reboot),
		cmocka_unit_test(base),
		cmocka_unit_test(a_human_says_so),
		cmocka_unit_test(a_bar_ends_no_host),
		cmocka_unit_test(newest_of_several),
		cmocka_unit_test(as_printed),
		cmocka_unit_test(times),
		cmocka_unit_test(what_is_no_history),
		cmocka_unit_test(the_newest_are_kept),
		cmocka_unit_test(a_life),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
