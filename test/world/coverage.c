// coverage.c - linked into a program whose coverage is measured: keeps clang's
// counters in MEMORY, a segment of shared memory. So nothing is lost when a
// process ends by exec, by _exit() or by a signal.
//
// The segment begins with the number of its parts in use. Each process counts
// in a part of its own, and a forked child begins with a copy of its parent's
// counters: clang counts one side of a condition and subtracts it from the
// entries to get the other. If parent and child shared counters, the branch
// after fork() would have one entry for two sides, and one side would get 0.
//
// If the environment has SUM, the program adds up all parts, writes the sum as
// a profile to the file that SUM names, and exits.

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/shm.h>
#include <unistd.h>

// In a program that defines this, clang's runtime writes no profile by itself.
int __llvm_profile_runtime;
uint64_t *__llvm_profile_begin_counters(void);
uint64_t *__llvm_profile_end_counters(void);
void __llvm_profile_set_filename(const char *name);
int __llvm_profile_write_file(void);
// The instrumented code adds this offset to the address of a counter.
extern intptr_t __llvm_profile_counter_bias;

static size_t count;          // of the counters
static uint64_t *used;        // the number of parts in use
static uint64_t *own;         // this process's part
static uint64_t before[8192]; // a copy of it, made before fork()

static uint64_t *part(uint64_t number) { return used + 1 + number * count; }

static void continue_in_new_part(const uint64_t *counters) {
  own = part(__atomic_fetch_add(used, 1, __ATOMIC_RELAXED));
  memcpy(own, counters, count * sizeof *own);
  __llvm_profile_counter_bias =
      (char *)own - (char *)__llvm_profile_begin_counters();
}

static void before_fork(void) { memcpy(before, own, count * sizeof *own); }
static void in_child(void) { continue_in_new_part(before); }

__attribute__((constructor)) static void set_up(void) {
  uint64_t *const begin = __llvm_profile_begin_counters();
  count = (size_t)(__llvm_profile_end_counters() - begin);
  used = shmat(MEMORY, NULL, 0);
  if (used == (void *)-1 || count > sizeof before / sizeof *before)
    abort();
  const char *const profile = getenv("SUM");
  if (profile == NULL) {
    continue_in_new_part(begin);
    (void)pthread_atfork(before_fork, NULL, in_child);
    return;
  }
  for (uint64_t number = 0; number < *used; ++number)
    for (size_t i = 0; i < count; ++i)
      begin[i] += part(number)[i];
  __llvm_profile_set_filename(profile);
  _exit(__llvm_profile_write_file());
}
