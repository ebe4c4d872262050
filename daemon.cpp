// daemon.cpp - the steps by which a process becomes a daemon, in their order.
//
// It is Stevens' double fork, with one addition: the launcher waits on a pipe
// until the daemon is up. So its exit status tells whether it is, start-up
// errors reach the terminal, and by the time the terminal may close, the daemon
// has left it. The pipe cannot be forgotten: a daemon that ends closes it.

#include "daemon.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

bool open_pipe(Descriptor &output, Descriptor &input) {
  int ends[2];
  if (pipe(ends) == -1)
    return false;
  output.reset(ends[0]);
  input.reset(ends[1]);
  return fcntl(ends[0], F_SETFD, FD_CLOEXEC) != -1 &&
         fcntl(ends[1], F_SETFD, FD_CLOEXEC) != -1;
}

Descriptor reset_process() {
  constexpr int lowest = STDERR_FILENO + 1;
  // Those that are open need not be below the limit; 2^20 take 0.14 s.
  long end = std::clamp(sysconf(_SC_OPEN_MAX), 1L << 16, 1L << 20);
#if defined(SYS_close_range) && defined(_GNU_SOURCE) // for syscall()
  if (syscall(SYS_close_range, long{lowest}, ~0UL, 0L) == 0)
    end = lowest;
#endif
  for (int fd = lowest; fd < end; ++fd)
    (void)close(fd); // most are not open

  struct sigaction action = {};
  action.sa_handler = SIG_DFL;
  for (int number = 1; number <= 128; ++number) // no system has more
    (void)sigaction(number, &action, nullptr);  // SIGKILL, say, refuses
  sigset_t none;
  sigemptyset(&none);
  (void)sigprocmask(SIG_SETMASK, &none, nullptr); // cannot fail

  // open() takes the lowest number that is free, so this fills the holes,
  // before a file of ours is opened: a log on descriptor 2 would get the
  // messages.
  for (;;) {
    const int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (fd == -1 || fd > STDERR_FILENO)
      return Descriptor(fd);
  }
}

pid_t detach(Descriptor &launcher) {
  Descriptor from_daemon;
  Descriptor to_launcher;
  if (!open_pipe(from_daemon, to_launcher))
    return -1;

  // The launcher stays behind, so that the child is no process group leader,
  // which setsid() requires, and to wait for word from the daemon.
  pid_t child = fork();
  if (child == -1)
    return -1;
  if (child > 0) {
    to_launcher.reset();
    pid_t daemon;
    ssize_t size;
    // Whatever interrupts it, the end of the file will come.
    while ((size = read(from_daemon.get(), &daemon, sizeof daemon)) == -1) {
    }
    // The child ends as soon as it has forked; it is not left a zombie.
    while (waitpid(child, nullptr, 0) == -1 && errno == EINTR) {
    }
    errno = 0;
    return size == sizeof daemon ? daemon : -1;
  }
  from_daemon.reset();

  // The caller's directory may be on a disk that is to be unmounted.
  if (chdir("/") == -1)
    return -1;
  // A new session has no controlling terminal: no hangup, no ^C comes from it.
  if (setsid() == -1)
    return -1;
  // The modes that open() asks for are the modes it gets.
  (void)umask(0);

  // A session leader that opens a terminal acquires it. The second child is not
  // one, and can never become one by accident.
  child = fork();
  if (child == -1)
    return -1;
  if (child > 0)
    _exit(0);
  launcher.take(to_launcher);
  return 0;
}

bool ready(Descriptor &launcher, const Descriptor &null) {
  // Until here errors went to the terminal. Now nothing holds it any more, nor
  // the pipe of a $(...) or an ssh that waits for its end.
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; ++fd)
    if (dup2(null.get(), fd) == -1)
      return false;
  const pid_t self = getpid();
  while (write(launcher.get(), &self, sizeof self) == -1 && errno != EPIPE) {
  }
  launcher.reset();
  return true;
}
