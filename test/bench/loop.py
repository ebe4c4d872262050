"""loop.py SECONDS COUNT LOG COMMAND HOST - pinglog as a Python loop: three
lines a cycle, a timeout for each ping, cycles on a grid of the monotonic clock."""

import subprocess
import sys
import time

seconds, count, path, command, host = sys.argv[1:]
interval = float(seconds)
with open(path, "a", buffering=1) as log:
    begin = time.monotonic()
    for cycle in range(1, int(count) + 1):
        log.write(f"start time---------:{time.ctime()}\n")
        try:
            ping = subprocess.run([*command.split(), "-c", "1", host], text=True,
                                  stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, timeout=interval)
            reply = ping.stdout
            if ping.returncode == 0:
                milliseconds = reply.split("time=")[-1].split(" ms")[0]
                verdict = f"ok {milliseconds} ms"
            else:
                last_line = reply.strip().split("\n")[-1]
                verdict = f"fail {last_line}"
        except subprocess.TimeoutExpired:
            verdict = f"fail no answer in {seconds} s"
        log.write(f"ping result--------:{host} {verdict}\n")
        time.sleep(max(0, begin + cycle * interval - time.monotonic()))
        log.write(f"end of time--------:{time.ctime()}\n")
