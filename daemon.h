// daemon.h - become a daemon the way daemon(7) asks, and let the caller know.
//
// The order: reset_process(), detach(), then open whatever the daemon needs,
// with its errors still going to the terminal, then ready(). A program that
// stays in the foreground does the first alone.

#ifndef DAEMON_H
#define DAEMON_H

#include <sys/types.h>
#include <unistd.h>

// Owns one descriptor and closes it; -1 is none.
class Descriptor {
public:
  explicit Descriptor(int fd = -1) : fd_(fd) {}
  Descriptor(const Descriptor &) = delete;
  ~Descriptor() { reset(); }

  int get() const { return fd_; }
  void reset(int fd = -1) {
    if (fd_ >= 0)
      (void)close(fd_); // whatever it returns, the descriptor is gone
    fd_ = fd;
  }
  // Takes what the other one owns.
  void take(Descriptor &other) {
    reset(other.fd_);
    other.fd_ = -1;
  }

private:
  int fd_;
};

// Makes a pipe; both ends are closed on exec. False with errno of pipe(2) or
// fcntl(2).
[[nodiscard]] bool open_pipe(Descriptor &output, Descriptor &input);

// Sheds what is inherited through exec (POSIX, execve): closes all descriptors
// above standard error, gives every signal its default action and unblocks it
// (a SIGCHLD ignored makes waitpid() useless), opens /dev/null on those of the
// descriptors 0 to 2 that are closed, and once more above 2, closed on exec.
// Returns the latter, or none with errno of open(2).
[[nodiscard]] Descriptor reset_process();

// Forks the daemon, which goes on from here, and lets the launcher wait for it.
// Returns 0 in the daemon, which has no terminal, leads no session, is in "/"
// with umask 0, and has `launcher` to give to ready(). Returns its PID in the
// launcher once it has called ready(), or -1 with errno 0 if it has ended
// before, which is for it to explain. Returns -1 with errno of pipe(2),
// fcntl(2), fork(2), chdir(2) or setsid(2), in whichever process that failed:
// say so and exit. Record locks are not inherited by fork (POSIX, fcntl): take
// them after this.
[[nodiscard]] pid_t detach(Descriptor &launcher);

// The daemon's last step: points standard input, output and error at `null` and
// sends its PID to the launcher, which lets go of the terminal. Returns false
// with errno of dup2(2). A launcher that was killed meanwhile is no error: the
// daemon is up and needs it no longer. SIGPIPE must not be at its default.
[[nodiscard]] bool ready(Descriptor &launcher, const Descriptor &null);

#endif
