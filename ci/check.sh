#!/usr/bin/env bash
# Runs `harness check` by the variables of action.yml, and writes its outputs. It always succeeds:
# the last step of the action ends with the check's own status, after the report has been kept.
set -uo pipefail
options=()
if [ -n "${CLAIMS:-}" ]; then options+=(--claims "$CLAIMS"); fi
if [ -n "${NAME:-}" ]; then options+=(--name "$NAME"); fi
IFS=' ' read -r -a margins <<<"${MARGIN:-}"
for margin in ${margins[@]+"${margins[@]}"}; do options+=(--margin "$margin"); done
IFS=',' read -r -a allowed <<<"${ALLOW:-}"
for name in ${allowed[@]+"${allowed[@]}"}; do options+=(--allow "$name"); done
report=${REPORT:-harness-check}

python -m harness.cli check "$CANDIDATE" --baseline "$BASELINE" --report-dir "$report" \
  ${options[@]+"${options[@]}"}
status=$?

case $status in
0) verdict=passed ;;
1) verdict=regressed ;;
3) verdict=inconclusive ;;
*) verdict="not judged" ;;
esac
{
  echo "status=$status"
  echo "verdict=$verdict"
  if [ -f "$report/check.json" ]; then echo "report=$report"; fi
} >>"${GITHUB_OUTPUT:-/dev/stdout}"
