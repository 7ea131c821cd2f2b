#!/usr/bin/env bash
# Runs `harness check` by the variables of action.yml, and writes its outputs. It always succeeds:
# the last step of the action ends with the check's own status, after the report has been kept.
set -uo pipefail
report=${REPORT:-harness-check}
# What an earlier run or the repository left there is no result of this check.
rm -f -- "$report"/{check.json,check.md,junit.xml,worse.csv}
options=(--baseline="$BASELINE" --report-dir="$report")
if [ -n "${CLAIMS:-}" ]; then options+=(--claims="$CLAIMS"); fi
if [ -n "${NAME:-}" ]; then options+=(--name="$NAME"); fi
if [ -n "${ALLOW:-}" ]; then options+=(--allow="${ALLOW//$'\n'/,}"); fi
read -r -d '' -a margins <<<"${MARGIN:-}" || true
for margin in ${margins[@]+"${margins[@]}"}; do options+=(--margin="$margin"); done

# After `--` nothing is an option: a candidate called --help must not end with 0.
python -m harness.cli check "${options[@]}" -- "$CANDIDATE"
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
