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
#include <poll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <utility>

namespace {

bool set_close_on_exec(int fd) {
  return fcntl(fd, F_SETFD, FD_CLOEXEC) != -1;
}

// What the launcher does: waits for the daemon's word, or for its end.
pid_t await_daemon(int from_daemon, pid_t child) {
  pid_t daemon = -1;
  ssize_t size;
  do { // whatever interrupts it, the end of the file will come
    size = read(from_daemon, &daemon, sizeof daemon);
  } while (size == -1);
  // The child ends as soon as it has forked; it is not left a zombie.
  while (waitpid(child, nullptr, 0) == -1 && errno == EINTR) {
  }
  errno = 0;
  return size == sizeof daemon ? daemon : -1;
}

} // namespace

void close_inherited_descriptors() {
  constexpr int lowest = STDERR_FILENO + 1;
#if defined(SYS_close_range) && defined(_GNU_SOURCE) // for syscall()
  if (syscall(SYS_close_range, long{lowest}, ~0UL, 0L) == 0)
    return;
#endif
  // poll() says POLLNVAL of a closed descriptor, for many in one call: twenty
  // times faster than a close() for each number, and it needs no /proc.
  const long limit = sysconf(_SC_OPEN_MAX); // -1: none
  const int end = static_cast<int>(std::clamp(limit, 1L << 16, 1L << 20));
  pollfd chunk[256];
  // poll() takes no more entries than the limit.
  const int most =
      limit == -1 ? 256 : static_cast<int>(std::clamp(limit, 1L, 256L));
  for (int first = lowest; first < end; first += most) {
    for (int i = 0; i < most; ++i)
      chunk[i] = {first + i, 0, 0};
    (void)poll(chunk, most, 0); // where it fails, all are closed
    for (int i = 0; i < most; ++i)
      if ((chunk[i].revents & POLLNVAL) == 0)
        (void)close(chunk[i].fd);
  }
}

Descriptor open_standard_descriptors() {
  // open() takes the lowest number that is free, so this fills the holes. They
  // are filled before any file of ours is opened: a log on descriptor 2 would
  // get the error messages.
  for (;;) {
    const int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (fd == -1 || fd > STDERR_FILENO)
      return Descriptor(fd);
  }
}

void reset_signals() {
  struct sigaction action = {};
  action.sa_handler = SIG_DFL;
  for (int number = 1; number <= 128; ++number) // no system has more
    (void)sigaction(number, &action, nullptr);  // SIGKILL, say, refuses
  sigset_t none;
  sigemptyset(&none);
  (void)sigprocmask(SIG_SETMASK, &none, nullptr); // cannot fail
}

pid_t detach(Descriptor &launcher) {
  int ends[2];
  if (pipe(ends) == -1)
    return -1;
  Descriptor from_daemon(ends[0]);
  Descriptor to_launcher(ends[1]);
  if (!set_close_on_exec(ends[0]) || !set_close_on_exec(ends[1]))
    return -1;

  // The launcher stays behind, so that the child is no process group leader,
  // which setsid() requires, and to wait for word from the daemon.
  pid_t child = fork();
  if (child == -1)
    return -1;
  if (child > 0) {
    to_launcher.reset();
    return await_daemon(from_daemon.get(), child);
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
  launcher = std::move(to_launcher);
  return 0;
}

bool ready(Descriptor launcher, const Descriptor &null) {
  // Until here errors went to the terminal. Now nothing holds it any more, nor
  // the pipe of a $(...) or an ssh that waits for its end.
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; ++fd)
    if (dup2(null.get(), fd) == -1)
      return false;
  const pid_t self = getpid();
  while (write(launcher.get(), &self, sizeof self) == -1 && errno != EPIPE) {
  }
  return true;
}
