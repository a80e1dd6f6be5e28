// SPDX-License-Identifier: LGPL-2.1-or-later
//
// A machine without an operating system that keeps the same promises as the
// workload: a nonce in RAM, a counter, and pages whose content it can verify. It
// uses nothing that a CPU of 1995 lacks, so KVM runs it also where Linux hangs.
//
// Command line: mib=N (memory to dirty, default all that the firmware does not
// use), rate=N (pages a second, default 1000; 0 = as fast as it goes), hot=N
// (percent of the pages that take 90 % of the writes, default 100 = all alike),
// words=N (32-bit words written in each page, 2 to 1024; the default of 4 is for
// a KVM that emulates every instruction, 150,000 a second), flash=N (address of flash
// to be written all the time), ide=1 (cancel transfers of an IDE disk all the time).
//
// Memory that QEMU hands out is zero where the firmware has not been, so nothing is
// initialised: a page of generation 0 must still be all zero.
#include <stdbool.h>

#include "bare.h"

enum {
  kPageBytes = 4096,
  kMaxWords = kPageBytes / 4,
  kGenerations = 4 << 20,  // array of expected generations, below the pages
  kFirstPage = 16 << 20,
  kFirmware = 17 << 20,  // at the top: SeaBIOS's tables, and below them what is left of its start
  kMaxPages = 0x80000000u / kPageBytes,
  kCom1 = 0x3f8,
  kCom2 = 0x2f8,
  kPanic = 0x505,         // QEMU's device pvpanic
  kPowerControl = 0x604,  // ACPI's PM1a control, where SeaBIOS puts it
  kSleepS3 = 1 << 13 | 1 << 10,
  kSleepS5 = 1 << 13,
  kResetControl = 0xcf9,
};

struct multiboot_info {
  uint32_t flags, mem_lower_kib, mem_upper_kib, boot_device, command_line;
};

static uint32_t* const generations = (uint32_t*)kGenerations;
static uint32_t page_count, hot_count, words = 4, rate = 1000, nonce, counter, written, gap_ms, flash, ide;
static uint32_t ticks_per_us, longest_us, second_us;
static uint32_t random_state = 2463534242u;
static bool paused;

static inline uint64_t tsc(void) {
  uint64_t value;
  __asm__ volatile("rdtsc" : "=A"(value));
  return value;
}

static uint32_t random_next(uint32_t* state) {
  uint32_t x = *state;
  x ^= x << 13;
  x ^= x >> 17;
  x ^= x << 5;
  return *state = x;
}

static uint32_t seed_of(uint32_t page, uint32_t generation) {
  uint32_t seed = nonce ^ page * 0x9e3779b9u ^ generation * 0x85ebca6bu;
  return seed ? seed : 1;
}

static uint32_t* page_at(uint32_t page) { return (uint32_t*)(kFirstPage + page * kPageBytes); }

static void write_page(uint32_t page) {
  uint32_t *content = page_at(page), generation = generations[page] + 1;
  uint32_t noise = seed_of(page, generation);
  content[0] = page;
  content[1] = generation;
  for (uint32_t i = 2; i < words; ++i) content[i] = i % 2 ? generation : random_next(&noise);
  generations[page] = generation;
  ++written;
}

static uint32_t microseconds(uint64_t ticks) { return (ticks >> 32 ? ~0u : (uint32_t)ticks) / ticks_per_us; }

// From `began`, when it could have begun, until the next one can: where the processor stands still beside the store
// counts too.
static uint64_t write_timed(uint32_t page, uint64_t began) {
  write_page(page);
  uint64_t ended = tsc();
  uint32_t us = microseconds(ended - began);
  if (us > longest_us) {
    second_us = longest_us;
    longest_us = us;
  } else if (us > second_us) {
    second_us = us;
  }
  return ended;
}

static bool page_is_right(uint32_t page) {
  const uint32_t* content = page_at(page);
  uint32_t generation = generations[page], noise = seed_of(page, generation);
  if (content[0] != (generation ? page : 0) || content[1] != generation) return false;
  for (uint32_t i = 2; i < words; ++i) {
    uint32_t expected = i % 2 || !generation ? generation : random_next(&noise);
    if (content[i] != expected) return false;
  }
  return true;
}

static uint32_t pick_page(void) {
  bool hot = random_next(&random_state) % 10 != 0;
  return random_next(&random_state) % (hot ? hot_count : page_count);
}

static void put_char(uint16_t port, char c) {
  while (!(inb(port + 5) & 0x20)) {
  }
  outb(port, (uint8_t)c);
}

static void put_text(uint16_t port, const char* text) {
  while (*text) put_char(port, *text++);
}

static void put_number(uint16_t port, uint32_t value, uint32_t base, int min_digits) {
  char digits[12];
  int n = 0;
  do {
    digits[n++] = "0123456789abcdef"[value % base];
    value /= base;
  } while (value || n < min_digits);
  while (n > 0) put_char(port, digits[--n]);
}

static uint32_t parse_number(const char* text) {
  uint32_t value = 0;
  while (*text >= '0' && *text <= '9') value = value * 10 + (uint32_t)(*text++ - '0');
  return value;
}

// The first number in the line; 0: there is none.
static uint32_t number_in(const char* line) {
  while (*line && (*line < '0' || *line > '9')) ++line;
  return parse_number(line);
}

// Value of `name` (which ends in '=') in the command line, or `otherwise`.
static uint32_t option(const char* line, const char* name, uint32_t otherwise) {
  for (; *line; ++line) {
    int i = 0;
    while (name[i] && line[i] == name[i]) ++i;
    if (!name[i]) return parse_number(line + i);
  }
  return otherwise;
}

static void verify(uint16_t port) {
  uint32_t bad = 0, first = 0;
  for (uint32_t page = 0; page < page_count; ++page) {
    if (!page_is_right(page) && bad++ == 0) first = page;
  }
  put_text(port, bad ? "bad: " : "ok pages=");
  put_number(port, bad ? bad : page_count, 10, 1);
  if (bad) {
    put_text(port, " pages are wrong, the first is ");
    put_number(port, first, 10, 1);
  }
}

// Reads a word of `count` random pages; of each how long that took, in microseconds.
static void touch(uint16_t port, uint32_t count) {
  for (uint32_t i = 0; i < count; ++i) {
    const volatile uint32_t* at = page_at(random_next(&random_state) % page_count);
    uint64_t began = tsc();
    (void)*at;
    put_number(port, microseconds(tsc() - began), 10, 1);
    put_char(port, ' ');
  }
}

// The first letter of the line is the command.
static void answer(uint16_t port, const char* line) {
  switch (line[0]) {
    case 'n':
      put_number(port, nonce, 16, 8);
      break;
    case 'c':
      put_number(port, counter, 10, 1);
      break;
    case 'w':
      put_number(port, written, 10, 1);
      break;
    case 'g':
      put_number(port, gap_ms * 1000, 10, 1);
      gap_ms = 0;
      break;
    case 'm':
      put_number(port, longest_us, 10, 1);
      put_char(port, ' ');
      put_number(port, second_us, 10, 1);
      longest_us = second_us = 0;
      break;
    case 't':
      touch(port, number_in(line));
      break;
    case 'v':
      verify(port);
      break;
    case 'l':
      rate = number_in(line);
      paused = false;
      put_text(port, "ok");
      break;
    case 's':
    case 'p':
      paused = true;
      put_text(port, "ok");
      break;
    case 'r':
      paused = false;
      put_text(port, "ok");
      break;
    // Letters of no other command: of one that was sent too early only the end arrives.
    case 'k':
      put_text(port, "ok");
      outb(kPanic, 1);
      break;
    case 'z':
      outw(kPowerControl, kSleepS3);
      break;
    case 'x':
      outw(kPowerControl, kSleepS5);
      break;
    case 'b':
      outb(kResetControl, 6);
      break;
    default:
      put_text(port, "bad: unknown command");
  }
  put_char(port, '\n');
}

struct line {
  uint16_t port;
  uint32_t length;
  char text[64];
};

static void poll(struct line* line) {
  // A port that is not there reads as all ones.
  uint8_t status = inb(line->port + 5);
  if (status == 0xff || !(status & 1)) return;
  char c = (char)inb(line->port);
  if (c != '\n' && c != '\r') {
    if (line->length < sizeof line->text - 1) line->text[line->length++] = c;
  } else if (line->length) {
    line->text[line->length] = 0;
    line->length = 0;
    answer(line->port, line->text);
  }
}

// TSC steps in 10 ms of the PIT's second channel, divided by ten.
static uint32_t try_tsc_per_ms(void) {
  const uint32_t pit_steps = 11932;
  outb(0x61, (inb(0x61) & ~2) | 1);
  outb(0x43, 0xb0);
  outb(0x42, pit_steps & 0xff);
  outb(0x42, pit_steps >> 8);
  uint64_t start = tsc();
  while (!(inb(0x61) & 0x20)) {
  }
  uint32_t steps = (uint32_t)(tsc() - start);
  return steps / 10 ? steps / 10 : 1;
}

// The middle one of some tries: a busy host makes one too long or too short.
static uint32_t measure_tsc_per_ms(void) {
  enum { kTries = 5 };
  uint32_t sorted[kTries];
  for (int count = 0; count < kTries; ++count) {
    uint32_t value = try_tsc_per_ms();
    int at = count;
    for (; at > 0 && sorted[at - 1] > value; --at) sorted[at] = sorted[at - 1];
    sorted[at] = value;
  }
  return sorted[kTries / 2];
}

void guest_main(const struct multiboot_info* info) {
  const char* options = (const char*)info->command_line;
  uint32_t end = (1024 + info->mem_upper_kib) * 1024;  // mem_upper starts at 1 MiB
  page_count = (end - kFirmware - kFirstPage) / kPageBytes;
  uint32_t wanted = option(options, "mib=", 0) * 256;
  if (wanted && wanted < page_count) page_count = wanted;
  if (page_count > kMaxPages) page_count = kMaxPages;
  rate = option(options, "rate=", rate);
  words = option(options, "words=", words);
  if (words < 2) words = 2;
  if (words > kMaxWords) words = kMaxWords;
  flash = option(options, "flash=", 0);
  ide = option(options, "ide=", 0);
  hot_count = page_count / 100 * option(options, "hot=", 100);
  if (!hot_count || hot_count > page_count) hot_count = page_count;
  nonce = (uint32_t)tsc() * 2654435761u | 1;

  struct line lines[] = {{.port = kCom1}, {.port = kCom2}};
  put_text(kCom1, "bare: ready\n");

  uint32_t per_ms = measure_tsc_per_ms(), thousandths = 0;
  ticks_per_us = per_ms < 1000 ? 1 : per_ms / 1000;
  uint64_t last = tsc(), began = last;
  for (;;) {
    ++counter;
    uint64_t now = tsc(), passed = now - last;
    if (passed >= per_ms) {
      // Writes at a rate are due each millisecond, when those before have ended.
      uint64_t late = now - (rate && last + per_ms > began ? last + per_ms : began);
      // After a restore the TSC may have jumped: count it as one second.
      uint32_t ms = passed >> 32 ? 1000 : (uint32_t)passed / per_ms;
      last += passed;
      if (ms > gap_ms) gap_ms = ms;
      if (ms > 100) ms = 100;
      poll(&lines[0]);
      poll(&lines[1]);
      began = tsc() - late;
      for (thousandths += rate * ms; thousandths >= 1000 && !paused; thousandths -= 1000) {
        began = write_timed(pick_page(), began);
      }
      if (paused) thousandths = 0;
      if (rate || paused) began = tsc();
    }
    if (flash) write_flash(flash);
    if (ide) cancel_transfer();
    if (rate == 0 && !paused) began = write_timed(pick_page(), began);
    __asm__ volatile("pause");
  }
}
