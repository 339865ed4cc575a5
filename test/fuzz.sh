#!/usr/bin/env bash
# Runs every fuzz target for a while; its argument is the time for each.
set -euo pipefail
cd "$(dirname "$0")/.."
time=${1:-20s}
count=0
while IFS=: read -r file target; do
	echo "fuzz: $(dirname "$file") $target for $time"
	# Making an input smaller may take a minute, in which nothing else is tried.
	go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 50x "./$(dirname "$file")"
	count=$((count + 1))
done < <(grep -rnoE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]+' . | sed -E 's#^\./##; s#:[0-9]+:func #:#' | sort)
[ "$count" -gt 0 ] || { echo "fuzz: no target found" >&2; exit 1; }
echo "fuzz: $count targets passed"
