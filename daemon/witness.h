/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A voter outside the cluster. Two hosts and any third machine that runs `vmpaird --witness` are three voters, so the loss of a host is
 * decided by its leases. A witness knows no VM, Pacemaker, libvirt or Corosync; who it is and who its hosts are it has from vmpaird.conf, and
 * the hosts know it from there. It hears and answers over the daemons' UDP only: nothing of CPG reaches it.
 */
#ifndef VMP_WITNESS_H
#define VMP_WITNESS_H

#include "daemon/daemon.h"

/* On a host: the configured witness joins the nodes that corosync named. Says in the log why it cannot. */
void vmp_witness_join(struct vmp_daemon *d);
/* On the witness: the nodes from vmpaird.conf, then the core. 0 or -errno; told in the log. */
int vmp_witness_start(struct vmp_daemon *d);
/* The configuration was read again. */
void vmp_witness_reload(struct vmp_daemon *d);
/* For vmpair status: what is wrong about the witness, and what the loss of voters has made impossible. */
void vmp_witness_problems(struct vmp_daemon *d, const struct vmp_node_view *nv, json_t *problems);

#endif
