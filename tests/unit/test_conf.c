/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <sys/stat.h>
#include <syslog.h>

#include "daemon/conf.h"
#include "tests/unit/testdir.h"

static struct vmp_diag diag;

static int parse(const char *text, struct vmp_conf *c)
{
	vmp_diag_init(&diag);
	return vmp_conf_parse("f", text, strlen(text), c, &diag);
}

static void assert_refused(const char *text, const char *expected)
{
	struct vmp_conf c, before;

	memset(&c, 0x5a, sizeof(c));
	before = c;
	assert_int_equal(parse(text, &c), -EINVAL);
	assert_string_equal(diag.text, expected);
	assert_memory_equal(&c, &before, sizeof(c));
}

static void defaults(void **state)
{
	struct vmp_conf c;

	(void)state;
	assert_int_equal(parse("", &c), 0);
	assert_int_equal(c.hb_ms, 20);
	assert_int_equal(c.lease_ms, 150);
	assert_int_equal(c.clock_error_permille, 100);
	assert_int_equal(c.gate_delay_ms, 10);
	assert_int_equal(c.holder_ms, 112);
	assert_int_equal(c.port, 5440);
	assert_int_equal(c.log_level, LOG_NOTICE);
	assert_true(c.realtime);
	assert_int_equal(c.bind_count, 0);
	assert_string_equal(c.libvirt_uri, "qemu:///system");
}

static void values(void **state)
{
	struct vmp_conf c;

	(void)state;
	assert_int_equal(parse("# a comment\r\n\n  hb_ms=10 # why\nlease_ms\t=\t200\nclock_error = 0.05\nrealtime = no\n"
			       "log_level = debug\nbind_address = 192.0.2.1, 2001:db8::1\nkey_file = /k\nport = 7000", &c), 0);
	assert_int_equal(c.hb_ms, 10);
	assert_int_equal(c.lease_ms, 200);
	assert_int_equal(c.clock_error_permille, 50);
	assert_int_equal(c.holder_ms, 170);	/* 200 * 0.95 / 1.05 - 10 = 170.95 */
	assert_false(c.realtime);
	assert_int_equal(c.log_level, LOG_DEBUG);
	assert_int_equal(c.bind_count, 2);
	assert_string_equal(c.bind[0], "192.0.2.1");
	assert_string_equal(c.bind[1], "2001:db8::1");
	assert_string_equal(c.key_file, "/k");
	assert_int_equal(c.port, 7000);
}

static void fractions(void **state)
{
	struct vmp_conf c;

	(void)state;
	assert_int_equal(parse("clock_error = .1", &c), 0);
	assert_int_equal(c.clock_error_permille, 100);
	assert_int_equal(parse("clock_error = 0.001000", &c), 0);
	assert_int_equal(c.clock_error_permille, 1);
	assert_refused("clock_error = 0.0005", "f:1: clock_error: `0.0005` is not a fraction with at most three places (like 0.05)\n");
	assert_refused("clock_error = 10%", "f:1: clock_error: `10%` is not a fraction with at most three places (like 0.05)\n");
	assert_refused("clock_error = .", "f:1: clock_error: `.` is not a fraction with at most three places (like 0.05)\n");
	assert_refused("clock_error = 0", "f:1: clock_error: 0 is out of range (0.001 to 0.3)\n");
	assert_refused("clock_error = 1.5", "f:1: clock_error: 1.5 is out of range (0.001 to 0.3)\n");
}

static void all_errors_at_once(void **state)
{
	(void)state;
	assert_refused("hb_sm = 20\n"
		       "port = 70000\n"
		       "hb_ms = 20ms\n"
		       "port = 5440\n"
		       "realtime\n"
		       "realtime = true\n"
		       "key_file = keys\n"
		       "bind_address = host1\n"
		       "log_level = loud\n"
		       "frobnicate = 1\n"
		       "libvirt_uri =\n"
		       "lease_ms = -1\n"
		       "gate_delay_ms = 99999999999999999999\n",
		       "f:1: unknown option `hb_sm` (did you mean hb_ms?)\n"
		       "f:2: port: 70000 is out of range (1 to 65535)\n"
		       "f:3: hb_ms: `20ms` is not a whole number of ms without a unit\n"
		       "f:4: port is already set on line 2 (keep one)\n"
		       "f:5: `realtime` has no `=` (write: name = value)\n"
		       "f:6: realtime: `true` is neither yes nor no\n"
		       "f:7: key_file: `keys` is not an absolute path\n"
		       "f:8: bind_address: `host1` is not a numeric IPv4 or IPv6 address\n"
		       "f:9: log_level: `loud` is none of error, warning, notice, info, debug\n"
		       "f:10: unknown option `frobnicate` (see vmpaird.conf(5))\n"
		       "f:11: libvirt_uri: must be one word\n"
		       "f:12: lease_ms: `-1` is not a whole number of ms without a unit\n"
		       "f:13: gate_delay_ms: `99999999999999999999` is not a whole number of ms without a unit\n");
	assert_int_equal(diag.count, 13);
}

static void addresses(void **state)
{
	struct vmp_conf c;

	(void)state;
	assert_int_equal(parse("bind_address = fe80::1%eth0", &c), 0);
	assert_int_equal(parse("bind_address =", &c), 0);
	assert_int_equal(c.bind_count, 0);
	assert_refused("bind_address = fe80::1%", "f:1: bind_address: `fe80::1%` is not a numeric IPv4 or IPv6 address\n");
	assert_refused("bind_address = 192.0.2.256", "f:1: bind_address: `192.0.2.256` is not a numeric IPv4 or IPv6 address\n");
	assert_refused("bind_address = 192.0.2.1 192.0.2.1", "f:1: bind_address: `192.0.2.1` is there twice\n");
	assert_refused("bind_address = 192.0.2.1 192.0.2.2 192.0.2.3",
		       "f:1: bind_address: more than 2 addresses (name those of the links to use)\n");
}

static void witness(void **state)
{
	struct vmp_conf_node n[VMP_CONF_MAX_NODES];
	struct vmp_diag own;
	struct vmp_conf c, d;

	(void)state;
	assert_int_equal(parse("witness = w 200 192.0.2.9\nhosts = n1 1 192.0.2.1 2001:db8::1,\tn2 2  192.0.2.2\n", &c), 0);
	assert_int_equal(vmp_conf_nodes(c.witness, n, NULL, 0), 1);
	assert_string_equal(n[0].name, "w");
	assert_int_equal(n[0].id, 200);
	assert_int_equal(n[0].n_addr, 1);
	assert_int_equal(vmp_conf_nodes(c.hosts, n, NULL, 0), 2);
	assert_string_equal(n[0].addr[1], "2001:db8::1");
	assert_string_equal(n[1].name, "n2");
	assert_string_equal(n[1].addr[0], "192.0.2.2");
	vmp_diag_init(&own);
	assert_int_equal(vmp_conf_check_witness("f", &c, &own), 0);
	assert_int_equal(parse("witness =\nhosts =\n", &d), 0);
	assert_int_equal(vmp_conf_nodes(d.witness, n, NULL, 0), 0);
	assert_int_equal(vmp_conf_check_witness("f", &d, &own), -EINVAL);
	assert_non_null(strstr(own.text, "f: a witness has to know itself and its hosts"));
	assert_refused("witness = w 0 192.0.2.9", "f:1: witness: w: `0` is not a node id (1 to 255; write NAME ID ADDRESS)\n");
	assert_refused("witness = w 256 192.0.2.9", "f:1: witness: w: `256` is not a node id (1 to 255; write NAME ID ADDRESS)\n");
	assert_refused("witness = w 9", "f:1: witness: w: no address (write NAME ID ADDRESS)\n");
	assert_refused("witness = w 9 box", "f:1: witness: w: `box` is not a numeric IPv4 or IPv6 address\n");
	assert_refused("witness = w 9 192.0.2.9, v 8 192.0.2.8", "f:1: witness: names 2 nodes, at most 1\n");
	assert_refused("hosts = a 1 192.0.2.1, b 1 192.0.2.2", "f:1: hosts: a and b have the same name or node id\n");
	assert_refused("hosts = a 1 192.0.2.1 192.0.2.2 192.0.2.3", "f:1: hosts: a: more than 2 addresses (put a comma between nodes)\n");
	assert_refused("witness = w 2 192.0.2.9\nhosts = a 1 192.0.2.1, b 2 192.0.2.2",
		       "f:2: witness w (2) has the name or the node id of the host b (2)\n");
	assert_true(vmp_conf_lease_digest(&c) == vmp_conf_lease_digest(&d));
	assert_int_equal(parse("lease_ms = 151", &d), 0);
	assert_true(vmp_conf_lease_digest(&c) != vmp_conf_lease_digest(&d));
	assert_int_equal(parse("clock_error = 0.09", &d), 0);
	assert_true(vmp_conf_lease_digest(&c) != vmp_conf_lease_digest(&d));
}

static void lease_against_heartbeat(void **state)
{
	struct vmp_conf c;

	(void)state;
	assert_refused("hb_ms = 50\n",
		       "f:1: lease_ms 150 with clock_error 0.1 and gate_delay_ms 10 leaves a holder 112 ms, less than three heartbeats of "
		       "hb_ms 50 (lease_ms 196 or more, or hb_ms 37 or less)\n");
	/* Both mends work. */
	assert_int_equal(parse("hb_ms = 50\nlease_ms = 196\n", &c), 0);
	assert_int_equal(c.holder_ms, 150);
	assert_int_equal(parse("hb_ms = 50\nlease_ms = 195\n", &c), -EINVAL);
	assert_int_equal(parse("hb_ms = 37\n", &c), 0);
	assert_int_equal(parse("hb_ms = 38\n", &c), -EINVAL);
	assert_int_equal(parse("gate_delay_ms = 1000\n", &c), -EINVAL);	/* H not positive at all */
	assert_refused("port = 1\nhold_max_ms = 140\n", "f:2: hold_max_ms 140 is less than lease_ms 150 (set it to 150 or more)\n");
	assert_int_equal(parse("runtime_dir = /a\nstate_dir = /a", &c), -EINVAL);
}

static void odd_bytes(void **state)
{
	static const char nul[] = "hb_ms = 1\0" "0\nhb_ms = 10\n";
	char *long_line = malloc(3000);
	struct vmp_conf c;

	(void)state;
	vmp_diag_init(&diag);
	assert_int_equal(vmp_conf_parse("f", nul, sizeof(nul) - 1, &c, &diag), -EINVAL);
	assert_string_equal(diag.text, "f:1: a zero byte: this is not a text file\n");
	memset(long_line, 'x', 2999);
	long_line[2999] = '\0';
	assert_int_equal(parse(long_line, &c), -EINVAL);
	assert_string_equal(diag.text, "f:1: the line is longer than 1023 characters\n");
	free(long_line);
	assert_refused("\x1b[31m = 1\n", "f:1: unknown option `?[31m` (see vmpaird.conf(5))\n");
	assert_refused("realtime = \x1b[31m\n", "f:1: realtime: `?[31m` is neither yes nor no\n");
}

/* Thousands of complaints neither overflow the collection nor stop the counting. */
static void many_errors(void **state)
{
	char *text = malloc(10000 * 2 + 1);
	struct vmp_conf c;

	(void)state;
	for (unsigned int i = 0; i < 10000; i++)
		memcpy(text + 2 * i, "x\n", 2);
	text[20000] = '\0';
	assert_int_equal(parse(text, &c), -EINVAL);
	free(text);
	assert_int_equal(diag.count, 10000);
	assert_true(diag.len < sizeof(diag.text));
	assert_int_equal(diag.text[diag.len - 1], '\n');
}

static void files(void **state)
{
	struct vmp_conf c;

	(void)state;
	vmp_diag_init(&diag);
	assert_int_equal(vmp_conf_load(testdir_path("none"), &c, &diag), -ENOENT);
	assert_int_equal(diag.count, 1);
	assert_int_equal(vmp_conf_load(testdir, &c, &diag), -EINVAL);
	assert_int_equal(mkfifo(testdir_path("fifo"), 0600), 0);
	assert_int_equal(vmp_conf_load(testdir_path("fifo"), &c, &diag), -EINVAL);	/* does not hang */
	testdir_write(testdir_path("c"), "hb_ms = 21\n", 0644);
	assert_int_equal(vmp_conf_load(testdir_path("c"), &c, &diag), 0);
	assert_int_equal(c.hb_ms, 21);
}

static void reload(void **state)
{
	struct vmp_conf cur, fresh;
	char names[64];

	(void)state;
	vmp_conf_defaults(&cur);
	assert_int_equal(parse("log_level = debug\nport = 1\nhb_ms = 10\nkey_file = /other\n", &fresh), 0);
	assert_int_equal(vmp_conf_reload(&cur, &fresh, names, sizeof(names)), 2);
	assert_string_equal(names, "hb_ms, port");
	assert_int_equal(cur.log_level, LOG_DEBUG);
	assert_string_equal(cur.key_file, "/other");
	assert_int_equal(cur.port, 5440);
	assert_int_equal(vmp_conf_reload(&cur, &cur, names, sizeof(names)), 0);
	assert_string_equal(names, "");
}

/* What is written reads back the same; the sample consists of comments only. */
static void written_form(void **state)
{
	struct vmp_conf c, back;
	char *text = NULL;
	size_t size = 0;
	FILE *f = open_memstream(&text, &size);

	(void)state;
	assert_int_equal(parse("clock_error = 0.05\nhb_ms = 30\nrealtime = no\nbind_address = 192.0.2.1\nlog_level = error\n", &c), 0);
	assert_int_equal(vmp_conf_write(&c, f), 0);
	fclose(f);
	assert_int_equal(parse(text, &back), 0);
	assert_memory_equal(&c, &back, sizeof(c));
	free(text);

	f = open_memstream(&text, &size);
	assert_int_equal(vmp_conf_write_man(f), 0);
	fclose(f);
	assert_non_null(strstr(text, ".B lease_ms\n"));
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults), cmocka_unit_test(values), cmocka_unit_test(fractions),
		cmocka_unit_test(all_errors_at_once), cmocka_unit_test(addresses), cmocka_unit_test(witness), cmocka_unit_test(lease_against_heartbeat),
		cmocka_unit_test(odd_bytes), cmocka_unit_test(many_errors), cmocka_unit_test(files), cmocka_unit_test(reload),
		cmocka_unit_test(written_form),
	};

	return cmocka_run_group_tests(tests, testdir_make, testdir_remove);
}
