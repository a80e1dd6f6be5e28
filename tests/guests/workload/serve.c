// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The line protocol: one command a line, one line of answer. README.md lists it.
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "workload.h"

// One command that changes or walks the load at a time; `counter` and the like
// are answered meanwhile.
static pthread_mutex_t load_lock = PTHREAD_MUTEX_INITIALIZER;

static void answer_load(const char* arguments, char* text, size_t size) {
  uint64_t mebibytes = 0, pages = 0, writes = 0;
  if (sscanf(arguments, "%" SCNu64 " %" SCNu64 " %" SCNu64, &mebibytes, &pages, &writes) < 2) {
    snprintf(text, size, "bad: use: load MiB PAGES-PER-SECOND [DISK-WRITES-PER-SECOND]");
    return;
  }
  const char* problem = memory_load(mebibytes, pages);
  if (!problem) problem = disk_load(writes);
  snprintf(text, size, problem ? "bad: %s" : "ok", problem);
}

static void answer_verify(char* text, size_t size) {
  char memory[256] = "", disk[256] = "";
  bool memory_right = memory_verify(memory, sizeof memory);
  bool disk_right = disk_verify(disk, sizeof disk);
  if (memory_right && disk_right) {
    snprintf(text, size, "ok %s %s", memory, disk);
  } else {
    snprintf(text, size, "bad: %s%s%s", memory_right ? "" : memory, memory_right || disk_right ? "" : "; ",
             disk_right ? "" : disk);
  }
}

static void power_off(void) {
  sync();
  reboot(RB_POWER_OFF);
}

static void answer(const char* command, char* text, size_t size) {
  if (strcmp(command, "nonce") == 0) {
    snprintf(text, size, "%016" PRIx64, g_nonce);
  } else if (strcmp(command, "counter") == 0) {
    snprintf(text, size, "%" PRIu64, counter_value());
  } else if (strcmp(command, "gap") == 0) {
    snprintf(text, size, "%" PRIu64, counter_longest_gap_us());
  } else if (strcmp(command, "time") == 0) {
    snprintf(text, size, "%" PRIu64 " %" PRIu64, clock_ns(CLOCK_REALTIME), clock_ns(CLOCK_MONOTONIC));
  } else if (strcmp(command, "written") == 0) {
    snprintf(text, size, "%" PRIu64 " %" PRIu64, memory_pages_written(), disk_blocks_written());
  } else if (strcmp(command, "poweroff") == 0) {
    power_off();
  } else {
    pthread_mutex_lock(&load_lock);
    if (strcmp(command, "verify") == 0) {
      answer_verify(text, size);
    } else if (strcmp(command, "stop") == 0) {
      memory_stop();
      disk_stop();
      snprintf(text, size, "ok");
    } else if (strncmp(command, "load ", 5) == 0) {
      answer_load(command + 5, text, size);
    } else {
      snprintf(text, size, "bad: unknown command");
    }
    pthread_mutex_unlock(&load_lock);
  }
}

static bool write_all(int fd, const char* text, size_t size) {
  while (size > 0) {
    ssize_t n = write(fd, text, size);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) {
      usleep(1000);
      continue;
    }
    if (n <= 0) return false;
    text += n;
    size -= (size_t)n;
  }
  return true;
}

// Serves until end of file; a virtio port nobody has open on the host reads as
// end of file too, so a device is opened for good and asked again.
static void serve_fd(int fd, bool end_is_final) {
  char line[256], text[640];
  size_t length = 0;
  for (;;) {
    char byte;
    ssize_t n = read(fd, &byte, 1);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 || (n == 0 && end_is_final)) return;
    if (n == 0) {
      usleep(50000);
      continue;
    }
    if (byte != '\n' && byte != '\r') {
      if (length < sizeof line - 1) line[length++] = byte;
      continue;
    }
    if (length == 0) continue;
    line[length] = 0;
    length = 0;
    answer(line, text, sizeof text - 1);
    strcat(text, "\n");
    if (!write_all(fd, text, strlen(text))) return;
  }
}

static void* connection_main(void* argument) {
  int fd = (int)(intptr_t)argument;
  serve_fd(fd, true);
  close(fd);
  return NULL;
}

static void detach(void* (*run)(void*), void* argument) {
  pthread_t thread;
  if (pthread_create(&thread, NULL, run, argument) == 0) pthread_detach(thread);
}

static void* listen_main(void* argument) {
  int listener = (int)(intptr_t)argument;
  for (;;) {
    int fd = accept(listener, NULL, NULL);
    if (fd < 0) continue;
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    detach(connection_main, (void*)(intptr_t)fd);
  }
  return NULL;
}

void serve_tcp(int port) {
  int on = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(listener, (struct sockaddr*)&address, sizeof address) != 0 || listen(listener, 64) != 0) {
    perror("workload: TCP port");
    return;
  }
  detach(listen_main, (void*)(intptr_t)listener);
}

static void* device_main(void* argument) {
  serve_fd((int)(intptr_t)argument, false);
  return NULL;
}

void serve_device(const char* path) {
  int fd = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (fd < 0) return;
  struct termios settings;
  if (tcgetattr(fd, &settings) == 0) {
    cfmakeraw(&settings);
    settings.c_cflag |= CLOCAL;
    tcsetattr(fd, TCSANOW, &settings);
  }
  detach(device_main, (void*)(intptr_t)fd);
}
