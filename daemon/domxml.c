/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/domxml.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <libxml/parser.h>
#include <libxml/tree.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "internal/cleanup.h"

#define QEMU_NS "http://libvirt.org/schemas/domain/qemu/1.0"
#define FWCFG "opt/org.vmpair/"
#define QUEUES_MAX 256

struct ctx {
	const char *name;
	const struct vmp_domxml_params *par;
	char *reason;
	size_t reason_size;
	xmlDocPtr doc;
	xmlNodePtr root, devices;
	struct vmp_domxml *out;
};

static void free_doc(xmlDocPtr *doc)
{
	if (*doc)
		xmlFreeDoc(*doc);
}

static void free_xml(xmlChar **s)
{
	if (*s)
		xmlFree(*s);
}

#define CLEANUP_DOC __attribute__((cleanup(free_doc)))
#define CLEANUP_XML __attribute__((cleanup(free_xml)))

void vmp_domxml_init(void)
{
	LIBXML_TEST_VERSION
	xmlInitParser();
}

/* --- messages ------------------------------------------------------------- */

__attribute__((format(printf, 3, 4))) static int bad(struct ctx *c, xmlNodePtr at, const char *fmt, ...)
{
	char text[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	snprintf(c->reason, c->reason_size, "%s:%ld: %s", c->name, at ? xmlGetLineNo(at) : 1, text);
	return -EINVAL;
}

static int no_memory(struct ctx *c)
{
	snprintf(c->reason, c->reason_size, "%s: out of memory", c->name);
	return -ENOMEM;
}

/* --- reading the tree -------------------------------------------------------- */

static bool is(xmlNodePtr n, const char *name)
{
	return n->type == XML_ELEMENT_NODE && !n->ns && !xmlStrcmp(n->name, (const xmlChar *)name);
}

static xmlNodePtr next_named(xmlNodePtr n, const char *name)
{
	while (n && !is(n, name))
		n = n->next;
	return n;
}

static xmlNodePtr child(xmlNodePtr parent, const char *name)
{
	return next_named(parent->children, name);
}

/* Copy of an attribute's value in `buf`; false when it is absent, or longer than any value that means something here.
 */
static bool attr(xmlNodePtr n, const char *name, char *buf, size_t size)
{
	CLEANUP_XML xmlChar *v = xmlGetNoNsProp(n, (const xmlChar *)name);

	buf[0] = '\0';
	if (!v || xmlStrlen(v) >= (int)size)
		return false;
	memcpy(buf, v, (size_t)xmlStrlen(v) + 1);
	return true;
}

static bool attr_is(xmlNodePtr n, const char *name, const char *value)
{
	char buf[64];

	return attr(n, name, buf, sizeof(buf)) && !strcmp(buf, value);
}

/* --- changing it: every function returns false when memory is out ------------- */

static void drop(xmlNodePtr n)
{
	xmlUnlinkNode(n);
	xmlFreeNode(n);
}

static void drop_children(xmlNodePtr parent, const char *name)
{
	xmlNodePtr n;

	while ((n = child(parent, name)))
		drop(n);
}

static bool set_attr(xmlNodePtr n, const char *name, const char *value)
{
	return n && xmlSetProp(n, (const xmlChar *)name, (const xmlChar *)value);
}

static xmlNodePtr add(xmlNodePtr parent, const char *name, const char *text)
{
	return xmlNewTextChild(parent, NULL, (const xmlChar *)name, (const xmlChar *)text);
}

/* The only child of that name, with this text; it takes the place of the first one there was. */
static bool set_text(xmlNodePtr parent, const char *name, const char *text)
{
	xmlNodePtr old = child(parent, name), n;

	n = xmlNewDocNode(parent->doc, NULL, (const xmlChar *)name, NULL);
	if (!n)
		return false;
	xmlNodeAddContent(n, (const xmlChar *)text);
	if (old) {
		xmlReplaceNode(old, n);
		xmlFreeNode(old);
		for (xmlNodePtr more; (more = next_named(n->next, name));)
			drop(more);
		return true;
	}
	if (parent->children)
		return xmlAddPrevSibling(parent->children, n) != NULL;
	return xmlAddChild(parent, n) != NULL;
}

/* --- parsing -------------------------------------------------------------------- */

struct parse_state {
	bool dtd;
	int line; /* of the first error; 0 = none */
	char what[160];
};

static void refuse_dtd(void *data, const xmlChar *name, const xmlChar *external, const xmlChar *system)
{
	xmlParserCtxtPtr pc = data;
	struct parse_state *st = pc->_private;

	(void)name;
	(void)external;
	(void)system;
	st->dtd = true;
	st->line = pc->input ? pc->input->line : 1;
	snprintf(st->what, sizeof(st->what), "a DOCTYPE is not allowed (remove it)");
	xmlStopParser(pc);
}

/* The first error is the cause; what follows it are consequences. */
#if LIBXML_VERSION >= 21200
static void keep_first_error(void *data, const xmlError *e)
#else
static void keep_first_error(void *data, xmlErrorPtr e)
#endif
{
	struct parse_state *st = ((xmlParserCtxtPtr)data)->_private;
	size_t n;

	if (st->line || e->level < XML_ERR_ERROR)
		return;
	st->line = e->line > 0 ? e->line : 1;
	snprintf(st->what, sizeof(st->what), "%s", e->message ? e->message : "not XML");
	for (n = strlen(st->what); n > 0 && isspace((unsigned char)st->what[n - 1]); n--)
		st->what[n - 1] = '\0';
}

static int parse(struct ctx *c, const char *text, size_t len, xmlDocPtr *ret_)
{
	struct parse_state st = { 0 };
	xmlParserCtxtPtr pc;
	xmlDocPtr doc;

	if (len > VMP_DOMXML_MAX) {
		snprintf(c->reason, c->reason_size, "%s: larger than %u bytes: this is no libvirt domain XML", c->name,
			 VMP_DOMXML_MAX);
		return -EFBIG;
	}
	pc = xmlNewParserCtxt();
	if (!pc)
		return no_memory(c);
	/* A DTD could bring entities: nothing of it is looked at. */
	pc->_private = &st;
	pc->sax->internalSubset = refuse_dtd;
	pc->sax->serror = keep_first_error;
	doc = xmlCtxtReadMemory(pc, text, (int)len, NULL, NULL,
				XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING | XML_PARSE_NOBLANKS |
					XML_PARSE_NOCDATA | XML_PARSE_BIG_LINES);
	xmlFreeParserCtxt(pc);
	if (doc && !st.dtd) {
		*ret_ = doc;
		return 0;
	}
	xmlFreeDoc(doc);
	snprintf(c->reason, c->reason_size, "%s:%d: %s", c->name, st.line ? st.line : 1, st.line ? st.what : "not XML");
	return -EINVAL;
}

/* --- digest ------------------------------------------------------------------------ */

/* Each item is fed as kind, length, bytes: no two different trees give the same stream. */
static void feed(gnutls_hash_hd_t h, char kind, const void *data, size_t len)
{
	uint8_t head[5] = { (uint8_t)kind, (uint8_t)len, (uint8_t)(len >> 8), (uint8_t)(len >> 16),
			    (uint8_t)(len >> 24) };

	gnutls_hash(h, head, sizeof(head));
	if (len)
		gnutls_hash(h, data, len);
}

static void feed_str(gnutls_hash_hd_t h, char kind, const void *s)
{
	feed(h, kind, s ? s : "", s ? strlen(s) : 0);
}

static int attr_order(const void *a, const void *b)
{
	const xmlAttr *x = *(xmlAttr *const *)a, *y = *(xmlAttr *const *)b;
	int d = xmlStrcmp(x->ns ? x->ns->href : NULL, y->ns ? y->ns->href : NULL);

	return d ? d : xmlStrcmp(x->name, y->name);
}

static void feed_text(gnutls_hash_hd_t h, xmlBufferPtr text)
{
	const char *s = (const char *)xmlBufferContent(text);
	size_t len = (size_t)xmlBufferLength(text);

	while (len > 0 && isspace((unsigned char)s[0])) {
		s++;
		len--;
	}
	while (len > 0 && isspace((unsigned char)s[len - 1]))
		len--;
	if (len > 0)
		feed(h, 'T', s, len);
	xmlBufferEmpty(text);
}

static bool feed_tree(gnutls_hash_hd_t h, xmlNodePtr n)
{
	CLEANUP_FREE xmlAttr **attrs = NULL;
	xmlBufferPtr text;
	size_t count = 0;
	bool ok = true;

	for (xmlAttr *a = n->properties; a; a = a->next)
		count++;
	attrs = calloc(count + 1, sizeof(*attrs));
	text = xmlBufferCreate();
	if (!attrs || !text) {
		if (text)
			xmlBufferFree(text);
		return false;
	}
	count = 0;
	for (xmlAttr *a = n->properties; a; a = a->next)
		attrs[count++] = a;
	qsort(attrs, count, sizeof(*attrs), attr_order);

	feed_str(h, 'N', n->ns ? n->ns->href : NULL);
	feed_str(h, 'E', n->name);
	for (size_t i = 0; i < count; i++) {
		CLEANUP_XML xmlChar *v = xmlNodeListGetString(n->doc, attrs[i]->children, 1);

		feed_str(h, 'n', attrs[i]->ns ? attrs[i]->ns->href : NULL);
		feed_str(h, 'A', attrs[i]->name);
		feed_str(h, 'V', v);
	}
	for (xmlNodePtr k = n->children; k && ok; k = k->next) {
		if (k->type == XML_ELEMENT_NODE) {
			feed_text(h, text);
			ok = feed_tree(h, k);
		} else if (k->type == XML_TEXT_NODE || k->type == XML_CDATA_SECTION_NODE) {
			ok = xmlBufferCat(text, k->content) == 0;
		}
	}
	feed_text(h, text);
	feed(h, 'X', NULL, 0);
	xmlBufferFree(text);
	return ok;
}

static int digest(struct ctx *c, uint8_t ret_[static VMP_DIGEST_LEN])
{
	const struct vmp_domxml_params *p = c->par;
	char buf[VMP_ADDR_STRLEN];
	gnutls_hash_hd_t h;
	bool ok;

	if (gnutls_hash_init(&h, GNUTLS_DIG_SHA256) < 0)
		return no_memory(c);
	feed_str(h, 'v', "vmpair-domain-1");
	feed_str(h, 'p', p->pair);
	feed_str(h, 'p', p->entry_nic ? p->entry_nic : "");
	feed_str(h, 'p', p->internal ? vmp_addr_str(&p->internal->net, true, buf) : "");
	feed_str(h, 'p', p->internal ? p->internal->bridge : "");
	ok = feed_tree(h, c->root);
	gnutls_hash_deinit(h, ret_);
	return ok ? 0 : no_memory(c);
}

/* --- the parts of a domain -------------------------------------------------------------- */

static int open_domain(struct ctx *c)
{
	char type[32];

	c->root = xmlDocGetRootElement(c->doc);
	if (!c->root || !is(c->root, "domain"))
		return bad(c, c->root, "the root element is not <domain>");
	if (!attr(c->root, "type", type, sizeof(type)) || type[0] == '\0')
		return bad(c, c->root, "<domain> has no type (such as type='kvm')");
	c->devices = child(c->root, "devices");
	if (!c->devices)
		return bad(c, c->root, "there is no <devices>");
	if (next_named(c->devices->next, "devices"))
		return bad(c, next_named(c->devices->next, "devices"), "there is a second <devices> (join them)");
	return 0;
}

static int refuse_bypasses(struct ctx *c)
{
	for (xmlNodePtr n = child(c->devices, "hostdev"); n; n = next_named(n->next, "hostdev"))
		if (attr_is(n, "type", "pci") || attr_is(n, "type", "net"))
			return bad(c, n,
				   "a host device of type pci or net is refused: a network card in the guest's hands "
				   "by-passes the gate");
	for (xmlNodePtr n = c->root->children; n; n = n->next) {
		if (n->type != XML_ELEMENT_NODE || !n->ns || xmlStrcmp(n->ns->href, (const xmlChar *)QEMU_NS) != 0)
			continue;
		for (xmlNodePtr a = n->children; a; a = a->next) {
			char value[64];

			if (a->type != XML_ELEMENT_NODE || !attr(a, "value", value, sizeof(value)))
				continue;
			if (!strcmp(value, "-netdev") || !strcmp(value, "-nic") || !strcmp(value, "-net"))
				return bad(c, a,
					   "qemu argument %s is refused: such a network card by-passes the gate (use "
					   "<interface>)",
					   value);
		}
	}
	return 0;
}

static int set_mac(struct ctx *c, xmlNodePtr nic, const uint8_t mac[static 6])
{
	char text[18];
	xmlNodePtr n = child(nic, "mac");

	if (!n)
		n = add(nic, "mac", NULL);
	return set_attr(n, "address", vmp_mac_str(mac, text)) ? 0 : no_memory(c);
}

static int set_target(struct ctx *c, xmlNodePtr nic, const char *dev, bool managed)
{
	xmlNodePtr n;

	drop_children(nic, "target");
	n = add(nic, "target", NULL);
	if (!set_attr(n, "dev", dev) || (!managed && !set_attr(n, "managed", "no")))
		return no_memory(c);
	return 0;
}

static int make_entry_nic(struct ctx *c, xmlNodePtr nic)
{
	/* What libvirt does when it puts a tap into a bridge; here it does not. */
	static const char *const bridge_only[] = { "virtualport", "vlan", "port" };
	xmlNodePtr n;
	char text[64];

	n = child(nic, "mac");
	if (!n || !attr(n, "address", text, sizeof(text)))
		return bad(c, nic,
			   "the entry NIC has no <mac address='...'/> (both members share it: it must be given)");
	if (vmp_mac_parse(text, c->out->entry_mac) < 0)
		return bad(c, n, "'%s' is not a unicast MAC address", text);
	for (size_t i = 0; i < ARRAY_SIZE(bridge_only); i++)
		if ((n = child(nic, bridge_only[i])))
			return bad(c, n,
				   "<%s> on the entry NIC is refused: the entry gate needs a plain port of a Linux "
				   "bridge",
				   bridge_only[i]);
	n = child(nic, "bandwidth");
	if (n && child(n, "outbound") && !c->par->shaping_ok)
		return bad(c, child(n, "outbound"),
			   "<outbound> bandwidth on the entry NIC excludes the entry gate on kernels before 6.6 "
			   "(remove it; <inbound> is fine)");
	n = child(nic, "driver");
	if (n && attr(n, "queues", text, sizeof(text))) {
		long queues = strtol(text, NULL, 10);

		if (queues < 1 || queues > QUEUES_MAX)
			return bad(c, n, "queues='%s' is not in 1..%d", text, QUEUES_MAX);
		c->out->entry_multi_queue = queues > 1;
	}
	drop_children(nic, "source");
	drop_children(nic, "script");
	drop_children(nic, "downscript");
	drop_children(nic, "backend");
	if (!set_attr(nic, "type", "ethernet"))
		return no_memory(c);
	return set_target(c, nic, c->par->slot->entry_tap, false);
}

static int make_nics(struct ctx *c)
{
	const struct vmp_domxml_params *p = c->par;
	const char *internal_bridge = p->internal ? p->internal->bridge : "";
	xmlNodePtr entry = NULL, internal = NULL, n, next;
	unsigned int others = 0;
	uint8_t mac[6];
	int rc;

	if (p->internal && p->entry_nic && !strcmp(internal_bridge, p->entry_nic))
		return bad(c, c->devices, "the internal net is on the entry bridge '%s' (give it a bridge of its own)",
			   p->entry_nic);
	for (n = child(c->devices, "interface"); n; n = next_named(n->next, "interface")) {
		xmlNodePtr source = child(n, "source");
		char type[32], bridge[64];

		if (!attr(n, "type", type, sizeof(type)))
			return bad(c, n, "<interface> has no type");
		if (p->entry_nic && !strcmp(type, "direct"))
			return bad(c, n,
				   "macvtap (<interface type='direct'>) is refused: it by-passes the entry gate (use "
				   "type='bridge')");
		if (p->entry_nic && (!strcmp(type, "hostdev") || !strcmp(type, "vdpa") || !strcmp(type, "vhostuser")))
			return bad(c, n,
				   "<interface type='%s'> is refused: it by-passes the entry gate (use type='bridge')",
				   type);
		if (strcmp(type, "bridge") != 0 || !source || !attr(source, "bridge", bridge, sizeof(bridge)))
			continue;
		if (p->entry_nic && !strcmp(bridge, p->entry_nic)) {
			if (entry)
				return bad(c, n,
					   "a second interface on the entry bridge '%s' (the first is in line %ld)",
					   bridge, xmlGetLineNo(entry));
			entry = n;
		} else if (p->internal && (internal_bridge[0] == '\0' || !strcmp(bridge, internal_bridge))) {
			if (internal && internal_bridge[0] != '\0')
				return bad(c, n,
					   "a second interface on the internal bridge '%s' (the first is in line %ld)",
					   bridge, xmlGetLineNo(internal));
			if (internal)
				return bad(c, n,
					   "two interfaces could be the internal one, here and in line %ld (say which: "
					   "internal_net=%s)",
					   xmlGetLineNo(internal), "PREFIX@BRIDGE");
			internal = n;
			snprintf(c->out->internal_bridge, sizeof(c->out->internal_bridge), "%.*s", IFNAMSIZ - 1,
				 bridge);
		}
	}
	if (!entry && p->entry_nic)
		return bad(c, c->devices,
			   "no <interface type='bridge'> has <source bridge='%s'/>, the pair's entry_nic",
			   p->entry_nic);
	if (p->internal && !internal && internal_bridge[0] != '\0')
		return bad(c, c->devices,
			   "no <interface type='bridge'> has <source bridge='%s'/>, the bridge of internal_net",
			   internal_bridge);
	if (p->internal && !internal)
		return bad(c, c->devices,
			   "no <interface type='bridge'>%s could be on the internal net",
			   p->entry_nic ? " besides the entry NIC" : "");

	for (n = child(c->devices, "interface"); n; n = next) {
		next = next_named(n->next, "interface");
		if (n == entry) {
			rc = make_entry_nic(c, n);
			if (rc < 0)
				return rc;
			continue;
		}
		if (n == internal) {
			memcpy(mac, p->slot->internal_mac, sizeof(mac));
			rc = set_target(c, n, p->slot->internal_tap, true);
			if (rc < 0)
				return rc;
		} else {
			/* One MAC in two guests would be heard twice on that net. */
			vmp_slot_mac(p->pair, p->slot->node_id, ++others, mac);
		}
		rc = set_mac(c, n, mac);
		if (rc < 0)
			return rc;
	}
	for (unsigned int i = 0; entry && i <= others; i++) {
		vmp_slot_mac(p->pair, p->slot->node_id, i, mac);
		if (!memcmp(mac, c->out->entry_mac, sizeof(mac)))
			return bad(c, entry,
				   "the entry MAC is one vmpair gives to other NICs (choose another, such as "
				   "52:54:00:...)");
	}
	return 0;
}

static bool token_ok(const char *s)
{
	size_t len = strlen(s);

	return len > 0 && len <= 15 && strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789") == len;
}

static int make_overlay(struct ctx *c, xmlNodePtr disk)
{
	xmlNodePtr source = child(disk, "source"), target = child(disk, "target"), driver = child(disk, "driver"), n;
	char file[1024], dev[32], format[32] = "raw", path[1200];
	struct vmp_domxml_disk *d;

	if (!source || !attr(source, "file", file, sizeof(file)) || file[0] != '/')
		return bad(c, disk, "the disk has no <source file='/...'/> with an absolute path");
	if (!target || !attr(target, "dev", dev, sizeof(dev)) || !token_ok(dev))
		return bad(c, disk, "the disk has no <target dev='...'/> such as vda");
	if ((n = child(disk, "encryption")) || (n = child(source, "encryption")) || (n = child(source, "slices")))
		return bad(c, n, "<%s> is not supported on a writable disk: its content is cloned by an overlay",
			   n->name);
	if (driver && xmlHasProp(driver, (const xmlChar *)"type") &&
	    (!attr(driver, "type", format, sizeof(format)) || !token_ok(format)))
		return bad(c, driver, "the disk's driver type is not the name of an image format");
	for (unsigned int i = 0; i < c->out->n_disks; i++) {
		const char *base = strrchr(c->out->disk[i].path, '/') + 1;

		if (!strncmp(base, dev, strlen(dev)) && !strcmp(base + strlen(dev), ".qcow2"))
			return bad(c, target, "a second disk with target dev='%s'", dev);
	}
	if (c->out->n_disks == VMP_DOMXML_DISKS)
		return bad(c, disk, "more than %d writable disks", VMP_DOMXML_DISKS);
	if (snprintf(path, sizeof(path), "%s/%s.qcow2", c->par->disk_dir, dev) >= (int)sizeof(path))
		return bad(c, disk, "the path of the overlay is too long");

	d = &c->out->disk[c->out->n_disks++];
	d->path = strdup(path);
	d->backing = strdup(file);
	d->format = strdup(format);
	if (!d->path || !d->backing || !d->format)
		return no_memory(c);

	drop_children(disk, "backingStore"); /* libvirt reads the chain from the overlay */
	drop_children(disk, "mirror");
	if (!driver)
		driver = add(disk, "driver", NULL);
	if (!set_attr(driver, "name", "qemu") || !set_attr(driver, "type", "qcow2"))
		return no_memory(c);
	n = xmlNewDocNode(c->doc, NULL, (const xmlChar *)"source", NULL);
	if (!n)
		return no_memory(c);
	xmlReplaceNode(source, n);
	xmlFreeNode(source);
	return set_attr(n, "file", path) ? 0 : no_memory(c);
}

static int make_disks(struct ctx *c)
{
	for (xmlNodePtr n = child(c->devices, "disk"); n; n = next_named(n->next, "disk")) {
		char type[32], device[32];
		int rc;

		if (!attr(n, "type", type, sizeof(type)))
			snprintf(type, sizeof(type), "file");
		if (!attr(n, "device", device, sizeof(device)))
			snprintf(device, sizeof(device), "disk");
		if (!strcmp(device, "cdrom") || child(n, "readonly") || child(n, "shareable") || child(n, "transient"))
			continue;
		if (strcmp(type, "file") != 0)
			return bad(c, n,
				   "a writable disk of type '%s' would be written by both members (make it "
				   "<readonly/>, or type='file')",
				   type);
		rc = make_overlay(c, n);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int make_firmware(struct ctx *c)
{
	xmlNodePtr os = child(c->root, "os"), loader = os ? child(os, "loader") : NULL,
		   nvram = os ? child(os, "nvram") : NULL;
	char path[1200], template[1024];
	bool has_template;

	if (!os || !(nvram || attr_is(os, "firmware", "efi") || (loader && attr_is(loader, "type", "pflash"))))
		return 0;
	if (loader && attr_is(loader, "stateless", "yes"))
		return 0;
	if (nvram && xmlHasProp(nvram, (const xmlChar *)"type") && !attr_is(nvram, "type", "file"))
		return bad(c, nvram, "UEFI variables that are not in a file would be written by both members");
	if (snprintf(path, sizeof(path), "%s/nvram.fd", c->par->disk_dir) >= (int)sizeof(path))
		return bad(c, os, "the path of the UEFI variables is too long");
	has_template = nvram && attr(nvram, "template", template, sizeof(template));
	if (nvram)
		drop_children(os, "nvram");
	nvram = add(os, "nvram", path);
	if (!nvram || (has_template && !set_attr(nvram, "template", template)))
		return no_memory(c);
	return 0;
}

static bool add_fwcfg(xmlNodePtr sysinfo, const char *name, const char *value)
{
	char path[64];

	snprintf(path, sizeof(path), FWCFG "%s", name);
	return set_attr(add(sysinfo, "entry", value), "name", path);
}

static int make_sysinfo(struct ctx *c)
{
	const struct vmp_domxml_params *p = c->par;
	char buf[VMP_ADDR_STRLEN * VMP_ENTRY_LIST_MAX], addr[VMP_ADDR_STRLEN];
	xmlNodePtr n, fw = NULL;
	size_t len = 0;
	bool ok;

	for (n = child(c->root, "sysinfo"); n; n = next_named(n->next, "sysinfo")) {
		xmlNodePtr system = child(n, "system");

		if (attr_is(n, "type", "fwcfg"))
			fw = n;
		for (xmlNodePtr e = child(n, "entry"); e; e = next_named(e->next, "entry"))
			if (attr(e, "name", buf, sizeof(buf)) && !strncmp(buf, FWCFG, strlen(FWCFG)))
				return bad(c, e, "fw_cfg names in " FWCFG " are vmpair's own (remove the entry)");
		/* libvirt wants the same uuid in both places. */
		for (xmlNodePtr e = system ? child(system, "entry") : NULL; e; e = next_named(e->next, "entry"))
			if (attr_is(e, "name", "uuid"))
				xmlNodeSetContent(e, (const xmlChar *)p->slot->uuid);
	}
	if (!fw) {
		fw = add(c->root, "sysinfo", NULL);
		if (!set_attr(fw, "type", "fwcfg"))
			return no_memory(c);
	}
	ok = add_fwcfg(fw, "pair", p->pair);
	snprintf(buf, sizeof(buf), "%u", p->slot->node_id);
	ok = ok && add_fwcfg(fw, "slot", buf) && add_fwcfg(fw, "hostname", p->slot->hostname) &&
	     add_fwcfg(fw, "machine-id", p->slot->machine_id);
	if (p->internal)
		ok = ok && add_fwcfg(fw, "internal-address", vmp_addr_str(&p->slot->internal, true, addr)) &&
		     add_fwcfg(fw, "internal-mac", vmp_mac_str(p->slot->internal_mac, buf));
	if (p->relay_keys) {
		xmlNodePtr e = add(fw, "entry", NULL);

		ok = ok && set_attr(e, "name", FWCFG "relay-keys") && set_attr(e, "file", p->relay_keys);
	}
	if (!p->entry_nic)
		return ok ? 0 : no_memory(c);
	buf[0] = '\0';
	for (unsigned int i = 0; i < p->n_entry && len < sizeof(buf); i++)
		len += (size_t)snprintf(buf + len, sizeof(buf) - len, "%s%s", i ? " " : "",
					vmp_addr_str(&p->entry[i], true, addr));
	ok = ok && add_fwcfg(fw, "entry", buf) && add_fwcfg(fw, "entry-mac", vmp_mac_str(c->out->entry_mac, addr));
	return ok ? 0 : no_memory(c);
}

static bool add_channel(struct ctx *c, const char *name, const char *path)
{
	xmlNodePtr ch, n;

	if (!path)
		return true;
	ch = add(c->devices, "channel", NULL);
	if (!set_attr(ch, "type", "unix"))
		return false;
	n = add(ch, "source", NULL);
	if (!set_attr(n, "mode", "bind") || !set_attr(n, "path", path))
		return false;
	n = add(ch, "target", NULL);
	return set_attr(n, "type", "virtio") && set_attr(n, "name", name);
}

/* The daemon's ways to vmpair-guest and to the relay in the guest. */
static int make_channels(struct ctx *c)
{
	for (xmlNodePtr ch = child(c->devices, "channel"); ch; ch = next_named(ch->next, "channel")) {
		xmlNodePtr n = child(ch, "target");

		if (n && attr_is(n, "name", VMP_DOMXML_RELAY_PORT))
			return bad(c, ch, "the channel " VMP_DOMXML_RELAY_PORT " is vmpair's own (remove it)");
		if (n && attr_is(n, "name", VMP_DOMXML_GUEST_PORT))
			return bad(c, ch, "the channel " VMP_DOMXML_GUEST_PORT " is vmpair's own (remove it)");
		if (n && attr_is(n, "name", "org.qemu.guest_agent.0"))
			c->out->agent = true;
	}
	return add_channel(c, VMP_DOMXML_RELAY_PORT, c->par->relay_channel) &&
	       add_channel(c, VMP_DOMXML_GUEST_PORT, c->par->guest_channel) ? 0 : no_memory(c);
}

/* What tells of a guest in trouble tells only: what follows is the pair's policy, not the domain's. */
static int make_alarms(struct ctx *c)
{
	xmlNodePtr os = child(c->root, "os"), type = os ? child(os, "type") : NULL, features = child(c->root, "features");

	for (xmlNodePtr n = child(c->devices, "watchdog"); n; n = next_named(n->next, "watchdog"))
		if (!set_attr(n, "action", "none"))
			return no_memory(c);
	/* the guest finds the device by ACPI */
	if (child(c->devices, "panic") || !type || !attr_is(type, "arch", "x86_64") || !features || !child(features, "acpi"))
		return 0;
	return set_attr(add(c->devices, "panic", NULL), "model", "isa") ? 0 : no_memory(c);
}

static int transform(struct ctx *c)
{
	static const struct {
		const char *name, *value;
	} on[] = {
		/* A guest that powered off must not linger as a process; one that reboots goes on; about one that panicked the
		 * daemon decides. */
		{ "on_poweroff", "destroy" },
		{ "on_reboot", "restart" },
		{ "on_crash", "preserve" },
	};
	xmlNodePtr n;
	int rc;

	rc = c->par->entry_nic ? refuse_bypasses(c) : 0;
	if (rc == 0)
		rc = make_nics(c);
	if (rc == 0)
		rc = make_disks(c);
	if (rc == 0)
		rc = make_firmware(c);
	if (rc == 0)
		rc = make_sysinfo(c);
	if (rc == 0)
		rc = make_channels(c);
	if (rc == 0)
		rc = make_alarms(c);
	if (rc < 0)
		return rc;
	for (size_t i = 0; i < ARRAY_SIZE(on); i++) {
		drop_children(c->root, on[i].name);
		if (!add(c->root, on[i].name, on[i].value))
			return no_memory(c);
	}
	xmlUnsetProp(c->root, (const xmlChar *)"id");
	n = child(c->root, "genid");
	if (n)
		xmlNodeSetContent(n, NULL); /* libvirt makes a new one: two members are not one machine */
	if (!set_text(c->root, "uuid", c->par->slot->uuid) || !set_text(c->root, "name", c->par->pair))
		return no_memory(c);
	return 0;
}

/* --- entry points --------------------------------------------------------------------- */

static int load(struct ctx *c, const char *text, size_t len, const char *name, const struct vmp_domxml_params *params,
		char *reason, size_t reason_size)
{
	int rc;

	c->name = name;
	c->par = params;
	c->reason = reason;
	c->reason_size = reason_size;
	rc = parse(c, text, len, &c->doc);
	return rc < 0 ? rc : open_domain(c);
}

int vmp_domxml_digest(const char *text, size_t len, const char *name, const struct vmp_domxml_params *params,
		      uint8_t ret_[static VMP_DIGEST_LEN], char *reason, size_t reason_size)
{
	struct ctx c = { 0 };
	int rc = load(&c, text, len, name, params, reason, reason_size);

	if (rc == 0)
		rc = digest(&c, ret_);
	free_doc(&c.doc);
	return rc;
}

int vmp_domxml_build(const char *text, size_t len, const char *name, const struct vmp_domxml_params *params,
		     struct vmp_domxml **ret_, char *reason, size_t reason_size)
{
	struct vmp_domxml *out = calloc(1, sizeof(*out));
	struct ctx c = { .out = out };
	xmlChar *xml = NULL;
	int rc, size;

	if (!out)
		return -ENOMEM;
	rc = load(&c, text, len, name, params, reason, reason_size);
	if (rc == 0)
		rc = digest(&c, out->digest);
	if (rc == 0)
		rc = transform(&c);
	if (rc == 0) {
		xmlDocDumpFormatMemory(c.doc, &xml, &size, 1);
		out->xml = xml ? strdup((const char *)xml) : NULL;
		out->disk_dir = strdup(params->disk_dir);
		if (xml)
			xmlFree(xml);
		if (!out->xml || !out->disk_dir)
			rc = no_memory(&c);
	}
	free_doc(&c.doc);
	if (rc < 0 || !ret_) {
		vmp_domxml_free(out);
		return rc;
	}
	*ret_ = out;
	return 0;
}

struct vmp_domxml *vmp_domxml_free(struct vmp_domxml *d)
{
	if (!d)
		return NULL;
	for (unsigned int i = 0; i < d->n_disks; i++) {
		free(d->disk[i].path);
		free(d->disk[i].backing);
		free(d->disk[i].format);
	}
	free(d->disk_dir);
	free(d->xml);
	free(d);
	return NULL;
}

int vmp_domxml_read(const char *path, char **ret_text, size_t *ret_len, char *reason, size_t reason_size)
{
	CLEANUP_CLOSE int fd = -1;
	CLEANUP_FREE char *text = NULL;
	struct stat st;
	size_t len = 0;
	int rc;

	if (path[0] != '/') {
		snprintf(reason, reason_size, "'%s' is not an absolute path", path);
		return -EINVAL;
	}
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 || fstat(fd, &st) < 0) {
		rc = -errno;
		snprintf(reason, reason_size, "%s: %s", path, strerror(-rc));
		return rc;
	}
	if (!S_ISREG(st.st_mode)) {
		snprintf(reason, reason_size, "%s: not a regular file", path);
		return -EINVAL;
	}
	text = malloc(VMP_DOMXML_MAX + 2);
	if (!text)
		return -ENOMEM;
	while (len <= VMP_DOMXML_MAX) {
		ssize_t n = read(fd, text + len, VMP_DOMXML_MAX + 1 - len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			rc = -errno;
			snprintf(reason, reason_size, "%s: %s", path, strerror(-rc));
			return rc;
		}
		if (n == 0)
			break;
		len += (size_t)n;
	}
	if (len > VMP_DOMXML_MAX) {
		snprintf(reason, reason_size, "%s: larger than %u bytes: this is no libvirt domain XML", path,
			 VMP_DOMXML_MAX);
		return -EFBIG;
	}
	text[len] = '\0';
	*ret_text = TAKE_PTR(text);
	*ret_len = len;
	return 0;
}
