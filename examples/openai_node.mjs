import OpenAI from "openai";

const messages = [{ role: "user", content: "What is a cache?" }];
const answer = await new OpenAI().chat.completions.create({ model: "gpt-4o-mini", temperature: 0, messages });
console.log(answer.choices[0].message.content, answer.usage.total_tokens);
