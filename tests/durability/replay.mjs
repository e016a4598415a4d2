// Replays stored logs with one version of the official Node SDK; prints what each came to as JSON.
//
//   OPENAI_BASE_URL=… OPENAI_API_KEY=… node replay.mjs openai|openai-6|openai-5 RESPONSE_ID …
//
// Rules
// 1. The stream helper reads each log whole and builds a response from its events; no error of its
//    own may come out. What the log itself says as ``error`` is raised, and told.

const [name, ...ids] = process.argv.slice(2);
const sdk = await import(name);
const client = new sdk.OpenAI({ maxRetries: 0, timeout: 30_000 });

const replayed = {};
for (const response_id of ids) {
  const numbers = [];
  try {
    const stream = client.responses.stream({ response_id });
    stream.on("event", (event) => numbers.push(event.sequence_number));
    const final = await stream.finalResponse();
    replayed[response_id] = { status: final.status, text: final.output_text, numbers };
  } catch (error) {
    if (!(error instanceof sdk.APIError) || !error.code) throw error;
    replayed[response_id] = { status: "failed", text: error.code, numbers };
  }
}
console.log(JSON.stringify(replayed));
