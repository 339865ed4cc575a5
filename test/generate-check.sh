#!/usr/bin/env bash
# Runs the generators in a copy of the tree, with the generated files deleted
# first, and compares: a generated file is exactly what its generator writes,
# and nothing else appears.
set -euo pipefail
cd "$(dirname "$0")/.."
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
list() { git ls-files -z --cached --others --exclude-standard | sort -z | while IFS= read -r -d '' f; do [ -f "$f" ] && printf '%s\0' "$f"; done; }
list | xargs -0 cp --parents -t "$copy"
mapfile -t generated < <(cd "$copy" && grep -rlE --include='*.go' --include='*.s' --include='*.md' '^(//|<!--) Code generated .* DO NOT EDIT' . | grep -v '/testdata/' | sort)
if [ ${#generated[@]} -eq 0 ]; then
	echo "generate-check: found no generated file" >&2
	exit 1
fi
(cd "$copy" && rm -- "${generated[@]}" && go generate ./...)
if ! diff <(list | xargs -0 sha256sum) <(cd "$copy" && find . -type f -printf '%P\0' | sort -z | xargs -0 sha256sum); then
	echo "generate-check: generated files are not up to date: run make generate" >&2
	exit 1
fi
echo "generate-check: ${#generated[@]} generated files are up to date: ${generated[*]}"
