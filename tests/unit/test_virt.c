/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virt against a real libvirtd with real qemu processes, in namespaces of this test's own (mount, pid, net): nothing of
 * the host's is used and nothing stays behind, because the end of the pid namespace's first process ends all others in
 * it. The guests boot nothing (they sit in the BIOS, emulated) or a boot sector that switches the machine off. Skipped
 * (77) when not root, or where namespaces, libvirtd or qemu are missing.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "daemon/proc.h"
#include "daemon/virt.h"

#define DIR_DISKS "/var/lib/libvirt/vmp-disks"
#define TEMPLATE "/var/lib/libvirt/off.img"
#define LONG_MS 60000

extern char **environ;

static struct vmp_virt *v;
static pid_t libvirtd;

struct member {
	const char *name;
	uint64_t id;
	struct vmp_slot slot;
	struct vmp_domxml *d;
	struct vmp_virt_run run;
};

static struct member a = { .name = "alpha" }, b = { .name = "beta" }, off = { .name = "off" },
		     hang = { .name = "hang" };

/* --- helpers --------------------------------------------------------------------- */

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static pid_t spawn(char *const argv[])
{
	posix_spawn_file_actions_t fa;
	pid_t pid = -1;

	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_addopen(&fa, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&fa, 1, "/dev/null", O_WRONLY, 0);
	posix_spawn_file_actions_addopen(&fa, 2, "/var/log/libvirt/libvirtd.err", O_WRONLY | O_CREAT | O_APPEND, 0600);
	assert_int_equal(posix_spawnp(&pid, argv[0], &fa, NULL, argv, environ), 0);
	posix_spawn_file_actions_destroy(&fa);
	return pid;
}

static void libvirtd_start(void)
{
	char *argv[] = { (char *)"libvirtd", (char *)"-f", (char *)"/etc/libvirt/libvirtd.conf", NULL };

	libvirtd = spawn(argv);
}

static void libvirtd_end(void)
{
	kill(libvirtd, SIGKILL);
	waitpid(libvirtd, NULL, 0);
	libvirtd = 0;
	unlink("/run/libvirtd.pid");
}

static void virsh(const char *arg1, const char *arg2, const char *arg3)
{
	char *argv[] = { (char *)"virsh", (char *)"-q", (char *)"-c", (char *)"qemu:///system",
			 (char *)arg1,	  (char *)arg2, (char *)arg3, NULL };
	char out[200];
	int rc = vmp_proc_run(argv, LONG_MS, out, sizeof(out));

	if (rc != 0)
		fail_msg("virsh %s %s: %d %s", arg1, arg2, rc, out);
}

/* The events of the test so far: shown when it fails (or all the time with VERBOSE set). */
static char history[128][512];
static unsigned int n_history;

static void show(const struct vmp_virt_event *e)
{
	char *line = history[n_history++ % 128];

	snprintf(line, sizeof(history[0]), "%8llu %s pair %llx rc %d pid %d how '%s' gone %d: %s",
		 (unsigned long long)now_ms(), vmp_virt_event_str(e->type), (unsigned long long)e->pair_id, e->rc,
		 (int)e->run.pid, vmp_virt_how_str(e->how), e->gone, e->reason);
	if (getenv("VERBOSE"))
		print_message("%s\n", line);
}

static void show_all(void)
{
	for (unsigned int i = n_history > 128 ? n_history - 128 : 0; i < n_history; i++)
		print_message("%s\n", history[i % 128]);
	print_message("%8llu now\n", (unsigned long long)now_ms());
}

/* The next event about `id` of this type; others of that pair and type EXITED are a failure, the rest is passed over.
 */
static struct vmp_virt_event expect(enum vmp_virt_event_type type, uint64_t id, uint64_t timeout_ms)
{
	uint64_t end = now_ms() + timeout_ms;
	struct vmp_virt_event e;

	for (;;) {
		struct pollfd pf = { .fd = vmp_virt_fd(v), .events = POLLIN };
		uint64_t now = now_ms();

		while (vmp_virt_next(v, &e) == 1) {
			show(&e);
			if (e.type == type && e.pair_id == id)
				return e;
			if (e.type == VMP_VIRT_EXITED) {
				show_all();
				fail_msg("unexpected end of a VM, waiting for %s", vmp_virt_event_str(type));
			}
		}
		if (now >= end) {
			show_all();
			fail_msg("no event %s in %u ms", vmp_virt_event_str(type), (unsigned int)timeout_ms);
		}
		poll(&pf, 1, (int)(end - now));
	}
}

/* The end of a run as such, told once, and then of its process, which may take as long as its memory is large. */
static struct vmp_virt_event expect_end(struct member *m)
{
	struct vmp_virt_event e = expect(VMP_VIRT_EXITED, m->id, LONG_MS);

	if (!e.gone)
		assert_int_equal(expect(VMP_VIRT_GONE, m->id, LONG_MS).run.pid, e.run.pid);
	return e;
}

static void expect_running(struct member *m)
{
	struct vmp_virt_run run;
	uint64_t start = m->run.start_ticks;
	int fd = -1;

	assert_int_equal(vmp_virt_run(v, m->id, &run), 0);
	assert_int_equal(run.pid, m->run.pid);
	assert_int_equal(vmp_proc_open(m->run.pid, &start, &fd), 0);
	assert_int_equal(vmp_proc_is_vm(m->run.pid, m->slot.uuid), 1);
	close(fd);
}

static void expect_gone(pid_t pid, uint64_t start)
{
	int fd;

	assert_int_equal(vmp_proc_open(pid, &start, &fd), -ESRCH);
}

static void member_make(struct member *m, const char *disk)
{
	struct vmp_domxml_params p = { .pair = m->name, .slot = &m->slot, .entry_nic = "br-entry", .n_entry = 1 };
	char text[1024], r[300], dir[128], cmd[128];
	struct vmp_addr entry;

	assert_int_equal(vmp_slot_derive(m->name, 1, NULL, &m->slot, r, sizeof(r)), 0);
	assert_int_equal(vmp_addr_parse("192.0.2.10/24", &entry), 0);
	m->id = m->slot.pair_id;
	p.entry = &entry;
	snprintf(dir, sizeof(dir), DIR_DISKS "/%s", m->name);
	p.disk_dir = dir;
	snprintf(text, sizeof(text),
		 "<domain type='qemu'><memory unit='MiB'>32</memory><os><type arch='x86_64' "
		 "machine='pc'>hvm</type></os><features><acpi/></features>"
		 "<devices>%s<interface type='bridge'><source bridge='br-entry'/><mac address='52:54:00:0a:0b:0c'/>"
		 "<model type='virtio'/><rom enabled='no'/></interface><controller type='usb' "
		 "model='none'/><memballoon model='none'/></devices></domain>",
		 disk);
	if (vmp_domxml_build(text, strlen(text), m->name, &p, &m->d, r, sizeof(r)) < 0)
		fail_msg("%s", r);
	snprintf(cmd, sizeof(cmd), "ip tuntap add dev %s mode tap && ip link set %s up", m->slot.entry_tap,
		 m->slot.entry_tap);
	assert_int_equal(system(cmd), 0);
}

static void start(struct member *m)
{
	struct vmp_virt_event e;

	assert_int_equal(vmp_virt_start(v, m->id, m->d, LONG_MS, 7), 0);
	e = expect(VMP_VIRT_STARTED, m->id, LONG_MS + 1000);
	if (e.rc != 0)
		fail_msg("start: %d %s", e.rc, e.reason);
	assert_int_equal(e.tag, 7);
	assert_true(e.run.pid > 1);
	m->run = e.run;
	expect_running(m);
}

static void open_virt(struct member *m, ...)
{
	const struct vmp_virt_opts opts = { .keepalive_s = 1, .keepalive_n = 2, .retry_max_ms = 100 };
	char r[200];
	va_list ap;

	assert_int_equal(vmp_virt_new(&v, &opts, r, sizeof(r)), 0);
	va_start(ap, m);
	for (; m; m = va_arg(ap, struct member *))
		assert_int_equal(vmp_virt_pair_add(v, m->id, m->name, m->slot.uuid, &m->run), 0);
	va_end(ap);
}

/* --- tests, in order: each begins with what the one before left ------------------------- */

static void without_libvirtd(void **state)
{
	const struct vmp_virt_stop how = { .graceful_ms = 100, .destroy_ms = 100, .kill_ms = 100 };
	struct vmp_virt_event e;
	(void)state;

	open_virt(&a, &b, &off, &hang, NULL);
	assert_int_equal(a.run.pid, 0);
	e = expect(VMP_VIRT_LIBVIRTD_LOST, 0, 5000);
	assert_int_not_equal(e.reason[0], '\0');
	assert_false(vmp_virt_connected(v));
	assert_int_equal(vmp_virt_pair_add(v, a.id, "x", "y", &a.run), -EEXIST);
	assert_int_equal(vmp_virt_kill(v, a.id), -ESRCH);
	assert_int_equal(vmp_virt_start(v, 99, a.d, 100, 1), -ENOENT);

	assert_int_equal(vmp_virt_stop(v, a.id, &how, 3), 0);
	e = expect(VMP_VIRT_STOPPED, a.id, 5000);
	assert_int_equal(e.rc, 0);
	assert_int_equal(e.tag, 3);

	assert_int_equal(vmp_virt_start(v, a.id, a.d, 200, 4), 0);
	assert_int_equal(vmp_virt_start(v, a.id, a.d, 200, 5), -EBUSY);
	e = expect(VMP_VIRT_STARTED, a.id, 5000);
	assert_int_equal(e.rc, -ENOTCONN);
	assert_non_null(strstr(e.reason, "libvirtd does not answer"));

	/* a stop ends a start that waits for libvirtd */
	assert_int_equal(vmp_virt_start(v, a.id, a.d, LONG_MS, 6), 0);
	assert_int_equal(vmp_virt_stop(v, a.id, &how, 7), 0);
	e = expect(VMP_VIRT_STARTED, a.id, 5000);
	assert_int_equal(e.rc, -ECANCELED);
	e = expect(VMP_VIRT_STOPPED, a.id, 5000);
	assert_int_equal(e.rc, 0);
}

static void start_waits_for_libvirtd(void **state)
{
	struct vmp_virt_event e;
	(void)state;

	assert_int_equal(vmp_virt_start(v, a.id, a.d, LONG_MS, 8), 0);
	libvirtd_start();
	e = expect(VMP_VIRT_STARTED, a.id, LONG_MS);
	assert_int_equal(e.rc, 0);
	a.run = e.run;
	expect_running(&a);
	assert_true(vmp_virt_connected(v));
	start(&b);
	/* once more: it runs already */
	assert_int_equal(vmp_virt_start(v, a.id, a.d, 1000, 9), 0);
	e = expect(VMP_VIRT_STARTED, a.id, 0);
	assert_int_equal(e.rc, 0);
	assert_int_equal(e.run.pid, a.run.pid);
	assert_int_equal(vmp_virt_remove(v, a.id, DIR_DISKS "/alpha", 1000, 1), -EBUSY);
}

static void reboot_and_pause(void **state)
{
	struct vmp_virt_event e;
	(void)state;

	virsh("qemu-monitor-command", "alpha", "{\"execute\":\"system_reset\"}");
	expect(VMP_VIRT_REBOOTED, a.id, LONG_MS);
	virsh("suspend", "alpha", NULL);
	e = expect(VMP_VIRT_PAUSED, a.id, LONG_MS);
	assert_int_equal(e.how, VMP_VIRT_HOW_OPERATOR);
	virsh("resume", "alpha", NULL);
	expect(VMP_VIRT_RESUMED, a.id, LONG_MS);
	expect_running(&a);
}

static void destroyed_behind_our_back(void **state)
{
	struct vmp_virt_event e;
	struct vmp_virt_run run;
	(void)state;

	virsh("destroy", "alpha", NULL);
	e = expect(VMP_VIRT_EXITED, a.id, LONG_MS);
	assert_int_equal(e.run.pid, a.run.pid);
	if (e.how == VMP_VIRT_HOW_UNKNOWN)
		e = expect(VMP_VIRT_CAUSE, a.id, LONG_MS);
	assert_true(e.how == VMP_VIRT_HOW_DESTROYED || e.how == VMP_VIRT_HOW_SIGNAL);
	assert_int_equal(e.run.pid, a.run.pid);
	for (uint64_t end = now_ms() + LONG_MS; vmp_virt_run(v, a.id, &run) == 0 && run.pid != 0 && now_ms() < end;) {
		struct pollfd pf = { .fd = vmp_virt_fd(v), .events = POLLIN };

		poll(&pf, 1, 1000);
		while (vmp_virt_next(v, &e) == 1)
			assert_int_not_equal(e.type, VMP_VIRT_EXITED);
	}
	expect_gone(a.run.pid, a.run.start_ticks);

	/* killed, and started again at once, while libvirt may not yet know */
	start(&a);
	assert_int_equal(vmp_virt_kill(v, a.id), 0);
	expect_end(&a);
	start(&a);
	expect_running(&b);
}

static void guest_powers_off(void **state)
{
	struct vmp_virt_event e;
	struct vmp_virt_run run;
	struct pollfd pf;
	struct stat st;
	(void)state;

	start(&off);
	assert_int_equal(stat(DIR_DISKS "/off/vda.qcow2", &st), 0);
	e = expect(VMP_VIRT_EXITED, off.id, LONG_MS);
	/* told by the guest's power-off, or by the process, gone or on its way, when that was quicker */
	assert_true(e.how == VMP_VIRT_HOW_SHUTDOWN || e.how == VMP_VIRT_HOW_UNKNOWN);
	for (uint64_t end = now_ms() + LONG_MS; vmp_virt_run(v, off.id, &run) == 0 && run.pid != 0 && now_ms() < end;) {
		pf = (struct pollfd){ .fd = vmp_virt_fd(v), .events = POLLIN };
		poll(&pf, 1, 1000);
		while (vmp_virt_next(v, &e) == 1)
			assert_int_not_equal(e.type, VMP_VIRT_EXITED);
	}
	assert_int_equal(run.pid, 0);

	assert_int_equal(vmp_virt_remove(v, off.id, DIR_DISKS "/off", 5000, 21), 0);
	e = expect(VMP_VIRT_REMOVED, off.id, 6000);
	assert_int_equal(e.rc, 0);
	assert_int_equal(e.tag, 21);
	assert_int_equal(stat(DIR_DISKS "/off", &st), -1);
	/* once more: there is nothing, that is fine */
	assert_int_equal(vmp_virt_remove(v, off.id, DIR_DISKS "/off", 5000, 22), 0);
	assert_int_equal(expect(VMP_VIRT_REMOVED, off.id, 6000).rc, 0);
	/* the template is as it was */
	assert_int_equal(stat(TEMPLATE, &st), 0);
	assert_int_equal(st.st_size, 65536);
}

static void bad_starts(void **state)
{
	struct vmp_virt_event e;
	char *xml = off.d->xml, *backing = off.d->disk[0].backing;
	(void)state;

	off.d->disk[0].backing = (char *)"/no/such/template.img";
	assert_int_equal(vmp_virt_start(v, off.id, off.d, LONG_MS, 1), 0);
	e = expect(VMP_VIRT_STARTED, off.id, LONG_MS);
	assert_int_equal(e.rc, -EIO);
	assert_non_null(strstr(e.reason, "/no/such/template.img"));
	off.d->disk[0].backing = backing;

	/* an overlay that is there already, of another template */
	assert_int_equal(system("cp " TEMPLATE " /run/other.img && mkdir -p " DIR_DISKS "/off && qemu-img create -q -f "
				"qcow2 -F raw "
				"-b /run/other.img " DIR_DISKS "/off/vda.qcow2"),
			 0);
	assert_int_equal(vmp_virt_start(v, off.id, off.d, LONG_MS, 1), 0);
	e = expect(VMP_VIRT_STARTED, off.id, LONG_MS);
	assert_int_equal(e.rc, -ESTALE);
	assert_non_null(strstr(e.reason, "/run/other.img"));
	assert_int_equal(truncate(DIR_DISKS "/off/vda.qcow2", 10), 0);
	assert_int_equal(vmp_virt_start(v, off.id, off.d, LONG_MS, 1), 0);
	assert_int_equal(expect(VMP_VIRT_STARTED, off.id, LONG_MS).rc, -ESTALE);

	/* what is not ours is not removed */
	assert_int_equal(system("touch " DIR_DISKS "/off/notes.txt"), 0);
	assert_int_equal(vmp_virt_remove(v, off.id, DIR_DISKS "/off", 5000, 23), 0);
	e = expect(VMP_VIRT_REMOVED, off.id, 6000);
	assert_int_equal(e.rc, -ENOTEMPTY);
	assert_int_equal(access(DIR_DISKS "/off/vda.qcow2", F_OK), -1);
	assert_int_equal(access(DIR_DISKS "/off/notes.txt", F_OK), 0);
	unlink(DIR_DISKS "/off/notes.txt");

	/* a pair that is not registered (any more) can be cleaned up after */
	assert_int_equal(vmp_virt_remove(v, 12345, DIR_DISKS "/off", 5000, 24), 0);
	e = expect(VMP_VIRT_REMOVED, 12345, 6000);
	assert_int_equal(e.rc, 0);
	assert_int_equal(e.tag, 24);
	assert_int_equal(access(DIR_DISKS "/off", F_OK), -1);

	off.d->xml = (char *)"<domain type='qemu'/>";
	assert_int_equal(vmp_virt_start(v, off.id, off.d, LONG_MS, 1), 0);
	e = expect(VMP_VIRT_STARTED, off.id, LONG_MS);
	assert_int_equal(e.rc, -EIO);
	assert_int_not_equal(e.reason[0], '\0');
	off.d->xml = xml;
}

static void stop_gracefully(void **state)
{
	const struct vmp_virt_stop how = { .graceful_ms = 200, .destroy_ms = LONG_MS };
	struct vmp_virt_event e;
	uint64_t begun = now_ms();
	(void)state;

	/* the BIOS does not hear the power button: destroyed after it had its time */
	assert_int_equal(vmp_virt_stop(v, a.id, &how, 31), 0);
	e = expect(VMP_VIRT_EXITED, a.id, LONG_MS);
	assert_true(now_ms() - begun >= 200);
	e = expect(VMP_VIRT_STOPPED, a.id, LONG_MS);
	assert_int_equal(e.rc, 0);
	assert_int_equal(e.tag, 31);
	expect_gone(a.run.pid, a.run.start_ticks);
	assert_int_equal(vmp_virt_stop(v, a.id, &how, 32), 0);
	assert_int_equal(expect(VMP_VIRT_STOPPED, a.id, LONG_MS).rc, 0);
	start(&a);
}

static void libvirtd_restarts(void **state)
{
	(void)state;

	libvirtd_end();
	expect(VMP_VIRT_LIBVIRTD_LOST, 0, LONG_MS); /* an exit of any VM meanwhile fails the test */
	expect_running(&a);
	expect_running(&b);
	/* our own restart, with libvirtd away: the VMs are found all the same, at once */
	v = vmp_virt_free(v);

	{
		pid_t pid_a = a.run.pid, pid_b = b.run.pid;

		open_virt(&a, &b, &off, &hang, NULL);
		assert_int_equal(a.run.pid, pid_a);
		assert_int_equal(b.run.pid, pid_b);
		assert_int_equal(off.run.pid, 0);
	}
	/* and watched */
	assert_int_equal(vmp_virt_kill(v, b.id), 0);
	expect_end(&b);
	libvirtd_start();
	expect(VMP_VIRT_LIBVIRTD_BACK, 0, LONG_MS);
	expect_running(&a);
	/* libvirt found b dead when it came; it starts again */
	start(&b);
}

static void found_later(void **state)
{
	struct vmp_virt_run run;
	struct vmp_virt_event e;
	FILE *f;
	(void)state;

	/* somebody starts the very domain by hand */
	f = fopen("/run/off.xml", "w");
	assert_non_null(f);
	fputs(off.d->xml, f);
	fclose(f);
	start(&off); /* makes the overlay, powers off */
	expect(VMP_VIRT_EXITED, off.id, LONG_MS);
	/* the first stop waits for the process, the second makes sure that libvirt has noticed */
	for (int i = 0; i < 2; i++) {
		assert_int_equal(vmp_virt_stop(v, off.id, &(struct vmp_virt_stop){ .destroy_ms = LONG_MS }, 40), 0);
		assert_int_equal(expect(VMP_VIRT_STOPPED, off.id, LONG_MS).rc, 0);
	}
	vmp_virt_pair_del(v, off.id);
	assert_int_equal(vmp_virt_pair_add(v, off.id, off.name, off.slot.uuid, &run), 0);
	assert_int_equal(run.pid, 0);
	virsh("create", "--paused", "/run/off.xml");
	e = expect(VMP_VIRT_FOUND, off.id, LONG_MS);
	off.run = e.run;
	expect_running(&off);
	assert_int_equal(vmp_virt_stop(v, off.id, &(struct vmp_virt_stop){ .destroy_ms = LONG_MS }, 41), 0);
	expect(VMP_VIRT_EXITED, off.id, LONG_MS);
	assert_int_equal(expect(VMP_VIRT_STOPPED, off.id, LONG_MS).rc, 0);
}

static void libvirtd_frozen(void **state)
{
	const struct vmp_virt_stop how = { .graceful_ms = 100, .destroy_ms = 300, .kill_ms = LONG_MS };
	struct vmp_virt_event e;
	uint64_t begun;
	(void)state;

	kill(libvirtd, SIGSTOP);
	begun = now_ms();
	/* a start that hangs... */
	assert_int_equal(vmp_virt_start(v, off.id, off.d, 300, 51), 0);
	/* ...and a stop of another pair, which ends by the process alone */
	assert_int_equal(vmp_virt_stop(v, a.id, &how, 52), 0);
	e = expect(VMP_VIRT_EXITED, a.id, 3000);
	e = expect(VMP_VIRT_STOPPED, a.id, 3000);
	assert_int_equal(e.rc, 0);
	expect_gone(a.run.pid, a.run.start_ticks);
	assert_true(now_ms() - begun < 2000);
	e = expect(VMP_VIRT_STARTED, off.id, 3000);
	assert_int_equal(e.rc, -ETIMEDOUT);
	expect_running(&b);
	assert_int_equal(vmp_virt_stop(v, off.id, &how, 53), 0);
	assert_int_equal(expect(VMP_VIRT_STOPPED, off.id, 3000).rc, 0);

	/* libvirtd goes on before it is given up: what nobody wants any more is not begun */
	kill(libvirtd, SIGCONT);
	assert_int_equal(vmp_virt_stop(v, off.id, &how, 54), 0);
	assert_int_equal(expect(VMP_VIRT_STOPPED, off.id, LONG_MS).rc, 0);
	expect_running(&b);
	start(&a);
}

/* Begins a start of `m` and freezes its qemu in the middle of it, so that libvirt's call for this one domain hangs. */
static pid_t start_frozen(struct member *m)
{
	uint64_t ticks, end = now_ms() + LONG_MS;
	int pidfd = -1;
	pid_t pid;

	assert_int_equal(vmp_virt_start(v, m->id, m->d, 300, 71), 0);
	while (vmp_proc_find_vm("/run/libvirt/qemu", m->name, m->slot.uuid, true, &pid, &ticks, &pidfd) < 0)
		assert_true(now_ms() < end);
	assert_int_equal(vmp_proc_kill(pidfd, SIGSTOP), 0);
	close(pidfd);
	return pid;
}

static void one_domain_hangs(void **state)
{
	const struct vmp_virt_stop how = { .destroy_ms = 300 };
	struct vmp_virt_event e;
	uint64_t begun;
	pid_t pid;
	(void)state;

	/* a start that hangs is given up; others go on; a stop ends it by its process */
	begun = now_ms();
	pid = start_frozen(&hang);
	e = expect(VMP_VIRT_STARTED, hang.id, LONG_MS);
	assert_int_equal(e.rc, -ETIMEDOUT);
	assert_int_equal(vmp_virt_stop(v, b.id, &(struct vmp_virt_stop){ .destroy_ms = LONG_MS }, 72), 0);
	expect(VMP_VIRT_EXITED, b.id, 5000);
	assert_int_equal(expect(VMP_VIRT_STOPPED, b.id, 5000).rc, 0);
	start(&b);
	assert_int_equal(vmp_virt_stop(v, hang.id, &how, 73), 0);
	e = expect(VMP_VIRT_EXITED, hang.id, 5000);
	assert_int_equal(e.run.pid, pid);
	assert_int_equal(expect(VMP_VIRT_STOPPED, hang.id, 5000).rc, 0);
	assert_true(now_ms() - begun < 8000);
	assert_int_equal(vmp_virt_stop(v, hang.id, &(struct vmp_virt_stop){ .destroy_ms = LONG_MS }, 74), 0);
	assert_int_equal(expect(VMP_VIRT_STOPPED, hang.id, LONG_MS).rc, 0);

	/* one that is given up and then comes true all the same is ended again */
	pid = start_frozen(&hang);
	e = expect(VMP_VIRT_STARTED, hang.id, LONG_MS);
	assert_int_equal(e.rc, -ETIMEDOUT);
	kill(pid, SIGCONT);
	do
		e = expect(VMP_VIRT_NOTE, hang.id, LONG_MS);
	while (!strstr(e.reason, "came true"));
	e = expect(VMP_VIRT_EXITED, hang.id, LONG_MS);
	assert_int_equal(e.run.pid, pid);
	expect_running(&a);
	expect_running(&b);
}

static void libvirtd_frozen_for_long(void **state)
{
	pid_t pid = b.run.pid;
	uint64_t begun;
	(void)state;

	kill(libvirtd, SIGSTOP);
	expect(VMP_VIRT_LIBVIRTD_LOST, 0, LONG_MS);
	expect_running(&b);
	/* our end waits for nobody, and our new beginning knows the VMs */
	begun = now_ms();
	v = vmp_virt_free(v);
	assert_true(now_ms() - begun < 2000);
	open_virt(&a, &b, &off, &hang, NULL);
	assert_int_equal(b.run.pid, pid);
	kill(libvirtd, SIGCONT);
	expect(VMP_VIRT_LIBVIRTD_BACK, 0, LONG_MS);
	expect_running(&b);
	assert_int_equal(vmp_virt_stop(v, b.id, &(struct vmp_virt_stop){ .destroy_ms = LONG_MS }, 61), 0);
	expect(VMP_VIRT_EXITED, b.id, LONG_MS);
	assert_int_equal(expect(VMP_VIRT_STOPPED, b.id, LONG_MS).rc, 0);
	v = vmp_virt_free(v);
}

/* --- the world around ----------------------------------------------------------------------- */

static bool put(const char *path, const char *text, size_t len)
{
	FILE *f = fopen(path, "w");
	bool ok = f && fwrite(text, 1, len, f) == len;

	if (f && fclose(f) != 0)
		ok = false;
	return ok;
}

static bool world(void)
{
	static const char *const dirs[] = { "/run", "/var/lib/libvirt", "/etc/libvirt", "/var/log/libvirt",
					    "/var/cache/libvirt" };
	static const char qemu_conf[] = "user=\"root\"\ngroup=\"root\"\nsecurity_driver=\"none\"\ncgroup_controllers=[]"
					"\nnamespaces=[]\n"
					"remember_owner=0\nstdio_handler=\"file\"\n";
	static const char libvirtd_conf[] = "auth_unix_rw=\"none\"\nunix_sock_group=\"root\"\n";
	/* mov $0x604,%dx; mov $0x2000,%ax; out %ax,%dx: power off, as the PIIX4 of machine 'pc' has it after its BIOS
	 */
	static char boot[65536] = { '\xba', 0x04,   0x06,   '\xb8', 0x00,	  0x20,
				    '\xef', '\xf4', '\xeb', '\xfd', [510] = 0x55, [511] = '\xaa' };

	if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 || mount("proc", "/proc", "proc", 0, NULL) < 0)
		return false;
	for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++) {
		if ((access(dirs[i], F_OK) < 0 && mkdir(dirs[i], 0755) < 0) ||
		    mount("tmpfs", dirs[i], "tmpfs", 0, "mode=0755") < 0)
			return false;
	}
	return put("/etc/libvirt/qemu.conf", qemu_conf, strlen(qemu_conf)) &&
	       put("/etc/libvirt/libvirtd.conf", libvirtd_conf, strlen(libvirtd_conf)) &&
	       put(TEMPLATE, boot, sizeof(boot)) &&
	       system("ip link set lo up && ip link add br-entry type bridge") == 0;
}

static int setup(void **state)
{
	(void)state;
	vmp_domxml_init();
	member_make(&a, "");
	member_make(&b, "");
	member_make(&hang, "");
	member_make(&off, "<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='" TEMPLATE
			  "'/><target dev='vda' bus='ide'/></disk>");
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	vmp_virt_free(v);
	vmp_domxml_free(a.d);
	vmp_domxml_free(b.d);
	vmp_domxml_free(off.d);
	vmp_domxml_free(hang.d);
	if (libvirtd > 0) {
		kill(libvirtd, SIGCONT);
		libvirtd_end();
	}
	return 0;
}

static int all_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_libvirtd), cmocka_unit_test(start_waits_for_libvirtd),
		cmocka_unit_test(reboot_and_pause), cmocka_unit_test(destroyed_behind_our_back),
		cmocka_unit_test(guest_powers_off), cmocka_unit_test(bad_starts),
		cmocka_unit_test(stop_gracefully),  cmocka_unit_test(libvirtd_restarts),
		cmocka_unit_test(found_later),	    cmocka_unit_test(libvirtd_frozen),
		cmocka_unit_test(one_domain_hangs), cmocka_unit_test(libvirtd_frozen_for_long),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}

#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_THREAD__) || __has_feature(thread_sanitizer)
/* These libraries are not instrumented: their locks are not seen. */
const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void)
{
	return "race:libglib-2.0.so\nrace:libtirpc.so\nrace:libvirt.so\n";
}
#endif

static int skip_all(const char *why)
{
	printf("1..0 # SKIP %s\n", why);
	return 77;
}

static int status_of(pid_t pid)
{
	int st;

	while (waitpid(pid, &st, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(st) ? WEXITSTATUS(st) : 1;
}

int main(void)
{
	pid_t pid, done;
	int st;

	if (geteuid() != 0)
		return skip_all("needs root (it makes namespaces)");
	if (system("command -v libvirtd virsh qemu-img qemu-system-x86_64 ip >/dev/null 2>&1") != 0)
		return skip_all("needs libvirtd, virsh, qemu-img, qemu-system-x86_64 and ip");
	fflush(stdout);
	if (unshare(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET) < 0)
		return skip_all("no namespaces here");
	pid = fork();
	if (pid > 0)
		_exit(status_of(
			pid)); /* and no more: this process can have no children in a namespace that has ended */

	/* Process 1 of its namespace: it reaps, or libvirt waits for killed qemus in vain, and its end ends everything.
	 */
	if (!world())
		_exit(skip_all("no file systems or links of its own"));
	pid = fork();
	if (pid == 0) {
		alarm(240); /* not in process 1: it does not die of signals */
		exit(all_tests());
	}
	while ((done = waitpid(-1, &st, 0)) != pid)
		if (done < 0 && errno != EINTR)
			break;
	_exit(done == pid && WIFEXITED(st) ? WEXITSTATUS(st) : 1);
}
