// SPDX-License-Identifier: GPL-2.0
/*
 * For long: processes attach a file to loop devices and detach it, and others open
 * each device that an event names, as udev does. The memory that the kernel
 * uses, and the time of a cycle, must be the same at the end as at the begin. Then many
 * devices at once, each with a number of its own.
 *
 * The cycles are done in WINDOWS parts, and memory is looked at between them, when
 * nothing is attached. The first parts, in which caches are filled, don't count.
 *
 * In the environment: CYCLES=n, LOOPS=n, PROCESSES=n, MANY=n. Prints TAP; the figures
 * are in lines that begin with "# soak": kB, and microseconds of a cycle.
 */
#define _GNU_SOURCE
#include "diskseq.h"
#include "program.h"

#include <signal.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#define WINDOWS		20
#define SETTLED		4	/* from here on caches are full */
#define SOME		5	/* windows, for a median */
#define OPENERS		2
#define FIRST_OF_MANY	1000
#define SLACK_KB	1024	/* that slabs differ by for no reason */
#define SLOWER		1.10

struct counts {
	uint64_t	cycles;
	uint64_t	busy;		/* an opener still kept it attached */
	uint64_t	opened;
	uint64_t	decreased;	/* a number not above the one before */
	uint64_t	lost;		/* times that events were dropped */
	long		window;		/* how many are through */
	long		read[OPENERS];	/* of how many it has read all events */
};

static struct counts *counts;
static long cycles, loops, processes, many;
static int image;
static bool numbers;		/* this kernel has them */
static int tests;

static void result(bool good, const char *what)
{
	printf("%sok %d %s\n", good ? "" : "not ", ++tests, what);
}

static void count(uint64_t *what)
{
	__atomic_add_fetch(what, 1, __ATOMIC_RELAXED);
}

static pid_t start(void (*job)(long), long number)
{
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid < 0)
		die("fork");
	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	job(number);
	_exit(0);
}

static void cycle(long nr, bool scan, __u64 *last)
{
	__u32 flags = LO_FLAGS_READ_ONLY | (scan ? LO_FLAGS_PARTSCAN : 0);
	char path[32];
	__u64 seq;
	int fd;

	snprintf(path, sizeof(path), "/dev/loop%ld", nr);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		die("%s", path);
	while (loop_configure(fd, image, flags)) {
		if (errno != EBUSY)
			die("attach %s", path);
		count(&counts->busy);
		/* It is detached when it was closed by all. */
		close(fd);
		nap();
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			die("%s", path);
	}
	if (numbers) {
		if (diskseq_ioctl(fd, &seq))
			die("BLKGETDISKSEQ");
		if (seq <= *last)
			count(&counts->decreased);
		*last = seq;
	}
	if (ioctl(fd, LOOP_CLR_FD, 0))
		die("detach %s", path);
	close(fd);
	count(&counts->cycles);
}

/* One window: every process has devices of its own. */
static void work(long number)
{
	long todo = cycles / WINDOWS / processes, i;
	__u64 last = 0;

	for (i = 0; i < todo; i++)
		cycle((number + i * processes) % (loops / processes * processes),
		      i % 8 == 0, &last);
}

static void open_what_is_told(long number)
{
	struct uevent ev;
	char sector[512], path[80];
	int nl = uevent_open(), fd, ret;
	long window;

	if (nl < 0)
		die("netlink");
	for (;;) {
		window = __atomic_load_n(&counts->window, __ATOMIC_ACQUIRE);
		ret = uevent_read(nl, &ev, 100);
		if (!ret)
			__atomic_store_n(&counts->read[number], window, __ATOMIC_RELEASE);
		if (ret < 0)
			count(&counts->lost);
		if (ret <= 0 || strncmp(ev.disk, "loop", 4))
			continue;
		snprintf(path, sizeof(path), "/dev/%s", ev.devname);
		fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
		if (fd < 0)
			continue;
		/* It may be gone by now. */
		if (pread(fd, sector, sizeof(sector), 0) >= 0)
			count(&counts->opened);
		close(fd);
	}
}

/* What the kernel has for itself, in kB, when it gave back what it can */
static long kernel_memory(void)
{
	static const char *const part[] = { "SUnreclaim:", "KernelStack:", "Percpu:", "VmallocUsed:" };
	char text[8192], *line;
	long sum = 0;
	size_t i;

	if (write_text("/proc/sys/vm/drop_caches", "3") ||
	    read_text("/proc/meminfo", text, sizeof(text)))
		die("/proc/meminfo");
	for (i = 0; i < sizeof(part) / sizeof(*part); i++) {
		line = strstr(text, part[i]);
		if (line)
			sum += atol(line + strlen(part[i]));
	}
	return sum;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(const double *from)
{
	double copy[SOME];

	memcpy(copy, from, sizeof(copy));
	qsort(copy, SOME, sizeof(*copy), compare);
	return copy[SOME / 2];
}

static void wait_for(pid_t pid)
{
	int status;

	if (waitpid(pid, &status, 0) != pid || status)
		die("a process ended with status %x", status);
}

/* The memory of events that an opener has still to read is not the kernel's own. */
static void wait_for_openers(const pid_t *opener, long window)
{
	int i;

	__atomic_store_n(&counts->window, window, __ATOMIC_RELEASE);
	for (i = 0; i < OPENERS; i++)
		while (__atomic_load_n(&counts->read[i], __ATOMIC_ACQUIRE) < window) {
			if (waitpid(opener[i], NULL, WNOHANG))
				die("an opener ended");
			nap();
		}
}

static void soak(void)
{
	double us[WINDOWS];
	long kb[WINDOWS];
	pid_t opener[OPENERS], worker[processes];
	long long begin;
	uint64_t before;
	long i, w;

	for (i = 0; i < OPENERS; i++)
		opener[i] = start(open_what_is_told, i);
	for (w = 0; w < WINDOWS; w++) {
		begin = now_ms();
		before = counts->cycles;
		for (i = 0; i < processes; i++)
			worker[i] = start(work, i);
		for (i = 0; i < processes; i++)
			wait_for(worker[i]);
		us[w] = (now_ms() - begin) * 1e3 / (counts->cycles - before);
		wait_for_openers(opener, w + 1);
		kb[w] = kernel_memory();
		printf("# soak window=%ld cycles=%llu us=%.1f kb=%ld busy=%llu opened=%llu lost=%llu\n",
		       w + 1, (unsigned long long)counts->cycles, us[w], kb[w],
		       (unsigned long long)counts->busy, (unsigned long long)counts->opened,
		       (unsigned long long)counts->lost);
	}
	for (i = 0; i < OPENERS; i++) {
		kill(opener[i], SIGKILL);
		waitpid(opener[i], NULL, 0);
	}
	printf("# soak cycles=%llu grown_kb=%ld time_ratio=%.3f\n",
	       (unsigned long long)counts->cycles, kb[WINDOWS - 1] - kb[SETTLED - 1],
	       median(us + WINDOWS - SOME) / median(us + SETTLED));
	result(counts->cycles && counts->opened, "devices were attached, and opened by others");
	if (numbers)
		result(!counts->decreased, "each attach gave a larger number");
	else
		printf("ok %d numbers # SKIP this kernel has none\n", ++tests);
	result(kb[WINDOWS - 1] - kb[SETTLED - 1] <= SLACK_KB, "the kernel's memory is flat");
	result(median(us + WINDOWS - SOME) <= SLOWER * median(us + SETTLED),
	       "a cycle takes no longer at the end");
}

static void many_at_once(void)
{
	struct rlimit limit = { many + 64, many + 64 };
	__u64 seq[many], again, last = 0;
	bool ascending = true, kept = true, gone = true;
	long before = kernel_memory(), used, after, i;
	long long begin, ms[3] = { 0 };
	int fd[many];
	char path[32];

	if (setrlimit(RLIMIT_NOFILE, &limit))
		die("setrlimit");
	/* On 5.10 each has a thread; small configurations allow for 4096. */
	if (write_text("/proc/sys/kernel/pid_max", "32768"))
		die("pid_max");
	begin = now_ms();
	for (i = 0; i < many; i++) {
		if (loop_ctl(LOOP_CTL_ADD, FIRST_OF_MANY + i) < 0)
			die("LOOP_CTL_ADD %ld", i);
		snprintf(path, sizeof(path), "/dev/loop%ld", FIRST_OF_MANY + i);
		fd[i] = open(path, O_RDONLY | O_CLOEXEC);
		if (fd[i] < 0 || loop_configure(fd[i], image, LO_FLAGS_READ_ONLY))
			die("attach %s", path);
		if (numbers) {
			if (diskseq_ioctl(fd[i], &seq[i]))
				die("BLKGETDISKSEQ");
			ascending = ascending && seq[i] > last;
			last = seq[i];
		}
		if (i == many / 8)
			ms[0] = now_ms() - begin;
		if (i == many - many / 8)
			ms[1] = now_ms() - begin;
	}
	ms[2] = now_ms() - begin;
	used = kernel_memory();
	for (i = 0; i < many; i++) {
		if (numbers && (diskseq_ioctl(fd[i], &again) || again != seq[i]))
			kept = false;
		if (ioctl(fd[i], LOOP_CLR_FD, 0))
			gone = false;
		close(fd[i]);
		if (loop_remove(FIRST_OF_MANY + i))
			gone = false;
	}
	after = kernel_memory();
	printf("# soak many=%ld kb_each=%.1f left_kb=%ld first_ms=%lld last_ms=%lld\n", many,
	       (double)(used - before) / many, after - before, ms[0], ms[2] - ms[1]);
	if (numbers)
		result(ascending && kept, "many at once: each has a number of its own");
	else
		printf("ok %d numbers # SKIP this kernel has none\n", ++tests);
	result(gone, "many at once: all can be detached and removed");
}

int main(void)
{
	int fd;
	long i;

	setlinebuf(stdout);
	cycles = option("CYCLES", 20000);
	loops = option("LOOPS", 64);
	processes = option("PROCESSES", 4);
	many = option("MANY", 4096);
	if (processes > loops)
		processes = loops;
	printf("TAP version 13\n# soak cycles=%ld loops=%ld processes=%ld many=%ld\n",
	       cycles, loops, processes, many);
	counts = mmap(NULL, sizeof(*counts), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	image = backing_file(1 << 20, true);
	if (counts == MAP_FAILED || image < 0)
		die("memory");
	for (i = 0; i < loops; i++)
		loop_ctl(LOOP_CTL_ADD, i);
	fd = open("/dev/loop0", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		die("loop0");
	numbers = has_diskseq("loop0", fd);
	close(fd);

	soak();
	many_at_once();
	printf("1..%d\n", tests);
	return 0;
}
