/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From the pair's libvirt XML (the template, the same text on each node) and a slot to the domain XML of one member.
 *
 * A pure function on text: no network, no DTD, no entities, no files. What it does:
 *   name = pair, uuid = the slot's; on_poweroff destroy, on_reboot restart, on_crash preserve (the daemon decides what follows);
 *   x86: a panic device where there is none; a watchdog's action becomes none (for the same reason);
 *   the interface on bridge `entry_nic` (exactly one, with an explicit MAC: the shared entry MAC) becomes
 *     <interface type='ethernet'> on the slot's persistent tap, managed='no': the gate makes that tap;
 *   the interface on the internal bridge gets the slot's MAC and tap name; all others get MACs of their own;
 *   writable file disks become qcow2 overlays DIR/TARGET.qcow2 of the template's file, UEFI variables go to
 * DIR/nvram.fd; writable disks of other types are refused unless <shareable/> or <transient/>; read-only ones stay;
 *   fw_cfg entries opt/org.vmpair/{pair,slot,hostname,machine-id,internal-address,internal-mac,entry,entry-mac} are
 * added to <sysinfo type='fwcfg'>, existing sysinfo is kept (an SMBIOS uuid is made to agree). "entry" is blank
 * separated. Without an entry NIC (entry mode host) all network cards are the guest's own business, and it is told of no entry address.
 * What could carry frames past the gate (SR-IOV, macvtap, vhost-user, PCI passthrough, qemu -netdev) is
 * refused.
 *
 * Errors: -EINVAL (the XML; reason is "NAME:LINE: message (mend)"), -EFBIG, -ENOMEM, file errors from vmp_domxml_read.
 * Any thread after vmp_domxml_init() was called once by the main one.
 */
#ifndef VMP_DOMXML_H
#define VMP_DOMXML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/slot.h"

#define VMP_DOMXML_MAX (1u << 20) /* bytes of a template */
#define VMP_DOMXML_DISKS 16
#define VMP_DIGEST_LEN 32

struct vmp_domxml_params {
	const char *pair;
	const struct vmp_slot *slot;
	const char *entry_nic; /* host bridge of the entry NIC; NULL: the guest carries no entry address (entry mode host) */
	const struct vmp_addr *entry;
	unsigned int n_entry; /* at most VMP_ENTRY_LIST_MAX */
	const struct vmp_internal_net
		*internal;    /* NULL = none; with an empty bridge the only other bridge NIC is meant */
	const char *disk_dir; /* directory of this pair's overlays: absolute path */
	const char *guest_channel; /* NULL, or the socket of the channel to vmpair-guest */
	const char *relay_channel; /* NULL, or the socket of the channel to the relay in the guest */
	const char *relay_keys;    /* and the file with its keys, which the guest finds as fw_cfg entry */
	bool shaping_ok;      /* kernel >= 6.6: <bandwidth><outbound> on the entry NIC does no harm to the gate */
};

struct vmp_domxml_disk {
	char *path;    /* overlay, below disk_dir */
	char *backing; /* the template's file */
	char *format;  /* of the backing file: raw, qcow2... */
};

struct vmp_domxml {
	char *xml; /* for virDomainCreateXML; ends with a NUL */
	uint8_t entry_mac[6];
	bool entry_multi_queue;		/* the entry NIC has several queues: its tap must have IFF_MULTI_QUEUE */
	char internal_bridge[IFNAMSIZ]; /* "" = none */
	bool agent;			/* has a channel for the QEMU guest agent */
	unsigned int n_disks;
	struct vmp_domxml_disk disk[VMP_DOMXML_DISKS];
	char *disk_dir;
	uint8_t digest[VMP_DIGEST_LEN]; /* as vmp_domxml_digest() */
};

void vmp_domxml_init(void);

/* Names of the channels inside the guest: /dev/virtio-ports/NAME. */
#define VMP_DOMXML_RELAY_PORT "org.vmpair.relay.0"
#define VMP_DOMXML_GUEST_PORT "org.vmpair.guest.0"

/*
 * The member's domain XML from `text`; `name` (a file name) stands in messages. *ret_ is freed with vmp_domxml_free().
 * NULL for `ret_` only checks.
 */
int vmp_domxml_build(const char *text, size_t len, const char *name, const struct vmp_domxml_params *params,
		     struct vmp_domxml **ret_, char *reason, size_t reason_size);
struct vmp_domxml *vmp_domxml_free(struct vmp_domxml *d);

/*
 * SHA-256 over the template's normal form (white space, comments, order of attributes, quoting do not matter) and the
 * parameters that must agree on all nodes while the pair runs: pair, entry_nic, internal net. The entry list is not
 * in it: it changes live.
 */
int vmp_domxml_digest(const char *text, size_t len, const char *name, const struct vmp_domxml_params *params,
		      uint8_t ret_[static VMP_DIGEST_LEN], char *reason, size_t reason_size);

/* Reads a template (a regular file of at most VMP_DOMXML_MAX bytes; blocks like any file read). *ret_text: free(). */
int vmp_domxml_read(const char *path, char **ret_text, size_t *ret_len, char *reason, size_t reason_size);

#endif
