// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Multiboot entry: 32-bit protected mode, flat segments, no paging.
#define MAGIC 0x1BADB002
#define FLAGS 0x2 // memory sizes wanted

    .section .multiboot, "a"
    .align 4
    .long MAGIC, FLAGS, -(MAGIC + FLAGS)

    .text
    .globl _start
_start:
    cli
    mov $stack_end, %esp
    push %ebx
    call guest_main
1:  hlt
    jmp 1b

    .bss
    .align 16
    .skip 16384
stack_end:
    .section .note.GNU-stack, "", @progbits
