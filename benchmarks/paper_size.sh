#!/usr/bin/env bash
# The studies at the paper's size, one after the other, those that take least first: hours on two cores each.
#
#     benchmarks/paper_size.sh                 # all, into runs/paper
#     benchmarks/paper_size.sh dncl dn4cl      # these
#
# Stop it at any time: the same command goes on from the last finished batch. What is finished becomes a result in
# benchmarks/results; `python benchmarks/generate.py` then shows it. A tree with changes leaves none.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Samples, where two cores cannot do the paper's number in a day.
declare -A options=(
  [dncl]="" [dn4cl]="" [srnet]="" [dnde]="--samples 32"
  [gn4c-smooth]="--samples 64 --batch-size 8" [gn4c]="--samples 16 --batch-size 8"
)
# The paper's figures at this size: new names in docs/images.
declare -A pictures=(
  [dncl]=paper-dncl.png [dn4cl]=paper-dn4cl.png [srnet]=paper-srnet.png [dnde]=paper-dnde.png
  [gn4c-smooth]=paper-gn4c-smooth.png [gn4c]=paper-gn4c.png
)
order=(dncl dn4cl srnet gn4c-smooth dnde gn4c)

failed=()
for study in "${@:-${order[@]}}"; do
  if [ -z "${options[$study]+known}" ]; then
    echo "study must be one of ${order[*]}, got $study" >&2
    exit 2
  fi
  # shellcheck disable=SC2206 # words are meant
  command=(jifv reproduce "$study" --preset paper ${options[$study]})
  echo "$(date -u +%FT%TZ) ${command[*]}"
  if "${command[@]}" --quiet --out "runs/paper/$study"; then
    python benchmarks/collect.py "runs/paper/$study" "paper-$study" --command "${command[*]}" \
      --samples --picture "figure.png=${pictures[$study]}" || failed+=("$study")
  else
    failed+=("$study")
  fi
done
[ ${#failed[@]} -eq 0 ] || { echo "failed: ${failed[*]}" >&2; exit 1; }
