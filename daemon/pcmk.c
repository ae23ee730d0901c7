/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/pcmk.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "daemon/proc.h"
#include "internal/cleanup.h"

#define MS UINT64_C(1000000)
#define MAX_RUNNING 4			/* helper processes at a time, all pairs together */
#define RETRY_MIN_MS 500
#define RETRY_MAX_MS 30000
#define DIR_RETRY_MS 2000		/* while the CIB's directory does not exist */
#define CIB_MAX_BYTES (64u << 20)
#define THREAD_STACK (256u * 1024)
#define CIB_FILE "cib.xml"
#define HISTORY_MAX_BYTES (256u << 10)	/* the fencer remembers 500 operations, of all nodes */
#define INFINITE 1000000u		/* Pacemaker's INFINITY */

enum job_kind { JOB_SCORE, JOB_CIB, JOB_BAN, JOB_CLEAN, JOB_COUNT, JOB_UNPEND, JOB_REFRESH, JOB_UNFENCING, JOB_FENCING };

/* Work done in a thread of its own, which may block: it owns the job until it hands it to the hub's list. */
struct job {
	struct job *next;
	struct hub *hub;
	enum job_kind kind;
	/* score; all but attr, value and score also for JOB_BAN, where set means to ban */
	char pair[64], node[64], rsc[128], attr[160], value[16];
	char program[256], output[256];
	/* JOB_CLEAN */
	char crm_resource[256], op[16];
	uint32_t interval_ms, count;
	bool set;
	uint32_t score;
	int timeout_ms;
	int rc;				/* exit status, or -errno */
	/* CIB */
	char path[512];
	char cib_node[64];
	struct vmp_cib *cib;
	char reason[160];
	/* JOB_FENCING, of node */
	struct vmp_pcmk_history *history;
	int64_t asked_s;
};

/* Shared by the loop and the threads; the last one to leave frees it, so an end of the daemon waits for no thread. */
struct hub {
	pthread_mutex_t lock;
	unsigned refs;
	bool closed;
	int efd;
	struct job *done;
};

struct want {
	char node[64];
	bool set, pending, written;
	uint32_t score;
	uint64_t seq;			/* order of the wishes */
	uint64_t asked_ns;
};

struct pair {
	bool used, running, forget;	/* forget: gone as soon as its deletion is written or has failed */
	char pair[64], rsc[128];
	struct want want[VMP_PCMK_MAX_NODES];
	unsigned n_want;
	uint64_t retry_ns;
	unsigned retry_ms;
};

struct vmp_pcmk {
	struct vmp_loop_ops ops;
	struct vmp_pcmk_params par;
	char node[64], program[256], crm_resource[256], stonith_admin[256], cibadmin[256], cib_dir[384];
	struct hub *hub;
	uint64_t seq;
	unsigned running;
	struct pair pairs[VMP_PCMK_MAX_PAIRS];
	enum vmp_pcmk_state state;
	uint64_t refresh_ns;
	int ifd, wd;
	uint64_t dir_retry_ns;
	bool cib_dirty, cib_running, cib_known;
	struct vmp_cib cib;
};

static uint64_t now(struct vmp_pcmk *p)
{
	return p->ops.now_ns(p->ops.loop);
}

static void job_free(struct job *j)
{
	free(j->cib);
	free(j->history);
	free(j);
}

/* The caller holds the lock, which is gone with the last reference. */
static void hub_unref_unlock(struct hub *h)
{
	bool last = --h->refs == 0;
	pthread_mutex_unlock(&h->lock);
	if (!last)
		return;
	while (h->done) {
		struct job *j = h->done;
		h->done = j->next;
		job_free(j);
	}
	close(h->efd);
	pthread_mutex_destroy(&h->lock);
	free(h);
}

static int read_file(const char *path, char **ret, size_t *ret_len)
{
	struct stat st;
	CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_size > CIB_MAX_BYTES)
		return -EFBIG;
	size_t size = (size_t)st.st_size, len = 0;
	CLEANUP_FREE char *buf = malloc(size + 1);
	if (!buf)
		return -ENOMEM;
	while (len < size) {
		ssize_t n = read(fd, buf + len, size - len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		len += (size_t)n;
	}
	*ret = TAKE_PTR(buf);
	*ret_len = len;
	return 0;
}

static void run_cib(struct job *j)
{
	CLEANUP_FREE char *text = NULL;
	size_t len = 0;
	j->rc = read_file(j->path, &text, &len);
	if (j->rc < 0) {
		snprintf(j->reason, sizeof(j->reason), "%.100s: %s", j->path, strerror(-j->rc));
		return;
	}
	j->cib = calloc(1, sizeof(*j->cib));
	if (!j->cib) {
		j->rc = -ENOMEM;
		snprintf(j->reason, sizeof(j->reason), "out of memory");
		return;
	}
	j->rc = vmp_cib_parse(text, len, j->cib_node, j->cib, j->reason, sizeof(j->reason));
}

static int write_attr(struct job *j, char *attr, char *value)
{
	static char opt_n[] = "-n", opt_node[] = "-N", opt_value[] = "-U", opt_delete[] = "-D";
	char *argv[] = {j->program, opt_n, attr, opt_node, j->node, value ? opt_value : opt_delete, value, NULL};
	return vmp_proc_run(argv, j->timeout_ms, j->output, sizeof(j->output));
}

static void run_score(struct job *j)
{
	j->rc = write_attr(j, j->attr, j->set ? j->value : NULL);
}

/*
 * Named as if an operation "surplus" had failed, which crm_mon -f and "resource cleanup" understand. The time lets it expire by the
 * resource's failure-timeout, should nobody take it back; it is written last, and removed last, because without it nothing expires.
 */
static void run_ban(struct job *j)
{
	static char infinity[] = "INFINITY";
	char attr[200], when[32];
	snprintf(attr, sizeof(attr), "fail-count-%s#surplus_0", j->rsc);
	j->rc = write_attr(j, attr, j->set ? infinity : NULL);
	if (j->rc)
		return;
	snprintf(attr, sizeof(attr), "last-failure-%s#surplus_0", j->rsc);
	snprintf(when, sizeof(when), "%lld", (long long)time(NULL));
	j->rc = write_attr(j, attr, j->set ? when : NULL);
}

/* A fail count as attrd has it; 0 when there is none. */
static uint32_t read_count(struct job *j, char *attr)
{
	static char opt_n[] = "-n", opt_node[] = "-N", opt_query[] = "-Q";
	char *argv[] = {j->program, opt_n, attr, opt_node, j->node, opt_query, NULL};
	char out[256];
	const char *v;
	if (vmp_proc_run(argv, j->timeout_ms, out, sizeof(out)) != 0 || !(v = strstr(out, " value=\"")))
		return 0;
	v += strlen(" value=\"");
	if (!strncmp(v, "INFINITY", 8))
		return INFINITE;
	unsigned long n = strtoul(v, NULL, 10);
	return n < INFINITE ? (uint32_t)n : INFINITE;
}

static int count_time(struct job *j)
{
	char last[200], value[24];
	snprintf(last, sizeof(last), "last-failure-%s#recovered_0", j->rsc);
	snprintf(value, sizeof(value), "%lld", (long long)time(NULL));
	return write_attr(j, last, value);
}

/* The count first, because cleaning takes it; "recovered" is named like an operation, as "surplus" above. */
static void run_clean(struct job *j)
{
	static char cleanup[] = "--cleanup", opt_r[] = "--resource", opt_node[] = "--node", opt_op[] = "--operation", opt_i[] = "--interval";
	char count[200], of_op[200], interval[24], value[24];
	snprintf(count, sizeof(count), "fail-count-%s#recovered_0", j->rsc);
	snprintf(of_op, sizeof(of_op), "fail-count-%s#%s_%u", j->rsc, j->op, j->interval_ms);
	snprintf(interval, sizeof(interval), "%ums", j->interval_ms);
	j->count = read_count(j, count) + read_count(j, of_op);
	char *argv[] = {j->crm_resource, cleanup, opt_r, j->rsc, opt_node, j->node, opt_op, j->op, opt_i, interval, NULL};
	j->rc = vmp_proc_run(argv, 4 * j->timeout_ms, j->output, sizeof(j->output));
	if (j->rc || !j->count)
		return;
	snprintf(value, sizeof(value), j->count >= INFINITE ? "INFINITY" : "%u", j->count);
	j->rc = write_attr(j, count, value);
	if (!j->rc)
		j->rc = count_time(j);
}

static void run_count(struct job *j)
{
	static char one_more[] = "value++"; /* attrd adds */
	char count[200];
	snprintf(count, sizeof(count), "fail-count-%s#recovered_0", j->rsc);
	j->rc = write_attr(j, count, one_more);
	if (!j->rc)
		j->rc = count_time(j);
}

static void run_unpend(struct job *j)
{
	static char delete[] = "--delete", opt_xpath[] = "--xpath";
	char xpath[512];
	char *argv[] = {j->program, delete, opt_xpath, xpath, NULL};
	snprintf(xpath, sizeof(xpath),
		 "//node_state[@uname='%s']//lrm_resource[@id='%s']/lrm_rsc_op[@operation='monitor'][@call-id='-1'][@interval!='0']", j->node, j->rsc);
	j->rc = vmp_proc_run(argv, j->timeout_ms, j->output, sizeof(j->output));
}

static void run_refresh(struct job *j)
{
	static char refresh[] = "--refresh", opt_r[] = "--resource", opt_node[] = "--node";
	char *argv[] = {j->program, refresh, opt_r, j->rsc, opt_node, j->node, NULL};
	j->rc = vmp_proc_run(argv, 4 * j->timeout_ms, j->output, sizeof(j->output));
}

/* The attribute by which the scheduler knows that a node was unfenced since it joined; its value is the time. */
static void run_unfencing(struct job *j)
{
	static char attr[] = "#node-unfenced";
	j->rc = write_attr(j, attr, NULL);
}

static void run_fencing(struct job *j)
{
	static char opt_history[] = "--history", opt_verbose[] = "--verbose", opt_xml[] = "--output-as=xml";
	char *argv[] = {j->program, opt_history, j->node, opt_verbose, opt_xml, NULL};
	CLEANUP_FREE char *text = malloc(HISTORY_MAX_BYTES);
	j->history = calloc(1, sizeof(*j->history));
	if (!text || !j->history) {
		j->rc = -ENOMEM;
		return;
	}
	j->asked_s = time(NULL);
	j->rc = vmp_proc_run(argv, j->timeout_ms, text, HISTORY_MAX_BYTES);
	if (j->rc < 0)
		return;
	int rc = vmp_fencing_parse(text, strlen(text), j->node, j->history, j->output, sizeof(j->output));
	if (rc < 0 || j->rc == 0)
		j->rc = rc;	/* else its exit status, with a history that looks whole */
}

static void *job_thread(void *data)
{
	struct job *j = data;
	struct hub *h = j->hub;
	switch (j->kind) {
	case JOB_SCORE: run_score(j); break;
	case JOB_CIB: run_cib(j); break;
	case JOB_BAN: run_ban(j); break;
	case JOB_CLEAN: run_clean(j); break;
	case JOB_COUNT: run_count(j); break;
	case JOB_UNPEND: run_unpend(j); break;
	case JOB_REFRESH: run_refresh(j); break;
	case JOB_UNFENCING: run_unfencing(j); break;
	case JOB_FENCING: run_fencing(j); break;
	}
	pthread_mutex_lock(&h->lock);
	if (h->closed) {
		job_free(j);
	} else {
		uint64_t one = 1;
		j->next = h->done;
		h->done = j;
		/* An eventfd fails only when its counter is full, and then the loop is awake already. */
		ssize_t n = write(h->efd, &one, sizeof(one));
		(void)n;
	}
	hub_unref_unlock(h);
	return NULL;
}

/* Ordinary priority, whatever the loop's thread has. */
static int job_start(struct vmp_pcmk *p, struct job *j)
{
	pthread_attr_t a;
	pthread_t t;
	struct sched_param sp = {0};
	j->hub = p->hub;
	pthread_mutex_lock(&p->hub->lock);
	p->hub->refs++;
	pthread_mutex_unlock(&p->hub->lock);
	int rc = pthread_attr_init(&a);
	if (rc == 0) {
		pthread_attr_setdetachstate(&a, PTHREAD_CREATE_DETACHED);
		pthread_attr_setstacksize(&a, THREAD_STACK);
		pthread_attr_setinheritsched(&a, PTHREAD_EXPLICIT_SCHED);
		pthread_attr_setschedpolicy(&a, SCHED_OTHER);
		pthread_attr_setschedparam(&a, &sp);
		rc = pthread_create(&t, &a, job_thread, j);
		pthread_attr_destroy(&a);
	}
	if (rc) {
		pthread_mutex_lock(&p->hub->lock);
		hub_unref_unlock(p->hub);
	}
	return -rc;
}

/* --- scores --- */

static struct pair *find_pair(struct vmp_pcmk *p, const char *name)
{
	for (unsigned i = 0; i < VMP_PCMK_MAX_PAIRS; i++)
		if (p->pairs[i].used && !strcmp(p->pairs[i].pair, name))
			return &p->pairs[i];
	return NULL;
}

static struct want *find_want(struct pair *e, const char *node)
{
	for (unsigned i = 0; i < e->n_want; i++)
		if (!strcmp(e->want[i].node, node))
			return &e->want[i];
	return NULL;
}

static struct want *next_want(struct pair *e)
{
	struct want *first = NULL;
	for (unsigned i = 0; i < e->n_want; i++)
		if (e->want[i].pending && (!first || e->want[i].seq < first->seq))
			first = &e->want[i];
	return first;
}

static void set_state(struct vmp_pcmk *p, enum vmp_pcmk_state state, const char *reason)
{
	if (p->state == state)
		return;
	p->state = state;
	if (p->par.state)
		p->par.state(p->par.data, state, reason);
}

static void back_off(struct vmp_pcmk *p, struct pair *e)
{
	e->retry_ms = e->retry_ms ? e->retry_ms * 2 : RETRY_MIN_MS;
	if (e->retry_ms > RETRY_MAX_MS)
		e->retry_ms = RETRY_MAX_MS;
	e->retry_ns = now(p) + e->retry_ms * MS;
}

static int start_write(struct vmp_pcmk *p, struct pair *e, const struct want *w)
{
	struct job *j = calloc(1, sizeof(*j));
	if (!j)
		return -ENOMEM;
	snprintf(j->pair, sizeof(j->pair), "%s", e->pair);
	snprintf(j->node, sizeof(j->node), "%s", w->node);
	snprintf(j->attr, sizeof(j->attr), "master-%s", e->rsc);
	snprintf(j->value, sizeof(j->value), "%u", w->score);
	snprintf(j->program, sizeof(j->program), "%s", p->program);
	j->set = w->set;
	j->score = w->score;
	j->timeout_ms = (int)p->par.deadline_ms;
	int rc = job_start(p, j);
	if (rc < 0) {
		job_free(j);
		return rc;
	}
	e->running = true;
	p->running++;
	return 0;
}

/* Starts what may be started now: one per pair, MAX_RUNNING in all, the oldest wish first. */
static void kick(struct vmp_pcmk *p)
{
	while (p->running < MAX_RUNNING) {
		struct pair *best = NULL;
		uint64_t seq = UINT64_MAX, t = now(p);
		for (unsigned i = 0; i < VMP_PCMK_MAX_PAIRS; i++) {
			struct pair *e = &p->pairs[i];
			const struct want *w = e->used && !e->running && e->retry_ns <= t ? next_want(e) : NULL;
			if (w && w->seq < seq) {
				best = e;
				seq = w->seq;
			}
		}
		if (!best)
			return;
		if (start_write(p, best, next_want(best)) < 0)
			back_off(p, best);
	}
}

static void rewrite(struct vmp_pcmk *p, struct pair *e, bool now_too)
{
	for (unsigned i = 0; i < e->n_want; i++) {
		struct want *w = &e->want[i];
		/* Only the own node's value is ours to repeat; another's may have been changed by its owner. */
		if (strcmp(w->node, p->node) || w->pending)
			continue;
		w->pending = true;
		w->written = false;
		w->seq = ++p->seq;
		w->asked_ns = now(p);
	}
	if (now_too)
		e->retry_ns = 0;
}

static void why_failed(const struct job *j, char *reason, size_t size)
{
	const char *program = j->kind == JOB_CLEAN ? "crm_resource or attrd_updater" : j->kind == JOB_FENCING ? "stonith_admin" :
			      j->kind == JOB_UNPEND ? "cibadmin" : j->kind == JOB_REFRESH ? "crm_resource" : "attrd_updater";
	if (j->rc == -ETIMEDOUT)
		snprintf(reason, size, "%s did not end in time", program);
	else if (j->output[0])
		snprintf(reason, size, "%s", j->output);
	else if (j->rc < 0)
		snprintf(reason, size, "%s", strerror(-j->rc));
	else
		snprintf(reason, size, "%s failed", program);
}

static void score_finished(struct vmp_pcmk *p, const struct job *j)
{
	p->running--;
	struct pair *e = find_pair(p, j->pair);
	struct want *w = e ? find_want(e, j->node) : NULL;
	int rc = j->rc > 0 ? -ECOMM : j->rc;
	uint32_t took = 0;
	bool forget = false;
	if (e)
		e->running = false;
	char attr[160];
	snprintf(attr, sizeof(attr), "master-%s", e ? e->rsc : "");
	if (w && !strcmp(attr, j->attr)) {
		took = (uint32_t)((now(p) - w->asked_ns) / MS);
		if (rc == 0) {
			e->retry_ms = 0;
			e->retry_ns = 0;
			if (w->set == j->set && (!j->set || w->score == j->score)) {
				w->pending = false;
				w->written = true;
			}
		} else {
			back_off(p, e);
		}
		forget = e->forget && (rc < 0 || !next_want(e));
	}
	char reason[320];
	if (rc < 0)
		why_failed(j, reason, sizeof(reason));
	/* Events last: a callback may set scores, or forget the pair. */
	if (forget)
		memset(e, 0, sizeof(*e));
	/* Pacemaker is back, perhaps restarted: what was written before it went is lost then. */
	if (rc == 0 && p->state == VMP_PCMK_ABSENT)
		for (unsigned i = 0; i < VMP_PCMK_MAX_PAIRS; i++)
			if (p->pairs[i].used && &p->pairs[i] != e)
				rewrite(p, &p->pairs[i], true);
	set_state(p, rc == 0 ? VMP_PCMK_UP : VMP_PCMK_ABSENT, rc == 0 ? NULL : reason);
	if (p->par.score_done)
		p->par.score_done(p->par.data, j->pair, j->node, j->set, j->score, rc, took);
}

int vmp_pcmk_score(struct vmp_pcmk *p, const char *pair, const char *rsc, const char *node, bool set, uint32_t score)
{
	node = node ? node : p->node;
	if (!*pair || !*rsc || strlen(pair) >= sizeof(p->pairs[0].pair) || strlen(rsc) >= sizeof(p->pairs[0].rsc) ||
	    strlen(node) >= sizeof(p->pairs[0].want[0].node))
		return -EINVAL;
	struct pair *e = find_pair(p, pair);
	for (unsigned i = 0; i < VMP_PCMK_MAX_PAIRS && !e; i++)
		if (!p->pairs[i].used) {
			e = &p->pairs[i];
			e->used = true;
			strcpy(e->pair, pair);
			strcpy(e->rsc, rsc);
		}
	if (!e)
		return -ENOSPC;
	e->forget = false;
	if (strcmp(e->rsc, rsc)) {
		/* another resource runs the pair now: nothing of the old attribute counts */
		strcpy(e->rsc, rsc);
		e->n_want = 0;
	}
	struct want *w = find_want(e, node);
	if (!w) {
		if (e->n_want == VMP_PCMK_MAX_NODES)
			return -ENOSPC;
		w = &e->want[e->n_want++];
		*w = (struct want){0};
		strcpy(w->node, node);
	} else if (w->set == set && (!set || w->score == score) && (w->pending || !strcmp(node, p->node))) {
		return 0;	/* wished already: written, or on its way; another node's may have been changed by that node since */
	}
	w->set = set;
	w->score = score;
	w->pending = true;
	w->written = false;
	w->seq = ++p->seq;
	w->asked_ns = now(p);
	e->retry_ns = 0;
	kick(p);
	return 0;
}

bool vmp_pcmk_pending(struct vmp_pcmk *p, const char *pair)
{
	struct pair *e = find_pair(p, pair);
	const struct want *w = e ? find_want(e, p->node) : NULL;

	return w && w->pending && p->state != VMP_PCMK_ABSENT;
}

void vmp_pcmk_rewrite(struct vmp_pcmk *p, const char *pair)
{
	for (unsigned i = 0; i < VMP_PCMK_MAX_PAIRS; i++)
		if (p->pairs[i].used && (!pair || !strcmp(p->pairs[i].pair, pair)))
			rewrite(p, &p->pairs[i], true);
	kick(p);
}

void vmp_pcmk_forget(struct vmp_pcmk *p, const char *pair)
{
	struct pair *e = find_pair(p, pair);
	if (!e)
		return;
	char rsc[128];
	strcpy(rsc, e->rsc);
	struct want *w = find_want(e, p->node);
	if (!w && !e->running) {
		memset(e, 0, sizeof(*e));
		return;
	}
	for (unsigned i = 0; i < e->n_want; i++)
		e->want[i].pending = false;
	if (w && !w->set && w->written && !e->running) {
		memset(e, 0, sizeof(*e));
		return;
	}
	vmp_pcmk_score(p, pair, rsc, NULL, false, 0);
	w = find_want(e, p->node);
	if (w && !w->written)
		w->pending = true;
	e->forget = true;
	kick(p);
}

enum vmp_pcmk_state vmp_pcmk_get_state(const struct vmp_pcmk *p)
{
	return p->state;
}

/* --- ban, clean, count, unpend, refresh: tried once, and told of --- */

static int start_job(struct vmp_pcmk *p, struct job *j, const char *program, const char *pair, const char *rsc)
{
	strcpy(j->pair, pair);
	strcpy(j->rsc, rsc);
	strcpy(j->node, p->node);
	strcpy(j->program, program);
	j->timeout_ms = (int)p->par.deadline_ms;
	int rc = job_start(p, j);
	if (rc < 0)
		job_free(j);
	return rc;
}

static int job_new(struct job **ret, enum job_kind kind, const struct vmp_pcmk *p, const char *pair, const char *rsc)
{
	if (!*pair || !*rsc || strlen(pair) >= sizeof(p->pairs[0].pair) || strlen(rsc) >= sizeof(p->pairs[0].rsc))
		return -EINVAL;
	*ret = calloc(1, sizeof(**ret));
	if (!*ret)
		return -ENOMEM;
	(*ret)->kind = kind;
	return 0;
}

/* What went wrong, as the callbacks are told. */
static int outcome(const struct job *j, char *reason, size_t size)
{
	*reason = '\0';
	if (j->rc)
		why_failed(j, reason, size);
	return j->rc > 0 ? -ECOMM : j->rc;
}

static void finished(struct vmp_pcmk *p, const struct job *j, void (*done)(void *data, const char *pair, int rc, const char *reason))
{
	char reason[320];
	int rc = outcome(j, reason, sizeof(reason));
	if (done)
		done(p->par.data, j->pair, rc, reason);
}

int vmp_pcmk_ban(struct vmp_pcmk *p, const char *pair, const char *rsc, bool on)
{
	struct job *j;
	int rc = job_new(&j, JOB_BAN, p, pair, rsc);
	if (rc < 0)
		return rc;
	j->set = on;
	return start_job(p, j, p->program, pair, rsc);
}

static void ban_finished(struct vmp_pcmk *p, const struct job *j)
{
	char reason[320];
	int rc = outcome(j, reason, sizeof(reason));
	if (p->par.ban_done)
		p->par.ban_done(p->par.data, j->pair, j->set, rc, reason);
}

int vmp_pcmk_clean(struct vmp_pcmk *p, const char *pair, const char *rsc, const char *op, uint32_t interval_ms)
{
	struct job *j;
	if (strlen(op) >= sizeof(j->op))
		return -EINVAL;
	int rc = job_new(&j, JOB_CLEAN, p, pair, rsc);
	if (rc < 0)
		return rc;
	j->interval_ms = interval_ms;
	strcpy(j->op, op);
	strcpy(j->crm_resource, p->crm_resource);
	return start_job(p, j, p->program, pair, rsc);
}

static void clean_finished(struct vmp_pcmk *p, const struct job *j)
{
	char reason[320];
	int rc = outcome(j, reason, sizeof(reason));
	if (p->par.clean_done)
		p->par.clean_done(p->par.data, j->pair, j->count, rc, reason);
}

int vmp_pcmk_count(struct vmp_pcmk *p, const char *pair, const char *rsc)
{
	struct job *j;
	int rc = job_new(&j, JOB_COUNT, p, pair, rsc);
	return rc < 0 ? rc : start_job(p, j, p->program, pair, rsc);
}

int vmp_pcmk_unpend(struct vmp_pcmk *p, const char *pair, const char *rsc)
{
	struct job *j;
	if (strchr(rsc, '\'') || strchr(p->node, '\''))
		return -EINVAL;
	int rc = job_new(&j, JOB_UNPEND, p, pair, rsc);
	return rc < 0 ? rc : start_job(p, j, p->cibadmin, pair, rsc);
}

int vmp_pcmk_refresh(struct vmp_pcmk *p, const char *pair, const char *rsc)
{
	struct job *j;
	int rc = job_new(&j, JOB_REFRESH, p, pair, rsc);
	return rc < 0 ? rc : start_job(p, j, p->crm_resource, pair, rsc);
}

int vmp_pcmk_unfencing(struct vmp_pcmk *p)
{
	struct job *j = calloc(1, sizeof(*j));
	if (!j)
		return -ENOMEM;
	j->kind = JOB_UNFENCING;
	return start_job(p, j, p->program, "", "");
}

static void unfencing_finished(struct vmp_pcmk *p, const struct job *j)
{
	char reason[320];
	int rc = outcome(j, reason, sizeof(reason));
	if (p->par.unfencing_done)
		p->par.unfencing_done(p->par.data, rc, reason);
}

int vmp_pcmk_fencing(struct vmp_pcmk *p, const char *node)
{
	if (!*node || *node == '-' || strlen(node) >= sizeof(((struct job *)0)->node))
		return -EINVAL;
	struct job *j = calloc(1, sizeof(*j));
	if (!j)
		return -ENOMEM;
	j->kind = JOB_FENCING;
	strcpy(j->node, node);
	strcpy(j->program, p->stonith_admin);
	j->timeout_ms = (int)p->par.deadline_ms;
	int rc = job_start(p, j);
	if (rc < 0)
		job_free(j);
	return rc;
}

static void fencing_finished(struct vmp_pcmk *p, const struct job *j)
{
	static const struct vmp_pcmk_history none;
	char reason[320];
	int rc = outcome(j, reason, sizeof(reason));
	if (p->par.fencing)
		p->par.fencing(p->par.data, j->node, j->asked_s, rc ? &none : j->history, rc, reason);
}

/* --- CIB --- */

static void cib_start(struct vmp_pcmk *p)
{
	if (!p->cib_dirty || p->cib_running || p->wd < 0)
		return;
	struct job *j = calloc(1, sizeof(*j));
	if (!j)
		return;
	j->kind = JOB_CIB;
	snprintf(j->path, sizeof(j->path), "%s/" CIB_FILE, p->cib_dir);
	snprintf(j->cib_node, sizeof(j->cib_node), "%s", p->node);
	if (job_start(p, j) < 0) {
		job_free(j);
		return;
	}
	p->cib_dirty = false;
	p->cib_running = true;
}

static bool cib_same(const struct vmp_cib *a, const struct vmp_cib *b)
{
	return a->stonith_enabled == b->stonith_enabled && a->maintenance_mode == b->maintenance_mode && a->n_pairs == b->n_pairs &&
	       a->n_power == b->n_power && a->n_cut == b->n_cut && !strcmp(a->power, b->power) && a->n_skipped == b->n_skipped && !memcmp(a->pairs, b->pairs, a->n_pairs * sizeof(a->pairs[0])) &&
	       a->n_nodes == b->n_nodes && !memcmp(a->nodes, b->nodes, a->n_nodes * sizeof(a->nodes[0]));
}

static void cib_finished(struct vmp_pcmk *p, const struct job *j)
{
	p->cib_running = false;
	if (j->rc == -ENOENT) {
		/* Pacemaker has never written one; the directory is watched */
	} else if (j->rc < 0) {
		if (p->par.cib_error)
			p->par.cib_error(p->par.data, j->reason);
	} else if (!p->cib_known || !cib_same(&p->cib, j->cib)) {
		p->cib_known = true;
		p->cib = *j->cib;
		if (p->par.cib)
			p->par.cib(p->par.data, &p->cib);
	}
}

static void watch_dir(struct vmp_pcmk *p)
{
	p->wd = inotify_add_watch(p->ifd, p->cib_dir, IN_MOVED_TO | IN_CLOSE_WRITE | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR);
	if (p->wd < 0) {
		p->dir_retry_ns = now(p) + DIR_RETRY_MS * MS;
		return;
	}
	p->cib_dirty = true;
	cib_start(p);
}

static void inotify_io(int fd, short revents, void *data)
{
	struct vmp_pcmk *p = data;
	char buf[8192] __attribute__((aligned(__alignof__(struct inotify_event))));
	bool lost = false;
	(void)revents;
	for (;;) {
		ssize_t n = read(fd, buf, sizeof(buf));
		if (n <= 0)
			break;
		for (char *c = buf; c < buf + n;) {
			const struct inotify_event *e = (const struct inotify_event *)c;
			if ((e->mask & IN_Q_OVERFLOW) || (e->len && !strcmp(e->name, CIB_FILE)))
				p->cib_dirty = true;
			if (e->wd == p->wd && (e->mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_IGNORED | IN_UNMOUNT)))
				lost = true;
			c += sizeof(*e) + e->len;
		}
	}
	if (lost) {
		inotify_rm_watch(p->ifd, p->wd);
		p->wd = -1;
		watch_dir(p);
	}
	cib_start(p);
}

/* --- both --- */

static void hub_io(int fd, short revents, void *data)
{
	struct vmp_pcmk *p = data;
	struct job *list, *rev = NULL;
	uint64_t n;
	(void)revents;
	if (read(fd, &n, sizeof(n)) < 0)
		return;
	pthread_mutex_lock(&p->hub->lock);
	list = p->hub->done;
	p->hub->done = NULL;
	pthread_mutex_unlock(&p->hub->lock);
	while (list) {
		struct job *j = list;
		list = j->next;
		j->next = rev;
		rev = j;
	}
	while (rev) {
		struct job *j = rev;
		rev = j->next;
		switch (j->kind) {
		case JOB_SCORE: score_finished(p, j); break;
		case JOB_CIB: cib_finished(p, j); break;
		case JOB_BAN: ban_finished(p, j); break;
		case JOB_CLEAN: clean_finished(p, j); break;
		case JOB_COUNT: finished(p, j, p->par.count_done); break;
		case JOB_UNPEND: finished(p, j, p->par.unpend_done); break;
		case JOB_REFRESH: finished(p, j, p->par.refresh_done); break;
		case JOB_UNFENCING: unfencing_finished(p, j); break;
		case JOB_FENCING: fencing_finished(p, j); break;
		}
		job_free(j);
	}
	cib_start(p);
	kick(p);
}

int vmp_pcmk_new(struct vmp_pcmk **ret, const struct vmp_pcmk_params *params, char *reason, size_t reason_size)
{
	const char *program = params->attrd_updater ? params->attrd_updater : "/usr/sbin/attrd_updater";
	const char *crm_resource = params->crm_resource ? params->crm_resource : "/usr/sbin/crm_resource";
	const char *stonith_admin = params->stonith_admin ? params->stonith_admin : "/usr/sbin/stonith_admin";
	const char *cibadmin = params->cibadmin ? params->cibadmin : "/usr/sbin/cibadmin";
	const char *dir = params->cib_dir ? params->cib_dir : "/var/lib/pacemaker/cib";
	struct vmp_pcmk *p = NULL;
	struct hub *h = NULL;
	int rc;

	if (!params->node || !*params->node || strlen(params->node) >= sizeof(p->node) || strlen(program) >= sizeof(p->program) ||
	    strlen(crm_resource) >= sizeof(p->crm_resource) || strlen(stonith_admin) >= sizeof(p->stonith_admin) || strlen(cibadmin) >= sizeof(p->cibadmin) ||
	    strlen(dir) >= sizeof(p->cib_dir)) {
		snprintf(reason, reason_size, "node name or path too long");
		return -EINVAL;
	}
	p = calloc(1, sizeof(*p));
	h = calloc(1, sizeof(*h));
	if (!p || !h) {
		rc = -ENOMEM;
		goto fail;
	}
	p->ops = *params->ops;
	p->par = *params;
	p->par.ops = &p->ops;
	p->par.deadline_ms = params->deadline_ms ? params->deadline_ms : 5000;
	p->par.refresh_ms = params->refresh_ms ? params->refresh_ms : 300000;
	strcpy(p->node, params->node);
	strcpy(p->program, program);
	strcpy(p->crm_resource, crm_resource);
	strcpy(p->stonith_admin, stonith_admin);
	strcpy(p->cibadmin, cibadmin);
	strcpy(p->cib_dir, dir);
	p->hub = h;
	p->wd = -1;
	p->refresh_ns = now(p) + p->par.refresh_ms * MS;
	h->refs = 1;
	pthread_mutex_init(&h->lock, NULL);
	h->efd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	p->ifd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (h->efd < 0 || p->ifd < 0) {
		rc = -errno;
		goto fail;
	}
	rc = p->ops.add_fd(p->ops.loop, h->efd, POLLIN, hub_io, p);
	if (rc < 0)
		goto fail;
	rc = p->ops.add_fd(p->ops.loop, p->ifd, POLLIN, inotify_io, p);
	if (rc < 0) {
		p->ops.del_fd(p->ops.loop, h->efd);
		goto fail;
	}
	watch_dir(p);
	*ret = p;
	return 0;
fail:
	snprintf(reason, reason_size, "%s", strerror(-rc));
	if (h && h->efd > 0)
		close(h->efd);
	if (p && p->ifd > 0)
		close(p->ifd);
	free(h);
	free(p);
	return rc;
}

struct vmp_pcmk *vmp_pcmk_free(struct vmp_pcmk *p)
{
	if (!p)
		return NULL;
	p->ops.del_fd(p->ops.loop, p->hub->efd);
	p->ops.del_fd(p->ops.loop, p->ifd);
	close(p->ifd);
	pthread_mutex_lock(&p->hub->lock);
	p->hub->closed = true;
	hub_unref_unlock(p->hub);
	free(p);
	return NULL;
}

uint64_t vmp_pcmk_deadline_ns(const struct vmp_pcmk *p)
{
	uint64_t min = p->refresh_ns;
	if (p->wd < 0 && p->dir_retry_ns < min)
		min = p->dir_retry_ns;
	if (p->running < MAX_RUNNING)
		for (unsigned i = 0; i < VMP_PCMK_MAX_PAIRS; i++) {
			struct pair *e = (struct pair *)&p->pairs[i];
			if (e->used && !e->running && next_want(e) && e->retry_ns < min)
				min = e->retry_ns;
		}
	return min;
}

void vmp_pcmk_tick(struct vmp_pcmk *p, uint64_t now_ns)
{
	if (now_ns >= p->refresh_ns) {
		p->refresh_ns = now_ns + p->par.refresh_ms * MS;
		for (unsigned i = 0; i < VMP_PCMK_MAX_PAIRS; i++)
			if (p->pairs[i].used)
				rewrite(p, &p->pairs[i], false);
	}
	if (p->wd < 0 && now_ns >= p->dir_retry_ns)
		watch_dir(p);
	cib_start(p);
	kick(p);
}
