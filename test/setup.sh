#!/usr/bin/env bash
# Installs the peers and tools that the demo and the tests use. Does nothing,
# and needs no root, where all of them are there.
set -euo pipefail
"$(dirname "$0")/setup-vm.sh"

declare -A package=(
	[ip]=iproute2 [ping]=iputils-ping [traceroute]=traceroute [curl]=curl
	[ethtool]=ethtool [sysctl]=procps [iperf3]=iperf3 [yanglint]=libyang2-tools [yangcli]=yangcli
	[tshark]=tshark [zsh]=zsh [mformat]=mtools
)
missing=()
for tool in "${!package[@]}"; do
	PATH=$PATH:/usr/sbin:/sbin command -v "$tool" >/dev/null || missing+=("${package[$tool]}")
done
/usr/bin/python3 -c 'import ncclient' 2>/dev/null || missing+=(python3 python3-ncclient)
[ ${#missing[@]} -eq 0 ] && exit 0

echo "setup: installing ${missing[*]}"
if [ "$(id -u)" -ne 0 ]; then
	echo "setup: not root: run 'apt-get install ${missing[*]}' as root, then again" >&2
	exit 1
fi
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
for try in 1 2 3; do
	if apt-get update >"$log" 2>&1 && apt-get install -y --no-install-recommends "${missing[@]}" >>"$log" 2>&1; then
		exit 0
	fi
	echo "setup: try $try failed" >&2
	sleep $((try * 5))
done
tail -n 20 "$log" >&2
exit 1
