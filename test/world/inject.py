"""inject.py - what the proof `inject` runs: makes system calls of pinglog fail, one at a time.

A scenario is a way to start pinglog, with what its log holds before. Its first run is left alone
and traced. Each system call in that trace, with each error that it could fail with, is an attempt:
the scenario once more, in which strace makes that one call fail.

After an attempt, one of two things must be true:
- pinglog has refused: it has said why, its exit status is 1, and the log is as it was.
- pinglog has worked: its exit status is 0, and all cycles are in the log; the results of one
  cycle may be wrong.
In any case nothing hangs, loops or is left behind. (A ping that is left behind runs forever, and
`run` notices it.)

The directory has the script `ping`. PINGLOG is the program. Prints a line for each attempt that is
wrong, or their number. Exit status 1 if there is such a line.
"""

import os
import re
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

PINGLOG = os.environ["PINGLOG"]
INTERVAL = "3"  # seconds, so that a busy machine makes no ping late
PATIENCE = 120  # seconds until an attempt hangs
MOST_CALLS = 1500  # of a run; a start that closes descriptors one by one has more
AT_ONCE = 96  # attempts, which mostly wait
# How often the same call of the same process fails: all 128 calls of sigaction() are alike.
MOST = 12

WHOLE_LINE = "end of time--------:Sun Nov 22 07:44:57 2026\n"
TORN_LINE = WHOLE_LINE[:30]


# --- The scenarios ---------------------------------------------------------------------------


@dataclass(eq=False)
class Scenario:
    name: str
    options: str = "-f -o log"
    # The calls that fail are those from the first one that has this text in the trace, to the end
    # of so many cycles. One cycle more is run, which must be right.
    first: str = '/log.lock"'
    cycles: int = 1
    # Whether the call fails in each process, at its own N-th call, or in the first process alone.
    in_each_process: bool = False
    # A call fails only if it has to do with this open file of the attempt's directory.
    about: str = ""
    # What the log holds before, and how it must begin afterwards, if that is not the same.
    log: str = ""
    repaired: str = ""
    # The lock file's owner. 0: there is no such file before. Runs the pinglog that -k is to stop.
    owner: int = 0
    hosts: str = "host"
    results: str = "ok"  # of a cycle, sorted

    def __post_init__(self):
        self.is_daemon = not self.options.startswith("-f")
        self.stops_another = self.options.startswith("-k")

    def command(self):
        command = [PINGLOG, *self.options.split()]
        if not self.stops_another:
            command += ["-i", INTERVAL, "-e", "../ping", "-c", str(self.cycles + 1)]
            command += self.hosts.split()
        return command


SCENARIOS = [
    Scenario("foreground", first="getcwd", cycles=2),
    Scenario("daemon", "-o log", first="getcwd", in_each_process=True),
    # What the forked process does until it has become a ping.
    Scenario("pings", first="dup2", in_each_process=True),
    # The first dup2() of a ping is not the first of pinglog, but the only one that replaces `out`.
    Scenario("ping_output", first="dup2", in_each_process=True, about="out"),
    # Two failures begin an outage, for which a child calls fsync().
    Scenario(
        "overdue", first="start time", cycles=2, hosts="host slow stubborn", results="late late ok"
    ),
    Scenario("rotation", "-f -o log -s 1", log=WHOLE_LINE * 30),
    Scenario("torn", log=WHOLE_LINE + TORN_LINE, repaired=WHOLE_LINE),
    Scenario("foreign", log=WHOLE_LINE + "by hand", repaired=WHOLE_LINE + "by hand\n"),
    Scenario("stdout", "-f -o -", first="start time"),
    Scenario("stranger", owner=65534),
    Scenario("stop", "-k -o log", first="getcwd"),
    Scenario("stop_user", "-k -o log", first="getcwd", owner=65534),
]

# The errors with which a system call could fail. The first expression that matches the call's line
# of the trace decides.
ERRORS = [
    # These cannot fail.
    (r"(execve|exit_group|rt_sigreturn|umask|getpid|\w*time\w*|set_\w+)\(", ""),
    (r"write\(", "ENOSPC EINTR"),
    (r"poll\(", "EINTR EPERM"),
    (r"(read|\w*nanosleep|p\w*select6|wait\w+)\(", "EINTR"),
    (r"(pipe|dup)\w*\(", "EMFILE"),
    (r"open\w*\(.*O_EXCL", "EEXIST EMFILE EACCES EROFS ENOSPC"),
    (r"open\w*\(", "EMFILE EACCES EROFS ENOSPC"),
    (r"unlink\(", "EACCES ENOENT"),
    (r"rename\(", "EACCES EROFS ENOSPC"),
    (r"(clone\w*|\w*fork)\(", "EAGAIN"),
    (r"(close|ftruncate|pread64)\(", "EIO"),
    (r"(access|\w*stat\w*|setpgid)\(", "EACCES"),
    (r"(brk|mmap|getcwd)\(", "ENOMEM"),
    (r"kill\(", "EPERM ESRCH"),
    (r"(setsid|prlimit64)\(", "EPERM"),
    (r"fcntl\w*\(.*SETLK", "EACCES ENOLCK"),
    (r"fcntl\w*\(.*GETLK", "ENOLCK"),
    (r"", "EINVAL"),
]


# --- The attempts ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Attempt:
    scenario: Scenario
    call: str = ""  # "": none fails
    number: int = 0
    error: str = ""

    def __str__(self):
        return f"{self.scenario.name}.{self.call}.{self.number}.{self.error}"

    def read(self, name):
        path = Path(str(self), name)
        return path.read_text(errors="replace") if path.exists() else ""


def attempts_of(scenario):
    """The attempts that the first run's trace is worth, in its order, each of them once."""
    count = Counter()
    alike = Counter()  # calls that can fail with the same errors
    attempts = {}
    has_begun = False
    ended_cycles = 0
    for line in Attempt(scenario).read("trace").splitlines():
        found = re.match(r"(\d*) *((\w+)\(.*)", line)
        if not found:
            continue
        process, text, call = found.groups()
        count[process, call] += 1
        errors = next(errors for pattern, errors in ERRORS if re.match(pattern, text)).split()
        alike[process, call, *errors] += 1
        has_begun = has_begun or scenario.first in text
        if has_begun and ended_cycles < scenario.cycles and alike[process, call, *errors] <= MOST:
            for error in errors:
                attempt = Attempt(scenario, call, count[process, call], error)
                if not is_impossible(attempt):
                    attempts[attempt] = None
        if call == "write" and "end of time" in text:
            ended_cycles += 1
    if not attempts:
        raise ValueError(f"{scenario.name}: no call has {scenario.first!r}")
    return list(attempts)


def is_impossible(attempt):
    """True for what cannot happen while a daemon starts: its launcher has no handler for any
    signal, so nothing interrupts that, and the first write(2) of the daemon, into the launcher's
    pipe, finds room."""
    is_first_write = (attempt.call, attempt.number) == ("write", 1)
    return attempt.scenario.name == "daemon" and (attempt.error == "EINTR" or is_first_write)


def faults_of(attempt):
    """Makes an attempt. Returns what is wrong."""
    log = Path(str(attempt), "log")
    log.parent.mkdir()
    log.write_text(attempt.scenario.log)
    if attempt.scenario.owner != 0:
        for file in (log, log.with_name("log.lock")):
            file.touch()
            os.chown(file, attempt.scenario.owner, -1)
    if attempt.scenario.stops_another:
        return faults_of_stop(attempt)
    status = status_of(attempt)
    return list(faults_of_run(attempt, status))


def status_of(attempt):
    """Runs pinglog. Returns its exit status; 137 if it hangs."""
    strace = ["timeout", "-s", "KILL", str(PATIENCE), "strace", "-b", "execve", "-o", "trace"]
    if attempt.scenario.in_each_process:
        strace += ["-f"]
    if attempt.scenario.about:
        strace += ["-P", attempt.scenario.about]
    if attempt.call:
        strace += ["-e", f"inject={attempt.call}:error={attempt.error}:when={attempt.number}"]
    command = [*strace, *attempt.scenario.command()]
    directory = str(attempt)
    with open(f"{directory}/out", "w") as out, open(f"{directory}/err", "w") as err:
        return subprocess.run(command, cwd=directory, stdout=out, stderr=err).returncode


def faults_of_stop(attempt):
    """Starts another pinglog, which -k is to stop."""
    other = subprocess.Popen(
        [PINGLOG, "-f", "-o", "log", "-e", "../ping", "host"],
        cwd=str(attempt),
        user=attempt.scenario.owner,
    )
    while other.poll() is None and "start time" not in attempt.read("log"):
        time.sleep(0.01)
    status = status_of(attempt)
    faults = []
    if status == 0:
        try:
            other.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            faults.append("it has not stopped the other one")
    elif not has_refused(attempt, status):
        faults.append(f"exit status {status}: {attempt.read('err')}")
    other.kill()
    other.wait()
    return faults


def faults_of_run(attempt, status):
    scenario = attempt.scenario
    trace = attempt.read("trace")
    calls = trace.count("\n")
    if calls > MOST_CALLS:
        yield f"{calls} system calls"
    # A file system without locks is no reason to refuse, nor is a file that another pinglog has
    # just made, removed or unlocked. (In the other scenarios the error also hits the launcher's
    # calls, which have nothing to do with locks.)
    must_work = not scenario.in_each_process and (
        attempt.error in ("ENOLCK", "EEXIST", "ENOENT")
        or (attempt.call.startswith("fcntl") and attempt.error == "EACCES")
    )
    if has_refused(attempt, status) and log_of(attempt) == scenario.log and not must_work:
        return
    if status != 0:
        yield f"exit status {status}: {attempt.read('err')}"
    yield from re.findall(r"(?m)^.*(?:exited with [12] |killed by).*$", trace)
    # The children of the last cycle may outlive pinglog, and one that waits for the disk. A daemon
    # is nobody's child.
    before = trace.rsplit('"end of time', 2)[0]
    forks = re.findall(r"(?m)(?:clone|fork)3?(?:\(| res).*= [1-9]\d*$", before)
    waits = re.findall(r"(?m)wait4(?:\(| res).*= [1-9]\d*$", trace)
    if len(forks) > len(waits) + scenario.is_daemon + ("ping outage" in before):
        yield "a child was not waited for"
    yield from faults_of_log(scenario, log_of(attempt))


def has_refused(attempt, status):
    return status == 1 and attempt.read("err").startswith("pinglog: ")


def log_of(attempt):
    name = "out" if attempt.scenario.name == "stdout" else "log"
    return attempt.read("log.0") + attempt.read(name)


def faults_of_log(scenario, log):
    if scenario.name == "torn":  # where it could not be cut off, it was ended
        log = log.replace(TORN_LINE + "\n", "")
    kept = scenario.repaired or scenario.log
    kinds = [kind_of(line) for line in log[len(kept) :].splitlines(keepends=True)]
    text = " ".join(kind for kind in kinds if kind != "other")
    if not log.startswith(kept) or not re.fullmatch("(start( ok| late| wrong)* end ?)*", text):
        yield f"the log was not kept, or its lines are not in order: {log}"
        return
    cycles = [sorted(cycle.split()[:-1]) for cycle in text.split("start")[1:]]
    results = [len(cycle) for cycle in cycles]
    if results != [len(scenario.hosts.split())] * (scenario.cycles + 1):
        yield f"lines are missing: {log}"
    wrong = sum(cycle != scenario.results.split() for cycle in cycles)
    if wrong > 1 and not scenario.in_each_process:
        yield f"{wrong} cycles are wrong: {log}"


TIME = r"\w{3} \w{3} [ \d]\d [\d:]{8} \d{4}"
KINDS = [
    ("start", rf"start time---------:{TIME}"),
    ("end", rf"end of time--------:{TIME}"),
    ("ok", rf"ping result--------:{TIME} host ok 12\.3 ms"),
    ("late", rf"ping result--------:{TIME} (slow|stubborn) fail no answer in {INTERVAL} s"),
    ("wrong", rf"ping result--------:{TIME} \w+ (fail .+|ok)"),
    ("other", rf"(pinglog started----|ping outage--------|log not renamed----):{TIME} .+"),
]


def kind_of(line):
    return next((kind for kind, pattern in KINDS if re.fullmatch(pattern + "\n", line)), "?")


def make(attempts):
    """Makes the attempts. Prints those that are wrong, and why. Returns how many they are."""
    wrong = 0

    def make_one(number):
        if number < AT_ONCE:  # the first ones do not start all at the same moment
            time.sleep(number * 0.1)
        return faults_of(attempts[number])

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for attempt, faults in zip(attempts, pool.map(make_one, range(len(attempts)))):
            if faults:
                wrong += 1
                print(f"{attempt}: {'; '.join(faults)}".replace("\n", " "))
    return wrong


def main():
    if make([Attempt(scenario) for scenario in SCENARIOS]):
        return 1
    attempts = [attempt for scenario in SCENARIOS for attempt in attempts_of(scenario)]
    if make(attempts):
        return 1
    print(f"{len(attempts)} failures")
    return 0


if __name__ == "__main__":
    sys.exit(main())
