/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <linux/magic.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "daemon/gate_int.h"
#include "internal/cleanup.h"

int vmp_gate_fail(char *reason, size_t len, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	if (len)
		vsnprintf(reason, len, fmt, ap);
	va_end(ap);
	return err;
}

/* A symbolic link to the device's name: what one daemon made, the next (or a purge) finds without any other file. */
static const char *const kind_pin[] = { [VMP_GATE_TAP] = "tap", [VMP_GATE_HOST] = "host",
					[VMP_GATE_HOST_OTHER] = "host-other" };

const char *const vmp_gate_link_pin[2] = { "ingress", "egress" };
const char *const vmp_gate_prog_pin[2] = { "prog", "prog-out" };

/* bpffs reserves dots in names; '%' is no character of a pair's name. */
static void swap_dots(char *s, char from, char to)
{
	for (; *s; s++)
		if (*s == from)
			*s = to;
}

void vmp_gate_pin_path(const char *base, const char *pair, const char *what, char *ret, size_t len)
{
	char name[VMP_GATE_NAME_MAX];

	snprintf(name, sizeof name, "%s", pair);
	swap_dots(name, '.', '%');
	snprintf(ret, len, "%s/%s%s%s", base, name, what[0] ? "/" : "", what);
}

int vmp_gate_pin(const char *base, const char *pair, const char *what, int fd)
{
	char path[PATH_MAX];

	vmp_gate_pin_path(base, pair, what, path, sizeof path);
	unlink(path);
	return vmp_tcbpf_pin(fd, path);
}

int vmp_gate_pin_get(const char *base, const char *pair, const char *what)
{
	char path[PATH_MAX];

	vmp_gate_pin_path(base, pair, what, path, sizeof path);
	return vmp_tcbpf_get(path);
}

void vmp_gate_pin_prog_ids(const char *base, const char *pair, uint32_t ret[2])
{
	for (int i = 0; i < 2; i++) {
		CLEANUP_CLOSE int fd = vmp_gate_pin_get(base, pair, vmp_gate_prog_pin[i]);
		struct vmp_tcbpf_info pi;

		ret[i] = fd >= 0 && !vmp_tcbpf_prog_info(fd, &pi) ? pi.id : 0;
	}
}

void vmp_gate_pin_remove(const char *base, const char *pair, const char *what)
{
	char path[PATH_MAX];

	vmp_gate_pin_path(base, pair, what, path, sizeof path);
	unlink(path);
}

int vmp_gate_pin_remove_all(const char *base, const char *pair)
{
	char path[PATH_MAX];

	vmp_gate_pin_remove(base, pair, "map");
	vmp_gate_pin_remove(base, pair, "prog");
	vmp_gate_pin_remove(base, pair, "prog-out");
	vmp_gate_pin_remove(base, pair, "addrs");
	vmp_gate_pin_remove(base, pair, vmp_gate_link_pin[0]);
	vmp_gate_pin_remove(base, pair, vmp_gate_link_pin[1]);
	for (unsigned int i = 0; i < ARRAY_SIZE(kind_pin); i++)
		vmp_gate_pin_remove(base, pair, kind_pin[i]);
	vmp_gate_pin_path(base, pair, "", path, sizeof path);
	return rmdir(path) < 0 && errno != ENOENT ? -errno : 0;
}

static void addr_of_key(const uint8_t key[16], uint32_t prefix, struct vmp_gate_addr *ret)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	bool v4 = !memcmp(key, mapped, sizeof mapped);

	memset(ret, 0, sizeof *ret);
	ret->family = v4 ? AF_INET : AF_INET6;
	memcpy(ret->addr, v4 ? key + 12 : key, v4 ? 4 : 16);
	ret->prefix = (uint8_t)prefix;
}

int vmp_gate_pin_spec_get(const char *base, const char *pair, struct vmp_gate_spec *ret)
{
	char path[PATH_MAX], dev[IFNAMSIZ];
	struct vmp_gate_spec sp = { .kind = VMP_GATE_TAP };
	CLEANUP_CLOSE int addrs = -1;
	uint8_t key[16];
	uint32_t prefix;
	ssize_t n = -1;

	for (unsigned int i = 0; i < ARRAY_SIZE(kind_pin) && n < 0; i++) {
		sp.kind = (enum vmp_gate_kind)i;
		vmp_gate_pin_path(base, pair, kind_pin[i], path, sizeof path);
		n = readlink(path, dev, sizeof dev);
	}
	if (n < 0)
		return -errno;
	if (n == 0 || n >= IFNAMSIZ)
		return -EBADF;
	memcpy(on_host(sp.kind) ? sp.bridge : sp.tap, dev, (size_t)n);
	addrs = on_host(sp.kind) ? vmp_gate_pin_get(base, pair, "addrs") : -1;
	if (addrs >= 0)
		for (int r = vmp_tcbpf_addrs_next(addrs, NULL, key, &prefix); !r && sp.n_addrs < VMP_GATE_MAX_ADDRS;
		     r = vmp_tcbpf_addrs_next(addrs, key, key, &prefix))
			addr_of_key(key, prefix, &sp.addrs[sp.n_addrs++]);
	*ret = sp;
	return 0;
}

int vmp_gate_pin_spec_set(const char *base, const char *pair, const struct vmp_gate_spec *spec)
{
	char path[PATH_MAX];

	vmp_gate_pin_path(base, pair, kind_pin[spec->kind], path, sizeof path);
	unlink(path);
	return symlink(gated_dev(spec), path) < 0 ? -errno : 0;
}

int vmp_gate_bpffs_prepare(const char *dir, bool create, char *reason, size_t len)
{
	char parent[PATH_MAX];
	struct statfs fs;
	char *slash;

	snprintf(parent, sizeof parent, "%s", dir);
	slash = strrchr(parent, '/');
	if (!slash || slash == parent)
		return vmp_gate_fail(reason, len, -EINVAL, "'%s' is no directory below a bpf file system", dir);
	*slash = '\0';
	if (statfs(parent, &fs) < 0)
		return vmp_gate_fail(reason, len, -errno,
				     "%s: %s (a kernel without CONFIG_BPF_SYSCALL, or sysfs is not mounted)", parent,
				     strerror(errno));
	if (fs.f_type != BPF_FS_MAGIC) {
		if (!create)
			return -ENOENT;
		if (strcmp(parent, "/sys/fs/bpf"))
			return vmp_gate_fail(reason, len, -EINVAL,
					     "%s is not on a bpf file system (mount -t bpf bpf %s)", dir, parent);
		if (mount("bpf", parent, "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RELATIME, "mode=0700") < 0)
			return vmp_gate_fail(reason, len, -errno, "cannot mount the bpf file system on %s: %s", parent,
					     strerror(errno));
	}
	if (create && mkdir(dir, 0700) < 0 && errno != EEXIST)
		return vmp_gate_fail(reason, len, -errno, "mkdir %s: %s", dir, strerror(errno));
	return 0;
}

int vmp_gate_for_each_pinned(const char *dir, int (*cb)(void *user, const char *pair), void *user)
{
	char names[VMP_GATE_MAX_PORTS][VMP_GATE_NAME_MAX];
	unsigned int n = 0;
	struct dirent *e;
	DIR *d = opendir(dir);
	int r = 0;

	if (!d)
		return errno == ENOENT ? 0 : -errno;
	while (n < VMP_GATE_MAX_PORTS && (e = readdir(d))) {
		if (e->d_name[0] == '.' || strlen(e->d_name) >= VMP_GATE_NAME_MAX)
			continue;
		snprintf(names[n], sizeof names[n], "%.63s", e->d_name);
		swap_dots(names[n++], '%', '.');
	}
	closedir(d);
	for (unsigned int i = 0; i < n && !r; i++)
		r = cb(user, names[i]);
	return r;
}
