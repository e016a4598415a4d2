// What apps do with @openai/agents; prints a summary as JSON.
//
//   OPENAI_BASE_URL=… OPENAI_API_KEY=… node flows.mjs [FLOW …]
//
// Rules
// 1. The order of the flows is that of `FLOWS` in test_agents_js.py: the upstream's script.
// 2. A flow asserts what it got and returns what it wants shown.
// 3. The SDK's tracing is off: it would call OpenAI.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import * as sdk from "@openai/agents";
import { z } from "zod";

const { Agent, OpenAIConversationsSession, run, setTracingDisabled, tool } = sdk;
const installed = new URL("node_modules/@openai/agents/package.json", import.meta.url);
const { version } = JSON.parse(readFileSync(installed, "utf8"));
setTracingDisabled(true);

const weather = tool({
  name: "weather",
  description: "The weather in a city.",
  parameters: z.object({ city: z.string() }),
  execute: async ({ city }) => `sunny in ${city}`,
});
const forecaster = (options) =>
  new Agent({ name: "forecaster", model: "m", tools: [weather], ...options });
const QUESTION = "Paris and Rome?";

async function streamed(agent, options) {
  const result = await run(agent, QUESTION, { ...options, stream: true });
  const events = [];
  for await (const event of result) events.push(event);
  await result.completed;
  assert.equal(result.error, null);
  return { result, events };
}

const items = (result) => result.newItems.map((item) => item.type);

const FLOWS = {
  async tools() {
    const result = await run(forecaster(), QUESTION);
    assert.equal(result.finalOutput, "Both are sunny.");
    return items(result);
  },

  async tools_streamed() {
    const { result, events } = await streamed(forecaster());
    assert.equal(result.finalOutput, "Both are sunny.");
    const deltas = events.filter(({ data }) => data?.type === "output_text_delta");
    assert.equal(deltas.map(({ data }) => data.delta).join(""), "Both are sunny.");
    return items(result);
  },

  async tools_session() {
    const session = new OpenAIConversationsSession();
    const { result } = await streamed(forecaster(), { session });
    assert.equal(result.finalOutput, "Both are sunny.");
    const kept = await session.getItems();
    return kept.map((item) => item.type);
  },

  async previous_response() {
    const first = await run(forecaster(), "My name is Ada.");
    const previousResponseId = first.lastResponseId;
    const second = await run(forecaster(), "My name?", { previousResponseId });
    assert.equal(second.finalOutput, "Ada.");
  },

  async reasoning() {
    const modelSettings = {
      reasoning: { effort: "low", summary: "auto" },
      store: false,
      providerData: { include: ["reasoning.encrypted_content"] },
    };
    const { result } = await streamed(forecaster({ modelSettings }));
    assert.equal(result.finalOutput, "Both are sunny.");
    return items(result);
  },

  async handoff() {
    const spanish = new Agent({ name: "spanish", model: "m", instructions: "Speak Spanish." });
    const result = await run(forecaster({ handoffs: [spanish] }), "Hola?");
    assert.equal(result.finalOutput, "Hola.");
    assert.equal(result.lastAgent.name, "spanish");
  },

  async structured() {
    const outputType = z.object({ name: z.string(), age: z.number() });
    const result = await run(forecaster({ outputType, tools: [] }), "Who?");
    assert.deepEqual(result.finalOutput, { name: "Ada", age: 36 });
  },
};

const names = process.argv.slice(2);
const shown = {};
for (const flow of names.length ? names : Object.keys(FLOWS))
  shown[flow] = (await FLOWS[flow]()) ?? null;
console.log(JSON.stringify({ version, flows: shown }, null, 1));
