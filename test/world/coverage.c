// coverage.c - linked into the counting program: a forked child goes on in a
// copy of its own of the counters, which are in a mapped file. Of the two sides
// of a fork() one is counted as the entries less the other, which would be none
// if parent and child counted together.
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

// Of clang's run time. The counters are in use at their address + bias.
extern intptr_t __llvm_profile_counter_bias;
char *__llvm_profile_begin_counters(void), *__llvm_profile_end_counters(void);
void __llvm_profile_initialize_file(void);

static char counters[1 << 16], name[500], *begin;
static size_t size;

static void before_fork(void) {
  begin = __llvm_profile_begin_counters();
  size = __llvm_profile_end_counters() - begin;
  memcpy(counters, begin + __llvm_profile_counter_bias, size);
}

static char *page_of(char *at) { return at - (uintptr_t)at % 4096; }

// The new file is moved to where the old one was: functions that are being
// executed hold its address.
static void in_child(void) {
  const intptr_t bias = __llvm_profile_counter_bias;
  (void)snprintf(name, sizeof name, "LLVM_PROFILE_FILE=%s/%d.profraw", PROFILES,
                 getpid());
  putenv(name);
  const int file = open("/", O_RDONLY); // the number that it will take
  close(file);
  __llvm_profile_initialize_file();
  close(file);
  unsetenv("LLVM_PROFILE_FILE");
  char *own = begin + __llvm_profile_counter_bias;
  memcpy(own, counters, size);
  const size_t length = own + size - page_of(own);
  mremap(page_of(own), length, length, MREMAP_MAYMOVE | MREMAP_FIXED,
         page_of(begin + bias));
  __llvm_profile_counter_bias = bias;
}

__attribute__((constructor)) static void set_up(void) {
  pthread_atfork(before_fork, NULL, in_child);
}
