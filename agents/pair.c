/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ocf:vmpair:pair, a promotable clone: asks vmpaird, which does the work. When the daemon does not answer, the local facts decide (facts.h):
 * its silence says nothing about the VM, so monitor never says 7 for it, stop ends the VM by itself, and demote needs nothing, since a
 * daemon that does not run cannot renew the lease and the kernel closes the entry.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "agents/ocf.h"
#include "daemon/ctl.h"
#include "daemon/ctlclient.h"
#include "daemon/facts.h"
#include "daemon/gate_int.h"
#include "daemon/proc.h"
#include "internal/cleanup.h"

/* Tests lead the agent to a daemon and to facts of their own. Pacemaker sets neither. */
#define ENV_SOCKET "VMPAIR_SOCKET"
#define ENV_FACTS "VMPAIR_FACTS_DIR"

static const char *pair_name(const struct ocf_env *env)
{
	const char *name = json_string_value(json_object_get(env->params, "pair"));
	return name && vmp_pair_name_valid(name) ? name : NULL;
}

/*
 * A resource taken out of the CIB while it runs is an orphan to Pacemaker, which demotes it without any parameter: its pair is then the one
 * whose facts name the resource.
 */
static int of_resource(const struct vmp_facts *f, void *data)
{
	struct ocf_env *env = data;
	if (strcmp(f->rsc, env->instance))
		return 0;
	json_object_set_new(env->params, "pair", json_string(f->pair));
	return 1;
}

static const char *pair_or_orphan(struct ocf_env *env)
{
	if (!json_object_get(env->params, "pair"))
		vmp_facts_each(getenv(ENV_FACTS), of_resource, env);
	return pair_name(env);
}

static uint32_t min_u32(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

static void rest(void)
{
	struct timespec ts = {.tv_nsec = 100 * 1000000};
	nanosleep(&ts, NULL);
}

/*
 * Asks the daemon. 0 and the reply, or -errno when there was no answer: connecting and the ack take at most a quarter of the operation's
 * time. A daemon that goes away in the middle (it may be restarting), or that says it is not ready yet, is asked again as long as there is
 * time: all requests can be repeated.
 */
static int ask_within(struct ocf_env *env, const char *cmd, uint32_t ack_ms, uint32_t limit_ms, json_t **ret)
{
	static const char *const roles[] = {[VMP_TOLD_PROMOTED] = "Promoted", [VMP_TOLD_UNPROMOTED] = "Unpromoted"};
	const char *role = env->op_role == VMP_TOLD_UNKNOWN || env->op_role == VMP_TOLD_STOPPED ? "" : roles[env->op_role];
	uint32_t connect_ms = min_u32(env->timeout_ms / 4, ack_ms);
	int rc;
	for (;;) {
		struct vmp_ctlc *c;
		uint32_t left = min_u32(ocf_left_ms(env), limit_ms);
		bool acked = false;
		if (!left)
			return -ETIMEDOUT;
		rc = vmp_ctlc_open_wait(&c, getenv(ENV_SOCKET), (int)min_u32(connect_ms, left));
		if (rc < 0)
			return rc;
		left = min_u32(ocf_left_ms(env), limit_ms);
		json_t *req = json_pack("{s:i s:s s:O* s:s s:s s:s s:i s:I s:I s:O}", "v", VMP_CTL_VERSION, "cmd", cmd,
			"pair", json_object_get(env->params, "pair"), "rsc", env->instance, "node", env->node, "role", role,
			"check_level", env->check_level, "interval_ms", (json_int_t)env->interval_ms,
			/* a little less than we wait, so that the daemon's own word on the time is heard */
			"timeout_ms", (json_int_t)(left - left / 20 + !left), "params", env->params);
		rc = req ? vmp_ctlc_call(c, req, (int)min_u32(connect_ms, left), (int)left, ret, &acked) : -ENOMEM;
		json_decref(req);
		vmp_ctlc_free(c);
		if (rc == 0 && json_is_true(json_object_get(*ret, "retry"))) {
			json_decref(*ret);
			*ret = NULL;
			rest();
		} else if (rc != -ECONNRESET) {
			return rc;
		}
	}
}

static int ask(struct ocf_env *env, const char *cmd, uint32_t limit_ms, json_t **ret)
{
	return ask_within(env, cmd, 30000, limit_ms, ret);
}

/* OCF code of a reply; what the daemon says becomes the exit reason. */
static int reply_code(const struct ocf_env *env, json_t *reply, bool quiet)
{
	json_t *ocf = json_object_get(reply, "ocf");
	const char *reason = json_string_value(json_object_get(reply, "reason"));
	int code = json_is_integer(ocf) ? (int)json_integer_value(ocf) : VMP_OCF_ERR_GENERIC;
	if (reason && *reason && !quiet)
		ocf_exit_reason(env, "%s", reason);
	return code;
}

static const char *silence(int rc)
{
	switch (rc) {
	case -ENOENT:
	case -ECONNREFUSED: return "vmpaird does not run";
	case -EACCES:
	case -EPERM: return "not root";
	case -ETIMEDOUT: return "vmpaird does not answer in time";
	}
	return strerror(-rc);
}

/* --- local facts, when the daemon is silent --- */

/* qemu's command line carries "-name" "guest=NAME,..."; true when this one is the pair's. */
static bool is_our_qemu(const char *pid, const char *pair)
{
	char path[64], buf[4096], want[80];
	snprintf(path, sizeof(path), "/proc/%.20s/cmdline", pid);
	CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, buf, sizeof(buf) - 1);
	if (n <= 0)
		return false;
	buf[n] = '\0';
	int len = snprintf(want, sizeof(want), "guest=%s", pair);
	for (const char *arg = buf; arg < buf + n; arg += strlen(arg) + 1) {
		const char *value = arg + strlen(arg) + 1;
		if (!strcmp(arg, "-name") && value < buf + n && !strncmp(value, want, (size_t)len) && (value[len] == ',' || !value[len]))
			return true;
	}
	return false;
}

/* No facts of this boot: a VM that runs all the same is found by its name. */
static pid_t find_qemu(const char *pair)
{
	DIR *d = opendir("/proc");
	const struct dirent *e;
	pid_t pid = 0;
	if (!d)
		return 0;
	while (!pid && (e = readdir(d)))
		if (isdigit((unsigned char)e->d_name[0]) && is_our_qemu(e->d_name, pair))
			pid = (pid_t)atoi(e->d_name);
	closedir(d);
	return pid;
}

struct local {
	bool running;
	pid_t pid;
	uint64_t start_time;
	enum vmp_told told;
};

/* What is known here without the daemon. False: unknown (facts damaged or unreadable and no VM found). */
static bool local_facts(const char *pair, struct local *ret)
{
	struct vmp_facts f;
	int rc = vmp_facts_read(getenv(ENV_FACTS), pair, &f);
	*ret = (struct local){.told = VMP_TOLD_UNKNOWN};
	if (rc == 0) {
		int running = vmp_facts_vm_running(&f);
		ret->told = f.told;
		if (running > 0) {
			ret->running = true;
			ret->pid = f.pid;
			ret->start_time = f.start_time;
		}
		vmp_facts_done(&f);
		if (running < 0)
			return false;
	}
	if (!ret->running) {
		/* also after facts of a VM that is gone: another one may have been started since they were written */
		pid_t pid = find_qemu(pair);
		if (pid > 0 && vmp_proc_start_time(pid, &ret->start_time) == 0) {
			ret->running = true;
			ret->pid = pid;
		}
	}
	return ret->running || rc == 0 || rc == -ENOENT || rc == -ESTALE;
}

/* The daemon says that there is no VM, while the process that it wrote down lives: it has not taken its pairs over yet. */
static bool facts_contradict(const char *pair)
{
	struct vmp_facts f;
	if (vmp_facts_read(getenv(ENV_FACTS), pair, &f) < 0)
		return false;
	bool running = vmp_facts_vm_running(&f) > 0;
	vmp_facts_done(&f);
	return running;
}

/* Ends the VM without the daemon: qemu ends in order on SIGTERM; what does not is killed. True: it is gone. */
static bool local_kill(const struct ocf_env *env, const struct local *l)
{
	uint64_t start = l->start_time;
	CLEANUP_CLOSE int pidfd = -1;
	int rc = vmp_proc_open(l->pid, &start, &pidfd);
	if (rc < 0)
		return rc == -ESRCH;
	if (vmp_proc_kill(pidfd, SIGTERM) == -ESRCH || vmp_proc_wait(pidfd, (int)min_u32(ocf_left_ms(env) / 2, 10000)) == 0)
		return true;
	return vmp_proc_kill(pidfd, SIGKILL) == -ESRCH || vmp_proc_wait(pidfd, (int)ocf_left_ms(env)) == 0;
}

/* --- actions --- */

struct first_fault {
	const struct ocf_env *env;
	char text[256];
};

static void on_fault(void *data, const char *param, const char *message)
{
	struct first_fault *f = data;
	ocf_log(f->env, LOG_ERR, "parameter %s: %s", param, message);
	if (!f->text[0])
		snprintf(f->text, sizeof(f->text), "parameter %s: %s", param, message);
}

static int check_params(const struct ocf_env *env)
{
	struct first_fault f = {.env = env};
	struct vmp_pair_params p;
	if (vmp_pair_params_parse(env->params, &p, on_fault, &f) < 0) {
		ocf_exit_reason(env, "%s", f.text);
		return VMP_OCF_ERR_CONFIGURED;
	}
	if (access(p.domain, R_OK) < 0) {
		ocf_exit_reason(env, "domain XML %s: %s", p.domain, strerror(errno));
		return VMP_OCF_ERR_INSTALLED;
	}
	return VMP_OCF_OK;
}

static int act_validate(struct ocf_env *env)
{
	json_t *reply;
	int code = check_params(env);
	if (code != VMP_OCF_OK)
		return code;
	/* The daemon can tell more (bridges, second pair with this entry); without it the parameters alone are judged. */
	if (access(getenv(ENV_SOCKET) ? getenv(ENV_SOCKET) : VMP_CTL_SOCKET, F_OK) < 0 || ask(env, "validate", env->timeout_ms / 4, &reply) < 0)
		return VMP_OCF_OK;
	code = reply_code(env, reply, false);
	json_decref(reply);
	return code;
}

static int act_start(struct ocf_env *env)
{
	json_t *reply;
	int code = check_params(env);
	if (code != VMP_OCF_OK)
		return code;
	int rc = ask(env, "start", UINT32_MAX, &reply);
	if (rc < 0) {
		ocf_exit_reason(env, "%s; start vmpaird.service on this node", silence(rc));
		return VMP_OCF_ERR_GENERIC;
	}
	code = reply_code(env, reply, false);
	json_decref(reply);
	return code;
}

static int act_stop(struct ocf_env *env)
{
	const char *pair = pair_or_orphan(env);
	json_t *reply;
	struct local l;
	int code = VMP_OCF_ERR_GENERIC;
	if (!pair) {
		ocf_log(env, LOG_WARNING, "stop: the parameter pair is missing or wrong, so nothing was ever started");
		return VMP_OCF_OK;
	}
	/* Keeps a quarter of the time for ending the VM ourselves. */
	int rc = ask(env, "stop", env->timeout_ms / 4 * 3, &reply);
	if (rc == 0) {
		code = reply_code(env, reply, true);
		if (code != VMP_OCF_OK)
			ocf_log(env, LOG_WARNING, "stop: vmpaird could not: %s", json_string_value(json_object_get(reply, "reason")));
		json_decref(reply);
		if (code == VMP_OCF_OK && !facts_contradict(pair))
			return code;
	} else {
		ocf_log(env, LOG_WARNING, "stop: %s", silence(rc));
	}
	if (!local_facts(pair, &l)) {
		ocf_exit_reason(env, "vmpaird gives no answer, and the state of the virtual machine cannot be found out");
		return VMP_OCF_ERR_GENERIC;
	}
	if (!l.running)
		return VMP_OCF_OK;
	ocf_log(env, LOG_WARNING, "stop: ending qemu (process %d) without vmpaird", (int)l.pid);
	if (local_kill(env, &l))
		return VMP_OCF_OK;
	ocf_exit_reason(env, "qemu (process %d) does not end", (int)l.pid);
	return VMP_OCF_ERR_GENERIC;
}

static int local_monitor(const struct ocf_env *env, const char *pair, const char *why)
{
	struct local l;
	bool known = local_facts(pair, &l);
	if (!known) {
		ocf_exit_reason(env, "%s, and the state of the virtual machine cannot be found out", why);
		return VMP_OCF_ERR_GENERIC;
	}
	if (l.running) {
		enum vmp_told told = env->op_role != VMP_TOLD_UNKNOWN ? env->op_role : l.told;
		ocf_log(env, LOG_WARNING, "monitor: %s; the virtual machine runs (process %d)", why, (int)l.pid);
		return told == VMP_TOLD_PROMOTED ? VMP_OCF_RUNNING_PROMOTED : VMP_OCF_OK;
	}
	/* A probe may say what was found: no facts of a running VM, no process. To a recurring monitor it is a failure, not a clean stop. */
	if (env->interval_ms == 0 && env->op_role == VMP_TOLD_UNKNOWN) {
		ocf_log(env, LOG_WARNING, "monitor: %s; no virtual machine of this pair runs here", why);
		return VMP_OCF_NOT_RUNNING;
	}
	ocf_exit_reason(env, "%s, and the virtual machine is gone", why);
	return VMP_OCF_ERR_GENERIC;
}

static int act_monitor(struct ocf_env *env)
{
	const char *pair = pair_or_orphan(env);
	json_t *reply;
	if (!pair) {
		ocf_exit_reason(env, "the parameter pair is missing or not a valid name");
		return env->interval_ms ? VMP_OCF_ERR_CONFIGURED : VMP_OCF_NOT_RUNNING;
	}
	/* Half the time at most, so that the facts can still be told when the daemon hangs; Pacemaker waits for this before it promotes. */
	int rc = ask_within(env, "monitor", 2000, env->timeout_ms / 2, &reply);
	if (rc < 0)
		return local_monitor(env, pair, silence(rc));
	int code;
	if (json_integer_value(json_object_get(reply, "rc")) == VMP_CTL_TIMEOUT)
		code = local_monitor(env, pair, "vmpaird does not answer in time");
	else
		code = reply_code(env, reply, env->interval_ms == 0);
	if (code == VMP_OCF_NOT_RUNNING && facts_contradict(pair))
		code = local_monitor(env, pair, "vmpaird does not know of the virtual machine");
	json_decref(reply);
	return code;
}

static int act_promote(struct ocf_env *env)
{
	json_t *reply;
	int rc = ask(env, "promote", UINT32_MAX, &reply);
	if (rc < 0) {
		ocf_exit_reason(env, "%s, so the pair cannot be taken over", silence(rc));
		return VMP_OCF_ERR_GENERIC;
	}
	int code = reply_code(env, reply, false);
	json_decref(reply);
	return code;
}

/* The kernel's own word: no port of the pair's, or its expiry is past. */
static bool entry_shut(const char *pair)
{
	CLEANUP_CLOSE int map = vmp_gate_pin_get(VMP_GATE_BPFFS, pair, "map");
	struct timespec now;
	uint64_t expiry_ns;
	if (map == -ENOENT)
		return true;
	if (map < 0 || vmp_tcbpf_map_get(map, &expiry_ns) < 0)
		return false;
	clock_gettime(CLOCK_BOOTTIME, &now);
	return expiry_ns <= (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

static int act_demote(struct ocf_env *env)
{
	json_t *reply;
	if (!pair_or_orphan(env)) {
		ocf_log(env, LOG_WARNING, "demote: no pair is named and none of this resource is known here, so there is nothing to demote");
		return VMP_OCF_OK;
	}
	/* Pacemaker promotes the new primary after this only: a silent daemon is waited for no longer than its entry is open, or as the
	 * longest hold unless configured otherwise. */
	int rc;
	for (unsigned tries = 0; (rc = ask_within(env, "demote", 1000, UINT32_MAX, &reply)) < 0; tries++) {
		if (tries == 5 || !ocf_left_ms(env) || entry_shut(pair_name(env))) {
			ocf_log(env, LOG_WARNING, "demote: %s; nobody renews the lease, so the kernel closes the entry", silence(rc));
			return VMP_OCF_OK;
		}
	}
	int code = reply_code(env, reply, false);
	json_decref(reply);
	return code;
}

static int act_reload(struct ocf_env *env)
{
	json_t *reply;
	int code = check_params(env);
	if (code != VMP_OCF_OK)
		return code;
	int rc = ask(env, "reload", UINT32_MAX, &reply);
	if (rc < 0) {
		ocf_exit_reason(env, "%s, so the new parameters are not in force", silence(rc));
		return VMP_OCF_ERR_GENERIC;
	}
	code = reply_code(env, reply, false);
	json_decref(reply);
	return code;
}

static const struct ocf_action actions[] = {
	{"start", act_start, "120s", NULL, NULL, false},
	{"stop", act_stop, "90s", NULL, NULL, false},
	{"monitor", act_monitor, "20s", "10s", "Promoted", false},
	{"monitor", act_monitor, "20s", "11s", "Unpromoted", false},
	{"promote", act_promote, "30s", NULL, NULL, false},
	{"demote", act_demote, "30s", NULL, NULL, false},
	{"reload-agent", act_reload, "20s", NULL, NULL, false},
	{"validate-all", act_validate, "20s", NULL, NULL, false},
	{"meta-data", NULL, "5s", NULL, NULL, false},
	{0},
};

static const struct ocf_agent agent = {
	.name = "pair",
	.version = PACKAGE_VERSION,
	.shortdesc = "Pair of virtual machines behind one entry address",
	.longdesc = "Runs one service on two identical virtual machines on two hosts. The primary holds the entry address, the only one that "
		    "clients know; when it is lost, the standby takes the address over in tens of milliseconds, and Pacemaker follows. To be "
		    "used as a promotable clone with promoted-max=1, clone-max=2, clone-node-max=1 and notify=false. vmpaird must run on every "
		    "node, started before Pacemaker.",
	.params = vmp_pair_param_table,
	.actions = actions,
};

int main(int argc, char **argv)
{
	return ocf_main(&agent, argc, argv);
}
