/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What Pacemaker's fencing proves about other nodes (R3), for voter sets whose guards have no end (T1): which boot of each node was heard,
 * when last, and what the fencer's history says since. core/fenced.h decides; the core is told of a boot that is over.
 *
 * Kept in RUNDIR/fencing.json, since a daemon that is restarted after the other node was lost hears nothing from which it could learn it
 * again: neither which boot that was, nor that it has been proven to be over. It is written when a boot is first heard, its base taken, when
 * the node falls silent, and when its end is proven.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "daemon/daemon.h"
#include "internal/cleanup.h"

static const uint64_t ms_ns = 1000000u;
enum {
	FILE_VERSION = 1,
	SILENT_MS = 1000,	/* no word for so long, and no less than two leases */
	LOOK_URGENT_MS = 500,	/* how often the fencer is asked: while a promote waits */
	LOOK_MS = 1000,		/* ... since a node fell silent, for LOOK_LONG_MS */
	LOOK_SLOW_MS = 15000,
	LOOK_LONG_MS = 120000,
	BASE_MS = 2000,
	LOOK_HEARD_MS = 60000,	/* at a node that is heard: whether it should be */
};

static void json_p(json_t **j)
{
	json_decref(*j);
}
#define CLEANUP_JSON __attribute__((cleanup(json_p)))

static int64_t wall_s(uint64_t ago_ns)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return ((int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec - (int64_t)ago_ns) / 1000000000;
}

static const char *wall_text(int64_t s, char *buf, size_t size)
{
	time_t t = (time_t)s;
	struct tm tm;

	if (!gmtime_r(&t, &tm) || !strftime(buf, size, "%F %TZ", &tm))
		snprintf(buf, size, "?");
	return buf;
}

static struct vmp_fencing_peer *find(struct vmp_daemon *d, uint8_t node)
{
	for (unsigned i = 0; i < ARRAY_SIZE(d->fencing); i++)
		if (node && d->fencing[i].node == node)
			return &d->fencing[i];
	return NULL;
}

static struct vmp_fencing_peer *get(struct vmp_daemon *d, uint8_t node)
{
	struct vmp_fencing_peer *p = find(d, node);

	for (unsigned i = 0; i < ARRAY_SIZE(d->fencing) && !p; i++)
		if (!d->fencing[i].node) {
			p = &d->fencing[i];
			*p = (struct vmp_fencing_peer){ .node = node, .verdict = VMP_FENCED_NOT_ASKED };
		}
	return p;
}

static bool endless(const struct vmp_daemon *d, struct vmp_node_view *nv)
{
	if (!d->core_up || d->as_witness)
		return false;
	vmp_core_node_view(&d->core, vmp_now_ns(), nv);
	return nv->endless && (nv->n > 1 || nv->parted);
}

/* --- file ------------------------------------------------------------------------------------------------------------------ */
static void file_path(const struct vmp_daemon *d, char *buf, size_t size, const char *suffix)
{
	snprintf(buf, size, "%s/fencing.json%s", d->conf.runtime_dir, suffix);
}

static int write_file(const char *path, const char *tmp, const char *text)
{
	CLEANUP_CLOSE int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	size_t len = strlen(text);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = write(fd, text, len);
	if (n < 0 || (size_t)n != len)
		return n < 0 ? -errno : -ENOSPC;
	return rename(tmp, path) < 0 ? -errno : 0;
}

static void save(struct vmp_daemon *d)
{
	CLEANUP_JSON json_t *nodes = json_array(), *doc = NULL;
	CLEANUP_FREE char *text = NULL;
	char path[VMP_CONF_STR + 32], tmp[VMP_CONF_STR + 32];
	int r = -ENOMEM;

	for (unsigned i = 0; i < ARRAY_SIZE(d->fencing); i++) {
		const struct vmp_fencing_peer *p = &d->fencing[i];

		if (p->node && p->seen.boot)
			json_array_append_new(nodes, json_pack("{s:i s:I s:b s:I s:I s:b s:I s:I s:s}", "node", (int)p->node, "boot",
							       (json_int_t)p->seen.boot, "based", (int)p->seen.based, "base_s",
							       (json_int_t)p->seen.base_s, "base_newest_s", (json_int_t)p->seen.base_newest_s,
							       "silent", (int)p->silent, "last_s", (json_int_t)p->seen.last_s, "proven",
							       (json_int_t)p->proven, "proof", p->proof));
	}
	doc = json_pack("{s:i s:I s:O}", "v", FILE_VERSION, "boot", (json_int_t)d->boot, "nodes", nodes);
	text = doc ? json_dumps(doc, JSON_INDENT(1)) : NULL;
	file_path(d, path, sizeof(path), "");
	file_path(d, tmp, sizeof(tmp), ".new");
	if (text)
		r = write_file(path, tmp, text);
	if (r == 0)
		return;
	/* What it says may be outdated now, and a proof of an earlier boot would leave out a node that is back: rather nothing at all. */
	unlink(tmp);
	unlink(path);
	if (vmp_ratelimit_pass(&d->limit_persist, vmp_now_ns(), 1000 * ms_ns))
		vmp_log(LOG_WARNING, "%s: %s", path, strerror(-r));
}

void vmp_fencing_load(struct vmp_daemon *d)
{
	char path[VMP_CONF_STR + 32];
	CLEANUP_JSON json_t *doc = NULL;
	json_int_t boot = 0;
	json_t *nodes = NULL, *o;
	int version = 0;
	size_t i;

	file_path(d, path, sizeof(path), "");
	doc = json_load_file(path, JSON_REJECT_DUPLICATES, NULL);
	if (!doc || json_unpack(doc, "{s:i s:I s:o}", "v", &version, "boot", &boot, "nodes", &nodes) < 0 || version != FILE_VERSION ||
	    (uint64_t)boot != d->boot)
		return;
	json_array_foreach(nodes, i, o) {
		json_int_t was, base_s, newest_s, last_s, proven;
		int node, based, silent;
		const char *proof;
		struct vmp_fencing_peer *p;

		if (json_unpack(o, "{s:i s:I s:b s:I s:I s:b s:I s:I s:s}", "node", &node, "boot", &was, "based", &based, "base_s", &base_s,
				"base_newest_s", &newest_s, "silent", &silent, "last_s", &last_s, "proven", &proven, "proof", &proof) < 0 ||
		    node < 1 || node > UINT8_MAX || !(p = get(d, (uint8_t)node)))
			continue;
		p->seen = (struct vmp_sighting){ .boot = (uint64_t)was, .based = based, .base_s = base_s, .base_newest_s = newest_s,
						 .last_s = silent ? last_s : wall_s(0) }; /* heard until who knows when: until now */
		p->proven = (uint64_t)proven;
		snprintf(p->proof, sizeof(p->proof), "%s", proof);
	}
}

/* --- hearing ---------------------------------------------------------------------------------------------------------------- */
void vmp_fencing_heard(struct vmp_daemon *d, uint8_t node, uint64_t boot)
{
	struct vmp_fencing_peer *p = find(d, node);

	if (d->as_witness || node == d->node || (p && p->seen.boot == boot))
		return;
	p = get(d, node);
	if (!p)
		return;
	*p = (struct vmp_fencing_peer){ .node = node, .seen = { .boot = boot, .last_s = wall_s(0) }, .heard_ns = vmp_now_ns(),
					.verdict = VMP_FENCED_NOT_ASKED, .asking = p->asking, .asked_boot = p->asked_boot };
	save(d);
}

static void feed(struct vmp_daemon *d, struct vmp_fencing_peer *p)
{
	struct vmp_event ev = { .type = VMP_EV_FENCED, .node = p->node, .member = p->proven };

	p->fed = true;
	p->proven_ns = vmp_now_ns();
	vmp_exec_feed(d, &ev);
	vmp_group_publish_soon(d);
}

static void ask(struct vmp_daemon *d, struct vmp_fencing_peer *p, uint64_t now)
{
	uint64_t wait_ms = d->pcmk_state == VMP_PCMK_ABSENT ? LOOK_SLOW_MS : BASE_MS;
	int r;

	if (!p->silent && p->seen.based)
		wait_ms = LOOK_HEARD_MS;
	if (p->silent)
		wait_ms = now - p->silent_ns < LOOK_LONG_MS * ms_ns ? LOOK_MS : LOOK_SLOW_MS;
	if (now < d->fencing_urgent_ns)
		wait_ms = LOOK_URGENT_MS;
	p->next_ns = now + wait_ms * ms_ns;
	r = vmp_pcmk_fencing(d->pcmk, vmp_node_name(d, p->node));
	p->asking = r == 0;
	p->asked_boot = p->seen.boot;
	if (r < 0)
		snprintf(p->trouble, sizeof(p->trouble), "%s", strerror(-r));
}

static void look(struct vmp_daemon *d, struct vmp_fencing_peer *p, uint64_t core_ns, uint64_t now)
{
	uint64_t silent_ns = (uint64_t)SILENT_MS * ms_ns, heard_ns = core_ns;
	struct vmp_net_peer_stats st;
	bool silent;

	if (2ull * d->conf.lease_ms * ms_ns > silent_ns)
		silent_ns = 2ull * d->conf.lease_ms * ms_ns;
	if (vmp_net_peer_stats(d->net, p->node, &st) == 0 && st.last_rx_ns > heard_ns)
		heard_ns = st.last_rx_ns;
	if (heard_ns > p->heard_ns) {
		p->heard_ns = heard_ns;
		p->seen.last_s = wall_s(now - heard_ns);
	}
	silent = now - (p->heard_ns ? p->heard_ns : d->started_ns) > silent_ns;
	if (silent != p->silent) {
		p->silent = silent;
		p->silent_ns = p->next_ns = now;
		if (p->proven != p->seen.boot)
			p->verdict = VMP_FENCED_NOT_ASKED;
		save(d);
	}
	if (p->proven && p->proven == p->seen.boot) {
		if (silent && !p->fed)
			feed(d, p);
		if (!silent && !p->lied && p->heard_ns > p->proven_ns) {
			p->lied = true;
			vmp_log(LOG_CRIT, "%s is heard, but %s", vmp_node_name(d, p->node), p->proof);
			vmp_journal_add(d->journal, NULL, 0, "fence-disproved", "%s is heard, but %s", vmp_node_name(d, p->node), p->proof);
		}
		return;
	}
	if (d->pcmk && !p->asking && now >= p->next_ns && p->seen.boot && (silent || !p->lied))
		ask(d, p, now);
}

void vmp_fencing_slow(struct vmp_daemon *d)
{
	uint64_t now = vmp_now_ns();
	struct vmp_node_view nv;

	if (!endless(d, &nv))
		return;
	for (unsigned v = 0; v < nv.config.n; v++) {
		struct vmp_fencing_peer *p = nv.config.voter[v].node == d->node ? NULL : get(d, nv.config.voter[v].node);

		if (p)
			look(d, p, nv.heard_ns[v], now);
	}
	if (nv.parted && nv.parted != d->node) {
		struct vmp_fencing_peer *p = get(d, nv.parted);

		if (p)
			look(d, p, nv.parted_heard_ns, now);
	}
}

void vmp_fencing_urgent(struct vmp_daemon *d, uint64_t until_ns)
{
	struct vmp_node_view nv;

	if (!endless(d, &nv))
		return;
	d->fencing_urgent_ns = until_ns;
	for (unsigned i = 0; i < ARRAY_SIZE(d->fencing); i++)
		d->fencing[i].next_ns = 0;
	vmp_fencing_slow(d);
}

/* --- what the fencer says --------------------------------------------------------------------------------------------------- */
static void proven(struct vmp_daemon *d, struct vmp_fencing_peer *p, const struct vmp_pcmk_fence *f)
{
	char at[24], heard[24];

	if (f->f.by_hand)
		snprintf(p->proof, sizeof(p->proof), "%.32s was declared to be off by an operator (%.32s) at %s, last heard %s",
			 vmp_node_name(d, p->node), f->client, wall_text(f->f.completed_s, at, sizeof(at)),
			 wall_text(p->seen.last_s, heard, sizeof(heard)));
	else
		snprintf(p->proof, sizeof(p->proof), "%.32s was fenced: %s by %.32s for %.32s (device: %.32s) at %s, last heard %s",
			 vmp_node_name(d, p->node), f->action, f->delegate, f->client, *d->cib.power ? d->cib.power : "?",
			 wall_text(f->f.completed_s, at, sizeof(at)), wall_text(p->seen.last_s, heard, sizeof(heard)));
	p->proven = p->seen.boot;
	p->lied = false; /* of an earlier time; silent since */
	save(d);
	vmp_log(LOG_NOTICE, "%s", p->proof);
	vmp_journal_add(d->journal, NULL, 0, "fence-proved", "%s", p->proof);
	for (unsigned i = 0; i < ARRAY_SIZE(d->members); i++) {
		struct vmp_member *m = &d->members[i];
		struct vmp_pair_view v;

		if (m->used && vmp_member_view(m, &v) && (v.primary == p->node || v.sync_node == p->node))
			vmp_journal_add(d->journal, m->name, v.epoch, v.primary == p->node ? "cause" : "fence-proved", "%s", p->proof);
	}
	feed(d, p);
}

void vmp_fencing_history(void *daemon, const char *node, int64_t asked_s, const struct vmp_pcmk_history *history, int rc, const char *reason)
{
	struct vmp_daemon *d = daemon;
	struct vmp_fence list[VMP_PCMK_MAX_FENCES];
	struct vmp_fencing_peer *p = NULL;
	struct vmp_node_view nv;
	struct vmp_bar_view bar;
	unsigned which = 0;

	for (unsigned i = 0; i < d->n_nodes && !p; i++)
		if (!strcmp(d->nodes[i].name, node))
			p = find(d, (uint8_t)d->nodes[i].id);
	if (!p)
		return;
	p->asking = false;
	snprintf(p->trouble, sizeof(p->trouble), "%s", rc < 0 ? reason : "");
	if (rc < 0 || p->asked_boot != p->seen.boot || p->proven == p->seen.boot || !endless(d, &nv))
		return;
	for (unsigned i = 0; i < history->n; i++)
		list[i] = history->list[i].f;
	if (p->silent) {
		bool barred = vmp_core_barred(&d->core, p->node, &bar) && (bar.by == VMP_BAR_BY_AGENT || d->cib.n_cut);

		p->verdict = (uint8_t)vmp_fenced_judge(&p->seen, list, history->n, barred, wall_s(0), &which);
		if (p->verdict == VMP_FENCED_YES) {
			proven(d, p, &history->list[which]);
			return;
		}
	}
	if (!p->silent && !p->lied && vmp_fenced_lied(&p->seen, list, history->n, wall_s(0))) {
		p->lied = true;
		p->verdict = VMP_FENCED_HEARD;
		vmp_log(LOG_CRIT, "%s: %s", node, vmp_fenced_text(p->verdict));
		vmp_journal_add(d->journal, NULL, 0, "fence-disproved", "%s: %s", node, vmp_fenced_text(p->verdict));
	}
	if (!p->seen.based && vmp_fenced_base(&p->seen, list, history->n, asked_s))
		save(d);
}

/* --- what status says --------------------------------------------------------------------------------------------------------- */
const char *vmp_fencing_none(const struct vmp_daemon *d)
{
	if (!d->cib_known)
		return NULL;
	if (!d->cib.stonith_enabled)
		return "stonith-enabled is false";
	if (d->cib.n_power)
		return NULL;
	return d->cib.n_cut ? "fence_vmpair alone cannot end a host" : "there is no fence device";
}

const char *vmp_fencing_why_not(const struct vmp_daemon *d, uint8_t node, char *buf, size_t size)
{
	const struct vmp_fencing_peer *p = find((struct vmp_daemon *)d, node);
	const char *none = vmp_fencing_none(d);
	struct vmp_node_view nv;

	if (!endless(d, &nv) || !p || !p->silent || p->proven == p->seen.boot)
		return NULL;
	snprintf(buf, size, "%.64s is silent and keeps its pairs until Pacemaker has fenced it: %s%s%s%s%s%s", vmp_node_name(d, node),
		 vmp_fenced_text(p->seen.boot ? p->verdict : (unsigned)VMP_FENCED_NO_BOOT), none ? " (" : "", none ? none : "", none ? ")" : "",
		 *p->trouble ? "; its fencer could not be asked: " : "", p->trouble);
	return buf;
}

void vmp_fencing_problems(const struct vmp_daemon *d, const struct vmp_node_view *nv, json_t *problems)
{
	const char *none = vmp_fencing_none(d);
	char buf[400];

	if (nv->waits)
		json_array_append_new(problems, json_sprintf("%s is being removed from the voter set and has not answered: pairs of this node answer nothing "
							     "that it does not have before it does, or is fenced", vmp_node_name(d, nv->parted)));
	if (nv->waits && vmp_fencing_why_not(d, nv->parted, buf, sizeof(buf)))
		json_array_append_new(problems, json_string(buf));
	if (!nv->endless || nv->n < 2 || d->as_witness)
		return;
	if (nv->n == 2 && none)
		json_array_append_new(problems, json_sprintf("two voters and no fencing (%s): after the loss of a node its pairs are not taken over "
							     "(vmpaird(8), TWO HOSTS)", none));
	for (unsigned v = 0; v < nv->config.n; v++) {
		const struct vmp_fencing_peer *p = find((struct vmp_daemon *)d, nv->config.voter[v].node);

		if (!p || p->node == d->node)
			continue;
		if (p->lied && !p->proven)
			json_array_append_new(problems, json_sprintf("%s: %s", vmp_node_name(d, p->node), vmp_fenced_text(VMP_FENCED_HEARD)));
		else if (p->lied)
			json_array_append_new(problems, json_sprintf("%s is heard, but %s: its fence device does not do what it says",
								     vmp_node_name(d, p->node), p->proof));
		else if (p->silent && p->proven && p->proven == p->seen.boot)
			json_array_append_new(problems, json_sprintf("%s; it is left out until it is back", p->proof));
		else if (vmp_fencing_why_not(d, p->node, buf, sizeof(buf)))
			json_array_append_new(problems, json_string(buf));
	}
}
