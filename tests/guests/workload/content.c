// SPDX-License-Identifier: LGPL-2.1-or-later
#include <time.h>

#include "workload.h"

uint64_t random_next(uint64_t* state) {
  uint64_t x = *state;
  x ^= x << 13;
  x ^= x >> 7;
  x ^= x << 17;
  return *state = x;
}

uint64_t clock_ns(int clock_id) {
  struct timespec now;
  clock_gettime(clock_id, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t seed_of(uint64_t number, uint64_t generation) {
  uint64_t seed = g_nonce ^ number * 0x9e3779b97f4a7c15u ^ generation * 0xc2b2ae3d27d4eb4fu;
  return seed ? seed : 1;
}

// The word at `index` >= 4; noise advances with every even index.
static uint64_t word_at(int index, uint64_t* noise, uint64_t generation) {
  return index % 2 == 0 ? random_next(noise) : generation;
}

void content_fill(uint64_t* words, uint64_t number, uint64_t generation) {
  uint64_t noise = seed_of(number, generation), sum = 0;
  for (int i = 4; i < kWordsPerPage; ++i) sum += words[i] = word_at(i, &noise, generation);
  words[0] = g_nonce;
  words[1] = number;
  words[2] = generation;
  words[3] = sum;
}

bool content_is(const uint64_t* words, uint64_t number, uint64_t generation) {
  uint64_t noise = seed_of(number, generation), sum = 0;
  if (words[0] != g_nonce || words[1] != number || words[2] != generation) return false;
  for (int i = 4; i < kWordsPerPage; ++i) {
    if (words[i] != word_at(i, &noise, generation)) return false;
    sum += words[i];
  }
  return words[3] == sum;
}

void run_at_rate(uint64_t rate, const volatile bool* stop, void (*step)(void*), void* context) {
  const uint64_t tick_ns = 10000000;
  uint64_t start = clock_ns(CLOCK_MONOTONIC), done = 0;
  while (!*stop) {
    uint64_t elapsed = clock_ns(CLOCK_MONOTONIC) - start;
    uint64_t due = (uint64_t)((double)elapsed * (double)rate / 1e9);
    for (uint64_t began = clock_ns(CLOCK_MONOTONIC); done < due && !*stop; ++done) {
      step(context);
      // Behind for good, or the machine stood still: start afresh.
      if (clock_ns(CLOCK_MONOTONIC) - began > 10 * tick_ns) {
        start = clock_ns(CLOCK_MONOTONIC);
        done = due = 0;
      }
    }
    struct timespec rest = {0, (long)tick_ns};
    nanosleep(&rest, NULL);
  }
}
