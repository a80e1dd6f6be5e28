# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Debian's cloud kernel for guests, unpacked and not installed.

# Name of the package that linux-image-cloud-amd64 currently means.
kernel_package() {
    apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: //p' | head -n 1
}

make_kernel() {
    local package
    package=$(kernel_package)
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

# Prints the directory with `kernel` and `root/lib/modules`.
kernel_dir() {
    cached kernel "$(hash_of "$(kernel_package)" "$guests/lib/kernel.sh")" make_kernel
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
