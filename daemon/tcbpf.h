/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tcbpf: bpf(2) as far as the gate needs it: its map of one word, its program, TCX links, pins. No libbpf, no BTF, no
 * compiler.
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

extern const struct bpf_insn vmp_tcbpf_insns[];
extern const unsigned int vmp_tcbpf_n_insns;

/* What a program or link descriptor names. */
struct vmp_tcbpf_info {
	uint32_t id;
	uint32_t prog_id; /* link: of its program */
	uint32_t map_id;  /* program: of its only map; 0 = none or several */
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

/* log (NULL allowed) gets the verifier's words on failure. */
int vmp_tcbpf_prog_load(int map_fd, const struct bpf_insn *insns, unsigned int n, char *log, size_t log_len);
int vmp_tcbpf_prog_info(int prog_fd, struct vmp_tcbpf_info *ret);

/* TCX, in front of whatever is attached. -EINVAL on a kernel without TCX. */
int vmp_tcbpf_link_new(int prog_fd, int ifindex, bool egress);
int vmp_tcbpf_link_info(int link_fd, struct vmp_tcbpf_info *ret);
int vmp_tcbpf_link_detach(int link_fd);
/* id of the program that runs first at that side's TCX hook, 0 = none */
int vmp_tcbpf_tcx_first(int ifindex, bool egress, uint32_t *ret_prog_id);
bool vmp_tcbpf_has_tcx(int prog_fd);

int vmp_tcbpf_pin(int fd, const char *path);
int vmp_tcbpf_get(const char *path); /* descriptor of a pinned object */

#endif
