#!/bin/sh
# Install the browser that tests/test_browser.py drives: Debian's Chromium and a plain font.
set -eu
if command -v chromium >/dev/null 2>&1; then
    exit 0
fi
as_root=""
if [ "$(id -u)" -ne 0 ]; then
    as_root="sudo"
fi
$as_root apt-get update
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium fonts-dejavu-core
