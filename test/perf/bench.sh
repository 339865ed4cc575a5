#!/usr/bin/env bash
# Measures all that docs/performance.md tells of, in less than 15 minutes, on
# one processor (CPU, default the last one allowed; two workers have another as
# well). Writes a JSON file a run and tables.md into build/bench, and the measured
# part of docs/performance.md with its chart. Installs ipsec-mb where it may, to
# measure it beside ours. More arguments go to the driver, and the documentation
# stays as it is: -quick tries everything once.
set -euo pipefail
cd "$(dirname "$0")/../.."
mkdir -p build/bench
CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o build/ ./cmd/vitabench
go build -trimpath -o build/bench/perf ./test/perf

harness() {
	cc -O2 -Wall -Wextra -Werror -o build/bench/ipsecmb test/perf/ipsecmb/ipsecmb.c -lIPSec_MB 2>build/bench/ipsecmb.log
}
ipsecmb=()
if ! harness && [ "$(id -u)" -eq 0 ] && [ "$(uname -m)" = x86_64 ]; then
	export DEBIAN_FRONTEND=noninteractive
	{ apt-get update && apt-get install -y --no-install-recommends libipsec-mb-dev gcc libc6-dev; } >build/bench/apt.log 2>&1 ||
		echo "bench: libipsec-mb-dev cannot be installed: see build/bench/apt.log" >&2
fi
if harness; then
	ipsecmb=(-ipsecmb build/bench/ipsecmb)
else
	echo "bench: without ipsec-mb: see build/bench/ipsecmb.log" >&2
fi
if [ $# -eq 0 ]; then
	set -- -doc docs/performance.md
fi
exec build/bench/perf "${ipsecmb[@]}" -cpu "${CPU:--1}" "$@"
