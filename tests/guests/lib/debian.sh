# SPDX-License-Identifier: LGPL-2.1-or-later
#
# A Debian root file system with PostgreSQL, Redis, nginx and our workload, of the
# suite of this machine. Booted with linux-small's kernel and initramfs.

. "$scripts/lib/apt.sh"

debian_suite() {
    . /etc/os-release && echo "$VERSION_CODENAME"
}

make_debian() {
    local root=$1/root propagation=private qemu
    qemu=$("$scripts/qemu" path)
    [ "$(id -u)" -eq 0 ] || {
        echo "the Debian guest is built with debootstrap, which needs root" >&2
        return 1
    }
    progress "Debian guest: base system" "$cache/logs/debian-base.log" \
        debootstrap --variant=minbase "$(debian_suite)" "$root" "$(apt_main_archive)"
    cp "$guests/debian/configure" "$root/configure"
    # In a mount namespace of its own: however this ends, no mount is left. Where
    # / is a plain chroot, a namespace cannot be made private; hence the umount.
    unshare -m true 2>/dev/null || propagation=unchanged
    progress "Debian guest: services" "$cache/logs/debian-services.log" \
        unshare -m --propagation "$propagation" sh -c '
            mount -t proc proc "$1/proc" || exit
            chroot "$1" /configure
            result=$?
            umount "$1/proc"
            exit $result' sh "$root"
    rm "$root/configure"
    rm -f "$root/sbin/init"
    install -m 755 "$guests/debian/init" "$root/sbin/init"
    install -m 755 "$(workload_dir)/workload" "$root/usr/local/bin/workload"
    # Inode tables are written now: the kernel would do it in the guest, later.
    progress "Debian guest: file system" "$cache/logs/debian-disk.log" \
        mkfs.ext4 -q -d "$root" -L guest -E lazy_itable_init=0,lazy_journal_init=0 \
        "$1/disk.raw" 2G
    "$qemu/qemu-img" convert -f raw -O qcow2 "$1/disk.raw" "$1/disk.qcow2"
    rm -rf "$root" "$1/disk.raw"
}

debian_dir() {
    cached debian "$(hash_of "$(debian_suite)" "$(workload_dir)" "$guests"/debian/* \
        "$guests/lib/debian.sh")" make_debian
}
