# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Kernel + initramfs with busybox and our workload. The same initramfs boots the
# Debian guest: given root= on the kernel command line, it goes on there.

modules=(virtio_pci virtio_mmio virtio_blk virtio_scsi sd_mod virtio_net virtio_console
    virtio_balloon virtio_rng nvme ahci e1000 ext4)

make_workload() {
    gcc -std=gnu11 -O2 -g -Wall -Wextra -static -pthread -o "$1/workload" "$guests"/workload/*.c
}

workload_dir() {
    cached workload "$(hash_of "$guests"/workload/*.[ch] "$(gcc -dumpfullversion)")" make_workload
}

make_linux_small() {
    local kernel workload tree=$1/tree file base number=100
    kernel=$(kernel_dir)
    workload=$(workload_dir)
    mkdir -p "$tree"/{bin,dev,proc,sys,modules,mnt,tmp}
    cp /bin/busybox "$tree/bin/busybox"
    cp "$workload/workload" "$tree/bin/workload"
    cp "$guests/linux-small/init" "$tree/init"
    chmod 755 "$tree/init"
    # Numbered, so that init loads them in order; unpacked, as insmod wants them.
    while read -r file; do
        number=$((number + 1))
        base=$(basename "$file")
        cp "$file" "$tree/modules/$number-$base"
        case $base in
        *.xz) xz -d "$tree/modules/$number-$base" ;;
        *.zst) zstd -q -d --rm "$tree/modules/$number-$base" ;;
        esac
    done < <(kernel_modules "$kernel" "${modules[@]}")
    (cd "$tree" && find . | LC_ALL=C sort | cpio --quiet -o -H newc --owner=0:0) >"$1/initrd"
    cp "$kernel/kernel" "$1/kernel"
    rm -rf "$tree"
}

linux_small_dir() {
    cached linux-small "$(hash_of "$(kernel_dir)" "$(workload_dir)" "$guests/linux-small/init" \
        "$guests/lib/linux_small.sh" /bin/busybox)" make_linux_small
}
