import { createOpenAI } from "@ai-sdk/openai";
import { streamText } from "ai";

const model = createOpenAI({ baseURL: process.env.OPENAI_BASE_URL }).chat("gpt-4o-mini");
console.log(await streamText({ model, temperature: 0, prompt: "What is a cache?" }).text);
