/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * probe [-t] [-i INTERVAL_MS] [-g GAP_MS] [-p PORT] [-d SECONDS] [-o FILE] ADDRESS
 *
 * The lab's client: sends numbered requests at a fixed rate and says when nobody answered. By default UDP echo requests,
 * with -t HTTP requests, each over a TCP connection of its own. All times are CLOCK_BOOTTIME, ns in lines, ms in FILE.
 * Lines on standard output, as it happens:
 *   first TIME MEMBER                       the first answer
 *   gap START END MS BEFORE AFTER LATE_MS   no answer between START and END; LATE_MS: how late the probe itself ran in it
 *   change TIME MS BEFORE AFTER             another member answers, MS after the last answer of the one before
 *   both TIME NUMBER A B                    two members answered one request
 *   mark TIME NAME                          a new segment of the summary begins
 * Lines on standard input: "mark NAME", "quit". Ends at end of input as well, unless standard input is no pipe or socket.
 * FILE gets a JSON summary: totals and segments with sent, answered, lost, max_gap_ms, the list of gaps, and of the first change of
 * the answering member change_ms (null when there was none) and later_gap_ms, the longest gap after it.
 */
#include <config.h>
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define MAX_REQUESTS (1U << 24) /* nine hours at one per 2 ms */
#define MAX_SEGMENTS 256
#define MAX_GAPS 4096
#define MAX_CONNS 512
#define MEMBER 64
#define CONN_TIMEOUT_NS 3000000000ULL
#define GRACE_NS 300000000ULL /* answers may come this long after the last request */
#define NS 1000000000ULL

struct gap {
	uint64_t start, end;
	uint64_t late;
	unsigned int segment;
	char before[MEMBER], after[MEMBER];
};

struct segment {
	char name[64];
	uint64_t start;
	uint32_t first; /* number of its first request */
	uint64_t change_start, change_end; /* of its first change of the answering member */
};

struct conn {
	int fd;
	uint32_t number;
	uint64_t since;
	size_t have;
	bool sent;
	char answer[512];
};

static struct {
	bool tcp;
	uint64_t interval, gap;
	const char *out;
	struct sockaddr_storage peer;
	socklen_t peer_len;
	char host_header[INET6_ADDRSTRLEN + 2];
} opt = {.interval = 2000000, .gap = 5000000};

static uint8_t *answered;   /* per request: 1 answered */
static char (*answerer)[8]; /* unused unless a second answer has to be compared: tail of the member's name */
static uint32_t sent;
static struct segment segments[MAX_SEGMENTS] = {{.name = "start"}};
static unsigned int n_segments = 1;
static struct gap *gaps;
static unsigned int n_gaps, gaps_left_out, doubles;
static uint64_t last_answer, first_sent, late_now;
static char last_member[MEMBER] = "-";
static struct conn conns[MAX_CONNS];
static int epoll_fd;
static bool quit;

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (uint64_t)ts.tv_sec * NS + (uint64_t)ts.tv_nsec;
}

static void die(const char *what)
{
	fprintf(stderr, "probe: %s: %s\n", what, strerror(errno));
	exit(2);
}

static void note_gap(uint64_t end, const char *after)
{
	printf("gap %" PRIu64 " %" PRIu64 " %.3f %s %s %.3f\n", last_answer, end, (double)(end - last_answer) / 1e6, last_member,
	       after, (double)late_now / 1e6);
	if (n_gaps == MAX_GAPS) {
		gaps_left_out++;
		return;
	}
	struct gap *g = &gaps[n_gaps++];
	*g = (struct gap){.start = last_answer, .end = end, .late = late_now};
	/* a gap belongs to the segment in which it ended; what caused it was marked before */
	g->segment = n_segments - 1;
	snprintf(g->before, sizeof(g->before), "%s", last_member);
	snprintf(g->after, sizeof(g->after), "%s", after);
}

static void took_answer(uint32_t number, const char *member)
{
	uint64_t now = now_ns();
	size_t len = strlen(member);
	const char *tail = member + (len > 7 ? len - 7 : 0);

	if (number >= sent)
		return;
	if (answered[number]) {
		if (strcmp(answerer[number], tail)) {
			doubles++;
			printf("both %" PRIu64 " %" PRIu32 " %s %s\n", now, number, answerer[number], member);
		}
		return;
	}
	answered[number] = 1;
	snprintf(answerer[number], sizeof(answerer[number]), "%s", tail);
	if (!last_answer) {
		printf("first %" PRIu64 " %s\n", now, member);
	} else {
		if (now - last_answer > opt.gap)
			note_gap(now, member);
		if (strcmp(last_member, member)) {
			struct segment *s = &segments[n_segments - 1];

			printf("change %" PRIu64 " %.3f %s %s\n", now, (double)(now - last_answer) / 1e6, last_member, member);
			if (!s->change_end) {
				s->change_start = last_answer;
				s->change_end = now;
			}
		}
	}
	last_answer = now;
	late_now = 0;
	snprintf(last_member, sizeof(last_member), "%s", member);
}

static void udp_read(int fd)
{
	char text[256], member[MEMBER];
	uint32_t number;
	ssize_t n;

	while ((n = recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT)) >= 0 || errno == ECONNREFUSED || errno == EHOSTUNREACH) {
		if (n < 0)
			continue;
		text[n] = '\0';
		if (sscanf(text, "%63s %" SCNx32, member, &number) == 2)
			took_answer(number, member);
	}
}

static void udp_send(int fd)
{
	char text[16];
	int n = snprintf(text, sizeof(text), "%08" PRIx32, sent++);

	/* a refused or unroutable request was sent and got no answer: that is the finding, not an error */
	if (send(fd, text, (size_t)n, MSG_DONTWAIT) < 0)
		(void)send(fd, text, (size_t)n, MSG_DONTWAIT);
}

static void conn_close(struct conn *c)
{
	close(c->fd);
	c->fd = -1;
}

static void conn_open(void)
{
	struct conn *c = NULL;
	uint32_t number = sent++;
	uint64_t now = now_ns();
	int one = 1;

	for (int i = 0; i < MAX_CONNS; i++) {
		if (conns[i].fd >= 0 && now - conns[i].since > CONN_TIMEOUT_NS)
			conn_close(&conns[i]);
		if (conns[i].fd < 0)
			c = &conns[i];
	}
	if (!c)
		return; /* counts as lost */
	int fd = socket(opt.peer.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		die("socket");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	struct linger reset = {.l_onoff = 1}; /* no heap of TIME_WAIT ports in a long run */
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	*c = (struct conn){.fd = fd, .number = number, .since = now};
	if (connect(fd, (struct sockaddr *)&opt.peer, opt.peer_len) < 0 && errno != EINPROGRESS) {
		conn_close(c);
		return;
	}
	struct epoll_event ev = {.events = EPOLLOUT, .data.ptr = c};
	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0)
		die("epoll_ctl");
}

static void conn_event(struct conn *c)
{
	if (c->fd < 0)
		return;
	if (!c->sent) {
		char request[160];
		int n = snprintf(request, sizeof(request), "GET /%" PRIu32 " HTTP/1.0\r\nHost: %s\r\n\r\n", c->number,
				 opt.host_header);
		if (send(c->fd, request, (size_t)n, MSG_NOSIGNAL) < 0) {
			conn_close(c);
			return;
		}
		c->sent = true;
		struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
		epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &ev);
		return;
	}
	ssize_t n = recv(c->fd, c->answer + c->have, sizeof(c->answer) - 1 - c->have, 0);
	if (n < 0 && errno == EAGAIN)
		return;
	if (n > 0) {
		c->have += (size_t)n;
		c->answer[c->have] = '\0';
		char member[MEMBER], *body = strstr(c->answer, "\r\n\r\n");
		if (body && strchr(body + 4, '\n') && sscanf(body + 4, "member %63s", member) == 1) {
			took_answer(c->number, member);
			conn_close(c);
		} else if (c->have == sizeof(c->answer) - 1) {
			conn_close(c);
		}
		return;
	}
	conn_close(c);
}

static void command(char *line)
{
	line[strcspn(line, "\r\n")] = '\0';
	if (!strncmp(line, "mark ", 5) && n_segments < MAX_SEGMENTS) {
		struct segment *s = &segments[n_segments++];
		size_t w = 0;
		for (const char *p = line + 5; *p && w + 1 < sizeof(s->name); p++)
			s->name[w++] = *p < ' ' || *p == '"' || *p == '\\' ? '_' : *p;
		s->name[w] = '\0';
		s->start = now_ns();
		s->first = sent;
		printf("mark %" PRIu64 " %s\n", s->start, s->name);
	} else if (!strcmp(line, "quit")) {
		quit = true;
	}
}

static void read_commands(int fd)
{
	static char buf[512];
	static size_t have;
	ssize_t n = read(fd, buf + have, sizeof(buf) - 1 - have);

	if (n <= 0) {
		quit = true;
		return;
	}
	have += (size_t)n;
	buf[have] = '\0';
	char *nl;
	while ((nl = strchr(buf, '\n'))) {
		*nl = '\0';
		command(buf);
		have -= (size_t)(nl + 1 - buf);
		memmove(buf, nl + 1, have + 1);
	}
	if (have == sizeof(buf) - 1)
		have = 0;
}

static void count(uint32_t from, uint32_t to, uint32_t *ret_answered)
{
	*ret_answered = 0;
	for (uint32_t i = from; i < to; i++)
		*ret_answered += answered[i];
}

static double max_gap(unsigned int segment, bool all, uint64_t from)
{
	uint64_t max = 0;

	for (unsigned int i = 0; i < n_gaps; i++)
		if ((all || gaps[i].segment == segment) && gaps[i].start >= from && gaps[i].end - gaps[i].start > max)
			max = gaps[i].end - gaps[i].start;
	return (double)max / 1e6;
}

static void summary(uint64_t ended)
{
	FILE *f = opt.out ? fopen(opt.out, "we") : NULL;
	uint32_t got;

	if (opt.out && !f)
		die(opt.out);
	if (!f)
		return;
	count(0, sent, &got);
	fprintf(f, "{\"protocol\":\"%s\",\"interval_ms\":%.3f,\"start_ms\":%.3f,\"end_ms\":%.3f,\"sent\":%" PRIu32
		",\"answered\":%" PRIu32 ",\"lost\":%" PRIu32 ",\"answered_by_two\":%u,\"gaps_left_out\":%u,\"max_gap_ms\":%.3f,"
		"\"segments\":[", opt.tcp ? "http" : "udp", (double)opt.interval / 1e6, (double)first_sent / 1e6,
		(double)ended / 1e6, sent, got, sent - got, doubles, gaps_left_out, max_gap(0, true, 0));
	for (unsigned int i = 0; i < n_segments; i++) {
		const struct segment *s = &segments[i];
		uint32_t end = i + 1 < n_segments ? s[1].first : sent;
		bool first = true;

		count(s->first, end, &got);
		fprintf(f, "%s\n{\"name\":\"%s\",\"start_ms\":%.3f,\"sent\":%" PRIu32 ",\"answered\":%" PRIu32 ",\"lost\":%" PRIu32
			",\"max_gap_ms\":%.3f,", i ? "," : "", s->name, (double)(s->start ? s->start : first_sent) / 1e6,
			end - s->first, got, end - s->first - got, max_gap(i, false, 0));
		if (s->change_end)
			fprintf(f, "\"change_ms\":%.3f,\"later_gap_ms\":%.3f,\"gaps\":[",
				(double)(s->change_end - s->change_start) / 1e6, max_gap(i, false, s->change_end));
		else
			fprintf(f, "\"change_ms\":null,\"later_gap_ms\":null,\"gaps\":[");
		for (unsigned int k = 0; k < n_gaps; k++) {
			const struct gap *g = &gaps[k];
			if (g->segment != i)
				continue;
			fprintf(f, "%s\n {\"start_ms\":%.3f,\"end_ms\":%.3f,\"ms\":%.3f,\"before\":\"%s\",\"after\":\"%s\",\"late_ms\":%.3f}",
				first ? "" : ",", (double)g->start / 1e6, (double)g->end / 1e6, (double)(g->end - g->start) / 1e6,
				g->before, g->after, (double)g->late / 1e6);
			first = false;
		}
		fprintf(f, "]}");
	}
	fprintf(f, "]}\n");
	if (fclose(f) != 0)
		die(opt.out);
}

static void parse_peer(const char *address, uint16_t port)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)&opt.peer;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&opt.peer;

	if (inet_pton(AF_INET, address, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons(port);
		opt.peer_len = sizeof(*v4);
		snprintf(opt.host_header, sizeof(opt.host_header), "%s", address);
	} else if (inet_pton(AF_INET6, address, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons(port);
		opt.peer_len = sizeof(*v6);
		snprintf(opt.host_header, sizeof(opt.host_header), "[%s]", address);
	} else {
		fprintf(stderr, "probe: %s is no IP address\n", address);
		exit(2);
	}
}

static uint64_t ms_arg(const char *text, const char *what)
{
	char *end;
	double v = strtod(text, &end);

	if (*end || !(v > 0) || v > 1e9) {
		fprintf(stderr, "probe: %s: not a time: %s\n", what, text);
		exit(2);
	}
	return (uint64_t)(v * 1e6);
}

static void add_fd(int fd, void *tag)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = tag};

	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0)
		die("epoll_ctl");
}

int main(int argc, char **argv)
{
	static int tag_timer, tag_udp, tag_stdin, tag_signal;
	uint64_t duration = 0, stop_at = 0;
	unsigned int port = 0;
	int c, udp = -1;

	while ((c = getopt(argc, argv, "ti:g:p:d:o:")) != -1) {
		switch (c) {
		case 't': opt.tcp = true; break;
		case 'i': opt.interval = ms_arg(optarg, "-i"); break;
		case 'g': opt.gap = ms_arg(optarg, "-g"); break;
		case 'p': port = (unsigned int)atoi(optarg); break;
		case 'd': duration = ms_arg(optarg, "-d") * 1000; break;
		case 'o': opt.out = optarg; break;
		default: return 2;
		}
	}
	if (optind + 1 != argc || port > 65535) {
		fprintf(stderr, "usage: probe [-t] [-i INTERVAL_MS] [-g GAP_MS] [-p PORT] [-d SECONDS] [-o FILE] ADDRESS\n");
		return 2;
	}
	parse_peer(argv[optind], (uint16_t)(port ? port : opt.tcp ? 80 : 7));

	setvbuf(stdout, NULL, _IOLBF, 0);
	answered = calloc(MAX_REQUESTS, 1);
	answerer = calloc(MAX_REQUESTS, sizeof(*answerer));
	gaps = calloc(MAX_GAPS, sizeof(*gaps));
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (!answered || !answerer || !gaps || epoll_fd < 0)
		die("start");
	for (int i = 0; i < MAX_CONNS; i++)
		conns[i].fd = -1;
	if (!opt.tcp) {
		udp = socket(opt.peer.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		if (udp < 0 || connect(udp, (struct sockaddr *)&opt.peer, opt.peer_len) < 0)
			die("socket");
		add_fd(udp, &tag_udp);
	}
	struct stat st;
	if (fstat(0, &st) == 0 && (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode)))
		add_fd(0, &tag_stdin);
	sigset_t mask;
	sigemptyset(&mask);
	sigaddset(&mask, SIGINT);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGUSR1);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	int sfd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
	add_fd(sfd, &tag_signal);

	/* a client that is itself late would report gaps of its own */
	sched_setscheduler(0, SCHED_RR, &(struct sched_param){.sched_priority = 20});

	int tfd = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
	first_sent = now_ns();
	uint64_t due = first_sent;
	struct itimerspec every = {
		.it_interval = {(time_t)(opt.interval / NS), (long)(opt.interval % NS)},
		.it_value = {(time_t)(due / NS), (long)(due % NS)},
	};
	if (tfd < 0 || timerfd_settime(tfd, TFD_TIMER_ABSTIME, &every, NULL) < 0)
		die("timerfd");
	add_fd(tfd, &tag_timer);
	if (duration)
		stop_at = first_sent + duration;

	uint64_t grace_end = 0;
	while (!grace_end || now_ns() < grace_end) {
		struct epoll_event ev[64];
		int n = epoll_wait(epoll_fd, ev, 64, 50);
		for (int i = 0; i < n; i++) {
			void *tag = ev[i].data.ptr;
			if (tag == &tag_udp) {
				udp_read(udp);
			} else if (tag == &tag_timer) {
				uint64_t expirations;
				if (read(tfd, &expirations, sizeof(expirations)) != sizeof(expirations) || grace_end)
					continue;
				uint64_t now = now_ns(), late;
				due += expirations * opt.interval;
				late = now - (due - opt.interval) + (expirations - 1) * opt.interval;
				if (late > late_now)
					late_now = late;
				if (sent == MAX_REQUESTS)
					quit = true;
				else if (opt.tcp)
					conn_open();
				else
					udp_send(udp);
			} else if (tag == &tag_stdin) {
				read_commands(0);
			} else if (tag == &tag_signal) {
				struct signalfd_siginfo si;
				if (read(sfd, &si, sizeof(si)) == sizeof(si)) {
					char line[] = "mark signal";
					if (si.ssi_signo == SIGUSR1)
						command(line);
					else
						quit = true;
				}
			} else {
				conn_event(tag);
			}
		}
		if (!grace_end && (quit || (stop_at && now_ns() >= stop_at))) {
			epoll_ctl(epoll_fd, EPOLL_CTL_DEL, 0, NULL);
			grace_end = now_ns() + GRACE_NS;
		}
	}
	uint64_t ended = grace_end - GRACE_NS;
	if (last_answer && ended > last_answer && ended - last_answer > opt.gap)
		note_gap(ended, "-");
	summary(ended);
	free(answered);
	free(answerer);
	free(gaps);
	return 0;
}
