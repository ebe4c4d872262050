// surroundings.cpp - see surroundings.h.

#include "surroundings.h"

#include "process.h"

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <fstream>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>

namespace fs = std::filesystem;

bool unshare_anyhow(int flags) {
  const std::string user = std::to_string(geteuid());
  const std::string group = std::to_string(getegid());
  if (unshare(flags) == 0)
    return true;
  if (unshare(CLONE_NEWUSER | flags) == -1)
    return false;
  for (const auto &[file, text] :
       {std::pair<const char *, std::string>{"setgroups", "deny"},
        {"uid_map", user + " " + user + " 1"},
        {"gid_map", group + " " + group + " 1"}})
    if (!(std::ofstream(std::string("/proc/self/") + file) << text << "\n"
                                                           << std::flush))
      return false;
  return true;
}

namespace {

// Moves the holder of a MountNamespace to mounts of its own. Returns the name
// of the call that failed, or nullptr.
const char *leave_mounts() {
  if (!unshare_anyhow(CLONE_NEWNS))
    return "unshare";
  // Make all mounts private: a shared one would propagate ours to others. In a
  // chroot, first go to the namespace's root, because "/" may be no mount.
  const int root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const int self = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
  if (setns(self, CLONE_NEWNS) == -1)
    return "setns";
  if (mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == -1)
    return "mount";
  return fchdir(root) == 0 && chroot(".") == 0 ? nullptr : "chroot";
}

} // namespace

MountNamespace::MountNamespace() {
  int word[2];
  if (pipe2(word, O_CLOEXEC) == -1)
    abort();
  const pid_t test = getpid();
  holder_ = fork();
  if (holder_ == 0) {
    const char *failed = leave_mounts();
    if (failed != nullptr)
      (void)dprintf(word[1], "no mount namespace: %s: %s", failed,
                    strerror(errno));
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    close(word[1]);
    while (failed == nullptr && getppid() == test)
      pause();
    _exit(0);
  }
  close(word[1]);
  char text[256];
  for (ssize_t size; (size = read(word[0], text, sizeof text)) > 0;)
    why_.append(text, size);
  close(word[0]);
}

MountNamespace::~MountNamespace() {
  kill(holder_, SIGKILL);
  (void)wait_for(holder_);
}

void MountNamespace::enter() const {
  const fs::path directory = fs::current_path();
  const int root = open(path("").c_str(), O_RDONLY | O_CLOEXEC);
  const std::string spaces = "/proc/" + std::to_string(holder_) + "/ns/";
  const int users = open((spaces + "user").c_str(), O_RDONLY | O_CLOEXEC);
  const int mounts = open((spaces + "mnt").c_str(), O_RDONLY | O_CLOEXEC);
  (void)setns(users, CLONE_NEWUSER); // fails if it is ours already
  if (setns(mounts, CLONE_NEWNS) == -1 || fchdir(root) == -1 ||
      chroot(".") == -1 || chdir(directory.c_str()) == -1)
    _exit(125);
}

std::string MountNamespace::path(const std::string &name) const {
  return "/proc/" + std::to_string(holder_) + "/root" + name;
}

void MountNamespace::mount_tmpfs(const std::string &directory,
                                 const std::string &options) const {
  EXPECT_EQ(in_a_child([&] {
              enter();
              errno = 0;
              (void)mount("tmpfs", directory.c_str(), "tmpfs", 0,
                          options.c_str());
              return errno;
            }),
            0)
      << directory << " " << options;
}

Terminal::Terminal() : master_(posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC)) {
  const char *name = nullptr;
  if (master_ != -1 && grantpt(master_) == 0 && unlockpt(master_) == 0)
    name = ptsname(master_);
  if (name != nullptr && access(name, R_OK | W_OK) == 0)
    name_ = name;
  else
    why_ = std::string("no terminal: ") + strerror(errno);
}

void Terminal::close() {
  if (master_ != -1)
    ::close(master_);
  master_ = -1;
}

std::function<void()> Terminal::controls(bool standard_descriptors) const {
  return [name = name_, standard_descriptors] {
    const int terminal =
        setsid() == -1 ? -1 : open(name.c_str(), O_RDWR | O_NOCTTY);
    if (terminal == -1 || ioctl(terminal, TIOCSCTTY, 0) == -1)
      _exit(126);
    for (int fd = 0; fd <= 2 && standard_descriptors; ++fd)
      (void)dup2(terminal, fd);
    ::close(terminal);
  };
}
