#!/bin/sh
# Installs the edge node from this folder into PREFIX (default /opt/fusion), without a network.
set -eu
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
prefix=${1:-/opt/fusion}
python=${PYTHON:-python3}
wanted=$(cat "$here/python-version")
found=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
if [ "$found" != "$wanted" ]; then
  echo "$python is Python $found; this bundle was made for $wanted: set PYTHON to such an interpreter" >&2
  exit 2
fi
(cd "$here" && sha256sum --quiet --check SHA256SUMS) || { echo "the bundle is damaged: copy it again" >&2; exit 3; }
"$python" -m venv "$prefix"
"$prefix/bin/pip" install --quiet --no-index --find-links "$here/wheels" "fusion-stack[edge,live]"
# Once more without what it needs: pip would keep an earlier build of the same version.
"$prefix/bin/pip" install --quiet --no-index --no-deps --force-reinstall "$here"/wheels/fusion_stack-*.whl
mkdir -p "$prefix/share"
cp "$here/README.md" "$here/edge-node.service" "$prefix/share/"
"$prefix/bin/edge-node" --help >/dev/null
echo "installed: $prefix/bin/edge-node; next: $prefix/share/README.md"
