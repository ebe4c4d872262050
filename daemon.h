// daemon.h - become a daemon the way daemon(7) asks, and let the caller know.
//
// The order: prepare the process (close_inherited_descriptors,
// open_standard_descriptors, reset_signals), then detach(), then open whatever
// the daemon needs, with its errors still going to the terminal, then ready().
// A program that stays in the foreground does the first three alone.

#ifndef DAEMON_H
#define DAEMON_H

#include <sys/types.h>
#include <unistd.h>
#include <utility>

// Owns one descriptor and closes it; -1 is none.
class Descriptor {
public:
  explicit Descriptor(int fd = -1) : fd_(fd) {}
  Descriptor(Descriptor &&other) noexcept : fd_(other.release()) {}
  Descriptor &operator=(Descriptor &&other) noexcept {
    reset(other.release());
    return *this;
  }
  ~Descriptor() { reset(); }

  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }
  void reset(int fd = -1) {
    if (fd_ >= 0)
      (void)close(fd_); // whatever it returns, the descriptor is gone
    fd_ = fd;
  }

private:
  int fd_;
};

// Closes every descriptor above standard error. Cannot fail. Where the kernel
// has no close_range(), it finds those below RLIMIT_NOFILE, but not fewer than
// 2^16 and not more than 2^20.
void close_inherited_descriptors();

// Opens /dev/null on those of the descriptors 0 to 2 that are closed, and once
// more above 2. Returns the latter, or none with errno of open(2). All of them
// are closed on exec. Call it after close_inherited_descriptors(), so that a
// full table leaves room.
[[nodiscard]] Descriptor open_standard_descriptors();

// Gives every signal its default action and unblocks all: both are inherited
// through exec (POSIX, execve), and a SIGCHLD ignored makes waitpid() useless.
void reset_signals();

// Forks the daemon, which goes on from here, and lets the launcher wait for it.
// Returns 0 in the daemon: it has no terminal and is no session leader, is in
// "/" with umask 0, and has `launcher` to give to ready(). Returns its PID in
// the launcher once it has called ready(), or -1 with errno 0 if it has ended
// before, which is for it to explain. Returns -1 with errno of pipe(2),
// fcntl(2), fork(2), chdir(2) or setsid(2) where a step failed, in whichever
// process that was: say so and exit. Record locks are not inherited by fork
// (POSIX, fcntl): take them after this.
[[nodiscard]] pid_t detach(Descriptor &launcher);

// The daemon's last step: points standard input, output and error at `null` and
// sends its PID to the launcher, which lets go of the terminal. Returns false
// with errno of dup2(2). A launcher that was killed meanwhile is no error: the
// daemon is up and needs it no longer. SIGPIPE must not be at its default.
[[nodiscard]] bool ready(Descriptor launcher, const Descriptor &null);

#endif
