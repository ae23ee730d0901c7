/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/facts.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/addr.h"
#include "daemon/pairparam.h"
#include "daemon/proc.h"
#include "internal/cleanup.h"

#define FACTS_VERSION 1
#define FACTS_MAX (64 * 1024)

static const char *const told_names[] = {
	[VMP_TOLD_UNKNOWN] = "unknown", [VMP_TOLD_STOPPED] = "stopped", [VMP_TOLD_UNPROMOTED] = "unpromoted", [VMP_TOLD_PROMOTED] = "promoted",
};

static void json_p(json_t **j)
{
	json_decref(*j);
}
#define CLEANUP_JSON __attribute__((cleanup(json_p)))

static int boot_id(char buf[static 40])
{
	CLEANUP_CLOSE int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ssize_t n = read(fd, buf, 39);
	if (n < 0)
		return -errno;
	buf[n] = '\0';
	buf[strcspn(buf, "\n")] = '\0';
	return 0;
}

static int facts_path(char *buf, size_t size, const char *dir, const char *pair, const char *suffix)
{
	if (!vmp_pair_name_valid(pair))
		return -EINVAL;
	int n = snprintf(buf, size, "%s/%s%s", dir ? dir : VMP_FACTS_DIR, pair, suffix);
	return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

int vmp_facts_write(const char *dir, const struct vmp_facts *f)
{
	char path[512], tmp[512], boot[40], mac[VMP_ADDR_STRLEN];
	int rc = facts_path(path, sizeof(path), dir, f->pair, ".json");
	if (rc < 0 || (rc = facts_path(tmp, sizeof(tmp), dir, f->pair, ".new")) < 0 || (rc = boot_id(boot)) < 0)
		return rc;
	CLEANUP_JSON json_t *obj = json_pack("{s:i s:s s:s s:s s:i s:I s:I s:b s:I s:s s:O* s:i s:I s:I s:I s:s s:s* s:b}", "v", FACTS_VERSION, "boot", boot, "pair", f->pair,
		"rsc", f->rsc, "pid", (int)f->pid, "start_time", (json_int_t)f->start_time, "member", (json_int_t)f->member, "primary", (int)f->primary,
		"epoch", (json_int_t)f->epoch, "told", told_names[f->told], "params", f->params, "relay_pid", (int)f->relay_pid, "relay_start",
		(json_int_t)f->relay_start, "relay_instance", (json_int_t)f->relay_instance, "relay_number", (json_int_t)f->relay_number,
		"vrrp", f->vrrp, "entry_mac", f->has_nic ? vmp_mac_str(f->entry_mac, mac) : NULL, "entry_multi_queue", (int)f->entry_multi_queue);
	CLEANUP_FREE char *text = obj ? json_dumps(obj, JSON_INDENT(1)) : NULL;
	if (!text)
		return -ENOMEM;

	if (mkdir(dir ? dir : VMP_FACTS_DIR, 0700) < 0 && errno != EEXIST)
		return -errno;
	CLEANUP_CLOSE int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	size_t len = strlen(text);
	ssize_t n = write(fd, text, len);
	if (n < 0 || (size_t)n != len) {
		rc = n < 0 ? -errno : -ENOSPC;
		unlink(tmp);
		return rc;
	}
	if (rename(tmp, path) < 0) {
		rc = -errno;
		unlink(tmp);
		return rc;
	}
	return 0;
}

static int read_all(const char *path, char **ret, size_t *ret_len)
{
	CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return -errno;
	CLEANUP_FREE char *buf = malloc(FACTS_MAX);
	if (!buf)
		return -ENOMEM;
	size_t len = 0;
	for (;;) {
		ssize_t n = read(fd, buf + len, FACTS_MAX - len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		len += (size_t)n;
		if (len == FACTS_MAX)
			return -EBADMSG;
	}
	*ret = TAKE_PTR(buf);
	*ret_len = len;
	return 0;
}

int vmp_facts_read(const char *dir, const char *pair, struct vmp_facts *ret)
{
	char path[512], boot[40];
	CLEANUP_FREE char *text = NULL;
	size_t len = 0;
	int rc = facts_path(path, sizeof(path), dir, pair, ".json");
	if (rc < 0 || (rc = read_all(path, &text, &len)) < 0 || (rc = boot_id(boot)) < 0)
		return rc;
	CLEANUP_JSON json_t *obj = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	const char *was_boot, *name, *rsc, *told, *vrrp = "", *mac = NULL;
	json_t *params;
	json_int_t start_time, member, epoch, relay_start = 0, relay_instance = 0, relay_number = 0;
	int version, pid, primary, relay_pid = 0, multi_queue = 0;
	if (!obj || json_unpack(obj, "{s:i s:s s:s s:s s:i s:I s:I s:b s:I s:s s:o s?i s?I s?I s?I s?s s?s s?b}", "v", &version, "boot", &was_boot, "pair", &name,
				"rsc", &rsc, "pid", &pid, "start_time", &start_time, "member", &member, "primary", &primary, "epoch", &epoch,
				"told", &told, "params", &params, "relay_pid", &relay_pid, "relay_start", &relay_start, "relay_instance",
				&relay_instance, "relay_number", &relay_number, "vrrp", &vrrp, "entry_mac", &mac, "entry_multi_queue", &multi_queue) < 0)
		return -EBADMSG;
	if (version != FACTS_VERSION || strcmp(name, pair) || strlen(rsc) >= sizeof(ret->rsc) || pid < 0 || start_time < 0 || epoch < 0 ||
	    !json_is_object(params))
		return -EBADMSG;
	if (strcmp(boot, was_boot))
		return -ESTALE;
	struct vmp_facts f = {.pid = pid, .start_time = (uint64_t)start_time, .member = (uint64_t)member, .primary = primary, .epoch = (uint64_t)epoch,
			      .relay_pid = relay_pid, .relay_start = (uint64_t)relay_start, .relay_instance = (uint32_t)relay_instance,
			      .relay_number = (uint64_t)relay_number};
	unsigned t = 0;
	while (t < ARRAY_SIZE(told_names) && strcmp(told, told_names[t]))
		t++;
	if (t == ARRAY_SIZE(told_names))
		return -EBADMSG;
	f.told = (enum vmp_told)t;
	f.has_nic = mac && vmp_mac_parse(mac, f.entry_mac) == 0;
	f.entry_multi_queue = multi_queue;
	snprintf(f.pair, sizeof(f.pair), "%s", name);
	snprintf(f.rsc, sizeof(f.rsc), "%s", rsc);
	snprintf(f.vrrp, sizeof(f.vrrp), "%s", vrrp);
	f.params = json_incref(params);
	*ret = f;
	return 0;
}

int vmp_facts_remove(const char *dir, const char *pair)
{
	char path[512];
	int rc = facts_path(path, sizeof(path), dir, pair, ".json");
	if (rc < 0)
		return rc;
	return unlink(path) < 0 && errno != ENOENT ? -errno : 0;
}

static void closedir_p(DIR **d)
{
	if (*d)
		closedir(*d);
}

int vmp_facts_each(const char *dir, int (*fn)(const struct vmp_facts *f, void *data), void *data)
{
	__attribute__((cleanup(closedir_p))) DIR *d = opendir(dir ? dir : VMP_FACTS_DIR);
	if (!d)
		return errno == ENOENT ? 0 : -errno;
	const struct dirent *e;
	while ((e = readdir(d))) {
		char pair[64];
		size_t len = strlen(e->d_name);
		if (len <= 5 || len - 5 >= sizeof(pair) || strcmp(e->d_name + len - 5, ".json"))
			continue;
		memcpy(pair, e->d_name, len - 5);
		pair[len - 5] = '\0';
		struct vmp_facts f;
		if (vmp_facts_read(dir, pair, &f) < 0)
			continue;
		int rc = fn(&f, data);
		vmp_facts_done(&f);
		if (rc)
			return rc;
	}
	return 0;
}

void vmp_facts_done(struct vmp_facts *f)
{
	json_decref(f->params);
	memset(f, 0, sizeof(*f));
}

int vmp_facts_vm_running(const struct vmp_facts *f)
{
	CLEANUP_CLOSE int fd = -1;
	uint64_t start = f->start_time;
	if (f->pid <= 0 || start == 0)
		return 0;
	int rc = vmp_proc_open(f->pid, &start, &fd);
	return rc == -ESRCH ? 0 : rc < 0 ? rc : 1;
}
