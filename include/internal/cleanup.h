/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Scope-bound cleanup (GCC and clang __attribute__((cleanup))). A cleaned pointer or descriptor is given away with TAKE. */
#ifndef VMP_INTERNAL_CLEANUP_H
#define VMP_INTERNAL_CLEANUP_H

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static inline void vmp_free_p(void *p)
{
	free(*(void **)p);
}

static inline void vmp_close_p(const int *fd)
{
	if (*fd >= 0) {
		int saved = errno;
		close(*fd);
		errno = saved;
	}
}

#define CLEANUP_FREE __attribute__((cleanup(vmp_free_p)))
#define CLEANUP_CLOSE __attribute__((cleanup(vmp_close_p)))

/* Give a cleaned pointer (or descriptor) to the caller: evaluates to its value and disarms the cleanup. */
#define TAKE_PTR(p) ({ __typeof__(p) taken_ = (p); (p) = NULL; taken_; })
#define TAKE_FD(fd) ({ int taken_ = (fd); (fd) = -1; taken_; })

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#endif
