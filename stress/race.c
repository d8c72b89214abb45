// SPDX-License-Identifier: GPL-2.0
/*
 * The race that the disk sequence number ends. Many processes subscribe, attach
 * an image of their own to one of a few loop devices, wait for the uevent of its
 * partition and open that, over and over, either way:
 *
 *   name      as programs did before: by the name of the device, for LIMIT ms
 *   diskseq   with the waiter of the selftests, which has no time limit
 *
 * The load: names are used again at once, each attach scans partitions, the
 * sockets have small buffers, one reader in four has other things to do first,
 * there are more processes than processors, and one process detaches devices that
 * it did not attach.
 *
 * What is true, both ways: each image holds the number of its process and of the
 * round, and an event of the process's own has a SEQNUM that was assigned between
 * the begin and the end of its LOOP_CONFIGURE. (The event of another process just
 * before that is not recognized, but the image that is read then shows the error.)
 *
 * In the environment: RACE_WAY=way, ATTACHES=n, PROCESSES=n, LOOPS=n, BUFFER=bytes,
 * LIMIT=ms. Prints TAP, with the figures in lines that begin with "# race".
 */
#define DISKSEQ_WAIT_NO_MAIN
#include "diskseq_wait.c"
#include "program.h"

#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <linux/sock_diag.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

#define IMAGE_SIZE	(256 * 1024)
#define PARTITION_START	(64 * 512)
#define FIRST_LOOP	0
#define SECTOR		512

struct counts {
	uint64_t	begun;		/* whose turn it is */
	uint64_t	attaches;
	uint64_t	others_event;	/* took another's event for its own */
	uint64_t	others_data;	/* read another's image and did not know */
	uint64_t	in_vain;	/* for an event that was dropped, until the limit */
	uint64_t	unsent;		/* until the limit, and nothing was dropped */
	uint64_t	lossy;		/* waits during which events were dropped */
	uint64_t	missed;		/* by diskseq: so was its own, and it knew */
	uint64_t	gone;		/* by diskseq: reused, and it knew */
	uint64_t	nothing;	/* by name: there was nothing to read */
	uint64_t	failed;		/* anything else */
	uint64_t	taken;		/* devices that the bystander detached */
	bool		over;
};

static struct counts *counts;
static uint32_t *latency;		/* us, one for each attach */

static bool by_name;
static long attaches, processes, loops, buffer, limit;

struct worker {
	struct wait_source	src;
	int			number;
	int			image;
	int			seqnum;		/* /sys/kernel/uevent_seqnum */
	bool			slow;
	char			identity[SECTOR];
};

struct attached {
	char		disk[16];
	char		part[24];
	uint64_t	diskseq;
	uint64_t	first, last;		/* its events have first < SEQNUM <= last */
	double		begin;
};

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

static void nap(long us)
{
	struct timespec ts = { .tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000 };

	nanosleep(&ts, NULL);
}

/* Was there no room for an event since the socket is there? The kernel counts. */
static bool has_lost(int fd)
{
	uint32_t info[SK_MEMINFO_VARS] = {};
	socklen_t size = sizeof(info);

	if (getsockopt(fd, SOL_SOCKET, SO_MEMINFO, info, &size))
		die("SO_MEMINFO");
	return info[SK_MEMINFO_DROPS];
}

static void count(uint64_t *what)
{
	__atomic_add_fetch(what, 1, __ATOMIC_RELAXED);
}

static uint64_t last_seqnum(struct worker *w)
{
	char buf[32] = "";

	if (pread(w->seqnum, buf, sizeof(buf) - 1, 0) <= 0)
		die("uevent_seqnum");
	return strtoull(buf, NULL, 10);
}

/* Two partitions, and the identity at the begin of the disk and of the first */
static void make_image(struct worker *w)
{
	static const unsigned char table[2][16] = {
		{ 0, 0, 0, 0, 0x83, 0, 0, 0, 64, 0, 0, 0, 64, 0, 0, 0 },
		{ 0, 0, 0, 0, 0x83, 0, 0, 0, 128, 0, 0, 0, 64, 0, 0, 0 },
	};

	w->image = memfd_create("image", MFD_CLOEXEC);
	if (w->image < 0 || ftruncate(w->image, IMAGE_SIZE) ||
	    pwrite(w->image, table, sizeof(table), 446) != sizeof(table) ||
	    pwrite(w->image, "\x55\xaa", 2, 510) != 2)
		die("image");
}

static void sign_image(struct worker *w, long round)
{
	memset(w->identity, 0, sizeof(w->identity));
	snprintf(w->identity, sizeof(w->identity), "process %d round %ld", w->number, round);
	if (pwrite(w->image, w->identity, 64, 0) != 64 ||
	    pwrite(w->image, w->identity, 64, PARTITION_START) != 64)
		die("image");
}

/* A free one of the few. Like losetup, it does not keep the device open. */
static void attach(struct worker *w, struct attached *at)
{
	char path[32];
	int fd, nr, ret;

	for (;;) {
		nr = FIRST_LOOP + random() % loops;
		snprintf(at->disk, sizeof(at->disk), "loop%d", nr);
		snprintf(at->part, sizeof(at->part), "loop%dp1", nr);
		snprintf(path, sizeof(path), "/dev/loop%d", nr);
		fd = open(path, O_RDWR | O_CLOEXEC);
		if (fd < 0)
			die("%s", path);
		at->first = last_seqnum(w);
		at->begin = now();
		if (by_name) {
			struct loop_config config = {
				.fd = w->image,
				.info.lo_flags = LO_FLAGS_PARTSCAN,
			};

			ret = ioctl(fd, LOOP_CONFIGURE, &config);
		} else {
			__u64 seq;

			ret = wait_attach(fd, w->image, LO_FLAGS_PARTSCAN, &seq);
			at->diskseq = seq;
		}
		at->last = last_seqnum(w);
		if (ret && errno != EBUSY)
			die("LOOP_CONFIGURE %s", path);
		close(fd);
		if (!ret)
			return;
		nap(500);
	}
}

/* The socket of one attach, as a program that attaches one image has it */
static void subscribe(struct worker *w)
{
	int size = buffer;

	if (wait_subscribe(&w->src) ||
	    setsockopt(w->src.fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)))
		die("netlink");
}

static void dawdle(struct worker *w)
{
	if (w->slow)
		nap(random() % 10000);
}

/*
 * As it was done: take the next "add" of that name. After a loss of events there is
 * nothing to do but to wait on.
 */
static bool wait_by_name(struct worker *w, struct attached *at, uint64_t *seqnum)
{
	double deadline = at->begin + limit / 1e3;
	struct pollfd pfd = { .fd = w->src.fd, .events = POLLIN };

	for (;;) {
		char buf[8192];
		ssize_t len;
		double left;

		len = recv(w->src.fd, buf, sizeof(buf) - 1, 0);
		if (len >= 0) {
			buf[len] = '\0';
			if (strcmp(wait_var(buf, len, "ACTION"), "add") ||
			    strcmp(wait_var(buf, len, "DEVNAME"), at->part))
				continue;
			*seqnum = strtoull(wait_var(buf, len, "SEQNUM"), NULL, 10);
			return true;
		}
		if (errno == ENOBUFS)
			continue;
		if (errno != EAGAIN && errno != EINTR)
			die("netlink");
		left = deadline - now();
		if (left <= 0)
			return false;
		poll(&pfd, 1, left * 1e3 + 1);
	}
}

/* Whose is it? True: ours. */
static bool read_identity(struct worker *w, int fd, bool *ours)
{
	char buf[SECTOR];

	if (pread(fd, buf, sizeof(buf), 0) != sizeof(buf))
		return false;
	*ours = !memcmp(buf, w->identity, 64);
	return true;
}

static void detach(const char *disk, uint64_t diskseq)
{
	char path[32];
	int fd;

	if (diskseq) {
		fd = wait_open(disk, diskseq, O_RDWR);
	} else {
		snprintf(path, sizeof(path), "/dev/%s", disk);
		fd = open(path, O_RDWR | O_CLOEXEC);
	}
	if (fd < 0)
		return;
	ioctl(fd, LOOP_CLR_FD, 0);
	close(fd);
}

static void round_by_name(struct worker *w, struct attached *at, uint32_t *us)
{
	bool ours, came;
	uint64_t seqnum;
	char path[32];
	int fd;

	came = wait_by_name(w, at, &seqnum);
	if (has_lost(w->src.fd))
		count(&counts->lossy);
	if (!came) {
		count(has_lost(w->src.fd) ? &counts->in_vain : &counts->unsent);
	} else {
		if (seqnum <= at->first || seqnum > at->last)
			count(&counts->others_event);
		snprintf(path, sizeof(path), "/dev/%s", at->part);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || !read_identity(w, fd, &ours))
			count(&counts->nothing);
		else if (!ours)
			count(&counts->others_data);
		if (fd >= 0)
			close(fd);
	}
	*us = (now() - at->begin) * 1e6;
	detach(at->disk, 0);
}

/*
 * Something does not work any more: then the disk must have been reused. The ioctl
 * waits until the program that detaches it is done.
 */
static void has_to_be_gone(const struct wait_event *ev)
{
	if (wait_ask(ev) == WAIT_GONE)
		count(&counts->gone);
	else
		count(&counts->failed);
}

/* Read the number, the data and the number: what was read is then known. */
static void use_by_diskseq(struct worker *w, const struct wait_event *ev)
{
	int fd = wait_open(ev->devname, ev->diskseq, O_RDONLY);
	bool ours, read;
	__u64 seq = 0;

	if (fd < 0) {
		has_to_be_gone(ev);
		return;
	}
	read = read_identity(w, fd, &ours);
	if (ioctl(fd, BLKGETDISKSEQ, &seq))
		count(&counts->failed);
	close(fd);
	if (!read || seq != ev->diskseq)
		has_to_be_gone(ev);
	else if (!ours)
		count(&counts->others_data);
}

static void round_by_diskseq(struct worker *w, struct attached *at, uint32_t *us)
{
	struct wait_event ev = {
		.disk = at->disk,
		.devname = at->part,
		.action = "add",
		.diskseq = at->diskseq,
	};
	enum wait_verdict verdict = wait_for(&w->src, &ev);

	if (has_lost(w->src.fd))
		count(&counts->lossy);
	switch (verdict) {
	case WAIT_CAME:
		if (ev.seqnum <= at->first || ev.seqnum > at->last)
			count(&counts->others_event);
		use_by_diskseq(w, &ev);
		break;
	case WAIT_MISSED:
		count(&counts->missed);
		use_by_diskseq(w, &ev);
		break;
	case WAIT_GONE:
		has_to_be_gone(&ev);
		break;
	case WAIT_FAILED:
		count(&counts->failed);
		break;
	}
	*us = (now() - at->begin) * 1e6;
	/* As long as a way by name would have waited: then it was no use. */
	if (*us > limit * 1000)
		count(&counts->in_vain);
	detach(at->disk, at->diskseq);
}

static void work(int number)
{
	struct worker w = { .number = number, .slow = number % 4 == 0 };

	srandom(number);
	make_image(&w);
	w.seqnum = open("/sys/kernel/uevent_seqnum", O_RDONLY | O_CLOEXEC);
	if (w.seqnum < 0)
		die("uevent_seqnum");

	for (;;) {
		uint64_t turn = __atomic_fetch_add(&counts->begun, 1, __ATOMIC_RELAXED);
		struct attached at = {};

		if (turn >= (uint64_t)attaches)
			break;
		sign_image(&w, turn);
		subscribe(&w);
		attach(&w, &at);
		dawdle(&w);
		if (by_name)
			round_by_name(&w, &at, &latency[turn]);
		else
			round_by_diskseq(&w, &at, &latency[turn]);
		close(w.src.fd);
		count(&counts->attaches);
	}
	_exit(0);
}

/* A process that goes by the name of a device it no longer uses, and detaches it. */
static void stand_by(int number)
{
	struct loop_info64 info;
	char path[32];
	int fd;

	srandom(number);
	while (!counts->over) {
		snprintf(path, sizeof(path), "/dev/loop%ld", FIRST_LOOP + random() % loops);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd >= 0) {
			if (!ioctl(fd, LOOP_GET_STATUS64, &info) &&
			    !ioctl(fd, LOOP_CLR_FD, 0))
				count(&counts->taken);
			close(fd);
		}
		nap(60000 + random() % 80000);
	}
	_exit(0);
}

static pid_t start(void (*job)(int), int number)
{
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid < 0)
		die("fork");
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		job(number);
	}
	return pid;
}

static void make_loops(void)
{
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	long i;

	if (control < 0)
		die("/dev/loop-control");
	for (i = 0; i < loops; i++)
		if (ioctl(control, LOOP_CTL_ADD, FIRST_LOOP + i) < 0 && errno != EEXIST)
			die("LOOP_CTL_ADD");
	close(control);
}

static void *shared_memory(size_t size)
{
	void *mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (mem == MAP_FAILED)
		die("mmap");
	return mem;
}

static int compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static double quantile(double q)
{
	return latency[(size_t)(q * (attaches - 1))] / 1e3;
}

static void tell(const char *way, double seconds)
{
	int i;

	qsort(latency, attaches, sizeof(*latency), compare);
	printf("# race %s attaches=%lu others_event=%lu others_data=%lu in_vain=%lu unsent=%lu lossy=%lu missed=%lu gone=%lu nothing=%lu failed=%lu taken=%lu median=%.1f p99=%.1f max=%.1f seconds=%.1f\n",
	       way, counts->attaches, counts->others_event, counts->others_data,
	       counts->in_vain, counts->unsent, counts->lossy, counts->missed, counts->gone,
	       counts->nothing, counts->failed, counts->taken, quantile(0.5),
	       quantile(0.99), quantile(1), seconds);
	for (i = 0; i <= 200; i++)
		printf("#  quantile %.3f %.3f\n", i / 200.0, quantile(i / 200.0));
}

int main(void)
{
	const char *way = getenv("RACE_WAY") ?: "diskseq";
	double begin = now(), seconds, shown = begin;
	pid_t bystander;
	bool good;
	long i, left;

	attaches = option("ATTACHES", 2000);
	processes = option("PROCESSES", 16);
	loops = option("LOOPS", 32);
	buffer = option("BUFFER", 65536);
	limit = option("LIMIT", 1000);
	by_name = !strcmp(way, "name");

	printf("TAP version 13\n1..1\n");
	counts = shared_memory(sizeof(*counts));
	latency = shared_memory(attaches * sizeof(*latency));
	make_loops();
	for (i = 0; i < processes; i++)
		start(work, 2 + i);
	bystander = start(stand_by, 1);
	for (left = processes; left;) {
		int status;
		pid_t pid = waitpid(-1, &status, WNOHANG);

		if (pid > 0 && pid != bystander) {
			if (status)
				die("a process ended with status %x", status);
			left--;
			continue;
		}
		nap(100000);
		if (now() - shown < 30)
			continue;
		shown = now();
		printf("# %lu of %ld attached\n", counts->attaches, attaches);
		fflush(stdout);
	}
	seconds = now() - begin;
	counts->over = true;
	waitpid(bystander, NULL, 0);

	tell(way, seconds);
	good = counts->attaches == (uint64_t)attaches && !counts->failed;
	if (!by_name)
		good = good && !counts->others_event && !counts->others_data &&
		       !counts->in_vain;
	printf("%sok 1 %s\n", good ? "" : "not ", by_name ?
	       "all was attached, waited for by name" :
	       "a program that goes by number never takes another's event or data");
	return !good;
}
