/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/relay.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <poll.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/log.h"
#include "daemon/proc.h"
#include "internal/cleanup.h"

static const uint64_t ms_ns = 1000000u;
enum { CONNECT_FAST_MS = 2, CONNECT_SLOW_MS = 50, FAST_TRIES = 50, MAX_FILES = 131072, BAD_LINE_S = 60, EOF_MS = 100 };

struct vmp_relays {
	struct vmp_loop *loop;
	char *program, *dir;
	uid_t uid;
	gid_t gid;
	bool drop; /* root: change to uid and gid */
	struct vmp_relay *all;
};

struct vmp_relay {
	struct vmp_relay *next;
	struct vmp_relays *rs;
	char pair[64];
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
	vmp_relay_event_fn fn; /* NULL: being stopped, or told LOST already */
	void *data;
	bool guest, connected, greeted, stopping, lost;
	uint32_t instance;
	uint64_t number; /* of the hello */
	int pidfd, err_fd, fd;
	pid_t pid;
	uint64_t start_time, deadline_ns;
	unsigned tries;
	struct vmp_timer timer; /* connecting; being stopped; telling LOST */
	char lost_why[200];
	char *out;
	size_t out_len, out_size;
	short watched;
	char in[VMP_RELAY_LINE];
	size_t in_len;
	struct vmp_ratelimit bad;
};

static void on_fd(int fd, short revents, void *data);
static void on_pidfd(int fd, short revents, void *data);

/* --- making and freeing -------------------------------------------------------------------------------------------------- */
static struct vmp_relays *relays_free(struct vmp_relays *rs)
{
	if (rs) {
		free(rs->program);
		free(rs->dir);
		free(rs);
	}
	return NULL;
}

/* The directory belongs to the relays' user, as they make their sockets in it; nobody else looks into it. */
static int make_dir(const struct vmp_relays *rs)
{
	if (mkdir(rs->dir, 0700) < 0 && errno != EEXIST)
		return -errno;
	return rs->drop && chown(rs->dir, rs->uid, rs->gid) < 0 ? -errno : 0;
}

int vmp_relays_new(struct vmp_relays **ret, const struct vmp_relays_conf *conf, char *reason, size_t size)
{
	struct vmp_relays *rs = calloc(1, sizeof(*rs));
	int rc;

	if (!rs)
		return -ENOMEM;
	rs->loop = conf->loop;
	rs->program = strdup(conf->program);
	rs->dir = strdup(conf->dir);
	rs->uid = geteuid();
	rs->gid = getegid();
	if (!rs->program || !rs->dir) {
		relays_free(rs);
		return -ENOMEM;
	}
	if (rs->uid == 0) {
		const struct passwd *pw = getpwnam(conf->user);

		if (!pw) {
			snprintf(reason, size, "user %s (relay_user) does not exist", conf->user);
			relays_free(rs);
			return -ENOENT;
		}
		rs->uid = pw->pw_uid;
		rs->gid = pw->pw_gid;
		rs->drop = true;
	}
	rc = make_dir(rs);
	if (rc < 0) {
		snprintf(reason, size, "%s: %s", rs->dir, strerror(-rc));
		relays_free(rs);
		return rc;
	}
	*ret = rs;
	return 0;
}

uid_t vmp_relays_uid(const struct vmp_relays *rs)
{
	return rs->uid;
}

gid_t vmp_relays_gid(const struct vmp_relays *rs)
{
	return rs->gid;
}

const char *vmp_relays_dir(const struct vmp_relays *rs)
{
	return rs->dir;
}

static void close_fd(struct vmp_relay *r, int *fd)
{
	if (*fd < 0)
		return;
	vmp_loop_del_fd(r->rs->loop, *fd);
	close(*fd);
	*fd = -1;
}

static void relay_free(struct vmp_relay *r)
{
	struct vmp_relay **at = &r->rs->all;

	while (*at && *at != r)
		at = &(*at)->next;
	if (*at)
		*at = r->next;
	vmp_loop_timer_del(r->rs->loop, &r->timer);
	close_fd(r, &r->fd);
	close_fd(r, &r->pidfd);
	if (r->err_fd >= 0)
		close(r->err_fd);
	free(r->out);
	free(r);
}

void vmp_relays_free(struct vmp_relays *rs)
{
	if (!rs)
		return;
	while (rs->all)
		relay_free(rs->all);
	relays_free(rs);
}

static struct vmp_relay *relay_new(struct vmp_relays *rs, const char *pair, vmp_relay_event_fn fn, void *data)
{
	struct vmp_relay *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	r->rs = rs;
	r->fn = fn;
	r->data = data;
	r->fd = r->pidfd = r->err_fd = -1;
	snprintf(r->pair, sizeof(r->pair), "%s", pair);
	r->next = rs->all;
	rs->all = r;
	return r;
}

static int set_path(struct vmp_relay *r, uint32_t instance)
{
	int n = snprintf(r->path, sizeof(r->path), "%s/%s.%08x.sock", r->rs->dir, r->pair, instance);

	r->instance = instance;
	return n < (int)sizeof(r->path) ? 0 : -ENAMETOOLONG;
}

/* --- the end of a relay ------------------------------------------------------------------------------------------------------ */
static void tell_lost(void *data)
{
	struct vmp_relay *r = data;
	struct vmp_relay_event ev = { .type = VMP_RELAY_EV_LOST };
	vmp_relay_event_fn fn = r->fn;

	snprintf(ev.text, sizeof(ev.text), "%s", r->lost_why);
	r->fn = NULL;
	if (fn)
		fn(r->data, &ev);
}

/* Its content is lost with it. The owner is told from the loop, as it may be in the middle of a call of its own. */
__attribute__((format(printf, 2, 3)))
static void lose(struct vmp_relay *r, const char *fmt, ...)
{
	va_list ap;

	if (r->lost || r->stopping)
		return;
	r->lost = true;
	va_start(ap, fmt);
	vsnprintf(r->lost_why, sizeof(r->lost_why), fmt, ap);
	va_end(ap);
	close_fd(r, &r->fd);
	if (r->pidfd >= 0)
		vmp_proc_kill(r->pidfd, SIGKILL);
	vmp_loop_timer(r->rs->loop, &r->timer, vmp_now_ns(), tell_lost, r);
}

/* What the child said when it could not become a relay, or how the process ended. */
static void how_ended(struct vmp_relay *r, char *buf, size_t size)
{
	ssize_t n = r->err_fd >= 0 ? read(r->err_fd, buf, size - 1) : 0;
	siginfo_t si = { 0 };

	if (n > 0) {
		buf[n] = '\0';
		waitid(P_PIDFD, (id_t)r->pidfd, &si, WEXITED | WNOHANG);
		return;
	}
	if (waitid(P_PIDFD, (id_t)r->pidfd, &si, WEXITED | WNOHANG) < 0 || si.si_pid == 0)
		snprintf(buf, size, "the relay ended"); /* a former daemon's child */
	else if (si.si_code == CLD_EXITED)
		snprintf(buf, size, "the relay ended with status %d", si.si_status);
	else
		snprintf(buf, size, "the relay was ended by signal %d (%s)", si.si_status, strsignal(si.si_status));
}

static void on_pidfd(int fd, short revents, void *data)
{
	struct vmp_relay *r = data;
	char why[160];

	(void)fd, (void)revents;
	/* its last words come before its end */
	if (r->fd >= 0 && !r->stopping && !r->lost)
		on_fd(r->fd, POLLIN, r);
	how_ended(r, why, sizeof(why));
	close_fd(r, &r->pidfd);
	if (r->path[0] && !r->guest)
		unlink(r->path);
	if (r->stopping)
		relay_free(r);
	else
		lose(r, "%s", why);
}

static void on_stop_timer(void *data)
{
	struct vmp_relay *r = data;

	if (r->pidfd >= 0)
		vmp_proc_kill(r->pidfd, SIGKILL); /* its pidfd tells the rest */
	else
		relay_free(r);
}

struct vmp_relay *vmp_relay_stop(struct vmp_relay *r)
{
	char *line;

	if (!r)
		return NULL;
	r->fn = NULL;
	if (r->pidfd < 0) { /* freed by the loop: this may be a call out of one of its own */
		close_fd(r, &r->fd);
		r->stopping = true;
		vmp_loop_timer(r->rs->loop, &r->timer, vmp_now_ns(), on_stop_timer, r);
		return NULL;
	}
	line = r->lost ? NULL : vmp_relay_plain_line("stop");
	if (line)
		vmp_relay_send(r, line);
	r->stopping = true;
	if (r->lost || !r->connected || !line)
		vmp_proc_kill(r->pidfd, SIGKILL);
	vmp_loop_timer(r->rs->loop, &r->timer, vmp_now_ns() + VMP_RELAY_STOP_MS * ms_ns, on_stop_timer, r);
	return NULL;
}

/* --- the channel ---------------------------------------------------------------------------------------------------------------- */
static void watch(struct vmp_relay *r)
{
	short want = POLLIN | (r->out_len ? POLLOUT : 0);

	if (r->fd >= 0 && want != r->watched && vmp_loop_mod_fd(r->rs->loop, r->fd, want) == 0)
		r->watched = want;
}

static void flush(struct vmp_relay *r)
{
	while (r->out_len && r->fd >= 0) {
		ssize_t n = send(r->fd, r->out, r->out_len, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0) {
			lose(r, "the relay's control channel broke: %s", strerror(errno));
			return;
		}
		memmove(r->out, r->out + n, r->out_len - (size_t)n);
		r->out_len -= (size_t)n;
	}
	watch(r);
}

static int enqueue(struct vmp_relay *r, const char *line)
{
	size_t len = strlen(line);

	if (r->lost || r->stopping)
		return -EPIPE;
	if (r->out_len + len > VMP_RELAY_QUEUE) {
		lose(r, "the relay does not read its control channel");
		return -ENOBUFS;
	}
	if (r->out_len + len > r->out_size) {
		size_t size = (r->out_len + len) * 2;
		char *p = realloc(r->out, size);

		if (!p)
			return -ENOMEM;
		r->out = p;
		r->out_size = size;
	}
	memcpy(r->out + r->out_len, line, len);
	r->out_len += len;
	if (r->connected)
		flush(r);
	return 0;
}

int vmp_relay_send(struct vmp_relay *r, char *line)
{
	int rc = line ? enqueue(r, line) : -ENOMEM;

	free(line);
	return rc;
}

static void hello(struct vmp_relay *r, const struct vmp_relay_event *ev)
{
	uint64_t number = 0;

	if (!vmp_relay_u64(ev->obj, "instance", &number))
		number = (uint64_t)ev->pid;
	if (r->guest && r->number && number != r->number) {
		lose(r, "the relay in the guest began anew");
		return;
	}
	r->number = number;
	r->greeted = true;
	r->fn(r->data, ev);
}

static void on_line(struct vmp_relay *r, const char *line, size_t len)
{
	struct vmp_relay_event ev;
	char reason[96];
	unsigned n;

	if (vmp_relay_event_parse(line, len, &ev, reason, sizeof(reason)) < 0) {
		n = vmp_ratelimit_pass(&r->bad, vmp_now_ns(), BAD_LINE_S * 1000 * ms_ns);
		if (n) {
			ev = (struct vmp_relay_event){ .type = VMP_RELAY_EV_NOTE, .level = LOG_WARNING };
			snprintf(ev.text, sizeof(ev.text), "said something that is no event (%s), %u times", reason, n);
			r->fn(r->data, &ev);
		}
		return;
	}
	if (ev.type == VMP_RELAY_EV_START) {
		if (r->guest && r->greeted)
			lose(r, "the relay in the guest began anew");
	} else if (ev.type == VMP_RELAY_EV_HELLO) {
		hello(r, &ev);
	} else {
		r->fn(r->data, &ev);
	}
	vmp_relay_event_done(&ev);
}

static void on_eof_timer(void *data)
{
	lose(data, "the relay closed its control channel");
}

/* A process that ends closes its descriptors a moment before its pidfd tells, and its status says more. */
static void on_end_of_channel(struct vmp_relay *r)
{
	close_fd(r, &r->fd);
	if (r->pidfd >= 0)
		vmp_loop_timer(r->rs->loop, &r->timer, vmp_now_ns() + EOF_MS * ms_ns, on_eof_timer, r);
	else
		lose(r, "the relay's channel was closed");
}

static void on_input(struct vmp_relay *r)
{
	for (;;) {
		ssize_t n = recv(r->fd, r->in + r->in_len, sizeof(r->in) - r->in_len, MSG_DONTWAIT);
		char *start = r->in, *nl;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			on_end_of_channel(r);
			return;
		}
		r->in_len += (size_t)n;
		while (r->in_len && (nl = memchr(start, '\n', r->in_len))) {
			size_t len = (size_t)(nl - start);

			on_line(r, start, len);
			/* the owner may have given it up */
			if (!r->fn || r->fd < 0)
				return;
			r->in_len -= len + 1;
			start = nl + 1;
		}
		memmove(r->in, start, r->in_len);
		if (r->in_len == sizeof(r->in)) {
			lose(r, "the relay sent a line that is too long");
			return;
		}
	}
}

static void on_fd(int fd, short revents, void *data)
{
	struct vmp_relay *r = data;

	(void)fd;
	if (r->stopping) {
		if (revents & POLLOUT)
			flush(r);
		if (revents & (POLLIN | POLLHUP | POLLERR)) {
			/* what it still says is of no use; its end is told by the pidfd */
			char sink[1024];
			ssize_t n = recv(r->fd, sink, sizeof(sink), MSG_DONTWAIT);

			if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
				close_fd(r, &r->fd);
		}
		return;
	}
	if (revents & POLLOUT)
		flush(r);
	if (r->fd >= 0 && !r->lost && (revents & (POLLIN | POLLHUP | POLLERR)))
		on_input(r);
}

static int connect_now(struct vmp_relay *r)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	CLEANUP_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int rc;

	if (fd < 0)
		return -errno;
	memcpy(sa.sun_path, r->path, sizeof(sa.sun_path));
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		return -errno;
	if (!r->guest) { /* the path alone proves nothing: the directory is the relays' */
		struct ucred cred;
		socklen_t len = sizeof(cred);

		if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
			return -errno;
		if (cred.pid != r->pid)
			return -EPERM;
	}
	rc = vmp_loop_add_fd(r->rs->loop, VMP_PRIO_HIGH, fd, POLLIN, on_fd, r);
	if (rc < 0)
		return rc;
	r->fd = TAKE_FD(fd);
	r->watched = POLLIN;
	r->connected = true;
	return 0;
}

static void try_connect(void *data)
{
	struct vmp_relay *r = data;
	uint64_t now = vmp_now_ns();
	int rc;

	if (r->lost || r->stopping)
		return;
	rc = connect_now(r);
	if (rc == 0) {
		flush(r);
		return;
	}
	if (rc != -ENOENT && rc != -ECONNREFUSED && rc != -EAGAIN) {
		lose(r, "the relay's control channel cannot be reached: %s", strerror(-rc));
		return;
	}
	if (!r->guest && now >= r->deadline_ns) {
		lose(r, "the relay does not listen on its control channel after %d ms", VMP_RELAY_START_MS);
		return;
	}
	vmp_loop_timer(r->rs->loop, &r->timer, now + (r->tries++ < FAST_TRIES ? CONNECT_FAST_MS : CONNECT_SLOW_MS) * ms_ns, try_connect, r);
}

/* --- start on the host -------------------------------------------------------------------------------------------------------------- */
/* Between fork and exec: system calls only. Says on `err` what failed. */
__attribute__((noreturn))
static void child(const struct vmp_relays *rs, char *const argv[], int err, const struct rlimit *files)
{
	static char *const env[] = { (char *)"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", NULL };
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct cap[2] = { { 0 } };
	struct sched_param normal = { 0 };
	const char *what = "setpgid";
	sigset_t none;
	int null;

	if (setpgid(0, 0) < 0)
		goto failed;
	for (int s = 1; s < NSIG; s++)
		if (s != SIGKILL && s != SIGSTOP)
			signal(s, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	sched_setscheduler(0, SCHED_OTHER, &normal);
	setrlimit(RLIMIT_NOFILE, files);
	what = "/dev/null";
	null = open("/dev/null", O_RDONLY);
	if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(STDERR_FILENO, STDOUT_FILENO) < 0)
		goto failed;
	if (null > STDERR_FILENO)
		close(null);
	if (rs->drop) {
		cap[0].permitted = cap[0].effective = cap[0].inheritable = 1u << CAP_NET_BIND_SERVICE;
		what = "becoming relay_user";
		if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0 || setgroups(0, NULL) < 0 || setresgid(rs->gid, rs->gid, rs->gid) < 0 ||
		    setresuid(rs->uid, rs->uid, rs->uid) < 0)
			goto failed;
		what = "keeping CAP_NET_BIND_SERVICE";
		if (syscall(SYS_capset, &head, cap) < 0 || prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_BIND_SERVICE, 0, 0) < 0)
			goto failed;
	}
	what = "no_new_privs";
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		goto failed;
	what = argv[0];
	execve(argv[0], argv, env);
failed:
	dprintf(err, "the relay cannot be started: %s: %s", what, strerror(errno));
	_exit(127);
}

int vmp_relay_start(struct vmp_relays *rs, const char *pair, char *config, vmp_relay_event_fn fn, void *data, struct vmp_relay **ret,
		    char *reason, size_t size)
{
	struct vmp_relay *r = config ? relay_new(rs, pair, fn, data) : NULL;
	struct rlimit files;
	char *argv[] = { rs->program, (char *)"--control-listen", NULL, NULL };
	uint32_t instance = 0;
	int err[2] = { -1, -1 }, rc;
	const char *what = "";

	if (!r) {
		free(config);
		snprintf(reason, size, "relay: %s", config ? "no memory" : "its configuration is too long");
		return -ENOMEM;
	}
	while (!instance)
		if (getrandom(&instance, sizeof(instance), 0) != sizeof(instance))
			instance = 0;
	what = "control channel";
	rc = set_path(r, instance);
	if (rc == 0)
		rc = vmp_relay_send(r, TAKE_PTR(config));
	free(config);
	if (rc == 0 && pipe2(err, O_CLOEXEC | O_NONBLOCK) < 0)
		rc = -errno;
	if (rc == 0) {
		what = "fork";
		argv[2] = r->path;
		getrlimit(RLIMIT_NOFILE, &files);
		files.rlim_cur = files.rlim_max < MAX_FILES ? files.rlim_max : MAX_FILES;
		r->pid = fork();
		if (r->pid == 0)
			child(rs, argv, err[1], &files);
		rc = r->pid < 0 ? -errno : 0;
	}
	if (err[1] >= 0)
		close(err[1]);
	r->err_fd = err[0];
	if (rc == 0) {
		what = "pidfd";
		rc = vmp_proc_open(r->pid, &r->start_time, &r->pidfd);
		if (rc == -ESRCH) { /* so quick? Its last words say why */
			siginfo_t si;
			ssize_t n;

			waitid(P_PID, (id_t)r->pid, &si, WEXITED);
			n = read(r->err_fd, reason, size - 1);
			if (n > 0) {
				reason[n] = '\0';
				relay_free(r);
				return -ECHILD;
			}
		}
	}
	if (rc == 0) {
		rc = vmp_loop_add_fd(rs->loop, VMP_PRIO_HIGH, r->pidfd, POLLIN, on_pidfd, r);
		if (rc < 0) {
			vmp_proc_kill(r->pidfd, SIGKILL);
			close(TAKE_FD(r->pidfd));
		}
	}
	if (rc < 0) {
		snprintf(reason, size, "relay: %s: %s", what, strerror(-rc));
		relay_free(r);
		return rc;
	}
	r->deadline_ns = vmp_now_ns() + VMP_RELAY_START_MS * ms_ns;
	vmp_loop_timer(rs->loop, &r->timer, vmp_now_ns() + CONNECT_FAST_MS * ms_ns, try_connect, r);
	*ret = r;
	return 0;
}

int vmp_relay_adopt(struct vmp_relays *rs, const char *pair, uint32_t instance, pid_t pid, uint64_t start_time, char *config,
		    vmp_relay_event_fn fn, void *data, struct vmp_relay **ret, char *reason, size_t size)
{
	struct vmp_relay *r = config ? relay_new(rs, pair, fn, data) : NULL;
	int rc;

	if (!r) {
		free(config);
		return -ENOMEM;
	}
	r->pid = pid;
	r->start_time = start_time;
	rc = set_path(r, instance);
	if (rc == 0)
		rc = start_time ? vmp_proc_open(pid, &r->start_time, &r->pidfd) : -ESRCH;
	if (rc == 0) {
		rc = vmp_loop_add_fd(rs->loop, VMP_PRIO_HIGH, r->pidfd, POLLIN, on_pidfd, r);
		if (rc < 0)
			close(TAKE_FD(r->pidfd));
	}
	if (rc == 0)
		rc = connect_now(r);
	if (rc == 0)
		rc = vmp_relay_send(r, TAKE_PTR(config));
	free(config);
	if (rc < 0) {
		snprintf(reason, size, "its relay cannot be taken over: %s", strerror(-rc));
		if (r->pidfd >= 0)
			vmp_proc_kill(r->pidfd, SIGKILL); /* it serves nobody, and its ports are wanted */
		relay_free(r);
		return rc;
	}
	*ret = r;
	return 0;
}

int vmp_relay_attach(struct vmp_relays *rs, const char *pair, const char *path, uint64_t known, char *config, vmp_relay_event_fn fn,
		     void *data, struct vmp_relay **ret, char *reason, size_t size)
{
	struct vmp_relay *r = config ? relay_new(rs, pair, fn, data) : NULL;

	if (!r) {
		free(config);
		return -ENOMEM;
	}
	r->guest = true;
	r->number = known;
	if (snprintf(r->path, sizeof(r->path), "%s", path) >= (int)sizeof(r->path)) {
		free(config);
		relay_free(r);
		snprintf(reason, size, "relay: the path of the channel's socket is too long: %s", path);
		return -ENAMETOOLONG;
	}
	vmp_relay_send(r, config);
	vmp_loop_timer(rs->loop, &r->timer, vmp_now_ns(), try_connect, r);
	*ret = r;
	return 0;
}

/* --- relays of nobody -------------------------------------------------------------------------------------------------------------------- */
void vmp_relays_end_others(struct vmp_relays *rs)
{
	DIR *dir = opendir(rs->dir);
	const struct dirent *e;

	while (dir && (e = readdir(dir))) {
		size_t len = strlen(e->d_name);
		struct sockaddr_un sa = { .sun_family = AF_UNIX };
		CLEANUP_CLOSE int fd = -1;
		bool owned = false;

		if (len < 5 || strcmp(e->d_name + len - 5, ".sock") ||
		    snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/%s", rs->dir, e->d_name) >= (int)sizeof(sa.sun_path))
			continue;
		for (const struct vmp_relay *r = rs->all; r && !owned; r = r->next)
			owned = !strcmp(r->path, sa.sun_path);
		if (owned)
			continue;
		fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		if (fd >= 0 && connect(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0) {
			static const char stop[] = "{\"cmd\":\"stop\"}\n";
			ssize_t n = send(fd, stop, sizeof(stop) - 1, MSG_NOSIGNAL);

			(void)n;
			continue; /* it removes its socket itself */
		}
		unlink(sa.sun_path);
	}
	if (dir)
		closedir(dir);
}

/* --- looking --------------------------------------------------------------------------------------------------------------------------------- */
pid_t vmp_relay_pid(const struct vmp_relay *r)
{
	return r->guest ? 0 : r->pid;
}

uint64_t vmp_relay_start_time(const struct vmp_relay *r)
{
	return r->start_time;
}

uint32_t vmp_relay_instance(const struct vmp_relay *r)
{
	return r->instance;
}

uint64_t vmp_relay_number(const struct vmp_relay *r)
{
	return r->number;
}

bool vmp_relay_greeted(const struct vmp_relay *r)
{
	return r->greeted;
}
