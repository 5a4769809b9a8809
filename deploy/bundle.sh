#!/bin/bash
# Makes OUT/edge-bundle.tar.gz: everything the edge node needs, to be installed where there is no network.
# Usage: deploy/bundle.sh UV [OUT]; for this machine's processor and Python.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=$1 out=${2:-out}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bundle=$work/edge-bundle
mkdir -p "$bundle/wheels" "$out"
echo "building the wheel"
rm -rf build  # what setuptools left there holds modules that are gone
"$uv" build --quiet --wheel --out-dir "$bundle/wheels" .
"$uv" export --quiet --frozen --no-dev --extra edge --extra live --no-emit-project --no-annotate -o "$work/requirements.txt"
echo "collecting $(grep -c '==' "$work/requirements.txt") packages of uv.lock"
"$uv" venv --quiet --seed --python 3.11 "$work/venv"
"$work/venv/bin/pip" download --quiet --only-binary :all: --require-hashes -r "$work/requirements.txt" -d "$bundle/wheels"
"$work/venv/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' >"$bundle/python-version"
cp deploy/install.sh deploy/edge-node.service deploy/README.md "$bundle/"
(cd "$bundle" && find . -type f ! -name SHA256SUMS | sort | xargs sha256sum >SHA256SUMS)
tar -C "$work" -czf "$out/edge-bundle.tar.gz" edge-bundle
echo "wrote $out/edge-bundle.tar.gz ($(du -h "$out/edge-bundle.tar.gz" | cut -f1))"
