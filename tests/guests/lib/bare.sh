# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Our own multiboot program; gcc makes 32-bit code without a 32-bit C library.

make_bare() {
    gcc -m32 -march=i586 -O2 -std=gnu11 -Wall -Wextra -Wno-array-bounds -ffreestanding -nostdlib \
        -fno-pic -no-pie -fno-stack-protector -fcf-protection=none -static \
        -Wl,-T,"$guests/bare/link.ld" -Wl,--build-id=none,--no-warn-rwx-segments \
        -o "$1/kernel" "$guests/bare/start.S" "$guests"/bare/*.c
}

bare_dir() {
    cached bare "$(hash_of "$guests"/bare/* "$guests/lib/bare.sh" "$(gcc -dumpfullversion)")" make_bare
}
