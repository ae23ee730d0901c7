/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tcbpf: bpf(2) as far as the gate needs it: its map of one word, its programs, the map of a host's gated addresses, TCX links, pins. No
 * libbpf, no BTF, no compiler.
 *
 * Errors: negative errno of the kernel. Descriptors are close-on-exec and belong to the caller. Thread safe (no state).
 * Loading, pinning and reading a map take no lock that others hold for long; attaching and querying an interface takes
 * rtnl.
 */
#ifndef VMP_TCBPF_H
#define VMP_TCBPF_H

#include <linux/bpf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VMP_TCBPF_TAG 8

/* A program as it is shipped: vmp_tcbpf_prog_load() fills in its maps. */
struct vmp_tcbpf_code {
	const struct bpf_insn *insns;
	unsigned int n;
	const char *name;
	bool addrs; /* looks addresses up in a map of vmp_tcbpf_addrs_new() */
};

extern const struct vmp_tcbpf_code vmp_tcbpf_port;    /* everything, both ways: a guest's tap */
extern const struct vmp_tcbpf_code vmp_tcbpf_host[2]; /* addresses of the host itself: the way in, the way out */

/* What a program or link descriptor names. */
struct vmp_tcbpf_info {
	uint32_t id;
	uint32_t prog_id; /* link: of its program */
	uint32_t map_id[2]; /* program: of its maps, 0 = none; both 0 when there are more */
	uint32_t ifindex; /* link: 0 = its interface is gone, or it was detached */
	uint8_t tag[VMP_TCBPF_TAG];
};

int vmp_tcbpf_map_new(void); /* array of one u64, mmapable, value 0 */
int vmp_tcbpf_map_get(int map_fd, uint64_t *ret);
int vmp_tcbpf_map_set(int map_fd, uint64_t value);
uint64_t *vmp_tcbpf_map_mmap(int map_fd); /* NULL and errno; undone by vmp_tcbpf_map_munmap */
void vmp_tcbpf_map_munmap(uint64_t *word);
int vmp_tcbpf_map_id(int map_fd, uint32_t *ret);
bool vmp_tcbpf_map_fits(int map_fd); /* is it a map as map_new makes it? */

/*
 * Set of addresses, IPv4 as ::ffff:a.b.c.d, each with a number for the caller's use (its prefix length). next: the key that follows
 * `prev` (NULL: the first); -ENOENT after the last.
 */
#define VMP_TCBPF_ADDRS 16
int vmp_tcbpf_addrs_new(void);
int vmp_tcbpf_addrs_set(int addrs_fd, const uint8_t addr[16], uint32_t value);
int vmp_tcbpf_addrs_del(int addrs_fd, const uint8_t addr[16]);
int vmp_tcbpf_addrs_next(int addrs_fd, const uint8_t prev[16], uint8_t ret_addr[16], uint32_t *ret_value);
bool vmp_tcbpf_addrs_fits(int addrs_fd);

/* addrs_fd: -1 where the code needs none. log (NULL allowed) gets the verifier's words on failure. */
int vmp_tcbpf_prog_load(const struct vmp_tcbpf_code *code, int map_fd, int addrs_fd, char *log, size_t log_len);
int vmp_tcbpf_prog_info(int prog_fd, struct vmp_tcbpf_info *ret);

/* TCX, in front of whatever is attached. -EINVAL on a kernel without TCX. */
int vmp_tcbpf_link_new(int prog_fd, int ifindex, bool egress);
int vmp_tcbpf_link_info(int link_fd, struct vmp_tcbpf_info *ret);
int vmp_tcbpf_link_detach(int link_fd);
/* ids of the programs at that side's TCX hook, in the order in which they run; their number, at most max */
int vmp_tcbpf_tcx_list(int ifindex, bool egress, uint32_t *ret_ids, unsigned int max);
bool vmp_tcbpf_has_tcx(int prog_fd);

int vmp_tcbpf_pin(int fd, const char *path);
int vmp_tcbpf_get(const char *path); /* descriptor of a pinned object */

#endif
