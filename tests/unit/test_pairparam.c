/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/pairparam.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

struct faults {
	unsigned n;
	char last_param[64], last_message[256];
};

static void on_fault(void *data, const char *param, const char *message)
{
	struct faults *f = data;
	f->n++;
	snprintf(f->last_param, sizeof(f->last_param), "%s", param);
	snprintf(f->last_message, sizeof(f->last_message), "%s", message);
}

static json_t *good(void)
{
	return json_pack("{s:s s:s s:s s:s s:s}", "pair", "web", "domain", "/etc/vmpair/web.xml", "entry", "10.0.0.10/24, fd00::10/64",
			 "entry_nic", "br-entry", "internal_net", "192.168.77.0/24@br-int");
}

static void good_parameters_and_defaults(void **state)
{
	(void)state;
	struct vmp_pair_params p;
	struct faults f = {0};
	json_t *j = good();
	assert_int_equal(vmp_pair_params_parse(j, &p, on_fault, &f), 0);
	assert_string_equal(p.pair, "web");
	assert_int_equal(p.n_entry, 2);
	assert_int_equal(p.entry[0].family, AF_INET);
	assert_int_equal(p.entry[0].prefix, 24);
	assert_int_equal(p.entry[1].family, AF_INET6);
	assert_int_equal(p.entry[1].bytes[15], 0x10);
	assert_true(p.has_internal);
	assert_string_equal(p.internal_bridge, "br-int");
	assert_int_equal(p.ready, VMP_READY_RUNNING);
	assert_int_equal(p.ready_timeout_ms, 1000);
	assert_int_equal(p.stop_timeout_ms, 30000);
	assert_true(p.cold_start_auto && !p.peer_link_failover);
	json_object_set_new(j, "ready", json_string("http:8080"));
	json_object_set_new(j, "stop_timeout", json_string(""));
	assert_int_equal(vmp_pair_params_parse(j, &p, on_fault, &f), 0);
	assert_int_equal(p.ready, VMP_READY_HTTP);
	assert_int_equal(p.ready_port, 8080);
	assert_string_equal(p.ready_path, "/");
	assert_int_equal(p.stop_timeout_ms, 30000);
	json_decref(j);
}

static void each_bad_value_is_named(void **state)
{
	(void)state;
	static const struct { const char *param, *value; } bad[] = {
		{"pair", ""}, {"pair", "-x"}, {"pair", "a b"}, {"pair", "a/b"}, {"pair", "\xc3\xa4"},
		{"pair", "0123456789012345678901234567890123456789012345678901234567890123"},
		{"domain", "web.xml"}, {"domain", ""},
		{"entry", ""}, {"entry", ","}, {"entry", "10.0.0.1"}, {"entry", "10.0.0.1/33"}, {"entry", "10.0.0.1/0"}, {"entry", "10.0.0.300/24"},
		{"entry", "10.0.0.1/+24"}, {"entry", "10.0.0.1/24x"}, {"entry", "127.0.0.1/8"}, {"entry", "224.0.0.1/24"}, {"entry", "::/64"},
		{"entry", "::1/128"}, {"entry", "ff02::1/64"}, {"entry", "10.0.0.1/24,10.0.0.1/24"}, {"entry", "fd00::1/129"},
		{"entry", "1.0.0.1/8 1.0.0.2/8 1.0.0.3/8 1.0.0.4/8 1.0.0.5/8 1.0.0.6/8 1.0.0.7/8 1.0.0.8/8 1.0.0.9/8"},
		{"entry_nic", ""}, {"entry_nic", "br/0"}, {"entry_nic", "a-name-that-is-too-long"}, {"entry_nic", ".."},
		{"internal_net", "192.168.77.1/24"}, {"internal_net", "192.168.77.0/31"}, {"internal_net", "192.168.77.0"},
		{"internal_net", "192.168.77.0/24@"}, {"internal_net", "192.168.77.0/24@br-entry"}, {"internal_net", "10.0.0.0/16"},
		{"ready", "ping"}, {"ready", "tcp:"}, {"ready", "tcp:0"}, {"ready", "tcp:65536"}, {"ready", "tcp:80/x"}, {"ready", "http:80x"},
		{"ready", "http:80/a b"}, {"ready", "tcp:-1"},
		{"ready_timeout", "1"}, {"ready_timeout", "5ms"}, {"ready_timeout", "x"}, {"ready_timeout", "2h"}, {"ready_timeout", "-1"},
		{"peer_link", "lose"}, {"cold_start", "yes"},
		{"stop_timeout", "1day"}, {"stop_timeout", "99999999999"}, {"stop_timeout", "4294968"},
		{"entry_mode", "macvtap"}, {"relay", "somewhere"}, {"services", "http1:80"},
		{"sync", "none"}, {"redo", "maybe"}, {"sync_buffer", "1k"}, {"sync_buffer", "64X"}, {"sync_buffer", "17179869185G"},
		{"sync_buffer", "-1"}, {"answer_keep", "2days"}, {"answer_keep", "25h"}, {"max_request", "0"}, {"max_request", "1G"},
		{"sync_timeout", "10ms"}, {"export", "dump"}, {"import", "/bin/load\nx"},
		{"colour", "red"},
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct faults f = {0};
		struct vmp_pair_params p;
		json_t *j = good();
		json_object_set_new(j, bad[i].param, json_stringn_nocheck(bad[i].value, strlen(bad[i].value)));
		int rc = vmp_pair_params_parse(j, &p, on_fault, &f);
		if (!strcmp(bad[i].param, "ready_timeout") && !strcmp(bad[i].value, "1")) {
			assert_int_equal(rc, 0);	/* a plain number is seconds */
		} else {
			if (rc != -EINVAL)
				print_message("%s=%s was accepted\n", bad[i].param, bad[i].value);
			assert_int_equal(rc, -EINVAL);
			assert_true(f.n >= 1);
			assert_string_equal(f.last_param, bad[i].param);
		}
		json_decref(j);
	}
}

static void all_faults_are_reported(void **state)
{
	(void)state;
	struct faults f = {0};
	struct vmp_pair_params p;
	json_t *j = json_pack("{s:s s:s s:i}", "pair", "a b", "entry", "x", "domain", 7);
	assert_int_equal(vmp_pair_params_parse(j, &p, on_fault, &f), -EINVAL);
	assert_int_equal(f.n, 4);	/* domain no string, pair, entry, entry_nic missing */
	json_decref(j);
	assert_int_equal(vmp_pair_params_parse(NULL, &p, on_fault, &f), -EINVAL);
}

static void checks_that_need_the_internal_net(void **state)
{
	(void)state;
	struct faults f = {0};
	struct vmp_pair_params p;
	json_t *j = good();
	json_object_del(j, "internal_net");
	assert_int_equal(vmp_pair_params_parse(j, &p, on_fault, &f), 0);
	assert_false(p.has_internal);
	json_object_set_new(j, "ready", json_string("tcp:80"));
	assert_int_equal(vmp_pair_params_parse(j, &p, on_fault, &f), -EINVAL);
	assert_string_equal(f.last_param, "ready");
	json_object_set_new(j, "ready", json_string("running"));
	json_object_set_new(j, "peer_link", json_string("failover"));
	assert_int_equal(vmp_pair_params_parse(j, &p, on_fault, &f), -EINVAL);
	assert_string_equal(f.last_param, "peer_link");
	json_decref(j);
}

static json_t *with_relay(const char *mode, const char *relay, const char *services)
{
	json_t *j = good();
	json_object_set_new(j, "entry_mode", json_string(mode));
	json_object_set_new(j, "relay", json_string(relay));
	if (services)
		json_object_set_new(j, "services", json_string(services));
	return j;
}

static void relay_parameters(void **state)
{
	(void)state;
	struct vmp_pair_params p, q;
	struct faults f = {0};
	const char *name;
	json_t *j = good(), *s;
	assert_int_equal(vmp_pair_params_parse(j, &p, on_fault, &f), 0);
	assert_true(p.entry_mode == VMP_ENTRY_BRIDGE && p.relay == VMP_RELAY_NONE && p.n_services == 0);
	json_decref(j);
	j = with_relay("host", "host", "http1:80:8080 resp:6379 line,id=2:7000 length-prefixed,width=2,little,id=0+16:7001 stream:22");
	assert_int_equal(vmp_pair_params_parse(j, &p, on_fault, &f), 0);
	assert_int_equal(p.entry_mode, VMP_ENTRY_HOST);
	assert_int_equal(p.relay, VMP_RELAY_HOST);
	assert_int_equal(p.n_services, 5);
	assert_string_equal(p.service[0].framing, "http1");
	assert_true(p.service[0].port == 80 && p.service[0].backend_port == 8080);
	assert_true(p.service[1].port == 6379 && p.service[1].backend_port == 6379);
	assert_string_equal(p.service[3].framing, "length-prefixed,width=2,little,id=0+16");
	assert_true(p.sync == VMP_SYNC_JOURNAL && p.redo == VMP_REDO_IDEMPOTENT);
	assert_true(p.sync_buffer == 64u << 20 && p.max_request == 1u << 20 && p.answer_keep_ms == 60000 && p.sync_timeout_ms == 300);
	s = vmp_services_json(p.service, p.n_services);
	assert_int_equal(json_array_size(s), 5);
	assert_string_equal(json_string_value(json_object_get(json_array_get(s, 2), "framing")), "line,id=2");
	json_decref(s);
	json_object_set_new(j, "redo", json_string("never"));
	json_object_set_new(j, "max_request", json_string("2M"));
	assert_int_equal(vmp_pair_params_parse(j, &q, on_fault, &f), 0);
	assert_int_equal(vmp_pair_params_reloadable(&p, &q, &name), 0);
	json_object_set_new(j, "sync", json_string("mirror"));
	assert_int_equal(vmp_pair_params_parse(j, &q, on_fault, &f), 0);
	assert_int_equal(vmp_pair_params_reloadable(&p, &q, &name), -EBUSY);
	assert_string_equal(name, "sync");
	json_object_set_new(j, "sync", json_string("journal"));
	json_object_set_new(j, "services", json_string("http1:81:8080"));
	assert_int_equal(vmp_pair_params_parse(j, &q, on_fault, &f), 0);
	assert_int_equal(vmp_pair_params_reloadable(&p, &q, &name), -EBUSY);
	assert_string_equal(name, "services");
	json_object_set_new(j, "max_request", json_string("17M"));
	assert_int_equal(vmp_pair_params_parse(j, &q, on_fault, &f), -EINVAL);
	assert_string_equal(f.last_param, "max_request");
	json_object_del(j, "max_request");
	json_object_set_new(j, "export", json_string("/usr/bin/dump"));
	assert_int_equal(vmp_pair_params_parse(j, &q, on_fault, &f), -EINVAL);
	assert_string_equal(f.last_param, "import");
	json_object_del(j, "export");
	json_object_del(j, "internal_net");
	assert_int_equal(vmp_pair_params_parse(j, &q, on_fault, &f), -EINVAL);
	assert_string_equal(f.last_param, "relay");
	json_decref(j);
}

static void relay_combinations_are_checked(void **state)
{
	(void)state;
	static const struct { const char *mode, *relay, *services, *fault; } c[] = {
		{"bridge", "host", "http1:80", "relay"}, {"host", "guest", "http1:80", "relay"}, {"host", "host", NULL, "services"},
		{"host", "none", "http1:80", "services"}, {"host", "none", NULL, NULL}, {"bridge", "guest", "http1:80", NULL},
		{"keepalived", "host", "http1:80", NULL}, {"keepalived", "guest", "http1:80", "relay"}, {"keepalived", "none", NULL, NULL},
		{"host", "host", "http2:80", "services"}, {"host", "host", "http1", "services"}, {"host", "host", "http1:0", "services"},
		{"host", "host", "http1:80:", "services"}, {"host", "host", "http1:80:8080:1", "services"},
		{"host", "host", "http1:65536", "services"}, {"host", "host", "http1:80 resp:80", "services"}, {"host", "host", " ", "services"},
		{"host", "host", "line,id=0:7", "services"}, {"host", "host", "line,width=2:7", "services"},
		{"host", "host", "length-prefixed,width=3:7", "services"}, {"host", "host", "length-prefixed,endian=up:7", "services"},
		{"host", "host", "length-prefixed,id=3:7", "services"}, {"host", "host", "length-prefixed,id=0+129:7", "services"},
		{"host", "host", "http1,id=2:7", "services"},
		{"host", "host", "stream:1 stream:2 stream:3 stream:4 stream:5 stream:6 stream:7 stream:8 stream:9 stream:10 stream:11 stream:12 "
		 "stream:13 stream:14 stream:15 stream:16 stream:17", "services"},
	};
	for (size_t i = 0; i < sizeof(c) / sizeof(c[0]); i++) {
		struct faults f = {0};
		struct vmp_pair_params p;
		json_t *j = with_relay(c[i].mode, c[i].relay, c[i].services);
		int rc = vmp_pair_params_parse(j, &p, on_fault, &f);
		if (rc != (c[i].fault ? -EINVAL : 0))
			print_message("entry_mode=%s relay=%s services=%s: %d\n", c[i].mode, c[i].relay, c[i].services ? c[i].services : "", rc);
		assert_int_equal(rc, c[i].fault ? -EINVAL : 0);
		if (c[i].fault)
			assert_string_equal(f.last_param, c[i].fault);
		json_decref(j);
	}
}

static void sizes(void **state)
{
	(void)state;
	uint64_t v = 7;
	assert_int_equal(vmp_size_parse("4096", &v), 0);
	assert_int_equal(v, 4096);
	assert_int_equal(vmp_size_parse("512k", &v), 0);
	assert_int_equal(v, 512 << 10);
	assert_int_equal(vmp_size_parse("1GiB", &v), 0);
	assert_int_equal(v, 1 << 30);
	v = 7;
	assert_int_equal(vmp_size_parse("", &v), -EINVAL);
	assert_int_equal(vmp_size_parse("1 M", &v), -EINVAL);
	assert_int_equal(vmp_size_parse("99999999999G", &v), -ERANGE);
	assert_int_equal(v, 7);
}

static void times(void **state)
{
	(void)state;
	uint32_t ms;
	assert_int_equal(vmp_time_parse("0", &ms), 0);
	assert_int_equal(ms, 0);
	assert_int_equal(vmp_time_parse("90", &ms), 0);
	assert_int_equal(ms, 90000);
	assert_int_equal(vmp_time_parse("1500ms", &ms), 0);
	assert_int_equal(ms, 1500);
	assert_int_equal(vmp_time_parse("2min", &ms), 0);
	assert_int_equal(ms, 120000);
	ms = 7;
	assert_int_equal(vmp_time_parse("", &ms), -EINVAL);
	assert_int_equal(vmp_time_parse("1 s", &ms), -EINVAL);
	assert_int_equal(vmp_time_parse("99999999h", &ms), -ERANGE);
	assert_int_equal(ms, 7);
}

static void triggers(void **state)
{
	(void)state;
	static const char *const bad[][2] = {
		{"on_panic", "restart"}, {"on_panic", "restart:0"}, {"on_panic", "restart:16"}, {"on_panic", "restart:2x"}, {"on_panic", "die"},
		{"on_uplink", "restart:1"}, {"on_storage", "restart:1"}, {"on_shutdown", "restart:1"}, {"on_overload", "restart:1"},
		{"hang_timeout", "1s"}, {"health", "udp:1"}, {"health", "tcp:0"}, {"health", "http:80x"}, {"health", "command:true"},
		{"health", "command:"}, {"health_failures", "0"}, {"health_failures", "many"}, {"overload", "cpu"}, {"overload", "cpu:0"},
		{"overload", "cpu:101"}, {"overload", "disk:5"}, {"uplink", "a b"}, {"uplink", "abcdefghijklmnop"}, {"storage_timeout", "1h"},
		{"trigger_limit", "17"}, {"trigger_limit", "-1"}, {"trigger_window", "10ms"},
	};
	struct vmp_pair_params p;
	struct faults f = {0};
	json_t *j = good();
	assert_int_equal(vmp_pair_params_parse(j, &p, on_fault, &f), 0);
	for (unsigned i = 0; i < VMP_TRG_COUNT; i++)
		assert_int_equal(p.on[i].what, i == VMP_TRG_OVERLOAD ? VMP_TRG_REPORT : VMP_TRG_FAILOVER);
	assert_int_equal(p.trigger_limit, 3);
	assert_int_equal(p.trigger_window_ms, 600000);
	assert_int_equal(p.health, VMP_HEALTH_NONE);
	assert_int_equal(p.storage_timeout_ms, 20000);
	json_object_set_new(j, "on_hang", json_string("restart:2"));
	json_object_set_new(j, "health", json_string("command:/bin/check -x 1"));
	json_object_set_new(j, "overload", json_string("load:400"));
	assert_int_equal(vmp_pair_params_parse(j, &p, on_fault, &f), 0);
	assert_int_equal(p.on[VMP_TRG_HANG].what, VMP_TRG_RESTART);
	assert_int_equal(p.on[VMP_TRG_HANG].restarts, 2);
	assert_int_equal(p.health, VMP_HEALTH_COMMAND);
	assert_string_equal(p.health_cmd, "/bin/check -x 1");
	assert_int_equal(p.overload, VMP_OVERLOAD_LOAD);
	assert_int_equal(p.overload_percent, 400);
	assert_int_equal(f.n, 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		json_t *k = json_deep_copy(j);
		json_object_set_new(k, bad[i][0], json_string(bad[i][1]));
		f.n = 0;
		assert_int_equal(vmp_pair_params_parse(k, &p, on_fault, &f), -EINVAL);
		assert_int_equal(f.n, 1);
		assert_string_equal(f.last_param, bad[i][0]);
		json_decref(k);
	}
	json_object_del(j, "internal_net");
	json_object_set_new(j, "health", json_string("http:80/"));
	assert_int_equal(vmp_pair_params_parse(j, &p, on_fault, &f), -EINVAL);
	assert_string_equal(f.last_param, "health");
	json_decref(j);
	/* a reset would lose what a mirror keeps */
	j = with_relay("host", "host", "http1:80");
	json_object_set_new(j, "on_panic", json_string("restart:1"));
	assert_int_equal(vmp_pair_params_parse(j, &p, on_fault, &f), 0);
	json_object_set_new(j, "sync", json_string("mirror"));
	assert_int_equal(vmp_pair_params_parse(j, &p, on_fault, &f), -EINVAL);
	assert_string_equal(f.last_param, "sync");
	json_decref(j);
}

static void what_may_change_live(void **state)
{
	(void)state;
	struct vmp_pair_params a, b;
	const char *name = NULL;
	for (const struct vmp_param *t = vmp_pair_param_table; t->name; t++) {
		static const char *const other[][2] = {
			{"pair", "db"}, {"domain", "/other.xml"}, {"entry", "10.0.0.10/24 10.0.0.11/24"}, {"entry_nic", "br9"},
			{"internal_net", "192.168.78.0/24@br-int"}, {"ready", "tcp:80"}, {"ready_timeout", "2s"},
			{"peer_link", "failover"}, {"cold_start", "manual"}, {"stop_timeout", "5s"},
			{"entry_mode", "host"}, {"relay", "none"}, {"services", "resp:80"}, {"sync", "mirror"}, {"redo", "all"},
			{"sync_buffer", "32M"}, {"answer_keep", "5s"}, {"max_request", "2M"}, {"sync_timeout", "1s"},
			{"export", "/bin/dump"}, {"import", "/bin/load"},
			{"hang_timeout", "3s"}, {"health", "tcp:81"}, {"health_interval", "1s"}, {"health_timeout", "1s"},
			{"health_failures", "2"}, {"overload", "cpu:70"}, {"uplink", "eth0"}, {"storage_timeout", "5s"},
			{"trigger_limit", "1"}, {"trigger_window", "1min"}, {"on_panic", "restart:2"}, {"on_hang", "report"},
			{"on_watchdog", "report"}, {"on_io_error", "restart:1"}, {"on_health", "report"}, {"on_overload", "failover"},
			{"on_uplink", "report"}, {"on_storage", "report"}, {"on_shutdown", "report"},
		};
		bool tried = false;
		/* the last of them only with a relay, and that one only with its mode and services */
		json_t *j = !strcmp(t->name, "entry_mode") ? good() : with_relay("host", "host", "http1:80");
		json_object_set_new(j, "export", json_string("/bin/x"));
		json_object_set_new(j, "import", json_string("/bin/x"));
		assert_int_equal(vmp_pair_params_parse(j, &a, NULL, NULL), 0);
		for (size_t i = 0; i < sizeof(other) / sizeof(other[0]); i++) {
			if (strcmp(other[i][0], t->name))
				continue;
			json_t *k = json_deep_copy(j);
			json_object_set_new(k, t->name, json_string(other[i][1]));
			if (!strcmp(t->name, "relay"))
				json_object_del(k, "services");
			assert_int_equal(vmp_pair_params_parse(k, &b, NULL, NULL), 0);
			assert_int_not_equal(memcmp(&a, &b, sizeof(a)), 0);
			int rc = vmp_pair_params_reloadable(&a, &b, &name);
			assert_int_equal(rc, t->reloadable ? 0 : -EBUSY);
			if (rc)
				assert_string_equal(name, t->name);
			json_decref(k);
			tried = true;
		}
		assert_true(tried);
		json_decref(j);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good_parameters_and_defaults),
		cmocka_unit_test(each_bad_value_is_named),
		cmocka_unit_test(all_faults_are_reported),
		cmocka_unit_test(checks_that_need_the_internal_net),
		cmocka_unit_test(relay_parameters),
		cmocka_unit_test(relay_combinations_are_checked),
		cmocka_unit_test(sizes),
		cmocka_unit_test(times),
		cmocka_unit_test(triggers), cmocka_unit_test(what_may_change_live),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
