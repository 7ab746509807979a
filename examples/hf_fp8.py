"""Quantizes a Hugging Face Llama to FP8 as it is loaded, with octavo in the place of fbgemm-gpu, and generates.

Use: hf_fp8.py [FOLDER]     needs transformers and accelerate; without a GPU it runs on the CPU."""
import sys

import octavo.fbgemm  # before transformers: it now finds fbgemm_gpu

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, FbgemmFp8Config

folder = sys.argv[1] if len(sys.argv) > 1 else ".deps/SmolLM2-135M-Instruct"
device = "cuda" if torch.cuda.is_available() else "cpu"
if device == "cpu":
    octavo.fbgemm.enable_transformers_on_any_device()
model = AutoModelForCausalLM.from_pretrained(folder, quantization_config=FbgemmFp8Config(), dtype=torch.bfloat16, device_map=device)
tokenizer = AutoTokenizer.from_pretrained(folder)
ids = tokenizer("The capital of France is", return_tensors="pt").to(device)
print(tokenizer.decode(model.generate(**ids, max_new_tokens=20, do_sample=False)[0]))
