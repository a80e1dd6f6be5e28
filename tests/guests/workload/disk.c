// SPDX-License-Identifier: LGPL-2.1-or-later
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "workload.h"

enum { kWriters = 2, kMaxBlocks = 16384, kBlockBytes = kPageBytes };

// Writer w owns the blocks b with b % kWriters == w. It holds its lock from before
// a write until the completion is noted, so whoever holds the lock knows exactly
// what the block must hold. A machine captured in the middle of a write has the
// lock held too, and finishes the write after the restore.
static struct writer {
  pthread_mutex_t lock;
  pthread_t thread;
  uint64_t random;
  uint64_t completed;
  uint64_t* buffer;
} writers[kWriters];

static struct {
  const char* path;
  int fd;
  uint64_t count;
  uint32_t done[kMaxBlocks];  // generation of the last completed write, RAM only
  uint64_t rate;
  bool running;
  volatile bool stop;
  volatile int error;
} disk = {.fd = -1};

void disk_use(const char* path) { disk.path = path; }

static const char* open_disk(void) {
  if (!disk.path) return "no disk was given to the workload";
  disk.fd = open(disk.path, O_RDWR | O_DIRECT | O_DSYNC | O_CLOEXEC);
  if (disk.fd < 0) return "cannot open the disk";
  off_t size = lseek(disk.fd, 0, SEEK_END);
  disk.count = size < 0 ? 0 : (uint64_t)size / kBlockBytes;
  if (disk.count > kMaxBlocks) disk.count = kMaxBlocks;
  if (disk.count < kWriters) return "the disk is too small";
  for (int w = 0; w < kWriters; ++w) {
    pthread_mutex_init(&writers[w].lock, NULL);
    writers[w].random = g_nonce + (uint64_t)w + 1;
    writers[w].buffer = aligned_alloc(kBlockBytes, kBlockBytes);
    if (!writers[w].buffer) return "not enough memory";
  }
  return NULL;
}

static void write_random_block(void* context) {
  struct writer* writer = context;
  uint64_t w = (uint64_t)(writer - writers);
  uint64_t block = random_next(&writer->random) % (disk.count / kWriters) * kWriters + w;
  pthread_mutex_lock(&writer->lock);
  uint32_t generation = disk.done[block] + 1;
  content_fill(writer->buffer, block, generation);
  ssize_t n = pwrite(disk.fd, writer->buffer, kBlockBytes, (off_t)(block * kBlockBytes));
  if (n == kBlockBytes) {
    disk.done[block] = generation;
    ++writer->completed;
  } else {
    disk.error = n < 0 ? errno : EIO;
  }
  pthread_mutex_unlock(&writer->lock);
}

static void* writer_main(void* context) {
  run_at_rate(disk.rate, &disk.stop, write_random_block, context);
  return NULL;
}

void disk_stop(void) {
  if (!disk.running) return;
  disk.stop = true;
  for (int w = 0; w < kWriters; ++w) pthread_join(writers[w].thread, NULL);
  disk.running = false;
}

const char* disk_load(uint64_t writes_per_second) {
  disk_stop();
  if (!writes_per_second) return NULL;
  const char* problem = disk.fd < 0 ? open_disk() : NULL;
  if (problem) return problem;
  disk.rate = (writes_per_second + kWriters - 1) / kWriters;
  disk.stop = false;
  disk.running = true;
  for (int w = 0; w < kWriters; ++w) {
    if (pthread_create(&writers[w].thread, NULL, writer_main, &writers[w]) != 0) {
      return "no thread for the disk load";
    }
  }
  return NULL;
}

// `buffer` is one aligned block.
static bool block_is_right(uint64_t block, uint64_t* buffer, char* text, size_t size) {
  uint32_t expected = disk.done[block];
  if (!expected) return true;
  if (pread(disk.fd, buffer, kBlockBytes, (off_t)(block * kBlockBytes)) != kBlockBytes) {
    snprintf(text, size, "disk block %" PRIu64 " cannot be read: %s", block, strerror(errno));
    return false;
  }
  if (content_is(buffer, block, expected)) return true;
  snprintf(text, size,
           "disk block %" PRIu64 " must hold generation %" PRIu32 ", its header says block %" PRIu64
           " generation %" PRIu64 "%s",
           block, expected, buffer[1], buffer[2], buffer[0] == g_nonce ? "" : " of another boot");
  return false;
}

bool disk_verify(char* text, size_t size) {
  uint64_t* buffer = aligned_alloc(kBlockBytes, kBlockBytes);
  bool right = buffer != NULL;
  uint64_t blocks = 0;
  for (uint64_t block = 0; right && disk.fd >= 0 && block < disk.count; ++block) {
    struct writer* writer = &writers[block % kWriters];
    pthread_mutex_lock(&writer->lock);
    right = block_is_right(block, buffer, text, size);
    blocks += disk.done[block] != 0;
    pthread_mutex_unlock(&writer->lock);
  }
  free(buffer);
  if (right && disk.error) {
    snprintf(text, size, "a disk write failed: %s", strerror(disk.error));
    right = false;
  }
  if (right) snprintf(text, size, "blocks=%" PRIu64, blocks);
  return right;
}

uint64_t disk_blocks_written(void) {
  uint64_t sum = 0;
  for (int w = 0; w < kWriters; ++w) sum += writers[w].completed;
  return sum;
}
