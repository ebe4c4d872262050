// coverage.c - linked into a program whose coverage is measured: keeps clang's
// counters in one file for each process, in the directory COUNTERS. So nothing
// is lost when a process ends by exec, by _exit() or by a signal.
//
// A forked child continues in a new file, with a copy of its parent's counters.
// clang counts one side of a condition and subtracts it from the entries to get
// the other. If parent and child shared counters, the branch after fork() would
// have one entry for two sides, and one side would get 0.
//
// If the environment has SUM, the program adds up all these files, writes the
// sum as a profile to the file that SUM names, and exits.

#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

// In a program that defines this, clang's runtime writes no profile by itself.
int __llvm_profile_runtime;
uint64_t *__llvm_profile_begin_counters(void);
uint64_t *__llvm_profile_end_counters(void);
void __llvm_profile_set_filename(const char *name);
int __llvm_profile_write_file(void);
// The instrumented code adds this offset to the address of a counter.
extern intptr_t __llvm_profile_counter_bias;

static size_t size;                    // of the counters, in bytes
static uint64_t *mapped;               // the counters, or NULL before set_up()
static uint64_t before_the_fork[8192]; // a copy of the counters

// Makes a new file with these counters; returns -1 if it cannot.
static int make_file(const uint64_t *counters) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now); // the PID alone may be used again
  char name[1000];
  snprintf(name, sizeof name, COUNTERS "/%d.%ld.%09ld", getpid(), now.tv_sec,
           now.tv_nsec);
  const int file = open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (file != -1 && write(file, counters, size) != (ssize_t)size) {
    close(file);
    return -1;
  }
  return file;
}

// Continues in a new file. If it cannot be made, the counts of this process are
// lost, but those of its parent are not changed.
static void continue_in_new_file(const uint64_t *counters) {
  const int file = make_file(counters);
  const int kind = file == -1 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
  const int place = mapped == NULL ? 0 : MAP_FIXED;
  void *const memory =
      mmap(mapped, size, PROT_READ | PROT_WRITE, kind | place, file, 0);
  if (file != -1)
    close(file); // so that the program under test finds all descriptors free
  if (memory == MAP_FAILED)
    return;
  mapped = memory;
  __llvm_profile_counter_bias =
      (char *)mapped - (char *)__llvm_profile_begin_counters();
}

// Does the same when a test has set low limits: lifts them meanwhile, if the
// user may.
static void continue_despite_limits(const uint64_t *counters) {
  static const struct {
    int limit;
    rlim_t need;
  } needs[] = {
      {RLIMIT_NOFILE, 256},
      {RLIMIT_FSIZE, 1 << 20},
      {RLIMIT_AS, 1 << 30},
      {RLIMIT_DATA, 1 << 30},
  };
  enum { count = sizeof needs / sizeof *needs };
  struct rlimit before[count];
  int is_lifted[count];
  for (int i = 0; i < count; ++i) {
    is_lifted[i] = getrlimit(needs[i].limit, &before[i]) == 0 &&
                   before[i].rlim_cur < needs[i].need;
    if (!is_lifted[i])
      continue;
    struct rlimit lifted = {needs[i].need, before[i].rlim_max};
    if (lifted.rlim_max < needs[i].need)
      lifted.rlim_max = needs[i].need;
    setrlimit(needs[i].limit, &lifted);
  }
  continue_in_new_file(counters);
  for (int i = 0; i < count; ++i)
    if (is_lifted[i])
      setrlimit(needs[i].limit, &before[i]);
}

static void before_fork(void) {
  if (mapped != NULL)
    memcpy(before_the_fork, mapped, size);
}

static void in_child(void) {
  if (mapped != NULL)
    continue_despite_limits(before_the_fork);
}

static void write_sum(const char *profile) {
  uint64_t *const sum = __llvm_profile_begin_counters();
  uint64_t counters[size / sizeof *sum];
  DIR *const directory = opendir(COUNTERS);
  memset(sum, 0, size);
  for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
    const int file = openat(dirfd(directory), entry->d_name, O_RDONLY);
    if (read(file, counters, size) == (ssize_t)size)
      for (size_t i = 0; i < size / sizeof *sum; ++i)
        sum[i] += counters[i];
    close(file);
  }
  __llvm_profile_set_filename(profile);
  _exit(__llvm_profile_write_file());
}

__attribute__((constructor)) static void set_up(void) {
  uint64_t *const begin = __llvm_profile_begin_counters();
  size = (char *)__llvm_profile_end_counters() - (char *)begin;
  if (size > sizeof before_the_fork)
    abort();
  const char *const profile = getenv("SUM");
  if (profile != NULL)
    write_sum(profile);
  continue_despite_limits(begin);
  pthread_atfork(before_fork, NULL, in_child);
}
