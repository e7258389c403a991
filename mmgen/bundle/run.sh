#!/bin/sh
# Train on a machine that has PyTorch and no network.
#
#   sh run.sh            keep the part of the bundle that lies beside this script, for a later command
#   sh run.sh SECONDS    unpack all parts, train so that all is over after so many seconds, and write the result to $OUT
#
# PYTHON is the interpreter (python3), MMGEN_BUNDLE the folder where parts are kept and unpacked (/tmp/mmgen-bundle).
set -eu
begun=$(date +%s)
here=$(cd "$(dirname "$0")" && pwd)
store=${MMGEN_BUNDLE:-/tmp/mmgen-bundle}
python=${PYTHON:-python3}

mkdir -p "$store/parts" "$store/work"
cp "$here"/mmgen-bundle.* "$here"/SHA256SUMS "$store/parts/"
if [ $# -eq 0 ]; then
    echo "Kept in $store/parts: $(ls "$store/parts" | tr '\n' ' ')"
    exit 0
fi

cd "$store/parts"
sha256sum --quiet --check SHA256SUMS || { echo "Parts are missing or damaged. Run each part's run.sh first." >&2; exit 1; }
cat $(sed 's/^[^ ]*  *//' SHA256SUMS) | tar -x -C "$store/work" -f -
cd "$store/work"
if [ -d wheels ]; then
    "$python" -m pip install -q --no-index --no-deps --no-compile --upgrade --target site wheels/*.whl
fi
PYTHONPATH="$store/work/code:$store/work/site${PYTHONPATH:+:$PYTHONPATH}"
export PYTHONPATH PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1
exec "$python" -m mmgen.bundle.remote "$store/work" "${OUT:?name a folder for the result}" "$1" "$begun"
