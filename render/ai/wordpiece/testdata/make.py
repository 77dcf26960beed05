"""Makes tokenizer.json and golden.jsonl: a small vocabulary, and what Hugging Face's tokenizers answers with it.

    pip install tokenizers==0.21.4 && python make.py ../../../../docs/*.md
"""
import json
import random
import sys

from tokenizers import BertWordPieceTokenizer, Tokenizer
from tokenizers.processors import TemplateProcessing

t = BertWordPieceTokenizer(lowercase=True)
t.train(sys.argv[1:], vocab_size=900, min_frequency=2, limit_alphabet=200)
cls, sep = t.token_to_id("[CLS]"), t.token_to_id("[SEP]")
t._tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", cls), ("[SEP]", sep)])
t.enable_truncation(48)
t.enable_padding(length=48)
with open("tokenizer.json", "w", encoding="utf-8") as f:
    f.write(t.to_str())

t = Tokenizer.from_file("tokenizer.json")
t.no_padding()
pool = "abcXYZ .,!?'\"-_éüñß\u0301日本한😀\t\n()[]{}0123½²ﬁİЖжΩ\u00a0\u200b\u0000\u166d\u1734\U000111c9\u0378"
rnd = random.Random(1)
texts = ["Hello, world!", "", " ", "naïve café", "日本語 text", "don't stop", "a\u0301e\u0301", "Straße ẞ", "a farm renders frames", "[CLS] hi [SEP]x",
         "render" * 20, "x" * 101, "x" * 100, "\u200bzero\u200dwidth", "العربية हिन्दी 한국어", "İstanbul", "`$^~+<=>|", "tile " * 60]
texts += ["".join(rnd.choice(pool) for _ in range(rnd.randint(0, 40))) for _ in range(300)]
with open("golden.jsonl", "w", encoding="utf-8") as f:
    for x in texts:
        f.write(json.dumps({"text": x, "ids": t.encode(x).ids}) + "\n")
