// SPDX-License-Identifier: GPL-2.0
/*
 * Bad input: processes with and without privileges call the ioctls of loop devices,
 * of partitions and BLKGETDISKSEQ with random descriptors, pointers, flags and
 * sizes, on a few devices that all of them share. The kernel must neither oops nor
 * hang, and afterwards the devices must be as usable, and their numbers as right,
 * as they were.
 *
 * What a process calls depends on SEED and on its own place only, not on what the
 * calls return: the same seed makes the same calls (compare the sum that is printed),
 * though the scheduler makes their order among the processes.
 *
 * In the environment: SEED=n, OPERATIONS=n (of all processes), PROCESSES=n. Prints
 * TAP; the figures are in a line that begins with "# fuzz".
 */
#define _GNU_SOURCE
#include "diskseq.h"
#include "program.h"

#include <grp.h>
#include <linux/blkpg.h>
#include <linux/major.h>
#include <signal.h>
#include <stdint.h>
#include <sys/sysmacros.h>

#define LOOPS		8
#define FILES		4	/* slots that hold the files, always */
#define SLOTS		20
#define NOBODY		65534
#define HANG_MS		120000

struct worker {
	uint64_t	state;		/* of the generator */
	uint64_t	sum;		/* of what it generated */
	uint64_t	done;
	uint64_t	succeeded;
	uint32_t	request;	/* the one that it is in */
	int		slot[SLOTS];
};

struct shared_state {
	bool		over;
	uint64_t	events;
	uint64_t	without_number;
	uint64_t	lost;
	uint64_t	reads;
	uint64_t	decreased;
	struct worker	worker[];
};

static struct shared_state *state;
static long operations, processes;
static unsigned long seed;
static bool numbers;		/* this kernel has them */
static int files[FILES];
static char *pages;		/* one to write, one to read, and one that is not there */
static size_t page;
static int tests;

static void result(bool good, const char *what)
{
	printf("%sok %d %s\n", good ? "" : "not ", ++tests, what);
}

/* splitmix64 */
static uint64_t next(struct worker *w)
{
	uint64_t z = w->state += 0x9e3779b97f4a7c15;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	z ^= z >> 31;
	w->sum = (w->sum ^ z) * 0x100000001b3;
	return z;
}

static uint64_t below(struct worker *w, uint64_t n)
{
	return next(w) % n;
}

/* Mostly what makes sense, or nothing would ever be attached. */
static uint64_t odd(struct worker *w, uint64_t sensible)
{
	uint64_t any = next(w);

	switch (below(w, 12)) {
	case 0: return any;
	case 1: return any % 4096;
	case 2: return any % 64 * 512;
	case 3: return -(any % 4096);
	default: return sensible;
	}
}

/* A place for SIZE bytes, of which there may be none, or a part */
static void *place(struct worker *w, size_t size)
{
	switch (below(w, 12)) {
	case 0: return NULL;
	case 1: return (void *)(uintptr_t)-4096;	/* the kernel's */
	case 2: return pages + page;			/* to be read only */
	case 3: return pages + 2 * page - size / 2;	/* ends in what is not there */
	case 4: return pages + 2 * page;
	case 5: return pages + 1 + below(w, 63);
	default: return pages + 64 * below(w, 8);
	}
}

/* The same, filled */
static void *placed(struct worker *w, const void *data, size_t size)
{
	char *to = place(w, size);

	if (to >= pages && to + size <= pages + page)
		memcpy(to, data, size);
	return to;
}

static int any_fd(struct worker *w)
{
	return odd(w, w->slot[below(w, SLOTS)]);
}

/*
 * To attach: a file, or what any_fd() returns. Not a partition: loop_validate_file()
 * knows a loop device by its major number, which its partitions don't have, and so
 * lets a device be attached to a part of itself. Reading that never ends; it is so
 * without the series, and not what is looked for here.
 */
static int any_backing(struct worker *w)
{
	int fd = below(w, 8) ? w->slot[below(w, FILES)] : any_fd(w);
	struct stat st;

	if (!fstat(fd, &st) && S_ISBLK(st.st_mode) && major(st.st_rdev) != LOOP_MAJOR)
		return -1;
	return fd;
}

/*
 * 512 to 4096 are good. No more than 16 bits, as loop_validate_block_size() looks
 * at no more, and the queue then gets all of them: without the series as with it,
 * reading under such a block size is an oops.
 */
static unsigned int block_size(struct worker *w)
{
	return odd(w, below(w, 2) ? 0 : 512 << below(w, 5)) & 0xffff;
}

static void open_something(struct worker *w)
{
	static const int flags[] = {
		O_RDONLY, O_RDONLY, O_RDWR, O_RDWR, O_WRONLY, O_RDWR | O_EXCL,
		O_RDONLY | O_DIRECT,
	};
	int flag = flags[below(w, sizeof(flags) / sizeof(*flags))];
	int *slot = &w->slot[FILES + below(w, SLOTS - FILES)];
	uint64_t loop = below(w, LOOPS), part = below(w, 4), kind = below(w, 16);
	char path[64];

	if (*slot >= 0)
		close(*slot);
	switch (kind) {
	case 0: *slot = open("/dev/loop-control", flag | O_CLOEXEC); return;
	case 1: *slot = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0); return;
	case 2: *slot = open("/dev/null", flag | O_CLOEXEC); return;
	}
	if (kind < 6)
		snprintf(path, sizeof(path), "/dev/loop%dp%d", (int)loop, (int)part);
	else
		snprintf(path, sizeof(path), "/dev/loop%d", (int)loop);
	*slot = open(path, flag | O_NONBLOCK | O_CLOEXEC);
}

static void make_info(struct worker *w, struct loop_info64 *info)
{
	memset(info, 0, sizeof(*info));
	info->lo_offset = odd(w, below(w, 4) * 512);
	info->lo_sizelimit = odd(w, 0);
	info->lo_flags = odd(w, below(w, 64));
	info->lo_encrypt_type = odd(w, 0);
	info->lo_encrypt_key_size = odd(w, 0);
}

static int partition(struct worker *w, int fd)
{
	struct blkpg_partition part = {
		.start = odd(w, below(w, 64) * 512),
		.length = odd(w, below(w, 64) * 512),
		.pno = odd(w, below(w, 8)),
	};
	struct blkpg_ioctl_arg arg = {
		.op = odd(w, 1 + below(w, 3)),
		.flags = odd(w, 0),
		.datalen = odd(w, sizeof(part)),
	};
	void *p;

	arg.data = place(w, sizeof(part));
	if ((char *)arg.data >= pages && (char *)arg.data < pages + 1024)
		memcpy(arg.data, &part, sizeof(part));
	/* below(8) places are 64 bytes apart: not over the part */
	p = below(w, 8) ? (void *)&arg : place(w, sizeof(arg));
	return ioctl(fd, BLKPG, p);
}

static int control(struct worker *w, int fd)
{
	static const unsigned int request[] = { LOOP_CTL_ADD, LOOP_CTL_REMOVE, LOOP_CTL_GET_FREE };
	unsigned int which = below(w, 3);
	long nr = below(w, LOOPS);

	/* Numbers without end would be devices without end. */
	if (which == 0 && !below(w, 16))
		nr = -1 - (long)below(w, 1 << 20);
	return ioctl(fd, request[which], nr);
}

/* One call. The request is kept there, to be found if the call hangs. */
static int call(struct worker *w)
{
	static const unsigned int plain[] = {
		LOOP_CLR_FD, LOOP_SET_CAPACITY, LOOP_SET_DIRECT_IO, LOOP_SET_BLOCK_SIZE,
		BLKRRPART, BLKFLSBUF, BLKGETSIZE64, BLKROSET, BLKRASET,
	};
	struct loop_config config = { 0 };
	struct loop_info old = { 0 };
	struct loop_info64 info;
	uint64_t kind = below(w, 20);
	int fd = any_fd(w);
	ssize_t len;

	w->request = kind;
	switch (kind) {
	case 0 ... 3:
		open_something(w);
		return -1;
	case 4 ... 6:
		config.fd = any_backing(w);
		config.block_size = block_size(w);
		make_info(w, &config.info);
		if (!below(w, 32))
			config.__reserved[below(w, 8)] = next(w);
		return ioctl(fd, LOOP_CONFIGURE, placed(w, &config, sizeof(config)));
	case 7:
		return ioctl(fd, below(w, 2) ? LOOP_SET_FD : LOOP_CHANGE_FD, any_backing(w));
	case 8:
		make_info(w, &info);
		return ioctl(fd, LOOP_SET_STATUS64, placed(w, &info, sizeof(info)));
	case 9:
		old.lo_offset = odd(w, 0);
		old.lo_flags = odd(w, below(w, 64));
		return ioctl(fd, LOOP_SET_STATUS, placed(w, &old, sizeof(old)));
	case 10:
		return ioctl(fd, LOOP_GET_STATUS64, place(w, sizeof(info)));
	case 11:
		return ioctl(fd, LOOP_GET_STATUS, place(w, sizeof(old)));
	case 12:
		return control(w, fd);
	case 13:
		return partition(w, fd);
	case 14:
		return ioctl(fd, BLKGETDISKSEQ, place(w, 8));
	case 15:
		/* never the result of a read of what another process sends */
		len = pread(fd, pages, 512, odd(w, 0) & 0xfffff);
		return len < 0 ? -1 : 0;
	case 16:
		/* what there is and isn't, but LOOP_SET_BLOCK_SIZE: block_size() */
		return ioctl(fd, (below(w, 2) ? 0x4c10 : 0x1250) + below(w, 0x80), place(w, 64));
	default:
		return ioctl(fd, plain[below(w, sizeof(plain) / sizeof(*plain))], block_size(w));
	}
}

static void __attribute__((noreturn)) work(struct worker *w, long n)
{
	int i;

	for (i = 0; i < SLOTS; i++)
		w->slot[i] = i < FILES ? files[i] : -1;
	for (i = 0; i < LOOPS; i++) {
		char path[32];

		snprintf(path, sizeof(path), "/dev/loop%d", i);
		w->slot[FILES + i] = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	}
	w->slot[FILES + LOOPS] = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	/* every other process is unprivileged, but has the files open that root opened */
	if ((w - state->worker) % 2 &&
	    (setgroups(0, NULL) || setgid(NOBODY) || setuid(NOBODY)))
		_exit(2);
	while (n--) {
		if (!call(w))
			w->succeeded++;
		__atomic_add_fetch(&w->done, 1, __ATOMIC_RELAXED);
	}
	_exit(0);
}

/* Every event of a loop device carries a number. */
static void __attribute__((noreturn)) listen_to(int nl)
{
	struct uevent ev;
	int ret;

	while (!__atomic_load_n(&state->over, __ATOMIC_RELAXED)) {
		ret = uevent_read(nl, &ev, 200);
		if (ret < 0)
			state->lost++;
		if (ret <= 0 || strncmp(ev.disk, "loop", 4))
			continue;
		state->events++;
		state->without_number += !ev.diskseq;
	}
	_exit(0);
}

/* The number of an open disk stays the same or increases. */
static void __attribute__((noreturn)) watch(void)
{
	int fd = open("/dev/loop0", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	__u64 seq, last = 0;

	while (!__atomic_load_n(&state->over, __ATOMIC_RELAXED)) {
		if (diskseq_ioctl(fd, &seq) || seq < last)
			state->decreased++;
		last = seq;
		state->reads++;
	}
	_exit(0);
}

static uint64_t done(void)
{
	uint64_t sum = 0;
	long i;

	for (i = 0; i < processes; i++)
		sum += __atomic_load_n(&state->worker[i].done, __ATOMIC_RELAXED);
	return sum;
}

/* False if nothing was done for long, or a worker came to a bad end. */
static bool wait_for_workers(const pid_t *pid)
{
	long long moved = now_ms();
	uint64_t before = 0, at;
	bool good = true;
	long i, left = processes;
	int status;

	while (left) {
		for (i = 0; i < processes; i++) {
			if (waitpid(pid[i], &status, WNOHANG) != pid[i])
				continue;
			left--;
			if (status) {
				printf("# process %ld ended with status %x\n", i, status);
				good = false;
			}
		}
		at = done();
		if (at != before)
			moved = now_ms();
		before = at;
		if (now_ms() - moved > HANG_MS) {
			for (i = 0; i < processes; i++)
				printf("# process %ld hangs in call %u, after %llu\n", i,
				       state->worker[i].request,
				       (unsigned long long)state->worker[i].done);
			return false;
		}
		nap();
	}
	return good;
}

/* One may hold the file of another that is a loop device itself: from the top. */
static void detach_all(void)
{
	char name[16];
	int round, i, fd;

	for (round = 0; round < LOOPS; round++) {
		for (i = 0; i < LOOPS; i++) {
			snprintf(name, sizeof(name), "loop%d", i);
			fd = open_disk(name, O_RDWR);
			if (fd < 0)
				continue;
			ioctl(fd, LOOP_CLR_FD, 0);
			close(fd);
		}
	}
}

/*
 * It can be detached, and attached, and after that there are no partitions: BLKPG may
 * have added some while nothing was attached.
 */
static bool bring_back(int nr)
{
	char name[16], path[64];
	int fd, p;
	bool good;

	snprintf(name, sizeof(name), "loop%d", nr);
	loop_ctl(LOOP_CTL_ADD, nr);
	fd = open_disk(name, O_RDWR);
	if (fd < 0)
		return false;
	if (loop_is_bound(fd) && loop_detach(fd))
		printf("# %s cannot be detached\n", name);
	good = !loop_is_bound(fd) && !loop_configure(fd, files[0], LO_FLAGS_READ_ONLY) &&
	       !loop_detach(fd);
	close(fd);
	for (p = 1; p < 64; p++) {
		snprintf(path, sizeof(path), "/sys/block/%s/%sp%d", name, name, p);
		if (!access(path, F_OK)) {
			printf("# %sp%d is left\n", name, p);
			good = false;
		}
	}
	return good;
}

/* The number, if ioctl, sysfs and the last event agree on it; else 0 */
static __u64 agreed(int nl, const char *name, int fd, struct uevent_log *log)
{
	__u64 seq, sysfs, event = 0;
	size_t i;

	if (diskseq_ioctl(fd, &seq) || diskseq_sysfs(name, &sysfs) ||
	    uevent_fence(nl, name, log))
		return 0;
	for (i = 0; i < log->nr; i++)
		if (uevent_is_own(&log->ev[i], name) && !log->ev[i].partition)
			event = log->ev[i].diskseq;
	log->nr = 0;
	return seq == sysfs && seq == event ? seq : 0;
}

/* Attach, change and detach each assign a number and announce it; a failed call does neither. */
static bool numbers_are_right(int nl, int nr, __u64 *last)
{
	struct loop_config bad = { .fd = files[0], .block_size = 3 };
	struct uevent_log log = { 0 };
	__u64 before, seq[3], after;
	char name[16];
	bool good;
	int fd;

	snprintf(name, sizeof(name), "loop%d", nr);
	fd = open_disk(name, O_RDWR);
	if (fd < 0 || uevent_fence(nl, name, &log) || diskseq_ioctl(fd, &before))
		return false;
	log.nr = 0;
	good = ioctl(fd, LOOP_CONFIGURE, &bad) && !uevent_fence(nl, name, &log) && !log.nr &&
	       !diskseq_ioctl(fd, &after) && after == before;
	good = good && !loop_configure(fd, files[0], LO_FLAGS_READ_ONLY | LO_FLAGS_PARTSCAN);
	seq[0] = agreed(nl, name, fd, &log);
	good = good && !ioctl(fd, LOOP_CHANGE_FD, files[1]);
	seq[1] = agreed(nl, name, fd, &log);
	good = good && !loop_detach(fd);
	seq[2] = agreed(nl, name, fd, &log);
	good = good && before < seq[0] && seq[0] < seq[1] && seq[1] < seq[2] &&
	       *last < seq[0];
	if (!good)
		printf("# %s: %llu, then %llu %llu %llu\n", name, before, seq[0], seq[1], seq[2]);
	*last = seq[2];
	good = good && ioctl(fd, BLKGETDISKSEQ, NULL) && errno == EFAULT;
	close(fd);
	free(log.ev);
	return good;
}

int main(void)
{
	long long begin = now_ms();
	uint64_t sum = 0, succeeded = 0;
	pid_t *pid, listener = 0, watcher = 0;
	__u64 last = 0;
	bool good;
	int nl, i;

	setlinebuf(stdout);
	operations = option("OPERATIONS", 100000);
	processes = option("PROCESSES", 8);
	seed = option("SEED", 1);
	page = sysconf(_SC_PAGESIZE);
	printf("TAP version 13\n# fuzz seed=%lu operations=%ld processes=%ld\n",
	       seed, operations, processes);

	state = mmap(NULL, sizeof(*state) + processes * sizeof(struct worker),
		     PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pages = mmap(NULL, 3 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pid = calloc(processes, sizeof(*pid));
	if (state == MAP_FAILED || pages == MAP_FAILED || !pid ||
	    mprotect(pages + page, page, PROT_READ) || munmap(pages + 2 * page, page))
		die("memory");
	files[0] = backing_file(1 << 20, true);
	files[1] = backing_file(1 << 20, false);
	files[2] = backing_file(0, false);
	files[3] = backing_file(700, true);
	for (i = 0; i < LOOPS; i++)
		loop_ctl(LOOP_CTL_ADD, i);
	i = open("/dev/loop0", O_RDONLY | O_CLOEXEC);
	nl = uevent_open();
	if (i < 0 || nl < 0)
		die("loop0");
	numbers = has_diskseq("loop0", i);
	close(i);

	if (numbers) {
		listener = fork();
		if (!listener)
			listen_to(nl);
		watcher = fork();
		if (!watcher)
			watch();
	}
	for (i = 0; i < processes; i++) {
		state->worker[i].state = seed * 1000003 + i;
		pid[i] = fork();
		if (pid[i] < 0)
			die("fork");
		if (!pid[i])
			work(&state->worker[i],
			     operations / processes + (i < operations % processes));
	}
	good = wait_for_workers(pid);
	state->over = true;
	if (!good) {
		for (i = 0; i < processes; i++)
			kill(pid[i], SIGKILL);
		result(false, "every process comes to its end");
		printf("1..%d\n", tests);
		return 1;
	}
	if (numbers) {
		waitpid(listener, NULL, 0);
		waitpid(watcher, NULL, 0);
	}
	for (i = 0; i < processes; i++) {
		sum = (sum ^ state->worker[i].sum) * 0x100000001b3;
		succeeded += state->worker[i].succeeded;
	}
	printf("# fuzz seed=%lu calls=%016llx done=%llu succeeded=%llu events=%llu lost=%llu reads=%llu seconds=%.1f\n",
	       seed, (unsigned long long)sum, (unsigned long long)done(),
	       (unsigned long long)succeeded, (unsigned long long)state->events,
	       (unsigned long long)state->lost, (unsigned long long)state->reads,
	       (now_ms() - begin) / 1e3);

	result(true, "every process comes to its end");
	detach_all();
	for (i = 0, good = true; i < LOOPS; i++)
		good &= bring_back(i);
	result(good, "every device can be detached, and no partition is left");
	if (numbers) {
		result(state->events && !state->without_number, "every event carries a number");
		result(state->reads && !state->decreased,
		       "the number of an open disk never decreases");
		close(nl);
		nl = uevent_open();
		for (i = 0, good = nl >= 0; i < LOOPS && good; i++)
			good = numbers_are_right(nl, i, &last);
		result(good, "attach, change and detach assign and announce a number, a failed call does not");
	} else {
		for (i = 0; i < 3; i++)
			printf("ok %d numbers # SKIP this kernel has none\n", ++tests);
	}
	printf("1..%d\n", tests);
	return 0;
}
