/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The service of the lab's guest: HTTP on port 80 (body: member name and count of requests) and UDP echo on port 7
 * (answer: member name, a blank, the datagram). It also ends the guest on ACPI's power button, and GET /ctl/VERB does
 * to the guest what tests want done from inside. Linked statically; one thread, no allocation after the start.
 */
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <linux/input.h>
#include <linux/watchdog.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define MAX_CONNS 256
#define BATCH 64

enum kind { K_UDP, K_LISTEN, K_INPUT, K_CONN };

struct source {
	enum kind kind;
	int fd;
	size_t have;
	char request[1024];
};

static char member[65];
static unsigned long served;
static bool mute;
static int epoll_fd;
static struct source conns[MAX_CONNS];
static struct source http = {.kind = K_LISTEN};

static void die(const char *what)
{
	fprintf(stderr, "svc: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void watch(struct source *s)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = s};
	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, s->fd, &ev) < 0)
		die("epoll_ctl");
}

/* Sockets take IPv4 as mapped addresses, so one of each serves every address of the guest. */
static int open_socket(int type, uint16_t port)
{
	int off = 0, on = 1;
	struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	int fd = socket(AF_INET6, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0 || setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0)
		die("socket");
	/* answers must leave from the address that was asked, the guest may have several */
	if (type == SOCK_DGRAM && setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof(on)) < 0)
		die("IPV6_RECVPKTINFO");
	if (bind(fd, (struct sockaddr *)&any, sizeof(any)) < 0)
		die("bind");
	if (type == SOCK_STREAM && listen(fd, MAX_CONNS) < 0)
		die("listen");
	return fd;
}

static void echo(int fd)
{
	for (int i = 0; i < BATCH; i++) {
		char payload[2048], control[CMSG_SPACE(sizeof(struct in6_pktinfo)) + 64];
		struct sockaddr_in6 peer;
		struct iovec in = {payload, sizeof(payload)};
		struct msghdr m = {.msg_name = &peer, .msg_namelen = sizeof(peer), .msg_iov = &in, .msg_iovlen = 1,
				   .msg_control = control, .msg_controllen = sizeof(control)};
		ssize_t n = recvmsg(fd, &m, 0);
		if (n < 0)
			return;
		if (mute)
			continue;

		struct in6_pktinfo pkt = {0};
		for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c))
			if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO)
				memcpy(&pkt, CMSG_DATA(c), sizeof(pkt));
		pkt.ipi6_ifindex = 0;

		struct iovec out[3] = {{member, strlen(member)}, {(char *)" ", 1}, {payload, (size_t)n}};
		memset(control, 0, sizeof(control));
		m = (struct msghdr){.msg_name = &peer, .msg_namelen = sizeof(peer), .msg_iov = out, .msg_iovlen = 3,
				    .msg_control = control, .msg_controllen = CMSG_SPACE(sizeof(pkt))};
		struct cmsghdr *c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = IPPROTO_IPV6;
		c->cmsg_type = IPV6_PKTINFO;
		c->cmsg_len = CMSG_LEN(sizeof(pkt));
		memcpy(CMSG_DATA(c), &pkt, sizeof(pkt));
		if (sendmsg(fd, &m, 0) >= 0)
			served++;
	}
}

/* Starts the watchdog, with the shortest time that its driver takes, and never feeds it. */
static void watchdog(void)
{
	int fd = open("/dev/watchdog", O_WRONLY | O_CLOEXEC), seconds = 1;

	if (fd < 0 || ioctl(fd, WDIOC_SETTIMEOUT, &seconds) < 0)
		die("watchdog");
}

static void drop(struct source *s)
{
	close(s->fd);
	s->fd = -1;
}

static void control(const char *verb)
{
	if (!strncmp(verb, "reboot", 6)) {
		sync();
		reboot(RB_AUTOBOOT);
	} else if (!strncmp(verb, "poweroff", 8)) {
		sync();
		reboot(RB_POWER_OFF);
	} else if (!strncmp(verb, "panic", 5)) {
		int fd = open("/proc/sysrq-trigger", O_WRONLY | O_CLOEXEC);
		if (fd < 0 || write(fd, "c", 1) < 0)
			die("sysrq");
	} else if (!strncmp(verb, "hang", 4)) { /* the kernel lives, no program runs */
		kill(-1, SIGSTOP);
		raise(SIGSTOP);
	} else if (!strncmp(verb, "write", 5)) { /* more than the disk's host has room for */
		static char zeros[1 << 20] __attribute__((aligned(4096)));
		int fd = open("/dev/vda", O_WRONLY | O_CLOEXEC | O_DIRECT | O_SYNC);
		memset(zeros, 'x', sizeof(zeros));
		for (int i = 0; fd >= 0 && i < 64; i++)
			if (pwrite(fd, zeros, sizeof(zeros), (off_t)i << 20) < 0)
				fprintf(stderr, "svc: write: %s\n", strerror(errno));
		if (fd >= 0)
			close(fd);
	} else if (!strncmp(verb, "dog", 3)) { /* fed once */
		watchdog();
	} else if (!strncmp(verb, "mute", 4)) {
		mute = true;
	} else if (!strncmp(verb, "deaf", 4)) { /* nobody listens for connections any more */
		drop(&http);
	} else if (!strncmp(verb, "agent-", 6)) { /* -stop, -go, -end: the agent that init has started */
		FILE *f = fopen("/tmp/agent.pid", "re");
		int pid;

		if (!f || fscanf(f, "%d", &pid) != 1 ||
		    kill(pid, verb[6] == 's' ? SIGSTOP : verb[6] == 'g' ? SIGCONT : SIGKILL) < 0)
			fprintf(stderr, "svc: %s: %s\n", verb, strerror(errno));
		if (f)
			fclose(f);
	} else if (!strncmp(verb, "exit", 4)) {
		exit(3);
	}
}

static void accept_all(int fd)
{
	int one = 1, conn;

	while ((conn = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		struct source *s = NULL;
		for (int i = 0; i < MAX_CONNS && !s; i++)
			if (conns[i].fd < 0)
				s = &conns[i];
		if (!s) {
			close(conn);
			continue;
		}
		setsockopt(conn, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		*s = (struct source){.kind = K_CONN, .fd = conn};
		watch(s);
	}
}

static void serve(struct source *s)
{
	ssize_t n = read(s->fd, s->request + s->have, sizeof(s->request) - 1 - s->have);

	if (n <= 0) {
		if (n == 0 || (errno != EAGAIN && errno != EINTR))
			drop(s);
		return;
	}
	s->have += (size_t)n;
	s->request[s->have] = '\0';
	if (!strstr(s->request, "\r\n\r\n")) {
		if (s->have == sizeof(s->request) - 1)
			drop(s);
		return;
	}
	if (mute)
		return;

	char body[128], answer[320];
	int body_len = snprintf(body, sizeof(body), "member %s\ncount %lu\n", member, ++served);
	int len = snprintf(answer, sizeof(answer),
			   "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n"
			   "Cache-Control: no-store\r\nConnection: close\r\n\r\n%s", body_len, body);
	ssize_t sent = send(s->fd, answer, (size_t)len, MSG_NOSIGNAL);
	(void)sent; /* the client is gone: nothing to mend here */
	char *verb = strstr(s->request, "GET /ctl/");
	char first[16];
	snprintf(first, sizeof(first), "%.15s", verb == s->request ? verb + 9 : "");
	if (first[0]) { /* what ends the guest must not overtake the answer: the client has it when it hangs up */
		struct pollfd p = { .fd = s->fd, .events = POLLRDHUP };
		poll(&p, 1, 1000);
	}
	drop(s);
	if (first[0])
		control(first);
}

static void power_button(int fd)
{
	struct input_event ev;

	while (read(fd, &ev, sizeof(ev)) == sizeof(ev))
		if (ev.type == EV_KEY && ev.code == KEY_POWER && ev.value == 1)
			control("poweroff");
}

/*
 * An emulated processor translates code when it first runs: the first answer of a standby that never spoke would come 100 to 300 ms
 * late, which no real processor shows. So the ways a request takes are walked now and then: an echo through the loopback, and
 * a datagram to a neighbour that does not exist (the last address of each network), for ARP.
 */
static void walk_about(void)
{
	static int fd = -1;
	struct ifaddrs *list, *a;
	char buf[64];

	if (fd < 0) {
		fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		if (fd < 0)
			return;
	}
	while (recv(fd, buf, sizeof(buf), 0) > 0)
		;
	if (getifaddrs(&list) < 0)
		return;
	for (a = list; a; a = a->ifa_next) {
		struct sockaddr_in to;

		if (!a->ifa_addr || !a->ifa_netmask || a->ifa_addr->sa_family != AF_INET)
			continue;
		to = *(struct sockaddr_in *)(void *)a->ifa_addr;
		to.sin_port = htons(7);
		if (!(a->ifa_flags & IFF_LOOPBACK)) {
			in_addr_t mask = ((struct sockaddr_in *)(void *)a->ifa_netmask)->sin_addr.s_addr;

			to.sin_addr.s_addr = htonl(ntohl(to.sin_addr.s_addr | ~mask) - 1);
			to.sin_port = htons(9);
		}
		if (sendto(fd, "00000000", 8, 0, (struct sockaddr *)&to, sizeof(to)) < 0)
			continue; /* no such neighbour: that is the point */
	}
	freeifaddrs(list);
}

int main(void)
{
	struct source udp = {.kind = K_UDP}, inputs[4];

	if (gethostname(member, sizeof(member) - 1) < 0)
		die("gethostname");
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (epoll_fd < 0)
		die("epoll_create1");
	for (int i = 0; i < MAX_CONNS; i++)
		conns[i].fd = -1;
	udp.fd = open_socket(SOCK_DGRAM, 7);
	http.fd = open_socket(SOCK_STREAM, 80);
	watch(&udp);
	watch(&http);
	for (int i = 0; i < 4; i++) {
		char path[32];
		snprintf(path, sizeof(path), "/dev/input/event%d", i);
		inputs[i] = (struct source){.kind = K_INPUT, .fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC)};
		if (inputs[i].fd >= 0)
			watch(&inputs[i]);
	}

	for (;;) {
		struct epoll_event ev[32];
		int n = epoll_wait(epoll_fd, ev, 32, 500);
		if (n == 0)
			walk_about();
		for (int i = 0; i < n; i++) {
			struct source *s = ev[i].data.ptr;
			switch (s->kind) {
			case K_UDP: echo(s->fd); break;
			case K_LISTEN: accept_all(s->fd); break;
			case K_INPUT: power_button(s->fd); break;
			case K_CONN: serve(s); break;
			}
		}
	}
}
