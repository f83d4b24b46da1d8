#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Everything about the CUDA kernels in one call, on a machine with an NVIDIA GPU, the CUDA toolkit and g++: compiles them,
# checks every op against the reference on the GPU, times every op, and times PyTorch and bitsandbytes beside it where a
# Python has them. With Node, the training goldens and a whole step as well. Writes to OUT (default build/gpu-report).
set -uo pipefail
cd "$(dirname "$0")/.."
OUT="${OUT:-build/gpu-report}"
mkdir -p "$OUT"
failed=0

run() { # run NAME COMMAND…: its output goes to a file and to the terminal
  local name="$1"
  shift
  echo "== $name"
  "$@" 2>&1 | tee "$OUT/$name.txt"
  local status="${PIPESTATUS[0]}"
  if [ "$status" -ne 0 ]; then
    echo "== $name failed ($status)"
    failed=1
  fi
}

run card nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm,clocks.max.memory --format=csv
run build make -C kernels/lab/harness -j harness modules
run agreement build/lab/harness
run times build/lab/harness --time --json
run times-cublaslt build/lab/harness linear --cublaslt 1024 --time
run torch "${PYTHON:-python3}" bench/peers/torch_ops.py
if command -v node > /dev/null; then
  run setup npm run build
  run doctor node dist/cli/main.js doctor
  run goldens-f32 node dist/test/cuda/run-training.js mha_f32 f32 20
  run goldens-bf16 node dist/test/cuda/run-training.js gqa_nf4 bf16 20
  run step node dist/bench/main.js step --device cuda --shape 1.1b --context 512 --python "${PYTHON:-python3}"
fi
echo "== written to $OUT"
exit "$failed"
