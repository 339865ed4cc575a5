#!/usr/bin/env bash
# Fetches what the tests in virtual machines need: QEMU, a Debian kernel and
# iproute2 for the guest, as packages of this machine's own suite. They are
# unpacked, not installed, below $VITA_CACHE (default ~/.cache/vita), and need
# no root:
#
#   vm/tree    the packages $tools and all that they need, libc included
#   vm/kernel  the kernel that the package $kernel stands for
#
# Does nothing where they are there. Remove the folder to have them anew.
set -euo pipefail
tools=(qemu-system-x86 iproute2 kmod)
kernel=linux-image-amd64 # the generic one: it ships the drivers that the cloud kernel lacks

cache=${VITA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/vita}
want="${tools[*]} $kernel"
[ "$(cat "$cache/vm/complete" 2>/dev/null)" = "$want" ] && exit 0
mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9
[ "$(cat "$cache/vm/complete" 2>/dev/null)" = "$want" ] && exit 0

# A state of apt of its own, that knows no installed package, so that all that
# is needed is fetched; with this machine's mirrors and proxy, but none of its
# hooks, which may empty the archive folder.
work=$(mktemp -d "$cache/fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{lists,archives}/partial "$work/new/tree" "$work/new/kernel"
: >"$work/status"
apt-get indextargets --format 'deb $(REPO_URI) $(RELEASE) main' 'Created-By: Packages' | sort -u >"$work/sources.list"
cat >"$work/apt.conf" <<CONF
$(apt-config dump | grep -E '^Acquire::(https?|Retries)' || true)
Dir::State "$work";
Dir::State::status "$work/status";
Dir::State::lists "$work/lists";
Dir::Cache "$work";
Dir::Cache::archives "$work/archives";
Dir::Etc::main "/dev/null";
Dir::Etc::parts "/dev/null";
Dir::Etc::sourcelist "$work/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Log "$work";
APT::Sandbox::User "$(id -un)";
APT::Install-Recommends "false";
Acquire::Retries "3";
Acquire::Languages "none";
Debug::NoLocking "true";
CONF
export APT_CONFIG=$work/apt.conf DEBIAN_FRONTEND=noninteractive

# fetch leaves the given packages, and nothing else, in the archive folder.
fetch() {
	rm -f "$work"/archives/*.deb
	for try in 1 2 3; do
		if "$@" >"$work/log" 2>&1; then return 0; fi
		echo "setup: try $try to fetch packages for the virtual machines failed" >&2
		sleep $((try * 5))
		apt-get update >>"$work/log" 2>&1 || true
	done
	tail -n 20 "$work/log" >&2
	return 1
}

unpack() {
	local deb
	for deb in "$work"/archives/*.deb; do dpkg-deb -x "$deb" "$1"; done
}

echo "setup: fetching $want into $cache/vm"
fetch apt-get update
fetch apt-get -y -d install "${tools[@]}"
unpack "$work/new/tree"
image=$(apt-cache depends "$kernel" | awk '$1 == "Depends:" { print $2; exit }')
fetch bash -c "cd '$work/archives' && apt-get download '$image'"
unpack "$work/new/kernel"
rm -rf "$work"/new/*/usr/share/{doc,man,locale}
# The list of modules with what they need is made where a kernel is installed.
libraries=$work/new/tree/lib/x86_64-linux-gnu:$work/new/tree/usr/lib/x86_64-linux-gnu
for version in "$work"/new/kernel/lib/modules/*; do
	"$work/new/tree/lib64/ld-linux-x86-64.so.2" --argv0 depmod --library-path "$libraries" \
		"$work/new/tree/bin/kmod" -b "$work/new/kernel" "${version##*/}"
done
echo "$want" >"$work/new/complete"
rm -rf "$cache/vm"
mv "$work/new" "$cache/vm"
