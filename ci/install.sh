#!/usr/bin/env bash
# Installs this package: INSTALL=gate with the few libraries that a check of files needs (no torch),
# INSTALL=full with all that suites need.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
if [ "${INSTALL:-gate}" = full ]; then
  python -m pip install --quiet "$here"
else
  python -m pip install --quiet -r "$here/ci/requirements.txt"
  python -m pip install --quiet --no-deps "$here"
fi
