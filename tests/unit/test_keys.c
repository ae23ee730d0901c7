/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <sys/stat.h>

#include "daemon/keys.h"
#include "tests/unit/testdir.h"

#define HEX_A "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define HEX_B "ffeeddccbbaa99887766554433221100FFEEDDCCBBAA99887766554433221100"

static struct vmp_diag diag;

static int parse(const char *text, struct vmp_keys *k)
{
	vmp_diag_init(&diag);
	return vmp_keys_parse("f", text, strlen(text), k, &diag);
}

static void assert_refused(const char *text, const char *expected)
{
	struct vmp_keys k, before;

	memset(&k, 0x5a, sizeof(k));
	before = k;
	assert_int_equal(parse(text, &k), -EINVAL);
	assert_string_equal(diag.text, expected);
	assert_memory_equal(&k, &before, sizeof(k));
}

static void good(void **state)
{
	struct vmp_keys k;

	(void)state;
	assert_int_equal(parse("# c\n\nkey 7 " HEX_A "\r\n\tkey  9\t" HEX_B " send # now\n", &k), 0);
	assert_int_equal(k.count, 2);
	assert_int_equal(k.send, 1);
	assert_int_equal(k.key[0].id, 7);
	assert_int_equal(k.key[0].secret[1], 0x11);
	assert_int_equal(k.key[1].id, 9);
	assert_int_equal(k.key[1].secret[0], 0xff);
	assert_int_equal(vmp_keys_find(&k, 9), 1);
	assert_int_equal(vmp_keys_find(&k, 1), -ENOENT);
}

static void bad(void **state)
{
	(void)state;
	assert_refused("", "f: there is no key in this file (`vmpair keygen` makes one)\n");
	assert_refused("key 1 " HEX_A, "f: no key is marked `send` (append `send` to the line of the key to send with)\n");
	assert_refused("key 0 " HEX_A " send\nkey 65536 " HEX_A "\nkey x " HEX_A "\nkey 123456 " HEX_A "\n",
		       "f:1: the key ID must be a number from 1 to 65535\nf:2: the key ID must be a number from 1 to 65535\n"
		       "f:3: the key ID must be a number from 1 to 65535\nf:4: the key ID must be a number from 1 to 65535\n");
	assert_refused("kye 1 " HEX_A "\n", "f:1: a line must be `key ID HEX [send]` (other lines start with #)\n");
	assert_refused("key 1\nkey 1 " HEX_A " send now\n",
		       "f:1: `key` takes an ID, 64 hex digits and maybe `send`, not 1 words\n"
		       "f:2: `key` takes an ID, 64 hex digits and maybe `send`, not 4 words\n");
	assert_refused("key 1 " HEX_A "0 send\nkey 2 0g" HEX_A "\n",
		       "f:1: key 1 is not 64 hex digits (`vmpair keygen` makes a key file)\n"
		       "f:2: key 2 is not 64 hex digits (`vmpair keygen` makes a key file)\n");
	assert_refused("key 1 " HEX_A " sent\n", "f:1: only `send` may follow key 1\n");
	assert_refused("key 1 " HEX_A " send\nkey 1 " HEX_B "\nkey 2 " HEX_B " send\n",
		       "f:2: key 1 is already on line 1 (each ID once)\n"
		       "f:3: key 2 is marked `send`, but so is the key on line 1 (keep one)\n");
	assert_refused("key 1 0000000000000000000000000000000000000000000000000000000000000000 send\n",
		       "f:1: key 1 is one byte repeated, not a secret (`vmpair keygen` makes a key file)\n");
	assert_refused("key 1 " HEX_A " send\nkey 2 " HEX_A "\nkey 3 " HEX_A "\nkey 4 " HEX_A "\nkey 5 " HEX_A "\n",
		       "f:5: more than 4 keys (drop the old ones: `vmpair key drop ID`)\n");
}

/* Whatever is wrong, no complaint repeats a secret. */
static void no_secret_in_complaints(void **state)
{
	struct vmp_keys k;

	(void)state;
	parse(HEX_A "\nkey " HEX_A "\nkey 1 " HEX_A "ff send\nkey 1 " HEX_A " " HEX_A "\nkey 1 send " HEX_A "\n", &k);
	assert_true(diag.count >= 5);
	assert_null(strstr(diag.text, "00112233"));
}

static void file_checks(void **state)
{
	const char *path = testdir_path("open");
	struct vmp_keys k;

	(void)state;
	vmp_diag_init(&diag);
	assert_int_equal(vmp_keys_load(testdir_path("none"), &k, &diag), -ENOENT);
	assert_non_null(strstr(diag.text, "vmpair keygen"));
	testdir_write(path, "key 1 " HEX_A " send\n", 0640);
	vmp_diag_init(&diag);
	assert_int_equal(vmp_keys_load(path, &k, &diag), -EACCES);
	assert_non_null(strstr(diag.text, "has mode 0640, others may read or write it (chmod 0600 "));
	assert_int_equal(chmod(path, 0602), 0);
	assert_int_equal(vmp_keys_load(path, &k, NULL), -EACCES);
	assert_int_equal(chmod(path, 0400), 0);
	assert_int_equal(vmp_keys_load(path, &k, NULL), 0);
	assert_int_equal(vmp_keys_load(testdir, &k, NULL), -EACCES);
	assert_int_equal(mkfifo(testdir_path("fifo"), 0600), 0);
	assert_int_equal(vmp_keys_load(testdir_path("fifo"), &k, NULL), -EACCES);
	if (geteuid() == 0) {
		assert_int_equal(chown(path, 1000, 0), 0);
		vmp_diag_init(&diag);
		assert_int_equal(vmp_keys_load(path, &k, &diag), -EACCES);
		assert_non_null(strstr(diag.text, "belongs to user 1000, not to root"));
	}
}

static unsigned int files_in_testdir(void)
{
	DIR *d = opendir(testdir);
	unsigned int n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n - 2;
}

static void generate(void **state)
{
	const char *path = testdir_path("gen");
	struct vmp_keys a, b;
	struct stat st;
	unsigned int before = files_in_testdir();

	(void)state;
	vmp_diag_init(&diag);
	umask(0);
	assert_int_equal(vmp_keys_generate(path, false, &diag), 0);
	assert_int_equal(files_in_testdir(), before + 1);	/* no temporary file left */
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(vmp_keys_load(path, &a, &diag), 0);
	assert_int_equal(a.count, 1);
	assert_int_equal(vmp_keys_generate(path, false, &diag), -EEXIST);
	assert_int_equal(files_in_testdir(), before + 1);
	assert_int_equal(vmp_keys_load(path, &b, &diag), 0);
	assert_memory_equal(a.key[0].secret, b.key[0].secret, VMP_KEY_LEN);
	assert_int_equal(vmp_keys_generate(path, true, &diag), 0);
	assert_int_equal(vmp_keys_load(path, &b, &diag), 0);
	assert_memory_not_equal(a.key[0].secret, b.key[0].secret, VMP_KEY_LEN);
	assert_int_equal(vmp_keys_generate("/nonexistent/dir/keys", false, &diag), -ENOENT);
	/* the first thing on a new node, where nobody has made /etc/vmpair */
	assert_int_equal(vmp_keys_generate(testdir_path("new/keys"), false, &diag), 0);
	assert_int_equal(stat(testdir_path("new"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0755);
	assert_int_equal(vmp_keys_load(testdir_path("new/keys"), &a, &diag), 0);
	assert_int_equal(vmp_keys_generate(testdir_path("new/keys"), false, &diag), -EEXIST);
}

static void rotation(void **state)
{
	const char *path = testdir_path("rot"), *other = testdir_path("rot2");
	char fp1[VMP_KEY_FP_LEN], fp2[VMP_KEY_FP_LEN];
	struct vmp_keys k;
	uint16_t id = 0;

	(void)state;
	testdir_write(path, "key 3 " HEX_A " send\n", 0600);
	testdir_write(other, "key 3 " HEX_A " send\n", 0600);
	assert_int_equal(vmp_keys_add(path, &id, NULL), 0);
	assert_int_equal(id, 4);
	assert_int_equal(vmp_keys_load(path, &k, NULL), 0);
	assert_int_equal(k.count, 2);
	assert_int_equal(k.key[k.send].id, 3);

	/* The other node takes the key over, also twice; another secret under that ID is refused. */
	assert_int_equal(vmp_keys_import(other, 4, k.key[1].secret, NULL), 0);
	assert_int_equal(vmp_keys_import(other, 4, k.key[1].secret, NULL), 0);
	assert_int_equal(vmp_keys_import(other, 4, k.key[0].secret, NULL), -EEXIST);
	vmp_key_fingerprint(&k.key[1], fp1);
	assert_int_equal(vmp_keys_load(other, &k, NULL), 0);
	vmp_key_fingerprint(&k.key[1], fp2);
	assert_string_equal(fp1, fp2);
	assert_int_equal(strlen(fp1), 16);

	assert_int_equal(vmp_keys_drop(path, 3, &diag), -EBUSY);
	assert_int_equal(vmp_keys_set_send(path, 5, &diag), -ENOENT);
	assert_int_equal(vmp_keys_set_send(path, 4, &diag), 0);
	assert_int_equal(vmp_keys_set_send(path, 4, &diag), 0);
	assert_int_equal(vmp_keys_drop(path, 3, &diag), 0);
	assert_int_equal(vmp_keys_load(path, &k, NULL), 0);
	assert_int_equal(k.count, 1);
	assert_int_equal(k.key[0].id, 4);
	assert_int_equal(k.send, 0);

	assert_int_equal(vmp_keys_add(path, &id, NULL), 0);
	assert_int_equal(vmp_keys_add(path, &id, NULL), 0);
	assert_int_equal(vmp_keys_add(path, &id, NULL), 0);
	assert_int_equal(id, 7);
	vmp_diag_init(&diag);
	assert_int_equal(vmp_keys_add(path, &id, &diag), -ENOSPC);
	assert_int_equal(id, 7);
	assert_int_equal(diag.count, 1);
}

static void id_wraps(void **state)
{
	const char *path = testdir_path("wrap");
	uint16_t id = 0;

	(void)state;
	testdir_write(path, "key 65535 " HEX_A " send\nkey 1 " HEX_B "\n", 0600);
	assert_int_equal(vmp_keys_add(path, &id, NULL), 0);
	assert_int_equal(id, 2);
}

static void link_stays_link(void **state)
{
	const char *path = testdir_path("link");
	struct stat st;
	uint16_t id;

	(void)state;
	testdir_write(testdir_path("target"), "key 1 " HEX_A " send\n", 0600);
	assert_int_equal(symlink("target", path), 0);
	assert_int_equal(vmp_keys_add(path, &id, NULL), 0);
	assert_int_equal(lstat(path, &st), 0);
	assert_true(S_ISLNK(st.st_mode));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good), cmocka_unit_test(bad), cmocka_unit_test(no_secret_in_complaints),
		cmocka_unit_test(file_checks), cmocka_unit_test(generate), cmocka_unit_test(rotation), cmocka_unit_test(id_wraps),
		cmocka_unit_test(link_stays_link),
	};

	return cmocka_run_group_tests(tests, testdir_make, testdir_remove);
}
