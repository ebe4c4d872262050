/* fakeping - what every program of this benchmark runs as its ping: it prints
 * the reply of an iputils ping to `-c 1 HOST` in one write, and exits. With the
 * host `silent` it prints nothing and waits for a signal. */

#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv) {
  const char *host = argv[argc - 1];
  char reply[1024];
  if (strcmp(host, "silent") == 0)
    pause();
  int size = snprintf(reply, sizeof reply,
                      "PING %.200s (127.0.0.1) 56(84) bytes of data.\n"
                      "64 bytes from 127.0.0.1: icmp_seq=1 ttl=64 "
                      "time=0.041 ms\n\n--- %.200s ping statistics ---\n"
                      "1 packets transmitted, 1 received, 0%% packet loss, "
                      "time 0ms\nrtt min/avg/max/mdev = "
                      "0.041/0.041/0.041/0.000 ms\n",
                      host, host);
  return write(STDOUT_FILENO, reply, size) != size;
}
