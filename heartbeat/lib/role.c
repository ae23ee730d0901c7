/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "internal/cleanup.h"
#include "internal/rolepage.h"
#include "vmpair/role.h"

struct vmpair_role_page {
	const struct vmp_rolepage *page;
};

int vmpair_role_open(struct vmpair_role_page **ret, const char *dir, const char *pair)
{
	CLEANUP_FREE struct vmpair_role_page *r = malloc(sizeof(*r));
	CLEANUP_CLOSE int fd = -1;
	char path[512];
	struct stat st;
	void *p;
	int n;

	if (!*pair || *pair == '.' || strchr(pair, '/'))
		return -EINVAL;
	n = snprintf(path, sizeof(path), "%s/%s", dir ? dir : VMPAIR_ROLE_DIR, pair);
	if (n < 0 || (size_t)n >= sizeof(path))
		return -EINVAL;
	if (!r)
		return -ENOMEM;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_size < VMP_ROLEPAGE_SIZE)
		return -EPROTO;
	p = mmap(NULL, VMP_ROLEPAGE_SIZE, PROT_READ, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	r->page = p;
	if (atomic_load(&r->page->magic) != VMP_ROLEPAGE_MAGIC) {
		munmap(p, VMP_ROLEPAGE_SIZE);
		return -EPROTO;
	}
	*ret = TAKE_PTR(r);
	return 0;
}

struct vmpair_role_page *vmpair_role_close(struct vmpair_role_page *r)
{
	if (r) {
		munmap((void *)(uintptr_t)r->page, VMP_ROLEPAGE_SIZE);
		free(r);
	}
	return NULL;
}

int vmpair_role_read(const struct vmpair_role_page *r, struct vmpair_role_info *ret)
{
	const struct vmp_rolepage *p = r->page;
	uint64_t epoch, expiry, now;
	uint32_t seq;
	struct timespec ts;

	do {	/* a writer that was killed in between leaves it odd: the newest value then counts, an expiry is never too late */
		seq = atomic_load(&p->seq);
		epoch = atomic_load(&p->epoch);
		expiry = atomic_load(&p->expiry_ns);
	} while (seq != atomic_load(&p->seq));
	if (atomic_load(&p->magic) != VMP_ROLEPAGE_MAGIC)
		return -ESTALE;
	clock_gettime(CLOCK_BOOTTIME, &ts);	/* after the loads: a reader that was held up sees that */
	now = (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
	ret->epoch = epoch;
	ret->primary = expiry > now;
	ret->left_ns = ret->primary ? expiry - now : 0;
	return 0;
}
