// SPDX-License-Identifier: LGPL-2.1-or-later
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "workload.h"

static struct {
  // Guards everything here; the writer holds it for one page at a time, so a
  // page and its expected generation always agree outside of it.
  pthread_mutex_t lock;
  uint64_t* pages;
  uint32_t* generations;  // what each page must hold
  uint64_t count;
  uint64_t written;
  uint64_t random;
  uint64_t rate;
  pthread_t writer;
  bool running;
  volatile bool stop;
} memory = {.lock = PTHREAD_MUTEX_INITIALIZER, .random = 88172645463325252u};

static void write_page(uint64_t page) {
  uint32_t generation = memory.generations[page] + 1;
  content_fill(memory.pages + page * kWordsPerPage, page, generation);
  memory.generations[page] = generation;
  ++memory.written;
}

static void write_random_page(void* unused) {
  (void)unused;
  pthread_mutex_lock(&memory.lock);
  write_page(random_next(&memory.random) % memory.count);
  pthread_mutex_unlock(&memory.lock);
}

static void* writer_main(void* unused) {
  run_at_rate(memory.rate, &memory.stop, write_random_page, unused);
  return NULL;
}

void memory_stop(void) {
  if (!memory.running) return;
  memory.stop = true;
  pthread_join(memory.writer, NULL);
  memory.running = false;
}

static const char* allocate(uint64_t count) {
  if (memory.count) {
    munmap(memory.pages, memory.count * kPageBytes);
    free(memory.generations);
    memory.count = 0;
  }
  memory.pages = mmap(NULL, count * kPageBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  memory.generations = calloc(count, sizeof *memory.generations);
  if (memory.pages == MAP_FAILED || !memory.generations) return "not enough memory";
  memory.count = count;
  for (uint64_t page = 0; page < count; ++page) write_page(page);
  return NULL;
}

const char* memory_load(uint64_t mebibytes, uint64_t pages_per_second) {
  memory_stop();
  uint64_t count = mebibytes * (1024 * 1024 / kPageBytes);
  if (count && count != memory.count) {
    pthread_mutex_lock(&memory.lock);
    const char* problem = allocate(count);
    pthread_mutex_unlock(&memory.lock);
    if (problem) return problem;
  }
  if (!count || !pages_per_second) return NULL;
  memory.rate = pages_per_second;
  memory.stop = false;
  memory.running = pthread_create(&memory.writer, NULL, writer_main, NULL) == 0;
  return memory.running ? NULL : "no thread for the memory load";
}

bool memory_verify(char* text, size_t size) {
  uint64_t bad = 0;
  for (uint64_t page = 0; page < memory.count; ++page) {
    pthread_mutex_lock(&memory.lock);
    const uint64_t* words = memory.pages + page * kWordsPerPage;
    uint32_t expected = memory.generations[page];
    if (!content_is(words, page, expected) && bad++ == 0) {
      snprintf(text, size,
               "memory page %" PRIu64 " must hold generation %" PRIu32 ", its header says page %" PRIu64
               " generation %" PRIu64,
               page, expected, words[1], words[2]);
    }
    pthread_mutex_unlock(&memory.lock);
  }
  size_t used = bad ? strlen(text) : 0;
  snprintf(text + used, size - used, bad ? "; %" PRIu64 " pages are wrong" : "pages=%" PRIu64,
           bad ? bad : memory.count);
  return bad == 0;
}

uint64_t memory_pages_written(void) { return memory.written; }
