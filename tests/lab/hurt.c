/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * hurt: what tests of bad input and of faults need and no ordinary tool does. Ends at the end of its standard input where it would go on.
 *
 *   hurt record IFACE PORT COUNT FILE          frames that come in at a switch port: UDP over IPv4 to PORT
 *   hurt send IFACE FILE ORDER CHANGE ROUNDS   sends them out of another: ORDER forward|reverse|shuffle, CHANGE none|version|key|counter|junk,
 *                                              ROUNDS 0: until the end of input, with 5 ms between rounds
 *   hurt ctl SOCKET CLIENTS                    control clients that ask and never read; ends when vmpaird has dropped all
 *   hurt tap NAME BRIDGE MAC                   a new tap, in the bridge and up at once, that sends broadcasts as fast as it can for a
 *                                              while and then every 20 ms
 *   hurt notify SOCKET                         what a service manager hears there (sd_notify), each line with its time in ms
 */
#include <config.h>
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { MAX_FRAME = 2048, MAX_FRAMES = 4096, MAX_CLIENTS = 64, BURST = 2000 };

struct frame {
	uint32_t len;
	uint8_t b[MAX_FRAME];
};

static void die(const char *what)
{
	fprintf(stderr, "hurt: %s: %s\n", what, strerror(errno));
	exit(1);
}

static bool input_ended(int wait_ms)
{
	struct pollfd p = { .fd = STDIN_FILENO, .events = POLLIN };
	char c[64];

	return poll(&p, 1, wait_ms) > 0 && read(STDIN_FILENO, c, sizeof(c)) <= 0;
}

static int packet_socket(const char *ifname)
{
	struct sockaddr_ll ll = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL) };
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL));

	ll.sll_ifindex = (int)if_nametoindex(ifname);
	if (fd < 0 || !ll.sll_ifindex || bind(fd, (struct sockaddr *)&ll, sizeof(ll)) < 0)
		die(ifname);
	return fd;
}

/* Offset of the UDP payload, 0 when the frame is not UDP over IPv4. */
static size_t payload_at(const uint8_t *b, size_t len, unsigned port)
{
	size_t ip = 14, udp;

	if (len < 42 || b[12] != 8 || b[13] != 0 || b[ip] >> 4 != 4 || b[ip + 9] != IPPROTO_UDP)
		return 0;
	udp = ip + (size_t)(b[ip] & 15) * 4;
	if (udp + 8 > len || (port && ((unsigned)b[udp + 2] << 8 | b[udp + 3]) != port))
		return 0;
	return udp + 8;
}

static int record(const char *ifname, unsigned port, unsigned long count, const char *path)
{
	static struct frame f;
	int fd = packet_socket(ifname);
	FILE *out = fopen(path, "we");

	if (!out)
		die(path);
	while (count) {
		struct sockaddr_ll from;
		socklen_t fl = sizeof(from);
		ssize_t n = recvfrom(fd, f.b, sizeof(f.b), 0, (struct sockaddr *)&from, &fl);

		if (n < 0)
			die("recvfrom");
		if (from.sll_pkttype == PACKET_OUTGOING || !payload_at(f.b, (size_t)n, port))
			continue;
		f.len = (uint32_t)n;
		if (fwrite(&f.len, sizeof(f.len), 1, out) != 1 || fwrite(f.b, f.len, 1, out) != 1)
			die(path);
		count--;
	}
	if (fclose(out))
		die(path);
	close(fd);
	return 0;
}

static void change(struct frame *f, const char *how)
{
	size_t at = payload_at(f->b, f->len, 0);

	f->b[at - 2] = f->b[at - 1] = 0; /* no UDP checksum: the one recorded may not have been filled in yet */
	if (!strcmp(how, "version"))
		f->b[at + 2]++;
	else if (!strcmp(how, "key"))
		f->b[at + 6] ^= 0x55;
	else if (!strcmp(how, "counter"))
		f->b[at + 27]++; /* far ahead: neither seen before nor too old */
	else if (!strcmp(how, "junk"))
		for (size_t i = at; i < f->len; i++)
			f->b[i] = (uint8_t)rand();
}

static int send_frames(const char *ifname, const char *path, const char *order, const char *how, unsigned long rounds)
{
	static struct frame f[MAX_FRAMES];
	FILE *in = fopen(path, "re");
	int fd = packet_socket(ifname);
	size_t n = 0;

	if (!in)
		die(path);
	while (n < MAX_FRAMES && fread(&f[n].len, sizeof(f[n].len), 1, in) == 1) {
		if (f[n].len > MAX_FRAME || fread(f[n].b, f[n].len, 1, in) != 1)
			die(path);
		change(&f[n++], how);
	}
	fclose(in);
	for (unsigned long r = 0; rounds == 0 || r < rounds; r++) {
		for (size_t i = 0; i < n; i++) {
			size_t k = !strcmp(order, "reverse") ? n - 1 - i : !strcmp(order, "shuffle") ? (size_t)rand() % n : i;

			while (send(fd, f[k].b, f[k].len, 0) < 0)
				if (errno != ENOBUFS && errno != EINTR)
					die("send");
		}
		if (input_ended(5) && rounds == 0)
			break;
	}
	close(fd);
	return 0;
}

static int ctl(const char *path, unsigned clients)
{
	static const char ask[] = "{\"v\":1,\"cmd\":\"status\"}";
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	struct pollfd p[MAX_CLIENTS];
	unsigned alive = 0;

	snprintf(un.sun_path, sizeof(un.sun_path), "%s", path);
	for (unsigned i = 0; i < clients && i < MAX_CLIENTS; i++) {
		int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

		if (fd < 0 || connect(fd, (struct sockaddr *)&un, sizeof(un)) < 0) {
			if (i == 0)
				die(path);
			if (fd >= 0)
				close(fd);
			break;
		}
		fcntl(fd, F_SETFL, O_NONBLOCK);
		p[alive++] = (struct pollfd){ .fd = fd };
	}
	printf("connected %u\n", alive);
	fflush(stdout);
	for (unsigned i = 0; i < 1000; i++)
		for (unsigned k = 0; k < alive; k++)
			if (send(p[k].fd, ask, sizeof(ask) - 1, MSG_NOSIGNAL) < 0 && errno != EAGAIN)
				break;
	printf("asked\n");
	fflush(stdout);
	for (unsigned k = 0; k < alive;) {
		p[k].events = 0;
		if (poll(&p[k], 1, 200) > 0 && (p[k].revents & (POLLHUP | POLLERR))) {
			close(p[k++].fd);
			continue;
		}
		if (input_ended(0))
			return 1;
	}
	printf("dropped\n");
	return 0;
}

/* A tap of its own, in the bridge and up: its descriptor, or -1 when somebody took it away meanwhile. */
static int tap_up(const char *name, const char *bridge, int ctl_fd)
{
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI };
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	if (fd < 0 || ioctl(fd, TUNSETIFF, &ifr) < 0)
		die(name);
	memset(&ifr, 0, sizeof(ifr));
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", bridge);
	ifr.ifr_ifindex = (int)if_nametoindex(name);
	if (ifr.ifr_ifindex && (!ioctl(ctl_fd, SIOCBRADDIF, &ifr) || errno == EBUSY)) { /* the daemon may have been quicker */
		snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
		ifr.ifr_flags = IFF_UP;
		if (!ioctl(ctl_fd, SIOCSIFFLAGS, &ifr))
			return fd;
	}
	if (if_nametoindex(name))
		die(name);
	close(fd);
	return -1;
}

static int tap(const char *name, const char *bridge, const char *mac)
{
	uint8_t frame[60] = { 255, 255, 255, 255, 255, 255 };
	unsigned m[6], sent = 0;
	int fd = -1, ctl_fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (sscanf(mac, "%x:%x:%x:%x:%x:%x", &m[0], &m[1], &m[2], &m[3], &m[4], &m[5]) != 6)
		return 2;
	if (ctl_fd < 0)
		die("socket");
	for (unsigned i = 0; i < 6; i++)
		frame[6 + i] = (uint8_t)m[i];
	frame[12] = 0x88; /* local experimental protocol */
	frame[13] = 0xb5;
	while (sent < BURST && !input_ended(0)) { /* one that is taken away before is made again */
		if (fd < 0)
			fd = tap_up(name, bridge, ctl_fd);
		else if (write(fd, frame, sizeof(frame)) >= 0 || errno == EIO)
			sent++;
		else {
			close(fd);
			fd = -1;
		}
	}
	if (sent < BURST) {
		fputs("hurt: the tap was taken away each time before all was sent\n", stderr);
		return 1;
	}
	printf("sent\n");
	fflush(stdout);
	while (!input_ended(20))
		if (write(fd, frame, sizeof(frame)) < 0 && errno != EIO)
			break; /* taken away again */
	return 0;
}

static int notify(const char *path)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	snprintf(un.sun_path, sizeof(un.sun_path), "%s", path);
	unlink(path);
	if (fd < 0 || bind(fd, (struct sockaddr *)&un, sizeof(un)) < 0)
		die(path);
	printf("listening\n");
	fflush(stdout);
	while (!input_ended(0)) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		struct timespec now;
		char text[4096], *save = NULL;
		ssize_t n;

		if (poll(&p, 1, 50) < 1)
			continue;
		n = recv(fd, text, sizeof(text) - 1, 0);
		if (n < 0)
			die("recv");
		text[n] = '\0';
		clock_gettime(CLOCK_MONOTONIC, &now);
		for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
			printf("%lld %s\n", (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000, line);
		fflush(stdout);
	}
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 6 && !strcmp(argv[1], "record"))
		return record(argv[2], (unsigned)atoi(argv[3]), strtoul(argv[4], NULL, 10), argv[5]);
	if (argc == 7 && !strcmp(argv[1], "send"))
		return send_frames(argv[2], argv[3], argv[4], argv[5], strtoul(argv[6], NULL, 10));
	if (argc == 4 && !strcmp(argv[1], "ctl"))
		return ctl(argv[2], (unsigned)atoi(argv[3]));
	if (argc == 5 && !strcmp(argv[1], "tap"))
		return tap(argv[2], argv[3], argv[4]);
	if (argc == 3 && !strcmp(argv[1], "notify"))
		return notify(argv[2]);
	fputs("usage: hurt record|send|ctl|tap|notify ... (see the head of its source)\n", stderr);
	return 2;
}
