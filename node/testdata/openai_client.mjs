// OpenAI's own client, unchanged, against the door of a daemon.
import assert from "node:assert/strict";
import { createRequire } from "node:module";

const [modules, baseURL, apiKey, writes] = process.argv.slice(2);
const require = createRequire(modules + "/");
const { OpenAI, toFile, NotFoundError, AuthenticationError } = require("openai");
const client = new OpenAI({ baseURL, apiKey });

const names = [];
for await (const m of client.models.list()) names.push(m.id);
assert(names.includes("embedder"));

const e = await client.embeddings.create({ model: "embedder", input: [[1, 2, 3], [4]] });
assert.equal(e.data.length, 2);
assert.equal(e.data[0].embedding.length, 16);
assert.equal(e.idlewild.verdict, "own");
await assert.rejects(client.embeddings.create({ model: "gpt-4o", input: [1] }), NotFoundError);
await assert.rejects(new OpenAI({ baseURL, apiKey: "sk-wrong" }).models.list(), AuthenticationError);
await assert.rejects(client.images.generate({ prompt: "a horse" }), /names no model/);

const line = JSON.stringify({ custom_id: "a", method: "POST", url: "/v1/embeddings", body: { model: "embedder", input: [1] } }) + "\n";
const up = await client.files.create({ file: await toFile(Buffer.from(line), "batch.jsonl"), purpose: "batch" });
let batch = await client.batches.create({ input_file_id: up.id, endpoint: "/v1/embeddings", completion_window: "24h" });
while (!["completed", "failed"].includes(batch.status)) {
  await new Promise((r) => setTimeout(r, 200));
  batch = await client.batches.retrieve(batch.id);
}
assert.equal(batch.status, "completed");
const out = JSON.parse(await (await client.files.content(batch.output_file_id)).text());
assert.equal(out.custom_id, "a");

if (writes === "writes") {
  const ask = { model: "tiny", messages: [{ role: "user", content: "hello" }], max_tokens: 12, temperature: 0 };
  const whole = await client.chat.completions.create(ask);
  let text = "";
  for await (const chunk of await client.chat.completions.create({ ...ask, stream: true })) text += chunk.choices[0]?.delta?.content ?? "";
  assert.equal(text, whole.choices[0].message.content);
}
if (names.includes("tiny-sd")) {
  const drawn = await client.images.generate({ model: "tiny-sd", prompt: "a horse", size: "64x64", n: 2, response_format: "b64_json", seed: 3, steps: 2 });
  assert.equal(drawn.data.length, 2);
  assert(Buffer.from(drawn.data[0].b64_json, "base64").subarray(1, 4).equals(Buffer.from("PNG")));
  console.log("pictures", drawn.size);
}
console.log("openai", require("openai/version").VERSION);
