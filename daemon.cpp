// daemon.cpp - the steps by which a process becomes a daemon, in their order.
// This is Stevens' double fork with one addition: the launcher waits on a pipe
// until the daemon is up. So its exit status is reliable, start-up errors reach
// the terminal, and the daemon has left the terminal before it closes. A
// daemon that dies closes the pipe, so the launcher never waits in vain.

#include "daemon.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static int launcher = -1; // in the daemon: the pipe on which it waits

void replace(int &descriptor, int by) {
  if (descriptor != -1)
    (void)close(descriptor); // whatever it returns, the descriptor is gone
  descriptor = by;
}

bool open_pipe(int (&ends)[2]) {
  return pipe(ends) != -1 && fcntl(ends[0], F_SETFD, FD_CLOEXEC) != -1 &&
         fcntl(ends[1], F_SETFD, FD_CLOEXEC) != -1;
}

bool reset_process(bool closes) {
  // Descriptors above a limit that was lowered later stay open. poll() tells
  // which of 256 are not, or fails if the limit is lower: then any may be open.
  const int end = std::clamp(sysconf(_SC_OPEN_MAX), 1L << 16, 1L << 20);
  for (int fd = STDERR_FILENO + 1; fd < end;) {
    pollfd block[256];
    for (pollfd &each : block)
      each = {fd++, 0, 0};
    (void)poll(block, 256, 0);
    for (const pollfd &each : block)
      if ((each.revents & POLLNVAL) == 0)
        (void)(closes ? close(each.fd) : fcntl(each.fd, F_SETFD, FD_CLOEXEC));
  }
  for (int number = 1; number <= 128; ++number) // no system has more
    (void)signal(number, SIG_DFL);              // fails for SIGKILL, say
  sigset_t none;
  sigemptyset(&none);
  (void)sigprocmask(SIG_SETMASK, &none, nullptr); // cannot fail
  // open() takes the lowest free number, so this fills the holes below 3. A log
  // that got descriptor 2 would receive the messages.
  int fd;
  while ((fd = open("/dev/null", O_RDWR)) <= STDERR_FILENO)
    if (fd == -1)
      return false;
  return dup2(fd, STDIN_FILENO) != -1 && close(fd) == 0;
}

bool detach(const char *duty) {
  int ends[2];
  if (!open_pipe(ends))
    return false;
  // setsid() fails in a process group leader, which the launcher may be and its
  // child is not. No signal has a handler, so none interrupts the launcher.
  pid_t child = fork();
  if (child == -1)
    return false;
  if (child > 0) {
    (void)close(ends[1]);
    pid_t daemon;
    const ssize_t size = read(ends[0], &daemon, sizeof daemon);
    // The child has exited. Process 1 of a container may not reap it.
    (void)waitpid(child, nullptr, 0);
    if (size != sizeof daemon)
      exit(EXIT_FAILURE);
    (void)signal(SIGPIPE, SIG_IGN); // the daemon is up, read or not
    (void)dprintf(STDOUT_FILENO, "Daemon PID %ld %s\n", long{daemon}, duty);
    exit(EXIT_SUCCESS);
  }
  (void)close(ends[0]);
  launcher = ends[1];
  // The caller's directory may be on a disk that is to be unmounted.
  if (chdir("/") == -1)
    return false;
  // A new session has no controlling terminal, so no hangup and no ^C.
  if (setsid() == -1)
    return false;
  // The modes that open() asks for are the modes it gets.
  (void)umask(0);

  // A session leader that opens a terminal acquires it. The second child is not
  // a session leader, so it never acquires one by accident.
  child = fork();
  if (child > 0)
    _exit(0);
  return child == 0;
}

bool ready() {
  // Errors went to the caller's terminal or pipe until now. Close it: a $(...)
  // or an ssh waits until nobody has its pipe open.
  for (int fd : {STDOUT_FILENO, STDERR_FILENO})
    if (dup2(STDIN_FILENO, fd) == -1)
      return false;
  const pid_t self = getpid();
  const ssize_t size = write(launcher, &self, sizeof self);
  const bool told = size == sizeof self || errno == EPIPE;
  replace(launcher);
  return told;
}
