#!/usr/bin/env bash
# Fetches what the tests in virtual machines need: QEMU, iproute2 and a Debian
# kernel for the guest. They are unpacked, not installed, below $VITA_CACHE
# (default ~/.cache/vita), and need no root:
#
#   vm/tree    the packages $tools and all that they need, libc included
#   vm/kernel  the kernel that the package $kernel stands for
#
# and beside it, below server, the packages $server and all that they need: a small
# Debian with systemd, on which the gateway's package is tried.
#
# Kernel and server are of this machine's own suite. The tools are of a newer one and
# its backports, whatever this machine has: that QEMU has the network card igb,
# and takes device models of other processes (vfio-user).
#
# Does nothing where they are there. Remove the folders to have them anew.
set -euo pipefail
suite=trixie
tools=(qemu-system-x86 ovmf iproute2 ethtool kmod)
server=(systemd-sysv dpkg dash coreutils diffutils tar sed grep libc-bin util-linux mount iproute2)
kernel=linux-image-amd64 # the generic one: it ships the drivers that the cloud kernel lacks

cache=${VITA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/vita}
want="$suite-backports: ${tools[*]}; $kernel"
complete() { [ "$(cat "$cache/vm/complete" 2>/dev/null)" = "$want" ]; }
served() { [ "$(cat "$cache/server/complete" 2>/dev/null)" = "${server[*]}" ]; }
complete && served && exit 0
mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9
complete && served && exit 0

work=$(mktemp -d "$cache/fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/new/tree" "$work/new/kernel"
export DEBIAN_FRONTEND=noninteractive
options=$(apt-config dump | grep -E '^Acquire::(https?|Retries)' || true)

# mirrors prints what this machine has: an address and a suite on each line.
mirrors() { apt-get indextargets --no-release-info --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' 'Component: main' | sort -u; }
mirrors >"$work/mirrors"
own=$(. /etc/os-release && echo "$VERSION_CODENAME")
archive=$(awk -v s="$own" '$2 == s { print $1; exit }' "$work/mirrors")
security=$(awk -v s="$own-security" '$2 == s { print $1; exit }' "$work/mirrors")
[ -n "$archive" ] || { echo "setup: apt knows no mirror of $own: run 'apt-get update'" >&2; exit 1; }

# state makes a state of apt of its own, that knows no installed package, so that
# all that is needed is fetched; with this machine's mirrors and proxy, but none
# of its hooks, which may empty the archive folder. Further fetches are of it.
state() {
	dir=$work/$1
	mkdir -p "$dir"/{lists,archives}/partial
	: >"$dir/status"
	cat >"$dir/sources.list"
	cat >"$dir/apt.conf" <<-CONF
		$options
		Dir::State "$dir";
		Dir::State::status "$dir/status";
		Dir::State::lists "$dir/lists";
		Dir::Cache "$dir";
		Dir::Cache::archives "$dir/archives";
		Dir::Etc::main "/dev/null";
		Dir::Etc::parts "/dev/null";
		Dir::Etc::sourcelist "$dir/sources.list";
		Dir::Etc::sourceparts "/dev/null";
		Dir::Log "$dir";
		APT::Sandbox::User "$(id -un)";
		APT::Install-Recommends "false";
		Acquire::Retries "3";
		Acquire::Languages "none";
		Debug::NoLocking "true";
	CONF
	export APT_CONFIG=$dir/apt.conf
	fetch apt-get update
}

# fetch leaves the given packages, and nothing else, in the archive folder.
fetch() {
	rm -f "$dir"/archives/*.deb
	for try in 1 2 3; do
		if "$@" >"$dir/log" 2>&1; then return 0; fi
		echo "setup: try $try to fetch packages for the virtual machines failed" >&2
		sleep $((try * 5))
		apt-get update >>"$dir/log" 2>&1 || true
	done
	tail -n 20 "$dir/log" >&2
	return 1
}

unpack() {
	local deb
	for deb in "$dir"/archives/*.deb; do dpkg-deb -x "$deb" "$1"; done
}

if ! served; then
	echo "setup: fetching ${server[*]} into $cache/server"
	mkdir -p "$work/new/server"
	state server < <(awk '{ print "deb", $1, $2, "main" }' "$work/mirrors")
	fetch apt-get -y -d install "${server[@]}"
	unpack "$work/new/server"
	rm -rf "$work"/new/server/usr/share/{doc,man,locale} "$cache/server"
	echo "${server[*]}" >"$work/new/server/complete"
	mv "$work/new/server" "$cache/server"
fi
complete && exit 0

echo "setup: fetching $want into $cache/vm"
state tree <<LIST
deb $archive $suite main
deb $archive $suite-backports main
${security:+deb $security $suite-security main}
LIST
fetch apt-get -y -d -t "$suite-backports" install "${tools[@]}"
unpack "$work/new/tree"
state kernel < <(awk '{ print "deb", $1, $2, "main" }' "$work/mirrors")
image=$(apt-cache depends "$kernel" | awk '$1 == "Depends:" { print $2; exit }')
fetch bash -c "cd '$dir/archives' && apt-get download '$image'"
unpack "$work/new/kernel"
rm -rf "$work"/new/*/usr/share/{doc,man,locale}
# The list of modules with what they need is made where a kernel is installed.
tree=$work/new/tree
for version in "$work"/new/kernel/lib/modules/*; do
	"$tree/usr/lib64/ld-linux-x86-64.so.2" --argv0 depmod --library-path "$tree/usr/lib/x86_64-linux-gnu" \
		"$tree/usr/bin/kmod" -b "$work/new/kernel" "${version##*/}"
done
echo "$want" >"$work/new/complete"
rm -rf "$cache/vm"
mv "$work/new" "$cache/vm"
