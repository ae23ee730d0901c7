/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Pacemaker's XML as far as the daemon reads it: the CIB (which pairs there are, whether Pacemaker manages them, what fences nodes), and
 * the history of its fencer. Pure; see pcmk.h. */
#include <errno.h>
#include <libxml/parser.h>
#include <libxml/tree.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "daemon/pairparam.h"
#include "daemon/pcmk.h"
#include "internal/cleanup.h"

#define MAX_DEPTH 8

static void xml_free_p(xmlChar **p)
{
	if (*p)
		xmlFree(*p);
}
#define CLEANUP_XML __attribute__((cleanup(xml_free_p)))

static bool is(const xmlNode *n, const char *name)
{
	return n->type == XML_ELEMENT_NODE && !strcmp((const char *)n->name, name);
}

/* Copies an attribute; false when it is missing, or too long to be anything of ours. */
static bool attr(xmlNode *n, const char *name, char *buf, size_t size)
{
	CLEANUP_XML xmlChar *v = xmlGetProp(n, (const xmlChar *)name);
	if (!v || strlen((const char *)v) >= size)
		return false;
	strcpy(buf, (const char *)v);
	return true;
}

static bool attr_is(xmlNode *n, const char *name, const char *value)
{
	CLEANUP_XML xmlChar *v = xmlGetProp(n, (const xmlChar *)name);
	return v && !strcmp((const char *)v, value);
}

static bool truth(const char *s)
{
	static const char *const yes[] = {"true", "on", "yes", "y", "1"};
	for (size_t i = 0; i < ARRAY_SIZE(yes); i++)
		if (!strcasecmp(s, yes[i]))
			return true;
	return false;
}

static xmlNode *by_id(xmlNode *n, const char *id)
{
	for (; n; n = n->next) {
		if (n->type != XML_ELEMENT_NODE)
			continue;
		if (attr_is(n, "id", id))
			return n;
		xmlNode *found = by_id(n->children, id);
		if (found)
			return found;
	}
	return NULL;
}

/* An element may stand for another one by id-ref. */
static xmlNode *resolve(xmlNode *n)
{
	char id[256];
	if (!attr(n, "id-ref", id, sizeof(id)))
		return n;
	xmlNode *target = by_id(xmlDocGetRootElement(n->doc), id);
	return target ? target : n;
}

static long score(xmlNode *n)
{
	char text[32];
	if (!attr(n, "score", text, sizeof(text)))
		return 0;
	if (!strcasecmp(text, "INFINITY") || !strcasecmp(text, "+INFINITY"))
		return 1000000;
	return strcasecmp(text, "-INFINITY") ? strtol(text, NULL, 10) : -1000000;
}

static long set_score(xmlNode *set)
{
	/* Pacemaker takes this one first, whatever its score */
	return attr_is(set, "id", "cib-bootstrap-options") ? LONG_MAX : score(set);
}

static bool has_rule(xmlNode *set)
{
	for (xmlNode *n = set->children; n; n = n->next)
		if (is(n, "rule"))
			return true;
	return false;
}

/*
 * Value of `name` among the sets called `set_name` below parent: the set with the highest score wins, the first of equals. Sets with rules
 * (times, node expressions) are passed over: what holds now cannot be told from the file alone.
 */
static bool nv_get(xmlNode *parent, const char *set_name, const char *name, char *buf, size_t size)
{
	bool found = false;
	long best = 0;
	if (!parent)
		return false;
	for (xmlNode *s = parent->children; s; s = s->next) {
		if (!is(s, set_name))
			continue;
		xmlNode *set = resolve(s);
		if (has_rule(set) || (found && set_score(set) <= best))
			continue;
		for (xmlNode *n = set->children; n; n = n->next) {
			if (!is(n, "nvpair"))
				continue;
			xmlNode *nv = resolve(n);
			/* an nvpair by reference may carry another name for the value */
			if (!attr_is(n, "name", name) && !(n != nv && attr_is(nv, "name", name)))
				continue;
			if (attr(nv, "value", buf, size)) {
				found = true;
				best = set_score(set);
			}
			break;
		}
	}
	return found;
}

static xmlNode *child(xmlNode *parent, const char *name)
{
	for (xmlNode *n = parent ? parent->children : NULL; n; n = n->next)
		if (is(n, name))
			return n;
	return NULL;
}

struct walk {
	struct vmp_cib *cib;
	xmlNode *resources, *rsc_defaults, *constraints;
	const char *node;
	bool managed_default, node_maintenance;
};

/* From the primitive outwards: itself, its template, the resources around it, the defaults. */
struct chain {
	xmlNode *rsc[MAX_DEPTH + 2];
	unsigned n;
};

static bool meta_get(const struct walk *w, const struct chain *c, const char *name, char *buf, size_t size, char owner[static 64])
{
	for (unsigned i = 0; i < c->n; i++)
		if (nv_get(c->rsc[i], "meta_attributes", name, buf, size)) {
			if (!attr(c->rsc[i], "id", owner, 64))
				strcpy(owner, "resource");
			return true;
		}
	strcpy(owner, "rsc_defaults");
	return nv_get(w->rsc_defaults, "meta_attributes", name, buf, size);
}

/* The first reason stays. */
static void freeze(struct vmp_cib_pair *p, const char *what, const char *whose)
{
	if (p->frozen)
		return;
	p->frozen = true;
	snprintf(p->frozen_reason, sizeof(p->frozen_reason), "%s of %.63s", what, whose);
}

/* Nodes that a location constraint forbids (ban, move, or as written by hand). Rules are passed over, as everywhere here. */
static uint64_t banned_nodes(const struct walk *w, const struct vmp_cib_pair *p)
{
	uint64_t banned = 0;
	for (xmlNode *n = w->constraints ? w->constraints->children : NULL; n; n = n->next) {
		char role[32] = "Started";
		if (!is(n, "rsc_location") || score(n) > -1000000 || !(attr_is(n, "rsc", p->rsc) || (p->clone[0] && attr_is(n, "rsc", p->clone))))
			continue;
		if (attr(n, "role", role, sizeof(role)) && strcasecmp(role, "Started"))
			continue;	/* keeps only that role away */
		for (unsigned i = 0; i < w->cib->n_nodes; i++)
			if (attr_is(n, "node", w->cib->nodes[i].name))
				banned |= 1ull << i;
	}
	return banned;
}

static void add_pair(const struct walk *w, const struct chain *c, xmlNode *primitive, xmlNode *clone)
{
	struct vmp_cib *cib = w->cib;
	struct vmp_cib_pair p = {0};
	char value[128], owner[64];
	bool named = false;

	for (unsigned i = 0; i < c->n && !named && (c->rsc[i] == primitive || is(c->rsc[i], "template")); i++)
		named = nv_get(c->rsc[i], "instance_attributes", "pair", p.pair, sizeof(p.pair));
	if (!named || !vmp_pair_name_valid(p.pair) || !attr(primitive, "id", p.rsc, sizeof(p.rsc)) || cib->n_pairs == VMP_PCMK_MAX_PAIRS) {
		cib->n_skipped++;
		return;
	}
	if (clone && !attr(clone, "id", p.clone, sizeof(p.clone)))
		p.clone[0] = '\0';

	p.managed = w->managed_default;
	if (meta_get(w, c, "is-managed", value, sizeof(value), owner)) {
		p.managed = truth(value);
		if (!p.managed)
			freeze(&p, "is-managed=false", owner);
	} else if (!p.managed) {
		freeze(&p, "is-managed-default", "the cluster");
	}
	if (meta_get(w, c, "maintenance", value, sizeof(value), owner) && truth(value)) {
		p.maintenance = true;
		freeze(&p, "maintenance", owner);
	}
	if (w->node_maintenance) {
		p.maintenance = true;
		freeze(&p, "maintenance", w->node);
	}
	if (cib->maintenance_mode) {
		p.maintenance = true;
		freeze(&p, "maintenance-mode", "the cluster");
	}
	p.enabled = !(meta_get(w, c, "target-role", value, sizeof(value), owner) && !strcasecmp(value, "Stopped"));
	p.banned = banned_nodes(w, &p);
	cib->pairs[cib->n_pairs++] = p;
}

static bool is_pair_type(xmlNode *n)
{
	return attr_is(n, "class", "ocf") && attr_is(n, "provider", "vmpair") && attr_is(n, "type", "pair");
}

/* A device that is stopped is none to the fencer. */
static void add_fence_device(const struct walk *w, const struct chain *c, bool cut)
{
	struct vmp_cib *cib = w->cib;
	char value[64], owner[64], id[64];
	size_t len = strlen(cib->power);

	if (meta_get(w, c, "target-role", value, sizeof(value), owner) && !strcasecmp(value, "Stopped"))
		return;
	if (cut) {
		cib->n_cut++;
		return;
	}
	cib->n_power++;
	if (!attr(c->rsc[0], "id", id, sizeof(id)))
		strcpy(id, "?");
	if (len + strlen(id) + sizeof(", ...") < sizeof(cib->power))
		snprintf(cib->power + len, sizeof(cib->power) - len, "%s%s", len ? ", " : "", id);
	else if (len < sizeof(", ...") || strcmp(cib->power + len - strlen(", ..."), ", ..."))
		snprintf(cib->power + len, sizeof(cib->power) - len, ", ...");
}

/* Goes down; parents holds the resources around `n`, outermost first. */
static void walk_resources(const struct walk *w, xmlNode *n, xmlNode **parents, unsigned depth)
{
	for (; n; n = n->next) {
		if (is(n, "primitive")) {
			struct chain c = {.rsc = {n}, .n = 1};
			xmlNode *clone = NULL, *template = NULL;
			char id[128];
			if (attr(n, "template", id, sizeof(id)))
				for (xmlNode *t = w->resources->children; t && !template; t = t->next)
					if (is(t, "template") && attr_is(t, "id", id))
						template = t;
			bool device = attr_is(n, "class", "stonith") || (template && attr_is(template, "class", "stonith"));
			if (!device && !is_pair_type(n) && !(template && is_pair_type(template)))
				continue;
			if (template)
				c.rsc[c.n++] = template;
			for (unsigned i = depth; i > 0; i--) {
				c.rsc[c.n++] = parents[i - 1];
				if (is(parents[i - 1], "clone") || is(parents[i - 1], "master"))
					clone = parents[i - 1];
			}
			if (device)
				add_fence_device(w, &c, attr_is(template ? template : n, "type", "fence_vmpair"));
			else
				add_pair(w, &c, n, clone);
		} else if ((is(n, "group") || is(n, "clone") || is(n, "master") || is(n, "bundle")) && depth < MAX_DEPTH) {
			parents[depth] = n;
			walk_resources(w, n->children, parents, depth + 1);
		}
	}
}

static uint64_t number(xmlNode *n, const char *name)
{
	char text[32];
	return attr(n, name, text, sizeof(text)) ? strtoull(text, NULL, 10) : 0;
}

static bool option(xmlNode *crm_config, const char *name, bool def)
{
	char value[64];
	return nv_get(crm_config, "cluster_property_set", name, value, sizeof(value)) ? truth(value) : def;
}

static void xml_doc_free_p(xmlDoc **d)
{
	xmlFreeDoc(*d);
}

int vmp_cib_parse(const char *xml, size_t len, const char *node, struct vmp_cib *ret, char *reason, size_t reason_size)
{
	if (len > INT_MAX) {
		snprintf(reason, reason_size, "the CIB is too large");
		return -EBADMSG;
	}
	/* No entities, no network, no output: the file is data. */
	__attribute__((cleanup(xml_doc_free_p))) xmlDoc *doc =
		xmlReadMemory(xml, (int)len, "cib.xml", NULL, XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
	xmlNode *root = doc ? xmlDocGetRootElement(doc) : NULL;
	if (!root || !is(root, "cib")) {
		snprintf(reason, reason_size, doc ? "the file is no CIB" : "the CIB is not well-formed XML");
		return -EBADMSG;
	}
	xmlNode *conf = child(root, "configuration");
	if (!conf) {
		snprintf(reason, reason_size, "the CIB has no configuration section");
		return -EBADMSG;
	}

	struct vmp_cib *cib = calloc(1, sizeof(*cib));
	if (!cib) {
		snprintf(reason, reason_size, "out of memory");
		return -ENOMEM;
	}
	xmlNode *crm_config = child(conf, "crm_config"), *nodes = child(conf, "nodes");
	cib->admin_epoch = number(root, "admin_epoch");
	cib->epoch = number(root, "epoch");
	cib->num_updates = number(root, "num_updates");
	cib->stonith_enabled = option(crm_config, "stonith-enabled", true);
	cib->maintenance_mode = option(crm_config, "maintenance-mode", false);
	char watchdog[32];
	if (nv_get(crm_config, "cluster_property_set", "stonith-watchdog-timeout", watchdog, sizeof(watchdog)) && strtol(watchdog, NULL, 10)) {
		cib->n_power++;
		strcpy(cib->power, "watchdog");
	}

	struct walk w = {
		.cib = cib, .resources = child(conf, "resources"), .rsc_defaults = child(conf, "rsc_defaults"),
		.constraints = child(conf, "constraints"), .node = node,
		.managed_default = option(crm_config, "is-managed-default", true),
	};
	for (xmlNode *n = nodes ? nodes->children : NULL; n; n = n->next) {
		struct vmp_cib_node *known = &cib->nodes[cib->n_nodes];
		char value[64];
		if (!is(n, "node"))
			continue;
		if (attr_is(n, "uname", node) && nv_get(n, "instance_attributes", "maintenance", value, sizeof(value)))
			w.node_maintenance = truth(value);
		if (cib->n_nodes < VMP_CIB_MAX_NODES && attr(n, "uname", known->name, sizeof(known->name))) {
			known->standby = nv_get(n, "instance_attributes", "standby", value, sizeof(value)) && truth(value);
			cib->n_nodes++;
		}
	}
	xmlNode *parents[MAX_DEPTH];
	if (w.resources)
		walk_resources(&w, w.resources->children, parents, 0);
	*ret = *cib;
	free(cib);
	return 0;
}

/* --- history of the fencer ------------------------------------------------------------------------------------------------ */

/* "2026-11-22 07:28:00Z", "2026-11-22 12:58:00 +05:30", both with or without a fraction of the second. */
static bool parse_when(const char *text, int64_t *ret)
{
	struct tm tm = {0};
	int at = 0, h = 0, m = 0;
	char sign;

	if (sscanf(text, "%4d-%2d-%2d %2d:%2d:%2d%n", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &tm.tm_hour, &tm.tm_min, &tm.tm_sec, &at) != 6 || !at ||
	    tm.tm_year < 1970 || tm.tm_mon < 1 || tm.tm_mon > 12 || tm.tm_mday < 1 || tm.tm_mday > 31 || tm.tm_hour < 0 || tm.tm_hour > 23 ||
	    tm.tm_min < 0 || tm.tm_min > 59 || tm.tm_sec < 0 || tm.tm_sec > 60)
		return false;
	text += at;
	if (*text == '.')
		text += 1 + strspn(text + 1, "0123456789");
	if (strcmp(text, "Z")) {
		int end = 0;
		if (sscanf(text, " %c%2d:%2d%n", &sign, &h, &m, &end) != 3 || !end || text[end] || (sign != '+' && sign != '-') || h < 0 || h > 23 ||
		    m < 0 || m > 59)
			return false;
		if (sign == '-') {
			h = -h;
			m = -m;
		}
	}
	tm.tm_year -= 1900;
	tm.tm_mon--;
	*ret = (int64_t)timegm(&tm) - h * 3600 - m * 60;
	return true;
}

static bool parse_fence(xmlNode *n, struct vmp_pcmk_fence *ret)
{
	char status[16], when[64];
	struct vmp_pcmk_fence e = {0};

	if (!attr(n, "action", e.action, sizeof(e.action)) || !attr(n, "status", status, sizeof(status)))
		return false;
	e.f.action = !strcmp(e.action, "off") ? VMP_FENCE_OFF : !strcmp(e.action, "reboot") ? VMP_FENCE_REBOOT : VMP_FENCE_OTHER;
	e.f.status = !strcmp(status, "success") ? VMP_FENCE_DONE : !strcmp(status, "failed") ? VMP_FENCE_FAILED : VMP_FENCE_PENDING;
	if (e.f.status != VMP_FENCE_PENDING && (!attr(n, "completed", when, sizeof(when)) || !parse_when(when, &e.f.completed_s)))
		return false;
	if (!attr(n, "client", e.client, sizeof(e.client)))
		e.client[0] = '\0';
	if (!attr(n, "delegate", e.delegate, sizeof(e.delegate)))
		e.delegate[0] = '\0';
	e.f.by_hand = !strcmp(e.delegate, "a human");
	*ret = e;
	return true;
}

static int64_t rank(const struct vmp_pcmk_fence *e)
{
	return e->f.status == VMP_FENCE_PENDING ? INT64_MAX : e->f.completed_s;
}

static void keep_newest(struct vmp_pcmk_history *h, const struct vmp_pcmk_fence *e)
{
	unsigned oldest = 0;

	if (h->n < ARRAY_SIZE(h->list)) {
		h->list[h->n++] = *e;
		return;
	}
	for (unsigned i = 1; i < h->n; i++)
		if (rank(&h->list[i]) < rank(&h->list[oldest]))
			oldest = i;
	if (rank(e) > rank(&h->list[oldest]))
		h->list[oldest] = *e;
}

int vmp_fencing_parse(const char *text, size_t len, const char *node, struct vmp_pcmk_history *ret, char *reason, size_t reason_size)
{
	static const char tail[] = "</pacemaker-result>";
	const char *from = memmem(text, len, "<pacemaker-result", strlen("<pacemaker-result"));
	const char *to = from ? memmem(from, len - (size_t)(from - text), tail, strlen(tail)) : NULL;
	xmlNode *root, *list, *status;

	if (!to || len > INT_MAX) {
		snprintf(reason, reason_size, "stonith_admin printed no whole result");
		return -EBADMSG;
	}
	__attribute__((cleanup(xml_doc_free_p))) xmlDoc *doc = xmlReadMemory(from, (int)(to - from + (int)strlen(tail)), "history.xml", NULL,
									     XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
	root = doc ? xmlDocGetRootElement(doc) : NULL;
	status = child(root, "status");
	if (!status) {
		snprintf(reason, reason_size, "what stonith_admin printed is not well-formed XML, or no result");
		return -EBADMSG;
	}
	if (!attr_is(status, "code", "0")) {
		if (!attr(status, "message", reason, reason_size))
			snprintf(reason, reason_size, "the fencer does not answer");
		return -ENOTCONN;
	}
	list = child(root, "list");
	struct vmp_pcmk_history h = {0};
	for (xmlNode *n = list ? list->children : NULL; n; n = n->next) {
		struct vmp_pcmk_fence e;
		char target[256];

		if (!is(n, "fence_event") || (attr(n, "target", target, sizeof(target)) && strcasecmp(target, node)))
			continue;
		if (!parse_fence(n, &e)) { /* one that is not understood may be the one that matters */
			snprintf(reason, reason_size, "the fencer's history has an entry that is not understood");
			return -EBADMSG;
		}
		keep_newest(&h, &e);
	}
	*ret = h;
	return 0;
}
