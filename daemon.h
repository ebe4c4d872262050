// daemon.h - become a daemon as daemon(7) asks, and say when it is up.
// The order: reset_process(), detach(), then open whatever the daemon needs
// while its errors still reach the terminal, then ready(). A program that stays
// in the foreground calls reset_process() alone.

#ifndef DAEMON_H
#define DAEMON_H

// Closes the descriptor and puts another in its place; -1 is none.
void replace(int &descriptor, int by = -1);

// Both ends close on exec. Returns false with errno of pipe(2) or fcntl(2).
[[nodiscard]] bool open_pipe(int (&ends)[2]);

// Resets the descriptors and signals that exec passes on. A daemon closes the
// descriptors above standard error (daemon(7), step 1). A foreground program
// keeps them until it executes another: its caller may hold a lock with one.
// Every signal is unblocked and gets its default action. Makes /dev/null
// standard input, and standard output or error if it is closed: no file opened
// later gets its number. Returns false with errno of open(2) or dup2(2).
[[nodiscard]] bool reset_process(bool closes);

// Forks the daemon. On success, returns only in the daemon: without a
// controlling terminal, not a session leader, in "/", and with umask 0. Once
// the daemon has called ready(), the launcher prints "Daemon PID n DUTY" and
// exits with status 0. If the daemon exits first, it has to say why: the
// launcher exits with status 1 and says nothing. Returns false with errno of
// pipe(2), fcntl(2), fork(2), chdir(2) or setsid(2) in the process whose call
// failed. Take record locks after this call: they are not inherited.
[[nodiscard]] bool detach(const char *duty);

// The daemon's last step: points standard output and error at /dev/null, which
// standard input already is, and tells the launcher its PID. Returns false with
// errno of dup2(2) or write(2). Block SIGPIPE: the launcher may have died.
[[nodiscard]] bool ready();

#endif
