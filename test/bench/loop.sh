#!/bin/sh
# loop.sh SECONDS COUNT LOG COMMAND HOST - pinglog as a shell loop: three lines
# a cycle, and timeout(1) bounds each ping. The sleep begins with the cycle, so
# that a ping does not delay the next cycle. The loop drifts all the same, by the
# time that its own commands take.

left=$2
while [ "$left" -gt 0 ]; do
    left=$((left - 1))
    sleep "$1" &
    date '+start time---------:%a %b %e %H:%M:%S %Y'
    if reply=$(timeout -k 1 "$1" $4 -c 1 "$5" 2>&1); then
        time=${reply#*time=}
        echo "ping result--------:$5 ok ${time%% ms*} ms"
    else
        echo "ping result--------:$5 fail $(echo "$reply" | grep transmitted)"
    fi
    wait
    date '+end of time--------:%a %b %e %H:%M:%S %Y'
done >>"$3"
