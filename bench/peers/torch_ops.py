# SPDX-License-Identifier: Apache-2.0
# The ops of the harness at its realistic sizes, in PyTorch and (for 4-bit weights) bitsandbytes, on the GPU: what
# bench/gpu.sh puts beside our kernels. Prints one JSON line an op; ops that a package is missing for are left out.
import json
import sys

import torch
import torch.nn.functional as F

if not torch.cuda.is_available():
    sys.exit("torch sees no GPU")
M, N, K, V, T, H, D, n = 512, 4096, 4096, 32000, 512, 32, 128, 512 * 11008
REPEATS = int(sys.argv[1]) if len(sys.argv) > 1 else 20
cuda = {"device": "cuda"}
half = {"device": "cuda", "dtype": torch.bfloat16}


def milliseconds(call):
    times = []
    for i in range(REPEATS + 3):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        call()
        end.record()
        end.synchronize()
        if i >= 3:
            times.append(start.elapsed_time(end))
    return sorted(times)[len(times) // 2]


def say(op, call, package=f"torch {torch.__version__}", flops=0.0):
    ms = milliseconds(call)
    print(json.dumps({"op": op, "by": package, "gpu": torch.cuda.get_device_name(), "ms": round(ms, 4), "tflops": round(flops / ms / 1e9, 2)}), flush=True)


x, dy, w = torch.randn(M, K, **half), torch.randn(M, N, **half), torch.randn(N, K, **half)
product = 2.0 * M * N * K
say("linear_forward", lambda: x @ w.T, flops=product)
say("linear_backward", lambda: dy @ w, flops=product)
say("linear_weight_backward", lambda: dy.T @ x, flops=product)
try:
    import bitsandbytes as bnb

    codes, state = bnb.functional.quantize_4bit(w, blocksize=64, compress_statistics=True, quant_type="nf4")
    name = f"bitsandbytes {bnb.__version__}"
    say("linear_nf4_forward", lambda: bnb.matmul_4bit(x, codes.t(), state), name, product)
    say("linear_nf4_backward", lambda: dy @ bnb.functional.dequantize_4bit(codes, state), name, product)
    flat = torch.randn(n, **cuda)
    say("nf4_quantize", lambda: bnb.functional.quantize_4bit(flat, blocksize=64, quant_type="nf4"), name)
except ImportError:
    pass
q, k, v = (torch.randn(1, H, T, D, **half, requires_grad=True) for _ in range(3))
pairs = H * T * T / 2 * D
say("attention_forward", lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True), flops=4 * pairs)
out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
dout = torch.randn_like(out)
say("attention_backward", lambda: torch.autograd.grad(out, (q, k, v), dout, retain_graph=True), flops=10 * pairs)
a, b = torch.randn(n, **cuda), torch.randn(n, **cuda)
say("swiglu_forward", lambda: F.silu(a) * b)
say("copy", lambda: a.copy_(b))
say("add", lambda: a.add_(b))
h, g = torch.randn(M, K, **cuda), torch.randn(K, **cuda)
say("rmsnorm_forward", lambda: F.rms_norm(h, (K,), g, 1e-5))
head, labels = torch.randn(V, K, **half), torch.randint(0, V, (M,), **cuda)
say("cross_entropy_forward", lambda: F.cross_entropy((x @ head.T).float(), labels, reduction="none"), flops=2.0 * M * V * K)
parameter = torch.nn.Parameter(torch.randn(n, **cuda))
parameter.grad = torch.randn(n, **cuda)
adamw = torch.optim.AdamW([parameter], lr=1e-4, fused=True)
say("adamw", adamw.step)
