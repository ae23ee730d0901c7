/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Templates in tests/unit/domxml: NAME.in.xml must give NAME.out.xml (VMP_UPDATE_GOLDEN=1 writes them anew), each
 * bad-*.xml must be refused with the words and the line that its first line names. Parameters: pair web, node 2.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "daemon/domxml.h"

static struct vmp_internal_net internal, anybridge, samebridge;
static struct vmp_addr entry[2];
static struct vmp_slot slot;
static struct vmp_domxml_params params;

static int setup(void **state)
{
	unsigned int n;
	char r[200];
	(void)state;

	vmp_domxml_init();
	if (vmp_internal_net_parse("192.168.77.0/24@br-int", &internal, r, sizeof(r)) < 0 ||
	    vmp_internal_net_parse("192.168.77.0/24", &anybridge, r, sizeof(r)) < 0 ||
	    vmp_internal_net_parse("192.168.77.0/24@br-entry", &samebridge, r, sizeof(r)) < 0 ||
	    vmp_entry_parse("192.0.2.10/24,2001:db8::10/64", entry, 2, &n, r, sizeof(r)) < 0 ||
	    vmp_slot_derive("web", 2, &internal, &slot, r, sizeof(r)) < 0)
		return -1;
	params = (struct vmp_domxml_params){ .pair = "web",
					     .slot = &slot,
					     .entry_nic = "br-entry",
					     .entry = entry,
					     .n_entry = 2,
					     .disk_dir = "/var/lib/vmpair/disks/web" };
	return 0;
}

static char *file_text(const char *name, size_t *len)
{
	char path[512], r[300], *text = NULL;

	snprintf(path, sizeof(path), "%s/%s", TEST_DIR, name);
	if (vmp_domxml_read(path, &text, len, r, sizeof(r)) < 0)
		fail_msg("%s", r);
	return text;
}

static struct vmp_domxml *build(const char *name, const struct vmp_domxml_params *p)
{
	struct vmp_domxml *d = NULL;
	char r[300] = "";
	size_t len;
	char *text = file_text(name, &len);

	if (vmp_domxml_build(text, len, name, p, &d, r, sizeof(r)) < 0)
		fail_msg("%s", r);
	free(text);
	return d;
}

static void compare(const char *name, const char *got)
{
	char path[512], *want;
	size_t len;

	if (getenv("VMP_UPDATE_GOLDEN")) {
		FILE *f;

		snprintf(path, sizeof(path), "%s/%s", TEST_DIR, name);
		f = fopen(path, "w");
		assert_non_null(f);
		fputs(got, f);
		fclose(f);
	}
	want = file_text(name, &len);
	if (strcmp(want, got) != 0)
		print_message("%s\n", got);
	assert_string_equal(want, got);
	free(want);
}

static void minimal(void **state)
{
	struct vmp_domxml *d = build("minimal.in.xml", &params);
	static const uint8_t mac[6] = { 0x52, 0x54, 0x00, 0x0a, 0x0b, 0x0c };
	(void)state;

	compare("minimal.out.xml", d->xml);
	assert_memory_equal(d->entry_mac, mac, 6);
	assert_int_equal(d->n_disks, 0);
	assert_string_equal(d->internal_bridge, "");
	assert_false(d->entry_multi_queue);
	vmp_domxml_free(d);
}

static void full(void **state)
{
	struct vmp_domxml_params p = params;
	struct vmp_domxml *d, *again = NULL;
	char r[300];
	(void)state;

	p.internal = &internal;
	d = build("full.in.xml", &p);
	compare("full.out.xml", d->xml);
	assert_true(d->entry_multi_queue);
	assert_string_equal(d->internal_bridge, "br-int");
	assert_int_equal(d->n_disks, 3);
	assert_string_equal(d->disk[0].path, "/var/lib/vmpair/disks/web/vda.qcow2");
	assert_string_equal(d->disk[0].backing, "/srv/images/web.img");
	assert_string_equal(d->disk[0].format, "raw");
	assert_string_equal(d->disk[1].backing, "/srv/images/data & more.qcow2");
	assert_string_equal(d->disk[1].format, "qcow2");
	assert_string_equal(d->disk[2].path, "/var/lib/vmpair/disks/web/vdc.qcow2");
	assert_string_equal(d->disk[2].format, "raw");
	/* what we made is no template: it is refused, not made worse */
	assert_int_equal(vmp_domxml_build(d->xml, strlen(d->xml), "x", &p, &again, r, sizeof(r)), -EINVAL);
	assert_null(again);
	vmp_domxml_free(d);
}

/* Entry mode host: the card on the entry bridge is like any other, and the guest is told of no entry address. */
static void without_entry_nic(void **state)
{
	struct vmp_domxml_params p = params;
	struct vmp_internal_net net = internal;
	uint8_t before[VMP_DIGEST_LEN];
	struct vmp_domxml *d;
	(void)state;

	p.internal = &net;
	d = build("full.in.xml", &p);
	memcpy(before, d->digest, sizeof(before));
	vmp_domxml_free(d);
	p.entry_nic = NULL;
	d = build("full.in.xml", &p);
	assert_memory_not_equal(before, d->digest, sizeof(before));
	assert_null(strstr(d->xml, "type=\"ethernet\""));
	assert_null(strstr(d->xml, "org.vmpair/entry"));
	assert_non_null(strstr(d->xml, "org.vmpair/internal-address"));
	assert_non_null(strstr(d->xml, "<source bridge=\"br-entry\"/>"));
	assert_null(strstr(d->xml, ":0A:0b:0c"));
	assert_false(d->entry_multi_queue);
	vmp_domxml_free(d);
}

/* The channel and the keys of a relay in the guest; the channel's name is ours. */
static void relay_in_the_guest(void **state)
{
	static const char other[] = "<domain type='qemu'><devices><interface type='bridge'><source bridge='br-entry'/>"
				    "<mac address='52:54:00:0a:0b:0c'/></interface><channel type='unix'><target type='virtio' "
				    "name='%s'/></channel></devices></domain>";
	struct vmp_domxml_params p = params;
	struct vmp_domxml *d = NULL;
	char r[300], text[500];
	const char *at;
	(void)state;

	p.relay_channel = "/run/vmpair/guest/web.sock";
	p.relay_keys = "/run/vmpair/guest/web.keys";
	d = build("minimal.in.xml", &p);
	at = strstr(d->xml, "<channel type=\"unix\">");
	assert_non_null(at);
	assert_non_null(strstr(at, "<source mode=\"bind\" path=\"/run/vmpair/guest/web.sock\"/>"));
	assert_non_null(strstr(at, "<target type=\"virtio\" name=\"org.vmpair.relay.0\"/>"));
	assert_non_null(strstr(d->xml, "<entry name=\"opt/org.vmpair/relay-keys\" file=\"/run/vmpair/guest/web.keys\"/>"));
	vmp_domxml_free(d);
	snprintf(text, sizeof(text), other, "org.qemu.guest_agent.0");
	assert_int_equal(vmp_domxml_build(text, strlen(text), "x", &p, &d, r, sizeof(r)), 0);
	assert_true(d->agent);
	vmp_domxml_free(d);
	snprintf(text, sizeof(text), other, "org.vmpair.relay.0");
	assert_int_equal(vmp_domxml_build(text, strlen(text), "x", &params, NULL, r, sizeof(r)), -EINVAL);
	assert_non_null(strstr(r, "vmpair's own"));
}

static void signs_of_the_guest(void **state)
{
	static const char text[] = "<domain type='qemu'><os><type arch='%s'>hvm</type></os>%s<devices><interface type='bridge'>"
				   "<source bridge='br-entry'/><mac address='52:54:00:0a:0b:0c'/></interface>%s</devices></domain>";
	static const struct { const char *arch, *features, *device; bool panic; } cases[] = {
		{ "x86_64", "<features><acpi/></features>", "", true },
		{ "x86_64", "", "", false },
		{ "aarch64", "<features><acpi/></features>", "", false },
		{ "x86_64", "<features><acpi/></features>", "<panic model='hyperv'/>", false },
	};
	struct vmp_domxml_params p = params;
	struct vmp_domxml *d = NULL;
	char r[300], xml[700];
	const char *at;
	(void)state;

	p.guest_channel = "/run/vmpair/signs/web.sock";
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		snprintf(xml, sizeof(xml), text, cases[i].arch, cases[i].features, cases[i].device);
		assert_int_equal(vmp_domxml_build(xml, strlen(xml), "x", &p, &d, r, sizeof(r)), 0);
		assert_int_equal(strstr(d->xml, "<panic model=\"isa\"/>") != NULL, cases[i].panic);
		assert_non_null(strstr(d->xml, "<on_crash>preserve</on_crash>"));
		assert_false(d->agent);
		at = strstr(d->xml, "<channel type=\"unix\">");
		assert_non_null(at);
		assert_non_null(strstr(at, "<source mode=\"bind\" path=\"/run/vmpair/signs/web.sock\"/>"));
		assert_non_null(strstr(at, "<target type=\"virtio\" name=\"org.vmpair.guest.0\"/>"));
		vmp_domxml_free(d);
	}
	snprintf(xml, sizeof(xml), text, "x86_64", "", "<channel type='unix'><target type='virtio' name='org.vmpair.guest.0'/></channel>");
	assert_int_equal(vmp_domxml_build(xml, strlen(xml), "x", &p, NULL, r, sizeof(r)), -EINVAL);
	assert_non_null(strstr(r, "vmpair's own"));
}

static void one_other_nic(void **state)
{
	static const char text[] = "<domain type='qemu'><devices><interface type='bridge'><source bridge='br-entry'/>"
				   "<mac address='52:54:00:0a:0b:0c'/></interface><interface type='bridge'><source "
				   "bridge='br7'/>"
				   "</interface></devices></domain>";
	struct vmp_domxml_params p = params;
	struct vmp_domxml *d = NULL;
	char r[300];
	(void)state;

	p.internal = &anybridge;
	assert_int_equal(vmp_domxml_build(text, strlen(text), "x", &p, &d, r, sizeof(r)), 0);
	assert_string_equal(d->internal_bridge, "br7");
	assert_non_null(strstr(d->xml, "opt/org.vmpair/internal-address\">192.168.77.2/24<"));
	vmp_domxml_free(d);
	assert_int_equal(vmp_domxml_build(text, strlen(text), "x", &p, NULL, r, sizeof(r)), 0);
}

static void shaping(void **state)
{
	struct vmp_domxml_params p = params;
	struct vmp_domxml *d;
	(void)state;

	p.shaping_ok = true;
	d = build("bad-shaping.xml", &p);
	assert_non_null(strstr(d->xml, "<outbound"));
	vmp_domxml_free(d);
}

static void refusals(void **state)
{
	DIR *dir = opendir(TEST_DIR);
	unsigned int count = 0;
	struct dirent *e;
	(void)state;

	assert_non_null(dir);
	while ((e = readdir(dir))) {
		struct vmp_domxml_params p = params;
		struct vmp_domxml *d = NULL;
		char mode[32] = "", want[300], r[300] = "", *text, *end;
		const char *says;
		size_t len;
		int rc;

		if (strncmp(e->d_name, "bad-", 4) != 0)
			continue;
		text = file_text(e->d_name, &len);
		assert_memory_equal(text, "<!-- want", 9);
		says = strchr(text, ':');
		end = strstr(text, " -->");
		assert_non_null(says);
		assert_non_null(end);
		snprintf(mode, sizeof(mode), "%.*s", (int)(says - text - 9), text + 9);
		snprintf(want, sizeof(want), "%s:%.*s", e->d_name, (int)(end - says - 2), says + 2);
		if (!strcmp(mode, " internal"))
			p.internal = &internal;
		else if (!strcmp(mode, " anybridge"))
			p.internal = &anybridge;
		else if (!strcmp(mode, " samebridge"))
			p.internal = &samebridge;
		rc = vmp_domxml_build(text, len, e->d_name, &p, &d, r, sizeof(r));
		if (rc != -EINVAL || strncmp(r, want, strlen(want)) != 0)
			fail_msg("%s: %d '%s', wanted '%s'", e->d_name, rc, r, want);
		free(text);
		count++;
	}
	closedir(dir);
	assert_true(count > 40);
}

static void digests(void **state)
{
	struct vmp_domxml_params p = params;
	uint8_t a[VMP_DIGEST_LEN], b[VMP_DIGEST_LEN];
	struct vmp_addr one;
	struct vmp_slot other;
	struct vmp_domxml *d;
	char r[300], *text, *same, *at;
	size_t len, same_len;
	(void)state;

	text = file_text("minimal.in.xml", &len);
	same = file_text("same.xml", &same_len);
	assert_int_equal(vmp_domxml_digest(text, len, "a", &p, a, r, sizeof(r)), 0);
	d = build("minimal.in.xml", &p);
	assert_memory_equal(a, d->digest, VMP_DIGEST_LEN);
	vmp_domxml_free(d);
	assert_int_equal(vmp_domxml_digest(same, same_len, "b", &p, b, r, sizeof(r)), 0);
	assert_memory_equal(a, b, VMP_DIGEST_LEN);

	/* what may differ between nodes, or changes live, is not in it */
	assert_int_equal(vmp_slot_derive("web", 3, NULL, &other, r, sizeof(r)), 0);
	assert_int_equal(vmp_addr_parse("192.0.2.99/24", &one), 0);
	p.slot = &other;
	p.entry = &one;
	p.n_entry = 1;
	p.disk_dir = "/elsewhere";
	p.shaping_ok = true;
	assert_int_equal(vmp_domxml_digest(text, len, "a", &p, b, r, sizeof(r)), 0);
	assert_memory_equal(a, b, VMP_DIGEST_LEN);

	/* what must agree is */
	p = params;
	p.entry_nic = "br-other";
	assert_int_equal(vmp_domxml_digest(text, len, "a", &p, b, r, sizeof(r)), 0);
	assert_memory_not_equal(a, b, VMP_DIGEST_LEN);
	p = params;
	p.internal = &internal;
	assert_int_equal(vmp_domxml_digest(text, len, "a", &p, b, r, sizeof(r)), 0);
	assert_memory_not_equal(a, b, VMP_DIGEST_LEN);
	p = params;
	at = strstr(text, ">64<");
	assert_non_null(at);
	at[1] = '7';
	assert_int_equal(vmp_domxml_digest(text, len, "a", &p, b, r, sizeof(r)), 0);
	assert_memory_not_equal(a, b, VMP_DIGEST_LEN);
	free(text);
	free(same);
	assert_int_equal(vmp_domxml_digest("<a", 2, "f", &p, b, r, sizeof(r)), -EINVAL);
	assert_memory_equal(r, "f:1: ", 5);
}

static void reading(void **state)
{
	char path[] = "/tmp/vmp-domxml-XXXXXX", r[300], *text = NULL, *big;
	int fd = mkstemp(path);
	struct vmp_domxml *d = NULL;
	size_t len;
	(void)state;

	assert_true(fd >= 0);
	assert_int_equal(vmp_domxml_read(path, &text, &len, r, sizeof(r)), 0);
	assert_int_equal(len, 0);
	assert_int_equal(vmp_domxml_build(text, len, "empty", &params, &d, r, sizeof(r)), -EINVAL);
	free(text);
	assert_int_equal(ftruncate(fd, VMP_DOMXML_MAX + 1), 0);
	assert_int_equal(vmp_domxml_read(path, &text, &len, r, sizeof(r)), -EFBIG);
	close(fd);
	unlink(path);
	assert_int_equal(vmp_domxml_read(path, &text, &len, r, sizeof(r)), -ENOENT);
	assert_non_null(strstr(r, path));
	assert_int_equal(vmp_domxml_read("relative.xml", &text, &len, r, sizeof(r)), -EINVAL);
	assert_int_equal(vmp_domxml_read("/dev/null", &text, &len, r, sizeof(r)), -EINVAL);
	assert_int_equal(vmp_domxml_read("/", &text, &len, r, sizeof(r)), -EINVAL);
	big = calloc(1, VMP_DOMXML_MAX + 1);
	assert_non_null(big);
	assert_int_equal(vmp_domxml_build(big, VMP_DOMXML_MAX + 1, "big", &params, &d, r, sizeof(r)), -EFBIG);
	free(big);
}

/* Cut anywhere, or with any byte changed, a template is taken or refused, never more. */
static void damage(void **state)
{
	struct vmp_domxml_params p = params;
	struct vmp_domxml *d = NULL;
	char r[300], *text, *copy;
	uint32_t seed = 1;
	size_t len;
	(void)state;

	p.internal = &internal;
	text = file_text("full.in.xml", &len);
	copy = malloc(len);
	assert_non_null(copy);
	for (size_t i = 0; i < len - 3; i += 7) {
		r[0] = '\0';
		assert_int_equal(vmp_domxml_build(text, i, "cut", &p, &d, r, sizeof(r)), -EINVAL);
		assert_int_not_equal(r[0], '\0');
		memcpy(copy, text, len);
		for (int k = 0; k < 3; k++) {
			seed = seed * 1103515245u + 12345u;
			copy[(seed >> 8) % len] = (char)(seed >> 3);
		}
		if (vmp_domxml_build(copy, len, "changed", &p, &d, r, sizeof(r)) == 0)
			vmp_domxml_free(d);
	}
	free(copy);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(minimal), cmocka_unit_test(full),
		cmocka_unit_test(without_entry_nic),
		cmocka_unit_test(relay_in_the_guest),
		cmocka_unit_test(signs_of_the_guest),
		cmocka_unit_test(one_other_nic),
		cmocka_unit_test(shaping), cmocka_unit_test(refusals), cmocka_unit_test(digests),
		cmocka_unit_test(reading), cmocka_unit_test(damage),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
