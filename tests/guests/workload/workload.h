// SPDX-License-Identifier: LGPL-2.1-or-later
//
// A guest program that knows what all of its memory and disk must hold, so that a
// restored machine can be told from a rebooted, an older and a damaged one. It
// needs nothing but a kernel: it runs as the only program of the small guest and
// as a service in the Debian guest.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { kPageBytes = 4096, kWordsPerPage = kPageBytes / 8 };

// Random at start and kept in RAM only: a machine that was rebooted has another.
extern uint64_t g_nonce;

// What a page of memory and a block of the disk look like: words 0..3 are nonce,
// number, generation and checksum, then half noise, half repetition, so that it
// compresses about as well as the memory of real programs.
void content_fill(uint64_t* words, uint64_t number, uint64_t generation);
// True if the whole page is exactly what content_fill made of these arguments.
bool content_is(const uint64_t* words, uint64_t number, uint64_t generation);

uint64_t random_next(uint64_t* state);
uint64_t clock_ns(int clock_id);

// Calls step(context) `rate` times a second until *stop; what cannot be kept up
// with is dropped, not caught up.
void run_at_rate(uint64_t rate, const volatile bool* stop, void (*step)(void*), void* context);

// Each starts a load, replacing an earlier one; 0 MiB or rate 0 means none.
// Return NULL, or what is wrong.
const char* memory_load(uint64_t mebibytes, uint64_t pages_per_second);
const char* disk_load(uint64_t writes_per_second);
// Stop writing; what was written stays and can still be verified.
void memory_stop(void);
void disk_stop(void);

// Write a one-line finding to `text`; true if all is as it must be.
bool memory_verify(char* text, size_t size);
bool disk_verify(char* text, size_t size);

uint64_t memory_pages_written(void);
uint64_t disk_blocks_written(void);

// The disk or file that disk_load writes to; it is overwritten.
void disk_use(const char* path);

void counter_start(void);
uint64_t counter_value(void);
// The longest time between two steps of the counter since the last call: what
// the guest itself sees of a pause.
uint64_t counter_longest_gap_us(void);

// Serve the line protocol on a TCP port, and on a serial device (a thread each).
void serve_tcp(int port);
void serve_device(const char* path);
