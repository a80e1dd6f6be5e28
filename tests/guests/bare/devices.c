// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Devices with which a processor itself waits for a disk, inside one instruction:
// flash that is programmed, and an IDE controller whose transfer is cancelled.
#include "bare.h"

enum {
  kFlashBytes = 4096,  // of the flash that is written
  kProgram = 0x40,
  kReadArray = 0xff,
  kPciAddress = 0xcf8,
  kPciData = 0xcfc,
  kIdeFunction = 1u << 31 | 1 << 11 | 1 << 8,  // PIIX: device 1, function 1
  kPciCommand = 0x04,
  kPciBar4 = 0x20,
  kBusMaster = 5,  // I/O ports and bus master
  kIde = 0x1f0,
  kSectors = 8,
  kReadDma = 0xc8,
  kStart = 9,  // to memory
  kLast = 1u << 31,
};

static uint32_t flash_written;

// One instruction, which the flash sees as three writes, again and again: a processor that is made to wait between two
// instructions has all of a disk request before it.
void write_flash(uint32_t address) {
  for (int i = 0; i < 8; i++) {
    volatile uint32_t* at = (volatile uint32_t*)(address + flash_written % kFlashBytes + 1);
    flash_written += sizeof(*at);
    *at = kProgram | (uint16_t)(flash_written * 7) << 8 | (uint32_t)kReadArray << 24;
  }
}

static uint32_t pci(uint32_t field) {
  outl(kPciAddress, kIdeFunction | field);
  return inl(kPciData);
}

void cancel_transfer(void) {
  static uint8_t buffer[kSectors * 512] __attribute__((aligned(4096)));
  static uint32_t table[2] __attribute__((aligned(8)));
  static uint16_t master;

  if (!master) {
    uint32_t command = pci(kPciCommand) | kBusMaster;
    outl(kPciData, command);
    master = (uint16_t)(pci(kPciBar4) & ~15u);
    table[0] = (uint32_t)buffer;
    table[1] = sizeof buffer | kLast;
  }
  outb(master + 2, 6);
  outl(master + 4, (uint32_t)table);
  outb(kIde + 6, 0xe0);
  outb(kIde + 2, kSectors);
  for (uint16_t part = 3; part <= 5; ++part) outb(kIde + part, 0);
  outb(kIde + 7, kReadDma);
  outb(master, kStart);
  outb(master, 0);
}
