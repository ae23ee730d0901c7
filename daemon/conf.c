/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/conf.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

#include "daemon/core/core.h"
#include "internal/cleanup.h"

#define FILE_MAX (256 * 1024)
#define LINE_MAX_LEN 1024

enum type { TYPE_UINT, TYPE_FRAC, TYPE_BOOL, TYPE_LEVEL, TYPE_PATH, TYPE_STR, TYPE_ADDRS, TYPE_PORTS, TYPE_NODES };

struct option {
	enum type type;
	const char *name, *def, *unit, *help;
	size_t offset, size;
	uint32_t min, max;
	bool reload;
};

static const struct option options[] = {
#define X(t, f, n, d, lo, hi, u, r, h) \
	{ TYPE_##t, n, d, u, h, offsetof(struct vmp_conf, f), sizeof(((struct vmp_conf *)0)->f), lo, hi, r },
	VMP_CONF_OPTIONS(X)
#undef X
};

static const struct {
	const char *name;
	uint32_t level;
} levels[] = {
	{ "error", LOG_ERR }, { "warning", LOG_WARNING }, { "notice", LOG_NOTICE }, { "info", LOG_INFO }, { "debug", LOG_DEBUG },
};

static uint32_t *field_u32(struct vmp_conf *c, const struct option *o)
{
	return (uint32_t *)((char *)c + o->offset);
}

static uint32_t get_u32(const struct vmp_conf *c, const struct option *o)
{
	return *(const uint32_t *)((const char *)c + o->offset);
}

/* --- values ------------------------------------------------------------------------------------------------------------ */
static int parse_uint(const char *v, uint32_t *ret)
{
	uint64_t x = 0;

	if (!*v || strlen(v) > 10)
		return -EINVAL;
	for (; *v; v++) {
		if (*v < '0' || *v > '9')
			return -EINVAL;
		x = x * 10 + (uint64_t)(*v - '0');
	}
	*ret = x > UINT32_MAX ? UINT32_MAX : (uint32_t)x;
	return 0;
}

/* "0.1", ".1", "0.100", "1": thousandths. The locale plays no part. */
static int parse_frac(const char *v, uint32_t *ret)
{
	uint32_t x = 0, places = 0;
	bool dot = false, digit = false;

	if (strlen(v) > 8)
		return -EINVAL;
	for (; *v; v++) {
		if (*v == '.' && !dot) {
			dot = true;
			continue;
		}
		if (*v < '0' || *v > '9')
			return -EINVAL;
		digit = true;
		if (dot && places == 3) {
			if (*v != '0')
				return -EINVAL;
			continue;
		}
		x = x * 10 + (uint32_t)(*v - '0');
		places += dot;
	}
	if (!digit)
		return -EINVAL;
	for (; places < 3; places++)
		x *= 10;
	*ret = x;
	return 0;
}

static bool is_address(const char *text)
{
	struct in_addr v4;
	struct in6_addr v6;
	char host[64];
	char *scope;

	if (strlen(text) >= sizeof(host))
		return false;
	strcpy(host, text);
	if (inet_pton(AF_INET, host, &v4) == 1)
		return true;
	scope = strchr(host, '%');
	if (scope) {
		*scope++ = '\0';
		if (!*scope || strlen(scope) >= IF_NAMESIZE)
			return false;
	}
	return inet_pton(AF_INET6, host, &v6) == 1;
}

/* "7700-7799" */
static int parse_ports(const char *v, uint32_t min, uint32_t max, uint16_t *ret_first, uint16_t *ret_last)
{
	char first[VMP_CONF_STR];
	const char *dash = strchr(v, '-');
	uint32_t a, b;

	if (!dash || (size_t)(dash - v) >= sizeof(first))
		return -EINVAL;
	memcpy(first, v, (size_t)(dash - v));
	first[dash - v] = '\0';
	if (parse_uint(first, &a) < 0 || parse_uint(dash + 1, &b) < 0 || a < min || b > max || a >= b)
		return -EINVAL;
	*ret_first = (uint16_t)a;
	*ret_last = (uint16_t)b;
	return 0;
}

static void split_binds(struct vmp_conf *c)
{
	char copy[VMP_CONF_STR], *save = NULL;

	c->bind_count = 0;
	memset(c->bind, 0, sizeof(c->bind));
	memcpy(copy, c->bind_address, sizeof(copy));
	for (char *w = strtok_r(copy, ", \t", &save); w && c->bind_count < VMP_CONF_BINDS; w = strtok_r(NULL, ", \t", &save))
		snprintf(c->bind[c->bind_count++], sizeof(c->bind[0]), "%s", w);
}

static int check_addrs(const char *v, char *why, size_t size)
{
	char copy[VMP_CONF_STR], seen[VMP_CONF_BINDS][64], *save = NULL;
	unsigned int n = 0;

	snprintf(copy, sizeof(copy), "%s", v);
	for (char *w = strtok_r(copy, ", \t", &save); w; w = strtok_r(NULL, ", \t", &save)) {
		if (!is_address(w)) {
			snprintf(why, size, "`%.60s` is not a numeric IPv4 or IPv6 address", w);
			return -EINVAL;
		}
		if (n == VMP_CONF_BINDS) {
			snprintf(why, size, "more than %d addresses (name those of the links to use)", VMP_CONF_BINDS);
			return -EINVAL;
		}
		for (unsigned int i = 0; i < n; i++)
			if (strcmp(seen[i], w) == 0) {
				snprintf(why, size, "`%.60s` is there twice", w);
				return -EINVAL;
			}
		snprintf(seen[n++], sizeof(seen[0]), "%s", w);
	}
	return 0;
}

static bool is_name(const char *s)
{
	size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");

	return n && n < 64 && !s[n];
}

/* One NAME ID ADDRESS [ADDRESS]. */
static int parse_node(char *text, struct vmp_conf_node *ret, char *why, size_t size)
{
	char *save = NULL, *w = strtok_r(text, " \t", &save);
	uint32_t id;

	memset(ret, 0, sizeof(*ret));
	if (!w || !is_name(w)) {
		snprintf(why, size, "`%.60s` is not a node name (letters, digits, _ . -, at most 63)", w ? w : "");
		return -EINVAL;
	}
	strcpy(ret->name, w);
	w = strtok_r(NULL, " \t", &save);
	if (!w || parse_uint(w, &id) < 0 || id < 1 || id > UINT8_MAX) {
		snprintf(why, size, "%s: `%.60s` is not a node id (1 to 255; write NAME ID ADDRESS)", ret->name, w ? w : "");
		return -EINVAL;
	}
	ret->id = (uint8_t)id;
	while ((w = strtok_r(NULL, " \t", &save))) {
		if (!is_address(w)) {
			snprintf(why, size, "%s: `%.60s` is not a numeric IPv4 or IPv6 address", ret->name, w);
			return -EINVAL;
		}
		if (ret->n_addr == ARRAY_SIZE(ret->addr)) {
			snprintf(why, size, "%s: more than %zu addresses (put a comma between nodes)", ret->name, ARRAY_SIZE(ret->addr));
			return -EINVAL;
		}
		snprintf(ret->addr[ret->n_addr++], sizeof(ret->addr[0]), "%s", w);
	}
	if (!ret->n_addr) {
		snprintf(why, size, "%s: no address (write NAME ID ADDRESS)", ret->name);
		return -EINVAL;
	}
	return 0;
}

int vmp_conf_nodes(const char *text, struct vmp_conf_node ret[VMP_CONF_MAX_NODES], char *why, size_t size)
{
	char copy[VMP_CONF_NODES], none[160], *save = NULL;
	int n = 0;

	if (!why) {
		why = none;
		size = sizeof(none);
	}
	snprintf(copy, sizeof(copy), "%s", text);
	if (!copy[strspn(copy, " \t")])
		return 0;
	for (char *one = strtok_r(copy, ",", &save); one; one = strtok_r(NULL, ",", &save), n++) {
		if (n == VMP_CONF_MAX_NODES) {
			snprintf(why, size, "more than %d nodes", VMP_CONF_MAX_NODES);
			return -EINVAL;
		}
		if (parse_node(one, &ret[n], why, size) < 0)
			return -EINVAL;
		for (int i = 0; i < n; i++)
			if (ret[i].id == ret[n].id || !strcmp(ret[i].name, ret[n].name)) {
				snprintf(why, size, "%s and %s have the same name or node id", ret[i].name, ret[n].name);
				return -EINVAL;
			}
	}
	return n;
}

static void format_frac(uint32_t permille, char *buf, size_t size)
{
	snprintf(buf, size, "%u.%03u", permille / 1000, permille % 1000);
	for (size_t n = strlen(buf); n > 0 && buf[n - 1] == '0' && buf[n - 2] != '.'; n--)
		buf[n - 1] = '\0';
}

/* Put `v` into the field; on error a sentence in why. */
static int option_set(const struct option *o, struct vmp_conf *c, const char *v, char *why, size_t size)
{
	char *str = (char *)c + o->offset;
	uint32_t x = 0;

	switch (o->type) {
	case TYPE_UINT:
		if (parse_uint(v, &x) < 0) {
			snprintf(why, size, "`%.60s` is not a whole number%s%s without a unit", v, *o->unit ? " of " : "", o->unit);
			return -EINVAL;
		}
		if (x < o->min || x > o->max) {
			snprintf(why, size, "%s is out of range (%u to %u%s%s)", v, o->min, o->max, *o->unit ? " " : "", o->unit);
			return -ERANGE;
		}
		*field_u32(c, o) = x;
		return 0;
	case TYPE_FRAC: {
		char lo[16], hi[16];

		format_frac(o->min, lo, sizeof(lo));
		format_frac(o->max, hi, sizeof(hi));
		if (parse_frac(v, &x) < 0) {
			snprintf(why, size, "`%.60s` is not a fraction with at most three places (like 0.05)", v);
			return -EINVAL;
		}
		if (x < o->min || x > o->max) {
			snprintf(why, size, "%s is out of range (%s to %s)", v, lo, hi);
			return -ERANGE;
		}
		*field_u32(c, o) = x;
		return 0;
	}
	case TYPE_BOOL:
		if (strcmp(v, "yes") != 0 && strcmp(v, "no") != 0) {
			snprintf(why, size, "`%.60s` is neither yes nor no", v);
			return -EINVAL;
		}
		*(bool *)((char *)c + o->offset) = v[0] == 'y';
		return 0;
	case TYPE_LEVEL:
		for (unsigned int i = 0; i < ARRAY_SIZE(levels); i++)
			if (strcmp(levels[i].name, v) == 0) {
				*field_u32(c, o) = levels[i].level;
				return 0;
			}
		snprintf(why, size, "`%.60s` is none of error, warning, notice, info, debug", v);
		return -EINVAL;
	case TYPE_PATH:
		if (v[0] != '/') {
			snprintf(why, size, "`%.60s` is not an absolute path", v);
			return -EINVAL;
		}
		break;
	case TYPE_STR:
		if (!*v || strpbrk(v, " \t")) {
			snprintf(why, size, "must be one word");
			return -EINVAL;
		}
		break;
	case TYPE_ADDRS:
		if (strlen(v) < VMP_CONF_STR && check_addrs(v, why, size) < 0)
			return -EINVAL;
		break;
	case TYPE_PORTS: {
		uint16_t first, last;

		if (parse_ports(v, o->min, o->max, &first, &last) < 0) {
			snprintf(why, size, "is not FIRST-LAST, two or more ports of %u to %u", o->min, o->max);
			return -EINVAL;
		}
		break;
	}
	case TYPE_NODES: {
		struct vmp_conf_node nodes[VMP_CONF_MAX_NODES];
		int n = strlen(v) < o->size ? vmp_conf_nodes(v, nodes, why, size) : 0;

		if (n < 0)
			return n;
		if ((uint32_t)n > o->max) {
			snprintf(why, size, "names %d nodes, at most %u", n, o->max);
			return -EINVAL;
		}
		break;
	}
	}
	if (strlen(v) >= o->size) {
		snprintf(why, size, "is longer than %zu characters", o->size - 1);
		return -EINVAL;
	}
	/* The whole field, so that two configurations can be compared byte by byte. */
	memset(str, 0, o->size);
	memcpy(str, v, strlen(v));
	return 0;
}

static void option_text(const struct option *o, const struct vmp_conf *c, char *buf, size_t size)
{
	switch (o->type) {
	case TYPE_UINT:
		snprintf(buf, size, "%u", get_u32(c, o));
		return;
	case TYPE_FRAC:
		format_frac(get_u32(c, o), buf, size);
		return;
	case TYPE_BOOL:
		snprintf(buf, size, "%s", *(const bool *)((const char *)c + o->offset) ? "yes" : "no");
		return;
	case TYPE_LEVEL:
		for (unsigned int i = 0; i < ARRAY_SIZE(levels); i++)
			if (levels[i].level == get_u32(c, o))
				snprintf(buf, size, "%s", levels[i].name);
		return;
	case TYPE_PATH:
	case TYPE_STR:
	case TYPE_ADDRS:
	case TYPE_PORTS:
	case TYPE_NODES:
		snprintf(buf, size, "%s", (const char *)c + o->offset);
		return;
	}
}

/* --- cross-checks ------------------------------------------------------------------------------------------------------ */
/* H in ms, rounded down; 0 when not positive. */
static uint32_t holder_ms(uint32_t lease_ms, uint32_t permille, uint32_t delay_ms)
{
	return (uint32_t)(vmp_holder_lease_ns(lease_ms, permille, delay_ms) / 1000000);
}

/* `line` is named in the complaints. */
static void cross_check(struct vmp_conf *c, const char *name, unsigned int line, struct vmp_diag *diag, unsigned int *errors)
{
	char rho[16];

	c->holder_ms = holder_ms(c->lease_ms, c->clock_error_permille, c->gate_delay_ms);
	split_binds(c);
	parse_ports(c->relay_ports, 1, 65535, &c->relay_port_min, &c->relay_port_max);
	if (c->holder_ms < 3 * c->hb_ms) {
		uint32_t need = c->lease_ms;

		while (holder_ms(need, c->clock_error_permille, c->gate_delay_ms) < 3 * c->hb_ms)
			need++;
		format_frac(c->clock_error_permille, rho, sizeof(rho));
		vmp_diag_add(diag, name, line, "lease_ms %u with clock_error %s and gate_delay_ms %u leaves a holder %u ms, less than three "
			     "heartbeats of hb_ms %u (lease_ms %u or more, or hb_ms %u or less)", c->lease_ms, rho, c->gate_delay_ms,
			     c->holder_ms, c->hb_ms, need, c->holder_ms / 3);
		(*errors)++;
	}
	if (c->hold_max_ms < c->lease_ms) {
		vmp_diag_add(diag, name, line, "hold_max_ms %u is less than lease_ms %u (set it to %u or more)", c->hold_max_ms,
			     c->lease_ms, c->lease_ms);
		(*errors)++;
	}
	if (strcmp(c->runtime_dir, c->state_dir) == 0) {
		vmp_diag_add(diag, name, line, "runtime_dir and state_dir are both %.100s (the first must be emptied by a reboot, the "
			     "second must survive it)", c->state_dir);
		(*errors)++;
	}
	if (*c->witness && *c->hosts) {
		struct vmp_conf_node w[VMP_CONF_MAX_NODES], h[VMP_CONF_MAX_NODES];
		int n = vmp_conf_nodes(c->hosts, h, NULL, 0);

		for (int i = vmp_conf_nodes(c->witness, w, NULL, 0) ? 0 : n; i < n; i++)
			if (w[0].id == h[i].id || !strcmp(w[0].name, h[i].name)) {
				vmp_diag_add(diag, name, line, "witness %s (%u) has the name or the node id of the host %s (%u)", w[0].name,
					     w[0].id, h[i].name, h[i].id);
				(*errors)++;
			}
	}
}

int vmp_conf_check_witness(const char *name, const struct vmp_conf *c, struct vmp_diag *diag)
{
	if (*c->witness && *c->hosts)
		return 0;
	vmp_diag_add(diag, name, 0, "a witness has to know %s (witness = NAME ID ADDRESS and hosts = NAME ID ADDRESS, ...; see vmpaird(8), "
		     "WITNESS)", *c->witness ? "its hosts" : *c->hosts ? "which it is itself" : "itself and its hosts");
	return -EINVAL;
}

uint32_t vmp_conf_lease_digest(const struct vmp_conf *c)
{
	return c->lease_ms << 12 ^ c->clock_error_permille;	/* both fit: 60000 and 300 */
}

/* --- file --------------------------------------------------------------------------------------------------------------- */
void vmp_conf_defaults(struct vmp_conf *ret)
{
	char why[128];
	unsigned int errors = 0;

	memset(ret, 0, sizeof(*ret));
	for (unsigned int i = 0; i < ARRAY_SIZE(options); i++)
		option_set(&options[i], ret, options[i].def, why, sizeof(why));
	cross_check(ret, "defaults", 0, NULL, &errors);
}

static int option_find(const char *name)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(options); i++)
		if (strcmp(options[i].name, name) == 0)
			return (int)i;
	return -1;
}

/* Levenshtein distance, for "did you mean". Names are short. */
static unsigned int distance(const char *a, const char *b)
{
	unsigned int row[64], la = (unsigned int)strlen(a), lb = (unsigned int)strlen(b);

	if (la >= ARRAY_SIZE(row) || lb >= ARRAY_SIZE(row))
		return UINT32_MAX;
	for (unsigned int j = 0; j <= lb; j++)
		row[j] = j;
	for (unsigned int i = 1; i <= la; i++) {
		unsigned int diag = row[0];

		row[0] = i;
		for (unsigned int j = 1; j <= lb; j++) {
			unsigned int up = row[j], d = diag + (a[i - 1] != b[j - 1]);

			if (up + 1 < d)
				d = up + 1;
			if (row[j - 1] + 1 < d)
				d = row[j - 1] + 1;
			diag = up;
			row[j] = d;
		}
	}
	return row[lb];
}

static const char *nearest(const char *name)
{
	const char *best = NULL;
	unsigned int least = 4;

	for (unsigned int i = 0; i < ARRAY_SIZE(options); i++) {
		unsigned int d = distance(name, options[i].name);

		if (d < least) {
			least = d;
			best = options[i].name;
		}
	}
	return best;
}

static char *trim(char *s)
{
	char *end;

	s += strspn(s, " \t\r");
	end = s + strlen(s);
	while (end > s && (end[-1] == ' ' || end[-1] == '\t' || end[-1] == '\r'))
		*--end = '\0';
	return s;
}

/* Complaints must not carry control characters to a terminal. */
static void printable(const char *s, char *buf, size_t size)
{
	size_t n = 0;

	for (; *s && n + 1 < size; s++)
		buf[n++] = (unsigned char)*s < 0x20 || (unsigned char)*s >= 0x7f ? '?' : *s;
	buf[n] = '\0';
}

int vmp_conf_parse(const char *name, const char *text, size_t len, struct vmp_conf *ret, struct vmp_diag *diag)
{
	unsigned int line_of[ARRAY_SIZE(options)] = { 0 }, errors = 0, line = 0, last = 0;
	const char *p = text, *end = text + len;
	struct vmp_conf c;

	vmp_conf_defaults(&c);
	while (p < end) {
		const char *nl = memchr(p, '\n', (size_t)(end - p));
		char buf[LINE_MAX_LEN], why[256], shown[64], *key, *val, *hash;
		size_t n;
		int i;

		if (!nl)
			nl = end;
		line++;
		n = (size_t)(nl - p);
		if (n >= sizeof(buf)) {
			vmp_diag_add(diag, name, line, "the line is longer than %zu characters", sizeof(buf) - 1);
			errors++;
			p = nl + 1;
			continue;
		}
		memcpy(buf, p, n);
		buf[n] = '\0';
		p = nl + 1;
		if (memchr(buf, '\0', n)) {
			vmp_diag_add(diag, name, line, "a zero byte: this is not a text file");
			errors++;
			continue;
		}
		hash = strchr(buf, '#');
		if (hash)
			*hash = '\0';
		key = trim(buf);
		if (!*key)
			continue;
		val = strchr(key, '=');
		if (!val) {
			printable(key, shown, sizeof(shown));
			vmp_diag_add(diag, name, line, "`%s` has no `=` (write: name = value)", shown);
			errors++;
			continue;
		}
		*val++ = '\0';
		key = trim(key);
		val = trim(val);
		printable(key, shown, sizeof(shown));
		i = option_find(key);
		if (i < 0) {
			const char *like = nearest(key);

			if (like)
				vmp_diag_add(diag, name, line, "unknown option `%s` (did you mean %s?)", shown, like);
			else
				vmp_diag_add(diag, name, line, "unknown option `%s` (see vmpaird.conf(5))", shown);
			errors++;
			continue;
		}
		if (line_of[i]) {
			vmp_diag_add(diag, name, line, "%s is already set on line %u (keep one)", options[i].name, line_of[i]);
			errors++;
			continue;
		}
		line_of[i] = line;
		last = line;
		why[0] = '\0';
		if (option_set(&options[i], &c, val, why, sizeof(why)) < 0) {
			char clean[sizeof(why)];

			printable(why, clean, sizeof(clean));
			vmp_diag_add(diag, name, line, "%s: %s", options[i].name, clean);
			errors++;
		}
	}
	if (!errors) {
		/* The line of what most likely has to change. */
		int i = option_find("lease_ms");

		if (!line_of[i])
			i = option_find("hb_ms");
		cross_check(&c, name, line_of[i] ? line_of[i] : last, diag, &errors);
	}
	if (errors)
		return -EINVAL;
	*ret = c;
	return 0;
}

int vmp_conf_load(const char *path, struct vmp_conf *ret, struct vmp_diag *diag)
{
	bool optional = !path;
	CLEANUP_CLOSE int fd = -1;
	CLEANUP_FREE char *buf = NULL;
	struct stat st;
	size_t len = 0;

	if (optional)
		path = VMP_CONF_FILE;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0 || fstat(fd, &st) < 0) {
		int err = errno;

		if (optional && err == ENOENT)
			return vmp_conf_parse(path, "", 0, ret, diag);
		vmp_diag_add(diag, path, 0, "%s", strerror(err));
		return -err;
	}
	if (!S_ISREG(st.st_mode)) {
		vmp_diag_add(diag, path, 0, "is not a regular file");
		return -EINVAL;
	}
	buf = malloc(FILE_MAX + 1);
	if (!buf)
		return -ENOMEM;
	while (len <= FILE_MAX) {
		ssize_t n = read(fd, buf + len, FILE_MAX + 1 - len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			int err = errno;

			vmp_diag_add(diag, path, 0, "%s", strerror(err));
			return -err;
		}
		if (n == 0)
			break;
		len += (size_t)n;
	}
	if (len > FILE_MAX) {
		vmp_diag_add(diag, path, 0, "is longer than %d bytes, this is not a configuration", FILE_MAX);
		return -EINVAL;
	}
	return vmp_conf_parse(path, buf, len, ret, diag);
}

unsigned int vmp_conf_reload(struct vmp_conf *cur, const struct vmp_conf *fresh, char *names, size_t names_size)
{
	unsigned int restart = 0;
	size_t n = 0;

	if (names_size)
		names[0] = '\0';
	for (unsigned int i = 0; i < ARRAY_SIZE(options); i++) {
		const struct option *o = &options[i];
		char *to = (char *)cur + o->offset;
		const char *from = (const char *)fresh + o->offset;

		if (memcmp(to, from, o->size) == 0)
			continue;
		if (o->reload) {
			memcpy(to, from, o->size);
			continue;
		}
		restart++;
		if (n < names_size)
			n += (size_t)snprintf(names + n, names_size - n, "%s%s", n ? ", " : "", o->name);
	}
	return restart;
}

static void range_text(const struct option *o, char *buf, size_t size)
{
	char lo[16], hi[16];

	switch (o->type) {
	case TYPE_UINT:
		snprintf(buf, size, "%u to %u%s%s", o->min, o->max, *o->unit ? " " : "", o->unit);
		return;
	case TYPE_FRAC:
		format_frac(o->min, lo, sizeof(lo));
		format_frac(o->max, hi, sizeof(hi));
		snprintf(buf, size, "%s to %s", lo, hi);
		return;
	case TYPE_BOOL:
		snprintf(buf, size, "yes or no");
		return;
	case TYPE_LEVEL:
		snprintf(buf, size, "error, warning, notice, info or debug");
		return;
	case TYPE_PATH:
		snprintf(buf, size, "an absolute path");
		return;
	case TYPE_STR:
		snprintf(buf, size, "a word");
		return;
	case TYPE_ADDRS:
		snprintf(buf, size, "at most %d numeric addresses", VMP_CONF_BINDS);
		return;
	case TYPE_PORTS:
		snprintf(buf, size, "FIRST-LAST, %u to %u", o->min, o->max);
		return;
	case TYPE_NODES:
		snprintf(buf, size, "NAME ID ADDRESS [ADDRESS]%s", o->max > 1 ? ", one after each comma" : "");
		return;
	}
}

int vmp_conf_write(const struct vmp_conf *conf, FILE *out)
{
	char val[VMP_CONF_NODES], range[96];

	for (unsigned int i = 0; i < ARRAY_SIZE(options); i++) {
		const struct option *o = &options[i];

		option_text(o, conf, val, sizeof(val));
		range_text(o, range, sizeof(range));
		/* What has its default stays a comment: a later default then applies. */
		fprintf(out, "%s# %s\n# %s; default: %s\n%s%s =%s%s\n", i ? "\n" : "", o->help, range, *o->def ? o->def : "(empty)",
			strcmp(val, o->def) == 0 ? "#" : "", o->name, *val ? " " : "", val);
	}
	return ferror(out) ? -EIO : 0;
}

/* Text for roff: a leading dot or quote, backslashes and minus signs need care. */
static void roff(FILE *out, const char *s)
{
	if (*s == '.' || *s == '\'')
		fputs("\\&", out);
	for (; *s; s++) {
		if (*s == '\\')
			fputs("\\e", out);
		else if (*s == '-')
			fputs("\\-", out);
		else
			fputc(*s, out);
	}
}

int vmp_conf_write_man(FILE *out)
{
	char range[96];

	fputs(".SH OPTIONS\n", out);
	for (unsigned int i = 0; i < ARRAY_SIZE(options); i++) {
		const struct option *o = &options[i];

		range_text(o, range, sizeof(range));
		fprintf(out, ".TP\n.B %s\n", o->name);
		roff(out, o->help);
		fputs("\n.br\nValue: ", out);
		roff(out, range);
		fputs("; default: ", out);
		roff(out, *o->def ? o->def : "empty");
		fputs(o->reload ? "; taken over by a reload.\n" : ".\n", out);
	}
	return ferror(out) ? -EIO : 0;
}
