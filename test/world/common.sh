# shellcheck shell=bash
# common.sh - what the proofs share. `run` reads it before each of them, with
# $top (the tree), $world (this directory), $work and $0 (the proof's name).

pinglog=$work/pinglog/pinglog
answer='echo "64 bytes from 192.0.2.1: icmp_seq=1 ttl=64 time=12.3 ms"'

# --- how a proof ends --------------------------------------------------------

fail() {
    echo "$*" >"$work/$0.why"
    exit 1
}
skip() {
    echo "$*" >"$work/$0.why"
    exit 77
}
note() { echo ": $*" >"$work/$0.note"; } # stands behind `ok NAME`
trap '[ -e "$work/$0.why" ] || echo "line $LINENO: $BASH_COMMAND" >"$work/$0.why"' ERR

need() {
    local tool
    for tool; do
        command -v "$tool" >/dev/null || skip "no $tool on this machine"
    done
}

need_strace() {
    need strace
    strace -o trace true || skip "ptrace is not allowed here"
}

# eventually COMMAND...: waits until it succeeds. The bound is the limit of
# patience on a busy machine, not an expectation.
eventually() {
    local tries
    for ((tries = 0; tries < 1200; ++tries)); do
        ! "$@" || return 0
        sleep 0.05
    done
    fail "waited in vain for: $*"
}
gone() { ! kill -0 "$1" 2>/dev/null; }
expect() { # WHAT WANTED GOT
    [ "$2" = "$3" ] || fail "$1: wanted '$2', got '$3'"
}
# What a command says and its exit status, for expect().
said() {
    local text status=0
    text=$(timeout 20 "$@" 2>&1) || status=$?
    echo "$text ($status)"
}
ends_with() { # FILE LABEL
    case $(tail -n 1 "$1") in "$2"*) ;; *) fail "$1 ends with: $(tail -n 1 "$1")" ;; esac
}
# The PID in the launcher's line.
daemon_pid() { # LINE
    local rest=${1#Daemon PID }
    echo "${rest%% *}"
}
# result HOST VERDICT: an extended regular expression for such a result line.
result() {
    local day='[A-Z][a-z]{2} [A-Z][a-z]{2} [ 0-9][0-9] [0-9:]{8} [0-9]{4}'
    echo "^ping result--------:$day $1 $2\$"
}
answered() { # FILE [COUNT]: at least so many
    [ "$(grep -c ' ok [0-9.]* ms$' "$1" 2>/dev/null)" -ge "${2:-1}" ]
}
# Whole lines in their order: the start of pinglog, and cycles of one start, one or
# more results, one end. The cycle in which pinglog is stopped may end before its
# first result. $stops: how often it was stopped, if not once. The clock may be set.
in_order() { # FILE...
    sed -E '/^clock jumped-*:./d
        s/^pinglog (started)-*:.+$/\1/; s/^(start|ping|end) [a-z ]*-*:.+$/\1/' "$@" |
        tr '\n' ' ' |
        grep -Eqx "((started )?(start (ping )+end )*start (ping )*end ){1,${stops:-1}}" ||
        fail "the lines of $* are not in order"
}

script() { # NAME SHELL-TEXT
    printf '#!/bin/sh\n%s\n' "$2" >"$1"
    chmod +x "$1"
}

# readme PART: README's indented lines from the one that has this, until one that
# is not indented, without the indentation.
readme() {
    awk -v part="$1" '!/^    / { on = 0; next }
        index($0, part) && !seen { on = seen = 1 }
        on { print substr($0, 5) }
        END { exit !seen }' "$top/README" || fail "README has no: $1"
}

# --- building ----------------------------------------------------------------

# build DIRECTORY [MAKE ARGUMENT...]: the product, by its own Makefile.
build() {
    local directory=$1
    mkdir -p "$directory/test"
    cp "$top"/{Makefile,daemon.h,daemon.cpp,pinglog.cpp} "$directory"
    cp "$top/test/Makefile" "$directory/test"
    "${MAKE:-make}" -C "$@" >"$directory.make" 2>&1 ||
        fail "$*: $(grep -m 3 -E 'error:|warning:|undefined|Error [0-9]' "$directory.make")"
}
# The dynamic loader may be named too.
needs_libc_alone() { # PROGRAM
    expect "the libraries that $1 needs" libc.so.6 \
        "$(readelf -d "$1" | sed -n '/\[ld/!s/.*(NEEDED).*\[\(.*\)\]/\1/p')"
}

# The tests, in the tree, as `make test` builds them.
build_tests() {
    flock "$world" make -s -j 2 -C "$top/test" ../daemon.o daemon_test pinglog_test \
        >tests.make 2>&1 ||
        skip "the test suite does not build here: $(grep -m 1 -i error tests.make)"
}

# --- what every build must do ------------------------------------------------

# core COMMAND...: seen from outside. The command starts pinglog: a path, or
# qemu and a path.
core() {
    local log=$PWD/core.log pid seen
    rm -f core.log* silent.pid rotate.log*
    script answer "$answer"
    script silent 'echo $$ >"$0.pid"; trap "" INT TERM; while :; do sleep 1000; done'

    # It detaches: the pipe of $(...) is let go, no terminal, no session leader.
    seen=$(timeout 20 "$@" -i 0.5 -o core.log -e ./answer 192.0.2.1) || fail "launcher: status $?"
    pid=$(daemon_pid "$seen")
    expect "the launcher's line" "Daemon PID $pid pings 192.0.2.1, logs to $log" "$seen"
    eventually grep -Eq "$(result 192.0.2.1 'ok 12.3 ms')" "$log"
    read -r _ parent group session terminal _ <<<"$(sed 's/.*) //' "/proc/$pid/stat")"
    expect "parent, terminal, directory, output" "1 0 / /dev/null" \
        "$parent $terminal $(readlink "/proc/$pid/cwd") $(readlink "/proc/$pid/fd/1")"
    [ "$group" != "$pid" ] && [ "$session" != "$pid" ] || fail "it leads its group or session"
    [ "$session" != "$(sed 's/.*) //' /proc/$$/stat | cut -d ' ' -f 4)" ] ||
        fail "it is in our session"

    # One writer; -k stops it; what it leaves is whole.
    expect "the second start" "pinglog: $log: already written by PID $pid (-k stops it) (1)" \
        "$(said "$@" -o core.log -e ./answer 192.0.2.1)"
    expect "-k" " (0)" "$(said "$@" -k -o core.log)"
    eventually gone "$pid"
    in_order "$log"
    expect "-k without a daemon" \
        "pinglog: $log: no pinglog on this machine or container writes it (1)" \
        "$(said "$@" -k -o core.log)"

    # A ping that heeds no signal and never ends is ended at the deadline, with
    # the process that it started.
    timeout 20 "$@" -f -c 1 -i 1 -o - -e ./silent 192.0.2.2 >silent.log
    grep -Eq "$(result 192.0.2.2 'fail no answer in 1 s')" silent.log ||
        fail "a silent ping: $(cat silent.log)"
    eventually gone "$(cat silent.pid)"

    # pinglog renames a log that has reached its size, and begins a new one.
    for _ in {1..60}; do echo 'end of time--------:filler'; done | tee filler >rotate.log
    timeout 20 "$@" -f -c 2 -i 0.5 -s 1 -o rotate.log -e ./answer 192.0.2.1
    cmp filler rotate.log.0
    in_order rotate.log
    expect "the new log's cycles" 2 "$(grep -c ^end rotate.log)"
}

# pinglog appends lines to a log of more than 2 GiB, cuts off a torn line there, and
# renames such a log.
huge_log() { # COMMAND...
    local size=$((3 << 30))
    truncate -s $((size - 1)) huge.log
    echo >>huge.log
    timeout 20 "$@" -f -c 1 -i 0.5 -s 0 -o huge.log -e ./answer 192.0.2.1
    printf 'ping res' >>huge.log
    timeout 20 "$@" -f -c 1 -i 0.5 -s 0 -o huge.log -e ./answer 192.0.2.1
    tail -c +$((size + 1)) huge.log >new
    stops=2 in_order new
    expect "the huge log's new lines" 8 "$(wc -l <new)"
    timeout 20 "$@" -f -c 1 -i 0.5 -s $((2 << 20)) -o huge.log -e ./answer 192.0.2.1
    expect "the rotated log's new lines" 4 "$(wc -l <huge.log)"
    rm huge.log huge.log.0
}

# on_machine COMPILER EMULATOR CLASS ORDER NAME: builds it, looks at what was
# built, and runs it under emulation. Its times and file sizes have 64 bits with
# the Makefile's own flags. The dynamic program is not run.
on_machine() {
    local word
    need "$1" "$2" readelf
    build static CXX="$1" CXXFLAGS='-Os -Werror'
    readelf -hl static/pinglog >header
    for word in "$3" "$4 endian" "$5"; do
        grep -q "$word" header || fail "readelf does not say $word"
    done
    ! grep -q INTERP header || fail "it is not static"
    build dynamic CXX="$1" LDFLAGS=-s
    needs_libc_alone dynamic/pinglog
    printf '%s\n' '#include <ctime>' '#include <sys/types.h>' \
        'static_assert(sizeof(time_t) == 8 && sizeof(off_t) == 8);' >sizes.cpp
    printf 'include static/Makefile\nsizes:\n\t$(CXX) $(FLAGS) -Werror -c -o sizes.o sizes.cpp\n' |
        make -s -f - CXX="$1" sizes || fail "time_t or off_t has 32 bits"
    core "$2" "$PWD/static/pinglog"
    huge_log "$2" "$PWD/static/pinglog"
    note "$(stat -c %s static/pinglog) bytes"
}

# --- bare systems and supervisors --------------------------------------------

# bare: ./root with /usr/bin/pinglog, BusyBox and /dev/null, nothing else.
bare() {
    local applet
    need busybox mknod
    mkdir -p root/dev root/bin root/usr/bin
    cp "$pinglog" root/usr/bin
    cp "$(command -v busybox)" root/bin
    for applet in sh ping init; do ln -s busybox "root/bin/$applet"; done
    "${inside[@]}" /bin/busybox true 2>/dev/null || skip "busybox is not static"
    "${inside[@]}" /bin/ping -c 1 127.0.0.1 >/dev/null || skip "ping is not allowed here"
    mknod -m 666 root/dev/null c 1 3 2>/dev/null || skip "mknod is not allowed"
    (: <root/dev/null) 2>/dev/null || skip "device files do not work in $PWD"
}
# In there, with an empty environment.
inside=(env -i "$(type -P chroot)" root)

children() { cat "/proc/$1/task/$1/children"; }

# local_bin: pinglog and a ping that answers, first in PATH.
local_bin() {
    mkdir bin
    cp "$pinglog" bin
    script bin/ping "$answer"
    PATH=$PWD/bin:$PATH
}

# service: ./service for a supervisor, with README's run file, but faster. How
# pinglog ends is noted in ./finished.
service() {
    local_bin
    mkdir service
    script service/run "$(readme 'exec pinglog' | sed "s,/var/log,$PWD,; s/example/-i 0.2 &/")"
    script service/finish "echo \"\$1\" >>$PWD/finished"
}
# supervised: it goes on after a restart and after down and up. The proof has
# the functions up, down, restart, pid and status.
supervised() {
    local first
    eventually answered ping.log 2
    first=$(pid)
    restart
    eventually gone "$first"
    eventually answered ping.log $(($(grep -c ' ok ' ping.log) + 3))
    [ "$(pid)" != "$first" ] || fail "it was not restarted"
    for _ in 1 2; do
        down
        eventually is_down
        ends_with ping.log 'end of time--------:'
        first=$(grep -c ' ok ' ping.log)
        up
        eventually answered ping.log $((first + 2))
    done
    down
    eventually is_down
    stops=4 in_order ping.log
    expect "the exit statuses" 0 "$(sort -u finished)"
}
is_down() { status | grep -q '^down'; }
