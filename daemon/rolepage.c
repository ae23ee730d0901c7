/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/rolepage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "internal/cleanup.h"
#include "internal/rolepage.h"
#include "vmpair/role.h"

int vmp_rolepage_open(struct vmp_rolepage **ret, const char *dir, const char *pair)
{
	CLEANUP_CLOSE int fd = -1;
	struct vmp_rolepage *p;
	char path[512];
	int r;

	dir = dir ? dir : VMPAIR_ROLE_DIR;
	if ((size_t)snprintf(path, sizeof(path), "%s/%s", dir, pair) >= sizeof(path))
		return -ENAMETOOLONG;
	if (mkdir(dir, 0755) < 0 && errno != EEXIST)
		return -errno;
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (fd < 0 || fchmod(fd, 0644) < 0)	/* readable whatever the umask is */
		return -errno;
	r = posix_fallocate(fd, 0, VMP_ROLEPAGE_SIZE);	/* now, so that no store into the mapping can fail */
	if (r != 0)
		return -r;
	p = mmap(NULL, VMP_ROLEPAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	atomic_store(&p->magic, VMP_ROLEPAGE_MAGIC);
	*ret = p;
	return 0;
}

void vmp_rolepage_set(struct vmp_rolepage *p, uint64_t epoch, uint64_t expiry_ns)
{
	uint32_t seq;

	if (!p)
		return;
	seq = atomic_load(&p->seq) | 1;
	atomic_store(&p->seq, seq);
	/* Never a new lease beside an old epoch, whoever reads in between, or for ever when we end here. */
	if (atomic_load(&p->epoch) != epoch) {
		atomic_store(&p->expiry_ns, 0);
		atomic_store(&p->epoch, epoch);
	}
	atomic_store(&p->expiry_ns, expiry_ns);
	atomic_store(&p->seq, seq + 1);
}

struct vmp_rolepage *vmp_rolepage_free(struct vmp_rolepage *p)
{
	if (p)
		munmap(p, VMP_ROLEPAGE_SIZE);
	return NULL;
}

struct vmp_rolepage *vmp_rolepage_remove(struct vmp_rolepage *p, const char *dir, const char *pair)
{
	char path[512];

	if (!p)
		return NULL;
	vmp_rolepage_set(p, atomic_load(&p->epoch), 0);
	atomic_store(&p->magic, 0);
	if ((size_t)snprintf(path, sizeof(path), "%s/%s", dir ? dir : VMPAIR_ROLE_DIR, pair) < sizeof(path))
		unlink(path);
	return vmp_rolepage_free(p);
}
