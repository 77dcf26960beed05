# Sends a batch of embeddings to a daemon's door as OpenAI's client does, for `go run ./bench evening`: by that client where this Python
# has it, else by the same requests in the same form. Given the address, the key and how many; prints one JSON object.
import json
import sys
import time
import urllib.request
import uuid

base, key, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
VOCAB, TOKENS = 30000, 64


def lines():
    for i in range(count):
        body = {"model": "embedder", "input": [(i * 7919 + k * 104729 + 13) % VOCAB for k in range(TOKENS)]}
        yield json.dumps({"custom_id": "r%d" % i, "method": "POST", "url": "/v1/embeddings", "body": body}) + "\n"


def asked(method, path, body=None, kind="application/json"):
    r = urllib.request.Request(base + path, data=body, method=method, headers={
        "Authorization": "Bearer " + key, "Content-Type": kind, "Accept": "application/json", "User-Agent": "OpenAI/Python 1.109.1"})
    with urllib.request.urlopen(r, timeout=600) as answer:
        return answer.read()


class Plain:
    """What the client's methods put on the wire."""

    name = "its requests by hand"

    def upload(self, data):
        mark = uuid.uuid4().hex
        form = (('--%s\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n' % mark).encode()
                + ('--%s\r\nContent-Disposition: form-data; name="file"; filename="batch.jsonl"\r\n'
                   "Content-Type: application/octet-stream\r\n\r\n" % mark).encode() + data + ("\r\n--%s--\r\n" % mark).encode())
        return json.loads(asked("POST", "/files", form, "multipart/form-data; boundary=" + mark))["id"]

    def begin(self, file):
        body = {"input_file_id": file, "endpoint": "/v1/embeddings", "completion_window": "24h"}
        return json.loads(asked("POST", "/batches", json.dumps(body).encode()))["id"]

    def look(self, batch):
        return json.loads(asked("GET", "/batches/" + batch))

    def content(self, file):
        return asked("GET", "/files/%s/content" % file).decode()


class Official(Plain):
    def __init__(self, openai):
        self.client, self.name = openai.OpenAI(base_url=base, api_key=key), "openai " + openai.__version__

    def upload(self, data):
        return self.client.files.create(file=("batch.jsonl", data), purpose="batch").id

    def begin(self, file):
        return self.client.batches.create(input_file_id=file, endpoint="/v1/embeddings", completion_window="24h").id

    def look(self, batch):
        return self.client.batches.retrieve(batch).model_dump()

    def content(self, file):
        return self.client.files.content(file).text


try:
    import openai
    client = Official(openai)
except ImportError:
    client = Plain()
start = time.monotonic()
batch = client.begin(client.upload("".join(lines()).encode()))
while True:
    seen = client.look(batch)
    if seen["status"] in ("completed", "failed", "expired", "cancelled"):
        break
    time.sleep(0.2)
took = time.monotonic() - start
if seen["status"] != "completed":
    raise SystemExit("the batch ended %s: %s" % (seen["status"], json.dumps(seen)))
out = [json.loads(line) for line in client.content(seen["output_file_id"]).splitlines()]
right = sum(1 for i, o in enumerate(out) if o["custom_id"] == "r%d" % i and o["response"]["status_code"] == 200
            and o["response"]["body"]["data"][0]["embedding"])
print(json.dumps({"client": client.name, "took_s": took, "answers": right, "failed": seen["request_counts"]["failed"]}))
