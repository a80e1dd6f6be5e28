// SPDX-License-Identifier: LGPL-2.1-or-later
//
// workload [DISK] - DISK is overwritten by the disk load.
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "workload.h"

uint64_t g_nonce;

static atomic_ullong counter;
static atomic_ullong longest_gap_us;

static void* counter_main(void* unused) {
  uint64_t last = clock_ns(CLOCK_MONOTONIC);
  for (;;) {
    usleep(5000);
    uint64_t now = clock_ns(CLOCK_MONOTONIC);
    if ((now - last) / 1000 > longest_gap_us) longest_gap_us = (now - last) / 1000;
    last = now;
    ++counter;
  }
  return unused;
}

void counter_start(void) {
  pthread_t thread;
  pthread_create(&thread, NULL, counter_main, NULL);
}

uint64_t counter_value(void) { return counter; }

uint64_t counter_longest_gap_us(void) { return atomic_exchange(&longest_gap_us, 0); }

// Never waits: a guest without a source of entropy must not hang at boot.
static uint64_t random_nonce(void) {
  uint64_t nonce = 0;
  int fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
  if (fd >= 0 && read(fd, &nonce, sizeof nonce) != sizeof nonce) nonce = 0;
  if (fd >= 0) close(fd);
  nonce ^= clock_ns(CLOCK_REALTIME);
  return nonce ? nonce : 1;
}

int main(int argc, char** argv) {
  g_nonce = random_nonce();
  if (argc > 1) disk_use(argv[1]);
  counter_start();
  serve_tcp(7);
  serve_device("/dev/ttyS1");
  serve_device("/dev/vport0p1");
  serve_device("/dev/vport1p1");
  puts("workload: ready");
  fflush(stdout);
  for (;;) pause();
}
