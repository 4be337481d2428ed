#!/usr/bin/env bash
# What needs a GPU, in parts that take less than ten minutes each on one of the size of an H100.
#
#     benchmarks/gpu.sh speed precision gn4c densenet densenet-no-deer     # into runs/gpu
#     DATA=cifar10 WEIGHTS=bvlc_googlenet.npz OUT=folder benchmarks/gpu.sh gn4c
#     DRY=1 benchmarks/gpu.sh ...                                          # everything in small, on a CPU
#
# DATA is a folder with CIFAR-10, WEIGHTS a file with BVLC's GoogLeNet; both are what `jifv` takes by itself if unset. A
# part that is stopped, after LIMIT seconds or otherwise, goes on with the same command, so a lease may be short.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

parts=(speed precision gn4c densenet densenet-no-deer)
out=$(realpath -m "${OUT:-runs/gpu}")
limit=${LIMIT:-570}
data=${DATA:-../shared/data}
weights=()
[ -z "${WEIGHTS:-}" ] || weights=(--weights "$WEIGHTS")
dry=${DRY:-}
mkdir -p "$out"

# Options of a dry run, or those of the real one.
pick() { if [ -n "$dry" ]; then echo "$1"; else echo "$2"; fi; }

# shellcheck disable=SC2046 # words are meant
speed() {
  local networks small
  networks=$(pick "--networks srnet" "")
  small=$(pick "--rounds 1" "")
  python benchmarks/roofline.py $networks $(pick "--batch 2 --matrix 256 --rounds 1" "") --out "$out" &&
    python benchmarks/fv_step.py $networks $small $(pick "--batches 1" "--batches 1 8 32 128") --out "$out" &&
    python benchmarks/jacobian.py $networks $small --out "$out"
}

# shellcheck disable=SC2046
precision() {
  python benchmarks/precision.py $(pick "--cases srnet-geometry-k2 --samples 2" "--samples 32") --out "$out"
}

# shellcheck disable=SC2046
gn4c() {
  local size
  size=$(pick "--samples 2 --input-size 64 --adam-steps 5 --reoptimize-steps 2 --batch-size 2" "--batch-size 100")
  python -m jifv reproduce gn4c-smooth --preset paper $size "${weights[@]}" --quiet --out "$out/gn4c-smooth" &&
    { [ -n "$dry" ] || python benchmarks/collect.py "$out/gn4c-smooth" paper-gn4c-smooth \
      --command "jifv reproduce gn4c-smooth --preset paper --batch-size 100" --samples; }
}

# 93 % takes full size throughout, as Huang et al. have it, but a cycle of 40 epochs instead of 300.
train() {
  local name=$1
  shift
  python -m jifv.models.training.densenet "$data" "$out/$name.safetensors" --checkpoint "$out/$name.checkpoint" \
    --schedule "$(pick 8:0.005 32:40)" --batch-size "$(pick 64 128)" --peak 0.2 "$@"
}
densenet() { train densenet_bc_100_12_cifar10 --seed 0; }
densenet-no-deer() { train densenet_bc_100_12_cifar10_no_deer --seed 1 --without-class 4; }

failed=()
for part in "${@:-${parts[@]}}"; do
  if ! printf '%s\n' "${parts[@]}" | grep -qx -- "$part"; then
    echo "part must be one of ${parts[*]}, got $part" >&2
    exit 2
  fi
  echo "$(date -u +%FT%TZ) $part"
  export -f pick train "$part"
  export out data dry
  # A shell of its own, which `timeout` can end; arrays are not exported.
  if ! timeout --signal INT "$limit" bash -c "weights=(${weights[*]@Q}); $part"; then
    failed+=("$part")
  fi
done
[ ${#failed[@]} -eq 0 ] || { echo "not finished: ${failed[*]}" >&2; exit 1; }
