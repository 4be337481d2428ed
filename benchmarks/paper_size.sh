#!/usr/bin/env bash
# The studies at the paper's size, one after the other: about ten hours on two cores, of which each takes one or two.
#
#     benchmarks/paper_size.sh                 # all, into runs/paper
#     benchmarks/paper_size.sh dncl dn4cl      # these
#
# Stop it at any time: the same command goes on from the last finished batch. What is finished becomes a result in
# benchmarks/results; `python benchmarks/generate.py` then shows it. A tree with changes leaves none.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Where two cores cannot do the paper's counts in a day: fewer samples, and fewer steps of the four re-optimizations,
# which would take three times as long as all else. No claim about DNde and SRNet needs them.
declare -A options=(
  [dncl]="--reoptimize-steps 100" [dn4cl]="--reoptimize-steps 100"
  [srnet]="--reoptimize-steps 1" [dnde]="--samples 32 --reoptimize-steps 1"
  [gn4c-smooth]="--samples 64 --batch-size 8" [gn4c]="--samples 16 --batch-size 8"
  [parametrizations]="--samples 8 --batch-size 8 --reoptimize-steps 1"
  [timings]="--samples 8 --batch-size 8"
)
# The paper's figures at this size: new names in docs/images.
declare -A pictures=(
  [dncl]=paper-dncl.png [dn4cl]=paper-dn4cl.png [srnet]=paper-srnet.png [dnde]=paper-dnde.png
  [gn4c-smooth]=paper-gn4c-smooth.png [gn4c]=paper-gn4c.png [parametrizations]=paper-parametrizations.png
  [timings]=paper-timings.png
)
order=(srnet gn4c dnde dncl dn4cl gn4c-smooth timings parametrizations)

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
