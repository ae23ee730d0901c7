/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Scores by a program that stands in attrd_updater's place and writes down how it was called; the CIB as text and as a watched file. */
#include "daemon/pcmk.h"
#include "pollloop.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#define MS UINT64_C(1000000)

struct world {
	char dir[64], program[96], crm_resource[200], stonith_admin[200], cibadmin[200], cib_dir[96];
	struct pollloop *loop;
	struct vmp_pcmk *p;
	unsigned done, failed, states, cibs, cib_errors, bans;
	int ban_rc, clean_rc;
	int count_rc;
	unsigned cleans, counts, unpends, refreshs, unfencings, histories;
	int unpend_rc, refresh_rc;
	struct vmp_pcmk_history history;
	int64_t history_asked_s;
	int history_rc;
	uint32_t clean_count;
	bool banned;
	enum vmp_pcmk_state state;
	struct vmp_cib cib;
	char log[8192];
};

static void on_state(void *data, enum vmp_pcmk_state state, const char *reason)
{
	struct world *w = data;
	w->states++;
	w->state = state;
	if (state == VMP_PCMK_ABSENT)
		assert_non_null(reason);
}

static void on_done(void *data, const char *pair, const char *node, bool set, uint32_t score, int rc, uint32_t took_ms)
{
	struct world *w = data;
	(void)pair, (void)node, (void)set, (void)score, (void)took_ms;
	if (rc)
		w->failed++;
	else
		w->done++;
}

static void on_ban_done(void *data, const char *pair, bool on, int rc, const char *reason)
{
	struct world *w = data;
	assert_string_equal(pair, "web");
	assert_int_equal(rc == 0, reason[0] == '\0');
	w->banned = on;
	w->ban_rc = rc;
	w->bans++;
}

static void on_clean_done(void *data, const char *pair, uint32_t count, int rc, const char *reason)
{
	struct world *w = data;
	assert_string_equal(pair, "web");
	assert_true((rc == 0) == !*reason);
	w->clean_rc = rc;
	w->clean_count = count;
	w->cleans++;
}

static void on_count_done(void *data, const char *pair, int rc, const char *reason)
{
	struct world *w = data;
	assert_string_equal(pair, "web");
	assert_true((rc == 0) == !*reason);
	w->count_rc = rc;
	w->counts++;
}

static void on_refresh_done(void *data, const char *pair, int rc, const char *reason)
{
	struct world *w = data;
	assert_string_equal(pair, "web");
	assert_true((rc == 0) == !*reason);
	w->refresh_rc = rc;
	w->refreshs++;
}

static void on_unpend_done(void *data, const char *pair, int rc, const char *reason)
{
	struct world *w = data;
	assert_string_equal(pair, "web");
	assert_true((rc == 0) == !*reason);
	w->unpend_rc = rc;
	w->unpends++;
}

static void on_unfencing_done(void *data, int rc, const char *reason)
{
	struct world *w = data;
	assert_int_equal(rc, 0);
	assert_string_equal(reason, "");
	w->unfencings++;
}

static void on_fencing(void *data, const char *node, int64_t asked_s, const struct vmp_pcmk_history *history, int rc, const char *reason)
{
	struct world *w = data;
	assert_string_equal(node, "n2");
	assert_true((rc == 0) == !*reason);
	assert_true(rc == 0 || history->n == 0);
	w->history = *history;
	w->history_asked_s = asked_s;
	w->history_rc = rc;
	w->histories++;
}

static void on_cib(void *data, const struct vmp_cib *cib)
{
	struct world *w = data;
	w->cibs++;
	w->cib = *cib;
}

static void on_cib_error(void *data, const char *reason)
{
	struct world *w = data;
	assert_non_null(reason);
	w->cib_errors++;
}

__attribute__((format(printf, 3, 4)))
static void put(const struct world *w, const char *name, const char *fmt, ...)
{
	char path[200], tmp[210];
	va_list ap;
	snprintf(path, sizeof(path), "%s/%s", w->dir, name);
	snprintf(tmp, sizeof(tmp), "%s.tmp", path);
	FILE *f = fopen(tmp, "we");
	assert_non_null(f);
	va_start(ap, fmt);
	vfprintf(f, fmt, ap);
	va_end(ap);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(chmod(tmp, 0700), 0);
	assert_int_equal(rename(tmp, path), 0);
}

static void drop(const struct world *w, const char *name)
{
	char path[200];
	snprintf(path, sizeof(path), "%s/%s", w->dir, name);
	unlink(path);
}

static const char *calls(struct world *w)
{
	char path[200];
	snprintf(path, sizeof(path), "%s/log", w->dir);
	memset(w->log, 0, sizeof(w->log));
	FILE *f = fopen(path, "re");
	if (f) {
		assert_true(fread(w->log, 1, sizeof(w->log) - 1, f) < sizeof(w->log));
		fclose(f);
	}
	return w->log;
}

static struct world *prepare(void)
{
	struct world *w = calloc(1, sizeof(*w));
	strcpy(w->dir, "/tmp/vmp-pcmk-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	snprintf(w->program, sizeof(w->program), "%s/attrd_updater", w->dir);
	snprintf(w->crm_resource, sizeof(w->crm_resource), "%s/crm_resource", w->dir);
	snprintf(w->stonith_admin, sizeof(w->stonith_admin), "%s/stonith_admin", w->dir);
	snprintf(w->cibadmin, sizeof(w->cibadmin), "%s/cibadmin", w->dir);
	snprintf(w->cib_dir, sizeof(w->cib_dir), "%s/cib", w->dir);
	/* "fail": as without Pacemaker; "hang": never ends */
	put(w, "attrd_updater",
	    "#!/bin/sh\nd=%s\n[ -e $d/fail ] && { echo 'Could not update: Connection refused (111)' >&2; exit 102; }\n"
	    "[ -e $d/hang ] && { echo hung >> $d/log; exec sleep 1000; }\necho \"$*\" >> $d/log\n"
	    "case \"$*\" in *-Q) [ -e $d/count ] && echo \"name=\\\"x\\\" host=\\\"n1\\\" value=\\\"$(cat $d/count)\\\"\" ;; esac\n", w->dir);
	put(w, "crm_resource", "#!/bin/sh\n[ -e %s/fail ] && exit 102\necho \"crm_resource $*\" >> %s/log\n", w->dir, w->dir);
	put(w, "stonith_admin", "#!/bin/sh\nd=%s\n[ -e $d/hang ] && exec sleep 1000\necho \"stonith_admin $*\" >> $d/log\ncat $d/history\n[ ! -e $d/fail ]\n", w->dir);
	put(w, "cibadmin", "#!/bin/sh\nd=%s\n[ -e $d/fail ] && exit 102\necho \"cibadmin $*\" >> $d/log\n", w->dir);
	w->loop = pollloop_new();
	return w;
}

static void create(struct world *w, uint32_t deadline_ms, uint32_t refresh_ms)
{
	char reason[128];
	struct vmp_pcmk_params par = {
		.ops = pollloop_ops(w->loop), .node = "n1", .attrd_updater = w->program, .ban_done = on_ban_done, .clean_done = on_clean_done, .count_done = on_count_done, .unpend_done = on_unpend_done, .refresh_done = on_refresh_done, .unfencing_done = on_unfencing_done,
		.fencing = on_fencing, .stonith_admin = w->stonith_admin, .crm_resource = w->crm_resource, .cibadmin = w->cibadmin, .cib_dir = w->cib_dir, .deadline_ms = deadline_ms,
		.refresh_ms = refresh_ms, .data = w, .state = on_state, .score_done = on_done, .cib = on_cib, .cib_error = on_cib_error,
	};
	assert_int_equal(vmp_pcmk_new(&w->p, &par, reason, sizeof(reason)), 0);
}

static int setup(void **state)
{
	struct world *w = prepare();
	create(w, 0, 0);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;
	char cmd[128];
	w->p = vmp_pcmk_free(w->p);
	pollloop_free(w->loop);
	snprintf(cmd, sizeof(cmd), "rm -rf %s", w->dir);
	assert_int_equal(system(cmd), 0);
	free(w);
	return 0;
}

static void turn(struct world *w)
{
	pollloop_round(w->loop, 10);
	uint64_t now = pollloop_ops(w->loop)->now_ns(w->loop);
	if (vmp_pcmk_deadline_ns(w->p) <= now)
		vmp_pcmk_tick(w->p, now);
}

/* Until *counter reaches n. */
static void wait_count(struct world *w, const unsigned *counter, unsigned n)
{
	struct timespec a, b;
	clock_gettime(CLOCK_MONOTONIC, &a);
	while (*counter < n) {
		turn(w);
		clock_gettime(CLOCK_MONOTONIC, &b);
		assert_true(b.tv_sec - a.tv_sec < 10);
	}
	assert_int_equal(*counter, n);
}

static void values_are_written(void **state)
{
	struct world *w = *state;
	assert_int_equal(vmp_pcmk_score(w->p, "web", "vm-web", NULL, true, 1000), 0);
	wait_count(w, &w->done, 1);
	assert_int_equal(w->state, VMP_PCMK_UP);
	assert_string_equal(calls(w), "-n master-vm-web -N n1 -U 1000\n");
	/* the same again: nothing to do */
	assert_int_equal(vmp_pcmk_score(w->p, "web", "vm-web", NULL, true, 1000), 0);
	assert_int_equal(vmp_pcmk_score(w->p, "web", "vm-web", "n1", true, 1000), 0);
	assert_int_equal(vmp_pcmk_score(w->p, "web", "vm-web", NULL, false, 0), 0);
	wait_count(w, &w->done, 2);
	assert_string_equal(calls(w), "-n master-vm-web -N n1 -U 1000\n-n master-vm-web -N n1 -D\n");
	vmp_pcmk_rewrite(w->p, NULL);
	wait_count(w, &w->done, 3);
	assert_int_equal(vmp_pcmk_score(w->p, "", "x", NULL, true, 1), -EINVAL);
	assert_int_equal(w->states, 1);
}

static void order_is_kept_and_newest_wins(void **state)
{
	struct world *w = *state;
	/* The first starts at once; of those that wait for it only the newest value of each node is written, in order of wishing. */
	vmp_pcmk_score(w->p, "web", "r", NULL, true, 1);
	vmp_pcmk_score(w->p, "web", "r", NULL, true, 2);
	vmp_pcmk_score(w->p, "web", "r", "n2", true, 1000);
	vmp_pcmk_score(w->p, "web", "r", NULL, true, 3);
	vmp_pcmk_score(w->p, "web", "r", NULL, true, 1001);
	wait_count(w, &w->done, 3);
	assert_string_equal(calls(w), "-n master-r -N n1 -U 1\n-n master-r -N n2 -U 1000\n-n master-r -N n1 -U 1001\n");
}

static void absent_pacemaker_is_reported_once(void **state)
{
	struct world *w = *state;
	put(w, "fail", "x");
	vmp_pcmk_score(w->p, "web", "r", NULL, true, 1000);
	vmp_pcmk_score(w->p, "db", "s", NULL, true, 1000);
	wait_count(w, &w->failed, 2);
	assert_int_equal(w->state, VMP_PCMK_ABSENT);
	/* back-off: half a second, then twice that */
	uint64_t now = pollloop_ops(w->loop)->now_ns(w->loop), at = vmp_pcmk_deadline_ns(w->p);
	assert_true(at > now && at <= now + 500 * MS);
	pollloop_advance(w->loop, 500 * MS);
	wait_count(w, &w->failed, 4);
	now = pollloop_ops(w->loop)->now_ns(w->loop);
	at = vmp_pcmk_deadline_ns(w->p);
	assert_true(at > now + 500 * MS && at <= now + 1000 * MS);
	assert_int_equal(w->states, 1);
	drop(w, "fail");
	pollloop_advance(w->loop, 30000 * MS);
	wait_count(w, &w->done, 2);
	assert_int_equal(w->states, 2);
	assert_int_equal(w->state, VMP_PCMK_UP);
}

static void return_of_pacemaker_rewrites_the_others(void **state)
{
	struct world *w = *state;
	vmp_pcmk_score(w->p, "web", "r", NULL, true, 1000);
	wait_count(w, &w->done, 1);
	put(w, "fail", "x");
	vmp_pcmk_score(w->p, "db", "s", NULL, true, 1000);
	wait_count(w, &w->failed, 1);
	drop(w, "fail");
	drop(w, "log");
	pollloop_advance(w->loop, 1000 * MS);
	wait_count(w, &w->done, 3);
	assert_string_equal(calls(w), "-n master-s -N n1 -U 1000\n-n master-r -N n1 -U 1000\n");
}

static void a_hanging_process_is_ended(void **state)
{
	struct world *w = *state;
	put(w, "hang", "x");
	vmp_pcmk_score(w->p, "web", "r", NULL, true, 5);
	wait_count(w, &w->failed, 1);
	drop(w, "hang");
	vmp_pcmk_score(w->p, "web", "r", NULL, true, 6);
	wait_count(w, &w->done, 1);
	assert_string_equal(calls(w), "hung\n-n master-r -N n1 -U 6\n");
}

static int setup_short(void **state)
{
	struct world *w = prepare();
	create(w, 300, 60000);
	*state = w;
	return 0;
}

static int setup_second(void **state)
{
	struct world *w = prepare();
	create(w, 1000, 0);
	*state = w;
	return 0;
}

static void periodic_refresh(void **state)
{
	struct world *w = *state;
	vmp_pcmk_score(w->p, "web", "r", NULL, true, 5);
	vmp_pcmk_score(w->p, "web", "r", "n2", true, 1000);
	wait_count(w, &w->done, 2);
	pollloop_advance(w->loop, 60000 * MS);
	wait_count(w, &w->done, 3);		/* only the own node's */
	for (int i = 0; i < 5; i++)
		turn(w);
	assert_int_equal(w->done, 3);
}

static void forgotten_pair(void **state)
{
	struct world *w = *state;
	vmp_pcmk_score(w->p, "web", "r", NULL, true, 5);
	vmp_pcmk_forget(w->p, "web");		/* the write may still run */
	wait_count(w, &w->done, 2);
	assert_string_equal(calls(w), "-n master-r -N n1 -U 5\n-n master-r -N n1 -D\n");
	vmp_pcmk_forget(w->p, "web");
	vmp_pcmk_rewrite(w->p, NULL);
	for (int i = 0; i < 5; i++)
		turn(w);
	assert_int_equal(w->done, 2);
	/* never had a score */
	vmp_pcmk_forget(w->p, "nothing");
	/* many in turn: no place is lost */
	for (int i = 0; i < 2 * VMP_PCMK_MAX_PAIRS; i++) {
		char name[16];
		snprintf(name, sizeof(name), "p%d", i);
		assert_int_equal(vmp_pcmk_score(w->p, name, name, NULL, false, 0), 0);
		vmp_pcmk_forget(w->p, name);
		wait_count(w, &w->done, 3 + (unsigned)i);
	}
}

static void many_pairs_at_once(void **state)
{
	struct world *w = *state;
	char name[16];
	for (int i = 0; i < VMP_PCMK_MAX_PAIRS; i++) {
		snprintf(name, sizeof(name), "p%d", i);
		assert_int_equal(vmp_pcmk_score(w->p, name, name, NULL, true, 7), 0);
	}
	assert_int_equal(vmp_pcmk_score(w->p, "one-more", "r", NULL, true, 7), -ENOSPC);
	wait_count(w, &w->done, VMP_PCMK_MAX_PAIRS);
}

static void freeing_waits_for_nothing(void **state)
{
	struct world *w = *state;
	struct timespec a, b;
	put(w, "hang", "x");
	vmp_pcmk_score(w->p, "web", "r", NULL, true, 5);
	clock_gettime(CLOCK_MONOTONIC, &a);
	w->p = vmp_pcmk_free(w->p);
	clock_gettime(CLOCK_MONOTONIC, &b);
	assert_true((b.tv_sec - a.tv_sec) * 1000 + (b.tv_nsec - a.tv_nsec) / 1000000 < 100);
}

/* --- the CIB's text --- */

#define CIB_HEAD "<cib admin_epoch=\"1\" epoch=\"22\" num_updates=\"3\" validate-with=\"pacemaker-3.9\"><configuration>"
#define CIB_TAIL "</configuration><status/></cib>"
#define PAIR(id, name) \
	"<primitive id=\"" id "\" class=\"ocf\" provider=\"vmpair\" type=\"pair\"><instance_attributes id=\"" id "-ia\">" \
	"<nvpair id=\"" id "-p\" name=\"pair\" value=\"" name "\"/></instance_attributes></primitive>"
#define META(id, name, value) \
	"<meta_attributes id=\"" id "\"><nvpair id=\"" id "-" name "\" name=\"" name "\" value=\"" value "\"/></meta_attributes>"
#define OPTION(id, name, value) \
	"<cluster_property_set id=\"" id "\"><nvpair id=\"" id "-" name "\" name=\"" name "\" value=\"" value "\"/></cluster_property_set>"

static struct vmp_cib parse(const char *xml)
{
	struct vmp_cib cib;
	char reason[128] = "";
	if (vmp_cib_parse(xml, strlen(xml), "n1", &cib, reason, sizeof(reason)) < 0)
		fail_msg("%s", reason);
	return cib;
}

static void cib_simple(void **state)
{
	(void)state;
	struct vmp_cib c = parse(CIB_HEAD "<crm_config/><nodes/><resources><clone id=\"web-clone\">" PAIR("vm-web", "web")
		"</clone><primitive id=\"x\" class=\"ocf\" provider=\"heartbeat\" type=\"Dummy\"/></resources>" CIB_TAIL);
	assert_int_equal(c.admin_epoch, 1);
	assert_int_equal(c.epoch, 22);
	assert_int_equal(c.n_pairs, 1);
	assert_string_equal(c.pairs[0].pair, "web");
	assert_string_equal(c.pairs[0].rsc, "vm-web");
	assert_string_equal(c.pairs[0].clone, "web-clone");
	assert_true(c.pairs[0].managed && c.pairs[0].enabled && !c.pairs[0].maintenance && !c.pairs[0].frozen);
	assert_true(c.stonith_enabled);
}

static void cib_fence_devices(void **state)
{
	(void)state;
	static const char power[] = "<primitive id=\"%s\" class=\"stonith\" type=\"fence_ipmilan\"/>";
	char many[4096] = CIB_HEAD "<resources>";
	struct vmp_cib c = parse(CIB_HEAD "<resources><primitive id=\"cut\" class=\"stonith\" type=\"fence_vmpair\"/>"
		"<primitive id=\"off\" class=\"stonith\" type=\"fence_ipmilan\">" META("m", "target-role", "Stopped") "</primitive>"
		"<primitive id=\"x\" class=\"ocf\" provider=\"heartbeat\" type=\"Dummy\"/></resources>" CIB_TAIL);
	assert_int_equal(c.n_cut, 1);
	assert_int_equal(c.n_power, 0);
	assert_string_equal(c.power, "");
	assert_int_equal(c.n_pairs + c.n_skipped, 0);
	c = parse(CIB_HEAD "<crm_config>" OPTION("o", "stonith-watchdog-timeout", "10") "</crm_config><resources>"
		"<template id=\"t\" class=\"stonith\" type=\"fence_vmpair\"/><primitive id=\"cut\" template=\"t\"/>"
		"<template id=\"u\" class=\"stonith\" type=\"fence_ipmilan\"/><group id=\"g\"><primitive id=\"ipmi-a\" template=\"u\"/></group>"
		"<clone id=\"k\"><primitive id=\"pdu\" class=\"stonith\" type=\"fence_apc\"/></clone></resources>" CIB_TAIL);
	assert_int_equal(c.n_cut, 1);
	assert_int_equal(c.n_power, 3);
	assert_string_equal(c.power, "watchdog, ipmi-a, pdu");
	c = parse(CIB_HEAD "<crm_config>" OPTION("o", "stonith-watchdog-timeout", "0") OPTION("p", "stonith-enabled", "false") "</crm_config>" CIB_TAIL);
	assert_int_equal(c.n_power, 0);
	assert_false(c.stonith_enabled);
	for (int i = 0; i < 30; i++) {
		char name[16];
		snprintf(name, sizeof(name), "power-%d", i);
		snprintf(many + strlen(many), sizeof(many) - strlen(many), power, name);
	}
	strcat(many, "</resources>" CIB_TAIL);
	c = parse(many);
	assert_int_equal(c.n_power, 30);
	assert_int_equal(strncmp(c.power, "power-0, power-1, ", 18), 0);
	assert_string_equal(c.power + strlen(c.power) - 5, ", ...");
	assert_non_null(strstr(c.power, ", power-9, "));
	assert_null(strstr(c.power, "..., "));
}

static void cib_frozen(void **state)
{
	(void)state;
	static const struct { const char *xml; bool frozen; const char *why; } t[] = {
		{CIB_HEAD "<crm_config>" OPTION("o", "maintenance-mode", "TRUE") "</crm_config><resources>" PAIR("r", "web") "</resources>" CIB_TAIL,
		 true, "maintenance-mode of the cluster"},
		{CIB_HEAD "<crm_config>" OPTION("o", "maintenance-mode", "false") "</crm_config><resources>" PAIR("r", "web") "</resources>" CIB_TAIL,
		 false, ""},
		/* the bootstrap set wins over a higher score */
		{CIB_HEAD "<crm_config>"
		 "<cluster_property_set id=\"a\" score=\"9\"><nvpair id=\"n\" name=\"maintenance-mode\" value=\"true\"/></cluster_property_set>"
		 OPTION("cib-bootstrap-options", "maintenance-mode", "no") "</crm_config><resources>" PAIR("r", "web") "</resources>" CIB_TAIL, false, ""},
		/* a set under a rule is not judged */
		{CIB_HEAD "<crm_config><cluster_property_set id=\"a\"><rule id=\"r0\"/><nvpair id=\"n\" name=\"maintenance-mode\" value=\"true\"/>"
		 "</cluster_property_set></crm_config><resources>" PAIR("r", "web") "</resources>" CIB_TAIL, false, ""},
		{CIB_HEAD "<crm_config>" OPTION("o", "is-managed-default", "0") "</crm_config><resources>" PAIR("r", "web") "</resources>" CIB_TAIL,
		 true, "is-managed-default of the cluster"},
		{CIB_HEAD "<crm_config>" OPTION("o", "is-managed-default", "0") "</crm_config><resources><clone id=\"c\">" PAIR("r", "web")
		 META("m", "is-managed", "true") "</clone></resources>" CIB_TAIL, false, ""},
		{CIB_HEAD "<resources><clone id=\"c\">" PAIR("r", "web") META("m", "is-managed", "false") "</clone></resources>" CIB_TAIL,
		 true, "is-managed=false of c"},
		{CIB_HEAD "<resources><clone id=\"c\"><group id=\"g\">" PAIR("r", "web") META("m", "maintenance", "true")
		 "</group></clone></resources>" CIB_TAIL, true, "maintenance of g"},
		{CIB_HEAD "<resources>" PAIR("r", "web") "</resources><rsc_defaults>" META("d", "is-managed", "off") "</rsc_defaults>" CIB_TAIL,
		 true, "is-managed=false of rsc_defaults"},
		{CIB_HEAD "<nodes><node id=\"1\" uname=\"n1\"><instance_attributes id=\"a\"><nvpair id=\"n\" name=\"maintenance\" value=\"on\"/>"
		 "</instance_attributes></node></nodes><resources>" PAIR("r", "web") "</resources>" CIB_TAIL, true, "maintenance of n1"},
		{CIB_HEAD "<nodes><node id=\"2\" uname=\"n2\"><instance_attributes id=\"a\"><nvpair id=\"n\" name=\"maintenance\" value=\"on\"/>"
		 "</instance_attributes></node></nodes><resources>" PAIR("r", "web") "</resources>" CIB_TAIL, false, ""},
		/* by reference */
		{CIB_HEAD "<resources><primitive id=\"d\" class=\"ocf\" provider=\"heartbeat\" type=\"Dummy\">" META("m", "is-managed", "false")
		 "</primitive><clone id=\"c\">" PAIR("r", "web") "<meta_attributes id-ref=\"m\"/></clone></resources>" CIB_TAIL,
		 true, "is-managed=false of c"},
	};
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		struct vmp_cib c = parse(t[i].xml);
		assert_int_equal(c.n_pairs, 1);
		assert_int_equal(c.pairs[0].frozen, t[i].frozen);
		assert_string_equal(c.pairs[0].frozen_reason, t[i].why);
	}
}

static void cib_places(void **state)
{
	(void)state;
	struct vmp_cib c = parse(CIB_HEAD "<nodes><node id=\"1\" uname=\"n1\"><instance_attributes id=\"a\"><nvpair id=\"n\" name=\"standby\" "
		"value=\"on\"/></instance_attributes></node><node id=\"2\" uname=\"n2\"/><node id=\"3\" uname=\"n3\"/></nodes><resources>"
		"<clone id=\"c\">" PAIR("r", "web") "</clone></resources><constraints>"
		"<rsc_location id=\"l1\" rsc=\"c\" node=\"n3\" score=\"-INFINITY\"/>"
		"<rsc_location id=\"l2\" rsc=\"c\" node=\"n1\" score=\"-INFINITY\" role=\"Promoted\"/>"
		"<rsc_location id=\"l3\" rsc=\"c\" node=\"n2\" score=\"-1\"/>"
		"<rsc_location id=\"l4\" rsc=\"other\" node=\"n2\" score=\"-INFINITY\"/></constraints>" CIB_TAIL);
	assert_int_equal(c.n_nodes, 3);
	assert_true(c.nodes[0].standby && !c.nodes[1].standby && !c.nodes[2].standby);
	assert_string_equal(c.nodes[2].name, "n3");
	assert_int_equal(c.pairs[0].banned, 1 << 2);
}

static void cib_other_shapes(void **state)
{
	(void)state;
	struct vmp_cib c = parse(CIB_HEAD "<crm_config>" OPTION("cib-bootstrap-options", "stonith-enabled", "false") "</crm_config><resources>"
		"<template id=\"t\" class=\"ocf\" provider=\"vmpair\" type=\"pair\"><instance_attributes id=\"ti\"><nvpair id=\"tn\" name=\"pair\" "
		"value=\"from-template\"/></instance_attributes></template><clone id=\"c1\"><primitive id=\"r1\" template=\"t\"/></clone>"
		"<master id=\"old\">" PAIR("r2", "db") META("m", "target-role", "stopped") "</master>"
		PAIR("r3", "bad name") "<primitive id=\"r4\" class=\"ocf\" provider=\"vmpair\" type=\"pair\"/></resources>" CIB_TAIL);
	assert_false(c.stonith_enabled);
	assert_int_equal(c.n_pairs, 2);
	assert_string_equal(c.pairs[0].pair, "from-template");
	assert_string_equal(c.pairs[0].rsc, "r1");
	assert_true(c.pairs[0].enabled);
	assert_string_equal(c.pairs[1].clone, "old");
	assert_false(c.pairs[1].enabled);
	assert_int_equal(c.n_skipped, 2);
	c = parse(CIB_HEAD CIB_TAIL);
	assert_int_equal(c.n_pairs, 0);
}

static void cib_bad(void **state)
{
	(void)state;
	static const char *const bad[] = {"", "<cib", "<html/>", "<cib/>", "\x01\x02", "<!DOCTYPE c [<!ENTITY a \"b\">]><c>&a;</c>"};
	struct vmp_cib c;
	char reason[128];
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		reason[0] = '\0';
		assert_int_equal(vmp_cib_parse(bad[i], strlen(bad[i]), "n1", &c, reason, sizeof(reason)), -EBADMSG);
		assert_true(reason[0] != '\0');
	}
}

static void ban_and_back(void **state)
{
	struct world *w = *state;
	const long long t0 = (long long)time(NULL);
	long long when = 0;
	assert_int_equal(vmp_pcmk_ban(w->p, "web", "vm-web", true), 0);
	wait_count(w, &w->bans, 1);
	assert_true(w->banned);
	assert_int_equal(w->ban_rc, 0);
	assert_int_equal(sscanf(calls(w), "-n fail-count-vm-web#surplus_0 -N n1 -U INFINITY\n-n last-failure-vm-web#surplus_0 -N n1 -U %lld\n",
				&when), 1);
	assert_true(when >= t0 && when <= t0 + 20);
	drop(w, "log");
	assert_int_equal(vmp_pcmk_ban(w->p, "web", "vm-web", false), 0);
	wait_count(w, &w->bans, 2);
	assert_false(w->banned);
	assert_string_equal(calls(w), "-n fail-count-vm-web#surplus_0 -N n1 -D\n-n last-failure-vm-web#surplus_0 -N n1 -D\n");
	drop(w, "log");
	put(w, "fail", "x");
	assert_int_equal(vmp_pcmk_ban(w->p, "web", "vm-web", true), 0);
	wait_count(w, &w->bans, 3);
	assert_int_equal(w->ban_rc, -ECOMM);
	pollloop_advance(w->loop, 60000 * MS);
	for (int i = 0; i < 5; i++)
		turn(w);
	assert_int_equal(w->bans, 3);
	/* says nothing about whether scores can be written */
	assert_int_equal(w->states, 0);
	assert_int_equal(vmp_pcmk_ban(w->p, "web", "", true), -EINVAL);
}

static void clean_keeps_the_count(void **state)
{
	struct world *w = *state;
	long long when = 0;
	put(w, "count", "2");
	assert_int_equal(vmp_pcmk_clean(w->p, "web", "vm-web", "monitor", 11000), 0);
	wait_count(w, &w->cleans, 1);
	assert_int_equal(w->clean_rc, 0);
	assert_int_equal(w->clean_count, 4); /* both attributes say 2 */
	assert_int_equal(sscanf(calls(w), "-n fail-count-vm-web#recovered_0 -N n1 -Q\n-n fail-count-vm-web#monitor_11000 -N n1 -Q\n"
				"crm_resource --cleanup --resource vm-web --node n1 --operation monitor --interval 11000ms\n"
				"-n fail-count-vm-web#recovered_0 -N n1 -U 4\n-n last-failure-vm-web#recovered_0 -N n1 -U %lld\n", &when), 1);
	assert_true(when > 0);
	drop(w, "log");
	put(w, "count", "INFINITY");
	assert_int_equal(vmp_pcmk_clean(w->p, "web", "vm-web", "start", 0), 0);
	wait_count(w, &w->cleans, 2);
	assert_non_null(strstr(calls(w), "-n fail-count-vm-web#recovered_0 -N n1 -U INFINITY\n"));
	drop(w, "log");
	drop(w, "count"); /* no failure is counted: none is written */
	assert_int_equal(vmp_pcmk_clean(w->p, "web", "vm-web", "start", 0), 0);
	wait_count(w, &w->cleans, 3);
	assert_int_equal(w->clean_rc, 0);
	assert_null(strstr(calls(w), "-U"));
	drop(w, "log");
	put(w, "fail", "x");
	assert_int_equal(vmp_pcmk_clean(w->p, "web", "vm-web", "start", 0), 0);
	wait_count(w, &w->cleans, 4);
	assert_int_equal(w->clean_rc, -ECOMM);
	assert_int_equal(vmp_pcmk_clean(w->p, "web", "", "start", 0), -EINVAL);
	assert_int_equal(vmp_pcmk_clean(w->p, "web", "vm-web", "operation-with-a-long-name", 0), -EINVAL);
	drop(w, "fail");
	drop(w, "log");
	assert_int_equal(vmp_pcmk_unfencing(w->p), 0);
	wait_count(w, &w->unfencings, 1);
	assert_string_equal(calls(w), "-n #node-unfenced -N n1 -D\n");
}

static void one_failure_more_is_counted(void **state)
{
	struct world *w = *state;
	long long when = 0;
	assert_int_equal(vmp_pcmk_count(w->p, "web", "vm-web"), 0);
	wait_count(w, &w->counts, 1);
	assert_int_equal(w->count_rc, 0);
	assert_int_equal(sscanf(calls(w), "-n fail-count-vm-web#recovered_0 -N n1 -U value++\n-n last-failure-vm-web#recovered_0 -N n1 -U %lld\n",
				&when), 1);
	assert_true(when > 0);
	put(w, "fail", "x");
	assert_int_equal(vmp_pcmk_count(w->p, "web", "vm-web"), 0);
	wait_count(w, &w->counts, 2);
	assert_int_equal(w->count_rc, -ECOMM);
	assert_int_equal(vmp_pcmk_count(w->p, "web", ""), -EINVAL);
}

static void a_monitor_that_is_over_is_taken_out(void **state)
{
	struct world *w = *state;
	assert_int_equal(vmp_pcmk_unpend(w->p, "web", "vm-web"), 0);
	wait_count(w, &w->unpends, 1);
	assert_int_equal(w->unpend_rc, 0);
	assert_string_equal(calls(w), "cibadmin --delete --xpath //node_state[@uname='n1']//lrm_resource[@id='vm-web']"
				      "/lrm_rsc_op[@operation='monitor'][@call-id='-1'][@interval!='0']\n");
	put(w, "fail", "x");
	assert_int_equal(vmp_pcmk_unpend(w->p, "web", "vm-web"), 0);
	wait_count(w, &w->unpends, 2);
	assert_int_equal(w->unpend_rc, -ECOMM);
	assert_int_equal(w->states, 0); /* says nothing about whether scores can be written */
	assert_int_equal(vmp_pcmk_unpend(w->p, "web", ""), -EINVAL);
	assert_int_equal(vmp_pcmk_unpend(w->p, "web", "vm'] | //x['"), -EINVAL);
}

static void a_member_that_retired_is_forgotten(void **state)
{
	struct world *w = *state;
	assert_int_equal(vmp_pcmk_refresh(w->p, "web", "vm-web"), 0);
	wait_count(w, &w->refreshs, 1);
	assert_int_equal(w->refresh_rc, 0);
	assert_string_equal(calls(w), "crm_resource --refresh --resource vm-web --node n1\n");
	put(w, "fail", "x");
	assert_int_equal(vmp_pcmk_refresh(w->p, "web", "vm-web"), 0);
	wait_count(w, &w->refreshs, 2);
	assert_int_equal(w->refresh_rc, -ECOMM);
	assert_int_equal(vmp_pcmk_refresh(w->p, "web", ""), -EINVAL);
}

static void history_is_asked_for(void **state)
{
	struct world *w = *state;
	time_t before = time(NULL);
	put(w, "history", "<pacemaker-result><list count=\"1\"><fence_event action=\"off\" target=\"n2\" status=\"success\" client=\"c\" delegate=\"n1\" "
	    "completed=\"2026-11-22 07:32:56Z\"/></list><status code=\"0\"/></pacemaker-result>\n");
	assert_int_equal(vmp_pcmk_fencing(w->p, "n2"), 0);
	wait_count(w, &w->histories, 1);
	assert_int_equal(w->history_rc, 0);
	assert_int_equal(w->history.n, 1);
	assert_int_equal(w->history.list[0].f.action, VMP_FENCE_OFF);
	assert_in_range(w->history_asked_s, before, time(NULL));
	assert_string_equal(calls(w), "stonith_admin --history n2 --verbose --output-as=xml\n");
	/* it fails, whatever it has printed; prints too little; does not end */
	put(w, "fail", "x");
	assert_int_equal(vmp_pcmk_fencing(w->p, "n2"), 0);
	wait_count(w, &w->histories, 2);
	assert_int_equal(w->history_rc, -ECOMM);
	drop(w, "fail");
	put(w, "history", "<pacemaker-result>");
	assert_int_equal(vmp_pcmk_fencing(w->p, "n2"), 0);
	wait_count(w, &w->histories, 3);
	assert_int_equal(w->history_rc, -EBADMSG);
	put(w, "hang", "x");
	assert_int_equal(vmp_pcmk_fencing(w->p, "n2"), 0);
	wait_count(w, &w->histories, 4);
	assert_int_equal(w->history_rc, -ETIMEDOUT);
	drop(w, "hang");
	drop(w, "stonith_admin");
	assert_int_equal(vmp_pcmk_fencing(w->p, "n2"), 0);
	wait_count(w, &w->histories, 5);
	assert_int_equal(w->history_rc, -ENOENT);
	assert_int_equal(vmp_pcmk_fencing(w->p, ""), -EINVAL);
	assert_int_equal(vmp_pcmk_fencing(w->p, "--cleanup"), -EINVAL);
}

static void cib_file_is_watched(void **state)
{
	struct world *w = *state;
	/* the directory comes into being later */
	for (int i = 0; i < 3; i++)
		turn(w);
	assert_int_equal(mkdir(w->cib_dir, 0700), 0);
	put(w, "cib/cib.xml", "%s", CIB_HEAD "<resources>" PAIR("r", "web") "</resources>" CIB_TAIL);
	pollloop_advance(w->loop, 2000 * MS);
	wait_count(w, &w->cibs, 1);
	assert_false(w->cib.pairs[0].frozen);
	/* a change that means nothing to us, then one that does */
	put(w, "cib/cib.xml", "%s", CIB_HEAD "<resources>" PAIR("r", "web") "<primitive id=\"x\" class=\"ocf\" type=\"y\"/></resources>" CIB_TAIL);
	put(w, "cib/cib.xml", "%s", CIB_HEAD "<crm_config>" OPTION("o", "maintenance-mode", "true") "</crm_config><resources>" PAIR("r", "web")
	    "</resources>" CIB_TAIL);
	wait_count(w, &w->cibs, 2);
	assert_true(w->cib.pairs[0].frozen);
	put(w, "cib/cib.xml", "<cib");
	wait_count(w, &w->cib_errors, 1);
	assert_int_equal(w->cibs, 2);
	/* the directory is replaced, as by a restore from backup */
	char cmd[256];
	snprintf(cmd, sizeof(cmd), "rm -r %s", w->cib_dir);
	assert_int_equal(system(cmd), 0);
	for (int i = 0; i < 3; i++)
		turn(w);
	assert_int_equal(mkdir(w->cib_dir, 0700), 0);
	put(w, "cib/cib.xml", "%s", CIB_HEAD "<resources/>" CIB_TAIL);
	pollloop_advance(w->loop, 2000 * MS);
	wait_count(w, &w->cibs, 3);
	assert_int_equal(w->cib.n_pairs, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(values_are_written, setup, teardown),
		cmocka_unit_test_setup_teardown(order_is_kept_and_newest_wins, setup, teardown),
		cmocka_unit_test_setup_teardown(absent_pacemaker_is_reported_once, setup, teardown),
		cmocka_unit_test_setup_teardown(return_of_pacemaker_rewrites_the_others, setup, teardown),
		cmocka_unit_test_setup_teardown(a_hanging_process_is_ended, setup_short, teardown),
		cmocka_unit_test_setup_teardown(periodic_refresh, setup_short, teardown),
		cmocka_unit_test_setup_teardown(forgotten_pair, setup, teardown),
		cmocka_unit_test_setup_teardown(ban_and_back, setup, teardown),
		cmocka_unit_test_setup_teardown(clean_keeps_the_count, setup, teardown),
		cmocka_unit_test_setup_teardown(a_member_that_retired_is_forgotten, setup, teardown),
		cmocka_unit_test_setup_teardown(one_failure_more_is_counted, setup, teardown),
		cmocka_unit_test_setup_teardown(a_monitor_that_is_over_is_taken_out, setup, teardown),
		cmocka_unit_test_setup_teardown(many_pairs_at_once, setup, teardown),
		cmocka_unit_test_setup_teardown(freeing_waits_for_nothing, setup_short, teardown),
		cmocka_unit_test_setup_teardown(history_is_asked_for, setup_second, teardown),
		cmocka_unit_test(cib_simple),
		cmocka_unit_test(cib_fence_devices),
		cmocka_unit_test(cib_frozen),
		cmocka_unit_test(cib_places), cmocka_unit_test(cib_other_shapes),
		cmocka_unit_test(cib_bad),
		cmocka_unit_test_setup_teardown(cib_file_is_watched, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
