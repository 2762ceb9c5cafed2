import Anthropic from "@anthropic-ai/sdk";

const messages = [{ role: "user", content: "What is a cache?" }];
const asked = { model: "claude-sonnet-4-5", max_tokens: 100, temperature: 0, messages };
console.log((await new Anthropic().messages.create(asked)).content[0].text);
