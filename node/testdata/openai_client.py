"""OpenAI's own client, unchanged, against the door of a daemon."""

import base64
import io
import json
import math
import sys
import time

import openai

base, key, writes = sys.argv[1], sys.argv[2], sys.argv[3] == "writes"
client = openai.OpenAI(base_url=base, api_key=key)

names = [m.id for m in client.models.list()]
assert "embedder" in names, names
assert client.models.retrieve("embedder").owned_by == "idlewild"

e = client.embeddings.create(model="embedder", input=[[1, 2, 3], [4]])
assert len(e.data) == 2 and len(e.data[0].embedding) == 16, e
assert math.isclose(sum(x * x for x in e.data[0].embedding), 1, rel_tol=1e-5)
f = client.embeddings.create(model="embedder", input=[[1, 2, 3], [4]], encoding_format="float")
assert all(math.isclose(a, b, abs_tol=1e-6) for a, b in zip(e.data[0].embedding, f.data[0].embedding))
assert e.model_extra["idlewild"]["verdict"] == "own", e.model_extra


def fails(kind, call):
    try:
        call()
    except kind as err:
        return str(err)
    raise AssertionError(f"no {kind.__name__}")


assert "model add" in fails(openai.NotFoundError, lambda: client.embeddings.create(model="gpt-4o", input=[1]))
assert "tokenizer" in fails(openai.BadRequestError, lambda: client.embeddings.create(model="embedder", input="words"))
assert "model add FOLDER" in fails(openai.BadRequestError, lambda: client.images.generate(model="embedder", prompt="a horse"))
stranger = openai.OpenAI(base_url=base, api_key="sk-wrong")
fails(openai.AuthenticationError, lambda: stranger.models.list())

lines = "".join(
    json.dumps({"custom_id": f"r{i}", "method": "POST", "url": "/v1/embeddings", "body": {"model": "embedder", "input": [i]}}) + "\n"
    for i in (5, 3, 1000)
)
up = client.files.create(file=("batch.jsonl", io.BytesIO(lines.encode())), purpose="batch")
assert client.files.content(up.id).text == lines
batch = client.batches.create(input_file_id=up.id, endpoint="/v1/embeddings", completion_window="24h", metadata={"for": "a test"})
while batch.status not in ("completed", "failed"):
    time.sleep(0.2)
    batch = client.batches.retrieve(batch.id)
assert batch.status == "completed" and batch.request_counts.completed == 2 and batch.request_counts.failed == 1, batch
out = [json.loads(line) for line in client.files.content(batch.output_file_id).text.splitlines()]
assert [o["custom_id"] for o in out] == ["r5", "r3"] and out[0]["response"]["status_code"] == 200, out
assert json.loads(client.files.content(batch.error_file_id).text)["custom_id"] == "r1000"
assert batch.id in [b.id for b in client.batches.list(limit=5)]
assert client.files.delete(up.id).deleted

if writes:
    ask = dict(model="tiny", messages=[{"role": "user", "content": "hello"}], max_tokens=12, temperature=0)
    whole = client.chat.completions.create(**ask, logprobs=True, top_logprobs=2)
    assert whole.choices[0].message.role == "assistant" and whole.usage.completion_tokens > 0, whole
    assert whole.choices[0].logprobs.content[0].top_logprobs, whole
    text, labels = "", set()
    for chunk in client.chat.completions.create(**ask, stream=True):
        labels.add(chunk.model_extra["idlewild"]["verdict"])
        if chunk.choices and chunk.choices[0].delta.content:
            text += chunk.choices[0].delta.content
    assert text == whole.choices[0].message.content, (text, whole)
    assert labels == {"own"}, labels
    assert len(client.embeddings.create(model="tiny", input=["hello", "world"]).data) == 2
if "tiny-sd" in names:
    ask = dict(model="tiny-sd", prompt="a horse", size="64x64", extra_body={"seed": 3, "steps": 2})
    drawn = client.images.generate(**ask, n=2, response_format="b64_json")
    assert len(drawn.data) == 2 and drawn.data[0].b64_json != drawn.data[1].b64_json, drawn
    assert base64.b64decode(drawn.data[0].b64_json).startswith(b"\x89PNG"), drawn
    assert client.images.generate(**ask).data[0].b64_json == drawn.data[0].b64_json
    assert drawn.model_extra["idlewild"]["verdict"] == "own", drawn.model_extra
    print("pictures", drawn.size)
print("openai", openai.__version__)
