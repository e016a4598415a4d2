// What apps do with the Vercel AI SDK and its OpenAI provider; prints a summary as JSON.
//
//   OPENAI_BASE_URL=… OPENAI_API_KEY=… node flows.mjs [FLOW …]
//
// Rules
// 1. The order of the flows is that of `FLOWS` in test_ai_sdk.py: the upstream's script.
// 2. A flow asserts what it got and returns what it wants shown.
// 3. The SDK sends stored items back as item references, others whole: what loops is run both ways.

import assert from "node:assert/strict";
import { createOpenAI } from "@ai-sdk/openai";
import * as ai from "ai";
import { readFileSync } from "node:fs";
import { z } from "zod";

const { APICallError, Output, generateObject, generateText, isStepCount, streamText, tool } = ai;
/** `generateObject` is deprecated, and still what many apps call. */
globalThis.AI_SDK_LOG_WARNINGS = ({ warnings }) =>
  assert.deepEqual(warnings.filter(({ type }) => type !== "deprecated"), []);

const version = (name) =>
  JSON.parse(readFileSync(new URL(`node_modules/${name}/package.json`, import.meta.url))).version;
const model = createOpenAI().responses("m");
const PNG = Buffer.from("\x89PNG\r\n\x1a\n" + "\0".repeat(16), "latin1");
const Person = z.object({ name: z.string(), age: z.number() });
const ADA = { name: "Ada", age: 36 };
const UNSTORED = { openai: { store: false } };

const weather = tool({
  description: "The weather in a city.",
  inputSchema: z.object({ city: z.string() }),
  execute: async ({ city }) => `sunny in ${city}`,
});
const LOOP = { prompt: "Paris and Rome?", tools: { weather }, stopWhen: isStepCount(5) };

const ask = (options) => generateText({ model, maxRetries: 0, ...options });
const told = (options) =>
  streamText({ model, maxRetries: 0, onError: () => {}, ...options });

async function collect(stream) {
  const parts = [];
  for await (const part of stream) parts.push(part);
  return parts;
}

const types = (parts) => parts.map((part) => part.type);

function assertBothRan({ text, steps, usage }) {
  assert.equal(text, "Both are sunny.");
  assert.equal(steps.length, 2);
  assert.deepEqual(
    steps[0].toolResults.map(({ toolCallId, input, output }) => [toolCallId, input.city, output]),
    [
      ["call_a", "Paris", "sunny in Paris"],
      ["call_b", "Rome", "sunny in Rome"],
    ],
  );
  return usage.totalTokens;
}

async function loopOf(providerOptions) {
  return assertBothRan(await ask({ ...LOOP, providerOptions }));
}

async function streamedLoopOf(providerOptions) {
  const result = told({ ...LOOP, providerOptions });
  const parts = await collect(result.stream);
  const [text, steps, usage] = await Promise.all([result.text, result.steps, result.usage]);
  assertBothRan({ text, steps, usage });
  const inputs = parts.filter((part) => part.type === "tool-input-delta");
  return inputs.map(({ id, delta }) => [id, delta]);
}

async function thoughtOf(providerOptions) {
  const result = told({
    ...LOOP,
    providerOptions: { openai: { forceReasoning: true, reasoningSummary: "auto", ...providerOptions } },
  });
  const parts = await collect(result.stream);
  assert.equal(await result.text, "Both are sunny.");
  const [first] = await result.steps;
  assert.equal(first.reasoningText, "I need the weather.");
  return types(parts).filter((type) => type.startsWith("reasoning"));
}

const FLOWS = {
  async text() {
    const got = await ask({ instructions: "Be brief.", prompt: "Hi" });
    assert.equal(got.text, "Hello");
    assert.equal(got.finishReason, "stop");
    assert.equal(got.usage.totalTokens, 8);
    assert.match(got.finalStep.providerMetadata.openai.responseId, /^resp_/);
    return got.usage.totalTokens;
  },

  async text_streamed() {
    const result = told({ prompt: "Hi" });
    const parts = await collect(result.stream);
    const deltas = parts.filter((part) => part.type === "text-delta");
    assert.deepEqual(deltas.map((part) => part.text), ["Hel", "lo"]);
    assert.equal(await result.finishReason, "stop");
    return types(parts);
  },

  tools: () => loopOf(),
  tools_unstored: () => loopOf(UNSTORED),
  tools_streamed: () => streamedLoopOf(),
  tools_streamed_unstored: () => streamedLoopOf(UNSTORED),
  reasoning: () => thoughtOf(),
  reasoning_unstored: () =>
    thoughtOf({ store: false, include: ["reasoning.encrypted_content"] }),

  async object() {
    const { object } = await generateObject({ model, schema: Person, prompt: "Who?" });
    assert.deepEqual(object, ADA);
    const { output } = await ask({ prompt: "Who?", output: Output.object({ schema: Person }) });
    assert.deepEqual(output, ADA);
  },

  async object_streamed() {
    const result = told({ prompt: "Who?", output: Output.object({ schema: Person }) });
    const partial = await collect(result.partialOutputStream);
    assert.deepEqual(await result.output, ADA);
    return partial;
  },

  async image() {
    const content = [
      { type: "text", text: "What is this?" },
      { type: "file", mediaType: "image/png", data: PNG },
    ];
    assert.equal((await ask({ messages: [{ role: "user", content }] })).text, "A cat.");
  },

  async multi_turn() {
    const messages = [{ role: "user", content: "My name is Ada." }];
    const first = await ask({ messages });
    messages.push(...first.responseMessages, { role: "user", content: "My name?" });
    assert.equal((await ask({ messages })).text, "Ada.");
  },

  async previous_response() {
    const first = await ask({ prompt: "My name is Ada." });
    const { responseId } = first.finalStep.providerMetadata.openai;
    const providerOptions = { openai: { previousResponseId: responseId } };
    assert.equal((await ask({ prompt: "My name?", providerOptions })).text, "Ada.");
  },

  async incomplete() {
    assert.equal((await ask({ prompt: "Hi" })).finishReason, "length");
  },

  async errors() {
    const error = await ask({ prompt: "Hi" }).catch((thrown) => thrown);
    assert.ok(APICallError.isInstance(error), String(error));
    assert.equal(error.statusCode, 429);
    assert.ok(error.isRetryable);
    assert.equal(error.responseHeaders["retry-after"], "7");
    return error.message;
  },

  async failed() {
    const parts = await collect(told({ prompt: "Hi" }).stream);
    assert.ok(parts.some((part) => part.type === "text-delta" && part.text === "half"));
    return types(parts);
  },
};

const names = process.argv.slice(2);
const shown = {};
for (const flow of names.length ? names : Object.keys(FLOWS))
  shown[flow] = (await FLOWS[flow]()) ?? null;
const versions = Object.fromEntries(["@ai-sdk/openai", "ai"].map((name) => [name, version(name)]));
console.log(JSON.stringify({ versions, flows: shown }, null, 1));
