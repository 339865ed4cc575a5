#!/usr/bin/env bash
# Runs the generators in a copy of the tracked tree, with the generated files
# deleted first, and compares: a generated file is exactly what its generator
# writes, and nothing else appears.
set -euo pipefail
cd "$(dirname "$0")/.."
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$copy" 2>/dev/null
mapfile -t generated < <(cd "$copy" && grep -rlE --include='*.go' --include='*.md' '^(//|<!--) Code generated .* DO NOT EDIT' . | grep -v '/testdata/' | sort)
if [ ${#generated[@]} -eq 0 ]; then
	echo "generate-check: found no generated file" >&2
	exit 1
fi
(cd "$copy" && rm -- "${generated[@]}" && go generate ./...)
status=0
diff -rq --exclude=.git --exclude=build . "$copy" || status=1
if [ $status -ne 0 ]; then
	echo "generate-check: generated files are not up to date: run make generate" >&2
	exit 1
fi
echo "generate-check: ${#generated[@]} generated files are up to date"
