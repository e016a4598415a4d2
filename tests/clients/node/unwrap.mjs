// Opens a webhook with openai-node:
//   node unwrap.mjs openai|openai-6|openai-5 < {"body", "headers", "secret"}
// Prints the event, or the name of what the SDK threw.
const { default: OpenAI } = await import(process.argv[2]);
let given = "";
for await (const chunk of process.stdin) given += chunk;
const { body, headers, secret } = JSON.parse(given);
const client = new OpenAI({ apiKey: "k", webhookSecret: secret });
try {
  console.log(JSON.stringify(await client.webhooks.unwrap(body, headers)));
} catch (error) {
  console.log(JSON.stringify({ thrown: error.constructor.name }));
}
