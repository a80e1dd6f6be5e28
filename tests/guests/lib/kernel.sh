# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Debian's cloud kernel for guests, unpacked and not installed.

make_kernel() {
    local package
    # A machine's package lists may name a kernel that the archive has replaced.
    [ "$(id -u)" -ne 0 ] || apt-get -qq update
    package=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: //p' | head -n 1)
    [ -n "$package" ] || {
        echo "apt knows no linux-image-cloud-amd64: apt-get update?" >&2
        return 1
    }
    (cd "$1" && progress "kernel package" "$cache/logs/kernel.log" \
        apt-get -o APT::Sandbox::User=root download "$package")
    dpkg-deb -x "$1"/*.deb "$1/root"
    rm "$1"/*.deb
    mv "$1"/root/boot/vmlinuz-* "$1/kernel"
    # Debian 13 has its modules under /usr.
    [ -d "$1/root/lib" ] || mv "$1/root/usr/lib" "$1/root/lib"
    rm -rf "$1/root/boot" "$1/root/usr"
    depmod -b "$1/root" "$(basename "$1"/root/lib/modules/*)"
}

# Prints the directory with `kernel` and `root/lib/modules`. A newer kernel in the
# archive is no reason to build all guests again.
kernel_dir() {
    cached kernel "$(hash_of "$(. /etc/os-release && echo "$VERSION_CODENAME")" \
        "$guests/lib/kernel.sh")" make_kernel
}

# kernel_modules DIR MODULE... - the files of the modules and of what they need, in
# the order of loading; what is built into the kernel is left out.
kernel_modules() {
    local root=$1/root version module
    version=$(basename "$root"/lib/modules/*)
    shift
    for module in "$@"; do
        modprobe -d "$root" -S "$version" --show-depends "$module" 2>/dev/null |
            sed -n 's/^insmod \([^ ]*\).*/\1/p'
    done | awk '!seen[$0]++'
}
