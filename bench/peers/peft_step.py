# SPDX-License-Identifier: Apache-2.0
# The same training step in PEFT, for bench/step.ts: a LLaMA of random weights from a config, LoRA on all seven linears,
# AdamW. With bitsandbytes the base is NF4 (double-quantised, bf16 compute), without it bf16, and the first line says which.
# Reads settings (JSON) from the command line; then runs one step for each line of input and prints its times.
import json
import os
import resource
import sys
import time

settings = json.loads(sys.argv[1])
os.environ.setdefault("OMP_NUM_THREADS", str(settings["threads"]))
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import peft
import torch
import transformers

torch.set_num_threads(settings["threads"])
torch.manual_seed(0)
device = settings["device"]

config = transformers.LlamaConfig(
    vocab_size=settings["vocabularySize"],
    hidden_size=settings["width"],
    intermediate_size=settings["feedForwardWidth"],
    num_hidden_layers=settings["layers"],
    num_attention_heads=settings["queryHeads"],
    num_key_value_heads=settings["keyValueHeads"],
    tie_word_embeddings=False,
    use_cache=False,
)
model = transformers.LlamaForCausalLM(config).to(torch.bfloat16)
base = "bf16"
try:
    import bitsandbytes as bnb

    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, torch.nn.Linear) and name != "lm_head":
                linear = bnb.nn.Linear4bit(
                    child.in_features, child.out_features, bias=False, compute_dtype=torch.bfloat16,
                    compress_statistics=True, quant_type="nf4",
                )
                linear.weight = bnb.nn.Params4bit(
                    child.weight.data, requires_grad=False, compress_statistics=True, quant_type="nf4"
                )
                setattr(module, name, linear)
    base = f"NF4, bitsandbytes {bnb.__version__}"
except ImportError:
    pass
model = model.to(device)
targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
lora = peft.LoraConfig(r=settings["rank"], lora_alpha=2 * settings["rank"], lora_dropout=0.0, target_modules=targets)
model = peft.get_peft_model(model, lora)
if settings["recompute"]:
    model.enable_input_require_grads()
    model.gradient_checkpointing_enable({"use_reentrant": False})
model.train()
optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
ids = torch.randint(0, settings["vocabularySize"], (1, settings["context"]), device=device)


def step():
    loss = model(input_ids=ids, labels=ids).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


def say(**fields):
    print(json.dumps(fields), flush=True)


step()
say(base=base, torch=torch.__version__, transformers=transformers.__version__, peft=peft.__version__)
for _ in sys.stdin:
    cpu, wall = time.process_time(), time.perf_counter()
    loss = step()
    say(
        wall=(time.perf_counter() - wall) * 1e3,
        cpu=(time.process_time() - cpu) * 1e3,
        loss=loss,
        peakBytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    )
