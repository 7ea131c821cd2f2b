#!/usr/bin/env bash
# Runs `harness check` by the variables of action.yml, and writes its outputs. It always succeeds:
# the last step of the action ends with the check's own status, after the report has been kept.
set -uo pipefail
report=${REPORT:-harness-check}
# A second line of it would be an output of its own.
case $report in *$'\n'* | *$'\r'*) echo "report-dir has several lines" >&2; exit 1 ;; esac
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

# An artifact's name may hold letters, digits and few signs; two names stay two.
artifact_name() {
  local plain=${1//[^A-Za-z0-9._-]/-}
  [ "$plain" = "$1" ] || plain+=-$(printf %s "$1" | sha256sum | cut -c1-8)
  printf %s "$plain"
}

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
  echo "artifact=harness-check${NAME:+-$(artifact_name "$NAME")}"
} >>"${GITHUB_OUTPUT:-/dev/stdout}"
