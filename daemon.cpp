// daemon.cpp - the steps by which a process becomes a daemon, in their order.
//
// This is Stevens' double fork with one addition: the launcher waits on a pipe
// until the daemon is up. So its exit status is reliable, start-up errors reach
// the terminal, and the daemon has left it before the terminal closes. A
// daemon that dies closes the pipe, so the launcher never waits in vain.

#include "daemon.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>

bool open_pipe(Descriptor &read_end, Descriptor &write_end) {
  int ends[2];
  if (pipe(ends) == -1)
    return false;
  read_end.reset(ends[0]);
  write_end.reset(ends[1]);
  return fcntl(ends[0], F_SETFD, FD_CLOEXEC) != -1 &&
         fcntl(ends[1], F_SETFD, FD_CLOEXEC) != -1;
}

bool reset_process(Inherited descriptors) {
  // Descriptors above a limit that was lowered later are open too. To close
  // 2^20 of them takes 0.14 s.
  const long end = std::clamp(sysconf(_SC_OPEN_MAX), 1L << 16, 1L << 20);
  for (int fd = STDERR_FILENO + 1; fd < end; ++fd)
    if (descriptors == Inherited::close)
      (void)close(fd); // most are not open
    else
      (void)fcntl(fd, F_SETFD, FD_CLOEXEC);

  struct sigaction action = {};
  action.sa_handler = SIG_DFL;
  for (int number = 1; number <= 128; ++number) // no system has more
    (void)sigaction(number, &action, nullptr);  // fails for SIGKILL, say
  sigset_t none;
  sigemptyset(&none);
  (void)sigprocmask(SIG_SETMASK, &none, nullptr); // cannot fail

  // open() takes the lowest free number, so this fills the holes below 3. A log
  // that got descriptor 2 would receive the messages.
  int fd;
  while ((fd = open("/dev/null", O_RDWR)) <= STDERR_FILENO)
    if (fd == -1)
      return false;
  const Descriptor null(fd);
  return dup2(null.get(), STDIN_FILENO) != -1;
}

bool detach(Descriptor &launcher, const char *duty) {
  Descriptor from_daemon;
  if (!open_pipe(from_daemon, launcher))
    return false;
  // setsid() fails in a process group leader, which the launcher may be and its
  // child is not. The launcher waits for the daemon's PID. No signal has a
  // handler, so none interrupts its calls.
  pid_t child = fork();
  if (child == -1)
    return false;
  if (child > 0) {
    launcher.reset();
    pid_t daemon;
    const ssize_t size = read(from_daemon.get(), &daemon, sizeof daemon);
    // The child has exited. Process 1 of a container may not reap it.
    (void)waitpid(child, nullptr, 0);
    if (size != sizeof daemon)
      exit(EXIT_FAILURE);
    (void)signal(SIGPIPE, SIG_IGN); // the daemon is up, whoever reads this
    (void)dprintf(STDOUT_FILENO, "Daemon PID %ld %s\n", long{daemon}, duty);
    exit(EXIT_SUCCESS);
  }
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

bool ready(Descriptor &launcher) {
  // Errors went to the caller's terminal or pipe until now. Close it: a $(...)
  // or an ssh waits until nobody has its pipe open.
  for (int fd : {STDOUT_FILENO, STDERR_FILENO})
    if (dup2(STDIN_FILENO, fd) == -1)
      return false;
  const pid_t self = getpid();
  const ssize_t size = write(launcher.get(), &self, sizeof self);
  const bool told = size == sizeof self || errno == EPIPE;
  launcher.reset();
  return told;
}
