#!/usr/bin/env bash
# Runs vitabench as docs/performance.md describes, on one processor (CPU,
# default the last one allowed), and prints what it measures. Takes two minutes.
set -euo pipefail
cd "$(dirname "$0")/../.."
cpu=${CPU:-$(($(nproc) - 1))}
mkdir -p build
CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o build/ ./cmd/vitabench
bench() {
	echo "vitabench $*"
	build/vitabench "$@" --cpu "$cpu"
}
grep -m1 'model name' /proc/cpuinfo
uptime
tiers=(avx512 avx2)
for tier in "${tiers[@]}"; do
	build/vitabench aead --tier "$tier" --sizes 64 --rounds 1 >/dev/null || continue # says what is missing
	for op in seal open; do
		for key in 128 256; do bench aead --op "$op" --key "$key" --tier "$tier"; done
	done
done
for size in 60 576 1454 imix; do
	for family in 4 6; do bench softbench --size "$size" --family "$family" --seconds 2; done
done
bench softbench --direction outbound --seconds 2
for routes in 1000 100000; do bench softbench --routes "$routes" --seconds 2; done
bench softbench --tier generic --seconds 2
for pattern in random uniform sequential hot; do bench lpm --pattern "$pattern"; done
bench lpm --family 6 --prefixes 200000
bench lpm --family 6 --prefixes 200000 --pattern hot
