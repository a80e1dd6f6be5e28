# SPDX-License-Identifier: LGPL-2.1-or-later
#
# A disk with gcc, what it shall build (our workload) and an SSH server, of the suite
# of this machine; it stands beside the Debian guest's disk and boots that guest too.

make_tools() {
    local root=$1/root
    [ "$(id -u)" -eq 0 ] || {
        echo "the tools' disk is built with debootstrap, which needs root" >&2
        return 1
    }
    progress "tools: packages" "$cache/logs/tools.log" \
        debootstrap --variant=minbase --include=gcc,libc6-dev,openssh-server \
        "$(debian_suite)" "$root" "$(apt_main_archive)"
    mkdir "$root/guest" "$root/src"
    cp "$guests"/workload/*.[ch] "$root/src"
    cp "$guests/tools/sshd_config" "$root/etc/ssh/guest_config"
    rm -f "$root/sbin/init" "$root"/etc/ssh/ssh_host_*
    install -m 755 "$guests/tools/init" "$root/sbin/init"
    # Every byte is copied once in each measurement.
    rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* \
        "$root"/usr/share/{doc,man,locale}/*
    progress "tools: file system" "$cache/logs/tools-disk.log" \
        mkfs.ext4 -q -d "$root" -L tools -E lazy_itable_init=0,lazy_journal_init=0 \
        "$1/disk.raw" 1G
    "$("$scripts/qemu" path)/qemu-img" convert -f raw -O qcow2 "$1/disk.raw" "$1/disk.qcow2"
    rm -rf "$root" "$1/disk.raw"
}

tools_dir() {
    cached tools "$(hash_of "$(debian_suite)" "$guests"/tools/* "$guests"/workload/*.[ch] \
        "$guests/lib/tools.sh")" make_tools
}
