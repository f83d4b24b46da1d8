# SPDX-License-Identifier: Apache-2.0
# Trains the vocabulary of the tiny base model on the bundled text: SentencePiece BPE with LLaMA's settings (identity
# normaliser, byte fallback, digits split). Run from the project's root after `node dist/samples/text/build.js`:
#     python3 samples/tiny-base/vocabulary.py        (needs the package sentencepiece; 0.2.2 made the bundled file)
import json
import sentencepiece

PIECES = 2000
LANGUAGES = ["English", "Nepali", "Persian"]

lines = []
for language in LANGUAGES:
    for row in json.load(open(f"samples/mits/{language}.json", encoding="utf-8")):
        lines += [row["instruction"], row["input"], row["output"]]
for name in ["english", "nepali", "persian", "questions"]:
    for line in open(f"samples/text/pretraining/{name}.jsonl", encoding="utf-8"):
        lines.append(json.loads(line)["text"])
# The chain's labels and the prompts' marks, so that they cost few tokens: at a line's start and after one.
for before in ["", "a\n"]:
    lines += [f"{before}Response in {language}: " for language in LANGUAGES] * 40
lines += ["Instruction in English: ", "### Human: ", "### Assistant: ", "### Instruction: ", "### Response: "] * 40

sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter([line for line in lines if line]),
    model_prefix="samples/tiny-base/tokenizer",
    model_type="bpe",
    vocab_size=PIECES,
    byte_fallback=True,
    normalization_rule_name="identity",
    remove_extra_whitespaces=False,
    split_digits=True,
    allow_whitespace_only_pieces=True,
    character_coverage=0.9999,
    unk_id=0, bos_id=1, eos_id=2, pad_id=-1,
    num_threads=1,
)
