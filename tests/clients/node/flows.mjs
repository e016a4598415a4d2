// Every flow of the issue with one version of the official Node SDK; prints a summary as JSON.
//
//   OPENAI_BASE_URL=… OPENAI_API_KEY=… node flows.mjs openai|openai-6|openai-5 [FLOW …]
//
// Rules
// 1. The same flows in the same order as openai_flows.py: `replies.FLOWS` is the upstream's script.
// 2. A flow asserts what it got and returns what it wants shown.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { z } from "zod";

const [name, ...names] = process.argv.slice(2);
const sdk = await import(name);
const { zodTextFormat } = await import(`${name}/helpers/zod`);
const installed = new URL(`node_modules/${name}/package.json`, import.meta.url);
const { version } = JSON.parse(readFileSync(installed, "utf8"));

const client = new sdk.OpenAI({ maxRetries: 0, timeout: 30_000 });
const responses = client.responses;
const PNG = Buffer.from("\x89PNG\r\n\x1a\n" + "\0".repeat(16), "latin1").toString("base64");
const UNKNOWN = "resp_" + "0".repeat(48);
const Person = z.object({ name: z.string(), age: z.number() });
const PERSON = { format: zodTextFormat(Person, "Person") };
const WEATHER = {
  type: "function",
  name: "weather",
  parameters: {
    type: "object",
    properties: { city: { type: "string" } },
    required: ["city"],
    additionalProperties: false,
  },
  strict: true,
};
const SHOUT = { type: "custom", name: "shout", description: "Say it loud." };
const QUESTION = { role: "user", content: "Paris and Rome?" };

const ask = (body) => responses.create({ model: "m", input: "x", ...body });
const types = (events) => events.map((event) => event.type);

async function collect(stream) {
  const events = [];
  for await (const event of stream) events.push(event);
  return events;
}

async function caught(kind, call) {
  try {
    await call();
  } catch (error) {
    assert.ok(error instanceof kind, `${error.constructor.name}: ${error.message}`);
    return error;
  }
  assert.fail(`no ${kind.name}`);
}

/** The documented loop, without its patience. */
async function poll(made) {
  while (["queued", "in_progress"].includes(made.status)) {
    await new Promise((resolve) => setTimeout(resolve, 50));
    made = await responses.retrieve(made.id);
  }
  return made;
}

const numbers = (events) => events.map((event) => event.sequence_number);
const retrieved = async (id, query) =>
  collect(await responses.retrieve(id, { stream: true, ...query }));

/** The helper `.stream()`: its events, the snapshots of its text and its final response. */
const helped = (body) => helpedBy({ model: "m", input: "x", ...body });

async function helpedBy(body) {
  const stream = responses.stream(body);
  const snapshots = [];
  stream.on("response.output_text.delta", (event) => snapshots.push(event.snapshot));
  const events = await collect(stream);
  return { types: types(events), events, snapshots, final: await stream.finalResponse() };
}

function outputsOf(calls) {
  assert.deepEqual(
    calls.map((call) => [call.type, call.call_id, JSON.parse(call.arguments)]),
    [
      ["function_call", "call_a", { city: "Paris" }],
      ["function_call", "call_b", { city: "Rome" }],
    ],
  );
  return calls.map(({ call_id }) => ({
    type: "function_call_output",
    call_id,
    output: `sunny ${call_id}`,
  }));
}

const FLOWS = {
  async create() {
    const response = await ask({ input: "Hi", instructions: "Be brief." });
    assert.equal(response.status, "completed");
    assert.equal(response.output_text, "Hello");
    assert.equal(response.usage.total_tokens, 8);
    return response.usage.total_tokens;
  },

  async events() {
    const events = await collect(await ask({ input: "Hi", stream: true }));
    assert.deepEqual(types(events), [
      "response.created",
      "response.in_progress",
      "response.output_item.added",
      "response.content_part.added",
      "response.output_text.delta",
      "response.output_text.delta",
      "response.output_text.delta",
      "response.output_text.done",
      "response.content_part.done",
      "response.output_item.done",
      "response.completed",
    ]);
    assert.deepEqual(events.map((event) => event.sequence_number), [...events.keys()]);
    assert.equal(events.at(-1).response.output_text, "Hello there");
    return types(events);
  },

  async stream() {
    const got = await helped({ input: "Hi" });
    assert.deepEqual(got.snapshots, ["Hel", "Hello"]);
    assert.equal(got.final.status, "completed");
    assert.equal(got.final.output_text, "Hello");
    assert.equal((await responses.retrieve(got.final.id)).output_text, "Hello");
    return got.types;
  },

  async parse() {
    const ada = { name: "Ada", age: 36 };
    const whole = await responses.parse({ model: "m", input: "Who?", text: PERSON });
    assert.deepEqual(whole.output_parsed, ada);
    const { final } = await helped({ input: "Who?", text: PERSON });
    assert.deepEqual(final.output_parsed, ada);
    return final.output_text;
  },

  async tools_chained() {
    const first = await ask({ input: QUESTION.content, tools: [WEATHER] });
    const second = await ask({
      previous_response_id: first.id,
      input: outputsOf(first.output),
      tools: [WEATHER],
    });
    assert.equal(second.output_text, "Both are sunny.");
    assert.equal(second.previous_response_id, first.id);
    return first.status;
  },

  async tools_whole_history() {
    const { final: first } = await helped({ input: [QUESTION], tools: [WEATHER] });
    const second = await ask({
      input: [QUESTION, ...first.output, ...outputsOf(first.output)],
      tools: [WEATHER],
      store: false,
    });
    assert.equal(second.output_text, "Both are sunny.");
    return Object.keys(first.output[0]).sort();
  },

  async custom_tool() {
    const events = await collect(await ask({ input: "Loud!", tools: [SHOUT], stream: true }));
    const { response } = events.at(-1);
    const [item] = response.output;
    assert.equal(item.type, "custom_tool_call");
    assert.equal(item.input, "LOUD");
    const output = { type: "custom_tool_call_output", call_id: item.call_id, output: "ok" };
    const second = await ask({ previous_response_id: response.id, input: [output], tools: [SHOUT] });
    assert.equal(second.output_text, "Heard.");
    return types(events).filter((type) => type.includes("custom"));
  },

  async reasoning() {
    const got = await helped({ input: "?" });
    assert.ok(got.types.includes("response.reasoning_text.delta"));
    assert.deepEqual(types(got.final.output), ["reasoning", "message"]);
    assert.equal(got.final.output_text, "42");
    return got.types;
  },

  async refusal() {
    const got = await helped({ input: "?" });
    assert.ok(got.types.includes("response.refusal.delta"));
    const parsed = await responses.parse({ model: "m", input: "Who?", text: PERSON });
    for (const response of [got.final, parsed]) {
      const [part] = response.output[0].content;
      assert.deepEqual([part.type, part.refusal], ["refusal", "I cannot."]);
      assert.equal(response.output_text, "");
    }
    assert.equal(parsed.output_parsed, null);
    return got.types;
  },

  async image() {
    const content = [
      { type: "input_text", text: "What is it?" },
      { type: "input_image", image_url: `data:image/png;base64,${PNG}`, detail: "low" },
      { type: "input_image", image_url: "https://example.com/cat.png" },
    ];
    return (await ask({ input: [{ role: "user", content }] })).output_text;
  },

  async input_items() {
    const first = await ask({ input: "one" });
    const second = await ask({ input: "two", previous_response_id: first.id });
    const listed = (await responses.inputItems.list(second.id, { order: "asc" })).data;
    const roles = listed.map((item) => item.role);
    assert.deepEqual(roles, ["user", "assistant", "user"]);
    const pages = await collect(responses.inputItems.list(second.id, { order: "asc", limit: 1 }));
    assert.deepEqual(pages.map((item) => item.id), listed.map((item) => item.id));
    return roles;
  },

  async retrieve_and_delete() {
    const made = await ask({ metadata: { k: "v" } });
    assert.deepEqual({ ...(await responses.retrieve(made.id)) }, { ...made });
    await responses.delete(made.id);
    return (await caught(sdk.NotFoundError, () => responses.retrieve(made.id))).message;
  },

  async incomplete() {
    const response = await ask({ max_output_tokens: 16 });
    const got = await helped({ max_output_tokens: 16 });
    const last = got.events.at(-1);
    assert.equal(last.type, "response.incomplete");
    for (const one of [response, last.response]) {
      assert.equal(one.status, "incomplete");
      assert.equal(one.incomplete_details.reason, "max_output_tokens");
      assert.equal(one.output_text, "half");
      assert.equal(one.output[0].status, "incomplete");
    }
    return got.final.status;
  },

  async failed() {
    const ids = [];
    const read = async (stream) => {
      for await (const event of stream) {
        if (event.type === "response.created") ids.push(event.response.id);
      }
    };
    const ways = [
      async () => read(await ask({ stream: true })),
      () => read(responses.stream({ model: "m", input: "x" })),
    ];
    const errors = [];
    for (const way of ways) errors.push(await caught(sdk.APIError, way));
    assert.deepEqual(errors.map((error) => error.code), ["server_error", "server_error"]);
    for (const id of ids) {
      const stored = await responses.retrieve(id);
      assert.deepEqual([stored.status, stored.output_text], ["failed", "half"]);
    }
    assert.equal(ids.length, 2);
    return errors[0].message;
  },

  async errors() {
    const bad = await caught(sdk.BadRequestError, () => ask({ temperature: 3 }));
    assert.deepEqual([bad.param, bad.code], ["temperature", "decimal_above_max_value"]);
    assert.ok(bad.requestID);
    const stranger = client.withOptions({ apiKey: "sk-wrong" });
    const call = () => stranger.responses.create({ model: "m", input: "x" });
    const wrong = await caught(sdk.AuthenticationError, call);
    assert.equal(wrong.code, "invalid_api_key");
    const missing = await caught(sdk.NotFoundError, () => responses.retrieve(UNKNOWN));
    const lost = await caught(sdk.BadRequestError, () => ask({ previous_response_id: UNKNOWN }));
    assert.equal(lost.code, "previous_response_not_found");
    for (const stream of [false, true]) {
      const limited = await caught(sdk.RateLimitError, () => ask({ stream }));
      assert.equal(limited.headers.get("retry-after"), "7");
    }
    return [bad.message, wrong.message, missing.message, lost.message];
  },

  async background() {
    const made = await ask({ background: true, metadata: { k: "v" } });
    assert.deepEqual([made.status, made.background, made.output], ["queued", true, []]);
    const final = await poll(made);
    assert.deepEqual([final.status, final.output_text, final.id], ["completed", "Hello", made.id]);
    assert.deepEqual(final.metadata, { k: "v" });
    assert.ok(final.usage);
    // What has ended stays as it is.
    assert.deepEqual({ ...(await responses.cancel(final.id)) }, { ...final });
    return final.status;
  },

  async background_resume() {
    const start = [];
    for await (const event of await ask({ background: true, stream: true })) {
      start.push(event);
      if (event.type === "response.output_text.delta") break;
    }
    const id = start[0].response.id;
    const after = start.at(-1).sequence_number;
    const rest = await retrieved(id, { starting_after: after });
    assert.deepEqual(numbers([...start, ...rest]), [...Array(start.length + rest.length).keys()]);
    assert.equal(rest.at(-1).type, "response.completed");
    assert.equal(rest.at(-1).response.output_text, "Hello there");
    const whole = await retrieved(id, {});
    assert.deepEqual(whole, [...start, ...rest]);
    assert.deepEqual(await retrieved(id, { starting_after: whole.at(-1).sequence_number }), []);
    const plain = await retrieved(id, { include_obfuscation: false });
    assert.deepEqual(numbers(plain), numbers(whole));
    return types(whole);
  },

  async background_stream() {
    const made = await ask({ input: "Who?", background: true });
    const { events, final } = await helpedBy({ response_id: made.id });
    const whole = numbers(events);
    assert.equal(final.output_text, '{"name":"Ada","age":36}');
    for (const after of [0, 3, whole.at(-2)]) {
      const got = await helpedBy({ response_id: made.id, starting_after: after, text: PERSON });
      assert.deepEqual(numbers(got.events), whole.slice(after + 1));
      assert.deepEqual(got.final.output_parsed, { name: "Ada", age: 36 });
    }
    return whole;
  },

  async background_cancel() {
    const made = await ask({ background: true });
    for await (const event of await responses.retrieve(made.id, { stream: true })) {
      if (event.type === "response.output_text.delta") break;
    }
    const cancelled = await responses.cancel(made.id);
    assert.deepEqual([cancelled.status, cancelled.output_text], ["cancelled", "Hel"]);
    assert.deepEqual({ ...(await responses.cancel(made.id)) }, { ...cancelled });
    assert.deepEqual({ ...(await responses.retrieve(made.id)) }, { ...cancelled });
    assert.equal(types(await retrieved(made.id, {})).at(-1), "response.output_text.delta");
    const synchronous = await ask({});
    const call = () => responses.cancel(synchronous.id);
    const refused = await caught(sdk.BadRequestError, call);
    await caught(sdk.NotFoundError, () => responses.cancel(UNKNOWN));
    return refused.message;
  },

  async background_failed() {
    const made = await ask({ background: true });
    const final = await poll(made);
    assert.equal(final.status, "failed");
    assert.equal(final.error.code, "server_error");
    assert.equal(final.output_text, "half");
    const error = await caught(sdk.APIError, () => retrieved(made.id, {}));
    assert.equal(error.code, "server_error");
    return final.error.message;
  },

  async container_files() {
    const { containers, files } = client;
    const box = (await containers.create({ name: "box" })).id;
    const file = await sdk.toFile(Buffer.from("one"), "one.txt");
    const kept = (await files.create({ file, purpose: "user_data" })).id;
    const two = await sdk.toFile(Buffer.from("two"), "two.txt");
    const sent = await containers.files.create(box, { file: two });
    const copied = await containers.files.create(box, { file_id: kept });
    const shown = [copied, sent].map((one) => [one.path, one.bytes, one.source]);
    const there = ["one", "two"].map((name) => [`/mnt/data/${name}.txt`, 3, "user"]);
    assert.deepEqual(shown, there);
    const content = await containers.files.content.retrieve(copied.id, { container_id: box });
    assert.equal(await content.text(), "one");
    await files.delete(kept);
    await containers.delete(box);
    return shown.map(([path]) => path);
  },
};

/** All readers on the response that RESPONSE_ID names, from every event on; not in FLOWS, because
 * the upstream has nothing to do with it. */
async function replay() {
  const id = process.env.RESPONSE_ID;
  const whole = await retrieved(id, {});
  const stored = await responses.retrieve(id);
  assert.deepEqual(numbers(whole), [...whole.keys()]);
  for (let after = -1; after < whole.length - 1; after++) {
    const more = after < 0 ? {} : { starting_after: after };
    const rest = numbers(whole).slice(after + 1);
    if (after % 5 === 0) assert.deepEqual(numbers(await retrieved(id, more)), rest);
    const { events, final } = await helpedBy({ response_id: id, ...more });
    assert.deepEqual(numbers(events), rest);
    assert.equal(final.output_text, stored.output_text);
    assert.deepEqual(final.output.map((item) => item.id), stored.output.map((item) => item.id));
  }
  const added = whole.filter((event) => event.type === "response.output_item.added");
  return { indices: added.map((event) => event.output_index), text: stored.output_text };
}

const every = { ...FLOWS, replay };
const shown = {};
for (const flow of names.length ? names : Object.keys(FLOWS)) shown[flow] = await every[flow]();
console.log(JSON.stringify({ version, flows: shown }, null, 1));
