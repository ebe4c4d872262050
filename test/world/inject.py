"""inject.py - what the proof `inject` runs: makes system calls of pinglog fail, one at a time.

A scenario is a way to start pinglog, with what its log holds before. Its first run is left alone
and traced. Each system call in that trace, with each error that it could fail with, is an attempt:
the scenario once more, in which strace makes that one call fail.

After an attempt, one of two things must be true:
- pinglog has refused: it has said why, its exit status is 1, and the log is as it was.
- pinglog has worked: its exit status is 0, and all cycles are in the log; the results of one
  cycle may be wrong.
In any case nothing hangs, loops or is left behind.

The directory has the script `ping`. PINGLOG is the program. Prints a line for each attempt that is
wrong, and the sum. Exit status 1 if there is such a line.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PINGLOG = os.environ["PINGLOG"]
INTERVAL = "0.3"
PATIENCE = 30  # seconds until an attempt hangs
# How often the same call of the same process fails: all 128 calls of sigaction() are alike.
MOST = int(os.environ.get("MOST", "12"))

WHOLE_LINE = "end of time--------:Sun Nov 22 07:44:57 2026\n"
TORN_LINE = WHOLE_LINE[:30]
FOREGROUND = ["-f", "-o", "log", "-i", INTERVAL, "-e", "../ping"]
DAEMON = FOREGROUND[1:]


# --- The scenarios ---------------------------------------------------------------------------


@dataclass(eq=False)
class Scenario:
    name: str
    options: list
    # The calls that fail are those from the first one that has this text in the trace, to the end
    # of so many cycles. One cycle more is run, which must be right.
    first: str = '/log.lock"'
    cycles: int = 1
    # Whether the call fails in each process, at its own N-th call, or in the first process alone.
    in_each_process: bool = False
    # A call fails only if it has to do with this open file of the attempt's directory.
    about: str = ""
    # What the log holds before, and how it must begin afterwards.
    log: str = ""
    kept: str = ""
    hosts: tuple = ("host",)
    results: tuple = ("ok",)  # of a cycle, sorted
    to_stdout: bool = False
    is_daemon: bool = False
    stops_another: bool = False

    def command(self):
        if self.stops_another:
            return [PINGLOG, *self.options]
        return [PINGLOG, *self.options, "-c", str(self.cycles + 1), *self.hosts]


SCENARIOS = [
    Scenario("foreground", FOREGROUND, first="getcwd", cycles=2),
    Scenario("daemon", DAEMON, first="getcwd", in_each_process=True, is_daemon=True),
    # What the forked process does until it has become a ping.
    Scenario("pings", FOREGROUND, first="dup2", in_each_process=True),
    # The first dup2() of a ping is not the first of pinglog, but the only one that replaces `out`.
    Scenario("ping_output", FOREGROUND, first="dup2", in_each_process=True, about="out"),
    Scenario(
        "overdue",
        FOREGROUND,
        first="start time",
        hosts=("host", "slow", "stubborn"),
        results=("late", "late", "ok"),
    ),
    Scenario("rotation", ["-s", "1", *FOREGROUND], log=WHOLE_LINE * 30, kept=WHOLE_LINE * 30),
    Scenario("torn", FOREGROUND, log=WHOLE_LINE + TORN_LINE, kept=WHOLE_LINE),
    Scenario("foreign", FOREGROUND, log=WHOLE_LINE + "by hand", kept=WHOLE_LINE + "by hand\n"),
    Scenario(
        "stdout",
        ["-f", "-o", "-", "-i", INTERVAL, "-e", "../ping"],
        first="start time",
        to_stdout=True,
    ),
    Scenario("stop", ["-k", "-o", "log"], first="getcwd", stops_another=True),
]

# The errors with which a system call could fail. The first expression that matches the call's line
# of the trace decides. With a plus, every later call fails too, as in a sandbox that forbids it.
ERRORS = [
    # These cannot fail.
    (r"(execve|exit_group|rt_sigreturn|umask|getpid|\w*time\w*|set_\w+)\(", ""),
    (r"write\(", "ENOSPC EINTR"),
    (r"poll\(", "EINTR EPERM"),
    (r"(read|\w*nanosleep|p\w*select6|wait\w+)\(", "EINTR"),
    (r"(pipe|dup)\w*\(", "EMFILE"),
    (r"open\w*\(", "EMFILE EACCES EROFS ENOSPC"),
    (r"rename\(", "EACCES EROFS ENOSPC"),
    (r"(clone\w*|\w*fork)\(", "EAGAIN"),
    (r"(close|ftruncate|pread64)\(", "EIO"),
    (r"(access|\w*stat\w*|setpgid)\(", "EACCES"),
    (r"(brk|mmap|getcwd)\(", "ENOMEM"),
    (r"kill\(", "EPERM ESRCH"),
    (r"(setsid|prlimit64)\(", "EPERM"),
    (r"fcntl\w*\(.*SETLK", "EACCES ENOLCK"),
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
        return f"{self.scenario.name} {self.call} {self.number} {self.error}"

    def directory(self):
        return Path(str(self).replace(" ", "."))

    def injection(self):
        if not self.call:
            return []
        error = self.error.rstrip("+")
        lasting = self.error[len(error) :]
        return ["-e", f"inject={self.call}:error={error}:when={self.number}{lasting}"]


def attempts_of(scenario):
    """The attempts that the first run's trace is worth."""
    trace = Path(Attempt(scenario).directory(), "trace").read_text(errors="replace")
    count = Counter()
    alike = Counter() # calls that can fail with the same errors
    attempts = {}  # in the order of the trace, each of them once
    has_begun = False
    ended_cycles = 0
    for line in trace.splitlines():
        found = re.match(r"(\d*) *((\w+)\(.*)", line)
        if not found:
            continue
        process, text, call = found.groups()
        count[process, call] += 1
        number = count[process, call]
        errors = errors_of(text)
        alike[process, call, *errors] += 1
        has_begun = has_begun or scenario.first in text
        is_new = alike[process, call, *errors] <= MOST
        if has_begun and ended_cycles < scenario.cycles and is_new:
            for error in errors:
                if not (scenario.is_daemon and is_impossible(call, number, error)):
                    attempts[Attempt(scenario, call, number, error)] = None
        if call == "write" and "end of time" in text:
            ended_cycles += 1
    if not attempts:
        raise ValueError(f"{scenario.name}: no call has {scenario.first!r}")
    return list(attempts)


def is_impossible(call, number, error):
    """True for what cannot happen while a daemon starts: its launcher has no handler for any
    signal, so nothing interrupts that, and the first write(2) of the daemon, into the launcher's
    pipe, finds room."""
    return error == "EINTR" or (call == "write" and number == 1)


def errors_of(text):
    return next(errors for pattern, errors in ERRORS if re.match(pattern, text)).split()


class Run:
    """One run of an attempt: what it left, and what is wrong with that."""

    def __init__(self, attempt):
        self.scenario = attempt.scenario
        self.attempt = attempt
        self.directory = attempt.directory()
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir()
        Path(self.directory, "log").write_text(self.scenario.log)
        self.environment = {**os.environ, "MARK": str(self.directory)}
        self.other = self.start_another() if self.scenario.stops_another else 0
        self.status = self.run()
        self.errors = self.read("err")
        self.trace = self.read("trace")

    def read(self, name):
        path = Path(self.directory, name)
        return path.read_text(errors="replace") if path.exists() else ""

    def run(self):
        follow = ["-f"] if self.scenario.in_each_process else []
        about = ["-P", self.scenario.about] if self.scenario.about else []
        strace = ["strace", *follow, *about, "-b", "execve", "-o", "trace"]
        out = open(Path(self.directory, "out"), "w")
        err = open(Path(self.directory, "err"), "w")
        with out, err:
            process = subprocess.Popen(
                [*strace, *self.attempt.injection(), *self.scenario.command()],
                cwd=self.directory,
                env=self.environment,
                stdout=out,
                stderr=err,
            )
            try:
                return process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                return "it hangs"

    def start_another(self):
        """The pinglog that -k is to stop. Returns its PID."""
        command = [PINGLOG, *DAEMON, "-c", "99", "host"]
        said = subprocess.run(
            command, cwd=self.directory, env=self.environment, stdout=subprocess.PIPE, check=True
        )
        return int(said.stdout.split()[2])

    # What is checked. Each of these says what is wrong.

    def faults(self):
        yield from self.faults_in_any_case()
        if self.has_refused():
            return
        yield from self.faults_of_processes()
        if not self.scenario.stops_another:
            yield from self.faults_of_log()

    def faults_in_any_case(self):
        if self.scenario.stops_another:
            if self.status == 0 and not has_ended(self.other):
                yield "it has not stopped the other one"
            if self.status != 0:
                with suppress(ProcessLookupError):
                    os.kill(self.other, signal.SIGKILL)
                has_ended(self.other)
        if is_left(f"MARK={self.directory}"):
            yield "a process is left behind"
        if self.scenario.stops_another:  # it waits
            return
        # Where there is no close_range(), each descriptor is closed by itself.
        calls = re.sub(r"(?m)^.*\b(close|fcntl\w*)\(\d+(, F_SETFD.*)?\).*\n", "", self.trace)
        undisturbed = Path(Attempt(self.scenario).directory(), "trace").read_text(errors="replace")
        if calls.count("\n") > 2 * undisturbed.count("\n") + 1000:
            yield "it loops"

    def has_refused(self):
        # A file system without locks is no reason to refuse. (In the other scenarios the error also
        # hits the launcher's calls, which have nothing to do with locks.)
        if self.attempt.error == "ENOLCK" and not self.scenario.in_each_process:
            return False
        is_untouched = self.scenario.stops_another or self.log() == self.scenario.log
        return self.status == 1 and self.errors.startswith("pinglog: ") and is_untouched

    def faults_of_processes(self):
        if self.status != 0:
            yield f"exit status {self.status}: {self.errors}"
        for line in re.findall(r"(?m)^.*(?:exited with [12] |killed by).*$", self.trace):
            yield line
        forks = re.findall(r"(?m)(?:clone|fork)3?(?:\(| res).*= [1-9]\d*$", self.trace)
        waits = re.findall(r"(?m)wait4(?:\(| res).*= [1-9]\d*$", self.trace)
        orphans = 1 if self.scenario.is_daemon else 0
        if len(forks) != len(waits) + orphans:
            yield "a child was not waited for"

    def log(self):
        return self.read("log.0") + self.read("out" if self.scenario.to_stdout else "log")

    def faults_of_log(self):
        log = self.log()
        if self.scenario.name == "torn":  # where it could not be cut off, it was ended
            log = log.replace(TORN_LINE + "\n", "")
        if not log.startswith(self.scenario.kept):
            yield f"the log was not kept: {log}"
            return
        cycles = cycles_in(log[len(self.scenario.kept) :])
        if cycles is None:
            yield f"the log's lines are not in order: {log}"
            return
        results = [len(cycle) for cycle in cycles]
        if results != [len(self.scenario.hosts)] * (self.scenario.cycles + 1):
            yield f"lines are missing: {log}"
        wrong = [cycle for cycle in cycles if cycle != list(self.scenario.results)]
        if len(wrong) > 1 and not self.scenario.in_each_process:
            yield f"{len(wrong)} cycles are wrong: {log}"


def has_ended(pid):
    """Waits until the process has ended, but not forever."""
    deadline = time.monotonic() + PATIENCE
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    return not Path(f"/proc/{pid}").exists()


def is_left(mark):
    """True if a process has this in its environment."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_bytes()
        except OSError:  # it has just ended
            continue
        if mark.encode() in environment.split(b"\0"):
            return True
    return False


def cycles_in(log):
    """The sorted results of each cycle; None if the lines are not whole and in order."""
    cycles = []
    is_open = False
    for line in log.splitlines(keepends=True):
        kind = kind_of(line)
        if kind == "start" and not is_open:
            cycles.append([])
            is_open = True
        elif kind == "end" and is_open:
            cycles[-1].sort()
            is_open = False
        elif kind in ("ok", "late", "wrong") and is_open:
            cycles[-1].append(kind)
        elif kind != "other":
            return None
    return None if is_open else cycles


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


# --- All of them -----------------------------------------------------------------------------


def wrong_ones(attempts, at_once):
    """Makes the attempts, so many at once. Returns those that are wrong, and why."""

    def faults(attempt):
        return list(Run(attempt).faults())

    with ThreadPoolExecutor(at_once) as pool:
        pairs = zip(attempts, pool.map(faults, attempts))
        return [(attempt, found) for attempt, found in pairs if found]


def make(attempts):
    """Makes the attempts. A busy machine makes pings late, so it repeats the wrong ones with fewer
    at once, and at last one by one. Prints and returns those that are wrong each time."""
    wrong = []
    for at_once in (8, 2, 1):
        wrong = wrong_ones(attempts, at_once)
        attempts = [attempt for attempt, faults in wrong]
    for attempt, faults in wrong:
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
