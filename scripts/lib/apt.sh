# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Reach suites that the machine's apt is not configured for (backports, the
# sources of a newer Debian) without touching its configuration: a sources file
# derived from the machine's own, with lists and caches of its own.
# To be sourced by bash scripts.

# Prints the URI of the machine's main Debian archive. apt itself does the
# parsing, so one-line and deb822 sources both work.
apt_main_archive() {
    local codename
    codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' \
        'Created-By: Packages' 2>/dev/null |
        awk -v suite="$codename" '$2 == suite && $3 == "main" { print $1; exit }'
}

# apt_private DIR LINE... - set up DIR with a sources list made of LINEs, each
# "TYPE SUITE" (e.g. "deb-src trixie"), fetch the lists, and set the array
# APT_PRIVATE to the options that make apt-get and apt-cache use it.
apt_private() {
    local dir=$1 uri line signed=
    local keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    shift
    uri=$(apt_main_archive)
    if [ -z "$uri" ]; then
        echo "no Debian archive with component main is configured in apt" >&2
        return 1
    fi
    # apt reads as its own user: the directory must be passable for others.
    mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial"
    chmod 755 "$dir" "$dir/lists" "$dir/cache"
    # Keys of newer suites are in Debian's keyring package, not always in
    # apt's default trust.
    [ ! -e "$keyring" ] || signed="[signed-by=$keyring] "
    for line in "$@"; do
        printf '%s %s%s %s main\n' "${line%% *}" "$signed" "$uri" "${line#* }"
    done >"$dir/sources.list"
    APT_PRIVATE=(-o "Dir::Etc::SourceList=$dir/sources.list"
        -o Dir::Etc::SourceParts=/dev/null
        -o "Dir::State::Lists=$dir/lists"
        -o "Dir::Cache=$dir/cache"
        -o APT::Sandbox::User=root
        -o Acquire::Languages=none)
    apt-get "${APT_PRIVATE[@]}" -qq update
}
