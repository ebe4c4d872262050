// surroundings.h - namespaces, mounts and terminals for a process under test.

#ifndef SURROUNDINGS_H
#define SURROUNDINGS_H

#include <functional>
#include <gtest/gtest.h>
#include <string>
#include <sys/types.h>

// unshare(2), if need be in a new user namespace that maps only this user.
// Returns false with errno.
[[nodiscard]] bool unshare_anyhow(int flags);

// Mounts that no other process sees. The test itself stays outside: a waiting
// child holds the namespace, and the mounts vanish when that child is killed.
class MountNamespace {
public:
  MountNamespace();
  MountNamespace(const MountNamespace &) = delete;
  MountNamespace &operator=(const MountNamespace &) = delete;
  ~MountNamespace();

  explicit operator bool() const { return why_.empty(); }
  // Why there is no namespace, "" if there is one.
  const std::string &why() const { return why_; }
  // For Launch::before_exec: moves the calling process into the namespace, to
  // the directory of the same name. If that fails, exits with status 125.
  void enter() const;
  // Where the test finds the file that has this absolute name inside.
  std::string path(const std::string &name) const;
  void mount_tmpfs(const std::string &directory,
                   const std::string &options = "") const;

private:
  pid_t holder_ = -1;
  std::string why_;
};

#define MOUNT_NAMESPACE_OR_SKIP(name)                                          \
  const MountNamespace name;                                                   \
  if (!name)                                                                   \
  GTEST_SKIP() << name.why()

// A pseudoterminal, of which the test holds the master side.
class Terminal {
public:
  Terminal();
  Terminal(const Terminal &) = delete;
  Terminal &operator=(const Terminal &) = delete;
  ~Terminal() { close(); }

  explicit operator bool() const { return why_.empty(); }
  // Why there is no terminal, "" if there is one.
  const std::string &why() const { return why_; }
  int master() const { return master_; }
  const std::string &name() const { return name_; } // /dev/pts/3
  void close(); // as when a terminal window is closed
  // For Launch::before_exec: makes the process a session leader, this terminal
  // its controlling terminal and, if wanted, its descriptors 0 to 2.
  std::function<void()> controls(bool standard_descriptors = true) const;

private:
  int master_;
  std::string name_;
  std::string why_;
};

#endif
