/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Start, loop and stop of the daemon. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "config.h"
#include "daemon/daemon.h"
#include "daemon/witness.h"
#include "internal/cleanup.h"

static const uint64_t ms_ns = 1000000u;
enum { SLOW_MS = 100, REALTIME_PRIORITY = 50, EXIT_WAIT_MS = 500, SLOW_CALLBACK_MS = 10 };

static const char *conf_name(const struct vmp_daemon *d)
{
	return d->conf_path ? d->conf_path : VMP_CONF_FILE;
}

static void on_cluster_fd(int fd, short revents, void *data)
{
	(void)fd, (void)revents;
	vmp_group_cluster_event(data);
}

static void on_virt_fd(int fd, short revents, void *data)
{
	(void)fd, (void)revents;
	vmp_member_virt_events(data);
}

static void on_gate_fd(int fd, short revents, void *data)
{
	struct vmp_daemon *d = data;

	(void)fd, (void)revents;
	vmp_gate_dispatch(d->gate);
}

static void on_slow(void *data)
{
	struct vmp_daemon *d = data;

	if (d->core_up) {
		vmp_member_slow(d);
		vmp_fencing_slow(d);
	}
	vmp_copies_slow(d);
	sd_notify(0, "WATCHDOG=1");
	vmp_loop_timer(d->loop, &d->slow_timer, vmp_now_ns() + SLOW_MS * ms_ns, on_slow, d);
}

static void after_each(void *data)
{
	vmp_group_own_stale(data);
	vmp_exec_rearm(data);
}

static void on_slow_callback(const char *what, int fd, uint64_t took_ns, void *data)
{
	struct vmp_daemon *d = data;
	unsigned n = vmp_ratelimit_pass(&d->limit_slow, vmp_now_ns(), 1000 * ms_ns);

	if (!n)
		return;
	vmp_log(LOG_WARNING, "the loop was held for %.1f ms by %s %d (%u times in a second)", (double)took_ns / 1e6, what, fd, n);
	vmp_journal_add(d->journal, NULL, 0, "slow", "the loop was held for %.1f ms by %s %d", (double)took_ns / 1e6, what, fd);
}

static void on_journal_event(const struct vmp_journal_event *ev, void *data)
{
	struct vmp_daemon *d = data;
	json_t *o;

	if (!d->ctl)
		return;
	o = json_pack("{s:I s:s s:s s:s s:s s:I}", "ts", (json_int_t)(ev->t_ns / ms_ns), "node", ev->node, "pair", ev->pair, "what",
		      ev->what, "text", ev->text, "epoch", (json_int_t)ev->epoch);
	vmp_ctl_publish(d->ctl, ev->pair[0] ? ev->pair : NULL, o);
	json_decref(o);
}

/* --- Pacemaker -------------------------------------------------------------------------------------------------------- */
static void on_pcmk_state(void *data, enum vmp_pcmk_state state, const char *reason)
{
	struct vmp_daemon *d = data;

	d->pcmk_state = state;
	vmp_log(state == VMP_PCMK_UP ? LOG_NOTICE : LOG_WARNING, "pacemaker %s%s%s", state == VMP_PCMK_UP ? "is there" :
		"does not answer", reason && *reason ? ": " : "", reason ? reason : "");
	if (state == VMP_PCMK_ABSENT)
		vmp_member_pcmk_absent(d);
}

static void on_score_done(void *data, const char *pair, const char *node, bool set, uint32_t score, int rc, uint32_t took_ms)
{
	struct vmp_daemon *d = data;
	struct vmp_member *m = vmp_member_by_name(d, pair);

	if (rc == 0)
		vmp_journal_add(d->journal, pair, 0, "score", set ? "promotion score of %s is %u, written in %u ms" :
				"promotion score of %s removed (%u), in %u ms", node && *node ? node : d->node_name, score, took_ms);
	if (m && (!node || !*node || !strcmp(node, d->node_name)))
		vmp_member_score_done(m, set, rc);
}

static void on_ban_done(void *data, const char *pair, bool on, int rc, const char *reason)
{
	struct vmp_daemon *d = data;
	struct vmp_member *m = vmp_member_by_name(d, pair);
	const char *what = on ? "Pacemaker is to keep the pair off this node" : "Pacemaker may use this node for the pair again";

	vmp_journal_add(d->journal, pair, 0, on ? "kept-off" : "let-back", "%s%s%s", what, rc < 0 ? ", not written: " : "", reason);
	if (rc < 0)
		vmp_log(LOG_WARNING, "%s: %s, not written: %s", pair, what, reason);
	if (m && rc < 0 && !on)
		m->retired_ns = vmp_now_ns();
}

static void on_clean_done(void *data, const char *pair, uint32_t count, int rc, const char *reason)
{
	struct vmp_daemon *d = data;

	vmp_journal_add(d->journal, pair, 0, "cleaned", "failure that is over taken from Pacemaker's history, fail count %u%s%s", count,
			rc < 0 ? ", failed: " : "", reason);
	if (rc < 0)
		vmp_log(LOG_WARNING, "%s: the record of a failure that is over could not be taken from Pacemaker's history: %s", pair, reason);
}

static void on_count_done(void *data, const char *pair, int rc, const char *reason)
{
	struct vmp_daemon *d = data;

	if (rc < 0)
		vmp_log(LOG_WARNING, "%s: Pacemaker's fail count does not have the restart in place: %s", pair, reason);
	vmp_journal_add(d->journal, pair, 0, "counted", "restart in place, as a failure, in Pacemaker's fail count%s%s", rc < 0 ? ", not written: " : "",
			reason);
}

static void on_unpend_done(void *data, const char *pair, int rc, const char *reason)
{
	struct vmp_daemon *d = data;

	if (rc == 0)
		return;
	vmp_log(LOG_WARNING, "%s: the record of a monitor that is over could not be taken from Pacemaker's status: %s", pair, reason);
	vmp_journal_add(d->journal, pair, 0, "cleaned", "record of a monitor that is over, in Pacemaker's status, not removed: %s", reason);
}

static void on_refresh_done(void *data, const char *pair, int rc, const char *reason)
{
	struct vmp_daemon *d = data;

	if (rc == 0)
		vmp_journal_add(d->journal, pair, 0, "cleaned", "Pacemaker has forgotten the member that had retired here");
	else
		vmp_log(LOG_WARNING, "%s: Pacemaker still takes this node for one with a member: %s", pair, reason);
}

static void on_unfencing_done(void *data, int rc, const char *reason)
{
	struct vmp_daemon *d = data;

	vmp_journal_add(d->journal, NULL, 0, "unfencing", "Pacemaker is to unfence this node%s%s", rc < 0 ? ", not written: " : "", reason);
	if (rc < 0)
		vmp_log(LOG_WARNING, "Pacemaker could not be told to unfence this node (%s): restart it, or: vmpair unfence %s", reason, d->node_name);
}

static void on_cib(void *data, const struct vmp_cib *cib)
{
	struct vmp_daemon *d = data;

	vmp_member_cib(d, cib);
	d->cib_known = true;
}

static void on_cib_error(void *data, const char *reason)
{
	(void)data;
	vmp_log(LOG_WARNING, "CIB: %s", reason);
}

/* --- start ---------------------------------------------------------------------------------------------------------------- */
static int make_dir(const char *path, mode_t mode)
{
	char buf[VMP_CONF_STR];
	size_t n = (size_t)snprintf(buf, sizeof(buf), "%s", path);

	for (size_t i = 1; i <= n; i++) {
		if (buf[i] != '/' && buf[i] != '\0')
			continue;
		char c = buf[i];
		buf[i] = '\0';
		if (mkdir(buf, i == n ? mode : 0755) < 0 && errno != EEXIST)
			return -errno;
		buf[i] = c;
	}
	return 0;
}

static void realtime(const struct vmp_daemon *d, int flags)
{
	struct sched_param sp = { .sched_priority = REALTIME_PRIORITY };

	if (!d->conf.realtime)
		return;
	/* Without MCL_ONFAULT the untouched stacks of all threads would count as resident. */
	if (mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) < 0)
		vmp_log(LOG_WARNING, "memory cannot be locked (%s): under memory pressure failovers may be late", strerror(errno));
	if (sched_setscheduler(0, SCHED_RR | flags, &sp) < 0)
		vmp_log(LOG_WARNING, "no real-time priority (%s): under load leases may lapse", strerror(errno));
}

/*
 * Gates of pairs that are not on this node any more; those of known pairs stay even where they could not be taken over. One that cannot
 * be closed would be called closed (there is no member to ask): false, and the daemon does not begin.
 */
static bool forget_gates(struct vmp_daemon *d)
{
	const char *found;
	char name[64];
	int r;

	for (unsigned i = 0; (found = vmp_gate_leftover(d->gate, i));) {
		snprintf(name, sizeof(name), "%s", found);
		if (vmp_member_by_name(d, name)) {
			i++;
			continue;
		}
		r = vmp_gate_forget(d->gate, vmp_pair_id(name), name);
		if (r < 0) {
			vmp_log(LOG_ERR, "%s: not on this node any more, and its gate cannot be closed: %s; start vmpaird again, or reboot",
				name, strerror(-r));
			return false;
		}
	}
	return true;
}

void vmp_run_identified(struct vmp_daemon *d)
{
	struct vmp_loop_ops ops = vmp_loop_ops(d->loop);
	struct vmp_pcmk_params pp = { .ops = &ops, .node = d->node_name, .data = d, .state = on_pcmk_state, .score_done = on_score_done,
				      .ban_done = on_ban_done, .clean_done = on_clean_done, .count_done = on_count_done,
				      .unpend_done = on_unpend_done, .refresh_done = on_refresh_done, .unfencing_done = on_unfencing_done,
				      .fencing = vmp_fencing_history, .cib = on_cib, .cib_error = on_cib_error };
	char reason[200] = "";
	bool first = !d->core_up;
	int r;

	vmp_journal_set_node(d->journal, d->node_name);
	if (first)
		vmp_journal_add(d->journal, NULL, 0, "daemon", "vmpaird " PACKAGE_VERSION " starts%s", d->as_witness ? " as witness" : "");
	if (first && !d->as_witness) {
		vmp_member_adopt_all(d);
		if (!forget_gates(d)) {
			vmp_loop_stop(d->loop);
			return;
		}
		vmp_sync_end_others(d);
	}
	r = vmp_exec_start(d);
	if (r < 0) {
		vmp_log(LOG_ERR, "cannot take part in the cluster: %s", strerror(-r));
		vmp_loop_stop(d->loop);
		return;
	}
	if (first && !d->as_witness)
		vmp_fencing_load(d);
	if (first) {
		r = d->as_witness ? 0 : vmp_pcmk_new(&d->pcmk, &pp, reason, sizeof(reason));
		if (r < 0)
			vmp_log(LOG_ERR, "pacemaker: %s", reason);
	}
	vmp_run_status(d);
}

void vmp_run_status(const struct vmp_daemon *d)
{
	sd_notifyf(0, "STATUS=%s", !d->core_up ? "waiting for corosync" :
		   !d->corosync_up && !d->as_witness ? "corosync does not answer; leases go on" :
		   !d->complete_stored ? "waiting for the other voters" : "taking part");
}

static void on_exit_timer(void *data)
{
	struct vmp_daemon *d = data;

	vmp_log(LOG_WARNING, "not all holds were confirmed: entries may close when their leases end");
	vmp_loop_stop(d->loop);
}

/* Planned end: hold what we hold (H8), so that a restart has time, then go. VMs and gates stay as they are. */
static void begin_exit(struct vmp_daemon *d)
{
	if (d->exiting) {
		vmp_loop_stop(d->loop);
		return;
	}
	d->exiting = true;
	sd_notify(0, "STOPPING=1");
	vmp_log(LOG_NOTICE, "ending; VMs go on");
	for (unsigned i = 0; d->core_up && i < ARRAY_SIZE(d->members); i++)
		if (d->members[i].used && vmp_member_primary(&d->members[i]))
			d->exit_holds++;
	if (!d->exit_holds) {
		vmp_loop_stop(d->loop);
		return;
	}
	vmp_loop_timer(d->loop, &d->exit_timer, vmp_now_ns() + EXIT_WAIT_MS * ms_ns, on_exit_timer, d);
	for (unsigned i = 0; i < ARRAY_SIZE(d->members); i++)
		if (d->members[i].used && vmp_member_primary(&d->members[i])) {
			struct vmp_event ev = { .type = VMP_EV_HOLD, .pair = d->members[i].id, .ms = d->conf.hold_max_ms };

			vmp_exec_op(d, VMP_OP_EXIT_HOLD, 0, &ev);
		}
}

static void reload(struct vmp_daemon *d)
{
	struct vmp_conf fresh;
	struct vmp_keys keys;
	struct vmp_diag diag;
	char names[256];

	vmp_diag_init(&diag);
	if (vmp_conf_load(d->conf_path, &fresh, &diag) < 0 || (d->as_witness && vmp_conf_check_witness(conf_name(d), &fresh, &diag) < 0) ||
	    vmp_keys_load(fresh.key_file, &keys, &diag) < 0) {
		vmp_log(LOG_ERR, "reload refused, everything stays as it was: %s", diag.text);
		return;
	}
	if (vmp_conf_reload(&d->conf, &fresh, names, sizeof(names)))
		vmp_log(LOG_WARNING, "these settings need a restart: %s", names);
	vmp_log_set_level((int)d->conf.log_level);
	vmp_ctl_set_client_timeout(d->ctl, d->conf.control_timeout_ms);
	vmp_keys_wipe(&d->keys);
	d->keys = keys;
	vmp_keys_wipe(&keys);
	if (d->net)
		vmp_net_set_keys(d->net, &d->keys);
	vmp_sync_rekey(d);
	vmp_witness_reload(d);
	vmp_log(LOG_NOTICE, "configuration and keys read again");
}

static void on_signal(int signo, void *data)
{
	struct vmp_daemon *d = data;

	if (signo == SIGTERM || signo == SIGINT)
		begin_exit(d);
	else if (signo == SIGHUP)
		reload(d);
}

static int setup_control(struct vmp_daemon *d, char *reason, size_t size)
{
	static char socket_path[VMP_CONF_STR + 16];
	struct vmp_loop_ops ops = vmp_loop_ops(d->loop);
	struct vmp_ctl_params cp = { .ops = &ops, .path = socket_path, .allow_uid = 0, .client_timeout_ms = d->conf.control_timeout_ms,
				     .data = d, .request = vmp_request_handle, .cancelled = vmp_request_cancelled };
	int r;

	snprintf(socket_path, sizeof(socket_path), "%s/vmpaird.sock", d->conf.runtime_dir);
	r = vmp_ctl_new(&d->ctl, &cp, reason, size);
	return r < 0 ? r : vmp_loop_set_signals(d->loop, on_signal, d);
}

static int setup(struct vmp_daemon *d, char *reason, size_t size)
{
	struct vmp_gate_conf gc = { .event = vmp_exec_gate_event, .user = d };
	struct vmp_virt_opts vo = { .uri = d->conf.libvirt_uri };
	const char *const dirs[] = { d->conf.runtime_dir, d->conf.state_dir, d->conf.log_dir };
	static char socket_path[VMP_CONF_STR + 16];
	char path[VMP_CONF_STR + 16];
	struct utsname uts;
	int r;

	vmp_domxml_init();
	for (unsigned i = 0; i < ARRAY_SIZE(dirs); i++) {
		r = make_dir(dirs[i], dirs[i] == d->conf.log_dir ? 0700 : 0711); /* qemu, relays and readers of role pages go through */
		if (r < 0) {
			snprintf(reason, size, "%s cannot be made: %s", dirs[i], strerror(-r));
			return r;
		}
	}
	uname(&uts);
	r = vmp_journal_new(&d->journal, d->conf.log_dir, uts.nodename, reason, size);
	if (r < 0)
		return r;
	if (reason[0])
		vmp_log(LOG_WARNING, "%s", reason);
	reason[0] = '\0';
	vmp_journal_set_listener(d->journal, on_journal_event, d);
	snprintf(path, sizeof(path), "%s/binding.log", d->conf.log_dir);
	if (d->conf.binding_log) {
		d->binding_fd = vmp_log_file_open(path);
		if (d->binding_fd < 0)
			vmp_log(LOG_WARNING, "%s: %s", path, strerror(-d->binding_fd));
	}
	r = vmp_loop_new(&d->loop);
	if (r < 0)
		return r;
	vmp_loop_set_after(d->loop, after_each, d);
	vmp_loop_set_slow(d->loop, SLOW_CALLBACK_MS * ms_ns, on_slow_callback, d);
	/* These have threads that must not be real-time ones, so they come first. */
	r = d->as_witness ? 0 : vmp_virt_new(&d->virt, &vo, reason, size);
	if (r < 0)
		return r;
	r = vmp_group_new(d);
	if (r < 0)
		return r;
	realtime(d, d->as_witness ? SCHED_RESET_ON_FORK : 0);
	if (d->as_witness)
		return setup_control(d, reason, size);
	r = vmp_gate_new(&d->gate, &gc, reason, size); /* its worker is on the failover path and inherits the priority */
	if (r < 0)
		return r;
	realtime(d, SCHED_RESET_ON_FORK); /* later threads and helpers are ordinary ones */
	snprintf(socket_path, sizeof(socket_path), "%s/vrrp", d->conf.runtime_dir);
	if (vmp_vrrp_new(&d->vrrp, d->loop, socket_path, VMP_LIBEXECDIR "/vmpair-vrrp-guard", vmp_member_vrrp, d, reason, size) < 0)
		vmp_log(LOG_WARNING, "entry mode keepalived is not possible: %s", reason);
	for (unsigned i = 0; vmp_gate_leftover(d->gate, i); i++)
		vmp_log(LOG_INFO, "gate of %s found", vmp_gate_leftover(d->gate, i));
	r = setup_control(d, reason, size);
	if (r < 0)
		return r;
	r = vmp_cluster_new(&d->cluster);
	if (r < 0)
		return r;
	r = vmp_loop_add_fd(d->loop, VMP_PRIO_MED, vmp_cluster_fd(d->cluster), POLLIN, on_cluster_fd, d);
	if (r == 0)
		r = vmp_loop_add_fd(d->loop, VMP_PRIO_HIGH, vmp_virt_fd(d->virt), POLLIN, on_virt_fd, d);
	if (r == 0)
		r = vmp_loop_add_fd(d->loop, VMP_PRIO_HIGH, vmp_gate_fd(d->gate), POLLIN, on_gate_fd, d);
	return r;
}

int vmp_run(const struct vmp_run_opts *opts)
{
	struct vmp_daemon *d = calloc(1, sizeof(*d));
	char reason[512] = "";
	struct vmp_diag diag;
	int r, status = 1;

	if (!d)
		return 1;
	vmp_diag_init(&diag);
	d->conf_path = opts->conf_path;
	r = vmp_conf_load(d->conf_path, &d->conf, &diag);
	if (r == 0 && opts->witness)
		r = vmp_conf_check_witness(conf_name(d), &d->conf, &diag);
	if (r == 0)
		r = vmp_keys_load(d->conf.key_file, &d->keys, &diag);
	if (r < 0) {
		fputs(diag.text, stderr);
		free(d);
		return 1;
	}
	d->queue = calloc(VMP_EVENT_QUEUE, sizeof(*d->queue));
	if (!d->queue)
		return 1;
	d->binding_fd = -1;
	d->started_ns = vmp_now_ns();
	d->as_witness = opts->witness;
	vmp_loop_block_signals();
	r = vmp_log_open(STDERR_FILENO, !opts->foreground && getenv("JOURNAL_STREAM") ? VMP_LOG_JOURNAL : VMP_LOG_PLAIN,
			 (int)d->conf.log_level);
	if (r == 0)
		r = setup(d, reason, sizeof(reason));
	if (r == 0 && d->as_witness)
		r = vmp_witness_start(d);
	if (r == 0) {
		if (!d->as_witness)
			vmp_log(LOG_NOTICE, "vmpaird " PACKAGE_VERSION " waits for corosync");
		/*
		 * Not only when corosync answers: whoever starts after us (Pacemaker) would wait as long, and be blocked by a
		 * start that timed out. Agents that ask before that are told to ask again.
		 */
		sd_notify(0, "READY=1");
		vmp_run_status(d);
		vmp_loop_timer(d->loop, &d->slow_timer, vmp_now_ns(), on_slow, d);
		vmp_loop_run(d->loop);
		status = d->exiting ? 0 : 1;
	} else {
		vmp_log(LOG_ERR, "cannot start: %s", reason[0] ? reason : strerror(-r));
	}
	d->ctl = vmp_ctl_free(d->ctl);
	vmp_pcmk_free(d->pcmk);
	vmp_net_free(d->net);
	vmp_store_free(d->store);
	vmp_gate_free(d->gate);
	vmp_virt_free(d->virt);
	vmp_cluster_free(d->cluster);
	for (unsigned i = 0; i < ARRAY_SIZE(d->members); i++)
		if (d->members[i].used)
			vmp_member_forget(&d->members[i]);
	vmp_vrrp_free(d->vrrp);
	vmp_hostwatch_free(d->host);
	vmp_relays_free(d->relays);
	vmp_group_free(d);
	vmp_journal_free(d->journal);
	vmp_loop_free(d->loop);
	if (d->binding_fd >= 0)
		close(d->binding_fd);
	vmp_keys_wipe(&d->keys);
	free(d->queue);
	free(d);
	vmp_log_close();
	return status;
}
